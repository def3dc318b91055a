//! The cache of decoded blocks: keyed by physical address and mode, with a quick index by linear address.

use super::tier::TranslationId;
use crate::cpu::Cpu;
use crate::mode::ModeKey;
use crate::op::Op;
use crate::ops::Meaning;
use iced_x86::Code;
use rustc_hash::FxHashMap;

/// Entries of the index by linear address; a power of two.
const JUMP_CACHE_ENTRIES: usize = 16384;

/// Blocks, and operations of these and of blocks that were removed, kept before all are dropped; bounds the host memory that
/// decoded code takes.
const MAX_BLOCKS: usize = 64 * 1024;
const MAX_OPS: usize = 400 * 1024;

/// Targets remembered of an indirect jump.
const MAX_TARGETS: usize = 24;

/// One operation as the interpreter runs it.
#[derive(Clone, Copy)]
pub(super) struct InterpOp {
    pub(super) run: Meaning<Cpu>,
    pub(super) op: Op,
}

/// A straight run of instructions within one page; the last one may reach into the next page.
pub(super) struct Block {
    pub(super) gpa: u64,
    /// The physical page of the tail, if the last instruction crosses into it.
    pub(super) tail_page: Option<u64>,
    pub(super) length_bytes: u32,
    pub(super) mode: ModeKey,
    /// Its operations in `BlockCache::ops`: the first one, and how many.
    first_op: u32,
    op_count: u32,
    /// The last one is an indirect jump or call.
    ends_indirectly: bool,
    /// How often it was executed, while somebody counts.
    pub(super) heat: u32,
    /// At which heat the tier above is asked for a translation.
    pub(super) ask_at: u32,
    /// Tells it from blocks that were in its place before.
    pub(super) serial: u32,
    /// What followed it when it was executed last.
    pub(super) links: [Link; 2],
    /// Linear addresses that followed it, if it ends with an indirect jump or call: the first few.
    pub(super) targets: Vec<u64>,
    /// What the tier above has made of the code that begins here.
    pub(super) translation: Option<TranslationId>,
}

impl Block {
    /// A block without operations, which `BlockCache::insert` gives it. The tier above is asked for a translation of it when
    /// it was executed `ask_at` times.
    pub(super) fn new(gpa: u64, mode: ModeKey, ask_at: u32, translation: Option<TranslationId>) -> Self {
        Self {
            gpa,
            tail_page: None,
            length_bytes: 0,
            mode,
            first_op: 0,
            op_count: 0,
            ends_indirectly: false,
            heat: 0,
            ask_at,
            serial: 0,
            links: [Link::NONE; 2],
            targets: Vec::new(),
            translation,
        }
    }

    /// The pieces of physical memory that the block was decoded from.
    pub(super) fn pieces(&self) -> impl Iterator<Item = (u64, u64)> {
        let length = u64::from(self.length_bytes);
        let head = length.min(0x1000 - (self.gpa & 0xfff));
        let tail = self.tail_page.map(|page| (page << 12, length - head));
        std::iter::once((self.gpa, head)).chain(tail)
    }
}

/// The block that was found at a linear address, under a tag (mapping generation and mode).
#[derive(Clone, Copy)]
pub(super) struct Link {
    linear: u64,
    tag: u64,
    found: Found,
}

impl Link {
    pub(super) const NONE: Self = Self { linear: 0, tag: NO_TAG, found: Found { block: 0, serial: 0 } };
}

/// Where a block is kept; stays valid until the block is removed.
pub(super) type BlockId = u32;

/// Aligned so that none lies in two of the host's cache lines.
#[derive(Clone, Copy)]
#[repr(align(32))]
struct JumpEntry {
    linear: u64,
    tag: u64,
    found: Found,
}

/// A block that was found, if it is still there.
#[derive(Clone, Copy)]
struct Found {
    block: BlockId,
    /// `Block::serial`.
    serial: u32,
}

/// Never the tag of a mapping: generations count from one.
const NO_TAG: u64 = u64::MAX;

pub(super) struct BlockCache {
    jump: Box<[JumpEntry]>,
    by_address: FxHashMap<(u64, ModeKey), BlockId>,
    by_page: FxHashMap<u64, Vec<BlockId>>,
    arena: Vec<Option<Block>>,
    /// The operations of all blocks, one block's behind the other's; those of removed blocks stay until all are dropped.
    ops: Vec<InterpOp>,
    free: Vec<BlockId>,
    last_serial: u32,
}

fn jump_slot(linear: u64) -> usize {
    (linear ^ linear >> 12) as usize & (JUMP_CACHE_ENTRIES - 1)
}

impl BlockCache {
    pub(super) fn new() -> Self {
        let empty = JumpEntry { linear: 0, tag: NO_TAG, found: Link::NONE.found };
        Self {
            jump: vec![empty; JUMP_CACHE_ENTRIES].into_boxed_slice(),
            by_address: FxHashMap::default(),
            by_page: FxHashMap::default(),
            arena: Vec::new(),
            ops: Vec::new(),
            free: Vec::new(),
            last_serial: 0,
        }
    }

    /// The block at a linear address, if it was found there before under the same `tag` (mapping generation and mode).
    #[inline(always)]
    pub(super) fn jump(&self, linear: u64, tag: u64) -> Option<BlockId> {
        let entry = &self.jump[jump_slot(linear)];
        if entry.linear == linear && entry.tag == tag { self.still_there(entry.found) } else { None }
    }

