//! IRET in all its forms (SDM vol. 2, IRET).

use super::descriptor::{is_null, selector_error};
use super::segment_load::null_stack_segment;
use super::task::SwitchKind;
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::mode::ModeKey;
use crate::op::{Op, reg};
use crate::ops::Hard;
use crate::state::{Segment, SegmentIndex, bits};
use iced_x86::{Code, Instruction};

/// Flags that IRET may change at any privilege.
const USER_FLAGS: u64 = bits::RFLAGS_TF
    | bits::RFLAGS_DF
    | bits::RFLAGS_NT
    | bits::RFLAGS_RF
    | bits::RFLAGS_AC
    | bits::RFLAGS_ID
    | bits::RFLAGS_CF
    | bits::RFLAGS_PF
    | bits::RFLAGS_AF
    | bits::RFLAGS_ZF
    | bits::RFLAGS_SF
    | bits::RFLAGS_OF;
/// Flags that only CPL 0 may change.
const SUPERVISOR_FLAGS: u64 = bits::RFLAGS_VIF | bits::RFLAGS_VIP | bits::RFLAGS_IOPL;

/// The values that IRET pops.
struct Popped {
    rip: u64,
    selector: u16,
    rflags: u64,
}

fn iret(cpu: &mut Cpu, bytes: u64) -> Result<(), Exception> {
    let outcome = if cpu.state.cr0 & bits::CR0_PE == 0 {
        real_iret(cpu, bytes)
    } else if cpu.state.vm86() {
        vm86_iret(cpu, bytes)
    } else if cpu.state.long_mode_active() {
        long_iret(cpu, bytes)
    } else if cpu.state.flags.system & bits::RFLAGS_NT != 0 {
        let link = cpu.table_address(cpu.state.tr.base);
        let link = u16::from_le_bytes(cpu.read_system(link)?);
        cpu.continue_in_task(link, SwitchKind::Return)
    } else {
        protected_iret(cpu, bytes)
    };
    // Even if it faults (SDM vol. 3, 6.7.1).
    cpu.state.nmi_blocked = false;
    // A faulting IRET may have switched the MMU's view; a completed one has changed the mode.
    cpu.mode_changed();
    cpu.serialize();
    outcome
}

fn pop_frame(cpu: &mut Cpu, bytes: u64) -> Result<Popped, Exception> {
    Ok(Popped {
        rip: cpu.stack_value(0, bytes)?,
        selector: cpu.stack_value(1, bytes)? as u16,
        rflags: cpu.stack_value(2, bytes)?,
    })
}

/// Replaces the flags in `mask`; a 16-bit operand reaches only the low half.
fn merge_flags(cpu: &mut Cpu, image: u64, mask: u64, bytes: u64) {
    let mask = if bytes == 2 { mask & 0xffff } else { mask };
    let merged = cpu.state.flags.get() & !mask | image & mask;
    cpu.state.flags.set(merged);
}

/// The flags that a return to the same or an outer privilege level may change.
fn allowed_flags(cpu: &Cpu) -> u64 {
    let iopl = (cpu.state.flags.system & bits::RFLAGS_IOPL) >> 12;
    let mut mask = USER_FLAGS;
    if u64::from(cpu.state.cpl) <= iopl {
        mask |= bits::RFLAGS_IF;
    }
    if cpu.state.cpl == 0 {
        mask |= SUPERVISOR_FLAGS;
    }
    mask
}

fn real_iret(cpu: &mut Cpu, bytes: u64) -> Result<(), Exception> {
    let popped = pop_frame(cpu, bytes)?;
    if popped.rip > u64::from(cpu.state.segments[SegmentIndex::CS].limit) {
        return Err(Exception::gp(0));
    }
    let pointer = cpu.state.regs[usize::from(reg::RSP)].wrapping_add(3 * bytes);
    cpu.set_stack_pointer(pointer);
    cpu.load_real_segment(SegmentIndex::CS, popped.selector);
    cpu.state.set_rip(popped.rip);
    merge_flags(cpu, popped.rflags, USER_FLAGS | bits::RFLAGS_IF | bits::RFLAGS_IOPL, bytes);
    Ok(())
}

