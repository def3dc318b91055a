//! Permutations, some of them across 128-bit lanes, and the insertion and extraction of lanes (SDM vol. 1, 5.14,
//! 5.15).

use super::operand::packed;
use super::rows;
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::op::Op;
use crate::ops::Hard;
use crate::simd::lanes::{Lane, Vector};
use crate::simd::shuffle::pshufd;
use iced_x86::{Instruction, Mnemonic, OpKind};
use std::array::from_fn;

/// VPERMILPS by a vector: bits 0 and 1 of b's lanes are indices into a.
#[inline(always)]
pub(crate) fn vpermilps(a: Vector, b: Vector) -> Vector {
    let a = u32::split(a);
    u32::map(b, |index| a[index as usize & 3])
}

/// VPERMILPD by a vector: bit 1 of b's lanes is an index into a.
#[inline(always)]
pub(crate) fn vpermilpd(a: Vector, b: Vector) -> Vector {
    let a = u64::split(a);
    u64::map(b, |index| a[index as usize >> 1 & 1])
}

/// VPERMILPS by an immediate.
fn permilps_immediate<const N: usize>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    super::operand::unary_immediate::<N>(cpu, op, pshufd)
}

/// VPERMILPD by an immediate: two bits for each lane.
fn permilpd_immediate<const N: usize>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let b = cpu.lanes_source::<N>(op, 1)?;
    let control = op.immediate as usize;
    let chosen = |i: usize, k: usize| b[i].0[control >> (2 * i + k) & 1];
    cpu.set_lanes::<N>(op.regs[0], from_fn(|i| Vector([chosen(i, 0), chosen(i, 1)])));
    Ok(())
}

/// VPERMD, VPERMPS: op1's doublewords are indices into op2.
fn vpermd(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let source = cpu.lanes_source::<2>(op, 2)?.map(u32::split);
    let indices = cpu.lanes::<2>(op.regs[1]);
    let chosen = |index: u32| source[index as usize >> 2 & 1][index as usize & 3];
    cpu.set_lanes(op.regs[0], indices.map(|indices| u32::map(indices, chosen)));
    Ok(())
}

/// VPERMQ, VPERMPD.
fn vpermq(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let [low, high] = cpu.lanes_source::<2>(op, 1)?;
    let quads = [low.0[0], low.0[1], high.0[0], high.0[1]];
    let chosen = |i: usize| quads[op.immediate as usize >> (2 * i) & 3];
    cpu.set_lanes(op.regs[0], [Vector([chosen(0), chosen(1)]), Vector([chosen(2), chosen(3)])]);
    Ok(())
}

rows! { select_by_vector:
    Vpermilps => packed(vpermilps);
    Vpermilpd => packed(vpermilpd);
}

rows! { select_by_immediate:
    Vpermilps => permilps_immediate;
    Vpermilpd => permilpd_immediate;
}

pub(super) fn select(instruction: &Instruction, wide: bool) -> Option<Hard> {
    use Mnemonic::*;
    Some(match instruction.mnemonic() {
        Vpermd | Vpermps => vpermd,
        Vpermq | Vpermpd => vpermq,
        _ if instruction.op2_kind() == OpKind::Immediate8 => return select_by_immediate(instruction, wide),
        _ => return select_by_vector(instruction, wide),
    })
}
