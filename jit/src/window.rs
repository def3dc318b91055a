//! The stack window of a region: bytes near the stack pointer that its nodes access, which one look into the TLB, where the
//! region is entered, proves for all of them.

use crate::groups::{StackUse, stack_use};
use crate::region::Region;

/// The most bytes of a window. One that turns out to cross a page is left to the interpreter, so it is small against a page.
const MAX_SPAN_BYTES: i64 = 256;

/// Fewer accesses are not worth a look that may be in vain.
const LEAST_ACCESSES: usize = 4;

/// A region's stack window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StackWindow {
    /// Its first byte, from RSP at the region's entry.
    pub(crate) first: i64,
    pub(crate) span: u64,
    /// Whether any access writes.
    pub(crate) writes: bool,
    /// For each node, where in the window each of its instructions accesses memory, if it does.
    members: Vec<Vec<Option<u64>>>,
}

/// RSP at a node's beginning, from what it was at the region's entry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stack {
    Unseen,
    At(i64),
    Unknown,
}

impl StackWindow {
    /// None if there are too few such accesses, or something in the region may change the mapping.
    pub(crate) fn of(region: &Region) -> Option<Self> {
        let uses: Vec<StackUse> =
            region.nodes.iter().map(|node| stack_use(&node.bytes)).collect::<Option<_>>()?;
        let stacks = stacks(region, &uses);
        let mut accesses: Vec<(i64, i64)> = Vec::new();
        for (stack, used) in stacks.iter().zip(&uses) {
            let Stack::At(at) = *stack else { continue };
            accesses.extend(used.accesses.iter().map(|one| (at + one.offset, at + one.offset + one.bytes)));
        }
        accesses.sort_unstable();
        let (first, count) = (0..accesses.len())
            .map(|from| {
                let first = accesses[from].0;
                let fits = |&&(_, end): &&(i64, i64)| end - first <= MAX_SPAN_BYTES;
                (first, accesses[from..].iter().filter(fits).count())
            })
            .max_by_key(|&(_, count)| count)?;
        if count < LEAST_ACCESSES {
            return None;
        }
        let mut window = Self { first, span: 0, writes: false, members: Vec::new() };
        for (stack, used) in stacks.iter().zip(&uses) {
            let mut members = vec![None; used.instructions];
            for one in &used.accesses {
                let Stack::At(at) = *stack else { continue };
                let offset = at + one.offset - first;
                let end = offset + one.bytes;
                if offset >= 0 && end <= MAX_SPAN_BYTES {
                    members[one.instruction] = Some(offset as u64);
                    window.span = window.span.max(end as u64);
                    window.writes |= one.writes;
                }
            }
            window.members.push(members);
        }
        let nodes = window.members.iter().filter(|node| node.iter().any(Option::is_some)).count();
        (nodes > 1).then_some(window)
    }

    /// The members among a node's instructions.
    pub(crate) fn members(&self, node: usize) -> &[Option<u64>] {
        &self.members[node]
    }
}

/// RSP at each node's beginning, as far as all ways to it agree.
fn stacks(region: &Region, uses: &[StackUse]) -> Vec<Stack> {
    let predecessors = region.predecessors();
    let mut stacks = vec![Stack::Unseen; uses.len()];
    stacks[0] = Stack::At(0);
    loop {
        let mut changed = false;
        for (node, from) in predecessors.iter().enumerate() {
            let mut stack = stacks[node];
            for &before in from {
                let comes = match (stacks[before], uses[before].moved) {
                    (Stack::Unseen, _) => continue,
                    (Stack::At(at), Some(moved)) => Stack::At(at.wrapping_add(moved)),
                    _ => Stack::Unknown,
                };
                stack = match stack {
                    Stack::Unseen => comes,
                    _ if stack == comes => stack,
                    _ => Stack::Unknown,
                };
            }
            changed |= stack != stacks[node];
            stacks[node] = stack;
        }
        if !changed {
            return stacks;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::region::{Node, Successors};
    use iced_x86::code_asm::*;

    fn node(
        build: impl Fn(&mut CodeAssembler) -> Result<(), iced_x86::IcedError>,
        next: Option<usize>,
        target: Option<usize>,
    ) -> Node {
        let mut assembler = CodeAssembler::new(64).unwrap();
        build(&mut assembler).unwrap();
        let bytes = assembler.assemble(0).unwrap();
        Node {
            offset: 0,
            gpa: 0,
            bytes,
            successors: Successors { next, target, ..Default::default() },
            read_anew: None,
            targets: Vec::new(),
            likely: Vec::new(),
        }
    }

    fn region(nodes: Vec<Node>) -> Region {
        Region { nodes, ..Region::of_bytes(&[]) }
    }

    #[test]
    fn a_loop_that_keeps_the_stack_pointer_shares_a_window() {
        let prologue = node(
            |a| {
                a.push(rbx)?;
                a.sub(rsp, 32)?;
                a.mov(qword_ptr(rsp + 8), rdi)
            },
            Some(1),
            None,
        );
        let body = node(
            |a| {
                a.mov(rax, qword_ptr(rsp + 8))?;
                a.add(qword_ptr(rsp + 16), rax)?;
                a.mov(rcx, qword_ptr(rdi))
            },
            Some(2),
            Some(1),
        );
        let end = node(|a| a.ret(), None, None);
        let window = StackWindow::of(&region(vec![prologue, body, end])).unwrap();
        assert_eq!((window.first, window.span, window.writes), (-40, 40, true));
        assert_eq!(window.members(0), [Some(32), None, Some(8)]);
        assert_eq!(window.members(1), [Some(8), Some(16), None]);
    }

    #[test]
    fn a_loop_that_moves_the_stack_pointer_has_none() {
        let body = node(
            |a| {
                a.push(rax)?;
                a.push(rbx)?;
                a.push(rcx)?;
                a.push(rdx)
            },
            Some(1),
            Some(0),
        );
        let end = node(|a| a.pop(rax), None, None);
        assert_eq!(StackWindow::of(&region(vec![body, end])), None);
    }
}
