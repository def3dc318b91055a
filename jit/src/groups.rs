//! Which memory accesses of a region lie so close to each other, by the same registers, that one look into the TLB will do for
//! all of them.

use crate::dominators::Dominators;
use crate::region::Region;
use crate::symbols::{Access, Accesses};
use crate::window::StackWindow;

/// The most bytes from the first to the last that accesses of a group touch. Groups that turn out to cross a page are left to
/// the interpreter, so it is small against a page.
const MAX_SPAN_BYTES: i64 = 256;

/// How many accesses a look into the TLB at an instruction may be for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// For its own.
    #[default]
    Alone,
    /// For those behind it in its node, too.
    Node,
    /// And for those in nodes to which all ways lead through its own.
    Region,
}

/// Accesses within one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// The first byte that is accessed, from what the accesses' key stands for, and the one behind the last.
    pub(crate) first: i64,
    pub(crate) end: i64,
    /// Whether any access writes.
    pub(crate) writes: bool,
    /// There is more than one access.
    pub(crate) is_shared: bool,
}

/// The accesses of a region that may be in groups, and where one leads to others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Groups {
    accesses: Accesses,
    dominators: Dominators,
    /// No look reaches farther.
    reach: Reach,
    /// Looks that reach less far: the instruction's place from the region's first byte, and how far.
    limits: Vec<(i64, Reach)>,
}

impl Groups {
    /// Those of a region whose accesses these are, but for members of its `window`.
    pub(crate) fn of(
        region: &Region,
        mut accesses: Accesses,
        window: Option<&StackWindow>,
        reach: Reach,
    ) -> Self {
        if let Some(window) = window {
            accesses.retain(|node, instruction| window.place(node, instruction).is_none());
        }
        let mut limits = Vec::new();
        for (number, node) in region.nodes.iter().enumerate() {
            for (_, access) in accesses.of_node(number) {
                let gpa = node.gpa.wrapping_add(access.at.wrapping_sub(node.offset) as u64);
                if let Some(&(_, reach)) = region.limits.iter().find(|limit| limit.0 == gpa) {
                    limits.push((access.at, reach));
                }
            }
        }
        Self { accesses, dominators: Dominators::of(region), reach, limits }
    }

    /// The access of an instruction, by its number in its node, if it may be in a group.
    pub(crate) fn access(&self, node: usize, instruction: usize) -> Option<&Access> {
        self.accesses.get(node, instruction)
    }

    /// The node whose looks into the TLB still hold at the beginning of `node`.
    pub(crate) fn before(&self, node: usize) -> Option<usize> {
        if self.reach == Reach::Region { self.dominators.immediate(node) } else { None }
    }

    /// What a look into the TLB for `access`, that of this instruction, is for.
    pub(crate) fn group(&self, node: usize, instruction: usize, access: &Access) -> Group {
        let limit = self.limits.iter().find(|limit| limit.0 == access.at);
        let reach = limit.map_or(self.reach, |limit| limit.1.min(self.reach));
        let mut group = Group::of(access);
        if reach >= Reach::Node {
            let behind = self.accesses.of_node(node).filter(|(other, _)| *other > instruction);
            behind.for_each(|(_, other)| group.take(access, other));
        }
        if reach == Reach::Region {
            let order = self.dominators.order.iter().copied();
            for led_to in order.filter(|&other| other != node && self.dominators.dominates(node, other)) {
                self.accesses.of_node(led_to).for_each(|(_, other)| group.take(access, other));
            }
        }
        group
    }
}

impl Group {
    fn of(access: &Access) -> Self {
        let &Access { offset, bytes, writes, .. } = access;
        Self { first: offset, end: offset + bytes, writes, is_shared: false }
    }

