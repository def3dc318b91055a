//! The cache of decoded blocks: keyed by physical address and mode, with a quick index by linear address.

use super::tier::TranslationId;
use crate::cpu::Cpu;
use crate::decode::MAX_INSTRUCTION_BYTES;
use crate::mode::ModeKey;
use crate::op::Op;
use crate::ops::Meaning;
use iced_x86::Code;
use rustc_hash::FxHashMap;

/// Entries of the index by linear address; a power of two.
const JUMP_CACHE_ENTRIES: usize = 32768;

/// Blocks, and operations of these and of blocks that were removed, kept before all are dropped; bounds the host memory that
/// decoded code takes.
const MAX_BLOCKS: usize = 64 * 1024;
const MAX_OPS: usize = 400 * 1024;

/// The longest block; bounds how long an interrupt waits.
pub(super) const MAX_BLOCK_OPS: usize = 64;
const MAX_BLOCK_BYTES: usize = MAX_BLOCK_OPS * MAX_INSTRUCTION_BYTES;

/// Targets remembered of an indirect jump.
const MAX_TARGETS: usize = 24;

/// One operation as the interpreter runs it.
#[derive(Clone, Copy)]
pub(super) struct InterpOp {
    pub(super) run: Meaning<Cpu>,
    pub(super) op: Op,
}

/// What a linear address means something under: a mapping generation and a mode.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag(u64);

const MODE_BITS: u32 = 16;

impl Tag {
    pub(super) fn new(generation: u64, mode: ModeKey) -> Self {
        Self(generation << MODE_BITS | u64::from(mode.0))
    }

    /// One that no mapping has: generations count from one, and do not come that far.
    fn of_none(mode: ModeKey) -> Self {
        Self::new(u64::MAX, mode)
    }

    fn mode(self) -> ModeKey {
        ModeKey(self.0 as u32 & ((1 << MODE_BITS) - 1))
    }
}

/// A straight run of instructions within one page; the last one may reach into the next page. There are many, and most are
/// looked at seldom: each is one of the host's cache lines, and what few have is kept elsewhere.
#[repr(C, align(64))]
pub(super) struct Block {
    /// Where it was found last.
    linear: u64,
    tag: Tag,
    /// What followed it when it was executed last.
    links: [Link; 2],
    /// Its operations in `BlockCache::ops`: the first one, and how many. A place without a block has none.
    first_op: u32,
    op_count: u8,
    /// The last one is an indirect jump or call.
    ends_indirectly: bool,
    pub(super) length_bytes: u16,
    /// How often it was executed, while somebody counts.
    pub(super) heat: u32,
    /// At which heat the tier above is asked for a translation.
    pub(super) ask_at: u32,
    /// What the tier above has made of the code that begins here.
    pub(super) translation: Option<TranslationId>,
    /// Another one that begins in the same granule.
    next: BlockId,
    pub(super) gpa: u64,
}

const _: () = assert!(size_of::<Block>() == 64);

impl Block {
    const NONE: Self = Self {
        linear: 0,
        tag: Tag(u64::MAX),
        links: [Link::NONE; 2],
        first_op: 0,
        op_count: 0,
        ends_indirectly: false,
        length_bytes: 0,
        heat: 0,
        ask_at: 0,
        translation: None,
        next: NO_BLOCK,
        gpa: 0,
    };

    /// A block without operations, which `BlockCache::insert` gives it. The tier above is asked for a translation of it when
    /// it was executed `ask_at` times.
    pub(super) fn new(gpa: u64, mode: ModeKey, ask_at: u32, translation: Option<TranslationId>) -> Self {
        Self { gpa, tag: Tag::of_none(mode), ask_at, translation, ..Self::NONE }
    }

    pub(super) fn mode(&self) -> ModeKey {
        self.tag.mode()
    }

    /// The pieces of physical memory that the block was decoded from, if its last instruction ends in `tail_page`.
    pub(super) fn pieces(&self, tail_page: Option<u64>) -> impl Iterator<Item = (u64, u64)> {
        let length = u64::from(self.length_bytes);
        let head = length.min(0x1000 - (self.gpa & 0xfff));
        let tail = tail_page.map(|page| (page << 12, length - head));
        std::iter::once((self.gpa, head)).chain(tail)
    }
}

/// A block that followed another one.
#[derive(Clone, Copy)]
struct Link {
    /// The low half of the linear address: the blocks of others need not be looked at.
    linear: u32,
    block: BlockId,
}

impl Link {
    const NONE: Self = Self { linear: 0, block: NO_BLOCK };
}

/// Where a block is kept; stays valid until the block is removed.
pub(super) type BlockId = u32;

/// Never a block's.
const NO_BLOCK: BlockId = BlockId::MAX;

