//! Nodes whose code goes on in that of others: a branch into the middle of a block makes a block of its own, and the code from
//! there on would be in both.

use crate::dominators::Dominators;
use crate::region::{Region, Successors};
use iced_x86::{Decoder, DecoderOptions};

/// A node, and the one that its code goes on in.
struct Cut {
    node: usize,
    at: usize,
}

impl Region {
    /// Makes nodes end where others of the same chain of calls (`chains`, for each node) begin. If `peels`, a loop stays in the
    /// code before it once more: what that has looked up, the loop need not.
    pub(crate) fn end_where_others_begin(&mut self, chains: &[usize], peels: bool) {
        let ways = peels.then(|| (Dominators::of(self), self.predecessors()));
        let is_loop = |node: usize| {
            ways.as_ref().is_some_and(|(dominators, predecessors)| {
                predecessors[node].iter().any(|&from| dominators.dominates(node, from))
            })
        };
        let cut_of = |node: usize| {
            let others = (0..chains.len()).filter(|&other| chains[other] == chains[node]);
            let inside = others.filter(|&other| self.goes_on_in(node, other) && !is_loop(other));
            inside.min_by_key(|&other| self.nodes[other].offset).map(|at| Cut { node, at })
        };
        let mut cuts: Vec<Cut> = (0..chains.len()).filter_map(cut_of).collect();
        // Where a node leads is handed on from one to the next.
        cuts.sort_by_key(|cut| self.nodes[cut.node].offset);
        for Cut { node, at } in cuts {
            self.cut(node, at);
        }
    }

    /// Whether one of a node's instructions is the first of `other`, and all behind it are there, too.
    fn goes_on_in(&self, node: usize, other: usize) -> bool {
        let (node, other) = (&self.nodes[node], &self.nodes[other]);
        let distance = other.offset.wrapping_sub(node.offset);
        let Some(behind) = usize::try_from(distance).ok().and_then(|distance| node.bytes.get(distance..))
        else {
            return false;
        };
        if distance == 0 || behind.is_empty() || !other.bytes.starts_with(behind) {
            return false;
        }
        let mut instructions = Decoder::with_ip(64, &node.bytes, 0, DecoderOptions::NONE).into_iter();
        instructions.any(|instruction| instruction.ip() == distance as u64)
    }

    fn cut(&mut self, node: usize, at: usize) {
        let length = (self.nodes[at].offset - self.nodes[node].offset) as usize;
        let ends_there = self.nodes[node].bytes.len() == length + self.nodes[at].bytes.len();
        let before = &mut self.nodes[node];
        before.bytes.truncate(length);
        let led_to =
            std::mem::replace(&mut before.successors, Successors { next: Some(at), ..Default::default() });
        let likely = std::mem::take(&mut before.likely);
        if ends_there {
            let there = &mut self.nodes[at];
            there.successors.fill(led_to);
            if there.likely.is_empty() {
                there.likely = likely;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::region::Node;

    /// NOP; DEC ECX; JNE: from `offset` on, which is the first byte of one of them.
    fn node(offset: usize, next: Option<usize>, target: Option<usize>) -> Node {
        let bytes = [0x90, 0xff, 0xc9, 0x75, 0xfb];
        let node = Region::of_bytes(&bytes[offset..]).nodes.remove(0);
        Node { offset: offset as i64, successors: Successors { next, target, ..Default::default() }, ..node }
    }

    fn cut(nodes: Vec<Node>, chains: &[usize], peels: bool) -> Vec<(usize, Option<usize>, Option<usize>)> {
        let mut region = Region { nodes, ..Region::of_bytes(&[]) };
        region.end_where_others_begin(chains, peels);
        let of_node = |node: &Node| (node.bytes.len(), node.successors.next, node.successors.target);
        region.nodes.iter().map(of_node).collect()
    }

    #[test]
    fn code_that_is_branched_into_is_there_once() {
        let nodes = vec![node(0, None, Some(0)), node(1, None, None), node(3, None, None)];
        let found = cut(nodes, &[0; 3], true);
        assert_eq!(found, [(1, Some(1), None), (2, Some(2), None), (2, None, Some(0))]);
    }

    #[test]
    fn where_the_code_leads_is_not_forgotten() {
        let nodes = vec![node(0, Some(2), None), node(3, None, None), node(0, None, None)];
        let found = cut(nodes, &[0, 0, 1], true);
        assert_eq!(found, [(3, Some(1), None), (2, Some(2), None), (5, None, None)]);
    }

    #[test]
    fn a_loop_is_peeled_if_wanted() {
        let nodes = || vec![node(0, None, Some(1)), node(1, None, Some(1))];
        assert_eq!(cut(nodes(), &[0; 2], true), [(5, None, Some(1)), (4, None, Some(1))]);
        assert_eq!(cut(nodes(), &[0; 2], false), [(1, Some(1), None), (4, None, Some(1))]);
        assert_eq!(cut(nodes(), &[0, 1], false), [(5, None, Some(1)), (4, None, Some(1))], "another call's");
    }

    #[test]
    fn what_begins_within_an_instruction_is_other_code() {
        let mut inner = node(1, None, None);
        inner.offset = 2;
        inner.bytes = vec![0xc9, 0x75, 0xfb];
        let lengths = cut(vec![node(0, None, None), inner], &[0; 2], false);
        assert_eq!(lengths, [(5, None, None), (3, None, None)]);
    }
}
