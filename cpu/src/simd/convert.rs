//! Conversions between integers and floating point, and between the precisions (SDM vol. 1, 5.5.1.6, 5.6.1.6, 11.4.1.6).

use super::float::settle;
use super::lanes::{Lane, Vector};
use super::moves::read_general;
use super::operand::packed_float;
use super::quick;
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::float::IntSize;
use crate::op::{Op, reg};
use crate::ops::{Hard, MicroOps};
use crate::width::{W32, W64};
use iced_x86::{Code, Instruction, Mnemonic};

/// CVTDQ2PS.
pub(crate) fn cvtdq2ps(_a: Vector, b: Vector, mxcsr: u32) -> (Vector, u16) {
    let b = i32::split(b);
    gather_f32(4, mxcsr, |i| quick::int_to_f32(i64::from(b[i]), mxcsr))
}

/// CVTPS2DQ, CVTTPS2DQ when `truncate`.
pub(crate) fn cvtps2dq(b: Vector, truncate: bool, mxcsr: u32) -> (Vector, u16) {
    let b = u32::split(b);
    gather_f32(4, mxcsr, |i| {
        let (value, flags) = quick::f32_to_int(b[i], IntSize::I32, truncate, mxcsr);
        (value as u32, flags)
    })
}

/// CVTPD2DQ, CVTTPD2DQ when `truncate`; the high half becomes zero.
pub(crate) fn cvtpd2dq(b: Vector, truncate: bool, mxcsr: u32) -> (Vector, u16) {
    let b = u64::split(b);
    gather_f32(2, mxcsr, |i| {
        let (value, flags) = quick::f64_to_int(b[i], IntSize::I32, truncate, mxcsr);
        (value as u32, flags)
    })
}

/// CVTPD2PS; the high half becomes zero.
pub(crate) fn cvtpd2ps(_a: Vector, b: Vector, mxcsr: u32) -> (Vector, u16) {
    let b = u64::split(b);
    gather_f32(2, mxcsr, |i| quick::f64_to_f32(b[i], mxcsr))
}

/// CVTPS2PD, from the low half.
pub(crate) fn cvtps2pd(b: u64, mxcsr: u32) -> (Vector, u16) {
    let (low, raised_low) = quick::f32_to_f64(b as u32, mxcsr);
    let (high, raised_high) = quick::f32_to_f64((b >> 32) as u32, mxcsr);
    (u64::join([low, high]), settle(raised_low | raised_high, mxcsr))
}

/// CVTDQ2PD and CVTPI2PD, from the low half. It is always exact.
pub(crate) fn cvtdq2pd(b: u64) -> Vector {
    u64::join([f64::from(b as i32).to_bits(), f64::from((b >> 32) as i32).to_bits()])
}

/// `count` doubleword lanes from `lane`; the rest are zero.
#[inline(always)]
fn gather_f32(count: usize, mxcsr: u32, lane: impl Fn(usize) -> (u32, u16)) -> (Vector, u16) {
    let mut flags = 0;
    let result = u32::build(|i| {
        if i >= count {
            return 0;
        }
        let (bits, raised) = lane(i);
        flags |= raised;
        bits
    });
    (result, settle(flags, mxcsr))
}

fn cvtps2pd_xmm(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let source = cpu.quad_source(op, 1)?;
    let (value, flags) = cvtps2pd(source, cpu.state.mxcsr);
    cpu.raise_simd(flags)?;
    cpu.set_vector(op.regs[0], value);
    Ok(())
}

fn cvtdq2pd_xmm(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let source = cpu.quad_source(op, 1)?;
    cpu.set_vector(op.regs[0], cvtdq2pd(source));
    Ok(())
}

fn cvtss2sd(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let source = cpu.double_source(op, 1)?;
    let (value, flags) = quick::f32_to_f64(source, cpu.state.mxcsr);
    cpu.raise_simd(flags)?;
    cpu.set_low_quad(op.regs[0], value);
    Ok(())
}

fn cvtsd2ss(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let source = cpu.quad_source(op, 1)?;
    let (value, flags) = quick::f64_to_f32(source, cpu.state.mxcsr);
    cpu.raise_simd(flags)?;
    cpu.set_low_double(op.regs[0], value);
    Ok(())
}

