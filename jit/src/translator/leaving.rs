//! Ways out of a region.

use super::flags::StoredFlags;
use super::{Held, Kept, Leave, NodeEnd, Place, Translator, aux_offset, register_offset, result_offset};
use crate::context::{JitContext, LeaveKind};
use crate::vector::anchor;
use cranelift_codegen::ir::types::I64;
use cranelift_codegen::ir::{Block, InstBuilder, Value};
use cranelift_frontend::FunctionBuilder;
use rx86_cpu::op::reg;
use std::mem::offset_of;

impl<'a> Translator<'a> {
    pub(super) fn leave_now(&mut self, place: Place, kind: LeaveKind) {
        let block = self.leave_block(self.held, place, 0, kind);
        self.builder.ins().jump(block, &[]);
    }

    /// A cold block that leaves the region.
    pub(crate) fn leave_block(&mut self, held: Held, place: Place, retired: i64, kind: LeaveKind) -> Block {
        self.leave_keeping(held, place, retired, kind, Kept::default())
    }

    /// A cold block that leaves the region and does not store what `kept` says.
    pub(crate) fn leave_keeping(
        &mut self,
        held: Held,
        place: Place,
        retired: i64,
        kind: LeaveKind,
        kept: Kept,
    ) -> Block {
        let block = self.builder.create_block();
        self.builder.set_cold_block(block);
        self.leaves.push(Leave { block, node: self.node, held, place, retired, kind, kept });
        block
    }

    /// Ends the function: emits the ways out.
    pub(crate) fn finish(mut self) -> FunctionBuilder<'a> {
        let first = self.nodes[0].0;
        self.end_hints(first);
        let reaching = self.reaching();
        for leave in std::mem::take(&mut self.leaves) {
            self.builder.switch_to_block(leave.block);
            self.state = self.load_cold(offset_of!(JitContext, state));
            let before = reaching[leave.node];
            self.store_registers(&leave.held, before, leave.kept);
            match leave.place {
                Place::Kept => {}
                Place::Offset(offset) => {
                    let entry = self.load_state(register_offset(usize::from(reg::RIP)));
                    let rip = self.add_constant(entry, offset as u64);
                    self.store_state(rip, register_offset(usize::from(reg::RIP)));
                }
                Place::Address(rip) => self.store_state(rip, register_offset(usize::from(reg::RIP))),
            }
            let remaining = self.builder.use_var(self.remaining);
            let remaining = self.add_constant(remaining, (leave.retired as u64).wrapping_neg());
            self.store_exchange(remaining, offset_of!(JitContext, remaining));
            self.leave_function(leave.kind);
        }
        self.builder.seal_all_blocks();
        anchor::anchor(self.builder.func, &self.vectors, self.regions.scratch);
        self.builder
    }

    /// Goes on in another translation, or returns. All state has been stored.
    fn leave_function(&mut self, kind: LeaveKind) {
        if kind == LeaveKind::Next {
            let dispatch = self.load_cold(offset_of!(JitContext, dispatch));
            // It needs no `Call`s.
            let arguments = [self.context, self.context];
            self.builder.ins().return_call_indirect(self.signatures.dispatch, dispatch, &arguments);
        } else {
            let kind = self.builder.ins().iconst(I64, kind as i64);
            self.builder.ins().return_(&[kind]);
        }
    }

    /// For each node what may have been set before it begins.
    fn reaching(&self) -> Vec<NodeEnd> {
        let mut reaching = vec![NodeEnd::default(); self.nodes.len()];
        loop {
            let mut changed = false;
            for (node, (_, from)) in self.nodes.iter().enumerate() {
                for &before in from {
                    let dirty = reaching[before].dirty | self.ends[before].dirty;
                    let flags_dirty = reaching[before].flags_dirty | self.ends[before].flags_dirty;
                    let vectors = reaching[before].vectors.union(self.ends[before].vectors);
                    let here = &mut reaching[node];
                    changed |= here.dirty | dirty != here.dirty
                        || here.flags_dirty | flags_dirty != here.flags_dirty
                        || here.vectors.union(vectors) != here.vectors;
                    here.dirty |= dirty;
                    here.flags_dirty |= flags_dirty;
                    here.vectors = here.vectors.union(vectors);
                }
            }
            if !changed {
                return reaching;
            }
        }
    }

    /// Stores registers and flags that may differ from what `Vcpu` holds.
    fn store_registers(&mut self, held: &Held, before: NodeEnd, kept: Kept) {
        let dirty = (held.dirty | before.dirty) & !kept.registers;
        for number in (0..16).filter(|number| dirty >> number & 1 != 0) {
            let value = match held.registers[number] {
                Some(value) => value,
                None => self.builder.use_var(self.registers[number]),
            };
            self.store_state(value, register_offset(number));
        }
        let vectors = held.vectors.dirty.union(before.vectors).without(kept.vectors);
        self.store_vectors_of(&held.vectors, vectors);
        if kept.flags || !(held.flags_dirty || before.flags_dirty) {
            return;
        }
        let StoredFlags { shape, result, left, right } = self.flags_to_store(held.flags);
        self.store_exchange(shape, offset_of!(JitContext, flags_shape));
        if let Some(left) = left {
            self.store_exchange(left, offset_of!(JitContext, flags_left));
        }
        self.store_state(right, aux_offset());
        if let Some(result) = result {
            self.store_state(result, result_offset());
        }
    }

    /// The state behind the last instruction that is done, and its offset.
    pub(crate) fn now(&self) -> (Held, Place) {
        (self.held, Place::Offset(self.start))
    }

    /// The state before the current instruction is what `Vcpu` must hold when a way out of it is taken.
    pub(crate) fn before(&self) -> Held {
        self.before
    }

    /// Where the current instruction's side exits lead.
    pub(crate) fn side_exit(&mut self) -> Block {
        match self.side_exit {
            Some(exit) => exit,
            None => {
                let place = Place::Offset(self.start);
                let block =
                    self.leave_block(self.before, place, i64::from(self.retired), LeaveKind::Interpret);
                *self.side_exit.insert(block)
            }
        }
    }

    /// Leaves the region before the current instruction unless `holds` is not zero.
    pub(crate) fn side_exit_unless(&mut self, holds: Value) {
        let exit = self.side_exit();
        let next = self.builder.create_block();
        self.builder.ins().brif(holds, next, &[], exit, &[]);
        self.builder.switch_to_block(next);
    }
}
