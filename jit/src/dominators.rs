//! Through which nodes of a region every way to another one leads.

use crate::region::Region;

/// For each node its immediate dominator (Cooper, Harvey, Kennedy: A Simple, Fast Dominance Algorithm).
#[derive(Clone, Debug, Default)]
pub(crate) struct Dominators {
    /// The entry has itself.
    immediate: Vec<Option<usize>>,
    /// The nodes in reverse postorder.
    pub(crate) order: Vec<usize>,
}

impl Dominators {
    pub(crate) fn of(region: &Region) -> Self {
        let predecessors = region.predecessors();
        let order = region.order();
        let mut places = vec![0; region.nodes.len()];
        order.iter().enumerate().for_each(|(place, &node)| places[node] = place);
        let mut immediate = vec![None; region.nodes.len()];
        immediate[0] = Some(0);
        loop {
            let before = immediate.clone();
            for &node in order.iter().filter(|&&node| node != 0) {
                let known = predecessors[node].iter().copied().filter(|&from| immediate[from].is_some());
                immediate[node] = known.reduce(|a, b| meet(a, b, &immediate, &places));
            }
            if immediate == before {
                return Self { immediate, order };
            }
        }
    }

    /// The node that is the last on every way to this one.
    pub(crate) fn immediate(&self, node: usize) -> Option<usize> {
        self.immediate.get(node).copied().flatten().filter(|&dominator| dominator != node)
    }

    /// Whether every way to `node` leads through `dominator`.
    pub(crate) fn dominates(&self, dominator: usize, mut node: usize) -> bool {
        while node != dominator {
            match self.immediate(node) {
                Some(next) => node = next,
                None => return false,
            }
        }
        true
    }
}

/// The last node that both have ways through.
fn meet(mut a: usize, mut b: usize, immediate: &[Option<usize>], places: &[usize]) -> usize {
    while a != b {
        let later = if places[a] > places[b] { &mut a } else { &mut b };
        // The entry is before all others.
        *later = immediate[*later].unwrap_or(0);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::region::{Node, Successors};

    fn region(successors: &[(Option<usize>, Option<usize>)]) -> Region {
        let node = |&(next, target): &(Option<usize>, Option<usize>)| Node {
            successors: Successors { next, target, ..Successors::default() },
            ..Region::of_bytes(&[]).nodes.remove(0)
        };
        Region { nodes: successors.iter().map(node).collect(), ..Region::of_bytes(&[]) }
    }

    #[test]
    fn neither_side_of_a_branch_dominates_what_is_behind_it() {
        let dominators = Dominators::of(&region(&[
            (Some(1), Some(2)),
            (Some(3), None),
            (Some(3), None),
            (Some(4), Some(0)),
            (None, None),
        ]));
        let immediate: Vec<_> = (0..5).map(|node| dominators.immediate(node)).collect();
        assert_eq!(immediate, [None, Some(0), Some(0), Some(0), Some(3)]);
        assert!(dominators.dominates(0, 4) && dominators.dominates(3, 4) && !dominators.dominates(1, 3));
    }

    #[test]
    fn a_loop_with_two_entries_is_dominated_by_neither() {
        let dominators =
            Dominators::of(&region(&[(Some(1), Some(2)), (Some(2), None), (Some(1), Some(3)), (None, None)]));
        let immediate: Vec<_> = (0..4).map(|node| dominators.immediate(node)).collect();
        assert_eq!(immediate, [None, Some(0), Some(0), Some(2)]);
    }
}