/// Bytes of a page, the blocks that begin in which are found together.
const GRANULE_BYTES: usize = 64;
const GRANULES: usize = 0x1000 / GRANULE_BYTES;

/// The blocks of a physical page.
struct Page {
    /// The first of those that begin in each granule; `Block::next` leads on.
    first: [BlockId; GRANULES],
    /// Those that begin in another page and end in this one.
    tails: Vec<BlockId>,
    /// How many these are together.
    count: usize,
}

impl Page {
    const EMPTY: Self = Self { first: [NO_BLOCK; GRANULES], tails: Vec::new(), count: 0 };
}

fn granule(gpa: u64) -> usize {
    (gpa as usize & 0xfff) / GRANULE_BYTES
}

pub(super) struct BlockCache {
    /// Which block was found at a linear address; the block says under which tag.
    jump: Box<[BlockId]>,
    pages: FxHashMap<u64, Box<Page>>,
    arena: Vec<Block>,
    /// How many of these are blocks.
    count: usize,
    /// The operations of all blocks, one block's behind the other's; those of removed blocks stay until all are dropped.
    ops: Vec<InterpOp>,
    free: Vec<BlockId>,
    /// The physical pages in which blocks end that do not begin there.
    tail_pages: FxHashMap<BlockId, u64>,
    /// Linear addresses that followed blocks that end with an indirect jump or call: the first few.
    targets: FxHashMap<BlockId, Vec<u64>>,
}

fn jump_slot(linear: u64) -> usize {
    (linear ^ linear >> 12) as usize & (JUMP_CACHE_ENTRIES - 1)
}

impl BlockCache {
    pub(super) fn new() -> Self {
        Self {
            jump: vec![NO_BLOCK; JUMP_CACHE_ENTRIES].into_boxed_slice(),
            pages: FxHashMap::default(),
            arena: Vec::new(),
            count: 0,
            ops: Vec::new(),
            free: Vec::new(),
            tail_pages: FxHashMap::default(),
            targets: FxHashMap::default(),
        }
    }

    /// The block at a linear address, if it was found there before under the same `tag`.
    #[inline(always)]
    pub(super) fn jump(&self, linear: u64, tag: Tag) -> Option<BlockId> {
        let id = self.jump[jump_slot(linear)];
        self.is_at(id, linear, tag).then_some(id)
    }

    /// The block that followed `last` before, if it was at this linear address under the same `tag`. The look into `last`,
    /// which has just been executed, is cheaper than one into the index.
    #[inline(always)]
    pub(super) fn follow(&self, last: BlockId, linear: u64, tag: Tag) -> Option<BlockId> {
        let links = &self.get(last)?.links;
        let link = links.iter().find(|link| link.linear == linear as u32)?;
        self.is_at(link.block, linear, tag).then_some(link.block)
    }

    #[inline(always)]
    fn is_at(&self, id: BlockId, linear: u64, tag: Tag) -> bool {
        self.get(id).is_some_and(|block| block.linear == linear && block.tag == tag)
    }

    /// Remembers that `block` followed `last` at `linear`.
    pub(super) fn link(&mut self, last: BlockId, linear: u64, block: BlockId) {
        let Some(one) = self.get_mut(last) else { return };
        one.links = [Link { linear: linear as u32, block }, one.links[0]];
        if one.ends_indirectly {
            let targets = self.targets.entry(last).or_default();
            if targets.len() < MAX_TARGETS && !targets.contains(&linear) {
                targets.push(linear);
            }
        }
    }

    /// Remembers that `block` is what `linear` leads to under `tag`, whose mode is the block's.
    pub(super) fn remember_jump(&mut self, linear: u64, tag: Tag, block: BlockId) {
        if let Some(one) = self.get_mut(block) {
            (one.linear, one.tag) = (linear, tag);
            self.jump[jump_slot(linear)] = block;
        }
    }

    /// The block decoded at a physical address under a mode.
    pub(super) fn find(&self, gpa: u64, mode: ModeKey) -> Option<BlockId> {
        let page = self.pages.get(&(gpa >> 12))?;
        let mut blocks = self.chain(page.first[granule(gpa)]);
        blocks.find(|(_, block)| block.gpa == gpa && block.mode() == mode).map(|(id, _)| id)
    }

    /// A block, and those that `Block::next` leads to.
    fn chain(&self, first: BlockId) -> impl Iterator<Item = (BlockId, &Block)> {
        let mut next = first;
        std::iter::from_fn(move || {
            let id = next;
            let block = self.get(id)?;
            next = block.next;
            Some((id, block))
        })
    }

    #[inline(always)]
    pub(super) fn get(&self, id: BlockId) -> Option<&Block> {
        self.arena.get(id as usize).filter(|block| block.op_count != 0)
    }

    #[inline(always)]
    pub(super) fn get_mut(&mut self, id: BlockId) -> Option<&mut Block> {
        self.arena.get_mut(id as usize).filter(|block| block.op_count != 0)
    }

