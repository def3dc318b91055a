//! Far JMP, CALL and RET: code segments, call gates and tasks (SDM vol. 3, 5.8; vol. 2).

use super::delivery_legacy::Frame;
use super::descriptor::{Descriptor, is_null, selector_error, system_type};
use super::event::{Event, EventSource};
use super::segment_load::null_stack_segment;
use super::task::SwitchKind;
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::op::{Op, op_flags, reg};
use crate::ops::{Hard, MicroOps};
use crate::state::{SegmentIndex, access};
use crate::width::{W16, W32, W64};
use iced_x86::{Code, Instruction};
use rx86_softmmu::{Access, View};

/// Whether a far transfer is a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Transfer {
    Jump,
    Call,
}

/// No event is being delivered: error codes of stack switches carry no EXT bit.
const NO_EVENT: Event = Event { vector: 0, error_code: None, source: EventSource::Software, resume: false };

/// The far pointer of an instruction: offset and selector, from the immediate or from memory.
fn far_pointer(cpu: &mut Cpu, op: &Op, bytes: u64) -> Result<(u64, u16), Exception> {
    if !op.has(op_flags::MEMORY) {
        return Ok((op.immediate, op.displacement as u16));
    }
    let offset = match bytes {
        2 => cpu.load::<W16>(op)?,
        4 => cpu.load::<W32>(op)?,
        _ => cpu.load::<W64>(op)?,
    };
    Ok((offset, cpu.load_at::<W16>(op, bytes)? as u16))
}

fn far_transfer(cpu: &mut Cpu, op: &Op, transfer: Transfer, bytes: u64) -> Result<(), Exception> {
    let (offset, selector) = far_pointer(cpu, op, bytes)?;
    let outcome = if !cpu.state.protected() {
        real_transfer(cpu, offset, selector, transfer, bytes)
    } else {
        protected_transfer(cpu, offset, selector, transfer, bytes)
    };
    cpu.mode_changed();
    outcome
}

fn real_transfer(
    cpu: &mut Cpu,
    offset: u64,
    selector: u16,
    transfer: Transfer,
    bytes: u64,
) -> Result<(), Exception> {
    if offset > u64::from(cpu.state.segments[SegmentIndex::CS].limit) {
        return Err(Exception::gp(0));
    }
    if transfer == Transfer::Call {
        push_return(cpu, bytes)?;
    }
    cpu.load_real_segment(SegmentIndex::CS, selector);
    cpu.state.set_rip(offset);
    Ok(())
}

/// Pushes CS and the next instruction's offset on the current stack, both or neither.
fn push_return(cpu: &mut Cpu, bytes: u64) -> Result<(), Exception> {
    let values = [u64::from(cpu.state.segments[SegmentIndex::CS].selector), cpu.state.rip()];
    let pointer = cpu.state.regs[usize::from(reg::RSP)];
    let mask = cpu.stack_mask();
    let mut slots = [0; 2];
    for (i, slot) in slots.iter_mut().enumerate() {
        let offset = pointer.wrapping_sub(bytes * (i as u64 + 1)) & mask;
        *slot = cpu.segment_linear(SegmentIndex::SS, offset, bytes, Access::Write)?;
        cpu.probe_write(*slot, bytes)?;
    }
    for (slot, value) in slots.iter().zip(values) {
        cpu.write_bytes(*slot, &value.to_le_bytes()[..bytes as usize])?;
    }
    cpu.set_stack_pointer(pointer.wrapping_sub(2 * bytes));
    Ok(())
}

fn protected_transfer(
    cpu: &mut Cpu,
    offset: u64,
    selector: u16,
    transfer: Transfer,
    bytes: u64,
) -> Result<(), Exception> {
    if is_null(selector) {
        return Err(Exception::gp(0));
    }
    let descriptor = cpu.read_descriptor(selector)?;
    if !descriptor.is_system() {
        return to_code_segment(cpu, offset, selector, descriptor, transfer, bytes);
    }
    let long = cpu.state.long_mode_active();
    let kind = match transfer {
        Transfer::Jump => SwitchKind::Jump,
        Transfer::Call => SwitchKind::Call,
    };
    let private = descriptor.dpl() < cpu.state.cpl || descriptor.dpl() < (selector & 3) as u8;
    let error = selector_error(selector);
    match descriptor.kind() {
        system_type::CALL_GATE => through_call_gate(cpu, selector, &descriptor, transfer),
        system_type::CALL_GATE16 if !long => through_call_gate(cpu, selector, &descriptor, transfer),
        _ if long || private => Err(Exception::gp(error)),
        system_type::TASK_GATE if !descriptor.is_present() => Err(Exception::np(error)),
        system_type::TASK_GATE => cpu.continue_in_task(descriptor.gate_selector(), kind),
        system_type::TSS_AVAILABLE | system_type::TSS16_AVAILABLE => cpu.continue_in_task(selector, kind),
        _ => Err(Exception::gp(error)),
    }
}

