//! INVLPG and INVPCID (SDM vol. 2; vol. 3, 4.10.4).

use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::mode::ModeKey;
use crate::op::Op;
use crate::ops::{Hard, MicroOps};
use crate::state::{SegmentIndex, bits};
use crate::width::{W32, W64};
use iced_x86::{Instruction, Mnemonic};
use rx86_softmmu::Access;

/// The meaning of an instruction of this family.
pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    match instruction.mnemonic() {
        Mnemonic::Invlpg => Some(invlpg),
        Mnemonic::Invpcid => Some(invpcid),
        _ => None,
    }
}

/// The operand is an address, not an access: limits are not checked, and an address that is not canonical does nothing.
fn invlpg(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    cpu.require_cpl0()?;
    let offset = cpu.effective_offset(op) & op.address_mask();
    let segment = usize::from(op.segment);
    let long = cpu.mode().has(ModeKey::LONG64);
    let base = if long && segment < SegmentIndex::FS { 0 } else { cpu.state.segments[segment].base };
    let linear = offset.wrapping_add(base);
    if !long {
        cpu.mmu.invalidate_page(linear & 0xffff_ffff);
    } else if cpu.is_canonical(linear) {
        cpu.mmu.invalidate_page(linear);
    }
    cpu.serialize();
    cpu.end_block();
    Ok(())
}

fn invpcid(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    cpu.require_cpl0()?;
    let long = cpu.mode().has(ModeKey::LONG64);
    let kind = if long { cpu.get::<W64>(op.regs[0]) } else { cpu.get::<W32>(op.regs[0]) };
    if kind > 3 {
        return Err(Exception::gp(0));
    }
    let at = cpu.operand_linear(op, 16, Access::Read)?;
    let descriptor = u128::from_le_bytes(cpu.read_operand::<16>(op, at)?);
    let (pcid, linear) = (descriptor as u64, (descriptor >> 64) as u64);
    if kind <= 1 {
        let pcids = cpu.state.cr4 & bits::CR4_PCIDE != 0;
        let address_fails = kind == 0 && !cpu.is_canonical(linear);
        if pcid > 0xfff || (pcid != 0 && !pcids) || address_fails {
            return Err(Exception::gp(0));
        }
    } else if pcid > 0xfff {
        return Err(Exception::gp(0));
    }
    match kind {
        0 => cpu.mmu.invalidate_pcid(pcid as u16, Some(linear)),
        1 => cpu.mmu.invalidate_pcid(pcid as u16, None),
        2 => cpu.mmu.flush_all(),
        _ => cpu.mmu.flush_non_global(),
    }
    cpu.serialize();
    cpu.end_block();
    Ok(())
}