/// CVTSI2SS from a 32-bit operand.
fn cvtsi2ss_32(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let source = read_general::<W32>(cpu, op)? as i32;
    int_to_ss(cpu, op, i64::from(source))
}

/// CVTSI2SS from a 64-bit operand.
fn cvtsi2ss_64(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let source = read_general::<W64>(cpu, op)? as i64;
    int_to_ss(cpu, op, source)
}

/// CVTSI2SD from a 32-bit operand.
fn cvtsi2sd_32(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let source = read_general::<W32>(cpu, op)? as i32;
    int_to_sd(cpu, op, i64::from(source))
}

/// CVTSI2SD from a 64-bit operand.
fn cvtsi2sd_64(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let source = read_general::<W64>(cpu, op)? as i64;
    int_to_sd(cpu, op, source)
}

#[inline(always)]
fn int_to_ss(cpu: &mut Cpu, op: &Op, source: i64) -> Result<(), Exception> {
    let (value, flags) = quick::int_to_f32(source, cpu.state.mxcsr);
    cpu.raise_simd(flags)?;
    cpu.set_low_double(op.regs[0], value);
    Ok(())
}

#[inline(always)]
fn int_to_sd(cpu: &mut Cpu, op: &Op, source: i64) -> Result<(), Exception> {
    let (value, flags) = quick::int_to_f64(source, cpu.state.mxcsr);
    cpu.raise_simd(flags)?;
    cpu.set_low_quad(op.regs[0], value);
    Ok(())
}

/// Writes an integer result to general register 0, as 32 or 64 bits.
#[inline(always)]
fn put_int(cpu: &mut Cpu, op: &Op, size: IntSize, value: i64) {
    match size {
        IntSize::I32 => cpu.put::<W32>(op.regs[0], u64::from(value as u32)),
        IntSize::I64 => cpu.put::<W64>(op.regs[0], value as u64),
    }
}

#[inline(always)]
pub(super) fn ss_to_int(cpu: &mut Cpu, op: &Op, size: IntSize, truncate: bool) -> Result<(), Exception> {
    let source = cpu.double_source(op, 1)?;
    let (value, flags) = quick::f32_to_int(source, size, truncate, cpu.state.mxcsr);
    cpu.raise_simd(flags)?;
    put_int(cpu, op, size, value);
    Ok(())
}

#[inline(always)]
pub(super) fn sd_to_int(cpu: &mut Cpu, op: &Op, size: IntSize, truncate: bool) -> Result<(), Exception> {
    let source = cpu.quad_source(op, 1)?;
    let (value, flags) = quick::f64_to_int(source, size, truncate, cpu.state.mxcsr);
    cpu.raise_simd(flags)?;
    put_int(cpu, op, size, value);
    Ok(())
}

/// CVTPI2PS: into the low half. With a memory operand silicon does not use the x87's registers at all.
fn cvtpi2ps(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let uses_mmx = op.regs[1] != reg::NONE;
    if uses_mmx {
        cpu.mmx_check()?;
    }
    let source = cpu.mmx_source(op, 1)?;
    let (value, flags) = gather_f32(2, cpu.state.mxcsr, |i| {
        quick::int_to_f32(i64::from((source >> (32 * i)) as i32), cpu.state.mxcsr)
    });
    cpu.raise_simd(flags)?;
    if uses_mmx {
        cpu.mmx_enter();
    }
    cpu.set_low_quad(op.regs[0], value.low());
    Ok(())
}

/// CVTPI2PD: with a memory operand it does not use the x87's registers at all.
fn cvtpi2pd(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    if op.regs[1] != reg::NONE {
        cpu.mmx_check()?;
    }
    let source = cpu.mmx_source(op, 1)?;
    if op.regs[1] != reg::NONE {
        cpu.mmx_enter();
    }
    cpu.set_vector(op.regs[0], cvtdq2pd(source));
    Ok(())
}

