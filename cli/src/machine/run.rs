//! A run of the machine: each vCPU on its thread, the first one's with the board's timers and the console's input.

use super::processor::Processor;
use super::shared::{Ending, Shared, lock};
use super::{Machine, Outcome};
use crate::console::Remote;
use anyhow::Result;
use rx86_devices::{BoardRequest, Clock};
use std::sync::atomic::Ordering;

impl Machine {
    /// Runs the guest until something ends it. After `Outcome::Stopped` and `Outcome::Paused` it may be called again, and the
    /// guest goes on as if nothing had been between: its time stands still meanwhile.
    pub fn run(&mut self) -> Result<Outcome> {
        loop {
            if let Some(outcome) = self.remote.wish() {
                return Ok(outcome);
            }
            let remote = self.remote.clone();
            self.shared.clock.go_on();
            let ending = self.run_processors(&remote);
            self.shared.clock.stand_still();
            match outcome_of(ending, self.config.no_reboot) {
                Some(outcome) => return outcome,
                None => self.reboot()?,
            }
        }
    }

    /// Runs all vCPUs until they are to stop, the first one on this thread.
    fn run_processors(&mut self, remote: &Remote) -> Ending {
        let (first, others) = self.processors.split_at_mut(1);
        std::thread::scope(|scope| {
            for processor in others {
                scope.spawn(|| {
                    processor.run(|shared| {
                        end_if_wished(shared, remote);
                        None
                    });
                });
            }
            first.iter_mut().for_each(|processor: &mut Processor| {
                processor.run(|shared| look_after_board(shared, remote));
            });
        });
        self.shared.take_ending().unwrap_or(Ending::Outcome(Ok(Outcome::Stopped)))
    }

    /// The reset line: chips, processors, and the kernel loaded again as firmware would.
    pub(super) fn reboot(&mut self) -> Result<()> {
        lock(&self.shared.board).reset();
        self.load()
    }
}

/// How a run ends that the vCPUs were stopped for; None if the machine is to be reset and goes on.
pub(super) fn outcome_of(ending: Ending, no_reboot: bool) -> Option<Result<Outcome>> {
    match ending {
        Ending::Outcome(outcome) => Some(outcome),
        Ending::Request(BoardRequest::PowerOff) => Some(Ok(Outcome::PowerOff)),
        Ending::Request(BoardRequest::DebugExit(value)) => Some(Ok(Outcome::DebugExit(value))),
        Ending::Request(BoardRequest::Reset) => no_reboot.then_some(Ok(Outcome::Reset)),
    }
}

/// Ends the run if somebody outside wants that.
fn end_if_wished(shared: &Shared, remote: &Remote) {
    if let Some(outcome) = remote.wish() {
        shared.end(Ending::Outcome(Ok(outcome)));
    }
}

/// Feeds typed bytes, fires the chips' due timers, looks whether the run is to stop; returns the chips' next deadline.
fn look_after_board(shared: &Shared, remote: &Remote) -> Option<u64> {
    end_if_wished(shared, remote);
    let mut board = lock(&shared.board);
    remote.hand_over(|typed| board.serial_input(typed));
    board.advance_chips(shared.clock.now_ns());
    shared.a20.store(board.a20(), Ordering::Relaxed);
    let deadline = board.next_chip_deadline_ns();
    shared.next_look_ns.store(deadline.unwrap_or(u64::MAX), Ordering::Relaxed);
    deadline
}
