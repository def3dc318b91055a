//! A JIT that loses its translations again and again, for tests: the engine must do the same without them, and stale ones must
//! never be entered. With a small code cache their place is soon used by others.

use crate::engine::Jit;
use rx86_cpu::backend::TierStats;
use rx86_cpu::cpu::Cpu;
use rx86_cpu::interp::tier::{CodeView, HotTier, TierExit, TranslationId};
use rx86_cpu::mode::ModeKey;
use std::collections::BTreeSet;

/// After so many entries all translations are dropped.
const ENTRIES: u32 = 7;

/// The JIT, and the pages that it was asked to translate.
pub struct Forgetful {
    jit: Jit,
    pages: BTreeSet<u64>,
    entries: u32,
}

impl Forgetful {
    /// `jit`, which forgets from now on.
    pub fn new(jit: Jit) -> Self {
        Self { jit, pages: BTreeSet::new(), entries: 0 }
    }
}

impl HotTier for Forgetful {
    const NAME: &'static str = "forgetful jit";
    const ACTIVE: bool = true;

    fn threshold(&self) -> u32 {
        self.jit.threshold()
    }
    fn translate(&mut self, linear: u64, gpa: u64, mode: ModeKey, code: &mut dyn CodeView) {
        self.pages.insert(gpa & !0xfff);
        self.jit.translate(linear, gpa, mode, code);
    }
    fn finished(&mut self) -> Vec<(u64, ModeKey, TranslationId)> {
        self.jit.finished()
    }
    fn find(&self, gpa: u64, mode: ModeKey) -> Option<TranslationId> {
        self.jit.find(gpa, mode)
    }
    fn revive(&mut self, cpu: &mut Cpu, gpa: u64, mode: ModeKey) -> Option<TranslationId> {
        self.jit.revive(cpu, gpa, mode)
    }
    fn run(&mut self, cpu: &mut Cpu, translation: TranslationId, budget: u64, chains: bool) -> TierExit {
        self.entries += 1;
        if self.entries.is_multiple_of(ENTRIES) {
            for &page in &self.pages {
                self.jit.invalidate(page, 0x1000);
            }
        }
        self.jit.run(cpu, translation, budget, chains)
    }
    fn overrun(&self) -> u64 {
        self.jit.overrun()
    }
    fn invalidate(&mut self, gpa: u64, bytes: u64) -> usize {
        self.jit.invalidate(gpa, bytes)
    }
    fn pieces_of_page(&self, page: u64) -> Vec<(u64, u64)> {
        self.jit.pieces_of_page(page)
    }
    fn stats(&self) -> TierStats {
        self.jit.stats()
    }
}
