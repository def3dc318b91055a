//! `Vcpu`: the architectural state of one logical processor, plain data without pointers.

pub mod bits;
mod flags;
mod segment;
mod x87;

pub use flags::{AUX_AF, AUX_CF, AUX_CF_XOR_OF, AUX_SF_DELTA, ArithFlags, Flags};
pub use segment::{Segment, SegmentIndex, TableRegister, access};
pub use x87::{F80, X87};

use crate::op::reg;

/// Number of slots in `Vcpu::regs`; a power of two, so that a masked index needs no bounds check.
pub const REG_SLOTS: usize = 32;

/// One 512-bit vector register; XMM and YMM are its low parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Zmm(pub [u64; 8]);

/// What a logical processor is doing (SDM vol. 3, 8.4; VMX "activity state").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Activity {
    /// Executing instructions.
    #[default]
    Active,
    /// In HLT.
    Halted,
    /// After a triple fault.
    Shutdown,
    /// After INIT, waiting for a start-up IPI.
    WaitForSipi,
}

/// Model-specific registers that are plain storage. MSRs with behaviour of their own live with that behaviour.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Msrs {
    /// IA32_STAR.
    pub star: u64,
    /// IA32_LSTAR.
    pub lstar: u64,
    /// IA32_CSTAR.
    pub cstar: u64,
    /// IA32_FMASK.
    pub fmask: u64,
    /// IA32_KERNEL_GS_BASE.
    pub kernel_gs_base: u64,
    /// IA32_SYSENTER_CS.
    pub sysenter_cs: u64,
    /// IA32_SYSENTER_ESP.
    pub sysenter_esp: u64,
    /// IA32_SYSENTER_EIP.
    pub sysenter_eip: u64,
    /// IA32_TSC_AUX.
    pub tsc_aux: u64,
    /// IA32_TSC_ADJUST; `tsc_offset` holds its effect.
    pub tsc_adjust: u64,
    /// What is added to the machine's time stamp counter.
    pub tsc_offset: u64,
    /// IA32_UMWAIT_CONTROL.
    pub umwait_control: u64,
    /// IA32_PAT.
    pub pat: u64,
    /// IA32_MISC_ENABLE.
    pub misc_enable: u64,
    /// IA32_MTRR_DEF_TYPE.
    pub mtrr_def_type: u64,
    /// IA32_MTRR_PHYSBASEn and PHYSMASKn, interleaved.
    pub mtrr_variable: [u64; 16],
    /// The eleven fixed-range MTRRs, in ascending order of address.
    pub mtrr_fixed: [u64; 11],
    /// IA32_XSS.
    pub xss: u64,
    /// IA32_DEBUGCTL.
    pub debugctl: u64,
    /// IA32_MCG_STATUS.
    pub mcg_status: u64,
    /// KVM's paravirtual clock: MSR_KVM_SYSTEM_TIME_NEW.
    pub kvm_system_time: u64,
    /// MSR_KVM_WALL_CLOCK_NEW.
    pub kvm_wall_clock: u64,
    /// MSR_KVM_STEAL_TIME.
    pub kvm_steal_time: u64,
    /// MSR_KVM_PV_EOI_EN.
    pub kvm_pv_eoi: u64,
}

/// The architectural state of one logical processor.
///
/// `repr(C)` plain data: translators use `offset_of!`, a snapshot is a copy, a difference is a print.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Vcpu {
    /// RFLAGS, its arithmetic part kept as the values that define it. Before the registers, so that those in use and these are
    /// within a byte's reach of one address.
    pub flags: Flags,
    /// Slots 0 to 15: general registers in encoding order. Slot 16: RIP. Slot 17: always zero. The rest is unused and
    /// makes a masked index safe.
    pub regs: [u64; REG_SLOTS],
    /// ES, CS, SS, DS, FS, GS, in encoding order.
    pub segments: [Segment; 6],
    /// LDTR.
    pub ldtr: Segment,
    /// TR.
    pub tr: Segment,
    /// GDTR.
    pub gdtr: TableRegister,
    /// IDTR.
    pub idtr: TableRegister,
    /// CR0.
    pub cr0: u64,
    /// CR2.
    pub cr2: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// IA32_EFER.
    pub efer: u64,
    /// XCR0.
    pub xcr0: u64,
    /// The PDPTE registers of PAE paging.
    pub pdptes: [u64; 4],
    /// DR0 to DR3, then DR6 and DR7 at their own indices; 4 and 5 are unused.
    pub dr: [u64; 8],
    /// PKRU.
    pub pkru: u32,
    /// MXCSR.
    pub mxcsr: u32,
    /// Current privilege level.
    pub cpl: u8,
    /// What the processor is doing.
    pub activity: Activity,
    /// Interrupts are blocked for the next instruction by STI.
    pub sti_shadow: bool,
    /// Interrupts and debug traps are blocked for the next instruction by MOV SS or POP SS.
    pub mov_ss_shadow: bool,
    /// NMIs are blocked until IRET.
    pub nmi_blocked: bool,
    /// An NMI waits for delivery.
    pub nmi_pending: bool,
    /// A20 is passed through; when false, physical address bit 20 reads as zero in real-mode wraps.
    pub a20: bool,
    /// Model-specific registers.
    pub msrs: Msrs,
    /// The x87 FPU and, in its significands, the MMX registers.
    pub x87: X87,
    /// Vector registers.
    pub zmm: [Zmm; 32],
}

impl Vcpu {
    /// The linear-address offset of the next instruction (RIP, EIP or IP).
    #[inline(always)]
    pub fn rip(&self) -> u64 {
        self.regs[reg::RIP as usize]
    }

    /// Sets RIP.
    #[inline(always)]
    pub fn set_rip(&mut self, rip: u64) {
        self.regs[reg::RIP as usize] = rip;
    }

    /// The low 128 bits of vector register `index` (0 to 31).
    #[inline(always)]
    pub fn xmm(&self, index: u8) -> u128 {
        let z = &self.zmm[usize::from(index & 31)].0;
        u128::from(z[0]) | u128::from(z[1]) << 64
    }

    /// Sets the low 128 bits of a vector register and leaves the rest, as legacy SSE does.
    #[inline(always)]
    pub fn set_xmm(&mut self, index: u8, value: u128) {
        let z = &mut self.zmm[usize::from(index & 31)].0;
        z[0] = value as u64;
        z[1] = (value >> 64) as u64;
    }

    /// Whether paging is on.
    pub fn paging(&self) -> bool {
        self.cr0 & bits::CR0_PG != 0
    }

    /// Whether IA-32e mode is active (EFER.LMA).
    pub fn long_mode_active(&self) -> bool {
        self.efer & bits::EFER_LMA != 0
    }

    /// Whether the current code segment runs in 64-bit mode.
    pub fn in_64bit_mode(&self) -> bool {
        self.long_mode_active() && self.segments[SegmentIndex::CS].long()
    }

    /// Whether protection is on (CR0.PE) and this is not virtual-8086 mode.
    pub fn protected(&self) -> bool {
        self.cr0 & bits::CR0_PE != 0 && !self.vm86()
    }

    /// Whether this is virtual-8086 mode.
    pub fn vm86(&self) -> bool {
        self.flags.system & bits::RFLAGS_VM != 0
    }
}
