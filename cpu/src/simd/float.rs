//! Floating-point arithmetic and comparison of SSE to SSE4.1 (SDM vol. 1, 5.5 to 5.10, 11.5).

use super::lanes::{Lane, Vector};
use super::logic::pand;
use super::operand::{packed, packed_float, scalar_f32, scalar_f64};
use super::quick;
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::float::{Arith, Env, sse, status};
use crate::op::Op;
use crate::ops::Hard;
use crate::state::{ArithFlags, bits};
use iced_x86::{Instruction, Mnemonic};
use std::array::from_fn;
use std::cmp::Ordering;

/// The flags of several lanes together: an unmasked exception found before computing, in any lane, keeps all lanes
/// from computing.
pub(super) fn settle(flags: u16, mxcsr: u32) -> u16 {
    let unmasked = flags & !Env::sse(mxcsr).masks;
    if unmasked & status::BEFORE != 0 { flags & status::BEFORE } else { flags }
}

/// The low lanes of neighbours, and the high ones, of a then b: the operands of horizontal arithmetic.
fn neighbours_f32(a: Vector, b: Vector) -> (Vector, Vector) {
    let (a, b) = (u32::split(a), u32::split(b));
    (u32::join([a[0], a[2], b[0], b[2]]), u32::join([a[1], a[3], b[1], b[3]]))
}

fn neighbours_f64(a: Vector, b: Vector) -> (Vector, Vector) {
    let (a, b) = (u64::split(a), u64::split(b));
    (u64::join([a[0], b[0]]), u64::join([a[1], b[1]]))
}

/// HADDPS, HSUBPS.
pub(crate) fn horizontal_f32(operation: Arith, a: Vector, b: Vector, mxcsr: u32) -> (Vector, u16) {
    let (low, high) = neighbours_f32(a, b);
    quick::arith_f32x4(operation, low, high, mxcsr)
}

/// HADDPD, HSUBPD.
pub(crate) fn horizontal_f64(operation: Arith, a: Vector, b: Vector, mxcsr: u32) -> (Vector, u16) {
    let (low, high) = neighbours_f64(a, b);
    quick::arith_f64x2(operation, low, high, mxcsr)
}

/// ADDSUBPS: subtracts in even lanes, adds in odd ones.
pub(crate) fn addsubps(a: Vector, b: Vector, mxcsr: u32) -> (Vector, u16) {
    let (a, b) = (u32::split(a), u32::split(b));
    let (mut result, mut flags) = ([0; 4], 0);
    for (i, lane) in result.iter_mut().enumerate() {
        let operation = if i & 1 == 0 { Arith::Sub } else { Arith::Add };
        let (bits, raised) = quick::arith_f32(operation, a[i], b[i], mxcsr);
        *lane = bits;
        flags |= raised;
    }
    (u32::join(result), settle(flags, mxcsr))
}

/// ADDSUBPD: subtracts in the low lane, adds in the high one.
pub(crate) fn addsubpd(a: Vector, b: Vector, mxcsr: u32) -> (Vector, u16) {
    let (low, raised_low) = quick::arith_f64(Arith::Sub, a.low(), b.low(), mxcsr);
    let (high, raised_high) = quick::arith_f64(Arith::Add, a.high(), b.high(), mxcsr);
    (u64::join([low, high]), settle(raised_low | raised_high, mxcsr))
}

/// RCPPS.
pub(crate) fn rcpps(_a: Vector, b: Vector) -> Vector {
    u32::map(b, sse::rcp_f32)
}

/// RSQRTPS.
pub(crate) fn rsqrtps(_a: Vector, b: Vector) -> Vector {
    u32::map(b, sse::rsqrt_f32)
}

fn rcpss(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    scalar_f32(cpu, op, |_, b, _| (sse::rcp_f32(b), 0))
}

fn rsqrtss(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    scalar_f32(cpu, op, |_, b, _| (sse::rsqrt_f32(b), 0))
}

/// Sets ZF, PF and CF from a comparison and clears OF, SF and AF.
pub(super) fn set_order(cpu: &mut Cpu, order: Option<Ordering>) {
    let image = match order {
        Some(Ordering::Greater) => 0,
        Some(Ordering::Less) => bits::RFLAGS_CF,
        Some(Ordering::Equal) => bits::RFLAGS_ZF,
        None => bits::RFLAGS_ZF | bits::RFLAGS_PF | bits::RFLAGS_CF,
    };
    cpu.state.flags.arith = ArithFlags::from_rflags(image);
}

/// Applies `lane` to every single-precision lane.
fn each_f32(a: Vector, mxcsr: u32, lane: impl Fn(u32) -> (u32, u16)) -> (Vector, u16) {
    let mut flags = 0;
    let lanes = u32::split(a);
    let result = u32::build(|i| {
        let (bits, raised) = lane(lanes[i]);
        flags |= raised;
        bits
    });
    (result, settle(flags, mxcsr))
}

/// Applies `lane` to every double-precision lane.
fn each_f64(a: Vector, mxcsr: u32, lane: impl Fn(u64) -> (u64, u16)) -> (Vector, u16) {
    let mut flags = 0;
    let lanes = u64::split(a);
    let result = u64::build(|i| {
        let (bits, raised) = lane(lanes[i]);
        flags |= raised;
        bits
    });
    (result, settle(flags, mxcsr))
}

