//! The interpreter: runs cached blocks of pre-decoded operations, and decodes what is not cached.

mod backend;
mod blocks;
mod events;
mod micro;
pub mod tier;
mod tiered;
mod unsettled;

use crate::backend::Exit;
use crate::cpu::Cpu;
use crate::decode::{DecodeFailure, Decoded, Decoding, MAX_INSTRUCTION_BYTES, Semantics, decode};
use crate::exception::Exception;
use crate::mode::ModeKey;
use crate::state::SegmentIndex;
use blocks::{Block, BlockCache, BlockId, InterpOp, MAX_BLOCK_OPS, Tag};
use rx86_softmmu::{Access, Target};
use tier::{HotTier, NoTier};
use unsettled::UnsettledPages;

/// What is read of a page to decode a block from: mostly enough for the whole block.
const READ_BYTES: usize = 256;

/// The interpreter engine with the processor that it drives, and the tier that takes hot code over.
pub struct Interpreter<T = NoTier> {
    cpu: Cpu,
    blocks: BlockCache,
    /// Memory for the next block that is decoded: its bytes, and what it executes.
    page: Vec<u8>,
    ops: Vec<InterpOp>,
    /// The block executed last, if RIP is where it led.
    last: Option<BlockId>,
    unsettled: UnsettledPages,
    /// The next block must be looked at one instruction at a time: trap flag, shadows, breakpoints, RF.
    stepping: bool,
    window_requested: bool,
    /// Every instruction is traced; looked at once, so that a run without costs nothing.
    tracing: bool,
    tier: T,
}

impl Interpreter {
    /// An interpreter for `cpu`.
    pub fn new(cpu: Cpu) -> Self {
        Self::with_tier(cpu, NoTier)
    }
}

impl<T: HotTier> Interpreter<T> {
    /// An interpreter for `cpu` that gives hot code to `tier`.
    pub fn with_tier(cpu: Cpu, tier: T) -> Self {
        let tracing = tracing::enabled!(target: "rx86::instruction", tracing::Level::TRACE);
        Self {
            cpu,
            blocks: BlockCache::new(),
            page: Vec::new(),
            ops: Vec::new(),
            last: None,
            unsettled: UnsettledPages::default(),
            stepping: false,
            window_requested: false,
            tracing,
            tier,
        }
    }

    /// The tier.
    pub fn tier(&self) -> &T {
        &self.tier
    }

    /// The processor.
    pub fn cpu(&mut self) -> &mut Cpu {
        &mut self.cpu
    }

    /// Runs blocks until something needs the machine or about `budget` instructions are retired; if `EXACT`, no more than
    /// those, and nothing is done behind the last of them. A guest whose handlers fault at their first instruction retires
    /// none: after as many faults, and a few more, its run ends too.
    fn run_blocks<const EXACT: bool>(&mut self, budget: u64) -> Exit {
        const FEW: u64 = 64;
        let mut faults_left = budget.saturating_add(FEW);
        let end = self.cpu.stats.instructions.saturating_add(budget);
        // The caller may have changed anything.
        self.cpu.end_block();
        self.take_finished();
        loop {
            if EXACT && self.cpu.stats.instructions >= end {
                return Exit::Yield;
            }
            if (self.cpu.block_limit == 0 || self.stepping || self.cpu.attention.peek() != 0)
                && let Some(exit) = self.between_blocks()
            {
                return exit;
            }
            if self.cpu.stats.instructions >= end || faults_left == 0 {
                return Exit::Yield;
            }
            let outcome = if self.stepping {
                self.step_next()
            } else {
                match self.next_block() {
                    Ok(id) if T::ACTIVE => self.execute_tiered::<EXACT>(id, end),
                    Ok(id) => self.execute::<EXACT>(id, end),
                    Err(exception) => Err(exception),
                }
            };
            if let Err(exception) = outcome {
                faults_left -= 1;
                self.cpu.deliver_exception(exception);
                self.cpu.end_block();
            }
        }
    }

