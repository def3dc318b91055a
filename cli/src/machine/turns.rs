//! A deterministic run: all vCPUs in turn on one thread, each for a counted number of instructions, in time that is a count
//! of instructions too. What happens depends on nothing but the machine's configuration, the seed and the recorded input.
//!
//! Between two turns, at a *border*, time has moved on by the instructions of the turn, due timers act, and input arrives.
//! Everything else that can make a vCPU look up (its own accesses to chips, other vCPUs in their turns) happens at an
//! instruction that every engine takes notice of at once. So interrupts are delivered behind the same instructions whoever
//! executes them, and stopping in the midst of a turn changes nothing.

use super::environment::split_mix;
use super::report::TripleFault;
use super::run::outcome_of;
use super::shared::{Ending, lock};
use super::state_hash::StateHashes;
use super::{Machine, Outcome};
use crate::recording::Input;
use anyhow::{Result, anyhow, ensure};
use rx86_cpu::backend::Exit;
use rx86_devices::Clock;
use rx86_softmmu::Attention;
use std::sync::atomic::Ordering;

/// Instructions of the shortest and the longest usual turn.
const USUAL: (u64, u64) = (10_000, 40_000);
/// The longest of the short turns, which show what a well-timed interruption does.
const SHORT: u64 = 500;
/// One turn in so many is short.
const SHORT_EVERY: u64 = 16;
/// An engine that so often in a row comes back with nothing retired is not merely called by the host: the guest raises
/// exceptions without end, and time must go on.
const FRUITLESS: u32 = 16;

/// What a vCPU does when it is not its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    /// It is ready to go on.
    Not,
    /// For an event that ends its halt.
    Halted,
    /// For an event, or this time.
    Resting(u64),
}

/// How a machine's vCPUs take turns, and how far they have come. Belongs to one machine from its switch-on.
pub struct Turns {
    random: u64,
    input: Input,
    hashes: Option<StateHashes>,
    waiting: Vec<Waiting>,
    /// The vCPU whose turn it is, or was last.
    current: usize,
    /// Instructions left in the turn; none at a border.
    left: u64,
    /// Those retired in the turn.
    done: u64,
    begun_ns: u64,
    retired: u64,
    fruitless: u32,
}

impl Turns {
    /// Turns as `seed` varies them, with `input` for the guest.
    pub fn new(seed: u64, input: Input) -> Self {
        Self {
            // Not the sequence that the guest's random numbers begin with.
            random: seed ^ 0x7475_726e_7300,
            input,
            hashes: None,
            waiting: Vec::new(),
            current: 0,
            left: 0,
            done: 0,
            begun_ns: 0,
            retired: 0,
            fruitless: 0,
        }
    }

    /// Writes a hash of the machine's state whenever it is due.
    pub fn set_hashes(&mut self, hashes: StateHashes) {
        self.hashes = Some(hashes);
    }

    /// Instructions that all vCPUs together have retired.
    pub fn retired(&self) -> u64 {
        self.retired
    }

    /// A number of instructions for the next turn.
    fn next_length(&mut self) -> u64 {
        let number = split_mix(&mut self.random);
        let (least, most) = USUAL;
        if number.is_multiple_of(SHORT_EVERY) {
            1 + (number >> 8) % SHORT
        } else {
            least + (number >> 8) % (most - least)
        }
    }

    /// Guest time by the instructions of the turn.
    fn now_ns(&self) -> u64 {
        self.begun_ns + self.done
    }

    /// The instructions until something is to be done in the midst of a turn.
    fn budget(&self) -> u64 {
        let hash = self.hashes.as_ref().map(|hashes| hashes.due().saturating_sub(self.retired));
        let stop = self.input.stops_at().map(|stop| stop.saturating_sub(self.retired));
        hash.into_iter().chain(stop).fold(self.left, u64::min)
    }
}

