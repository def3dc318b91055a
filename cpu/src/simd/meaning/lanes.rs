//! Movement of lanes: masks, insertions, extractions, extensions, broadcasts, and 128-bit lanes of 256 bits (SDM vol. 1,
//! 5.4.1, 5.6.1, 5.10, 5.15).

use super::{double, put, registers, single, sources};
use crate::op::{Op, reg};
use crate::ops::Meaning;
use crate::simd::packed::{self, BroadcastByte, BroadcastDouble, BroadcastWord, Movddup, Operation, Psrldq};
use crate::vector_ops::VectorOps;
use crate::width::{W8, W16, W32, W64, Width};
use iced_x86::{Code, Instruction, Mnemonic};

/// PMOVMSKB, MOVMSKPS, MOVMSKPD.
fn mask<M: VectorOps, const N: usize, const LANE_BITS: u32>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let lanes = registers::<M, N>(m, op.regs[1]);
    let mut all = m.sign_bits(lanes[0], LANE_BITS);
    if let Some(&upper) = lanes.get(1) {
        let upper = m.sign_bits(upper, LANE_BITS);
        let upper = m.shl_by(upper, 128 / LANE_BITS);
        all = m.or(all, upper);
    }
    m.put::<W64>(op.regs[0], all);
    Ok(())
}

/// The lane that the immediate names.
fn lane_of<W: Width>(op: &Op) -> u32 {
    op.immediate as u32 % (128 / W::BITS)
}

/// PEXTRB, PEXTRW, PEXTRD, PEXTRQ, EXTRACTPS: memory takes the lane, a general register its zero-extension.
fn extract<M: VectorOps, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let vector = m.vector(op.regs[1]);
    let lane = m.extract(vector, W::BITS, lane_of::<W>(op));
    match op.regs[0] {
        reg::NONE => m.store::<W>(op, lane)?,
        register => m.put::<W64>(register, lane),
    }
    Ok(())
}

/// PINSRB, PINSRW, PINSRD, PINSRQ; the VEX forms take the other lanes from op1.
fn insert<M: VectorOps, W: Width, const VEX: bool>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let lane = match op.regs[if VEX { 2 } else { 1 }] {
        reg::NONE => m.load::<W>(op)?,
        register => m.get::<W64>(register),
    };
    let old = m.vector(op.regs[if VEX { 1 } else { 0 }]);
    let value = m.insert(old, W::BITS, lane_of::<W>(op), lane);
    m.set_vector(op.regs[0], value);
    if VEX {
        m.clear_upper(op.regs[0]);
    }
    Ok(())
}

/// PMOVSX and PMOVZX from a quadword.
fn extend_doubles<M: VectorOps, O: Operation>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let source = low_half(m, op)?;
    let value = m.packed::<O>(source, source, 0);
    m.set_vector(op.regs[0], value);
    Ok(())
}

/// PMOVSX and PMOVZX from a doubleword.
fn extend_singles<M: VectorOps, O: Operation>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let source = low_quarter(m, op)?;
    let value = m.packed::<O>(source, source, 0);
    m.set_vector(op.regs[0], value);
    Ok(())
}

fn vex_extend_doubles<M: VectorOps, O: Operation>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    extend_doubles::<M, O>(m, op)?;
    m.clear_upper(op.regs[0]);
    Ok(())
}

fn vex_extend_singles<M: VectorOps, O: Operation>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    extend_singles::<M, O>(m, op)?;
    m.clear_upper(op.regs[0]);
    Ok(())
}

/// VPMOVSX and VPMOVZX from 128 to 256 bits.
fn vex_extend_vector<M: VectorOps, O: Operation>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let [low] = sources::<M, 1>(m, op, 1, false)?;
    let high = m.packed::<Psrldq>(low, low, 8);
    let value = [low, high].map(|half| m.packed::<O>(half, half, 0));
    put::<M, 2>(m, op.regs[0], value);
    Ok(())
}

