//! Which code is translated together: a region grows from a hot block along direct jumps, branches and calls, as far as the
//! interpreter has found the blocks worth it.

use crate::groups::Reach;
use crate::vector::plan::Plan;
use iced_x86::{Code, FlowControl};
use rustc_hash::FxHashMap;
use rx86_cpu::interp::tier::{CodeView, HotBlock};
use rx86_cpu::op::{Op, op_flags};
use std::collections::VecDeque;

/// How far regions grow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The most instructions and blocks of a region. Code beyond is reached through the engine.
    instructions: usize,
    nodes: usize,
    /// How deep calls are followed.
    call_depth: u32,
    /// A successor is taken into the region if it was executed at least this fraction of the entry's count.
    cold_fraction: u32,
    /// The same where the entry's block takes most of the host's vector registers: a loop keeps them better alone.
    cold_fraction_of_vectors: u32,
    /// How often a block that ends with an indirect jump or call was executed at least, so that its targets are known.
    least_indirect_heat: u32,
    /// Whether indirect jumps stay in the region.
    hubs: bool,
    /// Whether the code before a loop has its first turn.
    peels: bool,
}

impl Limits {
    /// For Cranelift, to which larger regions give more.
    pub(crate) const FULL: Self = Self {
        instructions: 150,
        nodes: 96,
        call_depth: 3,
        cold_fraction: 16,
        cold_fraction_of_vectors: 4,
        least_indirect_heat: 0,
        hubs: true,
        peels: true,
    };
    /// For the quick tier, which gains nothing from what is seldom executed.
    pub(crate) const QUICK: Self = Self {
        instructions: 80,
        nodes: 24,
        call_depth: 0,
        cold_fraction: 8,
        cold_fraction_of_vectors: 8,
        least_indirect_heat: 256,
        hubs: false,
        peels: false,
    };

    /// Those for a region that begins with this block.
    fn around(self, first: &HotBlock) -> Self {
        let vectors = Plan::of([&first.bytes[..]].into_iter()).host_registers();
        if vectors < MANY_VECTORS {
            return self;
        }
        Self { cold_fraction: self.cold_fraction_of_vectors, ..self }
    }

    /// Whether a block may be in a region.
    fn allow(self, block: &HotBlock) -> bool {
        block.heat >= self.least_indirect_heat
            || !matches!(block.last.iced_code(), Code::Jmp_rm64 | Code::Call_rm64)
    }
}

/// Of the host's sixteen vector registers.
const MANY_VECTORS: u32 = 10;

/// A jump that has led to more places goes through a hub.
const MAX_LIKELY: usize = 3;

/// The same of what an indirect jump leads to, in relation to the jump's own least count: there are many of them.
const COLD_TARGET_FRACTION: u32 = 4;

/// The farthest that a node may be from the region's entry, so that offsets are short.
const MAX_DISTANCE: u64 = 1 << 30;

/// Where control goes at a node's end, as far as its bytes say. `None` where the code is not part of the region.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Successors {
    /// The node behind this one, or behind the call that it ends with.
    pub(crate) next: Option<usize>,
    /// The node that a direct jump, branch or call leads to.
    pub(crate) target: Option<usize>,
    /// For a return: the node behind the call that led here.
    pub(crate) return_to: Option<usize>,
    /// For an indirect jump or call, and a return from recursion: the node that knows where they lead.
    pub(crate) hub: Option<usize>,
}

impl Successors {
    /// Takes over what it does not have.
    pub(crate) fn fill(&mut self, other: Self) {
        self.next = self.next.or(other.next);
        self.target = self.target.or(other.target);
        self.return_to = self.return_to.or(other.return_to);
        self.hub = self.hub.or(other.hub);
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        // The last one comes first in the order: what is next in memory stays next.
        [self.target, self.hub, self.return_to, self.next].into_iter().flatten()
    }
}

/// A straight run of instructions in a region. Code that is called from two places in the region is two nodes.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Its first byte, from the region's.
    pub(crate) offset: i64,
    /// The physical address of that.
    pub(crate) gpa: u64,
    /// Its code, no more than its instructions.
    pub(crate) bytes: Vec<u8>,
    /// Where it leads.
    pub(crate) successors: Successors,
    /// Where its code is in the host's memory, if constants in it are to be read anew at each execution: they are often
    /// rewritten.
    pub(crate) read_anew: Option<u64>,
    /// Not empty for a *hub*: a node without code, which compares where a jump leads with these nodes' addresses.
    pub(crate) targets: Vec<usize>,
    /// Where its indirect jump or its return has led, if that is few places: they are compared before a hub is asked.
    pub(crate) likely: Vec<usize>,
}

