//! The machine's loop: run the vCPU, let the board's timers act, carry input and output, sleep while the guest halts.

use super::environment::lock;
use super::report::TripleFault;
use super::{Machine, Outcome};
use anyhow::Result;
use rx86_cpu::backend::{Exit, ResetKind};
use rx86_devices::{BoardRequest, Clock};
use std::time::Duration;

/// Instructions between two looks at the clock: some hundred microseconds of interpretation.
const BUDGET: u64 = 20_000;
/// The longest sleep while the guest halts without a timer; input and stops wake the thread at once.
const LONGEST_SLEEP_NS: u64 = 1_000_000_000;

impl Machine {
    /// Runs the guest until something ends it.
    pub fn run(&mut self) -> Result<Outcome> {
        loop {
            let exit = self.engine.run(BUDGET);
            let deadline = self.service_board();
            if self.output.flush().is_err() {
                // Nobody reads the console any more.
                return Ok(Outcome::Stopped);
            }
            if self.remote.is_stopped() {
                return Ok(Outcome::Stopped);
            }
            let request = lock(&self.board).take_request();
            match request {
                Some(BoardRequest::PowerOff) => return Ok(Outcome::PowerOff),
                Some(BoardRequest::DebugExit(value)) => return Ok(Outcome::DebugExit(value)),
                Some(BoardRequest::Reset) if self.config.no_reboot => return Ok(Outcome::Reset),
                Some(BoardRequest::Reset) => {
                    self.reboot()?;
                    continue;
                }
                None => {}
            }
            match exit {
                Exit::Halt => self.sleep_until(deadline),
                Exit::Shutdown => {
                    return Ok(Outcome::TripleFault(Box::new(TripleFault::of(&mut *self.engine))));
                }
                Exit::Yield | Exit::InterruptWindow | Exit::Debug => {}
            }
        }
    }

    /// Feeds typed bytes, fires due timers, follows the A20 gate; returns the next deadline.
    fn service_board(&mut self) -> Option<u64> {
        let mut board = lock(&self.board);
        let typed = self.remote.take_typed();
        if !typed.is_empty() {
            let taken = board.serial_input(&typed);
            self.remote.untake_typed(&typed[taken..]);
        }
        board.advance(self.clock.now_ns());
        let a20 = board.a20();
        let deadline = board.next_deadline_ns();
        drop(board);
        self.engine.set_a20(a20);
        deadline
    }

    /// Sleeps until the deadline, or until input or a stop wakes the thread; not at all if an interrupt is pending.
    fn sleep_until(&mut self, deadline: Option<u64>) {
        if lock(&self.board).pending(0) {
            return;
        }
        let now = self.clock.now_ns();
        let sleep = deadline.map_or(LONGEST_SLEEP_NS, |at| at.saturating_sub(now)).min(LONGEST_SLEEP_NS);
        if sleep > 0 {
            std::thread::park_timeout(Duration::from_nanos(sleep));
        }
    }

    /// The reset line: chips, processor, and the kernel loaded again as firmware would.
    fn reboot(&mut self) -> Result<()> {
        lock(&self.board).reset();
        self.engine.reset(ResetKind::PowerOn);
        self.load()
    }
}
