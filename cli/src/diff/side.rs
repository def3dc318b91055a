//! One side of a comparison that is an rx86 engine: a whole machine on a clock that counts instructions.

use super::registers::Registers;
use crate::machine::{Machine, MachineConfig, Outcome};
use anyhow::{Result, bail};
use iced_x86::{Decoder, DecoderOptions, Instruction};
use rx86_cpu::backend::Exit;
use rx86_cpu::mode::ModeKey;
use rx86_cpu::state::{SegmentIndex, Vcpu, bits};

/// Changes the state behind an instruction, and says whether it did: tests plant differences with it.
pub type Tamper = Box<dyn FnMut(&Instruction, &mut Vcpu) -> bool>;

/// A machine that stops where it is told to.
pub struct Rx86Side {
    machine: Machine,
    /// Nanoseconds that the guest has slept in HLT; the others are instructions.
    halted_ns: u64,
    halted: bool,
    tamper: Option<Tamper>,
    ended: Option<String>,
    interrupts: bool,
}

impl Rx86Side {
    /// A machine with its kernel loaded. With `interrupts` the board's interrupts are delivered, at borders only.
    pub fn new(mut config: MachineConfig, interrupts: bool) -> Result<Self> {
        config.by_hand = true;
        let machine = Machine::new(config)?;
        Ok(Self { machine, halted_ns: 0, halted: false, tamper: None, ended: None, interrupts })
    }

    /// Calls `tamper` behind every instruction, which makes this side slow.
    pub fn set_tamper(&mut self, tamper: Tamper) {
        self.tamper = Some(tamper);
    }

    /// The machine.
    pub fn machine(&mut self) -> &mut Machine {
        &mut self.machine
    }

    /// The engine's name.
    pub fn name(&self) -> &'static str {
        self.machine.engine_name()
    }

    /// Whether this side can stop behind every instruction.
    pub fn can_step(&mut self) -> bool {
        self.machine.engine().can_step()
    }

    /// Instructions retired since switch-on.
    pub fn retired(&self) -> u64 {
        self.machine.stats().instructions
    }

    /// Why this side does not go on, if it does not.
    pub fn ended(&self) -> Option<&str> {
        self.ended.as_deref()
    }

    /// Whether the processor is in HLT.
    pub fn is_halted(&self) -> bool {
        self.halted
    }

    /// The processor's state.
    pub fn state(&mut self) -> Vcpu {
        self.machine.engine().state().clone()
    }

    /// The registers that every kind of side has.
    pub fn registers(&mut self) -> Registers {
        Registers::of(self.machine.engine().state())
    }

    /// The instruction at RIP, and its linear address; an invalid one if its bytes cannot be read.
    pub fn next_instruction(&mut self) -> (u64, Instruction, Vec<u8>) {
        let engine = self.machine.engine();
        let state = engine.state();
        let (rip, bits) = (state.rip(), ModeKey::of(state).code_bits());
        let linear = if bits == 64 {
            rip
        } else {
            rip.wrapping_add(state.segments[SegmentIndex::CS].base) & 0xffff_ffff
        };
        let mut bytes = engine.peek(linear, 15);
        let instruction = Decoder::with_ip(bits, &bytes, rip, DecoderOptions::NONE).decode();
        bytes.truncate(instruction.len().max(1));
        (linear, instruction, bytes)
    }

    fn note(&mut self, exit: Exit) {
        match exit {
            Exit::Halt => self.halted = true,
            Exit::Shutdown => self.ended = Some("triple fault".into()),
            Exit::Failed => {
                let reason = self.machine.engine().failure().unwrap_or("no reason given").to_string();
                self.ended = Some(format!("the engine cannot go on: {reason}"));
            }
            Exit::Yield | Exit::InterruptWindow | Exit::Debug => {}
        }
    }

    /// Executes one instruction.
    pub fn step(&mut self) {
        let instruction = self.tamper.is_some().then(|| self.next_instruction().1);
        let exit = self.machine.engine().step();
        self.note(exit);
        if let (Some(tamper), Some(instruction)) = (&mut self.tamper, instruction) {
            let mut state = self.machine.engine().state().clone();
            if tamper(&instruction, &mut state) {
                self.machine.engine().load_state(&state);
            }
        }
    }

    /// Runs until exactly `target` instructions are retired, or the processor halts or ends.
    pub fn run_to(&mut self, target: u64) -> Result<()> {
        if !self.can_step() {
            bail!("the engine '{}' cannot stop behind a given instruction", self.name());
        }
        while self.retired() < target && self.ended.is_none() && !self.halted {
            if self.tamper.is_none() {
                let left = target - self.retired();
                let exit = self.machine.engine().run_exactly(left);
                self.note(exit);
            } else {
                self.step();
            }
        }
        Ok(())
    }

    /// Runs `instructions` with the board's interrupts, which act every `every` instructions, and on to where another
    /// emulator can take the state over. From there on interrupts are kept away.
    pub fn run_alone(&mut self, instructions: u64, every: u64, progress: &mut dyn FnMut(u64)) -> Result<()> {
        const MOST_MORE: u64 = 10_000_000;
        self.border();
        while self.ended.is_none() && self.retired() < instructions {
            let target = self.retired().saturating_add(every).min(instructions);
            self.run_to(target)?;
            progress(self.retired());
            self.border();
        }
        let end = self.retired().saturating_add(MOST_MORE);
        while self.ended.is_none() && !self.halted && !self.can_be_taken_over() {
            if self.retired() >= end {
                bail!(
                    "no instruction at CPL 0 within {MOST_MORE} behind the skipped ones; skip more or fewer"
                );
            }
            self.step();
        }
        match &self.ended {
            Some(end) => bail!("{end} after {} instructions, before all were skipped", self.retired()),
            None if self.halted => bail!("the processor is in HLT after {} instructions", self.retired()),
            None => self.interrupts = false,
        }
        Ok(())
    }

    /// Whether the state is one that can be loaded into another processor: CPL 0, and nothing hidden between two instructions.
    fn can_be_taken_over(&mut self) -> bool {
        let state = self.machine.engine().state();
        let held = state.sti_shadow || state.mov_ss_shadow || state.nmi_blocked;
        state.cpl == 0
            && !state.vm86()
            && !held
            && state.flags.get() & (bits::RFLAGS_RF | bits::RFLAGS_TF) == 0
    }

    /// Runs for about `budget` instructions, as far as the engine likes.
    pub fn run_about(&mut self, budget: u64) {
        if self.ended.is_none() && !self.halted {
            let exit = self.machine.engine().run(budget);
            self.note(exit);
        }
    }

    /// What happens between two stretches: time moves on, timers and interrupts act, and a guest in HLT sleeps until the
    /// next timer.
    pub fn border(&mut self) {
        if self.halted {
            let now = self.retired() + self.halted_ns;
            match self.machine.next_deadline_ns().filter(|_| self.interrupts) {
                Some(deadline) => self.halted_ns += deadline.saturating_sub(now).max(1),
                None => self.ended = Some("the processor halts, and no timer is set".into()),
            }
        }
        let now = self.retired() + self.halted_ns;
        if let Some(outcome) = self.machine.set_time(now) {
            self.ended = Some(
                match outcome {
                    Outcome::PowerOff => "the guest has powered itself off",
                    Outcome::Reset => "the guest has reset itself",
                    _ => "the guest has ended the run",
                }
                .into(),
            );
        }
        if self.interrupts {
            self.machine.let_interrupts_in();
            self.halted =
                self.halted && self.machine.engine().state().activity == rx86_cpu::state::Activity::Halted;
        }
    }
}
