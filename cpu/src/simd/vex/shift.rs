//! Packed shifts (SDM vol. 1, 5.14, 5.15).

use super::operand::packed;
use super::rows;
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::op::Op;
use crate::simd::lanes::{Lane, Vector};
use crate::simd::shift::*;
use std::array::from_fn;

/// `op0 = leaf(op1, op2)`, where all lanes have the count in the one XMM operand op2.
#[inline(always)]
fn by_vector<const N: usize>(
    cpu: &mut Cpu,
    op: &Op,
    leaf: impl Fn(Vector, Vector) -> Vector,
) -> Result<(), Exception> {
    let [count] = cpu.lanes_source::<1>(op, 2)?;
    let a = cpu.lanes::<N>(op.regs[1]);
    cpu.set_lanes::<N>(op.regs[0], from_fn(|i| leaf(a[i], count)));
    Ok(())
}

macro_rules! variable {
    ($($leaf:ident($lane:ty) = $shift:expr;)*) => {$(
        #[doc = concat!("Shifts each lane of ", stringify!($lane), " by the lane of b.")]
        #[inline(always)]
        pub(crate) fn $leaf(a: Vector, b: Vector) -> Vector {
            let shift: fn($lane, u32) -> $lane = $shift;
            // A count that does not fit 32 bits is as good as the largest that does.
            <$lane>::zip(a, b, |lane, count| shift(lane, u64::from(count).min(u64::from(u32::MAX)) as u32))
        }
    )*};
}

variable! {
    vpsllvd(u32) = |lane, count| lane.unbounded_shl(count);
    vpsllvq(u64) = |lane, count| lane.unbounded_shl(count);
    vpsrlvd(u32) = |lane, count| lane.unbounded_shr(count);
    vpsrlvq(u64) = |lane, count| lane.unbounded_shr(count);
    vpsravd(u32) = |lane, count| (lane as i32).unbounded_shr(count) as u32;
}

rows! { select:
    Vpsllw => by_vector(psllw);
    Vpslld => by_vector(pslld);
    Vpsllq => by_vector(psllq);
    Vpsrlw => by_vector(psrlw);
    Vpsrld => by_vector(psrld);
    Vpsrlq => by_vector(psrlq);
    Vpsraw => by_vector(psraw);
    Vpsrad => by_vector(psrad);
    Vpsllvd => packed(vpsllvd);
    Vpsllvq => packed(vpsllvq);
    Vpsrlvd => packed(vpsrlvd);
    Vpsrlvq => packed(vpsrlvq);
    Vpsravd => packed(vpsravd);
}