impl Machine {
    /// Runs the guest deterministically until something ends it; as `run` otherwise. The machine was made `by_hand`.
    pub fn run_in_turns(&mut self, turns: &mut Turns) -> Result<Outcome> {
        ensure!(
            self.shared.clock.is_by_hand() && self.processors[0].engine.can_step(),
            "the engine '{}' cannot run deterministically: use --engine jit or interp",
            self.engine_name()
        );
        self.shared.interrupts_held.store(false, Ordering::Relaxed);
        if turns.waiting.is_empty() {
            turns.waiting = vec![Waiting::Not; self.processors.len()];
            turns.input.begin(self.state_digest())?;
        }
        loop {
            let ending = self.take_turns(turns)?;
            self.flush_output();
            match outcome_of(ending, self.config.no_reboot) {
                Some(outcome) => {
                    let outcome = outcome?;
                    self.note_end(turns, &outcome)?;
                    return Ok(outcome);
                }
                None => {
                    self.reboot()?;
                    turns.waiting.fill(Waiting::Not);
                    turns.left = 0;
                }
            }
        }
    }

    /// Writes what belongs at the end of a run. A pause is none.
    fn note_end(&mut self, turns: &mut Turns, outcome: &Outcome) -> Result<()> {
        if matches!(outcome, Outcome::Paused) {
            return Ok(());
        }
        if matches!(outcome, Outcome::Stopped) {
            turns.input.note_stop(turns.retired)?;
        }
        let (retired, now_ns) = (turns.retired, turns.now_ns());
        match &mut turns.hashes {
            Some(hashes) => hashes.write_last(retired, now_ns, || self.state_digest()),
            None => Ok(()),
        }
    }

    fn take_turns(&mut self, turns: &mut Turns) -> Result<Ending> {
        loop {
            if let Some(outcome) = self.remote.wish() {
                return Ok(Ending::Outcome(Ok(outcome)));
            }
            if turns.input.stops_at() == Some(turns.retired) {
                return Ok(Ending::Outcome(Ok(Outcome::Stopped)));
            }
            if turns.left == 0
                && let Some(outcome) = self.border(turns)?
            {
                return Ok(Ending::Outcome(Ok(outcome)));
            }
            self.execute(turns);
            if let Some(ending) = self.shared.take_ending() {
                turns.left = 0;
                return Ok(ending);
            }
            let (retired, now_ns) = (turns.retired, turns.now_ns());
            if let Some(hashes) = &mut turns.hashes {
                hashes.write_if_due(retired, now_ns, || self.state_digest())?;
            }
        }
    }

    /// Executes the turn up to its end, or where something is to be done in its midst.
    fn execute(&mut self, turns: &mut Turns) {
        let shared = self.shared.clone();
        let engine = &mut self.processors[turns.current].engine;
        let before = engine.stats().instructions;
        let budget = turns.budget();
        let exit = engine.run_exactly(budget);
        let done = engine.stats().instructions - before;
        assert!(done <= budget, "an engine that is to stop behind {budget} instructions has executed {done}");
        engine.set_a20(shared.a20.load(Ordering::Relaxed));
        turns.left -= done;
        turns.done += done;
        turns.retired += done;
        turns.fruitless = if done == 0 { turns.fruitless + 1 } else { 0 };
        let mut is_over = turns.fruitless >= FRUITLESS;
        if let Some(until_ns) = shared.take_rest() {
            turns.waiting[turns.current] = Waiting::Resting(until_ns);
            is_over = true;
        }
        match exit {
            Exit::Halt => {
                turns.waiting[turns.current] = Waiting::Halted;
                is_over = true;
            }
            Exit::Shutdown => {
                let fault = TripleFault::of(&mut **engine);
                shared.end(Ending::Outcome(Ok(Outcome::TripleFault(Box::new(fault)))));
            }
            Exit::Failed => {
                let reason = engine.failure().unwrap_or("no reason given");
                shared.end(Ending::Outcome(Err(anyhow!("the engine cannot go on: {reason}"))));
            }
            Exit::Yield | Exit::InterruptWindow | Exit::Debug => {}
        }
        if is_over {
            turns.left = 0;
            turns.fruitless = 0;
        }
    }

