//! PUSH and POP of registers, memory and immediates, PUSHA, POPA, ENTER, LEAVE.

use super::operand::{Immediate, Memory, Register, Source};
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::op::{Op, reg};
use crate::ops::{Hard, Meaning, MicroOps};
use crate::state::SegmentIndex;
use crate::width::{W16, W32, W64, Width};
use iced_x86::{Code, Instruction, OpKind};
use rx86_softmmu::Access;

fn push<M: MicroOps, S: Source, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let value = S::read::<M, W>(m, op)?;
    m.push::<W>(op, value)
}

/// POP to a register: RSP is incremented first, so POP RSP ends with the popped value.
fn pop_register<M: MicroOps, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let value = m.pop::<W>(op)?;
    m.put::<W>(op.regs[0], value);
    Ok(())
}

/// POP to memory: an address that uses RSP uses its value after the increment (SDM vol. 2, POP).
fn pop_memory<M: MicroOps, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let before = m.get::<W64>(reg::RSP);
    let value = m.pop::<W>(op)?;
    let outcome = m.store::<W>(op, value);
    if outcome.is_err() {
        m.put::<W64>(reg::RSP, before);
    }
    outcome
}

/// LEAVE: the stack pointer from the frame pointer, then POP of the frame pointer.
fn leave<M: MicroOps, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let before = m.get::<W64>(reg::RSP);
    let frame = m.get::<W64>(reg::RBP);
    m.set_stack(frame);
    match m.pop::<W>(op) {
        Ok(value) => {
            m.put::<W>(reg::RBP, value);
            Ok(())
        }
        Err(fault) => {
            m.put::<W64>(reg::RSP, before);
            Err(fault)
        }
    }
}

/// The linear address of a stack slot, checked.
fn slot(cpu: &mut Cpu, offset: u64, bytes: u64, access: Access) -> Result<u64, Exception> {
    let offset = offset & cpu.stack_mask();
    cpu.segment_linear(SegmentIndex::SS, offset, bytes, access)
}

const PUSHA_ORDER: [u8; 8] = [reg::RAX, reg::RCX, reg::RDX, reg::RBX, reg::RSP, reg::RBP, reg::RSI, reg::RDI];

/// PUSHA (SDM vol. 2): eight pushes, the highest slot first, each of which wraps at the stack's size by itself.
fn pusha<W: Width>(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    let mut rsp = cpu.state.regs[usize::from(reg::RSP)];
    let bytes = W::BYTES as usize;
    let mut slots = [0; 8];
    for place in &mut slots {
        rsp = rsp.wrapping_sub(W::BYTES);
        *place = slot(cpu, rsp, W::BYTES, Access::Write)?;
        cpu.probe_write(*place, W::BYTES)?;
    }
    for (linear, register) in slots.into_iter().zip(PUSHA_ORDER) {
        let value = cpu.get::<W>(register).to_le_bytes();
        cpu.write_bytes(linear, &value[..bytes])?;
    }
    cpu.set_stack_pointer(rsp);
    Ok(())
}

/// POPA: eight pops; the image of the stack pointer is skipped.
fn popa<W: Width>(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    let mut rsp = cpu.state.regs[usize::from(reg::RSP)];
    let bytes = W::BYTES as usize;
    let mut values = [0; 8];
    for value in &mut values {
        let linear = slot(cpu, rsp, W::BYTES, Access::Read)?;
        let mut image = [0; 8];
        cpu.read_bytes(linear, &mut image[..bytes])?;
        *value = u64::from_le_bytes(image);
        rsp = rsp.wrapping_add(W::BYTES);
    }
    for (value, &register) in values.into_iter().zip(PUSHA_ORDER.iter().rev()) {
        if register != reg::RSP {
            cpu.put::<W>(register, value);
        }
    }
    cpu.set_stack_pointer(rsp);
    Ok(())
}

