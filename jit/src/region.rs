//! Which code is translated together: a region grows from a hot block along direct jumps, branches and calls, as far as the
//! interpreter has found the blocks worth it.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, OpKind};
use rustc_hash::FxHashMap;
use rx86_cpu::interp::tier::{CodeView, HotBlock};

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
}

impl Limits {
    /// For Cranelift, to which larger regions give more.
    pub(crate) const FULL: Self = Self { instructions: 150, nodes: 96, call_depth: 3, cold_fraction: 4 };
    /// For the quick tier, which gains nothing from what is seldom executed.
    pub(crate) const QUICK: Self = Self { instructions: 80, nodes: 24, call_depth: 0, cold_fraction: 8 };
}

/// Where control goes at a node's end, as far as its bytes say. `None` where the code is not part of the region.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Successors {
    /// The node behind this one, or behind the call that it ends with.
    pub(crate) next: Option<usize>,
    /// The node that a direct jump, branch or call leads to.
    pub(crate) target: Option<usize>,
    /// For a return: the node behind the call that led here.
    pub(crate) return_to: Option<usize>,
}

impl Successors {
    fn iter(&self) -> impl Iterator<Item = usize> {
        // The last one comes first in the order: what is next in memory stays next.
        [self.target, self.return_to, self.next].into_iter().flatten()
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
}

/// A region, ready to be translated. Node 0 is the entry.
#[derive(Clone, Debug)]
pub(crate) struct Region {
    /// The linear address that it was found at; it may be another when it is entered.
    pub(crate) entry: u64,
    pub(crate) nodes: Vec<Node>,
    /// Whether one look into the TLB may stand for several accesses.
    pub(crate) grouped: bool,
    /// The pieces of physical memory that the code was read from, each within a page.
    pub(crate) pieces: Vec<(u64, u64)>,
    /// The pages of the code: how many pages from the entry's (linear), and the physical page.
    pub(crate) pages: Vec<(i64, u64)>,
}

/// Calls that led to a node: the index of the chain's last link, zero for none.
type Chain = usize;

struct Link {
    caller: Chain,
    return_offset: i64,
    depth: u32,
}

/// What the last instruction of a block does.
enum End {
    /// Goes on behind the block.
    Next,
    Jump(i64),
    Branch(i64),
    Call(i64),
    Return,
    /// Leaves the region.
    Leave,
}

struct Growth<'a> {
    code: &'a mut dyn CodeView,
    limits: Limits,
    entry: u64,
    least_heat: u32,
    numbers: FxHashMap<(i64, Chain), usize>,
    links: Vec<Link>,
    queue: Vec<(i64, Chain, HotBlock)>,
    instructions: usize,
}

impl Region {
    /// The region that begins at the linear address `entry`; None if there is no decoded block.
    pub(crate) fn grow(entry: u64, code: &mut dyn CodeView, limits: Limits) -> Option<Self> {
        let first = code.block(entry)?;
        let mut growth = Growth {
            code,
            limits,
            entry,
            least_heat: first.heat / limits.cold_fraction,
            numbers: FxHashMap::default(),
            links: vec![Link { caller: 0, return_offset: 0, depth: 0 }],
            queue: Vec::new(),
            instructions: 0,
        };
        growth.numbers.insert((0, 0), 0);
        growth.queue.push((0, 0, first));
        let mut region =
            Self { entry, nodes: Vec::new(), grouped: true, pieces: Vec::new(), pages: Vec::new() };
        let mut taken = 0;
        while taken < growth.queue.len() {
            let (offset, chain, block) = growth.queue[taken].clone();
            taken += 1;
            region.note_memory(entry, offset, &block);
            let node = growth.node(offset, chain, block);
            region.nodes.push(node);
        }
        Some(region)
    }

