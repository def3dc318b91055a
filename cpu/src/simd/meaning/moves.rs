//! Data movement between vector registers, general registers and memory (SDM vol. 1, 5.5.1.1, 5.6.1.1, 5.14).

use super::{double, put, put_double_of, put_single_of, single, sources};
use crate::op::{Op, reg};
use crate::ops::Meaning;
use crate::simd::packed::Movddup;
use crate::vector_ops::VectorOps;
use crate::width::{W32, W64};
use iced_x86::{Code, CodeSize, Instruction, Mnemonic, Register};

/// MOVAPS, MOVUPS and relatives.
fn mov<M: VectorOps, const ALIGNED: bool>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let [value] = sources::<M, 1>(m, op, 1, ALIGNED)?;
    match op.regs[0] {
        reg::NONE => m.store_vectors(op, ALIGNED, [value])?,
        register => m.set_vector(register, value),
    }
    Ok(())
}

/// VMOVAPS, VMOVUPS and relatives.
fn vex_mov<M: VectorOps, const ALIGNED: bool, const N: usize>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let value = sources::<M, N>(m, op, 1, ALIGNED)?;
    match op.regs[0] {
        reg::NONE => m.store_vectors(op, ALIGNED, value)?,
        register => put(m, register, value),
    }
    Ok(())
}

/// MOVSS, VMOVSS: a load clears the rest of the register.
fn load_single<M: VectorOps, const VEX: bool>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let value = m.load_single(op)?;
    m.set_only_single(op.regs[0], value);
    if VEX {
        m.clear_upper(op.regs[0]);
    }
    Ok(())
}

fn store_single<M: VectorOps>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let value = m.single(op.regs[1]);
    m.store_single(op, value)
}

/// MOVSS between registers: the rest of the register stays.
fn move_single<M: VectorOps>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let value = m.single(op.regs[1]);
    m.set_single(op.regs[0], value);
    Ok(())
}

fn vex_move_single<M: VectorOps>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let value = m.single(op.regs[2]);
    put_single_of(m, op, value);
    Ok(())
}

/// MOVSD, MOVQ and their VEX forms: the high quadword is cleared.
fn load_double<M: VectorOps, const VEX: bool>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let value = double(m, op, 1)?;
    m.set_only_double(op.regs[0], value);
    if VEX {
        m.clear_upper(op.regs[0]);
    }
    Ok(())
}

/// MOVSD, MOVQ, MOVLPS, MOVLPD to memory; MOVHPS, MOVHPD if `HALF` is 1.
fn store_double<M: VectorOps, const HALF: usize>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let value = m.double(op.regs[1], HALF);
    m.store_double(op, value)
}

/// MOVSD between registers: the high quadword stays.
fn move_double<M: VectorOps>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let value = m.double(op.regs[1], 0);
    m.set_double(op.regs[0], 0, value);
    Ok(())
}

fn vex_move_double<M: VectorOps>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let value = m.double(op.regs[2], 0);
    put_double_of(m, op, value);
    Ok(())
}

/// The quadword for half `half` of the destination: memory, or the other half of a register.
#[inline(always)]
fn crossing<M: VectorOps>(m: &mut M, op: &Op, position: usize, half: usize) -> Result<M::Double, M::Fault> {
    match op.regs[position] {
        reg::NONE => m.load_double(op),
        register => Ok(m.double(register, 1 - half)),
    }
}

/// MOVLPS, MOVLPD, MOVHLPS if `HALF` is 0; MOVHPS, MOVHPD, MOVLHPS if it is 1.
fn load_half<M: VectorOps, const HALF: usize>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let value = crossing(m, op, 1, HALF)?;
    m.set_double(op.regs[0], HALF, value);
    Ok(())
}

/// Their VEX forms, which take the other half from op1.
fn vex_load_half<M: VectorOps, const HALF: usize>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let value = crossing(m, op, 2, HALF)?;
    let other = m.double(op.regs[1], 1 - HALF);
    m.set_double(op.regs[0], HALF, value);
    m.set_double(op.regs[0], 1 - HALF, other);
    m.clear_upper(op.regs[0]);
    Ok(())
}