impl Node {
    fn leads_to(&self) -> impl Iterator<Item = usize> {
        self.targets.iter().chain(&self.likely).copied().chain(self.successors.iter())
    }
}

/// A region, ready to be translated. Node 0 is the entry.
#[derive(Clone, Debug)]
pub(crate) struct Region {
    /// The linear address that it was found at; it may be another when it is entered.
    pub(crate) entry: u64,
    pub(crate) nodes: Vec<Node>,
    /// Whether one look into the TLB may stand for several accesses.
    pub(crate) grouped: bool,
    /// Whether it may have a stack window.
    pub(crate) windowed: bool,
    /// Instructions, by their physical addresses, whose looks into the TLB were in vain too often to reach farther.
    pub(crate) limits: Vec<(u64, Reach)>,
    /// The pieces of physical memory that the code was read from, each within a page.
    pub(crate) pieces: Vec<(u64, u64)>,
    /// The pages of the code: how many pages from the entry's (linear), and the physical page.
    pub(crate) pages: Vec<(i64, u64)>,
}

/// Calls that led to a node: the index of the chain's last link, zero for none.
type Chain = usize;

struct Link {
    caller: Chain,
    /// What was called, from the region's entry.
    callee: Option<i64>,
    return_offset: i64,
    depth: u32,
    /// The nodes behind calls of the same function by itself, or by what it calls.
    recursive_returns: Vec<usize>,
}

/// A node that ends where only its execution tells, and the nodes that are known to follow.
struct Open {
    node: usize,
    chain: Chain,
    targets: Vec<usize>,
    /// What hub it may share.
    kind: OpenKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum OpenKind {
    Jump,
    Call,
    Return,
}

/// A node to be.
struct Queued {
    offset: i64,
    chain: Chain,
    block: HotBlock,
    least_heat: u32,
}

/// What the last instruction of a block does.
enum End {
    /// Goes on behind the block.
    Next,
    Jump(i64),
    Branch(i64),
    Call(i64),
    Return,
    IndirectJump,
    IndirectCall,
    /// Leaves the region.
    Leave,
}

struct Growth<'a> {
    code: &'a mut dyn CodeView,
    limits: Limits,
    entry: u64,
    /// The offset and the chain of each node so far. They are few.
    places: Vec<(i64, Chain)>,
    links: Vec<Link>,
    /// The last of them, which have yet to be made.
    queue: VecDeque<Queued>,
    open: Vec<Open>,
    instructions: usize,
}

impl Region {
    /// The region that begins at the linear address `entry`; None if there is no decoded block.
    pub(crate) fn grow(entry: u64, code: &mut dyn CodeView, limits: Limits) -> Option<Self> {
        let first = code.block(entry)?;
        let limits = limits.around(&first);
        Self::grow_from(first, entry, code, limits)
    }

    /// The same where the first block is at hand.
    pub(crate) fn grow_from(
        first: HotBlock,
        entry: u64,
        code: &mut dyn CodeView,
        limits: Limits,
    ) -> Option<Self> {
        if !limits.allow(&first) {
            return None;
        }
        let mut growth = Growth {
            code,
            limits,
            entry,
            places: vec![(0, 0)],
            links: vec![Link {
                caller: 0,
                callee: None,
                return_offset: 0,
                depth: 0,
                recursive_returns: Vec::new(),
            }],
            queue: VecDeque::new(),
            open: Vec::new(),
            instructions: 0,
        };
        let least_heat = first.heat / limits.cold_fraction;
        growth.queue.push_back(Queued { offset: 0, chain: 0, block: first, least_heat });
        let mut region = Self {
            entry,
            nodes: Vec::new(),
            grouped: true,
            windowed: true,
            limits: Vec::new(),
            pieces: Vec::new(),
            pages: Vec::new(),
        };
        let mut tail_pages = Vec::new();
        while let Some(queued) = growth.queue.pop_front() {
            tail_pages.push(queued.block.tail_page);
            let node = growth.node(region.nodes.len(), queued);
            region.nodes.push(node);
        }
        let Growth { open, links, places, .. } = growth;
        if limits.hubs {
            region.add_hubs(open, &links);
        }
        let chains: Vec<Chain> = places.iter().map(|place| place.1).collect();
        region.end_where_others_begin(&chains, limits.peels);
        for (number, tail_page) in tail_pages.into_iter().enumerate() {
            let Node { offset, gpa, ref bytes, .. } = region.nodes[number];
            region.note_memory(offset, (gpa, bytes.len() as u64), tail_page);
        }
        Some(region)
    }

