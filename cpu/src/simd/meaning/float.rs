//! Floating-point arithmetic and comparison (SDM vol. 1, 5.5 to 5.10, 14.1, 14.9).

use super::{
    double as double_source, put, put_double_of, put_single_of, registers, single as single_source, sources,
};
use crate::float::Arith;
use crate::op::Op;
use crate::ops::Meaning;
use crate::vector_ops::VectorOps;
use iced_x86::{Code, Instruction, Mnemonic};

// `Arith` as a constant parameter.
const ADD: u8 = 0;
const SUB: u8 = 1;
const MUL: u8 = 2;
const DIV: u8 = 3;
const MIN: u8 = 4;
const MAX: u8 = 5;
const SQRT: u8 = 6;

const fn arith(operation: u8) -> Arith {
    match operation {
        ADD => Arith::Add,
        SUB => Arith::Sub,
        MUL => Arith::Mul,
        DIV => Arith::Div,
        MIN => Arith::Min,
        MAX => Arith::Max,
        _ => Arith::Sqrt,
    }
}

fn single<M: VectorOps, const O: u8>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    m.need_floating_point()?;
    let b = single_source(m, op, 1)?;
    let a = m.single(op.regs[0]);
    let value = m.arith_single(arith(O), a, b)?;
    m.set_single(op.regs[0], value);
    Ok(())
}

fn vex_single<M: VectorOps, const O: u8>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    m.need_floating_point()?;
    let b = single_source(m, op, 2)?;
    let a = m.single(op.regs[1]);
    let value = m.arith_single(arith(O), a, b)?;
    put_single_of(m, op, value);
    Ok(())
}

fn double<M: VectorOps, const O: u8>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    m.need_floating_point()?;
    let b = double_source(m, op, 1)?;
    let a = m.double(op.regs[0], 0);
    let value = m.arith_double(arith(O), a, b)?;
    m.set_double(op.regs[0], 0, value);
    Ok(())
}

fn vex_double<M: VectorOps, const O: u8>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    m.need_floating_point()?;
    let b = double_source(m, op, 2)?;
    let a = m.double(op.regs[1], 0);
    let value = m.arith_double(arith(O), a, b)?;
    put_double_of(m, op, value);
    Ok(())
}

/// Shapes of packed arithmetic: legacy, VEX of two operands, and VEX of one.
macro_rules! packed {
    ($legacy:ident, $vex:ident, $unary:ident: $arith:ident) => {
        fn $legacy<M: VectorOps, const O: u8>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
            m.need_floating_point()?;
            let b = sources::<M, 1>(m, op, 1, true)?;
            let a = registers::<M, 1>(m, op.regs[0]);
            let [value] = m.$arith(arith(O), a, b)?;
            m.set_vector(op.regs[0], value);
            Ok(())
        }

        fn $vex<M: VectorOps, const O: u8, const N: usize>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
            m.need_floating_point()?;
            let b = sources::<M, N>(m, op, 2, false)?;
            let a = registers::<M, N>(m, op.regs[1]);
            let value = m.$arith(arith(O), a, b)?;
            put(m, op.regs[0], value);
            Ok(())
        }

        fn $unary<M: VectorOps, const O: u8, const N: usize>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
            m.need_floating_point()?;
            let b = sources::<M, N>(m, op, 1, false)?;
            let value = m.$arith(arith(O), b, b)?;
            put(m, op.regs[0], value);
            Ok(())
        }
    };
}

packed! { packed_singles, vex_singles, vex_singles_unary: arith_singles }
packed! { packed_doubles, vex_doubles, vex_doubles_unary: arith_doubles }

fn order_single<M: VectorOps, const QUIET: bool>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    m.need_floating_point()?;
    let b = single_source(m, op, 1)?;
    let a = m.single(op.regs[0]);
    m.order_single(a, b, QUIET)
}

fn order_double<M: VectorOps, const QUIET: bool>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    m.need_floating_point()?;
    let b = double_source(m, op, 1)?;
    let a = m.double(op.regs[0], 0);
    m.order_double(a, b, QUIET)
}

/// The comparison predicate of legacy SSE: bits 3 to 7 of the immediate are reserved and ignored.
fn predicate(op: &Op) -> u8 {
    op.immediate as u8 & 7
}

