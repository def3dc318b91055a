//! The machine's loop: run the vCPU, let the board's timers act, carry input and output, sleep while the guest halts.

use super::environment::lock;
use super::report::TripleFault;
use super::{Machine, Outcome};
use anyhow::{Context, Result, bail};
use rx86_cpu::backend::Exit;
use rx86_cpu::state::bits;
use rx86_devices::{BoardRequest, Clock};
use rx86_softmmu::Attention;
use std::io;
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
            match self.output.flush() {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Outcome::Stopped),
                outcome => outcome.context("cannot write the guest's console to standard output")?,
            }
            if self.remote.is_stopped() {
                return Ok(Outcome::Stopped);
            }
            let request = lock(&self.request).take();
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
                Exit::Halt if self.is_halted_for_good() => {
                    return Ok(Outcome::HaltedForGood(self.engine.state().rip()));
                }
                Exit::Halt => self.sleep_until(deadline),
                Exit::Shutdown => {
                    return Ok(Outcome::TripleFault(Box::new(TripleFault::of(&mut *self.engine))));
                }
                Exit::Failed => {
                    bail!("the engine cannot go on: {}", self.engine.failure().unwrap_or("no reason given"))
                }
                Exit::Yield | Exit::InterruptWindow | Exit::Debug => {}
            }
        }
    }

    /// Feeds typed bytes, fires due timers, follows the A20 gate; returns the next deadline.
    fn service_board(&mut self) -> Option<u64> {
        let mut board = lock(&self.board);
        self.remote.hand_over(|typed| board.serial_input(typed));
        board.advance(self.clock.now_ns());
        let a20 = board.a20();
        let deadline = board.next_deadline_ns();
        drop(board);
        self.engine.set_a20(a20);
        deadline
    }

    /// Whether a processor in HLT can never leave it: with interrupts off only an NMI or INIT would help, and on a board
    /// with one processor nothing but that processor sends them.
    fn is_halted_for_good(&mut self) -> bool {
        let interrupts_off = self.engine.state().flags.system & bits::RFLAGS_IF == 0;
        interrupts_off && !self.remote.is_signalled(Attention::NMI | Attention::INIT)
    }

    /// Sleeps until the deadline, or until input or a stop wakes the thread; not at all if an interrupt is pending.
    fn sleep_until(&mut self, deadline: Option<u64>) {
        if lock(&self.board).pending(0) || self.remote.is_signalled(Attention::NMI | Attention::INIT) {
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
        self.load()
    }
}
