//! The interpreter as an `X86Ops` backend.

use super::Interpreter;
use super::tier::HotTier;
use crate::backend::{EngineStats, Exit, ResetKind, X86Ops};
use crate::exception::Exception;
use crate::state::{Segment, Vcpu};
use crate::system::event::Event;
use rx86_softmmu::WalkStep;

impl<T: HotTier> Interpreter<T> {
    /// Does `run` with what belongs around it.
    fn in_guest(&mut self, run: impl FnOnce(&mut Self) -> Exit) -> Exit {
        self.cpu.mmu.memory().enter_guest(&self.cpu.code_watcher);
        self.cpu.report_stolen_time();
        let exit = run(self);
        self.cpu.code_watcher.leave_guest();
        match exit {
            Exit::Halt => self.cpu.stats.exits_halt += 1,
            _ => self.cpu.stats.exits_yield += 1,
        }
        exit
    }
}

impl<T: HotTier> X86Ops for Interpreter<T> {
    fn name(&self) -> &'static str {
        T::NAME
    }

    fn reset(&mut self, kind: ResetKind) {
        self.cpu.reset(kind);
    }

    fn state(&mut self) -> &Vcpu {
        &self.cpu.state
    }

    fn load_state(&mut self, state: &Vcpu) {
        self.cpu.state = state.clone();
        self.cpu.paging_changed();
        self.cpu.debug_registers_changed();
    }

    fn msr(&mut self, index: u32) -> Result<u64, Exception> {
        self.cpu.read_msr(index)
    }

    fn set_msr(&mut self, index: u32, value: u64) -> Result<(), Exception> {
        self.cpu.write_msr(index, value)
    }

    fn set_segment(&mut self, index: usize, segment: Segment) {
        self.cpu.state.segments[index] = segment;
        self.cpu.mode_changed();
    }

    fn set_cr0(&mut self, value: u64) -> Result<(), Exception> {
        self.cpu.write_cr0(value)
    }

    fn set_cr3(&mut self, value: u64) -> Result<(), Exception> {
        self.cpu.write_cr3(value)
    }

    fn set_cr4(&mut self, value: u64) -> Result<(), Exception> {
        self.cpu.write_cr4(value)
    }

    fn flush_tlb(&mut self) {
        self.cpu.mmu.flush_all();
    }

    fn flush_tlb_linear(&mut self, linear: u64) {
        self.cpu.mmu.invalidate_page(linear);
    }

    fn interrupt_allowed(&mut self) -> bool {
        self.cpu.interrupts_open()
    }

    fn nmi_allowed(&mut self) -> bool {
        self.cpu.nmi_open()
    }

    fn request_interrupt_window(&mut self) {
        self.window_requested = true;
    }

    fn queue_exception(&mut self, exception: Exception) {
        self.cpu.pending_exception = Some(exception);
    }

    fn set_a20(&mut self, open: bool) {
        self.cpu.set_a20(open);
    }

    fn recent_events(&self) -> Vec<(Event, u64)> {
        self.cpu.recent_events.iter().collect()
    }

    fn peek(&mut self, linear: u64, bytes: usize) -> Vec<u8> {
        let mmu = &self.cpu.mmu;
        let mut data = Vec::with_capacity(bytes);
        while data.len() < bytes {
            let at = linear.wrapping_add(data.len() as u64);
            let Some(translation) = rx86_softmmu::probe(mmu.memory(), mmu.context(), at) else { break };
            let mut part = vec![0; (bytes - data.len()).min(0x1000 - (at as usize & 0xfff))];
            if mmu.memory().read(translation.gpa, &mut part).is_err() {
                break;
            }
            data.append(&mut part);
        }
        data
    }

    fn page_walk(&mut self, linear: u64) -> Vec<WalkStep> {
        rx86_softmmu::walk_trace(self.cpu.mmu.memory(), self.cpu.mmu.context(), linear)
    }

    fn run(&mut self, budget: u64) -> Exit {
        self.in_guest(|engine| engine.run_blocks::<false>(budget))
    }

    fn run_exactly(&mut self, budget: u64) -> Exit {
        self.in_guest(|engine| engine.run_blocks::<true>(budget))
    }

    fn can_step(&self) -> bool {
        true
    }

    fn step(&mut self) -> Exit {
        self.cpu.mmu.memory().enter_guest(&self.cpu.code_watcher);
        let exit = self.step_one();
        self.cpu.code_watcher.leave_guest();
        exit
    }

    fn stats(&self) -> EngineStats {
        let tier = T::ACTIVE.then(|| self.tier.stats());
        EngineStats { tlb_fills: self.cpu.mmu.stats().walks, tier, ..self.cpu.stats.clone() }
    }
}
