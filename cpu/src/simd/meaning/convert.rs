//! Conversions between integers and floating point, and between the precisions (SDM vol. 1, 5.5.1.6, 5.6.1.6, 14.1).

use super::{double, put, put_double_of, put_single_of, single, sources};
use crate::float::IntSize;
use crate::op::{Op, reg};
use crate::ops::Meaning;
use crate::simd::packed::{Conversion, Psrldq, Punpcklqdq};
use crate::vector_ops::VectorOps;
use crate::width::{W32, W64, Width};
use iced_x86::{Code, Instruction, Mnemonic};

fn size_of<W: Width>() -> IntSize {
    if W::BITS == 32 { IntSize::I32 } else { IntSize::I64 }
}

/// CVTSS2SD.
fn widen<M: VectorOps, const VEX: bool>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    m.need_floating_point()?;
    let source = single(m, op, if VEX { 2 } else { 1 })?;
    let value = m.widen(source)?;
    replace_double::<M, VEX>(m, op, value);
    Ok(())
}

/// CVTSD2SS.
fn narrow<M: VectorOps, const VEX: bool>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    m.need_floating_point()?;
    let source = double(m, op, if VEX { 2 } else { 1 })?;
    let value = m.narrow(source)?;
    replace_single::<M, VEX>(m, op, value);
    Ok(())
}

#[inline(always)]
fn replace_double<M: VectorOps, const VEX: bool>(m: &mut M, op: &Op, value: M::Double) {
    if VEX {
        put_double_of(m, op, value);
    } else {
        m.set_double(op.regs[0], 0, value);
    }
}

#[inline(always)]
fn replace_single<M: VectorOps, const VEX: bool>(m: &mut M, op: &Op, value: M::Single) {
    if VEX {
        put_single_of(m, op, value);
    } else {
        m.set_single(op.regs[0], value);
    }
}

/// The integer operand: a general register, or memory.
#[inline(always)]
fn integer<M: VectorOps, W: Width, const VEX: bool>(m: &mut M, op: &Op) -> Result<M::Int, M::Fault> {
    match op.regs[if VEX { 2 } else { 1 }] {
        reg::NONE => m.load::<W>(op),
        register => Ok(m.get::<W>(register)),
    }
}

/// CVTSI2SD.
fn int_to_double<M: VectorOps, W: Width, const VEX: bool>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    m.need_floating_point()?;
    let source = integer::<M, W, VEX>(m, op)?;
    let value = m.double_of_int(source, size_of::<W>())?;
    replace_double::<M, VEX>(m, op, value);
    Ok(())
}

/// CVTSI2SS.
fn int_to_single<M: VectorOps, W: Width, const VEX: bool>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    m.need_floating_point()?;
    let source = integer::<M, W, VEX>(m, op)?;
    let value = m.single_of_int(source, size_of::<W>())?;
    replace_single::<M, VEX>(m, op, value);
    Ok(())
}

/// CVTTSD2SI, CVTSD2SI.
fn double_to_int<M: VectorOps, W: Width, const TRUNCATE: bool>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    m.need_floating_point()?;
    let source = double(m, op, 1)?;
    let value = m.int_of_double(source, size_of::<W>(), TRUNCATE)?;
    m.put::<W>(op.regs[0], value);
    Ok(())
}

/// CVTTSS2SI, CVTSS2SI.
fn single_to_int<M: VectorOps, W: Width, const TRUNCATE: bool>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    m.need_floating_point()?;
    let source = single(m, op, 1)?;
    let value = m.int_of_single(source, size_of::<W>(), TRUNCATE)?;
    m.put::<W>(op.regs[0], value);
    Ok(())
}

// `Conversion` as a constant parameter.
const INTS_TO_SINGLES: u8 = 0;
const TRUNCATE_SINGLES: u8 = 1;
const ROUND_SINGLES: u8 = 2;
const TRUNCATE_DOUBLES: u8 = 3;
const ROUND_DOUBLES: u8 = 4;
const NARROW: u8 = 5;
const WIDEN: u8 = 6;
const INTS_TO_DOUBLES: u8 = 7;

const fn conversion(conversion: u8) -> Conversion {
    match conversion {
        INTS_TO_SINGLES => Conversion::IntsToSingles,
        TRUNCATE_SINGLES => Conversion::TruncateSingles,
        ROUND_SINGLES => Conversion::RoundSingles,
        TRUNCATE_DOUBLES => Conversion::TruncateDoubles,
        ROUND_DOUBLES => Conversion::RoundDoubles,
        NARROW => Conversion::Narrow,
        WIDEN => Conversion::Widen,
        _ => Conversion::IntsToDoubles,
    }
}

/// A conversion of 128 bits.
fn packed<M: VectorOps, const C: u8>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    m.need_floating_point()?;
    let source = sources::<M, 1>(m, op, 1, true)?;
    let [value] = m.convert(conversion(C), source)?;
    m.set_vector(op.regs[0], value);
    Ok(())
}

/// A conversion that keeps the size.
fn vex_packed<M: VectorOps, const C: u8, const N: usize>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    m.need_floating_point()?;
    let source = sources::<M, N>(m, op, 1, false)?;
    let value = m.convert(conversion(C), source)?;
    put(m, op.regs[0], value);
    Ok(())
}

/// A conversion to half as many bits.
fn vex_narrow<M: VectorOps, const C: u8, const N: usize>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    m.need_floating_point()?;
    let source = sources::<M, N>(m, op, 1, false)?;
    let value = m.convert(conversion(C), source)?;
    let joined = match value.get(1) {
        Some(&upper) => m.packed::<Punpcklqdq>(value[0], upper, 0),
        None => value[0],
    };
    put(m, op.regs[0], [joined]);
    Ok(())
}

