//! Why translated code was left, counted.

use crate::context::{JitContext, LeaveKind};
use rx86_cpu::backend::TierExits;
use rx86_cpu::cpu::Cpu;

/// Why an access was left to the interpreter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It crosses a page's end.
    CrossesPage,
    /// Its address is not canonical, or translating it faults.
    Faults,
    /// It writes to a page with code.
    WritesCodePage,
    /// It is no access to RAM.
    NotRam,
}

/// Counts a return from translated code to the engine.
pub(crate) fn count(exits: &mut TierExits, kind: LeaveKind, context: &JitContext, cpu: &Cpu) {
    let counter = match (kind, context.refusal) {
        (LeaveKind::Exception, _) => &mut exits.exception,
        (LeaveKind::Interpret, Some(Refusal::CrossesPage)) => &mut exits.access_crosses_page,
        (LeaveKind::Interpret, Some(Refusal::Faults)) => &mut exits.access_faults,
        (LeaveKind::Interpret, Some(Refusal::WritesCodePage)) => &mut exits.access_writes_code_page,
        (LeaveKind::Interpret, Some(Refusal::NotRam)) => &mut exits.access_not_ram,
        (LeaveKind::Interpret, None) => &mut exits.no_translation,
        (LeaveKind::Engine, _) => &mut exits.block_ended,
        (LeaveKind::Hot, _) => &mut exits.hot,
        (LeaveKind::Next, _) if context.remaining <= 0 => &mut exits.budget,
        (LeaveKind::Next, _) if cpu.attention.peek() != 0 => &mut exits.attention,
        (LeaveKind::Next, _) => &mut exits.next_unknown,
    };
    *counter += 1;
}
