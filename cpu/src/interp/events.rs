//! What happens between blocks: events by priority (SDM vol. 3, 6.9), single steps, and invalidated code.

use super::Interpreter;
use super::blocks::{BlockId, InterpOp};
use super::tier::HotTier;
use crate::backend::{Exit, ResetKind, X86Ops};
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::mode::ModeKey;
use crate::op::Op;
use crate::state::{Activity, SegmentIndex, bits};
use iced_x86::{Code, Decoder, DecoderOptions, Formatter, IntelFormatter};
use rx86_softmmu::Attention;

/// `Op::code` of the instructions that deliver an interrupt themselves.
const SOFTWARE_INTERRUPTS: [u16; 3] = [Code::Int_imm8 as u16, Code::Int3 as u16, Code::Into as u16];

impl Cpu {
    /// Whether nothing is to be done at an instruction border that follows an end of block (`Interpreter::between_blocks`
    /// says what may be), so that the next block may follow at once.
    pub fn is_undisturbed(&self) -> bool {
        self.attention.peek() == 0
            && self.exit.is_none()
            && self.pending_exception.is_none()
            && !self.pv_eoi_deferred
            && self.state.activity == Activity::Active
            && !self.code_map.has_writes()
            && !self.must_step()
    }

    /// Whether the next instruction must be executed alone.
    fn must_step(&self) -> bool {
        let state = &self.state;
        state.flags.system & (bits::RFLAGS_TF | bits::RFLAGS_RF) != 0
            || state.sti_shadow
            || state.mov_ss_shadow
            || self.code_breakpoints_armed()
    }
}

impl<T: HotTier> Interpreter<T> {
    /// Does what is due at an instruction border. Returns why `run` must return, if it must.
    #[cold]
    #[inline(never)]
    pub(super) fn between_blocks(&mut self) -> Option<Exit> {
        if self.cpu.code_map.has_writes() || self.cpu.attention.peek() & Attention::CODE_WRITTEN != 0 {
            self.cpu.attention.clear(Attention::CODE_WRITTEN);
            self.hear_of_code();
        }
        if self.unsettled.is_due(&self.cpu) {
            self.compare_unsettled();
        }
        if let Some(exit) = self.cpu.exit.take() {
            return Some(exit);
        }
        if self.cpu.attention.peek() & (Attention::INIT | Attention::UNHALT) != 0 {
            self.take_activity_events();
        }
        // MOV SS and POP SS hold debug traps back until the next instruction is done.
        let held_back = self.cpu.state.mov_ss_shadow;
        if let Some(exception) =
            self.cpu.pending_exception.take_if(|exception| exception.vector != 1 || !held_back)
        {
            self.cpu.deliver_exception(exception);
        }
        self.deliver_interrupts();
        if let Some(exit) = self.cpu.exit.take() {
            return Some(exit);
        }
        if self.cpu.unhalted && self.cpu.state.activity == Activity::Halted {
            self.cpu.unhalted = false;
            self.cpu.state.activity = Activity::Active;
        }
        match self.cpu.state.activity {
            Activity::Active => {}
            Activity::Shutdown => return Some(Exit::Shutdown),
            Activity::Halted | Activity::WaitForSipi => return Some(Exit::Halt),
        }
        if self.cpu.attention.peek() & Attention::KICK != 0 {
            self.cpu.attention.clear(Attention::KICK);
            return Some(Exit::Yield);
        }
        if self.window_requested && self.cpu.interrupts_open() {
            self.window_requested = false;
            return Some(Exit::InterruptWindow);
        }
        self.stepping = self.tracing || self.cpu.must_step();
        None
    }

    /// INIT, SIPI, and the end of a halt by another vCPU's hypercall.
    fn take_activity_events(&mut self) {
        if self.cpu.attention.peek() & Attention::UNHALT != 0 {
            self.cpu.attention.clear(Attention::UNHALT);
            self.cpu.unhalted = true;
        }
        if self.cpu.attention.peek() & Attention::INIT == 0 {
            return;
        }
        self.cpu.attention.clear(Attention::INIT);
        if self.cpu.env.take_init() {
            self.cpu.reset(ResetKind::Init);
            if self.cpu.env.apic_id() != 0 {
                self.cpu.state.activity = Activity::WaitForSipi;
            }
        }
        if let Some(vector) = self.cpu.env.take_sipi() {
            self.cpu.start_up(vector);
        }
    }

    fn deliver_interrupts(&mut self) {
        // With interrupts open again, the one before has been handled; its end may let others through.
        if self.cpu.pv_eoi_deferred && self.cpu.interrupts_open() {
            self.cpu.pv_eoi_sync();
        }
        let attention = self.cpu.attention.peek();
        if attention & Attention::NMI != 0 {
            self.cpu.attention.clear(Attention::NMI);
            self.cpu.state.nmi_pending |= self.cpu.env.take_nmi();
        }
        if self.cpu.state.nmi_pending && self.cpu.nmi_open() {
            self.cpu.deliver_nmi();
            return;
        }
        if attention & Attention::INTERRUPT == 0 || !self.cpu.interrupts_open() {
            return;
        }
        // The flag is cleared first: whoever raises it after this look is seen at the next border.
        self.cpu.attention.clear(Attention::INTERRUPT);
        if let Some(vector) = self.cpu.env.acknowledge_interrupt() {
            self.cpu.pv_eoi_on_injection();
            self.cpu.deliver_interrupt(vector);
            // Behind a trap gate interrupts stay open, and no change of theirs tells when the next may come.
            if self.cpu.interrupts_open() {
                self.cpu.pv_eoi_sync();
            }
            if self.cpu.env.interrupt_pending() {
                self.cpu.attention.raise(Attention::INTERRUPT);
            }
        }
    }

