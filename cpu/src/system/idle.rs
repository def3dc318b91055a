//! HLT, MONITOR and MWAIT (SDM vol. 2).

use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::op::{Op, reg};
use crate::ops::{Hard, MicroOps};
use crate::state::Activity;
use crate::width::W32;
use iced_x86::{Instruction, Mnemonic};
use rx86_softmmu::Access;

/// The meaning of an instruction of this family.
pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    match instruction.mnemonic() {
        Mnemonic::Hlt => Some(hlt),
        Mnemonic::Monitor => Some(monitor),
        Mnemonic::Mwait => Some(mwait),
        _ => None,
    }
}

/// The engine looks for an event first, and returns to the machine only if there is none.
fn halt(cpu: &mut Cpu) {
    cpu.state.activity = Activity::Halted;
    cpu.end_block();
}

fn hlt(cpu: &mut Cpu, _: &Op) -> Result<(), Exception> {
    cpu.require_cpl0()?;
    halt(cpu);
    Ok(())
}

/// #UD above CPL 0, #GP(0) for an extension in ECX: CPUID tells of none.
fn check(cpu: &mut Cpu) -> Result<(), Exception> {
    if cpu.state.cpl != 0 {
        return Err(Exception::UD);
    }
    if cpu.get::<W32>(reg::RCX) != 0 { Err(Exception::gp(0)) } else { Ok(()) }
}

fn monitor(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    check(cpu)?;
    let offset = cpu.state.regs[usize::from(reg::RAX)] & op.address_mask();
    let linear = cpu.segment_linear(usize::from(op.segment), offset, 1, Access::Read)?;
    cpu.monitor = Some(cpu.mmu.translate(linear, Access::Read)?.gpa);
    Ok(())
}

/// Waits for an interrupt like HLT. On a single processor only an interrupt can lead to a store to the monitored line.
fn mwait(cpu: &mut Cpu, _: &Op) -> Result<(), Exception> {
    check(cpu)?;
    if cpu.monitor.take().is_some() {
        halt(cpu);
    }
    Ok(())
}
