//! The x87's control instructions and its environment in memory (SDM vol. 1, 8.1.8 to 8.1.11, 8.3.10).

use super::stack::{BUSY, ES, SF, TOP};
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::float::status::{C1, EXCEPTIONS};
use crate::float::{Class, F80};
use crate::memory::stack_fault;
use crate::op::Op;
use crate::ops::MicroOps;
use crate::state::X87;
use crate::width::W16;
use rx86_softmmu::Access;

/// The control word's bits that exist; bit 6 always reads one.
const CONTROL_BITS: u16 = 0x1f3f;

/// FWAIT.
pub(super) fn wait(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    cpu.x87_wait()
}

/// FNOP, and FNENI, FNDISI and FNSETPM, which do nothing since the 387.
pub(super) fn nothing(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    cpu.x87_wait()?;
    cpu.x87_note(op);
    Ok(())
}

/// FNINIT.
pub(super) fn initialise(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    reset(cpu);
    Ok(())
}

fn reset(cpu: &mut Cpu) {
    cpu.state.x87 = X87 { regs: cpu.state.x87.regs, ..X87::default() };
    cpu.x87_settle_ferr();
}

/// FNCLEX.
pub(super) fn clear_exceptions(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    cpu.state.x87.status &= !(EXCEPTIONS | SF | ES | BUSY);
    cpu.x87_settle_ferr();
    Ok(())
}

/// FLDCW. An exception that it unmasks is delivered by the next waiting instruction.
pub(super) fn load_control(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    cpu.x87_wait()?;
    let control = cpu.load::<W16>(op)? as u16;
    set_control(cpu, control);
    Ok(())
}

fn set_control(cpu: &mut Cpu, control: u16) {
    cpu.state.x87.control = control & CONTROL_BITS | 0x40;
    cpu.x87_settle_ferr();
}

/// FNSTCW.
pub(super) fn store_control(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let control = cpu.state.x87.control;
    cpu.store::<W16>(op, u64::from(control))
}

/// FNSTSW m2byte.
pub(super) fn store_status(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let status = cpu.state.x87.status;
    cpu.store::<W16>(op, u64::from(status))
}

/// FNSTSW AX.
pub(super) fn status_to_ax(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let status = cpu.state.x87.status;
    cpu.put::<W16>(op.regs[0], u64::from(status));
    Ok(())
}

/// FINCSTP (by 1) and FDECSTP (by 7).
pub(super) fn rotate(cpu: &mut Cpu, op: &Op, by: u16) -> Result<(), Exception> {
    cpu.x87_wait()?;
    cpu.x87_note(op);
    cpu.state.x87.rotate(by);
    cpu.state.x87.set_codes(C1, 0);
    Ok(())
}

/// FFREE, and FFREEP, which also pops.
pub(super) fn free<const POP: bool>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    cpu.x87_wait()?;
    cpu.x87_note(op);
    cpu.state.x87.free(op.regs[0]);
    cpu.state.x87.set_codes(C1, 0);
    if POP {
        cpu.state.x87.pop();
    }
    Ok(())
}

/// The tag word with its classes: 0 valid, 1 zero, 2 special, 3 empty.
pub(super) fn full_tags(x87: &X87) -> u16 {
    let mut tags = 0;
    for (i, register) in x87.regs.iter().enumerate() {
        let value = register.unpack();
        let class = match value.class {
            _ if x87.tags >> (2 * i) & 3 == 3 => 3,
            Class::Finite if !value.denormal => 0,
            Class::Zero => 1,
            _ => 2,
        };
        tags |= class << (2 * i);
    }
    tags
}

/// The length in bytes of the environment that `op` handles, which is twice as long for 32-bit operands.
fn environment_bytes(op: &Op) -> usize {
    if op.operand_bits() == 16 { 14 } else { 28 }
}