/// A conversion to twice as many bits, from the low half.
fn from_half<M: VectorOps, const C: u8, const VEX: bool>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    m.need_floating_point()?;
    let source = match op.regs[1] {
        reg::NONE => {
            let value = m.load_double(op)?;
            m.vector_of_double(value)
        }
        register => m.vector(register),
    };
    let [value] = m.convert(conversion(C), [source])?;
    m.set_vector(op.regs[0], value);
    if VEX {
        m.clear_upper(op.regs[0]);
    }
    Ok(())
}

/// The same from 128 to 256 bits.
fn from_vector<M: VectorOps, const C: u8>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    m.need_floating_point()?;
    let [low] = sources::<M, 1>(m, op, 1, false)?;
    let high = m.packed::<Psrldq>(low, low, 8);
    let value = m.convert(conversion(C), [low, high])?;
    put(m, op.regs[0], value);
    Ok(())
}

fn select_general<M: VectorOps>(instruction: &Instruction) -> Option<Meaning<M>> {
    use Code::*;
    Some(match instruction.code() {
        Cvtsi2ss_xmm_rm32 => int_to_single::<M, W32, false>,
        Cvtsi2ss_xmm_rm64 => int_to_single::<M, W64, false>,
        Cvtsi2sd_xmm_rm32 => int_to_double::<M, W32, false>,
        Cvtsi2sd_xmm_rm64 => int_to_double::<M, W64, false>,
        VEX_Vcvtsi2ss_xmm_xmm_rm32 => int_to_single::<M, W32, true>,
        VEX_Vcvtsi2ss_xmm_xmm_rm64 => int_to_single::<M, W64, true>,
        VEX_Vcvtsi2sd_xmm_xmm_rm32 => int_to_double::<M, W32, true>,
        VEX_Vcvtsi2sd_xmm_xmm_rm64 => int_to_double::<M, W64, true>,
        Cvttss2si_r32_xmmm32 | VEX_Vcvttss2si_r32_xmmm32 => single_to_int::<M, W32, true>,
        Cvttss2si_r64_xmmm32 | VEX_Vcvttss2si_r64_xmmm32 => single_to_int::<M, W64, true>,
        Cvttsd2si_r32_xmmm64 | VEX_Vcvttsd2si_r32_xmmm64 => double_to_int::<M, W32, true>,
        Cvttsd2si_r64_xmmm64 | VEX_Vcvttsd2si_r64_xmmm64 => double_to_int::<M, W64, true>,
        Cvtss2si_r32_xmmm32 | VEX_Vcvtss2si_r32_xmmm32 => single_to_int::<M, W32, false>,
        Cvtss2si_r64_xmmm32 | VEX_Vcvtss2si_r64_xmmm32 => single_to_int::<M, W64, false>,
        Cvtsd2si_r32_xmmm64 | VEX_Vcvtsd2si_r32_xmmm64 => double_to_int::<M, W32, false>,
        Cvtsd2si_r64_xmmm64 | VEX_Vcvtsd2si_r64_xmmm64 => double_to_int::<M, W64, false>,
        _ => return None,
    })
}

pub(super) fn select<M: VectorOps>(instruction: &Instruction, wide: bool) -> Option<Meaning<M>> {
    use Mnemonic::*;
    Some(match instruction.mnemonic() {
        Cvtss2sd => widen::<M, false>,
        Vcvtss2sd => widen::<M, true>,
        Cvtsd2ss => narrow::<M, false>,
        Vcvtsd2ss => narrow::<M, true>,
        Cvtdq2ps => packed::<M, INTS_TO_SINGLES>,
        Cvttps2dq => packed::<M, TRUNCATE_SINGLES>,
        Cvtps2dq => packed::<M, ROUND_SINGLES>,
        Cvttpd2dq => packed::<M, TRUNCATE_DOUBLES>,
        Cvtpd2dq => packed::<M, ROUND_DOUBLES>,
        Cvtpd2ps => packed::<M, NARROW>,
        Cvtps2pd => from_half::<M, WIDEN, false>,
        Cvtdq2pd => from_half::<M, INTS_TO_DOUBLES, false>,
        Vcvtdq2ps if wide => vex_packed::<M, INTS_TO_SINGLES, 2>,
        Vcvtdq2ps => vex_packed::<M, INTS_TO_SINGLES, 1>,
        Vcvttps2dq if wide => vex_packed::<M, TRUNCATE_SINGLES, 2>,
        Vcvttps2dq => vex_packed::<M, TRUNCATE_SINGLES, 1>,
        Vcvtps2dq if wide => vex_packed::<M, ROUND_SINGLES, 2>,
        Vcvtps2dq => vex_packed::<M, ROUND_SINGLES, 1>,
        Vcvttpd2dq if wide => vex_narrow::<M, TRUNCATE_DOUBLES, 2>,
        Vcvttpd2dq => vex_narrow::<M, TRUNCATE_DOUBLES, 1>,
        Vcvtpd2dq if wide => vex_narrow::<M, ROUND_DOUBLES, 2>,
        Vcvtpd2dq => vex_narrow::<M, ROUND_DOUBLES, 1>,
        Vcvtpd2ps if wide => vex_narrow::<M, NARROW, 2>,
        Vcvtpd2ps => vex_narrow::<M, NARROW, 1>,
        Vcvtps2pd if wide => from_vector::<M, WIDEN>,
        Vcvtps2pd => from_half::<M, WIDEN, true>,
        Vcvtdq2pd if wide => from_vector::<M, INTS_TO_DOUBLES>,
        Vcvtdq2pd => from_half::<M, INTS_TO_DOUBLES, true>,
        _ => return select_general::<M>(instruction),
    })
}
