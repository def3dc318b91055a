//! Data movement between XMM, MMX and general registers and memory (SDM vol. 1, 5.4.1, 5.5.1.1, 5.6.1.1).

use super::lanes::Vector;
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::op::{Op, reg};
use crate::ops::{Hard, MicroOps};
use crate::width::{W32, W64};
use iced_x86::{Code, Instruction, Mnemonic};
use rx86_softmmu::Access;

/// MOVAPS and relatives: aligned.
fn mov_aligned(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let value = cpu.xmm_source(op, 1)?;
    cpu.put_xmm(op, value)
}

/// MOVUPS and relatives: anywhere.
fn mov_unaligned(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let value = cpu.xmm_source_unaligned(op, 1)?;
    if op.regs[0] != reg::NONE {
        cpu.set_vector(op.regs[0], value);
        return Ok(());
    }
    cpu.store_bytes(op, value.to_bytes())
}

/// MOVSS, MOVSD: a load clears the rest of the register, a register move keeps it.
fn movss(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let value = cpu.double_source(op, 1)?;
    if op.regs[0] == reg::NONE {
        return cpu.store_bytes(op, value.to_le_bytes());
    }
    if op.regs[1] == reg::NONE {
        cpu.set_vector(op.regs[0], Vector::from_low(u64::from(value)));
    } else {
        cpu.set_low_double(op.regs[0], value);
    }
    Ok(())
}

fn movsd(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let value = cpu.quad_source(op, 1)?;
    if op.regs[0] == reg::NONE {
        return cpu.store_bytes(op, value.to_le_bytes());
    }
    if op.regs[1] == reg::NONE {
        cpu.set_vector(op.regs[0], Vector::from_low(value));
    } else {
        cpu.set_low_quad(op.regs[0], value);
    }
    Ok(())
}

/// MOVQ between XMM registers and memory.
fn movq_xmm(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let value = cpu.quad_source(op, 1)?;
    if op.regs[0] == reg::NONE {
        return cpu.store_bytes(op, value.to_le_bytes());
    }
    cpu.set_vector(op.regs[0], Vector::from_low(value));
    Ok(())
}

/// MOVLPS, MOVLPD, MOVHLPS: the low quadword of operand 0 from memory, or from the high quadword of a register.
fn load_low(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let value = match op.regs[1] {
        reg::NONE => u64::from_le_bytes(cpu.load_bytes(op)?),
        register => cpu.vector(register).high(),
    };
    cpu.set_low_quad(op.regs[0], value);
    Ok(())
}

/// MOVHPS, MOVHPD, MOVLHPS: the high quadword of operand 0 from memory, or from the low quadword of a register.
fn load_high(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let value = cpu.quad_source(op, 1)?;
    cpu.state.zmm[usize::from(op.regs[0] & 31)].0[1] = value;
    Ok(())
}

pub(super) fn store_high(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let value = cpu.vector(op.regs[1]).high();
    cpu.store_bytes(op, value.to_le_bytes())
}

fn movddup(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let value = cpu.quad_source(op, 1)?;
    cpu.set_vector(op.regs[0], Vector([value, value]));
    Ok(())
}

pub(super) fn movd_to_xmm(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let value = read_general::<W32>(cpu, op)?;
    cpu.set_vector(op.regs[0], Vector::from_low(value));
    Ok(())
}

pub(super) fn movq_to_xmm(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let value = read_general::<W64>(cpu, op)?;
    cpu.set_vector(op.regs[0], Vector::from_low(value));
    Ok(())
}

pub(super) fn movd_from_xmm(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let value = cpu.vector(op.regs[1]).low() as u32;
    write_general::<W32>(cpu, op, u64::from(value))
}

pub(super) fn movq_from_xmm(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let value = cpu.vector(op.regs[1]).low();
    write_general::<W64>(cpu, op, value)
}

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

fn movnti32(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let value = cpu.get::<W32>(op.regs[1]);
    cpu.store::<W32>(op, value)
}

fn movnti64(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let value = cpu.get::<W64>(op.regs[1]);
    cpu.store::<W64>(op, value)
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

fn pmovmskb_xmm(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let mask = pmovmskb(cpu.vector(op.regs[1]));
    cpu.put::<W64>(op.regs[0], mask);
    Ok(())
}

fn pmovmskb_mmx(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    cpu.mmx_check()?;
    cpu.mmx_enter();
    let mask = byte_signs(cpu.mmx(op.regs[1]));
    cpu.put::<W64>(op.regs[0], mask);
    Ok(())
}

fn movmskps(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let mask = sign_mask(cpu.vector(op.regs[1]), 32, 4);
    cpu.put::<W64>(op.regs[0], mask);
    Ok(())
}

fn movmskpd(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let mask = sign_mask(cpu.vector(op.regs[1]), 64, 2);
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
        Movsd_xmm_xmmm64 | Movsd_xmmm64_xmm => movsd,
        Movd_xmm_rm32 => movd_to_xmm,
        Movq_xmm_rm64 => movq_to_xmm,
        Movd_rm32_xmm => movd_from_xmm,
        Movq_rm64_xmm => movq_from_xmm,
        Movq_xmm_xmmm64 | Movq_xmmm64_xmm => movq_xmm,
        Movd_mm_rm32 => movd_to_mmx,
        Movq_mm_rm64 => movq_to_mmx,
        Movd_rm32_mm => movd_from_mmx,
        Movq_rm64_mm => movq_from_mmx,
        Movq_mm_mmm64 | Movq_mmm64_mm | Movntq_m64_mm => movq_mmx,
        Movlps_xmm_m64 | Movlpd_xmm_m64 | Movhlps_xmm_xmm => load_low,
        Movhps_xmm_m64 | Movhpd_xmm_m64 | Movlhps_xmm_xmm => load_high,
        Movlps_m64_xmm | Movlpd_m64_xmm => movq_xmm,
        Movhps_m64_xmm | Movhpd_m64_xmm => store_high,
        Pmovmskb_r32_xmm | Pmovmskb_r64_xmm => pmovmskb_xmm,
        Pmovmskb_r32_mm | Pmovmskb_r64_mm => pmovmskb_mmx,
        Movnti_m32_r32 => movnti32,
        Movnti_m64_r64 => movnti64,
        _ => return None,
    })
}

pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    use Mnemonic::*;
    Some(match instruction.mnemonic() {
        Movaps | Movapd | Movdqa | Movntps | Movntpd | Movntdq | Movntdqa => mov_aligned,
        Movups | Movupd | Movdqu | Lddqu => mov_unaligned,
        Movss => movss,
        Movddup => movddup,
        Movq2dq => movq2dq,
        Movdq2q => movdq2q,
        Movmskps => movmskps,
        Movmskpd => movmskpd,
        Maskmovdqu => maskmovdqu,
        Maskmovq => maskmovq,
        _ => return select_by_code(instruction),
    })
}
