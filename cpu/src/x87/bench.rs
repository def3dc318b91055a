//! A processor on a bare machine, for the tests of single instructions.

use crate::bare_board::BareBoard;
use crate::cpu::Cpu;
use crate::decode::{Semantics, decode};
use crate::exception::Exception;
use crate::op::reg;
use crate::state::{SegmentIndex, X87, access, bits};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Where RDI points, for memory operands.
pub(super) const OPERAND_GPA: u64 = 0x1000;
/// Where instructions stand.
pub(super) const CODE_GPA: u64 = 0x2000;

/// A processor in flat 64-bit code, paging off, which no real one could be in but which suffices here.
pub(super) fn cpu() -> Cpu {
    cpu_and_ferr().0
}

/// The same, with its FERR# line.
pub(super) fn cpu_and_ferr() -> (Cpu, Arc<AtomicBool>) {
    let board = BareBoard::default();
    let ferr = board.ferr.clone();
    let mut cpu = board.cpu();
    cpu.state.cr0 = bits::CR0_PE | bits::CR0_NE;
    cpu.state.x87 = X87::default();
    cpu.state.efer = bits::EFER_LMA;
    cpu.state.segments[SegmentIndex::CS].access |= access::LONG;
    cpu.mode_changed();
    cpu.state.regs[usize::from(reg::RDI)] = OPERAND_GPA;
    (cpu, ferr)
}

/// Decodes and executes one instruction.
pub(super) fn run(cpu: &mut Cpu, code: &[u8]) -> Result<(), Exception> {
    cpu.mmu.memory().write(CODE_GPA, code).expect("RAM");
    let decoded = decode::<Cpu>(code, cpu.mode(), &cpu.model).expect("a whole instruction");
    cpu.state.set_rip(CODE_GPA + u64::from(decoded.op.length));
    let meaning = match decoded.semantics {
        Semantics::Inline(meaning) => meaning,
        Semantics::Hard(meaning) => meaning,
    };
    meaning(cpu, &decoded.op)
}
