//! Cache control and fences: there is no cache, so only their checks remain (SDM vol. 2).

use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::memory::stack_fault;
use crate::mode::ModeKey;
use crate::op::Op;
use crate::ops::Hard;
use iced_x86::{Instruction, Mnemonic};
use rx86_softmmu::Access;

/// The meaning of an instruction of this family.
pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    use Mnemonic::*;
    Some(match instruction.mnemonic() {
        Wbinvd | Wbnoinvd | Invd => privileged_nothing,
        Serialize => serialize,
        Clflush | Clflushopt | Clwb => flush_line,
        Pause | Lfence | Mfence | Sfence => nothing,
        _ => return None,
    })
}

fn nothing(_: &mut Cpu, _: &Op) -> Result<(), Exception> {
    Ok(())
}

fn privileged_nothing(cpu: &mut Cpu, _: &Op) -> Result<(), Exception> {
    cpu.require_cpl0()
}

/// SERIALIZE: the next instruction is fetched anew.
fn serialize(cpu: &mut Cpu, _: &Op) -> Result<(), Exception> {
    cpu.end_block();
    Ok(())
}

/// CLFLUSH and its kin fault like a load of one byte.
fn flush_line(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let linear = cpu.operand_linear(op, 1, Access::Read)?;
    if cpu.mode().has(ModeKey::LONG64) && !cpu.is_canonical(linear) {
        return Err(stack_fault(op, Exception::gp(0)));
    }
    cpu.mmu.translate(linear, Access::Read)?;
    Ok(())
}
