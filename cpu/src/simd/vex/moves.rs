//! Data movement between vector registers, general registers and memory (SDM vol. 1, 5.14, 5.15).

use super::operand::{unary, with_low_double};
use super::rows;
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::op::{Op, reg};
use crate::ops::{Hard, MicroOps};
use crate::simd::lanes::Vector;
use crate::simd::moves::{self, pmovmskb, sign_mask};
use crate::simd::mxcsr;
use crate::width::W64;
use iced_x86::{Code, Instruction, Mnemonic};
use rx86_softmmu::Access;

/// VMOVAPS and relatives: memory must be aligned to the operand's size.
fn mov_aligned<const N: usize>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    mov::<N>(cpu, op, 16 * N as u64 - 1)
}

/// VMOVUPS and relatives: anywhere.
fn mov_unaligned<const N: usize>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    mov::<N>(cpu, op, 0)
}

/// A move of all bits; #GP(0) if the address has one of the bits of `misaligned`.
#[inline(always)]
fn mov<const N: usize>(cpu: &mut Cpu, op: &Op, misaligned: u64) -> Result<(), Exception> {
    let (to, from) = (op.regs[0], op.regs[1]);
    if to != reg::NONE && from != reg::NONE {
        let value = cpu.lanes::<N>(from);
        cpu.set_lanes(to, value);
        return Ok(());
    }
    let access = if to == reg::NONE { Access::Write } else { Access::Read };
    let linear = cpu.operand_linear(op, 16 * N as u64, access)?;
    if linear & misaligned != 0 {
        return Err(Exception::gp(0));
    }
    if to == reg::NONE {
        return cpu.write_lanes(op, linear, cpu.lanes::<N>(from));
    }
    let value = cpu.read_lanes::<N>(op, linear)?;
    cpu.set_lanes(to, value);
    Ok(())
}

/// VMOVDDUP: of 128 bits it reads only the low quadword.
fn movddup<const N: usize>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    if N == 1 {
        let low = cpu.quad_source(op, 1)?;
        cpu.set_only_vector(op.regs[0], Vector([low; 2]));
        return Ok(());
    }
    unary::<N>(cpu, op, |_, b| Vector([b.low(); 2]))
}

fn movmskps<const N: usize>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    move_mask::<N>(cpu, op, 4, |lane| sign_mask(lane, 32, 4))
}

fn movmskpd<const N: usize>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    move_mask::<N>(cpu, op, 2, |lane| sign_mask(lane, 64, 2))
}

fn movmskb<const N: usize>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    move_mask::<N>(cpu, op, 16, pmovmskb)
}

/// The masks of all lanes of op1, `bits` of each, to a general register.
#[inline(always)]
fn move_mask<const N: usize>(
    cpu: &mut Cpu,
    op: &Op,
    bits: usize,
    mask: impl Fn(Vector) -> u64,
) -> Result<(), Exception> {
    let lanes = cpu.lanes::<N>(op.regs[1]);
    let all = lanes.into_iter().enumerate().fold(0, |all, (i, lane)| all | mask(lane) << (bits * i));
    cpu.put::<W64>(op.regs[0], all);
    Ok(())
}

/// VMOVSS, VMOVSD between registers: op1 with op2's low element.
fn movss_registers(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let value = with_low_double(cpu.vector(op.regs[1]), cpu.vector(op.regs[2]).low() as u32);
    cpu.set_only_vector(op.regs[0], value);
    Ok(())
}

fn movsd_registers(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let value = Vector([cpu.vector(op.regs[2]).low(), cpu.vector(op.regs[1]).high()]);
    cpu.set_only_vector(op.regs[0], value);
    Ok(())
}

/// A load of a scalar: the rest of the register becomes zero.
fn movss_load(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let value = cpu.double_source(op, 1)?;
    cpu.set_only_vector(op.regs[0], Vector::from_low(u64::from(value)));
    Ok(())
}

fn movq_load(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let value = cpu.quad_source(op, 1)?;
    cpu.set_only_vector(op.regs[0], Vector::from_low(value));
    Ok(())
}

/// VMOVSS to memory.
fn movss_store(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let value = cpu.vector(op.regs[1]).low() as u32;
    cpu.store_bytes(op, value.to_le_bytes())
}