    /// Moves time on, lets timers and input act, and begins the turn of the next vCPU that has something to do; time in which
    /// none has is skipped. Returns how the run ends if none ever will.
    fn border(&mut self, turns: &mut Turns) -> Result<Option<Outcome>> {
        self.flush_output();
        let shared = self.shared.clone();
        // Looks at the clock have moved it too, by less.
        let mut now_ns = turns.now_ns().max(shared.clock.now_ns());
        loop {
            shared.clock.set_ns(now_ns);
            let mut board = lock(&shared.board);
            board.advance(now_ns);
            turns.input.arrive(now_ns, &mut board, &self.remote)?;
            let deadline = board.next_deadline_ns();
            shared.a20.store(board.a20(), Ordering::Relaxed);
            drop(board);
            turns.begun_ns = now_ns;
            turns.done = 0;
            if let Some(next) = self.next_ready(turns, now_ns) {
                turns.waiting[next] = Waiting::Not;
                turns.current = next;
                let until_deadline = deadline.map_or(u64::MAX, |at| at.saturating_sub(now_ns).max(1));
                turns.left = turns.next_length().min(until_deadline);
                self.processors[next].engine.set_a20(shared.a20.load(Ordering::Relaxed));
                return Ok(None);
            }
            if !turns.waiting.iter().any(|waiting| matches!(waiting, Waiting::Resting(_)))
                && !self.processors.iter_mut().any(|processor| processor.engine.interrupt_allowed())
            {
                return Ok(Some(self.halted_for_good()));
            }
            // Timers that wake nobody may go on for ever.
            if let Some(outcome) = self.remote.wish() {
                return Ok(Some(outcome));
            }
            let rests = turns.waiting.iter().filter_map(|waiting| match waiting {
                Waiting::Resting(until_ns) => Some(*until_ns),
                _ => None,
            });
            let next_ns = rests.chain(deadline).min();
            match turns.input.wait(now_ns, next_ns, &self.remote) {
                Some(at_ns) => now_ns = at_ns.max(now_ns + 1),
                None => return Ok(Some(self.remote.wish().unwrap_or_else(|| self.halted_for_good()))),
            }
        }
    }

    fn halted_for_good(&mut self) -> Outcome {
        Outcome::HaltedForGood(self.processors[0].engine.state().rip())
    }

    /// The next vCPU behind the current one that has something to do.
    fn next_ready(&mut self, turns: &Turns, now_ns: u64) -> Option<usize> {
        let count = self.processors.len();
        (1..=count).map(|distance| (turns.current + distance) % count).find(|&number| {
            let processor = &mut self.processors[number];
            let raised = self.shared.attentions[number].peek();
            match turns.waiting[number] {
                Waiting::Not => true,
                Waiting::Halted => raised & processor.wakes() != 0,
                Waiting::Resting(until_ns) => {
                    now_ns >= until_ns || raised & !(Attention::KICK | Attention::CODE_WRITTEN) != 0
                }
            }
        })
    }

    /// Writes what the guest has printed; an output that nobody reads ends the run.
    fn flush_output(&mut self) {
        self.processors[0].flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_vary_with_the_seed_and_only_with_it() {
        let lengths = |seed| {
            let mut turns = Turns::new(seed, Input::None);
            (0..100).map(|_| turns.next_length()).collect::<Vec<_>>()
        };
        assert_eq!(lengths(1), lengths(1));
        assert_ne!(lengths(1), lengths(2));
        assert!(lengths(1).iter().all(|length| (1..USUAL.1).contains(length)));
        assert!(lengths(1).iter().any(|&length| length <= SHORT));
    }
}