    /// What a block executes.
    #[inline(always)]
    pub(super) fn ops(&self, block: &Block) -> &[InterpOp] {
        let first = block.first_op as usize;
        self.ops.get(first..first + usize::from(block.op_count)).unwrap_or_default()
    }

    /// The physical page in which a block's last instruction ends, if that is not the page it begins in.
    pub(super) fn tail_page(&self, id: BlockId, block: &Block) -> Option<u64> {
        let crosses = (block.gpa & 0xfff) + u64::from(block.length_bytes) > 0x1000;
        if crosses { self.tail_pages.get(&id).copied() } else { None }
    }

    /// The linear addresses that an indirect jump or call at a block's end has led to, as far as they are remembered.
    pub(super) fn targets(&self, id: BlockId) -> Vec<u64> {
        self.targets.get(&id).cloned().unwrap_or_default()
    }

    /// Whether the cache must be emptied before the next block is added.
    pub(super) fn is_full(&self) -> bool {
        self.count >= MAX_BLOCKS || self.ops.len() >= MAX_OPS
    }

    /// Adds a block, which executes `ops` and ends in `tail_page`, if that is not the page it begins in. One of the same
    /// address and mode goes.
    pub(super) fn insert(&mut self, mut block: Block, ops: &[InterpOp], tail_page: Option<u64>) -> BlockId {
        if let Some(replaced) = self.find(block.gpa, block.mode()) {
            self.remove(replaced);
        }
        (block.first_op, block.op_count) = (self.ops.len() as u32, ops.len() as u8);
        let last = ops.last().map(|last| last.op.iced_code());
        block.ends_indirectly = matches!(last, Some(Code::Jmp_rm64 | Code::Call_rm64));
        self.ops.extend_from_slice(ops);
        let id = self.free.pop().unwrap_or(self.arena.len() as BlockId);
        let page = self.pages.entry(block.gpa >> 12).or_insert_with(|| Box::new(Page::EMPTY));
        block.next = std::mem::replace(&mut page.first[granule(block.gpa)], id);
        page.count += 1;
        if let Some(tail_page) = tail_page {
            self.tail_pages.insert(id, tail_page);
            let page = self.pages.entry(tail_page).or_insert_with(|| Box::new(Page::EMPTY));
            page.tails.push(id);
            page.count += 1;
        }
        self.count += 1;
        match self.arena.get_mut(id as usize) {
            Some(place) => *place = block,
            None => self.arena.push(block),
        }
        id
    }

    /// Drops every block that overlaps `bytes` (at least one) at `gpa`, within one page. Returns how many were dropped.
    pub(super) fn invalidate(&mut self, gpa: u64, bytes: u64) -> usize {
        let Some(page) = self.pages.get(&(gpa >> 12)) else { return 0 };
        let first = (gpa as usize & 0xfff).saturating_sub(MAX_BLOCK_BYTES - 1) / GRANULE_BYTES;
        let begins = page.first[first..=granule(gpa + bytes - 1)].iter();
        let near = begins.flat_map(|&first| self.chain(first).map(|(id, _)| id));
        let overlaps = |&id: &BlockId| {
            let mut pieces = self.pieces(id);
            pieces.any(|(at, len)| at < gpa + bytes && gpa < at + len)
        };
        let dropped: Vec<BlockId> = near.chain(page.tails.iter().copied()).filter(overlaps).collect();
        for &id in &dropped {
            self.remove(id);
        }
        dropped.len()
    }

    /// The pieces of memory that a block was decoded from.
    pub(super) fn pieces(&self, id: BlockId) -> impl Iterator<Item = (u64, u64)> {
        let block = self.get(id);
        block.into_iter().flat_map(move |block| block.pieces(self.tail_page(id, block)))
    }

    /// The pieces of memory that the blocks of a physical page were decoded from, in that page.
    pub(super) fn pieces_of_page(&self, page: u64) -> impl Iterator<Item = (u64, u64)> {
        let blocks = self.pages.get(&page).into_iter();
        blocks
            .flat_map(|page| {
                let begins = page.first.iter().flat_map(|&first| self.chain(first).map(|(id, _)| id));
                begins.chain(page.tails.iter().copied())
            })
            .flat_map(|id| self.pieces(id))
            .filter(move |(gpa, _)| gpa >> 12 == page)
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }

