//! Data movement between vector registers, general registers and memory (SDM vol. 1, 5.14, 5.15).

use super::operand::unary;
use super::rows;
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::op::Op;
use crate::ops::Hard;
use crate::simd::lanes::Vector;
use crate::simd::moves::{self};
use crate::simd::mxcsr;
use iced_x86::{Instruction, Mnemonic};

/// VMOVDDUP: of 128 bits it reads only the low quadword.
fn movddup<const N: usize>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    if N == 1 {
        let low = cpu.quad_source(op, 1)?;
        cpu.set_only_vector(op.regs[0], Vector([low; 2]));
        return Ok(());
    }
    unary::<N>(cpu, op, |_, b| Vector([b.low(); 2]))
}

/// Runs the legacy form, whose operands are the same, and clears what is above its XMM register 0.
#[inline(always)]
pub(super) fn then_clear_upper(cpu: &mut Cpu, op: &Op, register: u8, legacy: Hard) -> Result<(), Exception> {
    legacy(cpu, op)?;
    let value = cpu.vector(register);
    cpu.set_only_vector(register, value);
    Ok(())
}

/// VZEROUPPER: the registers that the mode can name keep their low 128 bits.
fn vzeroupper(cpu: &mut Cpu, _: &Op) -> Result<(), Exception> {
    for register in 0..crate::simd::fxsave::xmm_count(cpu) {
        let value = cpu.vector(register);
        cpu.set_only_vector(register, value);
    }
    Ok(())
}

fn vzeroall(cpu: &mut Cpu, _: &Op) -> Result<(), Exception> {
    for register in 0..crate::simd::fxsave::xmm_count(cpu) {
        cpu.set_only_vector(register, Vector::ZERO);
    }
    Ok(())
}

rows! { select_by_length:
    Vmovddup => movddup;
}

pub(super) fn select(instruction: &Instruction, wide: bool) -> Option<Hard> {
    Some(match instruction.mnemonic() {
        Mnemonic::Vzeroupper => vzeroupper,
        Mnemonic::Vzeroall => vzeroall,
        Mnemonic::Vmaskmovdqu => moves::maskmovdqu,
        Mnemonic::Vldmxcsr => mxcsr::ldmxcsr,
        Mnemonic::Vstmxcsr => mxcsr::stmxcsr,
        _ => return select_by_length(instruction, wide),
    })
}
