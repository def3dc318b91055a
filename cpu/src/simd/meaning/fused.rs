//! FMA: fused multiplication and addition (SDM vol. 1, 14.5).

use super::{double as double_source, put, registers, single as single_source, sources};
use crate::float::Fused;
use crate::op::Op;
use crate::ops::Meaning;
use crate::vector_ops::VectorOps;
use iced_x86::{Instruction, Mnemonic};

// `Fused` as a constant parameter.
const ADD: u8 = 0;
const SUB: u8 = 1;
const NEG_ADD: u8 = 2;
const NEG_SUB: u8 = 3;

const fn fused(operation: u8) -> Fused {
    match operation {
        ADD => Fused::Add,
        SUB => Fused::Sub,
        NEG_ADD => Fused::NegAdd,
        _ => Fused::NegSub,
    }
}

// Which operands are multiplicand, multiplier and addend, as the mnemonic's digits count them.
const F132: u8 = 0;
const F213: u8 = 1;
const F231: u8 = 2;

#[inline(always)]
fn arrange<T>(order: u8, [first, second, third]: [T; 3]) -> [T; 3] {
    match order {
        F132 => [first, third, second],
        F213 => [second, first, third],
        _ => [second, third, first],
    }
}

fn single<M: VectorOps, const O: u8, const ORDER: u8>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    m.need_floating_point()?;
    let third = single_source(m, op, 2)?;
    let (first, second) = (m.single(op.regs[0]), m.single(op.regs[1]));
    let value = m.fused_single(fused(O), arrange(ORDER, [first, second, third]))?;
    m.set_single(op.regs[0], value);
    m.clear_upper(op.regs[0]);
    Ok(())
}

fn double<M: VectorOps, const O: u8, const ORDER: u8>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    m.need_floating_point()?;
    let third = double_source(m, op, 2)?;
    let (first, second) = (m.double(op.regs[0], 0), m.double(op.regs[1], 0));
    let value = m.fused_double(fused(O), arrange(ORDER, [first, second, third]))?;
    m.set_double(op.regs[0], 0, value);
    m.clear_upper(op.regs[0]);
    Ok(())
}

fn singles<M: VectorOps, const O: u8, const ORDER: u8, const N: usize>(
    m: &mut M,
    op: &Op,
) -> Result<(), M::Fault> {
    m.need_floating_point()?;
    let third = sources::<M, N>(m, op, 2, false)?;
    let (first, second) = (registers::<M, N>(m, op.regs[0]), registers::<M, N>(m, op.regs[1]));
    let value = m.fused_singles(fused(O), arrange(ORDER, [first, second, third]))?;
    put(m, op.regs[0], value);
    Ok(())
}

fn doubles<M: VectorOps, const O: u8, const ORDER: u8, const N: usize>(
    m: &mut M,
    op: &Op,
) -> Result<(), M::Fault> {
    m.need_floating_point()?;
    let third = sources::<M, N>(m, op, 2, false)?;
    let (first, second) = (registers::<M, N>(m, op.regs[0]), registers::<M, N>(m, op.regs[1]));
    let value = m.fused_doubles(fused(O), arrange(ORDER, [first, second, third]))?;
    put(m, op.regs[0], value);
    Ok(())
}

macro_rules! rows {
    ($($ss:ident $sd:ident $ps:ident $pd:ident = $operation:ident $order:ident;)*) => {
        pub(super) fn select<M: VectorOps>(instruction: &Instruction, wide: bool) -> Option<Meaning<M>> {
            Some(match instruction.mnemonic() {
                $(
                    Mnemonic::$ss => single::<M, $operation, $order>,
                    Mnemonic::$sd => double::<M, $operation, $order>,
                    Mnemonic::$ps if wide => singles::<M, $operation, $order, 2>,
                    Mnemonic::$ps => singles::<M, $operation, $order, 1>,
                    Mnemonic::$pd if wide => doubles::<M, $operation, $order, 2>,
                    Mnemonic::$pd => doubles::<M, $operation, $order, 1>,
                )*
                _ => return None,
            })
        }
    };
}

rows! {
    Vfmadd132ss Vfmadd132sd Vfmadd132ps Vfmadd132pd = ADD F132;
    Vfmadd213ss Vfmadd213sd Vfmadd213ps Vfmadd213pd = ADD F213;
    Vfmadd231ss Vfmadd231sd Vfmadd231ps Vfmadd231pd = ADD F231;
    Vfmsub132ss Vfmsub132sd Vfmsub132ps Vfmsub132pd = SUB F132;
    Vfmsub213ss Vfmsub213sd Vfmsub213ps Vfmsub213pd = SUB F213;
    Vfmsub231ss Vfmsub231sd Vfmsub231ps Vfmsub231pd = SUB F231;
    Vfnmadd132ss Vfnmadd132sd Vfnmadd132ps Vfnmadd132pd = NEG_ADD F132;
    Vfnmadd213ss Vfnmadd213sd Vfnmadd213ps Vfnmadd213pd = NEG_ADD F213;
    Vfnmadd231ss Vfnmadd231sd Vfnmadd231ps Vfnmadd231pd = NEG_ADD F231;
    Vfnmsub132ss Vfnmsub132sd Vfnmsub132ps Vfnmsub132pd = NEG_SUB F132;
    Vfnmsub213ss Vfnmsub213sd Vfnmsub213ps Vfnmsub213pd = NEG_SUB F213;
    Vfnmsub231ss Vfnmsub231sd Vfnmsub231ps Vfnmsub231pd = NEG_SUB F231;
}