    /// Whether `code` at the linear address `entry` is what this region was made of.
    pub(crate) fn is_still(&self, entry: u64, code: &mut dyn CodeView) -> bool {
        let mut now = Self { entry, ..Self::of_bytes(&[]) };
        now.nodes.clear();
        for node in self.nodes.iter().filter(|node| node.targets.is_empty()) {
            match code.block(entry.wrapping_add(node.offset as u64)) {
                Some(block) if block.gpa == node.gpa && block.bytes.starts_with(&node.bytes) => {
                    now.note_memory(node.offset, (node.gpa, node.bytes.len() as u64), block.tail_page);
                }
                _ => return false,
            }
        }
        now.pages == self.pages && now.pieces == self.pieces
    }

    /// A region of one node, for code that comes from nowhere.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        let node = Node {
            offset: 0,
            gpa: 0,
            bytes: bytes.to_vec(),
            successors: Successors::default(),
            read_anew: None,
            targets: Vec::new(),
            likely: Vec::new(),
        };
        Self {
            entry: 0,
            nodes: vec![node],
            grouped: false,
            windowed: false,
            limits: Vec::new(),
            pieces: Vec::new(),
            pages: Vec::new(),
        }
    }

    /// For each node whether control may come back to it without leaving the region.
    pub(crate) fn loops(&self) -> Vec<bool> {
        (0..self.nodes.len()).map(|node| self.is_in_loop(node)).collect()
    }

    fn is_in_loop(&self, start: usize) -> bool {
        let mut seen = vec![false; self.nodes.len()];
        let mut open = vec![start];
        while let Some(node) = open.pop() {
            for next in self.nodes[node].leads_to() {
                if next == start {
                    return true;
                }
                if !std::mem::replace(&mut seen[next], true) {
                    open.push(next);
                }
            }
        }
        false
    }

    /// The nodes in an order in which all edges but those of loops lead forward (reverse postorder).
    pub(crate) fn order(&self) -> Vec<usize> {
        let mut order = Vec::with_capacity(self.nodes.len());
        let mut seen = vec![false; self.nodes.len()];
        // A node, and how many of its successors have been looked at.
        let mut path = vec![(0, 0)];
        seen[0] = true;
        while let Some((node, looked)) = path.last_mut() {
            match self.nodes[*node].leads_to().nth(*looked) {
                Some(next) => {
                    *looked += 1;
                    if !seen[next] {
                        seen[next] = true;
                        path.push((next, 0));
                    }
                }
                None => {
                    order.push(*node);
                    path.pop();
                }
            }
        }
        order.reverse();
        order
    }

    /// For each node, the nodes that may lead to it.
    pub(crate) fn predecessors(&self) -> Vec<Vec<usize>> {
        let mut predecessors = vec![Vec::new(); self.nodes.len()];
        for (number, node) in self.nodes.iter().enumerate() {
            for next in node.leads_to() {
                predecessors[next].push(number);
            }
        }
        predecessors
    }

    /// Tells the jumps that have led to few places which these are, and adds the hubs for what else is known: one for all jumps of
    /// a chain, one for its returns, and one for each call.
    fn add_hubs(&mut self, mut open: Vec<Open>, links: &[Link]) {
        let mut shared: Vec<(Chain, OpenKind, usize)> = Vec::new();
        let mut of_chains: FxHashMap<Chain, Vec<usize>> = FxHashMap::default();
        for one in &mut open {
            match one.kind {
                OpenKind::Return => one.targets = distinct(&links[one.chain].recursive_returns),
                OpenKind::Call => one.targets = distinct(&one.targets),
                OpenKind::Jump => {
                    one.targets = distinct(&one.targets);
                    of_chains.entry(one.chain).or_default().extend(&one.targets);
                }
            }
        }
        for Open { node, chain, targets, kind } in open {
            if targets.is_empty() {
                continue;
            }
            if targets.len() <= MAX_LIKELY {
                let others = of_chains.get(&chain).map_or(0, |of_chain| distinct(of_chain).len());
                let is_all = kind != OpenKind::Jump || others == targets.len();
                self.nodes[node].likely.clone_from(&targets);
                if is_all {
                    continue;
                }
            }
            let known = shared.iter().find(|one| (one.0, one.1) == (chain, kind));
            let hub = match known {
                Some(&(_, _, hub)) if kind != OpenKind::Call => hub,
                _ => {
                    let successors = Successors::default();
                    self.nodes.push(Node {
                        offset: 0,
                        gpa: 0,
                        bytes: Vec::new(),
                        successors,
                        read_anew: None,
                        targets: Vec::new(),
                        likely: Vec::new(),
                    });
                    shared.push((chain, kind, self.nodes.len() - 1));
                    self.nodes.len() - 1
                }
            };
            for target in targets {
                if !self.nodes[hub].targets.contains(&target) {
                    self.nodes[hub].targets.push(target);
                }
            }
            self.nodes[node].successors.hub = Some(hub);
        }
    }

    /// Notes where the code at `offset` is: physical address and bytes, and the page that it goes on in if it crosses into one.
    fn note_memory(&mut self, offset: i64, (gpa, length): (u64, u64), tail_page: Option<u64>) {
        let head = length.min(0x1000 - (gpa & 0xfff));
        let linear = self.entry.wrapping_add(offset as u64);
        let page = (linear >> 12).wrapping_sub(self.entry >> 12) as i64;
        self.note_piece(page, gpa, head);
        if let Some(tail) = tail_page.filter(|_| length > head) {
            self.note_piece(page + 1, tail << 12, length - head);
        }
    }

    fn note_piece(&mut self, page: i64, gpa: u64, length: u64) {
        if !self.pieces.contains(&(gpa, length)) {
            self.pieces.push((gpa, length));
        }
        if !self.pages.contains(&(page, gpa >> 12)) {
            self.pages.push((page, gpa >> 12));
        }
    }
}