/// Operand 1: a register, or a quadword of memory.
fn low_half<M: VectorOps>(m: &mut M, op: &Op) -> Result<M::Vector, M::Fault> {
    match op.regs[1] {
        reg::NONE => {
            let value = m.load_double(op)?;
            Ok(m.vector_of_double(value))
        }
        register => Ok(m.vector(register)),
    }
}

/// Operand 1: a register, or a doubleword of memory.
fn low_quarter<M: VectorOps>(m: &mut M, op: &Op) -> Result<M::Vector, M::Fault> {
    match op.regs[1] {
        reg::NONE => {
            let value = m.load_single(op)?;
            Ok(m.vector_of_single(value))
        }
        register => Ok(m.vector(register)),
    }
}

/// VPBROADCASTB, VPBROADCASTW from a register.
fn broadcast<M: VectorOps, O: Operation, const N: usize>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let source = m.vector(op.regs[1]);
    let value = m.packed::<O>(source, source, 0);
    put::<M, N>(m, op.regs[0], [value; N]);
    Ok(())
}

/// VPBROADCASTB, VPBROADCASTW from memory.
fn broadcast_memory<M: VectorOps, W: Width, O: Operation, const N: usize>(
    m: &mut M,
    op: &Op,
) -> Result<(), M::Fault> {
    let value = m.load::<W>(op)?;
    let value = m.single_of(value);
    let source = m.vector_of_single(value);
    let value = m.packed::<O>(source, source, 0);
    put::<M, N>(m, op.regs[0], [value; N]);
    Ok(())
}

/// VPBROADCASTD, VBROADCASTSS.
fn broadcast_single<M: VectorOps, const N: usize>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let value = single(m, op, 1)?;
    let source = m.vector_of_single(value);
    let value = m.packed::<BroadcastDouble>(source, source, 0);
    put::<M, N>(m, op.regs[0], [value; N]);
    Ok(())
}

/// VPBROADCASTQ, VBROADCASTSD.
fn broadcast_double<M: VectorOps, const N: usize>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let value = double(m, op, 1)?;
    let source = m.vector_of_double(value);
    let value = m.packed::<Movddup>(source, source, 0);
    put::<M, N>(m, op.regs[0], [value; N]);
    Ok(())
}

/// VBROADCASTF128, VBROADCASTI128.
fn broadcast_vector<M: VectorOps>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let [value] = sources::<M, 1>(m, op, 1, false)?;
    put::<M, 2>(m, op.regs[0], [value; 2]);
    Ok(())
}

/// VINSERTF128, VINSERTI128.
fn insert_vector<M: VectorOps>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let [lane] = sources::<M, 1>(m, op, 2, false)?;
    let mut value = registers::<M, 2>(m, op.regs[1]);
    value[op.immediate as usize & 1] = lane;
    put(m, op.regs[0], value);
    Ok(())
}

/// VEXTRACTF128, VEXTRACTI128.
fn extract_vector<M: VectorOps>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let value = registers::<M, 2>(m, op.regs[1])[op.immediate as usize & 1];
    match op.regs[0] {
        reg::NONE => m.store_vectors(op, false, [value])?,
        register => put(m, register, [value]),
    }
    Ok(())
}

/// VPERM2F128, VPERM2I128.
fn permute_vectors<M: VectorOps>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let [b0, b1] = sources::<M, 2>(m, op, 2, false)?;
    let [a0, a1] = registers::<M, 2>(m, op.regs[1]);
    let zero = m.packed::<packed::Pxor>(a0, a0, 0);
    let chosen = |control: usize| if control & 8 != 0 { zero } else { [a0, a1, b0, b1][control & 3] };
    let control = op.immediate as usize;
    put(m, op.regs[0], [chosen(control), chosen(control >> 4)]);
    Ok(())
}

