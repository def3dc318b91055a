//! Broadcasts of one element to all (SDM vol. 1, 5.14, 5.15).

use super::rows;
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::op::Op;
use crate::simd::lanes::{Lane, Vector};

/// All lanes are `element` of the low bytes of op1.
#[inline(always)]
fn broadcast<const N: usize, const BYTES: usize>(
    cpu: &mut Cpu,
    op: &Op,
    all: impl Fn(Vector) -> Vector,
) -> Result<(), Exception> {
    let source = cpu.low_source::<BYTES>(op, 1)?;
    cpu.set_lanes::<N>(op.regs[0], [all(source); N]);
    Ok(())
}

/// VPBROADCASTB.
fn bytes<const N: usize>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    broadcast::<N, 1>(cpu, op, |source| u8::build(|_| source.low() as u8))
}

/// VPBROADCASTW.
fn words<const N: usize>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    broadcast::<N, 2>(cpu, op, |source| u16::build(|_| source.low() as u16))
}

/// VPBROADCASTD, VBROADCASTSS.
fn doubles<const N: usize>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    broadcast::<N, 4>(cpu, op, |source| u32::build(|_| source.low() as u32))
}

/// VPBROADCASTQ, VBROADCASTSD.
fn quads<const N: usize>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    broadcast::<N, 8>(cpu, op, |source| Vector([source.low(); 2]))
}

/// VBROADCASTF128, VBROADCASTI128.
fn lanes<const N: usize>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    broadcast::<N, 16>(cpu, op, |source| source)
}

rows! { select:
    Vpbroadcastb => bytes;
    Vpbroadcastw => words;
    Vpbroadcastd | Vbroadcastss => doubles;
    Vpbroadcastq | Vbroadcastsd => quads;
    Vbroadcastf128 | Vbroadcasti128 => lanes;
}
