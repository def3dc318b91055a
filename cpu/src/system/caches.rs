//! Cache control, fences and PAUSE (SDM vol. 2). There is no cache: of its control only the checks remain.

use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::memory::stack_fault;
use crate::mode::ModeKey;
use crate::op::Op;
use crate::ops::Hard;
use iced_x86::{Instruction, Mnemonic};
use rx86_softmmu::Access;
use std::sync::atomic::{Ordering, fence};

/// About the cost of offering the host CPU to others.
const PAUSES_BEFORE_YIELD: u32 = 64;

/// The meaning of an instruction of this family.
pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    use Mnemonic::*;
    Some(match instruction.mnemonic() {
        Wbinvd | Wbnoinvd | Invd => privileged_nothing,
        Serialize => serialize,
        Clflush | Clflushopt | Clwb => flush_line,
        // Loads and stores are in order anyway, but for a store and a later load.
        Lfence | Sfence => nothing,
        Mfence => fence_all,
        Pause => pause,
        _ => return None,
    })
}

fn nothing(_: &mut Cpu, _: &Op) -> Result<(), Exception> {
    Ok(())
}

fn fence_all(_: &mut Cpu, _: &Op) -> Result<(), Exception> {
    fence(Ordering::SeqCst);
    Ok(())
}

/// PAUSE: whoever spins long waits for a vCPU that may want this host CPU.
fn pause(cpu: &mut Cpu, _: &Op) -> Result<(), Exception> {
    std::hint::spin_loop();
    cpu.pauses += 1;
    if cpu.pauses >= PAUSES_BEFORE_YIELD {
        cpu.pauses = 0;
        cpu.env.relax();
    }
    // Whoever interrupts a vCPU that spins often waits for it.
    if cpu.attention.peek() != 0 {
        cpu.end_block();
    }
    Ok(())
}

fn privileged_nothing(cpu: &mut Cpu, _: &Op) -> Result<(), Exception> {
    cpu.require_cpl0()?;
    cpu.serialize();
    Ok(())
}

/// SERIALIZE.
fn serialize(cpu: &mut Cpu, _: &Op) -> Result<(), Exception> {
    cpu.serialize();
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
