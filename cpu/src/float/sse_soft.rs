//! SSE's floating point in portable Rust, per lane and on 128-bit vectors (SDM vol. 1, chapters 10, 11 and 11.5).
//! Each takes the guest's MXCSR and returns the result and the exception flags raised (bits 0 to 5, as in MXCSR).
//! When an unmasked exception is among them, the result is without meaning.

use super::convert::{convert, from_integer, round_to_integer, to_integer};
use super::environment::status::{BEFORE, EXCEPTIONS, PE};
use super::environment::{Env, Rounding};
use super::format::{Class, F16, F32, F64, F80_FORMAT, Format};
use super::round::Value;
use super::{arith, compare};
use std::cmp::Ordering;

/// An arithmetic operation of two lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arith {
    /// a + b.
    Add,
    /// a - b.
    Sub,
    /// a * b.
    Mul,
    /// a / b.
    Div,
    /// The lesser; b when either is a NaN or both are zero.
    Min,
    /// The greater; b when either is a NaN or both are zero.
    Max,
    /// The square root of b; a is ignored.
    Sqrt,
}

/// A fused multiplication and addition of three lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fused {
    /// a * b + c.
    Add,
    /// a * b - c.
    Sub,
    /// a * b - c in even lanes, a * b + c in odd ones.
    AddSub,
    /// a * b + c in even lanes, a * b - c in odd ones.
    SubAdd,
    /// -(a * b) + c.
    NegAdd,
    /// -(a * b) - c.
    NegSub,
}

impl Fused {
    /// Whether lane `lane` negates the product, and whether it negates the addend. NaNs are not negated.
    #[inline(always)]
    pub fn negations(self, lane: u32) -> (bool, bool) {
        let odd = lane & 1 != 0;
        match self {
            Fused::Add => (false, false),
            Fused::Sub => (false, true),
            Fused::AddSub => (false, !odd),
            Fused::SubAdd => (false, odd),
            Fused::NegAdd => (true, false),
            Fused::NegSub => (true, true),
        }
    }
}

/// The size of an integer to convert to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntSize {
    /// 32 bits.
    I32,
    /// 64 bits.
    I64,
}

/// The flags a lane raised: all that mean something to MXCSR.
fn flags(env: &Env) -> u16 {
    env.status & EXCEPTIONS
}

fn arith(format: Format, operation: Arith, a: u128, b: u128, mxcsr: u32) -> (u128, u16) {
    let mut env = Env::sse(mxcsr);
    let env = &mut env;
    let (x, y) = (format.unpack(a, env.daz), format.unpack(b, env.daz));
    let value = match operation {
        Arith::Add => arith::add(env, x, y),
        Arith::Sub => arith::sub(env, x, y),
        Arith::Mul => arith::mul(env, x, y),
        Arith::Div => arith::div(env, x, y),
        Arith::Sqrt => arith::sqrt(env, y),
        Arith::Min | Arith::Max => {
            let wanted = if operation == Arith::Min { Ordering::Less } else { Ordering::Greater };
            let first = compare::compare(env, x, y, false) == Some(wanted);
            let (chosen, bits) = if first { (x, a) } else { (y, b) };
            // A NaN passes as it is; a denormal under DAZ does not.
            let bits = if chosen.class == Class::Zero { format.assemble(chosen.sign, 0, 0) } else { bits };
            return (bits, flags(env));
        }
    };
    let bits = if env.unmasked() & BEFORE != 0 { b } else { format.encode(env, value) };
    (bits, flags(env))
}

/// One single-precision lane.
pub fn arith_f32(operation: Arith, a: u32, b: u32, mxcsr: u32) -> (u32, u16) {
    let (bits, flags) = arith(F32, operation, u128::from(a), u128::from(b), mxcsr);
    (bits as u32, flags)
}

/// One double-precision lane.
pub fn arith_f64(operation: Arith, a: u64, b: u64, mxcsr: u32) -> (u64, u16) {
    let (bits, flags) = arith(F64, operation, u128::from(a), u128::from(b), mxcsr);
    (bits as u64, flags)
}

/// The flags of a vector from those of its lanes: an unmasked exception found before computing in any lane keeps
/// all lanes from computing.
fn settle(flags: u16, mxcsr: u32) -> u16 {
    let unmasked = flags & !Env::sse(mxcsr).masks;
    if unmasked & BEFORE != 0 { flags & BEFORE } else { flags }
}

/// Applies `lane` to every lane of `width` bits, lowest first.
fn lanes(width: u32, a: u128, b: u128, mxcsr: u32, lane: impl Fn(u128, u128) -> (u128, u16)) -> (u128, u16) {
    let mask = (1 << width) - 1;
    let (mut result, mut flags) = (0, 0);
    for shift in (0..128).step_by(width as usize) {
        let (bits, raised) = lane(a >> shift & mask, b >> shift & mask);
        result |= bits << shift;
        flags |= raised;
    }
    (result, settle(flags, mxcsr))
}