/// Checks a code segment as the target of a direct transfer or of a jump through a gate, at the current privilege.
fn check_code(cpu: &Cpu, code: &Descriptor, selector: u16, rpl: u8) -> Result<(), Exception> {
    let error = selector_error(selector);
    let cpl = cpu.state.cpl;
    let allowed = if code.is_conforming() { code.dpl() <= cpl } else { code.dpl() == cpl && rpl <= cpl };
    let both_sizes = cpu.state.long_mode_active() && code.is_long() && code.is_default_32();
    if !code.is_code() || !allowed || both_sizes {
        return Err(Exception::gp(error));
    }
    if !code.is_present() {
        return Err(Exception::np(error));
    }
    Ok(())
}

/// #GP(0) unless `offset` lies in the segment, or is canonical for 64-bit code.
fn check_offset(cpu: &Cpu, code: &Descriptor, offset: u64) -> Result<(), Exception> {
    let long = cpu.state.long_mode_active() && code.is_long();
    let valid = if long { cpu.is_canonical(offset) } else { offset <= u64::from(code.limit()) };
    if valid { Ok(()) } else { Err(Exception::gp(0)) }
}

fn to_code_segment(
    cpu: &mut Cpu,
    offset: u64,
    selector: u16,
    mut code: Descriptor,
    transfer: Transfer,
    bytes: u64,
) -> Result<(), Exception> {
    check_code(cpu, &code, selector, (selector & 3) as u8)?;
    check_offset(cpu, &code, offset)?;
    cpu.mark_accessed(&mut code)?;
    if transfer == Transfer::Call {
        push_return(cpu, bytes)?;
    }
    enter_code(cpu, &code, selector, offset);
    Ok(())
}

/// Loads CS, with the current privilege in its selector, and RIP.
fn enter_code(cpu: &mut Cpu, code: &Descriptor, selector: u16, offset: u64) {
    let selector = selector & !3 | u16::from(cpu.state.cpl);
    let mut segment = code.segment(selector);
    if !cpu.state.long_mode_active() {
        segment.access &= !access::LONG;
    }
    cpu.state.segments[SegmentIndex::CS] = segment;
    cpu.state.set_rip(offset);
}

fn through_call_gate(
    cpu: &mut Cpu,
    selector: u16,
    gate: &Descriptor,
    transfer: Transfer,
) -> Result<(), Exception> {
    let error = selector_error(selector);
    if gate.dpl() < cpu.state.cpl || gate.dpl() < (selector & 3) as u8 || !gate.upper_half_valid() {
        return Err(Exception::gp(error));
    }
    if !gate.is_present() {
        return Err(Exception::np(error));
    }
    let target = gate.gate_selector();
    if is_null(target) {
        return Err(Exception::gp(0));
    }
    let mut code = cpu.read_descriptor(target)?;
    let long = cpu.state.long_mode_active();
    let wide = gate.kind() == system_type::CALL_GATE;
    let offset = match (long, wide) {
        (true, _) => gate.gate_offset(),
        (_, true) => gate.gate_offset() & 0xffff_ffff,
        _ => gate.gate_offset() & 0xffff,
    };
    let runs_64 = code.is_long() && !code.is_default_32();
    if !code.is_code() || code.dpl() > cpu.state.cpl || (long && !runs_64) {
        return Err(Exception::gp(selector_error(target)));
    }
    if transfer == Transfer::Jump {
        check_code(cpu, &code, target, 0)?;
    }
    if !code.is_present() {
        return Err(Exception::np(selector_error(target)));
    }
    check_offset(cpu, &code, offset)?;
    cpu.mark_accessed(&mut code)?;
    let inner = transfer == Transfer::Call && !code.is_conforming() && code.dpl() < cpu.state.cpl;
    let bytes = if long {
        8
    } else if wide {
        4
    } else {
        2
    };
    match (inner, long) {
        (true, true) => call_inner_long(cpu, code.dpl())?,
        (true, false) => call_inner_legacy(cpu, gate, code.dpl(), bytes)?,
        (false, _) if transfer == Transfer::Call => push_return(cpu, bytes)?,
        _ => {}
    }
    enter_code(cpu, &code, target, offset);
    Ok(())
}

/// Switches to the stack of `cpl` and pushes SS, RSP, CS and RIP there.
fn call_inner_long(cpu: &mut Cpu, cpl: u8) -> Result<(), Exception> {
    let stack = cpu.tss_stack(4 + u64::from(cpl) * 8, NO_EVENT)?;
    let values = [
        cpu.state.rip(),
        u64::from(cpu.state.segments[SegmentIndex::CS].selector),
        cpu.state.regs[usize::from(reg::RSP)],
        u64::from(cpu.state.segments[SegmentIndex::SS].selector),
    ];
    let mut image = [0u8; 32];
    for (i, value) in values.iter().enumerate() {
        image[i * 8..i * 8 + 8].copy_from_slice(&value.to_le_bytes());
    }
    let top = stack.wrapping_sub(32);
    if !cpu.is_canonical(top) {
        return Err(Exception::ss(0));
    }
    cpu.write_system(top, image)?;
    cpu.state.segments[SegmentIndex::SS] = null_stack_segment(u16::from(cpl), cpl);
    cpu.state.regs[usize::from(reg::RSP)] = top;
    cpu.state.cpl = cpl;
    Ok(())
}

