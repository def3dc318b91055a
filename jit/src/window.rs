//! The stack window of a region: bytes near the stack pointer that its nodes access, which one look into the TLB, where the
//! region is entered, proves for all of them.

use crate::symbols::{Accesses, Key};

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

impl StackWindow {
    /// None if there are too few such accesses, or something in the region may change the mapping.
    pub(crate) fn of(accesses: &Accesses) -> Option<Self> {
        if accesses.may_change_mapping {
            return None;
        }
        let nodes = 0..accesses.nodes();
        let of_node = |node| accesses.of_node(node).filter(|(_, access)| access.key == Key::STACK);
        let mut bounds: Vec<(i64, i64)> =
            nodes.clone().flat_map(of_node).map(|(_, one)| (one.offset, one.offset + one.bytes)).collect();
        bounds.sort_unstable();
        let (first, count) = (0..bounds.len())
            .map(|from| {
                let first = bounds[from].0;
                let fits = |&&(_, end): &&(i64, i64)| end - first <= MAX_SPAN_BYTES;
                (first, bounds[from..].iter().filter(fits).count())
            })
            .max_by_key(|&(_, count)| count)?;
        if count < LEAST_ACCESSES {
            return None;
        }
        let mut window = Self { first, span: 0, writes: false, members: Vec::new() };
        for node in nodes {
            let mut members = vec![None; accesses.instructions(node)];
            for (instruction, access) in of_node(node) {
                let offset = access.offset - first;
                let end = offset + access.bytes;
                if offset >= 0 && end <= MAX_SPAN_BYTES {
                    members[instruction] = Some(offset as u64);
                    window.span = window.span.max(end as u64);
                    window.writes |= access.writes;
                }
            }
            window.members.push(members);
        }
        let nodes = window.members.iter().filter(|node| node.iter().any(Option::is_some)).count();
        (nodes > 1).then_some(window)
    }

    /// Where in the window an instruction accesses memory, if it does.
    pub(crate) fn place(&self, node: usize, instruction: usize) -> Option<u64> {
        self.members.get(node)?.get(instruction).copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::region::{Node, Region, Successors};
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

    fn window(nodes: Vec<Node>) -> Option<StackWindow> {
        StackWindow::of(&Accesses::of(&Region { nodes, ..Region::of_bytes(&[]) }))
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
        let window = window(vec![prologue, body, end]).unwrap();
        assert_eq!((window.first, window.span, window.writes), (-40, 40, true));
        assert_eq!(
            window.members,
            [vec![Some(32), None, Some(8)], vec![Some(8), Some(16), None], vec![Some(0)]]
        );
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
        assert_eq!(window(vec![body, end]), None);
    }
}