/// The environment as FNSTENV stores it, at most 28 bytes.
fn encode_environment(cpu: &Cpu, op: &Op) -> [u8; 28] {
    let x87 = &cpu.state.x87;
    let (ip, dp) = (x87.instruction_pointer as u32, x87.operand_pointer as u32);
    let (cs, ds) = (u32::from(x87.instruction_selector), u32::from(x87.operand_selector));
    let opcode = u32::from(x87.opcode & 0x7ff);
    let mut words =
        [u32::from(x87.control), u32::from(x87.status), u32::from(full_tags(x87)), ip, cs, dp, ds];
    let short = environment_bytes(op) == 14;
    if !cpu.state.protected() {
        // Real-address and virtual-8086 mode store linear addresses, split, with the opcode below the upper part.
        let (ip, dp) = (ip.wrapping_add(cs << 4), dp.wrapping_add(ds << 4));
        let upper = |address: u32| if short { address >> 16 << 12 & 0xf000 } else { address >> 16 << 12 };
        words[3..].copy_from_slice(&[ip & 0xffff, upper(ip) | opcode, dp & 0xffff, upper(dp)]);
    } else if !short {
        words[4] |= opcode << 16;
    }
    let mut bytes = [0; 28];
    if short {
        for (chunk, word) in bytes.chunks_exact_mut(2).zip(words) {
            chunk.copy_from_slice(&(word as u16).to_le_bytes());
        }
        return bytes;
    }
    // The upper halves of 16-bit fields are stored as ones.
    let protected = cpu.state.protected();
    for (i, (chunk, word)) in bytes.chunks_exact_mut(4).zip(words).enumerate() {
        let padded = matches!(i, 0..=2) || protected && i == 6 || !protected && matches!(i, 3 | 5);
        let word = if padded { word | 0xffff_0000 } else { word };
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// Takes over an environment of `environment_bytes`.
fn decode_environment(cpu: &mut Cpu, op: &Op, bytes: &[u8]) {
    let short = environment_bytes(op) == 14;
    let field = |i: usize| {
        let width = if short { 2 } else { 4 };
        bytes[i * width..][..width].iter().rev().fold(0u32, |value, &byte| value << 8 | u32::from(byte))
    };
    let protected = cpu.state.protected();
    let x87 = &mut cpu.state.x87;
    x87.status = field(1) as u16;
    // Of the loaded tags only "empty" counts; the rest follows from the registers.
    let tags = field(2) as u16;
    x87.tags = (0..8).map(|i| 3 << (2 * i)).filter(|empty| tags & empty == *empty).sum();
    if protected {
        x87.instruction_pointer = u64::from(field(3));
        x87.instruction_selector = field(4) as u16;
        x87.operand_pointer = u64::from(field(5));
        x87.operand_selector = field(6) as u16;
        x87.opcode = if short { 0 } else { (field(4) >> 16 & 0x7ff) as u16 };
    } else {
        let address = |low: u32, high: u32| u64::from(low & 0xffff | high << 4 & 0xffff_0000);
        x87.instruction_pointer = address(field(3), field(4));
        x87.operand_pointer = address(field(5), field(6));
        x87.opcode = (field(4) & 0x7ff) as u16;
        (x87.instruction_selector, x87.operand_selector) = (0, 0);
    }
    set_control(cpu, field(0) as u16);
}

/// FLDENV.
pub(super) fn load_environment(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    cpu.x87_wait()?;
    let length = environment_bytes(op);
    let linear = cpu.operand_linear(op, length as u64, Access::Read)?;
    let mut bytes = [0; 28];
    cpu.read_bytes(linear, &mut bytes[..length]).map_err(|fault| stack_fault(op, fault))?;
    decode_environment(cpu, op, &bytes[..length]);
    Ok(())
}

/// FNSTENV, which masks all exceptions afterwards.
pub(super) fn store_environment(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let length = environment_bytes(op);
    let linear = cpu.operand_linear(op, length as u64, Access::Write)?;
    let bytes = encode_environment(cpu, op);
    cpu.write_bytes(linear, &bytes[..length]).map_err(|fault| stack_fault(op, fault))?;
    let control = cpu.state.x87.control | EXCEPTIONS;
    set_control(cpu, control);
    Ok(())
}

/// FNSAVE: the environment and the registers from ST(0) on, then FNINIT.
pub(super) fn save(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let length = environment_bytes(op);
    let linear = cpu.operand_linear(op, length as u64 + 80, Access::Write)?;
    let mut bytes = [0; 108];
    bytes[..length].copy_from_slice(&encode_environment(cpu, op)[..length]);
    for (i, chunk) in (0u8..8).zip(bytes[length..].chunks_exact_mut(10)) {
        chunk.copy_from_slice(&cpu.state.x87.st(i).to_bytes());
    }
    cpu.write_bytes(linear, &bytes[..length + 80]).map_err(|fault| stack_fault(op, fault))?;
    reset(cpu);
    Ok(())
}

/// FRSTOR.
pub(super) fn restore(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    cpu.x87_wait()?;
    let length = environment_bytes(op);
    let linear = cpu.operand_linear(op, length as u64 + 80, Access::Read)?;
    let mut bytes = [0; 108];
    cpu.read_bytes(linear, &mut bytes[..length + 80]).map_err(|fault| stack_fault(op, fault))?;
    decode_environment(cpu, op, &bytes[..length]);
    let tags = cpu.state.x87.tags;
    for (i, chunk) in (0u8..8).zip(bytes[length..].chunks_exact(10)) {
        let mut value = [0; 10];
        value.copy_from_slice(chunk);
        cpu.state.x87.set_st(i, F80::from_bytes(value));
    }
    cpu.state.x87.tags = tags;
    Ok(())
}

/// EMMS.
pub(super) fn empty_mmx(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    cpu.x87_wait()?;
    cpu.state.x87.tags = 0xffff;
    cpu.state.x87.status &= !TOP;
    Ok(())
}

/// What every MMX instruction but EMMS does first: delivers a pending x87 exception, then makes TOP zero and all
/// registers valid (SDM vol. 1, 9.5.1). Writing an MMX register also sets its `sign_exponent` to 0xffff, which is
/// left to the writer. To be called once the instruction can no longer fault otherwise, or before reading memory:
/// only the pending exception must come first.
pub fn mmx_enter(cpu: &mut Cpu) -> Result<(), Exception> {
    cpu.x87_wait()?;
    cpu.state.x87.status &= !TOP;
    cpu.state.x87.tags = 0;
    Ok(())
}