/// In virtual-8086 mode with IOPL 3, IOPL itself stays; below, VME lets a 16-bit IRET work on VIF.
fn vm86_iret(cpu: &mut Cpu, bytes: u64) -> Result<(), Exception> {
    let iopl3 = cpu.state.flags.system & bits::RFLAGS_IOPL == bits::RFLAGS_IOPL;
    let virtual_flag = cpu.state.cr4 & bits::CR4_VME != 0 && bytes == 2;
    if !iopl3 && !virtual_flag {
        return Err(Exception::gp(0));
    }
    let popped = pop_frame(cpu, bytes)?;
    if popped.rip > 0xffff {
        return Err(Exception::gp(0));
    }
    let mut mask = USER_FLAGS;
    let mut image = popped.rflags;
    if iopl3 {
        mask |= bits::RFLAGS_IF;
    } else {
        let wants_interrupts = image & bits::RFLAGS_IF != 0;
        if (wants_interrupts && cpu.state.flags.system & bits::RFLAGS_VIP != 0)
            || image & bits::RFLAGS_TF != 0
        {
            return Err(Exception::gp(0));
        }
        image &= !bits::RFLAGS_VIF;
        if wants_interrupts {
            image |= bits::RFLAGS_VIF;
        }
    }
    let pointer = cpu.state.regs[usize::from(reg::RSP)].wrapping_add(3 * bytes);
    cpu.set_stack_pointer(pointer);
    cpu.load_real_segment(SegmentIndex::CS, popped.selector);
    cpu.state.set_rip(popped.rip);
    merge_flags(cpu, image, mask, bytes);
    if !iopl3 {
        cpu.state.flags.system = cpu.state.flags.system & !bits::RFLAGS_VIF | image & bits::RFLAGS_VIF;
    }
    Ok(())
}

fn protected_iret(cpu: &mut Cpu, bytes: u64) -> Result<(), Exception> {
    let popped = pop_frame(cpu, bytes)?;
    if bytes == 4 && popped.rflags & bits::RFLAGS_VM != 0 && cpu.state.cpl == 0 {
        return return_to_vm86(cpu, &popped);
    }
    let (code, cpl) = cpu.return_code(popped.selector)?;
    if popped.rip > u64::from(code.limit) {
        return Err(Exception::gp(0));
    }
    let mask = allowed_flags(cpu);
    if cpl == cpu.state.cpl {
        let pointer = cpu.state.regs[usize::from(reg::RSP)].wrapping_add(3 * bytes);
        cpu.set_stack_pointer(pointer);
        cpu.state.segments[SegmentIndex::CS] = code;
    } else {
        let pointer = cpu.stack_value(3, bytes)?;
        let selector = cpu.stack_value(4, bytes)? as u16;
        let stack = cpu.stack_segment(selector, cpl)?;
        cpu.state.segments[SegmentIndex::CS] = code;
        cpu.enter_outer(cpl, stack, pointer);
    }
    cpu.state.set_rip(popped.rip);
    merge_flags(cpu, popped.rflags, mask, bytes);
    Ok(())
}

fn return_to_vm86(cpu: &mut Cpu, popped: &Popped) -> Result<(), Exception> {
    let mut values = [0; 6];
    for (value, index) in values.iter_mut().zip(3..) {
        *value = cpu.stack_value(index, 4)?;
    }
    let [pointer, ss, es, ds, fs, gs] = values;
    if popped.rip > 0xffff {
        return Err(Exception::gp(0));
    }
    cpu.state.flags.set(popped.rflags & bits::RFLAGS_DEFINED);
    cpu.state.cpl = 3;
    let selectors = [
        (SegmentIndex::CS, popped.selector),
        (SegmentIndex::SS, ss as u16),
        (SegmentIndex::ES, es as u16),
        (SegmentIndex::DS, ds as u16),
        (SegmentIndex::FS, fs as u16),
        (SegmentIndex::GS, gs as u16),
    ];
    for (index, selector) in selectors {
        cpu.load_real_segment(index, selector);
    }
    cpu.state.regs[usize::from(reg::RSP)] = pointer;
    cpu.state.set_rip(popped.rip);
    Ok(())
}