    /// Adds `other` to the group of `access`, if it is near.
    fn take(&mut self, access: &Access, other: &Access) {
        let (first, end) = (self.first.min(other.offset), self.end.max(other.offset + other.bytes));
        if other.key == access.key && end - first <= MAX_SPAN_BYTES {
            let writes = self.writes || other.writes;
            *self = Self { first, end, writes, is_shared: true };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::region::{Node, Successors};
    use iced_x86::IcedError;
    use iced_x86::code_asm::*;

    type Build = fn(&mut CodeAssembler) -> Result<(), IcedError>;

    /// The groups of a region whose nodes are these, with where they lead.
    fn groups(nodes: &[(Build, Option<usize>, Option<usize>)], reach: Reach) -> Groups {
        let mut region = Region { nodes: Vec::new(), ..Region::of_bytes(&[]) };
        for &(build, next, target) in nodes {
            let mut assembler = CodeAssembler::new(64).unwrap();
            build(&mut assembler).unwrap();
            let node = Region::of_bytes(&assembler.assemble(0).unwrap()).nodes.remove(0);
            let successors = Successors { next, target, ..Successors::default() };
            region.nodes.push(Node { successors, ..node });
        }
        Groups::of(&region, Accesses::of(&region), None, reach)
    }

    fn look(groups: &Groups, node: usize, instruction: usize) -> Option<Group> {
        groups.access(node, instruction).map(|access| groups.group(node, instruction, access))
    }

    /// What the looks of the only node's instructions are for: the first byte and the one behind the last.
    fn spans(build: Build) -> Vec<Option<(i64, i64)>> {
        let groups = groups(&[(build, None, None)], Reach::Node);
        let span = |group: Group| (group.first, group.end);
        (0..groups.accesses.instructions(0)).map(|number| look(&groups, 0, number).map(span)).collect()
    }

    #[test]
    fn accesses_by_the_same_registers_are_a_group() {
        let found = spans(|a| {
            a.mov(rax, qword_ptr(rdi + 8))?;
            a.mov(ecx, dword_ptr(rdi + rsi * 4))?;
            a.add(rdi, 16)?;
            a.mov(dword_ptr(rdi - 16), ecx)?;
            a.mov(ecx, dword_ptr(rdi + rsi * 4 - 12))?;
            a.mov(rdi, qword_ptr(rdi + 24))?;
            a.mov(rdx, qword_ptr(rdi))
        });
        let expected =
            [Some((0, 48)), Some((0, 8)), None, Some((0, 48)), Some((4, 8)), Some((40, 48)), Some((0, 8))];
        assert_eq!(found, expected);
    }

    #[test]
    fn pushes_and_pops_are_with_what_is_near_the_stack_pointer() {
        let found = spans(|a| {
            a.push(rbp)?;
            a.mov(rbp, rsp)?;
            a.push(rbx)?;
            a.sub(rsp, 24)?;
            a.mov(qword_ptr(rbp - 24), rdi)?;
            a.mov(qword_ptr(rsp), rsi)?;
            a.call(0x1000)
        });
        let first_and_end = |end: i64| Some((-48, end));
        let expected = [
            first_and_end(0),
            None,
            first_and_end(-8),
            None,
            first_and_end(-24),
            first_and_end(-32),
            first_and_end(-40),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_far_away_is_another_group_and_two_segments_never_meet() {
        let found = spans(|a| {
            a.mov(rax, qword_ptr(rdi))?;
            a.mov(rax, qword_ptr(rdi + 0x1000))?;
            a.mov(rax, qword_ptr(rdi + 0x1008))?;
            a.mov(rax, qword_ptr(rdi + 8).gs())?;
            a.swapgs()?;
            a.mov(rax, qword_ptr(rdi + 8).gs())
        });
        let expected = [
            Some((0, 8)),
            Some((0x1000, 0x1010)),
            Some((0x1008, 0x1010)),
            Some((8, 16)),
            None,
            Some((8, 16)),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_look_is_for_the_nodes_that_only_it_leads_to() {
        let nodes: [(Build, _, _); 4] = [
            (|a| a.mov(rax, qword_ptr(rdi)), Some(1), Some(2)),
            (|a| a.mov(qword_ptr(rdi + 8), rax), Some(3), None),
            (|a| a.mov(rdi, qword_ptr(rdi + 16)), Some(3), None),
            (|a| a.mov(rax, qword_ptr(rdi + 24)), None, None),
        ];
        let found = groups(&nodes, Reach::Region);
        assert_eq!(look(&found, 0, 0), Some(Group { first: 0, end: 24, writes: true, is_shared: true }));
        assert_eq!(look(&found, 3, 0), Some(Group { first: 24, end: 32, writes: false, is_shared: false }));
        assert_eq!(found.before(3), Some(0));
        assert_eq!(groups(&nodes, Reach::Node).before(3), None);
    }

    #[test]
    fn a_register_that_a_loop_changes_is_another_one_in_each_turn() {
        let nodes: [(Build, _, _); 3] = [
            (|a| a.mov(rax, qword_ptr(rdi)), Some(1), None),
            (
                |a| {
                    a.mov(rcx, qword_ptr(rdi + 8))?;
                    a.add(qword_ptr(rsi), rcx)?;
                    a.add(rdi, 8)
                },
                Some(2),
                Some(1),
            ),
            (|a| a.mov(rax, qword_ptr(rsi + 8)), None, None),
        ];
        let found = groups(&nodes, Reach::Region);
        let first = Group { first: 0, end: 8, writes: false, is_shared: false };
        assert_eq!(look(&found, 0, 0), Some(first));
        assert_eq!(look(&found, 1, 0), Some(Group { first: 8, end: 16, ..first }));
        assert_eq!(look(&found, 1, 1), Some(Group { first: 0, end: 16, writes: true, is_shared: true }));
    }
}
