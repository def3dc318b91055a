//! Indirect jumps within a region: a *hub* compares where a jump leads with the nodes that it has led to before.

use super::{Place, Translator};
use crate::context::LeaveKind;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I32, I64};
use cranelift_codegen::ir::{Block, InstBuilder, JumpTableData, Value};
use cranelift_frontend::Variable;

/// More targets than these are told apart by a hash.
const MAX_COMPARISONS: usize = 3;

/// How nodes that jump to a hub tell it what they know.
pub(super) struct HubVariables {
    /// The target.
    target: Variable,
    /// RIP of the jump.
    from: Variable,
}

/// A hash of offsets without collisions: `offset * multiplier >> (32 - bits)` in 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hash {
    multiplier: u32,
    bits: u32,
}

impl Hash {
    /// One for these offsets, if it is found soon.
    fn find(offsets: &[u32]) -> Option<Self> {
        let least = (2 * offsets.len()).next_power_of_two().trailing_zeros();
        let mut multiplier = 0x9e37_79b1u32;
        for bits in (least..least + 3).flat_map(|bits| std::iter::repeat_n(bits, 64)) {
            let hash = Self { multiplier, bits };
            let mut seen = vec![false; 1 << bits];
            if offsets.iter().all(|&offset| !std::mem::replace(&mut seen[hash.of(offset)], true)) {
                return Some(hash);
            }
            multiplier = multiplier.wrapping_mul(0x2545_f491).wrapping_add(0x9e37_79b2) | 1;
        }
        None
    }

    fn of(self, offset: u32) -> usize {
        (offset.wrapping_mul(self.multiplier) >> (32 - self.bits)) as usize
    }
}

impl Translator<'_> {
    /// Ends a node with a jump to `hub`, which compares `target`.
    pub(super) fn jump_to_hub(&mut self, hub: usize, target: Value) {
        let from = self.rip_at(self.previous);
        let HubVariables { target: variable, from: from_variable } = *self.hub_variables();
        self.builder.def_var(variable, target);
        self.builder.def_var(from_variable, from);
        self.reached[hub] = true;
        let block = self.nodes[hub].0;
        self.builder.ins().jump(block, &[]);
    }

    fn hub_variables(&mut self) -> &HubVariables {
        let builder = &mut self.builder;
        self.hub_variables.get_or_insert_with(|| HubVariables {
            target: builder.declare_var(I64),
            from: builder.declare_var(I64),
        })
    }

    /// Emits a hub, whose targets are at these offsets.
    pub(crate) fn hub(&mut self, node: usize, targets: &[usize], offset_of_node: impl Fn(usize) -> i64) {
        self.begin_node(node, 0);
        let HubVariables { target, from } = *self.hub_variables();
        let (target, from) = (self.builder.use_var(target), self.builder.use_var(from));
        self.end_without_instructions();
        let [look, miss] = [(); 2].map(|()| self.builder.create_block());
        self.builder.set_cold_block(miss);
        // A jump may lead back.
        let remaining = self.builder.use_var(self.remaining);
        let goes_on = self.builder.ins().icmp_imm_s(IntCC::SignedGreaterThan, remaining, 0);
        self.builder.ins().brif(goes_on, look, &[], miss, &[]);

        self.builder.switch_to_block(look);
        let distance = self.builder.ins().isub(target, self.entry_rip);
        let places: Vec<(i64, Block)> = targets
            .iter()
            .map(|&node| {
                self.reached[node] = true;
                self.note_extent(offset_of_node(node));
                (offset_of_node(node), self.nodes[node].0)
            })
            .collect();
        self.find_place(distance, &places, miss);

        self.builder.switch_to_block(miss);
        let undo = self.leave_block(self.held, Place::Address(from), -1, LeaveKind::Interpret);
        let leave = self.leave_block(self.held, Place::Address(target), 0, LeaveKind::Next);
        let canonical = self.is_canonical(target);
        self.builder.ins().brif(canonical, leave, &[], undo, &[]);
    }

    /// Jumps to the block whose offset is `distance`, or to `miss`.
    fn find_place(&mut self, distance: Value, places: &[(i64, Block)], miss: Block) {
        let offsets: Vec<u32> = places.iter().map(|&(offset, _)| offset as u32).collect();
        let hash = if places.len() > MAX_COMPARISONS { Hash::find(&offsets) } else { None };
        let Some(hash) = hash else {
            for &(offset, block) in places {
                self.go_if_at(distance, offset, block, None);
            }
            self.builder.ins().jump(miss, &[]);
            return;
        };
        let short = self.builder.ins().ireduce(I32, distance);
        let product = self.builder.ins().imul_imm_s(short, i64::from(hash.multiplier as i32));
        let index = self.builder.ins().ushr_imm_u(product, i64::from(32 - hash.bits));
        let mut slots = vec![None; 1 << hash.bits];
        for (at, &offset) in offsets.iter().enumerate() {
            slots[hash.of(offset)] = Some((at, self.builder.create_block()));
        }
        let table: Vec<_> = slots
            .iter()
            .map(|slot| self.builder.func.dfg.block_call(slot.map_or(miss, |(_, block)| block), &[]))
            .collect();
        let default = self.builder.func.dfg.block_call(miss, &[]);
        let table = self.builder.create_jump_table(JumpTableData::new(default, &table));
        self.builder.ins().br_table(index, table);
        for (at, slot) in slots.into_iter().flatten() {
            self.builder.switch_to_block(slot);
            let (offset, block) = places[at];
            self.go_if_at(distance, offset, block, Some(miss));
        }
    }

    /// Jumps to `block` if `distance` is `offset`, else goes on at `other`, or behind this.
    fn go_if_at(&mut self, distance: Value, offset: i64, block: Block, other: Option<Block>) {
        let next = other.unwrap_or_else(|| self.builder.create_block());
        let here = self.builder.ins().icmp_imm_s(IntCC::Equal, distance, offset);
        self.builder.ins().brif(here, block, &[], next, &[]);
        if other.is_none() {
            self.builder.switch_to_block(next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_of_code_are_hashed_without_collisions() {
        for count in 4..=24u32 {
            let offsets: Vec<u32> = (0..count).map(|i| (i * i * 7 + i * 23).wrapping_sub(400)).collect();
            let hash = Hash::find(&offsets).expect("a hash");
            let mut found: Vec<usize> = offsets.iter().map(|&offset| hash.of(offset)).collect();
            found.sort_unstable();
            found.dedup();
            assert_eq!(found.len(), offsets.len());
        }
    }
}
