//! F16C: conversions between half and single precision (SDM vol. 1, 14.4).

use super::operand::raise_lanes;
use super::rows;
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::float::sse;
use crate::memory::stack_fault;
use crate::op::{Op, reg};
use crate::simd::float::settle;
use crate::simd::lanes::{Lane, Vector};
use rx86_softmmu::Access;

/// Half as many bits as the result has: a quadword for each lane of it.
fn quads<const N: usize>(cpu: &mut Cpu, op: &Op) -> Result<[u64; N], Exception> {
    let source = match (op.regs[1], N) {
        (reg::NONE, 1) => Vector::from_low(u64::from_le_bytes(cpu.load_bytes(op)?)),
        (reg::NONE, _) => Vector::from_bytes(cpu.load_bytes(op)?),
        (register, _) => cpu.vector(register),
    };
    Ok(std::array::from_fn(|i| source.0[i]))
}

/// A half that is a normal number or a zero converts by moving its fields.
#[inline(always)]
fn widen(half: u16, mxcsr: u32) -> (u32, u16) {
    let (sign, rest) = (u32::from(half & 0x8000) << 16, u32::from(half & 0x7fff));
    if (half >> 10 & 31).wrapping_sub(1) < 30 {
        // The biases are 15 and 127.
        return (sign | ((rest << 13) + (112 << 23)), 0);
    }
    if rest == 0 { (sign, 0) } else { sse::f16_to_f32(half, mxcsr) }
}

/// VCVTPH2PS of four halves.
fn vcvtph2ps(halves: u64, mxcsr: u32) -> (Vector, u16) {
    let mut flags = 0;
    let value = u32::build(|i| {
        let (value, raised) = widen((halves >> (16 * i)) as u16, mxcsr);
        flags |= raised;
        value
    });
    (value, settle(flags, mxcsr))
}

/// VCVTPS2PH of four singles: four halves in the low quadword.
fn vcvtps2ph(singles: Vector, control: u8, mxcsr: u32) -> (Vector, u16) {
    let (mut value, mut flags) = (0, 0);
    for single in u32::split(singles).into_iter().rev() {
        let (half, raised) = sse::f32_to_f16(single, control, mxcsr);
        value = value << 16 | u64::from(half);
        flags |= raised;
    }
    (Vector::from_low(value), settle(flags, mxcsr))
}

fn to_single<const N: usize>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let source = quads::<N>(cpu, op)?;
    let value = raise_lanes::<N>(cpu, |i, mxcsr| vcvtph2ps(source[i], mxcsr))?;
    cpu.set_lanes(op.regs[0], value);
    Ok(())
}

fn to_half<const N: usize>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let source = cpu.lanes::<N>(op.regs[1]);
    if op.regs[0] == reg::NONE {
        // A destination that faults comes before what the conversion raises.
        let bytes = 8 * N as u64;
        let linear = cpu.operand_linear(op, bytes, Access::Write)?;
        cpu.probe_write(linear, bytes).map_err(|fault| stack_fault(op, fault))?;
    }
    let value = raise_lanes::<N>(cpu, |i, mxcsr| vcvtps2ph(source[i], op.immediate as u8, mxcsr))?;
    let low = value[0].low();
    let all = Vector([low, value.get(1).map_or(0, |lane| lane.low())]);
    match (op.regs[0], N) {
        (reg::NONE, 1) => cpu.store_bytes(op, low.to_le_bytes()),
        (reg::NONE, _) => cpu.store_bytes(op, all.to_bytes()),
        (register, _) => {
            cpu.set_only_vector(register, all);
            Ok(())
        }
    }
}

rows! { select:
    Vcvtph2ps => to_single;
    Vcvtps2ph => to_half;
}