/// Four single-precision lanes.
pub fn arith_f32x4(operation: Arith, a: u128, b: u128, mxcsr: u32) -> (u128, u16) {
    lanes(32, a, b, mxcsr, |a, b| arith(F32, operation, a, b, mxcsr))
}

/// Two double-precision lanes.
pub fn arith_f64x2(operation: Arith, a: u128, b: u128, mxcsr: u32) -> (u128, u16) {
    lanes(64, a, b, mxcsr, |a, b| arith(F64, operation, a, b, mxcsr))
}

fn order(format: Format, a: u128, b: u128, quiet: bool, mxcsr: u32) -> (Option<Ordering>, u16) {
    let mut env = Env::sse(mxcsr);
    let (a, b) = (format.unpack(a, env.daz), format.unpack(b, env.daz));
    let order = compare::compare(&mut env, a, b, quiet);
    (order, flags(&env))
}

/// COMISS, or UCOMISS when `quiet`; `None` is unordered.
pub fn order_f32(a: u32, b: u32, quiet: bool, mxcsr: u32) -> (Option<Ordering>, u16) {
    order(F32, u128::from(a), u128::from(b), quiet, mxcsr)
}

/// COMISD, or UCOMISD when `quiet`; `None` is unordered.
pub fn order_f64(a: u64, b: u64, quiet: bool, mxcsr: u32) -> (Option<Ordering>, u16) {
    order(F64, u128::from(a), u128::from(b), quiet, mxcsr)
}

/// One lane of CMPPS and relatives: whether `predicate` (the five-bit form of VCMPPS, of which SSE has 0 to 7) holds.
fn holds(format: Format, predicate: u8, a: u128, b: u128, mxcsr: u32) -> (bool, u16) {
    // Predicates 16 to 31 repeat 0 to 15 with the other answer to QNaNs; LT and LE (1, 2 modulo 4) signal first.
    let signals = matches!(predicate & 3, 1 | 2) != (predicate & 16 != 0);
    let (order, flags) = order(format, a, b, !signals, mxcsr);
    let holds = match predicate & 15 {
        0 => order == Some(Ordering::Equal),
        1 => order == Some(Ordering::Less),
        2 => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        3 => order.is_none(),
        4 => order != Some(Ordering::Equal),
        5 => order != Some(Ordering::Less),
        6 => !matches!(order, Some(Ordering::Less | Ordering::Equal)),
        7 => order.is_some(),
        8 => matches!(order, None | Some(Ordering::Equal)),
        9 => matches!(order, None | Some(Ordering::Less)),
        10 => order != Some(Ordering::Greater),
        11 => false,
        12 => matches!(order, Some(Ordering::Less | Ordering::Greater)),
        13 => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        14 => order == Some(Ordering::Greater),
        _ => true,
    };
    (holds, flags)
}

/// CMPSS: all ones when the predicate holds.
pub fn compare_f32(predicate: u8, a: u32, b: u32, mxcsr: u32) -> (u32, u16) {
    let (holds, flags) = holds(F32, predicate, u128::from(a), u128::from(b), mxcsr);
    (u32::from(holds).wrapping_neg(), flags)
}

/// CMPSD: all ones when the predicate holds.
pub fn compare_f64(predicate: u8, a: u64, b: u64, mxcsr: u32) -> (u64, u16) {
    let (holds, flags) = holds(F64, predicate, u128::from(a), u128::from(b), mxcsr);
    (u64::from(holds).wrapping_neg(), flags)
}

/// CMPPS: lanes are all ones where the predicate holds.
pub fn compare_f32x4(predicate: u8, a: u128, b: u128, mxcsr: u32) -> (u128, u16) {
    lanes(32, a, b, mxcsr, |a, b| {
        let (holds, flags) = holds(F32, predicate, a, b, mxcsr);
        (u128::from(holds) * 0xffff_ffff, flags)
    })
}

/// CMPPD: lanes are all ones where the predicate holds.
pub fn compare_f64x2(predicate: u8, a: u128, b: u128, mxcsr: u32) -> (u128, u16) {
    lanes(64, a, b, mxcsr, |a, b| {
        let (holds, flags) = holds(F64, predicate, a, b, mxcsr);
        (u128::from(holds) * u128::from(u64::MAX), flags)
    })
}

