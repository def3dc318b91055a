//! FMA: fused multiplication and addition (SDM vol. 1, 14.5).

use super::operand::raise_lanes;
use super::rows;
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::float::Fused;
use crate::op::Op;
use crate::ops::Hard;
use crate::simd::fma::{fma_pd, fma_ps};
use crate::simd::lanes::Vector;
use iced_x86::Instruction;

/// Which operands are the multiplicand, the multiplier and the addend, as the mnemonic's digits count them.
#[derive(Clone, Copy)]
enum Order {
    F132,
    F213,
    F231,
}

use Order::{F132, F213, F231};

impl Order {
    /// Multiplicand, multiplier and addend of the operands by position.
    #[inline(always)]
    fn arrange<T>(self, [first, second, third]: [T; 3]) -> [T; 3] {
        match self {
            F132 => [first, third, second],
            F213 => [second, first, third],
            F231 => [second, third, first],
        }
    }
}

/// The operation on each 128-bit lane by `leaf`.
#[inline(always)]
fn packed<const N: usize>(
    cpu: &mut Cpu,
    op: &Op,
    order: Order,
    leaf: impl Fn(Vector, Vector, Vector, u32) -> (Vector, u16),
) -> Result<(), Exception> {
    let third = cpu.lanes_source::<N>(op, 2)?;
    let [a, b, c] = order.arrange([cpu.lanes::<N>(op.regs[0]), cpu.lanes::<N>(op.regs[1]), third]);
    let value = raise_lanes::<N>(cpu, |i, mxcsr| leaf(a[i], b[i], c[i], mxcsr))?;
    cpu.set_lanes(op.regs[0], value);
    Ok(())
}

fn ps<const N: usize>(cpu: &mut Cpu, op: &Op, operation: Fused, order: Order) -> Result<(), Exception> {
    packed::<N>(cpu, op, order, |a, b, c, mxcsr| fma_ps(operation, a, b, c, mxcsr))
}

fn pd<const N: usize>(cpu: &mut Cpu, op: &Op, operation: Fused, order: Order) -> Result<(), Exception> {
    packed::<N>(cpu, op, order, |a, b, c, mxcsr| fma_pd(operation, a, b, c, mxcsr))
}

rows! { select_packed:
    Vfmaddsub132ps => ps(Fused::AddSub, F132);
    Vfmaddsub132pd => pd(Fused::AddSub, F132);
    Vfmaddsub213ps => ps(Fused::AddSub, F213);
    Vfmaddsub213pd => pd(Fused::AddSub, F213);
    Vfmaddsub231ps => ps(Fused::AddSub, F231);
    Vfmaddsub231pd => pd(Fused::AddSub, F231);
    Vfmsubadd132ps => ps(Fused::SubAdd, F132);
    Vfmsubadd132pd => pd(Fused::SubAdd, F132);
    Vfmsubadd213ps => ps(Fused::SubAdd, F213);
    Vfmsubadd213pd => pd(Fused::SubAdd, F213);
    Vfmsubadd231ps => ps(Fused::SubAdd, F231);
    Vfmsubadd231pd => pd(Fused::SubAdd, F231);
}

pub(super) fn select(instruction: &Instruction, wide: bool) -> Option<Hard> {
    select_packed(instruction, wide)
}