    /// Executes a block to its end or to the first operation that ends it; if `EXACT`, no further than to `end` instructions.
    /// On an exception RIP is that of the faulting instruction.
    #[inline(always)]
    fn execute<const EXACT: bool>(&mut self, id: BlockId, end: u64) -> Result<(), Exception> {
        self.last = Some(id);
        let cpu = &mut self.cpu;
        let Some(block) = self.blocks.get(id) else { return Ok(()) };
        let ops = self.blocks.ops(block);
        cpu.block_limit = ops.len();
        if EXACT {
            let left = end.saturating_sub(cpu.stats.instructions);
            if left == 0 {
                return Ok(());
            }
            cpu.block_limit = cpu.block_limit.min(usize::try_from(left).unwrap_or(usize::MAX));
        }
        cpu.stats.blocks_executed += 1;
        let mut done = 0;
        while let Some(InterpOp { run, op }) = ops.get(done) {
            let next = cpu.state.rip().wrapping_add(u64::from(op.length));
            cpu.state.set_rip(next);
            if let Err(exception) = run(cpu, op) {
                let start = cpu.state.rip().wrapping_sub(u64::from(op.length));
                cpu.state.set_rip(start);
                cpu.stats.instructions += done as u64;
                return Err(exception);
            }
            done += 1;
            if done >= cpu.block_limit {
                break;
            }
        }
        cpu.stats.instructions += done as u64;
        Ok(())
    }

    /// The block that RIP leads to, from the cache or newly decoded.
    #[inline(always)]
    fn next_block(&mut self) -> Result<BlockId, Exception> {
        let cpu = &mut self.cpu;
        let mode = cpu.mode();
        let rip = cpu.state.rip();
        let linear = if mode.has(ModeKey::LONG64) {
            rip
        } else {
            u64::from(rip.wrapping_add(cpu.state.segments[SegmentIndex::CS].base) as u32)
        };
        let tag = Tag::new(cpu.mmu.generation(linear), mode);
        let last = self.last.take();
        if let Some(id) = last.and_then(|last| self.blocks.follow(last, linear, tag))
            && mode.has(ModeKey::LONG64)
        {
            self.cpu.stats.block_hits += 1;
            return Ok(id);
        }
        let id = match self.blocks.jump(linear, tag) {
            Some(id) if mode.has(ModeKey::LONG64) || self.within_code_limit(id) => {
                self.cpu.stats.block_hits += 1;
                id
            }
            _ => self.find_block(linear, tag)?,
        };
        if let Some(last) = last {
            self.blocks.link(last, linear, id);
        }
        Ok(id)
    }

    /// Whether all of the block lies within CS's limit.
    fn within_code_limit(&self, id: BlockId) -> bool {
        let bytes = self.blocks.get(id).map_or(1, |block| u64::from(block.length_bytes).max(1));
        let state = &self.cpu.state;
        state.segments[SegmentIndex::CS].contains(state.rip(), bytes)
    }

    /// Looks the block up by its physical address; decodes it if it is not there.
    #[cold]
    #[inline(never)]
    fn find_block(&mut self, linear: u64, tag: Tag) -> Result<BlockId, Exception> {
        let mode = self.cpu.mode();
        self.check_fetch(linear)?;
        let gpa = match self.cpu.mmu.gpa_for_fetch(linear) {
            Some(gpa) => gpa,
            None => self.cpu.mmu.translate(linear, Access::Fetch)?.gpa,
        };
        if let Some(id) = self.blocks.find(gpa, mode)
            && self.tail_still_maps(id, linear)?
            && (mode.has(ModeKey::LONG64) || self.within_code_limit(id))
        {
            self.blocks.remember_jump(linear, tag, id);
            return Ok(id);
        }
        let target = self.cpu.mmu.translate(linear, Access::Fetch)?;
        let id = self.decode_block(linear, target)?;
        // Translating the tail page may have changed the generation.
        let tag = Tag::new(self.cpu.mmu.generation(linear), mode);
        self.blocks.remember_jump(linear, tag, id);
        Ok(id)
    }

    /// #GP(0) if the instruction pointer is not canonical or beyond CS's limit.
    fn check_fetch(&self, linear: u64) -> Result<(), Exception> {
        let cpu = &self.cpu;
        let valid = if cpu.mode().has(ModeKey::LONG64) {
            cpu.is_canonical(linear)
        } else {
            cpu.state.segments[SegmentIndex::CS].contains(cpu.state.rip(), 1)
        };
        if valid { Ok(()) } else { Err(Exception::gp(0)) }
    }

    /// Whether the block's last instruction still continues in the physical page it was decoded from.
    fn tail_still_maps(&mut self, id: BlockId, linear: u64) -> Result<bool, Exception> {
        let tail = self.blocks.get(id).and_then(|block| self.blocks.tail_page(id, block));
        let Some(tail) = tail else { return Ok(true) };
        let next_page = (linear & !0xfff).wrapping_add(0x1000);
        Ok(self.cpu.mmu.translate(next_page, Access::Fetch)?.gpa >> 12 == tail)
    }

