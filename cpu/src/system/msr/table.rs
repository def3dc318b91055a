//! The table of model-specific registers, in ascending order. To add a register, add a row.

use super::memory_types::{self, VARIABLE_MTRRS};
use super::{Kind, Row, Rule, time};
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::features::Feature;
use crate::state::SegmentIndex;
use crate::system::{pv, reset};

/// IA32_MTRRCAP: the number of variable ranges, fixed ranges (bit 8), write combining (bit 10).
const MTRR_CAPABILITIES: u64 = VARIABLE_MTRRS | 1 << 8 | 1 << 10;

/// IA32_ARCH_CAPABILITIES: immune to every fault that has a bit for saying so. No control of mitigations is offered, so
/// IBRS_ALL, which promises IA32_SPEC_CTRL, is clear, and so is RSBA.
const ARCH_CAPABILITIES: u64 = 1 << 0 // RDCL_NO
    | 1 << 3 // SKIP_L1DFL_VMENTRY
    | 1 << 4 // SSB_NO
    | 1 << 5 // MDS_NO
    | 1 << 6 // IF_PSCHANGE_MC_NO
    | 1 << 8 // TAA_NO
    | 1 << 13 // SBDR_SSDP_NO
    | 1 << 14 // FBSDP_NO
    | 1 << 15 // PSDP_NO
    | 1 << 20 // BHI_NO
    | 1 << 24 // PBRSB_NO
    | 1 << 26 // GDS_NO
    | 1 << 27 // RFDS_NO
    | 1 << 62; // ITS_NO

/// IA32_BIOS_SIGN_ID: a microcode revision, in the upper half.
const MICROCODE_REVISION: u64 = 1 << 32;

/// IA32_MISC_ENABLE's bits that software may change: fast strings, limited CPUID.
const MISC_ENABLE_WRITABLE: u64 = 1 << 0 | 1 << 22;

macro_rules! rows {
    ($($first:literal $(..= $last:literal)? $name:literal $needs:expr, $kind:expr;)*) => {
        &[$(Row { first: $first, last: rows!(@last $first $($last)?), name: $name, needs: $needs, kind: $kind },)*]
    };
    (@last $first:literal $last:literal) => { $last };
    (@last $first:literal) => { $first };
}

use Feature::{
    ArchCapabilities, Hypervisor, Lm, Mca, Mtrr, Pat, Rdtscp, Sep, Syscall, TscAdjust, TscDeadline, Waitpkg,
};
use Kind::{Computed, Constant, Inert, Stored};