/// Switches to the stack of `cpl`, copies the gate's parameters, and pushes the caller's SS, ESP, CS and EIP there.
fn call_inner_legacy(cpu: &mut Cpu, gate: &Descriptor, cpl: u8, bytes: u64) -> Result<(), Exception> {
    let (selector, pointer) = cpu.legacy_tss_stack(cpl, NO_EVENT)?;
    let stack = cpu.inner_stack_segment(selector, cpl)?;
    let mut frame = Frame::new();
    frame.push(u64::from(cpu.state.segments[SegmentIndex::SS].selector));
    frame.push(cpu.state.regs[usize::from(reg::RSP)]);
    for index in (0..u64::from(gate.gate_count())).rev() {
        // The last parameter pushed by the caller is the last one copied.
        frame.push(cpu.stack_value(index, bytes)?);
    }
    frame.push(u64::from(cpu.state.segments[SegmentIndex::CS].selector));
    frame.push(cpu.state.rip());
    cpu.mmu.set_view(View::Supervisor);
    let at = cpu.write_frame(&frame, &stack, pointer, bytes, selector_error(selector))?;
    cpu.state.segments[SegmentIndex::SS] = stack;
    cpu.state.cpl = cpl;
    cpu.mode_changed();
    cpu.set_stack_pointer(at);
    Ok(())
}

/// Far RET, releasing `op`'s immediate on both stacks.
fn far_return(cpu: &mut Cpu, op: &Op, bytes: u64) -> Result<(), Exception> {
    let offset = cpu.stack_value(0, bytes)?;
    let selector = cpu.stack_value(1, bytes)? as u16;
    let released = op.immediate & 0xffff;
    let pointer = cpu.state.regs[usize::from(reg::RSP)];
    if !cpu.state.protected() {
        if offset > u64::from(cpu.state.segments[SegmentIndex::CS].limit) {
            return Err(Exception::gp(0));
        }
        cpu.set_stack_pointer(pointer.wrapping_add(2 * bytes + released));
        cpu.load_real_segment(SegmentIndex::CS, selector);
        cpu.state.set_rip(offset);
        cpu.mode_changed();
        return Ok(());
    }
    let (code, cpl) = cpu.return_code(selector)?;
    let to_64 = cpu.state.long_mode_active() && code.long();
    let valid = if to_64 { cpu.is_canonical(offset) } else { offset <= u64::from(code.limit) };
    if !valid {
        return Err(Exception::gp(0));
    }
    if cpl == cpu.state.cpl {
        cpu.set_stack_pointer(pointer.wrapping_add(2 * bytes + released));
        cpu.state.segments[SegmentIndex::CS] = code;
    } else {
        let outer_pointer = cpu.stack_value_at(2 * bytes + released, bytes)?;
        let outer_selector = cpu.stack_value_at(3 * bytes + released, bytes)? as u16;
        let stack = cpu.return_stack_segment(outer_selector, cpl, to_64)?;
        cpu.state.segments[SegmentIndex::CS] = code;
        cpu.enter_outer(cpl, stack, outer_pointer.wrapping_add(released));
    }
    cpu.state.set_rip(offset);
    cpu.mode_changed();
    Ok(())
}

/// In 64-bit mode a far transfer's default operand size is 32 bits; iced-x86's code says which it is.
pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    use Code::*;
    use Transfer::{Call, Jump};
    Some(match instruction.code() {
        Jmp_ptr1616 | Jmp_m1616 => |cpu, op| far_transfer(cpu, op, Jump, 2),
        Jmp_ptr1632 | Jmp_m1632 => |cpu, op| far_transfer(cpu, op, Jump, 4),
        Jmp_m1664 => |cpu, op| far_transfer(cpu, op, Jump, 8),
        Call_ptr1616 | Call_m1616 => |cpu, op| far_transfer(cpu, op, Call, 2),
        Call_ptr1632 | Call_m1632 => |cpu, op| far_transfer(cpu, op, Call, 4),
        Call_m1664 => |cpu, op| far_transfer(cpu, op, Call, 8),
        Retfw | Retfw_imm16 => |cpu, op| far_return(cpu, op, 2),
        Retfd | Retfd_imm16 => |cpu, op| far_return(cpu, op, 4),
        Retfq | Retfq_imm16 => |cpu, op| far_return(cpu, op, 8),
        _ => return None,
    })
}
