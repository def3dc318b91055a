//! Running blocks with a tier above: counting, handing over, and coming back.

use super::Interpreter;
use super::blocks::{BlockCache, BlockId, Tag};
use super::tier::{CodeView, HotBlock, HotTier, TierExit, TranslationId};
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::mode::ModeKey;
use rx86_softmmu::Access;

impl<T: HotTier> Interpreter<T> {
    /// Executes a block by its translation, or interprets it and counts. `end` is the count of instructions at which the
    /// budget is spent; if `EXACT`, what is left when a translation could go beyond it is interpreted.
    #[inline]
    pub(super) fn execute_tiered<const EXACT: bool>(
        &mut self,
        id: BlockId,
        end: u64,
    ) -> Result<(), Exception> {
        let Some(block) = self.blocks.get_mut(id) else { return Ok(()) };
        if block.translation.is_none() {
            block.heat = block.heat.saturating_add(1);
            if block.heat >= block.ask_at {
                // Asked again now and then, so that the tier learns what is hottest.
                block.ask_at = block.heat.saturating_add(self.tier.threshold().max(block.heat));
                self.ask_for_translation(id);
            }
        }
        let Some(translation) = self.blocks.get(id).and_then(|block| block.translation) else {
            return self.execute::<EXACT>(id, end);
        };
        let mut budget = end.saturating_sub(self.cpu.stats.instructions);
        if EXACT {
            budget = budget.saturating_sub(self.tier.overrun());
            if budget == 0 {
                return self.execute::<EXACT>(id, end);
            }
        }
        // Anything but zero: instructions that want the block to end set it to zero.
        self.cpu.block_limit = usize::MAX;
        let chains = !self.window_requested && self.unsettled.is_empty();
        match self.tier.run(&mut self.cpu, translation, budget, chains) {
            TierExit::Next => Ok(()),
            TierExit::Hot => {
                let id = self.next_block()?;
                self.ask_for_translation(id);
                Ok(())
            }
            TierExit::Exception(exception) => Err(exception),
            TierExit::Interpret if self.cpu.state.sti_shadow => {
                // That instruction is executed alone.
                self.cpu.end_block();
                Ok(())
            }
            TierExit::Interpret => {
                let id = self.next_block()?;
                self.execute::<EXACT>(id, end)
            }
            TierExit::Gone => {
                self.translation_gone(id);
                self.execute::<EXACT>(id, end)
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn translation_gone(&mut self, id: BlockId) {
        let Some((gpa, mode)) = self.blocks.get(id).map(|block| (block.gpa, block.mode())) else { return };
        let translation = self.known_translation(gpa, mode);
        if let Some(block) = self.blocks.get_mut(id) {
            block.translation = translation;
            block.ask_at = block.heat.saturating_add(self.tier.threshold());
        }
    }

    /// The translation that the tier has of the code at a physical address, whose page is marked as code.
    pub(super) fn known_translation(&mut self, gpa: u64, mode: ModeKey) -> Option<TranslationId> {
        let known = self.tier.find(gpa, mode);
        // What is compared must be what blocks would be decoded from.
        known.or_else(|| {
            self.unsettled.is_empty().then(|| self.tier.revive(&mut self.cpu, gpa, mode)).flatten()
        })
    }

    #[cold]
    #[inline(never)]
    fn ask_for_translation(&mut self, id: BlockId) {
        let Some(gpa) = self.blocks.get(id).map(|block| block.gpa) else { return };
        // What is translated is read anew, and must be what the blocks were decoded from.
        if !self.unsettled.is_empty() {
            if let Some(block) = self.blocks.get_mut(id) {
                block.ask_at = block.heat;
            }
            return;
        }
        // Only 64-bit code is translated, and there the instruction pointer is the linear address.
        if self.cpu.mode().has(ModeKey::LONG64) {
            let (rip, mode) = (self.cpu.state.rip(), self.cpu.mode());
            let mut view = View { cpu: &mut self.cpu, blocks: &self.blocks };
            self.tier.translate(rip, gpa, mode, &mut view);
        }
        self.take_finished();
    }

    /// Gives finished translations to the blocks that they begin with.
    #[inline]
    pub(super) fn take_finished(&mut self) {
        if !T::ACTIVE {
            return;
        }
        for (gpa, mode, translation) in self.tier.finished() {
            if let Some(block) = self.blocks.find(gpa, mode).and_then(|id| self.blocks.get_mut(id)) {
                block.translation = Some(translation);
            }
        }
    }
}

/// The decoded blocks of the current mapping.
struct View<'a> {
    cpu: &'a mut Cpu,
    blocks: &'a BlockCache,
}

impl View<'_> {
    /// The block at a linear address. A hot one need not be in the TLB: the interpreter finds it without.
    fn find(&mut self, linear: u64) -> Option<BlockId> {
        let mode = self.cpu.mode();
        let tag = Tag::new(self.cpu.mmu.generation(linear), mode);
        self.blocks.jump(linear, tag).or_else(|| {
            let gpa = self.cpu.mmu.translate(linear, Access::Fetch).ok()?.gpa;
            self.blocks.find(gpa, mode)
        })
    }
}

impl CodeView for View<'_> {
    fn block(&mut self, linear: u64) -> Option<HotBlock> {
        let id = self.find(linear)?;
        let block = self.blocks.get(id)?;
        let gpa = block.gpa;
        let mut bytes = Vec::with_capacity(usize::from(block.length_bytes));
        for (gpa, length) in self.blocks.pieces(id) {
            let start = bytes.len();
            bytes.resize(start + length as usize, 0);
            self.cpu.mmu.memory().read(gpa, &mut bytes[start..]).ok()?;
        }
        let ops = self.blocks.ops(block);
        let last = ops.last()?.op;
        let (tail_page, instructions, heat) = (self.blocks.tail_page(id, block), ops.len(), block.heat);
        Some(HotBlock { gpa, tail_page, bytes, instructions, last, heat })
    }

    fn heat(&mut self, linear: u64) -> Option<(u64, u32)> {
        let block = self.find(linear).and_then(|id| self.blocks.get(id))?;
        Some((block.gpa, block.heat))
    }

    fn targets(&mut self, linear: u64) -> Vec<u64> {
        self.find(linear).map(|id| self.blocks.targets(id)).unwrap_or_default()
    }

    fn host_address(&mut self, gpa: u64) -> Option<u64> {
        let page = self.cpu.mmu.memory().host_page(gpa).filter(|page| page.writable)?;
        Some(page.host.expose_provenance() as u64 + (gpa & 0xfff))
    }
}
