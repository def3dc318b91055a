//! Conversions between integers and floating point, and between the precisions (SDM vol. 1, 14.1).

use super::operand::{Lanes, raise_lanes, unary_float, with_low_double};
use super::rows;
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::float::IntSize;
use crate::op::{Op, reg};
use crate::ops::Hard;
use crate::simd::convert::{
    cvtdq2pd, cvtdq2ps, cvtpd2dq, cvtpd2ps, cvtps2dq, cvtps2pd, sd_to_int, ss_to_int,
};
use crate::simd::lanes::Vector;
use crate::simd::quick;
use crate::width::{W32, W64, Width};
use iced_x86::{Code, Instruction, Mnemonic};

/// Half as many bits as the result has: a quadword for each lane of it.
pub(super) fn quads<const N: usize>(cpu: &mut Cpu, op: &Op) -> Result<[u64; N], Exception> {
    let source = match (op.regs[1], N) {
        (reg::NONE, 1) => Vector::from_low(u64::from_le_bytes(cpu.load_bytes(op)?)),
        (reg::NONE, _) => Vector::from_bytes(cpu.load_bytes(op)?),
        (register, _) => cpu.vector(register),
    };
    Ok(std::array::from_fn(|i| source.0[i]))
}

fn widen_ps<const N: usize>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let source = quads::<N>(cpu, op)?;
    let value = raise_lanes::<N>(cpu, |i, mxcsr| cvtps2pd(source[i], mxcsr))?;
    cpu.set_lanes(op.regs[0], value);
    Ok(())
}

fn widen_dq<const N: usize>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let source = quads::<N>(cpu, op)?;
    cpu.set_lanes::<N>(op.regs[0], source.map(cvtdq2pd));
    Ok(())
}

/// Conversions to half as many bits: the low quadwords of all lanes' results side by side.
#[inline(always)]
fn narrow<const N: usize>(
    cpu: &mut Cpu,
    op: &Op,
    leaf: impl Fn(Vector, u32) -> (Vector, u16),
) -> Result<(), Exception> {
    let source = cpu.lanes_source::<N>(op, 1)?;
    let value: Lanes<N> = raise_lanes(cpu, |i, mxcsr| leaf(source[i], mxcsr))?;
    let high = value.get(1).map_or(0, |lane| lane.low());
    cpu.set_only_vector(op.regs[0], Vector([value[0].low(), high]));
    Ok(())
}

rows! { select_packed:
    Vcvtdq2ps => unary_float(cvtdq2ps);
    Vcvtps2dq => unary_float(|_, b, mxcsr| cvtps2dq(b, false, mxcsr));
    Vcvttps2dq => unary_float(|_, b, mxcsr| cvtps2dq(b, true, mxcsr));
    Vcvtpd2dq => narrow(|b, mxcsr| cvtpd2dq(b, false, mxcsr));
    Vcvttpd2dq => narrow(|b, mxcsr| cvtpd2dq(b, true, mxcsr));
    Vcvtpd2ps => narrow(|b, mxcsr| cvtpd2ps(b, b, mxcsr));
    Vcvtps2pd => widen_ps;
    Vcvtdq2pd => widen_dq;
}

fn cvtss2sd(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let source = cpu.double_source(op, 2)?;
    let (value, flags) = quick::f32_to_f64(source, cpu.state.mxcsr);
    cpu.raise_simd(flags)?;
    set_low_quad_of(cpu, op, value);
    Ok(())
}

fn cvtsd2ss(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let source = cpu.quad_source(op, 2)?;
    let (value, flags) = quick::f64_to_f32(source, cpu.state.mxcsr);
    cpu.raise_simd(flags)?;
    cpu.set_only_vector(op.regs[0], with_low_double(cpu.vector(op.regs[1]), value));
    Ok(())
}

/// op0 is op1 with another low quadword.
fn set_low_quad_of(cpu: &mut Cpu, op: &Op, low: u64) {
    let high = cpu.vector(op.regs[1]).high();
    cpu.set_only_vector(op.regs[0], Vector([low, high]));
}

/// op2, a general register or memory of width `W`, sign-extended.
fn integer<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<i64, Exception> {
    let value = cpu.general_source::<W>(op, 2)?;
    Ok(if W::BITS == 32 { i64::from(value as i32) } else { value as i64 })
}

fn cvtsi2ss<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let source = integer::<W>(cpu, op)?;
    let (value, flags) = quick::int_to_f32(source, cpu.state.mxcsr);
    cpu.raise_simd(flags)?;
    cpu.set_only_vector(op.regs[0], with_low_double(cpu.vector(op.regs[1]), value));
    Ok(())
}

fn cvtsi2sd<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let source = integer::<W>(cpu, op)?;
    let (value, flags) = quick::int_to_f64(source, cpu.state.mxcsr);
    cpu.raise_simd(flags)?;
    set_low_quad_of(cpu, op, value);
    Ok(())
}

fn select_by_code(instruction: &Instruction) -> Option<Hard> {
    use Code::*;
    Some(match instruction.code() {
        VEX_Vcvtsi2ss_xmm_xmm_rm32 => cvtsi2ss::<W32>,
        VEX_Vcvtsi2ss_xmm_xmm_rm64 => cvtsi2ss::<W64>,
        VEX_Vcvtsi2sd_xmm_xmm_rm32 => cvtsi2sd::<W32>,
        VEX_Vcvtsi2sd_xmm_xmm_rm64 => cvtsi2sd::<W64>,
        VEX_Vcvtss2si_r32_xmmm32 => |cpu, op| ss_to_int(cpu, op, IntSize::I32, false),
        VEX_Vcvtss2si_r64_xmmm32 => |cpu, op| ss_to_int(cpu, op, IntSize::I64, false),
        VEX_Vcvttss2si_r32_xmmm32 => |cpu, op| ss_to_int(cpu, op, IntSize::I32, true),
        VEX_Vcvttss2si_r64_xmmm32 => |cpu, op| ss_to_int(cpu, op, IntSize::I64, true),
        VEX_Vcvtsd2si_r32_xmmm64 => |cpu, op| sd_to_int(cpu, op, IntSize::I32, false),
        VEX_Vcvtsd2si_r64_xmmm64 => |cpu, op| sd_to_int(cpu, op, IntSize::I64, false),
        VEX_Vcvttsd2si_r32_xmmm64 => |cpu, op| sd_to_int(cpu, op, IntSize::I32, true),
        VEX_Vcvttsd2si_r64_xmmm64 => |cpu, op| sd_to_int(cpu, op, IntSize::I64, true),
        _ => return None,
    })
}

pub(super) fn select(instruction: &Instruction, wide: bool) -> Option<Hard> {
    match instruction.mnemonic() {
        Mnemonic::Vcvtss2sd => Some(cvtss2sd),
        Mnemonic::Vcvtsd2ss => Some(cvtsd2ss),
        _ => select_packed(instruction, wide).or_else(|| select_by_code(instruction)),
    }
}
