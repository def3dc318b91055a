//! A processor in 64-bit mode on a board without devices, and how the tests run single instructions on it.

use crate::bare_board::BareBoard;
use crate::cpu::Cpu;
use crate::decode::{Semantics, decode};
use crate::exception::Exception;
use crate::op::reg;
use crate::state::{Segment, SegmentIndex, X87, access, bits};

/// Where the tests' memory operand lies: a multiple of 64.
pub(super) const BUFFER: u64 = 0x10_000;

/// A processor in 64-bit mode, CPL 0, without paging, with SSE and XSAVE enabled, the x87 initialised; RDI points to the buffer.
pub(super) fn processor() -> Cpu {
    let mut cpu = BareBoard::default().cpu();
    let state = &mut cpu.state;
    state.cr0 = bits::CR0_PE | bits::CR0_NE | bits::CR0_ET;
    state.cr4 |= bits::CR4_OSFXSR | bits::CR4_OSXMMEXCPT | bits::CR4_OSXSAVE;
    state.efer |= bits::EFER_LME | bits::EFER_LMA;
    let flat = Segment { base: 0, limit: u32::MAX, access: 0x9b | access::LONG, selector: 8 };
    state.segments[SegmentIndex::CS] = flat;
    state.xcr0 = 0x203;
    state.x87 = X87::default();
    state.regs[usize::from(reg::RDI)] = BUFFER;
    cpu.paging_changed();
    cpu
}

/// Executes one instruction.
pub(super) fn run(cpu: &mut Cpu, code: &[u8]) -> Result<(), Exception> {
    let decoded = decode::<Cpu>(code, cpu.mode(), &cpu.model).expect("a whole instruction");
    let next = cpu.state.rip().wrapping_add(u64::from(decoded.op.length));
    cpu.state.set_rip(next);
    match decoded.semantics {
        Semantics::Hard(hard) => hard(cpu, &decoded.op),
        Semantics::Inline(meaning) => meaning(cpu, &decoded.op),
    }
}
