//! Memory type range registers and their rules (SDM vol. 3, 12.11). All guest memory behaves as write-back whatever they say.

use crate::cpu::Cpu;
use crate::exception::Exception;

/// The number of variable ranges.
pub(super) const VARIABLE_MTRRS: u64 = 8;

/// IA32_MTRR_DEF_TYPE's bits: the type, fixed ranges enabled, ranges enabled.
const DEF_TYPE_BITS: u64 = 0xff | 1 << 10 | 1 << 11;

/// Whether `kind` is a memory type: UC, WC, WT, WP, WB, and in the PAT also UC-.
pub(super) fn valid(kind: u8, pat: bool) -> bool {
    matches!(kind, 0 | 1 | 4 | 5 | 6) || (pat && kind == 7)
}

fn slot(index: u32) -> usize {
    (index & 15) as usize
}

/// IA32_MTRR_PHYSBASEn and PHYSMASKn.
pub(super) fn read_variable(cpu: &mut Cpu, index: u32) -> Result<u64, Exception> {
    Ok(cpu.state.msrs.mtrr_variable[slot(index)])
}

/// IA32_MTRR_PHYSBASEn and PHYSMASKn. #GP(0) for reserved bits or types.
pub(super) fn write_variable(cpu: &mut Cpu, index: u32, value: u64) -> Result<(), Exception> {
    let is_mask = index & 1 != 0;
    let low = if is_mask { value & 0x7ff == 0 } else { value & 0xf00 == 0 && valid(value as u8, false) };
    if !low || value >> cpu.model.physical_bits != 0 {
        return Err(Exception::gp(0));
    }
    cpu.state.msrs.mtrr_variable[slot(index)] = value;
    Ok(())
}

/// IA32_MTRR_DEF_TYPE.
pub(super) fn read_default(cpu: &mut Cpu, _: u32) -> Result<u64, Exception> {
    Ok(cpu.state.msrs.mtrr_def_type)
}

/// IA32_MTRR_DEF_TYPE. #GP(0) for reserved bits or types.
pub(super) fn write_default(cpu: &mut Cpu, _: u32, value: u64) -> Result<(), Exception> {
    if value & !DEF_TYPE_BITS != 0 || !valid(value as u8, false) {
        return Err(Exception::gp(0));
    }
    cpu.state.msrs.mtrr_def_type = value;
    Ok(())
}