fn select_by_code<M: VectorOps>(instruction: &Instruction) -> Option<Meaning<M>> {
    use Code::*;
    Some(match instruction.code() {
        Pextrb_r32m8_xmm_imm8
        | Pextrb_r64m8_xmm_imm8
        | VEX_Vpextrb_r32m8_xmm_imm8
        | VEX_Vpextrb_r64m8_xmm_imm8 => extract::<M, W8>,
        Pextrw_r32_xmm_imm8
        | Pextrw_r64_xmm_imm8
        | Pextrw_r32m16_xmm_imm8
        | Pextrw_r64m16_xmm_imm8
        | VEX_Vpextrw_r32_xmm_imm8
        | VEX_Vpextrw_r64_xmm_imm8
        | VEX_Vpextrw_r32m16_xmm_imm8
        | VEX_Vpextrw_r64m16_xmm_imm8 => extract::<M, W16>,
        Pextrd_rm32_xmm_imm8
        | Extractps_rm32_xmm_imm8
        | Extractps_r64m32_xmm_imm8
        | VEX_Vpextrd_rm32_xmm_imm8
        | VEX_Vextractps_rm32_xmm_imm8
        | VEX_Vextractps_r64m32_xmm_imm8 => extract::<M, W32>,
        Pextrq_rm64_xmm_imm8 | VEX_Vpextrq_rm64_xmm_imm8 => extract::<M, W64>,
        Pinsrb_xmm_r32m8_imm8 | Pinsrb_xmm_r64m8_imm8 => insert::<M, W8, false>,
        Pinsrw_xmm_r32m16_imm8 | Pinsrw_xmm_r64m16_imm8 => insert::<M, W16, false>,
        Pinsrd_xmm_rm32_imm8 => insert::<M, W32, false>,
        Pinsrq_xmm_rm64_imm8 => insert::<M, W64, false>,
        VEX_Vpinsrb_xmm_xmm_r32m8_imm8 | VEX_Vpinsrb_xmm_xmm_r64m8_imm8 => insert::<M, W8, true>,
        VEX_Vpinsrw_xmm_xmm_r32m16_imm8 | VEX_Vpinsrw_xmm_xmm_r64m16_imm8 => insert::<M, W16, true>,
        VEX_Vpinsrd_xmm_xmm_rm32_imm8 => insert::<M, W32, true>,
        VEX_Vpinsrq_xmm_xmm_rm64_imm8 => insert::<M, W64, true>,
        _ => return None,
    })
}

fn select_extension<M: VectorOps>(instruction: &Instruction, wide: bool) -> Option<Meaning<M>> {
    use Mnemonic::*;
    Some(match instruction.mnemonic() {
        Pmovsxbw => extend_doubles::<M, packed::Pmovsxbw>,
        Vpmovsxbw if !wide => vex_extend_doubles::<M, packed::Pmovsxbw>,
        Vpmovsxbw => vex_extend_vector::<M, packed::Pmovsxbw>,
        Pmovsxbd => extend_singles::<M, packed::Pmovsxbd>,
        Vpmovsxbd if !wide => vex_extend_singles::<M, packed::Pmovsxbd>,
        Pmovsxwd => extend_doubles::<M, packed::Pmovsxwd>,
        Vpmovsxwd if !wide => vex_extend_doubles::<M, packed::Pmovsxwd>,
        Vpmovsxwd => vex_extend_vector::<M, packed::Pmovsxwd>,
        Pmovsxwq => extend_singles::<M, packed::Pmovsxwq>,
        Vpmovsxwq if !wide => vex_extend_singles::<M, packed::Pmovsxwq>,
        Pmovsxdq => extend_doubles::<M, packed::Pmovsxdq>,
        Vpmovsxdq if !wide => vex_extend_doubles::<M, packed::Pmovsxdq>,
        Vpmovsxdq => vex_extend_vector::<M, packed::Pmovsxdq>,
        Pmovzxbw => extend_doubles::<M, packed::Pmovzxbw>,
        Vpmovzxbw if !wide => vex_extend_doubles::<M, packed::Pmovzxbw>,
        Vpmovzxbw => vex_extend_vector::<M, packed::Pmovzxbw>,
        Pmovzxbd => extend_singles::<M, packed::Pmovzxbd>,
        Vpmovzxbd if !wide => vex_extend_singles::<M, packed::Pmovzxbd>,
        Pmovzxwd => extend_doubles::<M, packed::Pmovzxwd>,
        Vpmovzxwd if !wide => vex_extend_doubles::<M, packed::Pmovzxwd>,
        Vpmovzxwd => vex_extend_vector::<M, packed::Pmovzxwd>,
        Pmovzxwq => extend_singles::<M, packed::Pmovzxwq>,
        Vpmovzxwq if !wide => vex_extend_singles::<M, packed::Pmovzxwq>,
        Pmovzxdq => extend_doubles::<M, packed::Pmovzxdq>,
        Vpmovzxdq if !wide => vex_extend_doubles::<M, packed::Pmovzxdq>,
        Vpmovzxdq => vex_extend_vector::<M, packed::Pmovzxdq>,
        _ => return None,
    })
}

