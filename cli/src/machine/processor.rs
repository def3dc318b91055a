//! One vCPU on its thread: executing, its local APIC's timer, and sleep while the guest halts.

use super::Outcome;
use super::halt_poll::HaltPoll;
use super::pace::Pace;
use super::report::TripleFault;
use super::shared::{EndOnPanic, Ending, Shared, lock};
use crate::console::Output;
use anyhow::anyhow;
use rx86_cpu::backend::{Exit, ResetKind, X86Ops};
use rx86_cpu::state::{Activity, bits};
use rx86_devices::Clock;
use rx86_devices::lapic::LocalApic;
use rx86_softmmu::Attention;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The longest sleep while the guest halts without a timer; what is to end it wakes the thread at once.
const LONGEST_SLEEP_NS: u64 = 1_000_000_000;

/// A vCPU of the machine.
pub(super) struct Processor {
    /// Its number, which is its APIC id; the first one's is 0.
    pub(super) number: usize,
    pub(super) engine: Box<dyn X86Ops>,
    pub(super) lapic: Arc<Mutex<LocalApic>>,
    pub(super) shared: Arc<Shared>,
    pub(super) output: Output,
    pub(super) halt_poll: HaltPoll,
}

impl Processor {
    /// The engine after power-up: the bootstrap processor executes, the others wait to be started.
    pub(super) fn power_on(&mut self) {
        self.engine.reset(ResetKind::PowerOn);
        if self.number != 0 {
            let mut state = self.engine.state().clone();
            state.activity = Activity::WaitForSipi;
            self.engine.load_state(&state);
        }
    }

    /// Executes the guest until the run ends. Where `look_after` the thread looks at anything else that it is there for, it
    /// says when it next wants to.
    pub(super) fn run(&mut self, mut look_after: impl FnMut(&Shared) -> Option<u64>) {
        let shared = self.shared.clone();
        let _guard = EndOnPanic(&shared);
        let mut pace = Pace::new();
        shared.clock.runs(self.number);
        while !shared.is_ending() {
            let began = Instant::now();
            let exit = self.engine.run(pace.instructions());
            if exit == Exit::Yield {
                pace.took(began.elapsed());
            }
            shared.clock.runs(self.number);
            lock(&self.lapic).advance(shared.clock.now_ns());
            let deadline = look_after(&shared);
            self.engine.set_a20(shared.a20.load(Ordering::Relaxed));
            self.flush();
            match exit {
                Exit::Halt => self.halt(deadline),
                Exit::Shutdown => {
                    let fault = TripleFault::of(&mut *self.engine);
                    shared.end(Ending::Outcome(Ok(Outcome::TripleFault(Box::new(fault)))));
                }
                Exit::Failed => {
                    let reason = self.engine.failure().unwrap_or("no reason given");
                    shared.end(Ending::Outcome(Err(anyhow!("the engine cannot go on: {reason}"))));
                }
                Exit::Yield | Exit::InterruptWindow | Exit::Debug => {}
            }
        }
        shared.clock.sleeps(self.number, u64::MAX);
    }

    /// Writes what the guest has printed; an output that nobody reads ends the run.
    pub(super) fn flush(&mut self) {
        let Err(error) = self.output.flush() else { return };
        let outcome = match error.kind() {
            io::ErrorKind::BrokenPipe => Ok(Outcome::Stopped),
            _ => Err(anyhow!(error).context("cannot write the guest's console to standard output")),
        };
        self.shared.end(Ending::Outcome(outcome));
    }

    /// The flags that end the halt that it is in.
    pub(super) fn wakes(&mut self) -> u32 {
        let state = self.engine.state();
        let mut wakes = Attention::INIT;
        if state.activity != Activity::WaitForSipi {
            wakes |= Attention::NMI | Attention::UNHALT;
            if state.flags.system & bits::RFLAGS_IF != 0 {
                wakes |= Attention::INTERRUPT;
            }
        }
        wakes
    }

    /// Sleeps until the halt may be over, the local APIC's timer or `deadline` is due, or somebody wants the thread.
    fn halt(&mut self, deadline: Option<u64>) {
        let rip = self.engine.state().rip();
        let wakes = self.wakes() | Attention::KICK;
        if wakes & Attention::INTERRUPT != 0 {
            if !lock(&self.shared.board).pending(self.number) {
                self.sleep(wakes, deadline);
            }
            return;
        }
        // Only an NMI, INIT or hypercall of another one helps now.
        self.shared.fall_asleep(self.number);
        if self.number == 0 && self.shared.others_are_asleep() {
            self.shared.end(Ending::Outcome(Ok(Outcome::HaltedForGood(rip))));
        } else {
            self.sleep(wakes, deadline);
        }
        self.shared.wake_up(self.number);
    }

    fn sleep(&mut self, wakes: u32, deadline: Option<u64>) {
        let timer = lock(&self.lapic).next_deadline_ns();
        let next = timer.into_iter().chain(deadline).min();
        let left = next.map_or(LONGEST_SLEEP_NS, |at| at.saturating_sub(self.shared.clock.now_ns()));
        if left > 0 {
            let left = left.min(LONGEST_SLEEP_NS);
            self.shared.clock.sleeps(self.number, left);
            self.halt_poll.wait(&self.shared.attentions[self.number], wakes, Duration::from_nanos(left));
            self.shared.clock.runs(self.number);
        }
    }
}
