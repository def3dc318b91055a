//! The 512-byte legacy area: FXSAVE, FXRSTOR, and the x87 and SSE parts of XSAVE (SDM vol. 1, 10.5.1 and 13.4.1).

use super::mxcsr::{MXCSR_MASK, check_mxcsr};
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::float::status::EXCEPTIONS;
use crate::memory::stack_fault;
use crate::mode::ModeKey;
use crate::op::Op;
use crate::ops::Hard;
use crate::state::{F80, Vcpu, X87};
use iced_x86::{Code, Instruction};
use rx86_softmmu::Access;

/// Bytes of the area.
pub(super) const LEGACY_BYTES: usize = 512;
/// Where the pieces lie.
pub(super) const MXCSR_AT: usize = 24;
pub(super) const REGISTERS_AT: usize = 32;
pub(super) const XMM_AT: usize = 160;

/// x87 status word: error summary and busy, which follow from the exceptions and masks.
const SUMMARY: u16 = 1 << 7 | 1 << 15;

/// Whether x87 pointers are 64-bit offsets, or 32-bit offsets with selectors.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pointers {
    /// FXSAVE, XSAVE.
    Selectors,
    /// FXSAVE64, XSAVE64.
    Offsets64,
}

/// How many XMM registers the mode has.
pub(super) fn xmm_count(cpu: &Cpu) -> u8 {
    if cpu.mode().has(ModeKey::LONG64) { 16 } else { 8 }
}

fn put<const N: usize>(area: &mut [u8], at: usize, bytes: [u8; N]) {
    area[at..at + N].copy_from_slice(&bytes);
}

fn get<const N: usize>(area: &[u8], at: usize) -> [u8; N] {
    std::array::from_fn(|i| area[at + i])
}

/// Writes the x87 registers: bytes 0 to 23 and 32 to 159.
pub(super) fn save_x87(x87: &X87, pointers: Pointers, area: &mut [u8; LEGACY_BYTES]) {
    put(area, 0, x87.control.to_le_bytes());
    put(area, 2, x87.status.to_le_bytes());
    let in_use = (0..8).fold(0, |bits, i| bits | u8::from(x87.tags >> (2 * i) & 3 != 3) << i);
    put(area, 4, [in_use, 0]);
    put(area, 6, x87.opcode.to_le_bytes());
    put(area, 8, x87.instruction_pointer.to_le_bytes());
    put(area, 16, x87.operand_pointer.to_le_bytes());
    if pointers == Pointers::Selectors {
        put(area, 12, u32::from(x87.instruction_selector).to_le_bytes());
        put(area, 20, u32::from(x87.operand_selector).to_le_bytes());
    }
    for i in 0..8 {
        let register = &x87.regs[physical(x87.status, i)];
        let at = REGISTERS_AT + 16 * i;
        put(area, at, register.mantissa.to_le_bytes());
        put(area, at + 8, u64::from(register.sign_exponent).to_le_bytes());
    }
}

/// The physical register of ST(`i`).
fn physical(status: u16, i: usize) -> usize {
    (usize::from(status >> 11) + i) & 7
}

/// The full tag of a register in use (SDM vol. 1, 8.1.7): 0 valid, 1 zero, 2 special.
fn tag(register: F80) -> u16 {
    match (register.sign_exponent & 0x7fff, register.mantissa) {
        (0, 0) => 1,
        (0 | 0x7fff, _) => 2,
        (_, mantissa) if mantissa >> 63 == 0 => 2,
        _ => 0,
    }
}

/// The x87 registers of an area.
pub(super) fn x87_from(area: &[u8; LEGACY_BYTES], pointers: Pointers) -> X87 {
    let word = |at: usize| u16::from_le_bytes(get(area, at));
    let mut x87 = X87 {
        // Bit 6 always reads one; bits 7 and 13 to 15 are reserved.
        control: word(0) & 0x1f7f | 0x40,
        status: word(2),
        opcode: word(6) & 0x7ff,
        instruction_pointer: u64::from_le_bytes(get(area, 8)),
        operand_pointer: u64::from_le_bytes(get(area, 16)),
        ..X87::default()
    };
    if pointers == Pointers::Selectors {
        x87.instruction_pointer &= 0xffff_ffff;
        x87.operand_pointer &= 0xffff_ffff;
        x87.instruction_selector = word(12);
        x87.operand_selector = word(20);
    }
    x87.status &= !SUMMARY;
    if x87.status & !x87.control & EXCEPTIONS != 0 {
        x87.status |= SUMMARY;
    }
    for i in 0..8 {
        let at = REGISTERS_AT + 16 * i;
        let register = F80 { mantissa: u64::from_le_bytes(get(area, at)), sign_exponent: word(at + 8) };
        let index = physical(x87.status, i);
        x87.regs[index] = register;
        if area[4] >> index & 1 != 0 {
            x87.tags = x87.tags & !(3 << (2 * index)) | tag(register) << (2 * index);
        }
    }
    x87
}

