//! LAR, LSL, VERR, VERW, ARPL: asking about selectors without loading them (SDM vol. 3, 5.10).

use super::descriptor::{Descriptor, is_null, system_type};
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::op::{Op, op_flags};
use crate::ops::{Hard, MicroOps};
use crate::state::bits;
use crate::width::{W16, W32, W64};
use iced_x86::{Instruction, Mnemonic};

fn set_zero_flag(cpu: &mut Cpu, zero: bool) {
    let flags = cpu.state.flags.get() & !bits::RFLAGS_ZF;
    cpu.state.flags.set(flags | if zero { bits::RFLAGS_ZF } else { 0 });
}

/// The descriptor that a selector names; none if it is null or beyond its table. Page faults are real.
fn look_up(cpu: &mut Cpu, selector: u16) -> Result<Option<Descriptor>, Exception> {
    if is_null(selector) {
        return Ok(None);
    }
    match cpu.read_descriptor(selector) {
        Ok(descriptor) => Ok(Some(descriptor)),
        Err(fault) if fault.vector == Exception::gp(0).vector => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// Whether the current privilege may see the descriptor.
fn visible(cpu: &Cpu, descriptor: &Descriptor, selector: u16) -> bool {
    let rpl = (selector & 3) as u8;
    descriptor.is_conforming() || (cpu.state.cpl <= descriptor.dpl() && rpl <= descriptor.dpl())
}

fn source_selector(cpu: &mut Cpu, op: &Op, operand: usize) -> Result<u16, Exception> {
    Ok(if op.has(op_flags::MEMORY) { cpu.load::<W16>(op)? } else { cpu.get::<W16>(op.regs[operand]) } as u16)
}

fn put_result(cpu: &mut Cpu, op: &Op, value: u64) {
    match op.operand_bits() {
        16 => cpu.put::<W16>(op.regs[0], value),
        32 => cpu.put::<W32>(op.regs[0], value),
        _ => cpu.put::<W64>(op.regs[0], value),
    }
}

fn lar(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    use system_type::*;
    let selector = source_selector(cpu, op, 1)?;
    let long = cpu.state.long_mode_active();
    let valid = look_up(cpu, selector)?.filter(|descriptor| {
        let known = match descriptor.kind() {
            TSS16_AVAILABLE | TSS16_BUSY | CALL_GATE16 | TASK_GATE => !long,
            LDT | TSS_AVAILABLE | TSS_BUSY | CALL_GATE => true,
            _ => false,
        };
        (!descriptor.is_system() || known) && visible(cpu, descriptor, selector)
    });
    if let Some(descriptor) = valid {
        put_result(cpu, op, descriptor.low >> 32 & 0x00ff_ff00);
    }
    set_zero_flag(cpu, valid.is_some());
    Ok(())
}

fn lsl(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    use system_type::*;
    let selector = source_selector(cpu, op, 1)?;
    let long = cpu.state.long_mode_active();
    let valid = look_up(cpu, selector)?.filter(|descriptor| {
        let known = match descriptor.kind() {
            TSS16_AVAILABLE | TSS16_BUSY => !long,
            LDT | TSS_AVAILABLE | TSS_BUSY => true,
            _ => false,
        };
        (!descriptor.is_system() || known) && visible(cpu, descriptor, selector)
    });
    if let Some(descriptor) = valid {
        put_result(cpu, op, u64::from(descriptor.limit()));
    }
    set_zero_flag(cpu, valid.is_some());
    Ok(())
}

fn verify(cpu: &mut Cpu, op: &Op, write: bool) -> Result<(), Exception> {
    let selector = source_selector(cpu, op, 0)?;
    let accessible = look_up(cpu, selector)?.is_some_and(|descriptor| {
        let allowed = if write { descriptor.is_writable_data() } else { descriptor.is_readable() };
        allowed && visible(cpu, &descriptor, selector)
    });
    set_zero_flag(cpu, accessible);
    Ok(())
}

/// ARPL: raises the destination selector's RPL to the source's.
fn arpl(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let source = cpu.get::<W16>(op.regs[1]) & 3;
    let raise = |selector: u64| if selector & 3 < source { selector & !3 | source } else { selector };
    let old = if op.has(op_flags::MEMORY) {
        cpu.modify::<W16>(op, |_, selector| raise(selector))?.0
    } else {
        let old = cpu.get::<W16>(op.regs[0]);
        cpu.put::<W16>(op.regs[0], raise(old));
        old
    };
    set_zero_flag(cpu, old & 3 < source);
    Ok(())
}

/// The meaning of an instruction of this family.
pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    Some(match instruction.mnemonic() {
        Mnemonic::Lar => lar,
        Mnemonic::Lsl => lsl,
        Mnemonic::Verr => |cpu, op| verify(cpu, op, false),
        Mnemonic::Verw => |cpu, op| verify(cpu, op, true),
        Mnemonic::Arpl => arpl,
        _ => return None,
    })
}
