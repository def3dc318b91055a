//! Floating-point arithmetic and comparison (SDM vol. 1, 14.1, 14.9).

use super::operand::{packed_float, scalar_f32, scalar_f64, unary, unary_float};
use super::rows;
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::float::{Arith, sse};
use crate::op::Op;
use crate::ops::Hard;
use crate::simd::float::{
    addsubpd, addsubps, dppd, dpps, horizontal_f32, horizontal_f64, rcpps, roundpd, roundps, rsqrtps,
};
use crate::simd::lanes::Vector;
use crate::simd::quick;
use iced_x86::{Instruction, Mnemonic};

/// Sums or differences of neighbours.
fn horizontal_ps(operation: Arith) -> impl Fn(Vector, Vector, u32) -> (Vector, u16) {
    move |a, b, mxcsr| horizontal_f32(operation, a, b, mxcsr)
}

fn horizontal_pd(operation: Arith) -> impl Fn(Vector, Vector, u32) -> (Vector, u16) {
    move |a, b, mxcsr| horizontal_f64(operation, a, b, mxcsr)
}

fn round_ps<const N: usize>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    unary_float::<N>(cpu, op, |_, b, mxcsr| roundps(b, op.immediate as u8, mxcsr))
}

fn round_pd<const N: usize>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    unary_float::<N>(cpu, op, |_, b, mxcsr| roundpd(b, op.immediate as u8, mxcsr))
}

/// VDPPS and VDPPD settle the flags of all lanes themselves, step by step.
fn dot_ps<const N: usize>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let b = cpu.lanes_source::<N>(op, 2)?;
    let a = cpu.lanes::<N>(op.regs[1]);
    let (value, flags) = dpps(a, b, op.immediate as u8, cpu.state.mxcsr);
    cpu.raise_simd(flags)?;
    cpu.set_lanes(op.regs[0], value);
    Ok(())
}

fn dot_pd(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let [b] = cpu.lanes_source(op, 2)?;
    let a = cpu.vector(op.regs[1]);
    let (value, flags) = dppd(a, b, op.immediate as u8, cpu.state.mxcsr);
    cpu.raise_simd(flags)?;
    cpu.set_only_vector(op.regs[0], value);
    Ok(())
}

rows! { select_packed:
    Vhaddps => packed_float(horizontal_ps(Arith::Add));
    Vhsubps => packed_float(horizontal_ps(Arith::Sub));
    Vhaddpd => packed_float(horizontal_pd(Arith::Add));
    Vhsubpd => packed_float(horizontal_pd(Arith::Sub));
    Vaddsubps => packed_float(addsubps);
    Vaddsubpd => packed_float(addsubpd);
    Vrcpps => unary(rcpps);
    Vrsqrtps => unary(rsqrtps);
    Vroundps => round_ps;
    Vroundpd => round_pd;
    Vdpps => dot_ps;
}

fn select_others(instruction: &Instruction) -> Option<Hard> {
    use Mnemonic::*;
    Some(match instruction.mnemonic() {
        Vdppd => dot_pd,
        Vrcpss => |cpu, op| scalar_f32(cpu, op, |_, b, _| (sse::rcp_f32(b), 0)),
        Vrsqrtss => |cpu, op| scalar_f32(cpu, op, |_, b, _| (sse::rsqrt_f32(b), 0)),
        Vroundss => {
            |cpu, op| scalar_f32(cpu, op, |_, b, mxcsr| quick::round_f32(b, op.immediate as u8, mxcsr))
        }
        Vroundsd => {
            |cpu, op| scalar_f64(cpu, op, |_, b, mxcsr| quick::round_f64(b, op.immediate as u8, mxcsr))
        }
        _ => return None,
    })
}

pub(super) fn select(instruction: &Instruction, wide: bool) -> Option<Hard> {
    select_packed(instruction, wide).or_else(|| select_others(instruction))
}