    /// A region of one node, for code that comes from nowhere.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        let node = Node { offset: 0, gpa: 0, bytes: bytes.to_vec(), successors: Successors::default() };
        Self { entry: 0, nodes: vec![node], grouped: false, pieces: Vec::new(), pages: Vec::new() }
    }

    /// The nodes in an order in which all edges but those of loops lead forward (reverse postorder).
    pub(crate) fn order(&self) -> Vec<usize> {
        let mut order = Vec::with_capacity(self.nodes.len());
        let mut seen = vec![false; self.nodes.len()];
        // A node, and how many of its successors have been looked at.
        let mut path = vec![(0, 0)];
        seen[0] = true;
        while let Some((node, looked)) = path.last_mut() {
            match self.nodes[*node].successors.iter().nth(*looked) {
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
            for next in node.successors.iter() {
                predecessors[next].push(number);
            }
        }
        predecessors
    }

    fn note_memory(&mut self, entry: u64, offset: i64, block: &HotBlock) {
        let length = block.bytes.len() as u64;
        let head = length.min(0x1000 - (block.gpa & 0xfff));
        let linear = entry.wrapping_add(offset as u64);
        let page = (linear >> 12).wrapping_sub(entry >> 12) as i64;
        self.note_piece(page, block.gpa, head);
        if let Some(tail) = block.tail_page {
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
    fn node(&mut self, offset: i64, chain: Chain, block: HotBlock) -> Node {
        let (instructions, last) = scan(&block.bytes);
        self.instructions += instructions;
        let next = offset + block.bytes.len() as i64;
        let mut successors = Successors::default();
        match last.map_or(End::Leave, |last| end_of(&last, next)) {
            End::Next => successors.next = self.take(next, chain),
            End::Jump(target) => successors.target = self.take(target, chain),
            End::Branch(target) => {
                successors.next = self.take(next, chain);
                successors.target = self.take(target, chain);
            }
            End::Call(target) => {
                let depth = self.links[chain].depth + 1;
                if depth <= self.limits.call_depth {
                    self.links.push(Link { caller: chain, return_offset: next, depth });
                    successors.target = self.take(target, self.links.len() - 1);
                }
            }
            End::Return if chain != 0 => {
                let Link { caller, return_offset, .. } = self.links[chain];
                successors.return_to = self.take(return_offset, caller);
            }
            End::Return | End::Leave => {}
        }
        Node { offset, gpa: block.gpa, bytes: block.bytes, successors }
    }

    /// The number of the node at `offset`, which joins the region if it is worth it.
    fn take(&mut self, offset: i64, chain: Chain) -> Option<usize> {
        if let Some(&number) = self.numbers.get(&(offset, chain)) {
            return Some(number);
        }
        if self.queue.len() >= self.limits.nodes || self.instructions >= self.limits.instructions {
            return None;
        }
        let block = self.code.block(self.entry.wrapping_add(offset as u64))?;
        if block.heat < self.least_heat {
            return None;
        }
        let number = self.queue.len();
        self.queue.push((offset, chain, block));
        self.numbers.insert((offset, chain), number);
        Some(number)
    }
}

/// How many instructions there are in `bytes`, and the last one.
fn scan(bytes: &[u8]) -> (usize, Option<Instruction>) {
    let decoder = Decoder::with_ip(64, bytes, 0, DecoderOptions::NONE);
    let mut count = 0;
    let mut last = None;
    for instruction in decoder {
        count += 1;
        last = Some(instruction);
    }
    (count, last)
}

/// `next`: the offset behind the block, whose own instruction pointer `last` was decoded with counts from zero.
fn end_of(last: &Instruction, next: i64) -> End {
    let near = last.op0_kind() == OpKind::NearBranch64;
    let target = next.wrapping_add(last.near_branch64().wrapping_sub(last.next_ip()) as i64);
    match last.flow_control() {
        FlowControl::Next => End::Next,
        FlowControl::UnconditionalBranch if near => End::Jump(target),
        FlowControl::ConditionalBranch if near => End::Branch(target),
        FlowControl::Call if near => End::Call(target),
        FlowControl::Return => End::Return,
        _ => End::Leave,
    }
}
