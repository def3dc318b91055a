//! A machine that somebody else drives, instruction by instruction: time and interrupts move only when they are told to.

use super::shared::{Ending, lock};
use super::{Machine, Outcome};
use rx86_cpu::backend::X86Ops;
use rx86_devices::BoardRequest;
use rx86_softmmu::{Attention, GuestMemory};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Machine {
    /// The engine with the processor.
    pub fn engine(&mut self) -> &mut dyn X86Ops {
        &mut *self.processors[0].engine
    }

    /// Guest memory.
    pub fn memory(&self) -> &Arc<GuestMemory> {
        &self.memory
    }

    /// Sets guest time, lets due timers act, and drops what the guest has printed. Returns how the run has ended, if the
    /// guest has asked for that.
    pub fn set_time(&mut self, now_ns: u64) -> Option<Outcome> {
        self.shared.clock.set_ns(now_ns);
        let mut board = lock(&self.shared.board);
        board.advance(now_ns);
        let a20 = board.a20();
        drop(board);
        self.processors[0].engine.set_a20(a20);
        self.output.discard();
        match self.shared.take_ending()? {
            Ending::Request(BoardRequest::PowerOff) => Some(Outcome::PowerOff),
            Ending::Request(BoardRequest::DebugExit(value)) => Some(Outcome::DebugExit(value)),
            Ending::Request(BoardRequest::Reset) => Some(Outcome::Reset),
            // Only `run` ends a run otherwise.
            Ending::Outcome(outcome) => outcome.ok(),
        }
    }

    /// When the next timer of the board is due.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        lock(&self.shared.board).next_deadline_ns()
    }

    /// Delivers an external interrupt if one is pending and the processor takes it; executes nothing.
    pub fn let_interrupts_in(&mut self) {
        self.shared.interrupts_held.store(false, Ordering::Relaxed);
        if lock(&self.shared.board).pending(0) {
            self.shared.attentions[0].raise(Attention::INTERRUPT);
        }
        self.processors[0].engine.run(0);
        self.shared.interrupts_held.store(true, Ordering::Relaxed);
    }
}