/// IRET in IA-32e mode, from 64-bit or compatibility mode, to any of them.
fn long_iret(cpu: &mut Cpu, bytes: u64) -> Result<(), Exception> {
    if cpu.state.flags.system & bits::RFLAGS_NT != 0 {
        return Err(Exception::gp(0));
    }
    let popped = pop_frame(cpu, bytes)?;
    let from_64 = cpu.mode().has(ModeKey::LONG64);
    let (code, cpl) = cpu.return_code(popped.selector)?;
    let to_64 = code.long();
    let target_valid = if to_64 { cpu.is_canonical(popped.rip) } else { popped.rip <= u64::from(code.limit) };
    if !target_valid {
        return Err(Exception::gp(0));
    }
    let mask = allowed_flags(cpu);
    if cpl == cpu.state.cpl && !from_64 {
        let pointer = cpu.state.regs[usize::from(reg::RSP)].wrapping_add(3 * bytes);
        cpu.set_stack_pointer(pointer);
        cpu.state.segments[SegmentIndex::CS] = code;
    } else {
        // In 64-bit mode SS:RSP is always popped.
        let pointer = cpu.stack_value(3, bytes)?;
        let selector = cpu.stack_value(4, bytes)? as u16;
        let stack = cpu.return_stack_segment(selector, cpl, to_64)?;
        let outer = cpl != cpu.state.cpl;
        cpu.state.segments[SegmentIndex::CS] = code;
        if outer {
            cpu.enter_outer(cpl, stack, pointer);
        } else {
            cpu.state.segments[SegmentIndex::SS] = stack;
            cpu.mode_changed();
            cpu.set_stack_pointer(pointer);
        }
    }
    cpu.state.set_rip(popped.rip);
    merge_flags(cpu, popped.rflags, mask, bytes);
    Ok(())
}

impl Cpu {
    /// The code segment that a return leads to, checked, and the privilege level of its selector.
    pub(super) fn return_code(&mut self, selector: u16) -> Result<(Segment, u8), Exception> {
        if is_null(selector) {
            return Err(Exception::gp(0));
        }
        let error = selector_error(selector);
        let mut code = self.read_descriptor(selector)?;
        let rpl = (selector & 3) as u8;
        let dpl_allows = if code.is_conforming() { code.dpl() <= rpl } else { code.dpl() == rpl };
        let both_sizes = self.state.long_mode_active() && code.is_long() && code.is_default_32();
        if !code.is_code() || rpl < self.state.cpl || !dpl_allows || both_sizes {
            return Err(Exception::gp(error));
        }
        if !code.is_present() {
            return Err(Exception::np(error));
        }
        self.mark_accessed(&mut code)?;
        let mut segment = code.segment(selector);
        if !self.state.long_mode_active() {
            segment.access &= !crate::state::access::LONG;
        }
        Ok((segment, rpl))
    }

    /// SS for a return: a null one is allowed for 64-bit code below CPL 3, whatever the mode that returns.
    pub(super) fn return_stack_segment(
        &mut self,
        selector: u16,
        cpl: u8,
        to_64: bool,
    ) -> Result<Segment, Exception> {
        if is_null(selector) {
            if to_64 && cpl != 3 && (selector & 3) as u8 == cpl {
                return Ok(null_stack_segment(selector, cpl));
            }
            return Err(Exception::gp(0));
        }
        self.stack_segment(selector, cpl)
    }

    /// Continues at an outer privilege level on its own stack; CS is loaded already.
    pub(super) fn enter_outer(&mut self, cpl: u8, stack: Segment, pointer: u64) {
        self.state.segments[SegmentIndex::SS] = stack;
        self.state.cpl = cpl;
        self.mode_changed();
        self.set_stack_pointer(pointer);
        self.drop_inner_segments();
    }
}

/// The meaning of an instruction of this family.
pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    Some(match instruction.code() {
        Code::Iretw => |cpu: &mut Cpu, _: &Op| iret(cpu, 2),
        Code::Iretd => |cpu: &mut Cpu, _: &Op| iret(cpu, 4),
        Code::Iretq => |cpu: &mut Cpu, _: &Op| iret(cpu, 8),
        _ => return None,
    })
}
