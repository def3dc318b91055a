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

/// What MONITOR has armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Monitored {
    /// The line's guest physical address.
    gpa: u64,
    /// What it held.
    line: [u8; LINE_BYTES],
}

/// CPUID leaf 5 would tell the line's size; without it software takes a cache line.
const LINE_BYTES: usize = 64;
/// How long MWAIT waits before it looks at the line again.
const LOOK_NS: u64 = 50_000;

fn line(cpu: &Cpu, gpa: u64) -> [u8; LINE_BYTES] {
    let mut line = [0; LINE_BYTES];
    // Where there is no memory nothing changes.
    let _ = cpu.mmu.memory().read(gpa, &mut line);
    line
}

fn monitor(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    check(cpu)?;
    let offset = cpu.state.regs[usize::from(reg::RAX)] & op.address_mask();
    let linear = cpu.segment_linear(usize::from(op.segment), offset, 1, Access::Read)?;
    let gpa = cpu.mmu.translate(linear, Access::Read)?.gpa & !(LINE_BYTES as u64 - 1);
    cpu.monitor = Some(Monitored { gpa, line: line(cpu, gpa) });
    Ok(())
}

/// Waits for an interrupt, or a store of another processor to the monitored line: on a single processor like HLT, else for
/// a moment, for processors may wake for reasons of their own, and software looks again.
fn mwait(cpu: &mut Cpu, _: &Op) -> Result<(), Exception> {
    check(cpu)?;
    let Some(armed) = cpu.monitor.take() else { return Ok(()) };
    if cpu.env.cpu_count() < 2 {
        halt(cpu);
    } else if line(cpu, armed.gpa) == armed.line {
        cpu.env.rest(LOOK_NS);
        cpu.end_block();
    }
    Ok(())
}