    /// The block that followed `last` before, if it was at this linear address under the same `tag`. The look into `last`,
    /// which has just been executed, is cheaper than one into the index.
    #[inline(always)]
    pub(super) fn follow(&self, last: BlockId, linear: u64, tag: u64) -> Option<BlockId> {
        let links = &self.get(last)?.links;
        let link = links.iter().find(|link| link.linear == linear && link.tag == tag)?;
        self.still_there(link.found)
    }

    /// Remembers that `block` followed `last`.
    pub(super) fn link(&mut self, last: BlockId, linear: u64, tag: u64, block: BlockId) {
        let Some(found) = self.found(block) else { return };
        if let Some(last) = self.get_mut(last) {
            last.links = [Link { linear, tag, found }, last.links[0]];
            if last.ends_indirectly && last.targets.len() < MAX_TARGETS && !last.targets.contains(&linear) {
                last.targets.push(linear);
            }
        }
    }

    /// Remembers that `block` is what `linear` leads to under `tag`.
    pub(super) fn remember_jump(&mut self, linear: u64, tag: u64, block: BlockId) {
        if let Some(found) = self.found(block) {
            self.jump[jump_slot(linear)] = JumpEntry { linear, tag, found };
        }
    }

    fn found(&self, block: BlockId) -> Option<Found> {
        self.get(block).map(|one| Found { block, serial: one.serial })
    }

    #[inline(always)]
    fn still_there(&self, found: Found) -> Option<BlockId> {
        let block = self.get(found.block)?;
        (block.serial == found.serial).then_some(found.block)
    }

    /// The block decoded at a physical address under a mode.
    pub(super) fn find(&self, gpa: u64, mode: ModeKey) -> Option<BlockId> {
        self.by_address.get(&(gpa, mode)).copied()
    }

    #[inline(always)]
    pub(super) fn get(&self, id: BlockId) -> Option<&Block> {
        self.arena.get(id as usize).and_then(Option::as_ref)
    }

    #[inline(always)]
    pub(super) fn get_mut(&mut self, id: BlockId) -> Option<&mut Block> {
        self.arena.get_mut(id as usize).and_then(Option::as_mut)
    }

    /// What a block executes.
    #[inline(always)]
    pub(super) fn ops(&self, block: &Block) -> &[InterpOp] {
        let first = block.first_op as usize;
        self.ops.get(first..first + block.op_count as usize).unwrap_or_default()
    }

    /// Whether the cache must be emptied before the next block is added.
    pub(super) fn is_full(&self) -> bool {
        self.by_address.len() >= MAX_BLOCKS || self.ops.len() >= MAX_OPS
    }

    /// Adds a block, which executes `ops`.
    pub(super) fn insert(&mut self, mut block: Block, ops: &[InterpOp]) -> BlockId {
        self.last_serial = self.last_serial.wrapping_add(1);
        block.serial = self.last_serial;
        (block.first_op, block.op_count) = (self.ops.len() as u32, ops.len() as u32);
        let last = ops.last().map(|last| last.op.iced_code());
        block.ends_indirectly = matches!(last, Some(Code::Jmp_rm64 | Code::Call_rm64));
        self.ops.extend_from_slice(ops);
        let key = (block.gpa, block.mode);
        let pages = [Some(block.gpa >> 12), block.tail_page];
        let id = match self.free.pop() {
            Some(id) => {
                self.arena[id as usize] = Some(block);
                id
            }
            None => {
                self.arena.push(Some(block));
                (self.arena.len() - 1) as BlockId
            }
        };
        for page in pages.into_iter().flatten() {
            self.by_page.entry(page).or_default().push(id);
        }
        if let Some(replaced) = self.by_address.insert(key, id) {
            self.remove(replaced, key);
        }
        id
    }

    /// Drops every block that overlaps `bytes` at `gpa` (within one page). Returns how many were dropped.
    pub(super) fn invalidate(&mut self, gpa: u64, bytes: u64) -> usize {
        let Some(ids) = self.by_page.get(&(gpa >> 12)) else { return 0 };
        let overlaps = |&id: &BlockId| {
            self.get(id)
                .is_some_and(|block| block.pieces().any(|(at, len)| at < gpa + bytes && gpa < at + len))
        };
        let dropped: Vec<BlockId> = ids.iter().copied().filter(overlaps).collect();
        for &id in &dropped {
            if let Some(block) = self.get(id) {
                let key = (block.gpa, block.mode);
                self.remove(id, key);
            }
        }
        dropped.len()
    }

    /// The pieces of memory that the blocks of a physical page were decoded from, in that page.
    pub(super) fn pieces_of_page(&self, page: u64) -> impl Iterator<Item = (u64, u64)> {
        let ids = self.by_page.get(&page).map_or(&[][..], Vec::as_slice);
        ids.iter()
            .filter_map(|&id| self.get(id))
            .flat_map(|block| block.pieces())
            .filter(move |(gpa, _)| gpa >> 12 == page)
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        *self = Self { last_serial: self.last_serial, ..Self::new() };
    }

    fn remove(&mut self, id: BlockId, key: (u64, ModeKey)) {
        let Some(block) = self.arena[id as usize].take() else { return };
        if self.by_address.get(&key) == Some(&id) {
            self.by_address.remove(&key);
        }
        for (gpa, _) in block.pieces() {
            if let Some(ids) = self.by_page.get_mut(&(gpa >> 12)) {
                ids.retain(|&other| other != id);
                if ids.is_empty() {
                    self.by_page.remove(&(gpa >> 12));
                }
            }
        }
        self.free.push(id);
    }
}
