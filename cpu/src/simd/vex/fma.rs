//! FMA: fused multiplication and addition (SDM vol. 1, 14.5).

use super::operand::{raise_lanes, with_low_double};
use super::rows;
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::float::Fused;
use crate::op::Op;
use crate::ops::Hard;
use crate::simd::fma::{fma_f32, fma_f64, fma_pd, fma_ps};
use crate::simd::lanes::Vector;
use iced_x86::{Instruction, Mnemonic};

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

/// The low doubleword; the rest of the XMM register stays, and what is above it is cleared.
fn ss(cpu: &mut Cpu, op: &Op, operation: Fused, order: Order) -> Result<(), Exception> {
    let third = cpu.double_source(op, 2)?;
    let (first, second) = (cpu.vector(op.regs[0]), cpu.vector(op.regs[1]));
    let [a, b, c] = order.arrange([first.low() as u32, second.low() as u32, third]);
    let (value, flags) = fma_f32(operation, a, b, c, cpu.state.mxcsr);
    cpu.raise_simd(flags)?;
    cpu.set_only_vector(op.regs[0], with_low_double(first, value));
    Ok(())
}

/// The low quadword; the rest of the XMM register stays, and what is above it is cleared.
fn sd(cpu: &mut Cpu, op: &Op, operation: Fused, order: Order) -> Result<(), Exception> {
    let third = cpu.quad_source(op, 2)?;
    let (first, second) = (cpu.vector(op.regs[0]), cpu.vector(op.regs[1]));
    let [a, b, c] = order.arrange([first.low(), second.low(), third]);
    let (value, flags) = fma_f64(operation, a, b, c, cpu.state.mxcsr);
    cpu.raise_simd(flags)?;
    cpu.set_only_vector(op.regs[0], Vector([value, first.high()]));
    Ok(())
}

rows! { select_packed:
    Vfmadd132ps => ps(Fused::Add, F132);
    Vfmadd132pd => pd(Fused::Add, F132);
    Vfmadd213ps => ps(Fused::Add, F213);
    Vfmadd213pd => pd(Fused::Add, F213);
    Vfmadd231ps => ps(Fused::Add, F231);
    Vfmadd231pd => pd(Fused::Add, F231);
    Vfmsub132ps => ps(Fused::Sub, F132);
    Vfmsub132pd => pd(Fused::Sub, F132);
    Vfmsub213ps => ps(Fused::Sub, F213);
    Vfmsub213pd => pd(Fused::Sub, F213);
    Vfmsub231ps => ps(Fused::Sub, F231);
    Vfmsub231pd => pd(Fused::Sub, F231);
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
    Vfnmadd132ps => ps(Fused::NegAdd, F132);
    Vfnmadd132pd => pd(Fused::NegAdd, F132);
    Vfnmadd213ps => ps(Fused::NegAdd, F213);
    Vfnmadd213pd => pd(Fused::NegAdd, F213);
    Vfnmadd231ps => ps(Fused::NegAdd, F231);
    Vfnmadd231pd => pd(Fused::NegAdd, F231);
    Vfnmsub132ps => ps(Fused::NegSub, F132);
    Vfnmsub132pd => pd(Fused::NegSub, F132);
    Vfnmsub213ps => ps(Fused::NegSub, F213);
    Vfnmsub213pd => pd(Fused::NegSub, F213);
    Vfnmsub231ps => ps(Fused::NegSub, F231);
    Vfnmsub231pd => pd(Fused::NegSub, F231);
}

/// Rows of scalar operations.
macro_rules! scalar {
    ($($ss:ident $sd:ident = $operation:ident $order:ident;)*) => {
        fn select_scalar(instruction: &Instruction) -> Option<Hard> {
            Some(match instruction.mnemonic() {
                $(
                    Mnemonic::$ss => |cpu, op| ss(cpu, op, Fused::$operation, $order),
                    Mnemonic::$sd => |cpu, op| sd(cpu, op, Fused::$operation, $order),
                )*
                _ => return None,
            })
        }
    };
}

scalar! {
    Vfmadd132ss Vfmadd132sd = Add F132;
    Vfmadd213ss Vfmadd213sd = Add F213;
    Vfmadd231ss Vfmadd231sd = Add F231;
    Vfmsub132ss Vfmsub132sd = Sub F132;
    Vfmsub213ss Vfmsub213sd = Sub F213;
    Vfmsub231ss Vfmsub231sd = Sub F231;
    Vfnmadd132ss Vfnmadd132sd = NegAdd F132;
    Vfnmadd213ss Vfnmadd213sd = NegAdd F213;
    Vfnmadd231ss Vfnmadd231sd = NegAdd F231;
    Vfnmsub132ss Vfnmsub132sd = NegSub F132;
    Vfnmsub213ss Vfnmsub213sd = NegSub F213;
    Vfnmsub231ss Vfnmsub231sd = NegSub F231;
}

pub(super) fn select(instruction: &Instruction, wide: bool) -> Option<Hard> {
    select_packed(instruction, wide).or_else(|| select_scalar(instruction))
}