/// CVTPS2PI, CVTTPS2PI.
#[inline(always)]
fn cvtps2pi(cpu: &mut Cpu, op: &Op, truncate: bool) -> Result<(), Exception> {
    cpu.mmx_check()?;
    let source = cpu.quad_source(op, 1)?;
    // The unused upper lanes are zeros, which convert without exceptions.
    let (value, flags) = cvtps2dq(Vector::from_low(source), truncate, cpu.state.mxcsr);
    cpu.raise_simd(flags)?;
    cpu.mmx_enter();
    cpu.set_mmx(op.regs[0], value.low());
    Ok(())
}

/// CVTPD2PI, CVTTPD2PI.
#[inline(always)]
fn cvtpd2pi(cpu: &mut Cpu, op: &Op, truncate: bool) -> Result<(), Exception> {
    cpu.mmx_check()?;
    let source = cpu.xmm_source(op, 1)?;
    let (value, flags) = cvtpd2dq(source, truncate, cpu.state.mxcsr);
    cpu.raise_simd(flags)?;
    cpu.mmx_enter();
    cpu.set_mmx(op.regs[0], value.low());
    Ok(())
}

fn select_general(instruction: &Instruction) -> Option<Hard> {
    use Code::*;
    Some(match instruction.code() {
        Cvtsi2ss_xmm_rm32 => cvtsi2ss_32,
        Cvtsi2ss_xmm_rm64 => cvtsi2ss_64,
        Cvtsi2sd_xmm_rm32 => cvtsi2sd_32,
        Cvtsi2sd_xmm_rm64 => cvtsi2sd_64,
        Cvtss2si_r32_xmmm32 => |cpu, op| ss_to_int(cpu, op, IntSize::I32, false),
        Cvtss2si_r64_xmmm32 => |cpu, op| ss_to_int(cpu, op, IntSize::I64, false),
        Cvttss2si_r32_xmmm32 => |cpu, op| ss_to_int(cpu, op, IntSize::I32, true),
        Cvttss2si_r64_xmmm32 => |cpu, op| ss_to_int(cpu, op, IntSize::I64, true),
        Cvtsd2si_r32_xmmm64 => |cpu, op| sd_to_int(cpu, op, IntSize::I32, false),
        Cvtsd2si_r64_xmmm64 => |cpu, op| sd_to_int(cpu, op, IntSize::I64, false),
        Cvttsd2si_r32_xmmm64 => |cpu, op| sd_to_int(cpu, op, IntSize::I32, true),
        Cvttsd2si_r64_xmmm64 => |cpu, op| sd_to_int(cpu, op, IntSize::I64, true),
        _ => return None,
    })
}

pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    use Mnemonic::*;
    Some(match instruction.mnemonic() {
        Cvtdq2ps => |cpu, op| packed_float(cpu, op, cvtdq2ps),
        Cvtps2dq => |cpu, op| packed_float(cpu, op, |_, b, mxcsr| cvtps2dq(b, false, mxcsr)),
        Cvttps2dq => |cpu, op| packed_float(cpu, op, |_, b, mxcsr| cvtps2dq(b, true, mxcsr)),
        Cvtpd2dq => |cpu, op| packed_float(cpu, op, |_, b, mxcsr| cvtpd2dq(b, false, mxcsr)),
        Cvttpd2dq => |cpu, op| packed_float(cpu, op, |_, b, mxcsr| cvtpd2dq(b, true, mxcsr)),
        Cvtpd2ps => |cpu, op| packed_float(cpu, op, cvtpd2ps),
        Cvtps2pd => cvtps2pd_xmm,
        Cvtdq2pd => cvtdq2pd_xmm,
        Cvtss2sd => cvtss2sd,
        Cvtsd2ss => cvtsd2ss,
        Cvtpi2ps => cvtpi2ps,
        Cvtpi2pd => cvtpi2pd,
        Cvtps2pi => |cpu, op| cvtps2pi(cpu, op, false),
        Cvttps2pi => |cpu, op| cvtps2pi(cpu, op, true),
        Cvtpd2pi => |cpu, op| cvtpd2pi(cpu, op, false),
        Cvttpd2pi => |cpu, op| cvtpd2pi(cpu, op, true),
        _ => return select_general(instruction),
    })
}