/// ENTER (SDM vol. 2): the frame is written below RSP before any register changes.
fn enter<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let level = op.displacement as u64 & 31;
    let size = op.immediate & 0xffff;
    let rbp = cpu.state.regs[usize::from(reg::RBP)];
    let mut rsp = cpu.state.regs[usize::from(reg::RSP)];
    let bytes = W::BYTES as usize;
    let mut push = |cpu: &mut Cpu, value: u64| -> Result<u64, Exception> {
        rsp = rsp.wrapping_sub(W::BYTES);
        let linear = slot(cpu, rsp, W::BYTES, Access::Write)?;
        cpu.write_bytes(linear, &value.to_le_bytes()[..bytes])?;
        Ok(rsp)
    };
    let frame = push(cpu, rbp)?;
    for i in 1..level {
        let linear = slot(cpu, rbp.wrapping_sub(i * W::BYTES), W::BYTES, Access::Read)?;
        let mut value = [0; 8];
        cpu.read_bytes(linear, &mut value[..bytes])?;
        push(cpu, u64::from_le_bytes(value))?;
    }
    let last = if level > 0 { push(cpu, frame)? } else { frame };
    let top = last.wrapping_sub(size);
    // The processor checks that the new top of the stack can be written.
    let linear = slot(cpu, top, W::BYTES, Access::Write)?;
    cpu.probe_write(linear, W::BYTES)?;
    cpu.put::<W>(reg::RBP, frame);
    cpu.set_stack_pointer(top);
    Ok(())
}

/// The meaning of an instruction of this family.
pub(super) fn select<M: MicroOps>(i: &Instruction) -> Option<Meaning<M>> {
    use Code::*;
    Some(match i.code() {
        Push_r16 => push::<M, Register<0>, W16>,
        Push_r32 => push::<M, Register<0>, W32>,
        Push_r64 => push::<M, Register<0>, W64>,
        Push_rm16 if i.op0_kind() == OpKind::Register => push::<M, Register<0>, W16>,
        Push_rm32 if i.op0_kind() == OpKind::Register => push::<M, Register<0>, W32>,
        Push_rm64 if i.op0_kind() == OpKind::Register => push::<M, Register<0>, W64>,
        Push_rm16 => push::<M, Memory, W16>,
        Push_rm32 => push::<M, Memory, W32>,
        Push_rm64 => push::<M, Memory, W64>,
        Pushw_imm8 | Push_imm16 => push::<M, Immediate, W16>,
        Pushd_imm8 | Pushd_imm32 => push::<M, Immediate, W32>,
        Pushq_imm8 | Pushq_imm32 => push::<M, Immediate, W64>,
        Pop_r16 => pop_register::<M, W16>,
        Pop_r32 => pop_register::<M, W32>,
        Pop_r64 => pop_register::<M, W64>,
        Pop_rm16 if i.op0_kind() == OpKind::Register => pop_register::<M, W16>,
        Pop_rm32 if i.op0_kind() == OpKind::Register => pop_register::<M, W32>,
        Pop_rm64 if i.op0_kind() == OpKind::Register => pop_register::<M, W64>,
        Pop_rm16 => pop_memory::<M, W16>,
        Pop_rm32 => pop_memory::<M, W32>,
        Pop_rm64 => pop_memory::<M, W64>,
        Leavew => leave::<M, W16>,
        Leaved => leave::<M, W32>,
        Leaveq => leave::<M, W64>,
        _ => return None,
    })
}

/// The plain function of an instruction of this family.
pub(super) fn select_hard(i: &Instruction) -> Option<Hard> {
    use Code::*;
    Some(match i.code() {
        Pushaw => pusha::<W16>,
        Pushad => pusha::<W32>,
        Popaw => popa::<W16>,
        Popad => popa::<W32>,
        Enterw_imm16_imm8 => enter::<W16>,
        Enterd_imm16_imm8 => enter::<W32>,
        Enterq_imm16_imm8 => enter::<W64>,
        _ => return None,
    })
}