    /// `X86Ops::step`.
    pub(super) fn step_one(&mut self) -> Exit {
        self.cpu.end_block();
        if let Some(exit) = self.between_blocks() {
            return exit;
        }
        if let Err(exception) = self.step_next() {
            self.cpu.deliver_exception(exception);
            self.cpu.end_block();
        }
        // Traps belong to the instruction that raised them.
        self.between_blocks().unwrap_or(Exit::Yield)
    }

    /// Executes one instruction, with what must be looked at before and after it. A breakpoint on it comes before what its
    /// fetch may raise (SDM vol. 3, table 6-2).
    #[cold]
    #[inline(never)]
    pub(super) fn step_next(&mut self) -> Result<(), Exception> {
        self.cpu.check_code_breakpoint()?;
        let id = self.next_block()?;
        self.step(id)
    }

    /// Executes a block's first instruction, with what must be looked at around it.
    fn step(&mut self, id: BlockId) -> Result<(), Exception> {
        if self.tracing {
            self.trace_instruction(id);
        }
        let shadows = (self.cpu.state.sti_shadow, self.cpu.state.mov_ss_shadow);
        let trap = self.cpu.state.flags.system & bits::RFLAGS_TF != 0;
        let resumed = self.cpu.state.flags.system & bits::RFLAGS_RF != 0;
        self.cpu.state.sti_shadow = false;
        self.cpu.state.mov_ss_shadow = false;
        let start = self.cpu.state.rip();
        let outcome = self.execute_first(id);
        self.cpu.end_block();
        if outcome.is_err() {
            // A faulting instruction does not use its shadow up.
            (self.cpu.state.sti_shadow, self.cpu.state.mov_ss_shadow) = shadows;
            return outcome.map(|_| ());
        }
        let code = outcome.as_ref().ok().map(|op| op.code);
        if resumed && !outcome.is_ok_and(|op| sets_resume_flag(&op, start == self.cpu.state.rip())) {
            self.cpu.state.flags.system &= !bits::RFLAGS_RF;
        }
        // INT n, INT3 and INTO clear TF with the delivery, and are not stepped (SDM vol. 3, 17.3.1.2).
        let interrupted = code.is_some_and(|code| SOFTWARE_INTERRUPTS.contains(&code))
            && self.cpu.state.flags.system & bits::RFLAGS_TF == 0;
        if trap && !interrupted && !self.cpu.state.mov_ss_shadow {
            self.cpu.note_single_step();
        }
        Ok(())
    }

    fn first_op(&self, id: BlockId) -> Option<&InterpOp> {
        self.blocks.ops(self.blocks.get(id)?).first()
    }

    /// Executes the block's first instruction, which the result names.
    fn execute_first(&mut self, id: BlockId) -> Result<Op, Exception> {
        // No block is empty, and none is dropped between its lookup and here.
        let Some((run, op)) = self.first_op(id).map(|op| (op.run, op.op)) else {
            return Err(Exception::UD);
        };
        self.cpu.block_limit = 1;
        let next = self.cpu.state.rip().wrapping_add(u64::from(op.length));
        self.cpu.state.set_rip(next);
        if let Err(exception) = run(&mut self.cpu, &op) {
            let start = self.cpu.state.rip().wrapping_sub(u64::from(op.length));
            self.cpu.state.set_rip(start);
            return Err(exception);
        }
        self.cpu.stats.instructions += 1;
        Ok(op)
    }

    /// Prints the instruction at RIP.
    fn trace_instruction(&mut self, id: BlockId) {
        let Some(op) = self.first_op(id).map(|op| op.op) else {
            return;
        };
        let state = &self.cpu.state;
        let rip = state.rip();
        let mode = self.cpu.mode();
        let base = if mode.has(ModeKey::LONG64) { 0 } else { state.segments[SegmentIndex::CS].base };
        let bytes = self.peek(base.wrapping_add(rip), usize::from(op.length));
        let instruction = Decoder::with_ip(mode.code_bits(), &bytes, rip, DecoderOptions::NONE).decode();
        let mut text = String::new();
        IntelFormatter::new().format(&instruction, &mut text);
        tracing::trace!(target: "rx86::instruction", "{rip:#x} {text}");
    }
}

/// Whether RF is not to be cleared behind this instruction: IRET has loaded it, and a repeated string instruction that is
/// not at its end has set it.
fn sets_resume_flag(op: &Op, repeats: bool) -> bool {
    let code = op.iced_code();
    let iret = matches!(code, Code::Iretw | Code::Iretd | Code::Iretq);
    iret || repeats && code.is_string_instruction()
}