/// Every register there is.
pub(super) static TABLE: &[Row] = rows! {
    0x10 "IA32_TIME_STAMP_COUNTER" Some(Feature::Tsc), Computed(time::read_tsc, time::write_tsc);
    0x17 "IA32_PLATFORM_ID" None, Constant(0);
    0x1b "IA32_APIC_BASE" Some(Feature::Apic), Computed(read_apic, write_apic);
    0x3b "IA32_TSC_ADJUST" Some(TscAdjust), Computed(time::read_tsc_adjust, time::write_tsc_adjust);
    0x8b "IA32_BIOS_SIGN_ID" None, Inert(MICROCODE_REVISION);
    0xce "MSR_PLATFORM_INFO" None, Constant(0);
    0xe1 "IA32_UMWAIT_CONTROL" Some(Waitpkg), Stored(|s, _| &mut s.msrs.umwait_control, Rule::Bits(0xffff_fffd));
    0xfe "IA32_MTRRCAP" Some(Mtrr), Constant(MTRR_CAPABILITIES);
    0x10a "IA32_ARCH_CAPABILITIES" Some(ArchCapabilities), Constant(ARCH_CAPABILITIES);
    0x174 "IA32_SYSENTER_CS" Some(Sep), Stored(|s, _| &mut s.msrs.sysenter_cs, Rule::Any);
    0x175 "IA32_SYSENTER_ESP" Some(Sep), Stored(|s, _| &mut s.msrs.sysenter_esp, Rule::Canonical);
    0x176 "IA32_SYSENTER_EIP" Some(Sep), Stored(|s, _| &mut s.msrs.sysenter_eip, Rule::Canonical);
    0x179 "IA32_MCG_CAP" Some(Mca), Constant(0);
    0x17a "IA32_MCG_STATUS" Some(Mca), Stored(|s, _| &mut s.msrs.mcg_status, Rule::Bits(7));
    0x1a0 "IA32_MISC_ENABLE" None, Computed(read_misc_enable, write_misc_enable);
    // Of the features here only BTF is kept; single steps stop after every instruction all the same.
    0x1d9 "IA32_DEBUGCTL" None, Stored(|s, _| &mut s.msrs.debugctl, Rule::Bits(2));
    0x200 ..= 0x20f "IA32_MTRR_PHYSBASE and PHYSMASK" Some(Mtrr), Computed(memory_types::read_variable, memory_types::write_variable);
    0x250 "IA32_MTRR_FIX64K_00000" Some(Mtrr), Stored(|s, _| &mut s.msrs.mtrr_fixed[0], Rule::MemoryTypes(false));
    0x258 ..= 0x259 "IA32_MTRR_FIX16K" Some(Mtrr), Stored(|s, i| &mut s.msrs.mtrr_fixed[1 + (i & 1)], Rule::MemoryTypes(false));
    0x268 ..= 0x26f "IA32_MTRR_FIX4K" Some(Mtrr), Stored(|s, i| &mut s.msrs.mtrr_fixed[3 + (i & 7)], Rule::MemoryTypes(false));
    0x277 "IA32_PAT" Some(Pat), Stored(|s, _| &mut s.msrs.pat, Rule::MemoryTypes(true));
    0x2ff "IA32_MTRR_DEF_TYPE" Some(Mtrr), Computed(memory_types::read_default, memory_types::write_default);
    0x6e0 "IA32_TSC_DEADLINE" Some(TscDeadline), Computed(read_apic, write_apic);
    0x800 ..= 0x8ff "x2APIC registers" Some(Feature::X2apic), Computed(read_apic, write_apic);
    0xda0 "IA32_XSS" Some(Feature::Xsaves), Stored(|s, _| &mut s.msrs.xss, Rule::Bits(0));
    0x4b56_4d00 "MSR_KVM_WALL_CLOCK_NEW" Some(Hypervisor), Computed(pv::read_wall_clock, pv::write_wall_clock);
    0x4b56_4d01 "MSR_KVM_SYSTEM_TIME_NEW" Some(Hypervisor), Computed(pv::read_system_time, pv::write_system_time);
    0x4b56_4d03 "MSR_KVM_STEAL_TIME" Some(Hypervisor), Computed(pv::read_steal_time, pv::write_steal_time);
    0x4b56_4d04 "MSR_KVM_PV_EOI_EN" Some(Hypervisor), Computed(pv::read_pv_eoi, pv::write_pv_eoi);
    0xc000_0080 "IA32_EFER" Some(Syscall), Computed(|cpu, _| Ok(cpu.state.efer), |cpu, _, value| cpu.write_efer(value));
    0xc000_0081 "IA32_STAR" Some(Syscall), Stored(|s, _| &mut s.msrs.star, Rule::Any);
    0xc000_0082 "IA32_LSTAR" Some(Syscall), Stored(|s, _| &mut s.msrs.lstar, Rule::Canonical);
    0xc000_0083 "IA32_CSTAR" Some(Syscall), Stored(|s, _| &mut s.msrs.cstar, Rule::Canonical);
    0xc000_0084 "IA32_FMASK" Some(Syscall), Stored(|s, _| &mut s.msrs.fmask, Rule::Bits(0xffff_ffff));
    0xc000_0100 "IA32_FS_BASE" Some(Lm), Stored(|s, _| &mut s.segments[SegmentIndex::FS].base, Rule::Canonical);
    0xc000_0101 "IA32_GS_BASE" Some(Lm), Stored(|s, _| &mut s.segments[SegmentIndex::GS].base, Rule::Canonical);
    0xc000_0102 "IA32_KERNEL_GS_BASE" Some(Lm), Stored(|s, _| &mut s.msrs.kernel_gs_base, Rule::Canonical);
    0xc000_0103 "IA32_TSC_AUX" Some(Rdtscp), Stored(|s, _| &mut s.msrs.tsc_aux, Rule::Bits(0xffff_ffff));
};

fn read_apic(cpu: &mut Cpu, index: u32) -> Result<u64, Exception> {
    cpu.env.apic_msr_read(index).map_err(|_| Exception::gp(0))
}

fn write_apic(cpu: &mut Cpu, index: u32, value: u64) -> Result<(), Exception> {
    cpu.env.apic_msr_write(index, value).map_err(|_| Exception::gp(0))
}

fn read_misc_enable(cpu: &mut Cpu, _: u32) -> Result<u64, Exception> {
    Ok(cpu.state.msrs.misc_enable)
}

/// What cannot be changed keeps its value without a fault, as on processors that lack the feature behind a bit.
fn write_misc_enable(cpu: &mut Cpu, _: u32, value: u64) -> Result<(), Exception> {
    let fixed = reset::MISC_ENABLE_RESET & !MISC_ENABLE_WRITABLE;
    cpu.state.msrs.misc_enable = value & MISC_ENABLE_WRITABLE | fixed;
    Ok(())
}