/// MOVDDUP.
fn duplicate<M: VectorOps, const VEX: bool>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let value = double(m, op, 1)?;
    let value = m.vector_of_double(value);
    let value = m.packed::<Movddup>(value, value, 0);
    m.set_vector(op.regs[0], value);
    if VEX {
        m.clear_upper(op.regs[0]);
    }
    Ok(())
}

/// MOVD, from a general register or memory.
fn movd_to<M: VectorOps, const VEX: bool>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let value = match op.regs[1] {
        reg::NONE => m.load_single(op)?,
        register => {
            let value = m.get::<W32>(register);
            m.single_of(value)
        }
    };
    m.set_only_single(op.regs[0], value);
    if VEX {
        m.clear_upper(op.regs[0]);
    }
    Ok(())
}

/// MOVQ, from a general register or memory.
fn movq_to<M: VectorOps, const VEX: bool>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let value = match op.regs[1] {
        reg::NONE => m.load_double(op)?,
        register => {
            let value = m.get::<W64>(register);
            m.double_of(value)
        }
    };
    m.set_only_double(op.regs[0], value);
    if VEX {
        m.clear_upper(op.regs[0]);
    }
    Ok(())
}

/// MOVD, to a general register or memory.
fn movd_from<M: VectorOps>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let value = single(m, op, 1)?;
    match op.regs[0] {
        reg::NONE => m.store_single(op, value)?,
        register => {
            let value = m.single_bits(value);
            m.put::<W32>(register, value);
        }
    }
    Ok(())
}

/// MOVQ, to a general register or memory.
fn movq_from<M: VectorOps>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let value = double(m, op, 1)?;
    match op.regs[0] {
        reg::NONE => m.store_double(op, value)?,
        register => {
            let value = m.double_bits(value);
            m.put::<W64>(register, value);
        }
    }
    Ok(())
}

/// VZEROUPPER, in 64-bit mode.
fn vzeroupper<M: VectorOps>(m: &mut M, _: &Op) -> Result<(), M::Fault> {
    for register in 0..16 {
        m.clear_upper(register);
    }
    Ok(())
}

fn movnti32<M: VectorOps>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let value = m.get::<W32>(op.regs[1]);
    m.store::<W32>(op, value)
}

fn movnti64<M: VectorOps>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let value = m.get::<W64>(op.regs[1]);
    m.store::<W64>(op, value)
}

fn select_legacy<M: VectorOps>(instruction: &Instruction) -> Option<Meaning<M>> {
    use Code::*;
    Some(match instruction.code() {
        Movss_xmm_xmmm32 if instruction.op1_register() == Register::None => load_single::<M, false>,
        Movss_xmm_xmmm32 => move_single::<M>,
        Movss_xmmm32_xmm if instruction.op0_register() == Register::None => store_single::<M>,
        Movss_xmmm32_xmm => move_single::<M>,
        Movsd_xmm_xmmm64 if instruction.op1_register() == Register::None => load_double::<M, false>,
        Movsd_xmm_xmmm64 => move_double::<M>,
        Movsd_xmmm64_xmm if instruction.op0_register() == Register::None => store_double::<M, 0>,
        Movsd_xmmm64_xmm => move_double::<M>,
        Movq_xmm_xmmm64 => load_double::<M, false>,
        Movq_xmmm64_xmm if instruction.op0_register() == Register::None => store_double::<M, 0>,
        Movq_xmmm64_xmm => load_double::<M, false>,
        Movd_xmm_rm32 => movd_to::<M, false>,
        Movq_xmm_rm64 => movq_to::<M, false>,
        Movd_rm32_xmm => movd_from::<M>,
        Movq_rm64_xmm => movq_from::<M>,
        Movlps_xmm_m64 | Movlpd_xmm_m64 | Movhlps_xmm_xmm => load_half::<M, 0>,
        Movhps_xmm_m64 | Movhpd_xmm_m64 | Movlhps_xmm_xmm => load_half::<M, 1>,
        Movlps_m64_xmm | Movlpd_m64_xmm => store_double::<M, 0>,
        Movhps_m64_xmm | Movhpd_m64_xmm => store_double::<M, 1>,
        Movnti_m32_r32 => movnti32::<M>,
        Movnti_m64_r64 => movnti64::<M>,
        _ => return None,
    })
}

