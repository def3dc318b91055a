//! Data movement between XMM, MMX and general registers and memory (SDM vol. 1, 5.4.1, 5.5.1.1, 5.6.1.1).

use super::lanes::Vector;
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::op::{Op, reg};
use crate::ops::{Hard, MicroOps};
use crate::width::{W32, W64};
use iced_x86::{Code, Instruction, Mnemonic};
use rx86_softmmu::Access;

fn movd_to_mmx(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    cpu.mmx_check()?;
    let value = read_general::<W32>(cpu, op)?;
    cpu.mmx_enter();
    cpu.set_mmx(op.regs[0], value);
    Ok(())
}

fn movq_to_mmx(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    cpu.mmx_check()?;
    let value = read_general::<W64>(cpu, op)?;
    cpu.mmx_enter();
    cpu.set_mmx(op.regs[0], value);
    Ok(())
}

fn movd_from_mmx(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    cpu.mmx_check()?;
    let value = cpu.mmx(op.regs[1]);
    write_general::<W32>(cpu, op, value & 0xffff_ffff)?;
    cpu.mmx_enter();
    Ok(())
}

fn movq_from_mmx(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    cpu.mmx_check()?;
    let value = cpu.mmx(op.regs[1]);
    write_general::<W64>(cpu, op, value)?;
    cpu.mmx_enter();
    Ok(())
}

/// MOVQ between MMX registers and memory, and MOVNTQ.
fn movq_mmx(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    cpu.mmx_check()?;
    let value = cpu.mmx_source(op, 1)?;
    if op.regs[0] == reg::NONE {
        cpu.store_bytes(op, value.to_le_bytes())?;
        cpu.mmx_enter();
    } else {
        cpu.mmx_enter();
        cpu.set_mmx(op.regs[0], value);
    }
    Ok(())
}

fn movq2dq(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    cpu.mmx_check()?;
    cpu.mmx_enter();
    let value = cpu.mmx(op.regs[1]);
    cpu.set_vector(op.regs[0], Vector::from_low(value));
    Ok(())
}

fn movdq2q(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    cpu.mmx_check()?;
    cpu.mmx_enter();
    let value = cpu.vector(op.regs[1]).low();
    cpu.set_mmx(op.regs[0], value);
    Ok(())
}

/// Operand 1: a general register or memory.
#[inline(always)]
pub(super) fn read_general<W: crate::width::Width>(cpu: &mut Cpu, op: &Op) -> Result<u64, Exception> {
    match op.regs[1] {
        reg::NONE => cpu.load::<W>(op),
        register => Ok(cpu.get::<W>(register)),
    }
}

/// Writes operand 0: a general register or memory.
#[inline(always)]
pub(super) fn write_general<W: crate::width::Width>(
    cpu: &mut Cpu,
    op: &Op,
    value: u64,
) -> Result<(), Exception> {
    match op.regs[0] {
        reg::NONE => cpu.store::<W>(op, value)?,
        register => cpu.put::<W>(register, value),
    }
    Ok(())
}

/// The most significant bits of `count` lanes of `width` bits, lane 0 lowest.
#[inline(always)]
pub(super) fn sign_mask(vector: Vector, width: u32, count: u32) -> u64 {
    let vector = vector.bits();
    (0..count).fold(0, |mask, i| mask | ((vector >> (width * i + width - 1)) as u64 & 1) << i)
}

/// PMOVMSKB's gather: the eight sign bits of a quadword of bytes, moved together by one multiplication.
#[inline(always)]
fn byte_signs(quad: u64) -> u64 {
    (quad & 0x8080_8080_8080_8080).wrapping_mul(0x0002_0408_1020_4081) >> 56
}

/// PMOVMSKB.
#[inline(always)]
pub(crate) fn pmovmskb(vector: Vector) -> u64 {
    byte_signs(vector.low()) | byte_signs(vector.high()) << 8
}

fn pmovmskb_mmx(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    cpu.mmx_check()?;
    cpu.mmx_enter();
    let mask = byte_signs(cpu.mmx(op.regs[1]));
    cpu.put::<W64>(op.regs[0], mask);
    Ok(())
}

/// Stores at DS:rDI the bytes of `data` whose mask byte has bit 7 set. Nothing is stored unless all of them can be.
fn masked_store(cpu: &mut Cpu, op: &Op, data: &[u8], mask: &[u8]) -> Result<(), Exception> {
    let start = cpu.state.regs[usize::from(reg::RDI)];
    let mut addresses = [None; 16];
    for (i, (address, mask)) in addresses.iter_mut().zip(mask).enumerate() {
        if mask & 0x80 != 0 {
            let offset = start.wrapping_add(i as u64) & op.address_mask();
            let linear = cpu.segment_linear(usize::from(op.segment), offset, 1, Access::Write)?;
            cpu.probe_write(linear, 1)?;
            *address = Some(linear);
        }
    }
    for (address, &byte) in addresses.iter().zip(data) {
        if let Some(linear) = *address {
            cpu.write_linear(linear, [byte])?;
        }
    }
    Ok(())
}

pub(super) fn maskmovdqu(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let (data, mask) = (cpu.vector(op.regs[1]), cpu.vector(op.regs[2]));
    masked_store(cpu, op, &data.to_bytes(), &mask.to_bytes())
}

fn maskmovq(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    cpu.mmx_check()?;
    let (data, mask) = (cpu.mmx(op.regs[1]), cpu.mmx(op.regs[2]));
    masked_store(cpu, op, &data.to_le_bytes(), &mask.to_le_bytes())?;
    cpu.mmx_enter();
    Ok(())
}

/// Moves that MMX, XMM and general registers share a mnemonic for.
fn select_by_code(instruction: &Instruction) -> Option<Hard> {
    use Code::*;
    Some(match instruction.code() {
        Movd_mm_rm32 => movd_to_mmx,
        Movq_mm_rm64 => movq_to_mmx,
        Movd_rm32_mm => movd_from_mmx,
        Movq_rm64_mm => movq_from_mmx,
        Movq_mm_mmm64 | Movq_mmm64_mm | Movntq_m64_mm => movq_mmx,
        Pmovmskb_r32_mm | Pmovmskb_r64_mm => pmovmskb_mmx,
        _ => return None,
    })
}

pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    use Mnemonic::*;
    Some(match instruction.mnemonic() {
        Movq2dq => movq2dq,
        Movdq2q => movdq2q,
        Maskmovdqu => maskmovdqu,
        Maskmovq => maskmovq,
        _ => return select_by_code(instruction),
    })
}