    fn remove(&mut self, id: BlockId) {
        let Some(block) = self.get_mut(id) else { return };
        let Block { gpa, next, ends_indirectly, .. } = std::mem::replace(block, Block::NONE);
        if let Some(page) = self.pages.get_mut(&(gpa >> 12)) {
            let mut at = page.first[granule(gpa)];
            if at == id {
                page.first[granule(gpa)] = next;
            }
            while let Some(other) = self.arena.get_mut(at as usize) {
                if other.next == id {
                    other.next = next;
                    break;
                }
                at = other.next;
            }
        }
        self.leave_page(gpa >> 12);
        if let Some(tail_page) = self.tail_pages.remove(&id) {
            if let Some(page) = self.pages.get_mut(&tail_page) {
                page.tails.retain(|&other| other != id);
            }
            self.leave_page(tail_page);
        }
        if ends_indirectly {
            self.targets.remove(&id);
        }
        self.free.push(id);
        self.count -= 1;
    }

    /// One block of a page less.
    fn leave_page(&mut self, number: u64) {
        if let Some(page) = self.pages.get_mut(&number) {
            page.count -= 1;
            if page.count == 0 {
                self.pages.remove(&number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::decode;
    use crate::features::CpuModel;

    const MODE: ModeKey = ModeKey(ModeKey::LONG64);

    /// As many NOPs.
    fn insert(blocks: &mut BlockCache, gpa: u64, mode: ModeKey, nops: u16) -> BlockId {
        let nop = decode::<Cpu>(b"\x90", MODE, &CpuModel::max()).expect("NOP").op;
        let ops = vec![InterpOp { run: |_, _| Ok(()), op: nop }; usize::from(nops)];
        let mut block = Block::new(gpa, mode, 1, None);
        block.length_bytes = nops;
        let ends_in = (gpa + u64::from(nops) - 1) >> 12;
        blocks.insert(block, &ops, (ends_in != gpa >> 12).then_some(ends_in))
    }

    fn pieces(blocks: &BlockCache, page: u64) -> Vec<(u64, u64)> {
        let mut pieces: Vec<_> = blocks.pieces_of_page(page).collect();
        pieces.sort_unstable();
        pieces
    }

    #[test]
    fn a_block_goes_when_one_of_its_bytes_is_written() {
        let mut blocks = BlockCache::new();
        let all = [(0x1000, 10), (0x1008, 2), (0x103c, 60), (0x1080, 4), (0x1ff8, 16), (0x2000, 8)];
        for written in 0xff0..0x2020 {
            let ids = all.map(|(gpa, nops)| insert(&mut blocks, gpa, MODE, nops));
            let hit = |(gpa, nops): (u64, u16)| (gpa..gpa + u64::from(nops)).contains(&written);
            let expected = all.iter().filter(|&&block| hit(block)).count();
            assert_eq!(blocks.invalidate(written, 1), expected, "{written:#x}");
            for (block, id) in all.into_iter().zip(ids) {
                assert_eq!(blocks.get(id).is_none(), hit(block));
                assert_eq!(blocks.find(block.0, MODE), (!hit(block)).then_some(id));
            }
        }
        assert_eq!(pieces(&blocks, 2), [(0x2000, 8), (0x2000, 8)]);
        assert_eq!(blocks.invalidate(0x1000, 0x1000), 5);
        assert_eq!(pieces(&blocks, 1), []);
        assert_eq!(pieces(&blocks, 2), [(0x2000, 8)]);
        assert_eq!(blocks.invalidate(0x2007, 1), 1);
        assert!(blocks.pages.is_empty() && blocks.tail_pages.is_empty() && blocks.count == 0);
    }

    #[test]
    fn blocks_are_found_by_mode_and_where_they_were_last() {
        let mut blocks = BlockCache::new();
        let user = ModeKey(ModeKey::LONG64 | ModeKey::USER);
        let (first, second) = (insert(&mut blocks, 0x1000, MODE, 1), insert(&mut blocks, 0x1000, user, 1));
        assert_eq!((blocks.find(0x1000, MODE), blocks.find(0x1000, user)), (Some(first), Some(second)));
        assert_eq!(blocks.jump(0, Tag(u64::MAX)), None);
        let tag = Tag::new(7, MODE);
        blocks.remember_jump(0x5000, tag, first);
        blocks.remember_jump(0x5000, Tag::new(7, user), second);
        assert_eq!(blocks.jump(0x5000, tag), None, "another one has its place");
        blocks.remember_jump(0x6000, tag, first);
        assert_eq!(blocks.jump(0x6000, tag), Some(first));
        assert_eq!(blocks.jump(0x6000, Tag::new(8, MODE)), None);
        blocks.link(second, 0x6000, first);
        assert_eq!(blocks.follow(second, 0x6000, tag), Some(first));
        assert_eq!(blocks.follow(second, 0x1_0000_6000, tag), None);
        assert_eq!(blocks.get(first).map(Block::mode), Some(MODE));
        let again = insert(&mut blocks, 0x1000, MODE, 2);
        assert_eq!(blocks.find(0x1000, MODE), Some(again));
        assert_eq!(blocks.follow(second, 0x6000, tag), None, "it has gone");
        assert_eq!(blocks.jump(0x6000, tag), None);
    }
}
