//! PUSHF, POPF, CLI, STI: the flags that depend on privilege (SDM vol. 2; vol. 3, 20.3.1).

use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::op::Op;
use crate::ops::{Hard, MicroOps};
use crate::state::bits;
use crate::width::{W16, W32, W64, Width};
use iced_x86::{Code, Instruction};

/// Flags that POPF may change at any privilege.
const POPF_FLAGS: u64 = bits::RFLAGS_TF
    | bits::RFLAGS_DF
    | bits::RFLAGS_NT
    | bits::RFLAGS_AC
    | bits::RFLAGS_ID
    | crate::state::bits::RFLAGS_ARITH;

fn iopl(cpu: &Cpu) -> u8 {
    ((cpu.state.flags.system & bits::RFLAGS_IOPL) >> 12) as u8
}

/// Whether this is virtual-8086 mode below IOPL 3.
fn restricted_vm86(cpu: &Cpu) -> bool {
    cpu.state.vm86() && iopl(cpu) < 3
}

fn vme(cpu: &Cpu) -> bool {
    cpu.state.cr4 & bits::CR4_VME != 0
}

fn pushf<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let mut image = cpu.state.flags.get() & !(bits::RFLAGS_VM | bits::RFLAGS_RF);
    if restricted_vm86(cpu) {
        if !vme(cpu) || W::BITS != 16 {
            return Err(Exception::gp(0));
        }
        // VME shows VIF in IF's place, and IOPL 3.
        let interrupts = image & bits::RFLAGS_VIF != 0;
        image = image & !bits::RFLAGS_IF | bits::RFLAGS_IOPL;
        image |= if interrupts { bits::RFLAGS_IF } else { 0 };
    }
    cpu.push::<W>(op, image & W::MASK)
}

fn popf<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let restricted = restricted_vm86(cpu);
    if restricted && (!vme(cpu) || W::BITS != 16) {
        return Err(Exception::gp(0));
    }
    let mut image = cpu.peek_stack::<W>(op)?;
    let mut mask = POPF_FLAGS;
    if restricted {
        let interrupts = image & bits::RFLAGS_IF != 0;
        if (interrupts && cpu.state.flags.system & bits::RFLAGS_VIP != 0) || image & bits::RFLAGS_TF != 0 {
            return Err(Exception::gp(0));
        }
        image &= !bits::RFLAGS_VIF;
        image |= if interrupts { bits::RFLAGS_VIF } else { 0 };
    } else if !cpu.state.vm86() && cpu.state.cpl == 0 {
        mask |= bits::RFLAGS_IF | bits::RFLAGS_IOPL;
    } else if cpu.state.cpl <= iopl(cpu) {
        mask |= bits::RFLAGS_IF;
    }
    mask &= W::MASK;
    if restricted {
        mask |= bits::RFLAGS_VIF;
    }
    cpu.release_stack(op, W::BYTES);
    // RF is cleared, whatever the image says.
    let merged = cpu.state.flags.get() & !(mask | bits::RFLAGS_RF) | image & mask;
    cpu.set_rflags(merged);
    Ok(())
}

/// Whether CLI and STI work on VIF: virtual-8086 mode with VME, or CPL 3 with PVI.
fn virtual_interrupts(cpu: &Cpu) -> bool {
    let pvi = cpu.state.cr4 & bits::CR4_PVI != 0 && cpu.state.cpl == 3;
    if cpu.state.vm86() { vme(cpu) } else { cpu.state.protected() && pvi }
}

/// Whether IF itself may be changed.
fn owns_interrupt_flag(cpu: &Cpu) -> bool {
    cpu.state.cr0 & bits::CR0_PE == 0 || cpu.state.cpl <= iopl(cpu)
}

fn cli(cpu: &mut Cpu, _: &Op) -> Result<(), Exception> {
    if owns_interrupt_flag(cpu) {
        cpu.state.flags.system &= !bits::RFLAGS_IF;
    } else if virtual_interrupts(cpu) {
        cpu.state.flags.system &= !bits::RFLAGS_VIF;
    } else {
        return Err(Exception::gp(0));
    }
    Ok(())
}

/// STI: interrupts wait until after the next instruction, if they were off.
fn sti(cpu: &mut Cpu, _: &Op) -> Result<(), Exception> {
    if owns_interrupt_flag(cpu) {
        if cpu.state.flags.system & bits::RFLAGS_IF == 0 {
            cpu.state.flags.system |= bits::RFLAGS_IF;
            cpu.state.sti_shadow = true;
        }
        cpu.end_block();
        Ok(())
    } else if virtual_interrupts(cpu) && cpu.state.flags.system & bits::RFLAGS_VIP == 0 {
        cpu.state.flags.system |= bits::RFLAGS_VIF;
        Ok(())
    } else {
        Err(Exception::gp(0))
    }
}

/// The meaning of an instruction of this family.
pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    Some(match instruction.code() {
        Code::Pushfw => pushf::<W16>,
        Code::Pushfd => pushf::<W32>,
        Code::Pushfq => pushf::<W64>,
        Code::Popfw => popf::<W16>,
        Code::Popfd => popf::<W32>,
        Code::Popfq => popf::<W64>,
        Code::Cli => cli,
        Code::Sti => sti,
        _ => return None,
    })
}