fn select_vex<M: VectorOps>(instruction: &Instruction) -> Option<Meaning<M>> {
    use Code::*;
    Some(match instruction.code() {
        VEX_Vmovss_xmm_xmm_xmm | VEX_Vmovss_xmm_xmm_xmm_0F11 => vex_move_single::<M>,
        VEX_Vmovsd_xmm_xmm_xmm | VEX_Vmovsd_xmm_xmm_xmm_0F11 => vex_move_double::<M>,
        VEX_Vmovss_xmm_m32 => load_single::<M, true>,
        VEX_Vmovsd_xmm_m64 | VEX_Vmovq_xmm_xmmm64 => load_double::<M, true>,
        VEX_Vmovss_m32_xmm => store_single::<M>,
        VEX_Vmovsd_m64_xmm | VEX_Vmovlps_m64_xmm | VEX_Vmovlpd_m64_xmm => store_double::<M, 0>,
        VEX_Vmovq_xmmm64_xmm if instruction.op0_register() == Register::None => store_double::<M, 0>,
        VEX_Vmovq_xmmm64_xmm => load_double::<M, true>,
        VEX_Vmovlps_xmm_xmm_m64 | VEX_Vmovlpd_xmm_xmm_m64 | VEX_Vmovhlps_xmm_xmm_xmm => vex_load_half::<M, 0>,
        VEX_Vmovhps_xmm_xmm_m64 | VEX_Vmovhpd_xmm_xmm_m64 | VEX_Vmovlhps_xmm_xmm_xmm => vex_load_half::<M, 1>,
        VEX_Vmovhps_m64_xmm | VEX_Vmovhpd_m64_xmm => store_double::<M, 1>,
        VEX_Vmovd_xmm_rm32 => movd_to::<M, true>,
        VEX_Vmovq_xmm_rm64 => movq_to::<M, true>,
        VEX_Vmovd_rm32_xmm => movd_from::<M>,
        VEX_Vmovq_rm64_xmm => movq_from::<M>,
        _ => return None,
    })
}

pub(super) fn select<M: VectorOps>(instruction: &Instruction, wide: bool) -> Option<Meaning<M>> {
    use Mnemonic::*;
    Some(match instruction.mnemonic() {
        Movaps | Movapd | Movdqa | Movntps | Movntpd | Movntdq | Movntdqa => mov::<M, true>,
        Movups | Movupd | Movdqu | Lddqu => mov::<M, false>,
        Movddup => duplicate::<M, false>,
        Vmovaps | Vmovapd | Vmovdqa | Vmovntps | Vmovntpd | Vmovntdq | Vmovntdqa if wide => {
            vex_mov::<M, true, 2>
        }
        Vmovaps | Vmovapd | Vmovdqa | Vmovntps | Vmovntpd | Vmovntdq | Vmovntdqa => vex_mov::<M, true, 1>,
        Vmovups | Vmovupd | Vmovdqu | Vlddqu if wide => vex_mov::<M, false, 2>,
        Vmovups | Vmovupd | Vmovdqu | Vlddqu => vex_mov::<M, false, 1>,
        Vmovddup if !wide => duplicate::<M, true>,
        Vzeroupper if instruction.code_size() == CodeSize::Code64 => vzeroupper::<M>,
        _ => return select_legacy::<M>(instruction).or_else(|| select_vex::<M>(instruction)),
    })
}
