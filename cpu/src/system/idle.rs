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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Exit, X86Ops};
    use crate::bare_board::BareBoard;
    use crate::decode::decode;
    use crate::interp::Interpreter;
    use rx86_softmmu::Attention;
    use std::sync::atomic::Ordering;

    #[test]
    fn mwait_rests_until_the_line_changes() {
        let board = BareBoard { cpus: 2, ..BareBoard::default() };
        let rests = board.rests.clone();
        let mut cpu = board.cpu();
        let op = decode::<Cpu>(b"\x0f\x01\xc8", cpu.mode(), &cpu.model).expect("MONITOR").op;
        cpu.state.regs[usize::from(reg::RAX)] = 0x5010;
        for (written, expected) in [(0x4fff, 1), (0x5000, 0), (0x503f, 0), (0x5040, 1)] {
            monitor(&mut cpu, &op).expect("CPL is 0");
            let mut byte = [0];
            cpu.mmu.memory().read(written, &mut byte).expect("RAM");
            cpu.mmu.memory().write(written, &[byte[0] + 1]).expect("RAM");
            let before = rests.load(Ordering::Relaxed);
            mwait(&mut cpu, &op).expect("CPL is 0");
            assert_eq!(rests.load(Ordering::Relaxed) - before, expected, "{written:#x}");
            assert_eq!(cpu.state.activity, Activity::Active);
        }
        mwait(&mut cpu, &op).expect("CPL is 0");
        assert_eq!(rests.load(Ordering::Relaxed), 2, "nothing is armed");
    }

    #[test]
    fn a_halt_is_ended_from_outside_before_or_after_it_begins() {
        let mut cpu = BareBoard::default().cpu();
        cpu.mmu.memory().write(0x1000, b"\xf4\xf4\xf4").expect("RAM");
        cpu.state.segments[1].base = 0;
        cpu.state.set_rip(0x1000);
        let attention = cpu.attention.clone();
        let mut engine = Interpreter::new(cpu);
        assert_eq!((engine.run(10), engine.state().rip()), (Exit::Halt, 0x1001));
        assert_eq!((engine.run(10), engine.state().rip()), (Exit::Halt, 0x1001));
        attention.raise(Attention::UNHALT);
        assert_eq!((engine.run(10), engine.state().rip()), (Exit::Halt, 0x1002));
        engine.cpu().state.activity = Activity::Active;
        attention.raise(Attention::UNHALT);
        engine.cpu().state.set_rip(0x1000);
        assert_eq!((engine.run(10), engine.state().rip()), (Exit::Halt, 0x1002), "the next halt is skipped");
    }
}