impl Growth<'_> {
    fn node(&mut self, number: usize, queued: Queued) -> Node {
        let Queued { offset, chain, block, least_heat } = queued;
        self.instructions += block.instructions;
        let next = offset + block.bytes.len() as i64;
        let mut successors = Successors::default();
        match end_of(&block.last, next) {
            End::Next => successors.next = self.take(next, chain, least_heat),
            End::Jump(target) => successors.target = self.take(target, chain, least_heat),
            End::Branch(target) => {
                successors.next = self.take(next, chain, least_heat);
                successors.target = self.take(target, chain, least_heat);
            }
            End::Call(target) => {
                if let Some(callee) = self.recursion(chain, target) {
                    successors.target = self.take(target, callee, least_heat);
                    if let Some(behind) = self.take(next, chain, least_heat) {
                        self.links[callee].recursive_returns.push(behind);
                    }
                } else if let Some(callee) = self.call(chain, Some(target), next) {
                    successors.target = self.take(target, callee, least_heat);
                }
            }
            End::Return => {
                if chain != 0 {
                    let Link { caller, return_offset, .. } = self.links[chain];
                    successors.return_to = self.take(return_offset, caller, least_heat);
                }
                self.open.push(Open { node: number, chain, targets: Vec::new(), kind: OpenKind::Return });
            }
            End::IndirectJump | End::IndirectCall if !self.limits.hubs => {}
            End::IndirectJump => {
                let targets = self.targets(offset, chain, least_heat / COLD_TARGET_FRACTION);
                self.open.push(Open { node: number, chain, targets, kind: OpenKind::Jump });
            }
            End::IndirectCall => {
                if let Some(callee) = self.call(chain, None, next) {
                    let targets = self.targets(offset, callee, least_heat / COLD_TARGET_FRACTION);
                    self.open.push(Open { node: number, chain, targets, kind: OpenKind::Call });
                }
            }
            End::Leave => {}
        }
        Node {
            offset,
            gpa: block.gpa,
            bytes: block.bytes,
            successors,
            read_anew: None,
            targets: Vec::new(),
            likely: Vec::new(),
        }
    }

    /// The chain of a call, unless it is too deep.
    fn call(&mut self, caller: Chain, callee: Option<i64>, return_offset: i64) -> Option<Chain> {
        let depth = self.links[caller].depth + 1;
        if depth > self.limits.call_depth {
            return None;
        }
        self.links.push(Link { caller, callee, return_offset, depth, recursive_returns: Vec::new() });
        Some(self.links.len() - 1)
    }

    /// If `target` is already being called in `chain`: the chain of that call.
    fn recursion(&self, mut chain: Chain, target: i64) -> Option<Chain> {
        while chain != 0 {
            if self.links[chain].callee == Some(target) {
                return Some(chain);
            }
            chain = self.links[chain].caller;
        }
        self.places.contains(&(target, 0)).then_some(0)
    }

    /// The nodes that the indirect jump or call at the end of the block at `offset` leads to.
    fn targets(&mut self, offset: i64, chain: Chain, least_heat: u32) -> Vec<usize> {
        let targets = self.code.targets(self.entry.wrapping_add(offset as u64));
        let offsets = targets.iter().map(|target| target.wrapping_sub(self.entry) as i64);
        let offsets: Vec<i64> = offsets.collect();
        offsets.into_iter().filter_map(|offset| self.take(offset, chain, least_heat)).collect()
    }

    /// The number of the node at `offset`, which joins the region if it is worth it.
    fn take(&mut self, offset: i64, chain: Chain, least_heat: u32) -> Option<usize> {
        let number = self.places.iter().position(|&place| place == (offset, chain));
        if number.is_some() {
            return number;
        }
        if offset.unsigned_abs() >= MAX_DISTANCE
            || self.places.len() >= self.limits.nodes
            || self.instructions >= self.limits.instructions
        {
            return None;
        }
        let linear = self.entry.wrapping_add(offset as u64);
        // Most are not worth it: of those the code need not be read.
        let (_, heat) = self.code.heat(linear)?;
        if heat < least_heat {
            return None;
        }
        let block = self.code.block(linear).filter(|block| self.limits.allow(block))?;
        self.queue.push_back(Queued { offset, chain, block, least_heat });
        self.places.push((offset, chain));
        Some(self.places.len() - 1)
    }
}