fn select_broadcast<M: VectorOps>(instruction: &Instruction, wide: bool) -> Option<Meaning<M>> {
    use Mnemonic::*;
    let memory = instruction.op1_kind() == iced_x86::OpKind::Memory;
    Some(match (instruction.mnemonic(), memory, wide) {
        (Vpbroadcastb, false, false) => broadcast::<M, BroadcastByte, 1>,
        (Vpbroadcastb, false, true) => broadcast::<M, BroadcastByte, 2>,
        (Vpbroadcastb, true, false) => broadcast_memory::<M, W8, BroadcastByte, 1>,
        (Vpbroadcastb, true, true) => broadcast_memory::<M, W8, BroadcastByte, 2>,
        (Vpbroadcastw, false, false) => broadcast::<M, BroadcastWord, 1>,
        (Vpbroadcastw, false, true) => broadcast::<M, BroadcastWord, 2>,
        (Vpbroadcastw, true, false) => broadcast_memory::<M, W16, BroadcastWord, 1>,
        (Vpbroadcastw, true, true) => broadcast_memory::<M, W16, BroadcastWord, 2>,
        (Vpbroadcastd | Vbroadcastss, _, false) => broadcast_single::<M, 1>,
        (Vpbroadcastd | Vbroadcastss, _, true) => broadcast_single::<M, 2>,
        (Vpbroadcastq | Vbroadcastsd, _, false) => broadcast_double::<M, 1>,
        (Vpbroadcastq | Vbroadcastsd, _, true) => broadcast_double::<M, 2>,
        (Vbroadcastf128 | Vbroadcasti128, ..) => broadcast_vector::<M>,
        _ => return None,
    })
}

pub(super) fn select<M: VectorOps>(instruction: &Instruction, wide: bool) -> Option<Meaning<M>> {
    use Mnemonic::*;
    Some(match instruction.mnemonic() {
        Pmovmskb => mask::<M, 1, 8>,
        Movmskps => mask::<M, 1, 32>,
        Movmskpd => mask::<M, 1, 64>,
        Vpmovmskb if wide => mask::<M, 2, 8>,
        Vmovmskps if wide => mask::<M, 2, 32>,
        Vmovmskpd if wide => mask::<M, 2, 64>,
        Vpmovmskb => mask::<M, 1, 8>,
        Vmovmskps => mask::<M, 1, 32>,
        Vmovmskpd => mask::<M, 1, 64>,
        Vinsertf128 | Vinserti128 => insert_vector::<M>,
        Vextractf128 | Vextracti128 => extract_vector::<M>,
        Vperm2f128 | Vperm2i128 => permute_vectors::<M>,
        _ => {
            return select_by_code::<M>(instruction)
                .or_else(|| select_extension::<M>(instruction, wide))
                .or_else(|| select_broadcast::<M>(instruction, wide));
        }
    })
}