    /// Decodes from `linear` to the first branch, the page's end or the longest block.
    fn decode_block(&mut self, linear: u64, target: Target) -> Result<BlockId, Exception> {
        if self.blocks.is_full() {
            self.blocks.clear();
        }
        let mode = self.cpu.mode();
        let to_page_end = 0x1000 - (target.gpa as usize & 0xfff);
        let mut page = std::mem::take(&mut self.page);
        self.fetch_page(&target, to_page_end.min(READ_BYTES), &mut page);
        let translation = self.known_translation(target.gpa, mode);
        let mut block = Block::new(target.gpa, mode, self.tier.threshold(), translation);
        let mut tail_page = None;
        let mut ops = std::mem::take(&mut self.ops);
        ops.clear();
        let mut at = 0;
        let mut decoding = Decoding::new(&page, mode, &self.cpu.model);
        while ops.len() < MAX_BLOCK_OPS {
            let decoded = match decoding.decode::<Cpu>(&self.cpu.model) {
                Ok(decoded) => decoded,
                // The rest of the page may be reached by nobody: only a block's first instruction may fault here.
                Err(_) if !ops.is_empty() => break,
                Err(DecodeFailure::TooLong) => return Err(Exception::gp(0)),
                // As there are no more than these, the page ends here.
                Err(DecodeFailure::NeedMoreBytes) => {
                    let (decoded, tail) = self.decode_across(&page, linear, mode)?;
                    tail_page = Some(tail);
                    decoded
                }
            };
            let end = at as u64 + u64::from(decoded.op.length);
            if !mode.has(ModeKey::LONG64) {
                let state = &self.cpu.state;
                if !state.segments[SegmentIndex::CS].contains(state.rip(), end) {
                    if ops.is_empty() {
                        return Err(Exception::gp(0));
                    }
                    break;
                }
            }
            ops.push(into_interp(&decoded));
            at = end as usize;
            block.length_bytes = at as u16;
            if decoded.ends_block || tail_page.is_some() || at >= page.len() {
                break;
            }
        }
        self.cpu.stats.blocks_decoded += 1;
        for (gpa, bytes) in block.pieces(tail_page) {
            self.cpu.code_map.add(gpa, bytes);
        }
        let id = self.blocks.insert(block, &ops, tail_page);
        (self.page, self.ops) = (page, ops);
        Ok(id)
    }

    /// So many bytes from `target`, within its page. Stores to the page are noticed from before they are read.
    fn fetch_page(&mut self, target: &Target, bytes: usize, page: &mut Vec<u8>) {
        if self.cpu.code_map.open_page(target.gpa) {
            self.mark_code(target.gpa);
        }
        page.clear();
        page.resize(bytes, 0xff);
        if self.unsettled.has(target.gpa) {
            // The new block is made of the same bytes as those that are there.
            self.compare_page(target.gpa);
            self.unsettled.read(target.gpa, page);
        } else if self.cpu.mmu.memory().read(target.gpa, page).is_err() {
            // Code in device memory is fetched as a processor would, without caring what the device makes of it.
            for (i, byte) in page.iter_mut().enumerate().take(2 * MAX_INSTRUCTION_BYTES) {
                self.cpu.env.mmio_read(target.gpa + i as u64, std::slice::from_mut(byte));
            }
        }
    }

    /// Decodes the instruction that starts at `linear` and crosses into the next page. Also returns that page's number.
    fn decode_across(
        &mut self,
        head: &[u8],
        linear: u64,
        mode: ModeKey,
    ) -> Result<(Decoded<Cpu>, u64), Exception> {
        let next_page = (linear & !0xfff).wrapping_add(0x1000);
        let tail = self.cpu.mmu.translate(next_page, Access::Fetch)?;
        let mut bytes = head.to_vec();
        let mut rest = Vec::new();
        self.fetch_page(&tail, MAX_INSTRUCTION_BYTES, &mut rest);
        bytes.append(&mut rest);
        match decode::<Cpu>(&bytes, mode, &self.cpu.model) {
            Ok(decoded) => Ok((decoded, tail.gpa >> 12)),
            Err(_) => Err(Exception::gp(0)),
        }
    }
}

fn into_interp(decoded: &Decoded<Cpu>) -> InterpOp {
    let (Semantics::Inline(run) | Semantics::Hard(run)) = decoded.semantics;
    InterpOp { run, op: decoded.op }
}