/// The comparison predicate of AVX: bits 5 to 7 of the immediate are reserved and ignored.
fn vex_predicate(op: &Op) -> u8 {
    op.immediate as u8 & 31
}

fn cmpss<M: VectorOps>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    m.need_floating_point()?;
    let b = single_source(m, op, 1)?;
    let a = m.single(op.regs[0]);
    let value = m.compare_single(predicate(op), a, b)?;
    m.set_single(op.regs[0], value);
    Ok(())
}

fn vcmpss<M: VectorOps>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    m.need_floating_point()?;
    let b = single_source(m, op, 2)?;
    let a = m.single(op.regs[1]);
    let value = m.compare_single(vex_predicate(op), a, b)?;
    put_single_of(m, op, value);
    Ok(())
}

fn cmpsd<M: VectorOps>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    m.need_floating_point()?;
    let b = double_source(m, op, 1)?;
    let a = m.double(op.regs[0], 0);
    let value = m.compare_double(predicate(op), a, b)?;
    m.set_double(op.regs[0], 0, value);
    Ok(())
}

fn vcmpsd<M: VectorOps>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    m.need_floating_point()?;
    let b = double_source(m, op, 2)?;
    let a = m.double(op.regs[1], 0);
    let value = m.compare_double(vex_predicate(op), a, b)?;
    put_double_of(m, op, value);
    Ok(())
}

/// Packed comparisons, legacy and VEX.
macro_rules! comparisons {
    ($legacy:ident, $vex:ident: $compare:ident) => {
        fn $legacy<M: VectorOps>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
            m.need_floating_point()?;
            let b = sources::<M, 1>(m, op, 1, true)?;
            let a = registers::<M, 1>(m, op.regs[0]);
            let [value] = m.$compare(predicate(op), a, b)?;
            m.set_vector(op.regs[0], value);
            Ok(())
        }

        fn $vex<M: VectorOps, const N: usize>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
            m.need_floating_point()?;
            let b = sources::<M, N>(m, op, 2, false)?;
            let a = registers::<M, N>(m, op.regs[1]);
            let value = m.$compare(vex_predicate(op), a, b)?;
            put(m, op.regs[0], value);
            Ok(())
        }
    };
}

comparisons! { cmpps, vcmpps: compare_singles }
comparisons! { cmppd, vcmppd: compare_doubles }

fn select_comparison<M: VectorOps>(instruction: &Instruction, wide: bool) -> Option<Meaning<M>> {
    use Mnemonic::*;
    Some(match instruction.mnemonic() {
        Ucomiss | Vucomiss => order_single::<M, true>,
        Comiss | Vcomiss => order_single::<M, false>,
        Ucomisd | Vucomisd => order_double::<M, true>,
        Comisd | Vcomisd => order_double::<M, false>,
        Cmpss => cmpss::<M>,
        Vcmpss => vcmpss::<M>,
        Cmpsd if instruction.code() == Code::Cmpsd_xmm_xmmm64_imm8 => cmpsd::<M>,
        Vcmpsd => vcmpsd::<M>,
        Cmpps => cmpps::<M>,
        Cmppd => cmppd::<M>,
        Vcmpps if wide => vcmpps::<M, 2>,
        Vcmpps => vcmpps::<M, 1>,
        Vcmppd if wide => vcmppd::<M, 2>,
        Vcmppd => vcmppd::<M, 1>,
        _ => return None,
    })
}