/// CVTSS2SD.
pub fn f32_to_f64(a: u32, mxcsr: u32) -> (u64, u16) {
    let mut env = Env::sse(mxcsr);
    let x = F32.unpack(u128::from(a), env.daz);
    let bits = convert(&mut env, x, F64, true);
    (bits as u64, flags(&env))
}

/// CVTSD2SS.
pub fn f64_to_f32(a: u64, mxcsr: u32) -> (u32, u16) {
    let mut env = Env::sse(mxcsr);
    let x = F64.unpack(u128::from(a), env.daz);
    let bits = convert(&mut env, x, F32, true);
    let flags = if env.unmasked() & BEFORE != 0 { env.status & BEFORE } else { flags(&env) };
    (bits as u32, flags)
}

/// CVTSI2SS; 32-bit sources are sign-extended.
pub fn int_to_f32(a: i64, mxcsr: u32) -> (u32, u16) {
    let mut env = Env::sse(mxcsr);
    (F32.encode(&mut env, from_integer(a)) as u32, flags(&env))
}

/// CVTSI2SD; 32-bit sources are sign-extended.
pub fn int_to_f64(a: i64, mxcsr: u32) -> (u64, u16) {
    let mut env = Env::sse(mxcsr);
    (F64.encode(&mut env, from_integer(a)) as u64, flags(&env))
}

fn to_int(format: Format, a: u128, size: IntSize, truncate: bool, mxcsr: u32) -> (i64, u16) {
    let mut env = Env::sse(mxcsr);
    if truncate {
        env.rounding = Rounding::Zero;
    }
    let bits = if size == IntSize::I32 { 32 } else { 64 };
    let x = format.unpack(a, env.daz);
    (to_integer(&mut env, x, bits), flags(&env))
}

/// CVTSS2SI, or CVTTSS2SI when `truncate`; a 32-bit result is sign-extended.
pub fn f32_to_int(a: u32, size: IntSize, truncate: bool, mxcsr: u32) -> (i64, u16) {
    to_int(F32, u128::from(a), size, truncate, mxcsr)
}

/// CVTSD2SI, or CVTTSD2SI when `truncate`; a 32-bit result is sign-extended.
pub fn f64_to_int(a: u64, size: IntSize, truncate: bool, mxcsr: u32) -> (i64, u16) {
    to_int(F64, u128::from(a), size, truncate, mxcsr)
}

fn round(format: Format, a: u128, control: u8, mxcsr: u32) -> (u128, u16) {
    let mut env = Env::sse(mxcsr);
    if control & 4 == 0 {
        env.rounding = Rounding::from_bits(u32::from(control));
    }
    let x = format.unpack(a, env.daz);
    let value = round_to_integer(&mut env, x, false);
    // A denormal under DAZ is a zero; other values that stay need no rounding.
    let bits = match value {
        Value::Finite(..) if x.exponent >= 63 => a,
        value => format.encode(&mut env, value),
    };
    let suppressed = if control & 8 != 0 { PE } else { 0 };
    (bits, flags(&env) & !suppressed)
}

/// ROUNDSS with its immediate byte.
pub fn round_f32(a: u32, control: u8, mxcsr: u32) -> (u32, u16) {
    let (bits, flags) = round(F32, u128::from(a), control, mxcsr);
    (bits as u32, flags)
}

/// ROUNDSD with its immediate byte.
pub fn round_f64(a: u64, control: u8, mxcsr: u32) -> (u64, u16) {
    let (bits, flags) = round(F64, u128::from(a), control, mxcsr);
    (bits as u64, flags)
}

fn fma(
    format: Format,
    (negate_product, negate_addend): (bool, bool),
    operands: [u128; 3],
    mxcsr: u32,
) -> (u128, u16) {
    let mut env = Env::sse(mxcsr);
    let [mut a, b, mut c] = operands.map(|x| format.unpack(x, env.daz));
    if negate_product {
        a = a.negated();
    }
    if negate_addend {
        c = c.negated();
    }
    let value = arith::fma(&mut env, a, b, c);
    let bits = if env.unmasked() & BEFORE != 0 { 0 } else { format.encode(&mut env, value) };
    (bits, flags(&env))
}

/// Lane 0 of the FMA instructions: plus or minus a * b, plus or minus c, rounded once.
pub fn fma_f32(operation: Fused, a: u32, b: u32, c: u32, mxcsr: u32) -> (u32, u16) {
    let (bits, flags) = fma(F32, operation.negations(0), [a, b, c].map(u128::from), mxcsr);
    (bits as u32, flags)
}

/// As `fma_f32`, in double precision.
pub fn fma_f64(operation: Fused, a: u64, b: u64, c: u64, mxcsr: u32) -> (u64, u16) {
    let (bits, flags) = fma(F64, operation.negations(0), [a, b, c].map(u128::from), mxcsr);
    (bits as u64, flags)
}