/// VMOVSD, VMOVLPS and VMOVQ to memory, VMOVQ also to a register.
fn movq_store(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let value = cpu.vector(op.regs[1]).low();
    if op.regs[0] == reg::NONE {
        return cpu.store_bytes(op, value.to_le_bytes());
    }
    cpu.set_only_vector(op.regs[0], Vector::from_low(value));
    Ok(())
}

/// VMOVLPS, VMOVLPD, VMOVHLPS: the low quadword from memory or from op2's high one, the high quadword from op1.
fn load_low(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let low = match op.regs[2] {
        reg::NONE => u64::from_le_bytes(cpu.load_bytes(op)?),
        register => cpu.vector(register).high(),
    };
    let high = cpu.vector(op.regs[1]).high();
    cpu.set_only_vector(op.regs[0], Vector([low, high]));
    Ok(())
}

/// VMOVHPS, VMOVHPD, VMOVLHPS: the high quadword from memory or from op2's low one, the low quadword from op1.
fn load_high(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let high = cpu.quad_source(op, 2)?;
    let low = cpu.vector(op.regs[1]).low();
    cpu.set_only_vector(op.regs[0], Vector([low, high]));
    Ok(())
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
    Vmovaps | Vmovapd | Vmovdqa | Vmovntps | Vmovntpd | Vmovntdq | Vmovntdqa => mov_aligned;
    Vmovups | Vmovupd | Vmovdqu | Vlddqu => mov_unaligned;
    Vmovddup => movddup;
    Vmovmskps => movmskps;
    Vmovmskpd => movmskpd;
    Vpmovmskb => movmskb;
}

fn select_by_code(instruction: &Instruction) -> Option<Hard> {
    use Code::*;
    Some(match instruction.code() {
        VEX_Vmovss_xmm_xmm_xmm | VEX_Vmovss_xmm_xmm_xmm_0F11 => movss_registers,
        VEX_Vmovsd_xmm_xmm_xmm | VEX_Vmovsd_xmm_xmm_xmm_0F11 => movsd_registers,
        VEX_Vmovss_xmm_m32 => movss_load,
        VEX_Vmovsd_xmm_m64 | VEX_Vmovq_xmm_xmmm64 => movq_load,
        VEX_Vmovss_m32_xmm => movss_store,
        VEX_Vmovsd_m64_xmm | VEX_Vmovlps_m64_xmm | VEX_Vmovlpd_m64_xmm | VEX_Vmovq_xmmm64_xmm => movq_store,
        VEX_Vmovlps_xmm_xmm_m64 | VEX_Vmovlpd_xmm_xmm_m64 | VEX_Vmovhlps_xmm_xmm_xmm => load_low,
        VEX_Vmovhps_xmm_xmm_m64 | VEX_Vmovhpd_xmm_xmm_m64 | VEX_Vmovlhps_xmm_xmm_xmm => load_high,
        VEX_Vmovhps_m64_xmm | VEX_Vmovhpd_m64_xmm => moves::store_high,
        VEX_Vmovd_xmm_rm32 => |cpu, op| then_clear_upper(cpu, op, op.regs[0], moves::movd_to_xmm),
        VEX_Vmovq_xmm_rm64 => |cpu, op| then_clear_upper(cpu, op, op.regs[0], moves::movq_to_xmm),
        VEX_Vmovd_rm32_xmm => moves::movd_from_xmm,
        VEX_Vmovq_rm64_xmm => moves::movq_from_xmm,
        _ => return None,
    })
}

pub(super) fn select(instruction: &Instruction, wide: bool) -> Option<Hard> {
    Some(match instruction.mnemonic() {
        Mnemonic::Vzeroupper => vzeroupper,
        Mnemonic::Vzeroall => vzeroall,
        Mnemonic::Vmaskmovdqu => moves::maskmovdqu,
        Mnemonic::Vldmxcsr => mxcsr::ldmxcsr,
        Mnemonic::Vstmxcsr => mxcsr::stmxcsr,
        _ => return select_by_length(instruction, wide).or_else(|| select_by_code(instruction)),
    })
}