fn select_scalar<M: VectorOps>(instruction: &Instruction) -> Option<Meaning<M>> {
    use Mnemonic::*;
    Some(match instruction.mnemonic() {
        Addss => single::<M, { ADD }>,
        Vaddss => vex_single::<M, { ADD }>,
        Addsd => double::<M, { ADD }>,
        Vaddsd => vex_double::<M, { ADD }>,
        Subss => single::<M, { SUB }>,
        Vsubss => vex_single::<M, { SUB }>,
        Subsd => double::<M, { SUB }>,
        Vsubsd => vex_double::<M, { SUB }>,
        Mulss => single::<M, { MUL }>,
        Vmulss => vex_single::<M, { MUL }>,
        Mulsd => double::<M, { MUL }>,
        Vmulsd => vex_double::<M, { MUL }>,
        Divss => single::<M, { DIV }>,
        Vdivss => vex_single::<M, { DIV }>,
        Divsd => double::<M, { DIV }>,
        Vdivsd => vex_double::<M, { DIV }>,
        Minss => single::<M, { MIN }>,
        Vminss => vex_single::<M, { MIN }>,
        Minsd => double::<M, { MIN }>,
        Vminsd => vex_double::<M, { MIN }>,
        Maxss => single::<M, { MAX }>,
        Vmaxss => vex_single::<M, { MAX }>,
        Maxsd => double::<M, { MAX }>,
        Vmaxsd => vex_double::<M, { MAX }>,
        Sqrtss => single::<M, { SQRT }>,
        Vsqrtss => vex_single::<M, { SQRT }>,
        Sqrtsd => double::<M, { SQRT }>,
        Vsqrtsd => vex_double::<M, { SQRT }>,
        _ => return None,
    })
}

pub(super) fn select<M: VectorOps>(instruction: &Instruction, wide: bool) -> Option<Meaning<M>> {
    use Mnemonic::*;
    Some(match instruction.mnemonic() {
        Addps => packed_singles::<M, { ADD }>,
        Vaddps if wide => vex_singles::<M, { ADD }, 2>,
        Vaddps => vex_singles::<M, { ADD }, 1>,
        Addpd => packed_doubles::<M, { ADD }>,
        Vaddpd if wide => vex_doubles::<M, { ADD }, 2>,
        Vaddpd => vex_doubles::<M, { ADD }, 1>,
        Subps => packed_singles::<M, { SUB }>,
        Vsubps if wide => vex_singles::<M, { SUB }, 2>,
        Vsubps => vex_singles::<M, { SUB }, 1>,
        Subpd => packed_doubles::<M, { SUB }>,
        Vsubpd if wide => vex_doubles::<M, { SUB }, 2>,
        Vsubpd => vex_doubles::<M, { SUB }, 1>,
        Mulps => packed_singles::<M, { MUL }>,
        Vmulps if wide => vex_singles::<M, { MUL }, 2>,
        Vmulps => vex_singles::<M, { MUL }, 1>,
        Mulpd => packed_doubles::<M, { MUL }>,
        Vmulpd if wide => vex_doubles::<M, { MUL }, 2>,
        Vmulpd => vex_doubles::<M, { MUL }, 1>,
        Divps => packed_singles::<M, { DIV }>,
        Vdivps if wide => vex_singles::<M, { DIV }, 2>,
        Vdivps => vex_singles::<M, { DIV }, 1>,
        Divpd => packed_doubles::<M, { DIV }>,
        Vdivpd if wide => vex_doubles::<M, { DIV }, 2>,
        Vdivpd => vex_doubles::<M, { DIV }, 1>,
        Minps => packed_singles::<M, { MIN }>,
        Vminps if wide => vex_singles::<M, { MIN }, 2>,
        Vminps => vex_singles::<M, { MIN }, 1>,
        Minpd => packed_doubles::<M, { MIN }>,
        Vminpd if wide => vex_doubles::<M, { MIN }, 2>,
        Vminpd => vex_doubles::<M, { MIN }, 1>,
        Maxps => packed_singles::<M, { MAX }>,
        Vmaxps if wide => vex_singles::<M, { MAX }, 2>,
        Vmaxps => vex_singles::<M, { MAX }, 1>,
        Maxpd => packed_doubles::<M, { MAX }>,
        Vmaxpd if wide => vex_doubles::<M, { MAX }, 2>,
        Vmaxpd => vex_doubles::<M, { MAX }, 1>,
        Sqrtps => packed_singles::<M, { SQRT }>,
        Vsqrtps if wide => vex_singles_unary::<M, { SQRT }, 2>,
        Vsqrtps => vex_singles_unary::<M, { SQRT }, 1>,
        Sqrtpd => packed_doubles::<M, { SQRT }>,
        Vsqrtpd if wide => vex_doubles_unary::<M, { SQRT }, 2>,
        Vsqrtpd => vex_doubles_unary::<M, { SQRT }, 1>,
        _ => {
            return select_scalar::<M>(instruction).or_else(|| select_comparison::<M>(instruction, wide));
        }
    })
}