fn fma_lanes(format: Format, width: u32, operation: Fused, operands: [u128; 3], mxcsr: u32) -> (u128, u16) {
    let (mut result, mut flags) = (0, 0);
    for lane in 0..128 / width {
        let shift = lane * width;
        let operands = operands.map(|all| all >> shift & ((1 << width) - 1));
        let (bits, raised) = fma(format, operation.negations(lane), operands, mxcsr);
        result |= bits << shift;
        flags |= raised;
    }
    (result, settle(flags, mxcsr))
}

/// Four single-precision lanes.
pub fn fma_f32x4(operation: Fused, a: u128, b: u128, c: u128, mxcsr: u32) -> (u128, u16) {
    fma_lanes(F32, 32, operation, [a, b, c], mxcsr)
}

/// Two double-precision lanes.
pub fn fma_f64x2(operation: Fused, a: u128, b: u128, c: u128, mxcsr: u32) -> (u128, u16) {
    fma_lanes(F64, 64, operation, [a, b, c], mxcsr)
}

/// VCVTPH2PS. Denormals are converted whatever MXCSR says, and raise nothing.
pub fn f16_to_f32(a: u16, mxcsr: u32) -> (u32, u16) {
    let mut env = Env::sse(mxcsr);
    let x = F16.unpack(u128::from(a), false);
    let bits = convert(&mut env, x, F32, false);
    (bits as u32, flags(&env))
}

/// VCVTPS2PH with its immediate byte. Tiny results are not flushed to zero, whatever MXCSR says.
pub fn f32_to_f16(a: u32, control: u8, mxcsr: u32) -> (u16, u16) {
    let mut env = Env { ftz: false, ..Env::sse(mxcsr) };
    if control & 4 == 0 {
        env.rounding = Rounding::from_bits(u32::from(control));
    }
    let x = F32.unpack(u128::from(a), env.daz);
    let bits = convert(&mut env, x, F16, true);
    let flags = if env.unmasked() & BEFORE != 0 { env.status & BEFORE } else { flags(&env) };
    (bits as u16, flags)
}

/// The environment of RCPSS and RSQRTSS: 12 bits to nearest, whatever MXCSR says; denormals count as zero.
const APPROXIMATE: u32 = 0x9fc0;

/// Cuts an approximation to 12 bits of significand; tiny results become zero.
fn approximate(value: Value) -> u32 {
    let mut env = Env { precision: 12, ..Env::sse(APPROXIMATE) };
    let short = F80_FORMAT.encode(&mut env, value);
    convert(&mut env, F80_FORMAT.unpack(short, false), F32, false) as u32
}

/// RCPSS: 1 / a to a relative error below 1.5 * 2^-12. It raises nothing.
pub fn rcp_f32(a: u32) -> u32 {
    let mut env = Env::sse(APPROXIMATE);
    let one = F32.unpack(0x3f80_0000, false);
    approximate(arith::div(&mut env, one, F32.unpack(u128::from(a), true)))
}

/// RSQRTSS: 1 / sqrt a to a relative error below 1.5 * 2^-12. It raises nothing.
pub fn rsqrt_f32(a: u32) -> u32 {
    let mut env = Env::sse(APPROXIMATE);
    let one = F80_FORMAT.unpack(super::F80::ONE.to_bits(), false);
    let root = arith::sqrt(&mut env, F32.unpack(u128::from(a), true));
    let root = F80_FORMAT.unpack(F80_FORMAT.encode(&mut env, root), false);
    approximate(arith::div(&mut env, one, root))
}

/// Whether a flag set holds an exception that the guest's MXCSR does not mask (then #XM or #UD follows).
pub fn is_unmasked(flags: u16, mxcsr: u32) -> bool {
    flags & !Env::sse(mxcsr).masks & EXCEPTIONS != 0
}

#[cfg(test)]
mod tests {
    use super::super::environment::status::IE;
    use super::*;

    const MASKED: u32 = 0x1f80;

    #[test]
    fn known_results() {
        let f = f32::to_bits;
        assert_eq!(arith_f32(Arith::Div, f(1.0), f(3.0), MASKED), (f(1.0 / 3.0), PE));
        assert_eq!(arith_f32(Arith::Min, f(f32::NAN), f(3.0), MASKED), (f(3.0), IE));
        assert_eq!(
            fma_f64(Fused::Add, 2f64.to_bits(), 3f64.to_bits(), 4f64.to_bits(), MASKED),
            (10f64.to_bits(), 0)
        );
        assert_eq!(f64_to_int(1e10f64.to_bits(), IntSize::I32, true, MASKED), (i64::from(i32::MIN), IE));
    }
}