/// ROUNDPS.
pub(crate) fn roundps(a: Vector, control: u8, mxcsr: u32) -> (Vector, u16) {
    each_f32(a, mxcsr, |a| quick::round_f32(a, control, mxcsr))
}

/// ROUNDPD.
pub(crate) fn roundpd(a: Vector, control: u8, mxcsr: u32) -> (Vector, u16) {
    each_f64(a, mxcsr, |a| quick::round_f64(a, control, mxcsr))
}

/// DPPS in each of the 128-bit lanes: the products that bits 4 to 7 of the immediate choose, summed in pairs, into the
/// elements that bits 0 to 3 choose. An unmasked exception in any lane ends the computation at its step.
pub(crate) fn dpps<const N: usize>(
    a: [Vector; N],
    b: [Vector; N],
    immediate: u8,
    mxcsr: u32,
) -> ([Vector; N], u16) {
    let chosen = u32::build(|i| u32::from(immediate >> (4 + i) & 1).wrapping_neg());
    let mut raised = 0;
    let products: [Vector; N] = from_fn(|i| {
        let (product, flags) = quick::arith_f32x4(Arith::Mul, pand(a[i], chosen), pand(b[i], chosen), mxcsr);
        raised |= flags;
        pand(product, chosen)
    });
    let mut flags = settle(raised, mxcsr);
    if sse::is_unmasked(flags, mxcsr) {
        return ([Vector::ZERO; N], flags);
    }
    raised = 0;
    let mut add = |a, b| {
        let (sum, flags) = quick::arith_f32(Arith::Add, a, b, mxcsr);
        raised |= flags;
        sum
    };
    let pairs = products.map(u32::split).map(|p| (add(p[0], p[1]), add(p[2], p[3])));
    flags |= settle(raised, mxcsr);
    if sse::is_unmasked(flags, mxcsr) {
        return ([Vector::ZERO; N], flags);
    }
    raised = 0;
    let sums = pairs.map(|(low, high)| {
        let (sum, flags) = quick::arith_f32(Arith::Add, low, high, mxcsr);
        raised |= flags;
        u32::build(|i| if immediate >> i & 1 != 0 { sum } else { 0 })
    });
    (sums, flags | settle(raised, mxcsr))
}

/// DPPD: as DPPS, with two lanes.
pub(crate) fn dppd(a: Vector, b: Vector, immediate: u8, mxcsr: u32) -> (Vector, u16) {
    let chosen = u64::build(|i| u64::from(immediate >> (4 + i) & 1).wrapping_neg());
    let (products, flags) = quick::arith_f64x2(Arith::Mul, pand(a, chosen), pand(b, chosen), mxcsr);
    if sse::is_unmasked(flags, mxcsr) {
        return (Vector::ZERO, flags);
    }
    let p = u64::split(pand(products, chosen));
    let (sum, raised) = quick::arith_f64(Arith::Add, p[0], p[1], mxcsr);
    (u64::build(|i| if immediate >> i & 1 != 0 { sum } else { 0 }), flags | raised)
}

fn select_immediate(instruction: &Instruction) -> Option<Hard> {
    use Mnemonic::*;
    Some(match instruction.mnemonic() {
        Roundps => |cpu, op| packed_float(cpu, op, |_, b, mxcsr| roundps(b, op.immediate as u8, mxcsr)),
        Roundpd => |cpu, op| packed_float(cpu, op, |_, b, mxcsr| roundpd(b, op.immediate as u8, mxcsr)),
        Roundss => {
            |cpu, op| scalar_f32(cpu, op, |_, b, mxcsr| quick::round_f32(b, op.immediate as u8, mxcsr))
        }
        Roundsd => {
            |cpu, op| scalar_f64(cpu, op, |_, b, mxcsr| quick::round_f64(b, op.immediate as u8, mxcsr))
        }
        Dpps => |cpu, op| {
            packed_float(cpu, op, |a, b, mxcsr| {
                let ([value], flags) = dpps([a], [b], op.immediate as u8, mxcsr);
                (value, flags)
            })
        },
        Dppd => |cpu, op| packed_float(cpu, op, |a, b, mxcsr| dppd(a, b, op.immediate as u8, mxcsr)),
        _ => return None,
    })
}

pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    use Mnemonic::*;
    Some(match instruction.mnemonic() {
        Haddps => |cpu, op| packed_float(cpu, op, |a, b, mxcsr| horizontal_f32(Arith::Add, a, b, mxcsr)),
        Hsubps => |cpu, op| packed_float(cpu, op, |a, b, mxcsr| horizontal_f32(Arith::Sub, a, b, mxcsr)),
        Haddpd => |cpu, op| packed_float(cpu, op, |a, b, mxcsr| horizontal_f64(Arith::Add, a, b, mxcsr)),
        Hsubpd => |cpu, op| packed_float(cpu, op, |a, b, mxcsr| horizontal_f64(Arith::Sub, a, b, mxcsr)),
        Addsubps => |cpu, op| packed_float(cpu, op, addsubps),
        Addsubpd => |cpu, op| packed_float(cpu, op, addsubpd),
        Rcpps => |cpu, op| packed(cpu, op, rcpps),
        Rsqrtps => |cpu, op| packed(cpu, op, rsqrtps),
        Rcpss => rcpss,
        Rsqrtss => rsqrtss,
        _ => return select_immediate(instruction),
    })
}