/// Writes XMM registers 0 to `count` - 1 at byte 160.
pub(super) fn save_xmm(state: &Vcpu, count: u8, area: &mut [u8; LEGACY_BYTES]) {
    for i in 0..count {
        put(area, XMM_AT + 16 * usize::from(i), state.xmm(i).to_le_bytes());
    }
}

/// Loads XMM registers 0 to `count` - 1.
pub(super) fn load_xmm(state: &mut Vcpu, count: u8, area: &[u8; LEGACY_BYTES]) {
    for i in 0..count {
        state.set_xmm(i, u128::from_le_bytes(get(area, XMM_AT + 16 * usize::from(i))));
    }
}

/// Writes MXCSR and its mask at byte 24.
pub(super) fn save_mxcsr(state: &Vcpu, area: &mut [u8; LEGACY_BYTES]) {
    put(area, MXCSR_AT, state.mxcsr.to_le_bytes());
    put(area, MXCSR_AT + 4, MXCSR_MASK.to_le_bytes());
}

/// The MXCSR of an area; #GP(0) if it has reserved bits.
pub(super) fn mxcsr_from(area: &[u8; LEGACY_BYTES]) -> Result<u32, Exception> {
    let mxcsr = u32::from_le_bytes(get(area, MXCSR_AT));
    check_mxcsr(mxcsr)?;
    Ok(mxcsr)
}

/// The linear address of an area that must be aligned.
pub(super) fn area_linear(
    cpu: &mut Cpu,
    op: &Op,
    bytes: u64,
    alignment: u64,
    access: Access,
) -> Result<u64, Exception> {
    let linear = cpu.operand_linear(op, bytes, access)?;
    if linear & (alignment - 1) != 0 {
        return Err(Exception::gp(0));
    }
    // An area is accessed in parts, which do not know the segment.
    if cpu.is_canonical(linear) && cpu.is_canonical(linear.wrapping_add(bytes - 1)) {
        Ok(linear)
    } else {
        Err(stack_fault(op, Exception::gp(0)))
    }
}

fn save(cpu: &mut Cpu, op: &Op, pointers: Pointers) -> Result<(), Exception> {
    let linear = area_linear(cpu, op, LEGACY_BYTES as u64, 16, Access::Write)?;
    let mut area = [0; LEGACY_BYTES];
    let count = xmm_count(cpu);
    save_x87(&cpu.state.x87, pointers, &mut area);
    save_mxcsr(&cpu.state, &mut area);
    save_xmm(&cpu.state, count, &mut area);
    // The rest of the area belongs to software.
    cpu.write_bytes(linear, &area[..XMM_AT + 16 * usize::from(count)])
}

fn restore(cpu: &mut Cpu, op: &Op, pointers: Pointers) -> Result<(), Exception> {
    let linear = area_linear(cpu, op, LEGACY_BYTES as u64, 16, Access::Read)?;
    let mut area = [0; LEGACY_BYTES];
    cpu.read_bytes(linear, &mut area)?;
    cpu.state.mxcsr = mxcsr_from(&area)?;
    cpu.state.x87 = x87_from(&area, pointers);
    let count = xmm_count(cpu);
    load_xmm(&mut cpu.state, count, &area);
    Ok(())
}

pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    Some(match instruction.code() {
        Code::Fxsave_m512byte => |cpu, op| save(cpu, op, Pointers::Selectors),
        Code::Fxsave64_m512byte => |cpu, op| save(cpu, op, Pointers::Offsets64),
        Code::Fxrstor_m512byte => |cpu, op| restore(cpu, op, Pointers::Selectors),
        Code::Fxrstor64_m512byte => |cpu, op| restore(cpu, op, Pointers::Offsets64),
        _ => return None,
    })
}
