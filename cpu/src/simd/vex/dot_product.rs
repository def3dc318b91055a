//! AVX-VNNI: sums of products of bytes or words, added to doublewords (SDM vol. 2, VPDPBUSD and following).

use super::rows;
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::op::Op;
use crate::simd::lanes::{Lane, Vector};
use std::array::from_fn;

/// `op0 = leaf(op0, op1, op2)`, lane by lane.
#[inline(always)]
fn accumulate<const N: usize>(
    cpu: &mut Cpu,
    op: &Op,
    leaf: impl Fn(Vector, Vector, Vector) -> Vector,
) -> Result<(), Exception> {
    let b = cpu.lanes_source::<N>(op, 2)?;
    let (sum, a) = (cpu.lanes::<N>(op.regs[0]), cpu.lanes::<N>(op.regs[1]));
    cpu.set_lanes::<N>(op.regs[0], from_fn(|i| leaf(sum[i], a[i], b[i])));
    Ok(())
}

/// Four products of an unsigned byte of `a` and a signed byte of `b`.
fn bytes(a: Vector, b: Vector) -> impl Fn(usize) -> i32 {
    let (a, b) = (u8::split(a), i8::split(b));
    move |i| (4 * i..4 * i + 4).map(|k| i32::from(a[k]) * i32::from(b[k])).sum()
}

/// Two products of signed words. Only their sum can leave 32 bits, and it does so when all four are -32768.
fn words(a: Vector, b: Vector) -> impl Fn(usize) -> i64 {
    let (a, b) = (i16::split(a), i16::split(b));
    move |i| (2 * i..2 * i + 2).map(|k| i64::from(a[k]) * i64::from(b[k])).sum()
}

fn saturated(sum: i64) -> i32 {
    sum.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
}

/// VPDPBUSD.
pub(crate) fn vpdpbusd(sum: Vector, a: Vector, b: Vector) -> Vector {
    let (sum, products) = (i32::split(sum), bytes(a, b));
    i32::build(|i| sum[i].wrapping_add(products(i)))
}

/// VPDPBUSDS.
pub(crate) fn vpdpbusds(sum: Vector, a: Vector, b: Vector) -> Vector {
    let (sum, products) = (i32::split(sum), bytes(a, b));
    i32::build(|i| sum[i].saturating_add(products(i)))
}

/// VPDPWSSD.
pub(crate) fn vpdpwssd(sum: Vector, a: Vector, b: Vector) -> Vector {
    let (sum, products) = (i32::split(sum), words(a, b));
    i32::build(|i| (i64::from(sum[i]) + products(i)) as i32)
}

/// VPDPWSSDS.
pub(crate) fn vpdpwssds(sum: Vector, a: Vector, b: Vector) -> Vector {
    let (sum, products) = (i32::split(sum), words(a, b));
    i32::build(|i| saturated(i64::from(sum[i]) + products(i)))
}

rows! { select:
    Vpdpbusd => accumulate(vpdpbusd);
    Vpdpbusds => accumulate(vpdpbusds);
    Vpdpwssd => accumulate(vpdpwssd);
    Vpdpwssds => accumulate(vpdpwssds);
}