/// Each of these once.
fn distinct(nodes: &[usize]) -> Vec<usize> {
    let mut distinct = Vec::with_capacity(nodes.len());
    for &node in nodes {
        if !distinct.contains(&node) {
            distinct.push(node);
        }
    }
    distinct
}

/// What `last` does, whose block ends at offset `next`.
fn end_of(last: &Op, next: i64) -> End {
    let code = last.iced_code();
    let target = next.wrapping_add(last.immediate as i64);
    match code.flow_control() {
        FlowControl::Next => End::Next,
        FlowControl::UnconditionalBranch if matches!(code, Code::Jmp_rel8_64 | Code::Jmp_rel32_64) => {
            End::Jump(target)
        }
        FlowControl::ConditionalBranch if last.has(op_flags::OPERAND64) => End::Branch(target),
        FlowControl::Call if code == Code::Call_rel32_64 => End::Call(target),
        FlowControl::Return => End::Return,
        _ if code == Code::Jmp_rm64 => End::IndirectJump,
        _ if code == Code::Call_rm64 => End::IndirectCall,
        _ => End::Leave,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rx86_cpu::cpu::Cpu;
    use rx86_cpu::decode::decode;
    use rx86_cpu::features::CpuModel;
    use rx86_cpu::mode::ModeKey;

    /// Jumps, each to the one behind it; one of them is not wanted.
    struct Jumps {
        unwanted: u64,
    }

    impl CodeView for Jumps {
        fn block(&mut self, linear: u64) -> Option<HotBlock> {
            let bytes = vec![0xeb, 0];
            let last = decode::<Cpu>(&bytes, ModeKey(ModeKey::LONG64), &CpuModel::max()).ok()?.op;
            Some(HotBlock { gpa: linear, tail_page: None, bytes, instructions: 1, last, heat: 100 })
        }

        fn heat(&mut self, linear: u64) -> Option<(u64, u32)> {
            (linear != self.unwanted).then_some((linear, 100))
        }
    }

    #[test]
    fn a_region_ends_before_what_is_not_wanted() {
        let mut code = Jumps { unwanted: 0x1006 };
        let region = Region::grow(0x1000, &mut code, Limits::QUICK).expect("there is a block");
        let offsets: Vec<i64> = region.nodes.iter().map(|node| node.offset).collect();
        assert_eq!(offsets, [0, 2, 4]);
        assert_eq!(region.nodes[1].successors.target, Some(2));
        assert_eq!(region.nodes[2].successors.target, None);
    }
}
