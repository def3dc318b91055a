//! The nodes of a region: their instructions, and where they lead.

use super::{Ending, Held, NodeEnd, Place, Translator, Untranslatable};
use crate::context::LeaveKind;
use crate::region::Successors;
use crate::x87::NodeX87;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::I64;
use cranelift_codegen::ir::{Block, InstBuilder, Value};
use rx86_cpu::op::{Op, reg};

impl Translator<'_> {
    /// Begins a node. Nodes come in an order in which all but loops lead forward.
    pub(crate) fn begin_node(&mut self, node: usize, offset: i64) {
        self.lookups.begin_node(node);
        self.x87 = NodeX87::default();
        let (block, from) = &self.nodes[node];
        self.builder.switch_to_block(*block);
        // What the only node before this one knows still holds. The function's entry also leads to node 0.
        self.held = match from[..] {
            [only] if node != 0 => self.done[only].unwrap_or(Held::NOTHING),
            _ => Held::NOTHING,
        };
        self.node = node;
        self.hints.begin_node(node);
        self.start = offset;
        self.retired = 0;
        self.ending = Ending::Next;
        self.checked = None;
        self.cut = None;
        self.in_sti_shadow = false;
        self.fenced = false;
        self.vectors.joined = None;
    }

    /// Emits one instruction by calling its meaning. On `Err` the state is that before the instruction.
    pub(crate) fn instruction(
        &mut self,
        op: &Op,
        meaning: rx86_cpu::ops::Meaning<Self>,
    ) -> Result<(), Untranslatable> {
        self.begin_instruction(op);
        if let Err(untranslatable) = meaning(self, op) {
            self.held = self.before;
            self.ending = Ending::Next;
            return Err(untranslatable);
        }
        self.end_instruction();
        Ok(())
    }

    pub(crate) fn begin_instruction(&mut self, op: &Op) {
        self.before = self.held;
        self.hints.begin_instruction(op);
        self.side_exit = None;
        self.end = self.start + i64::from(op.length);
    }

    pub(crate) fn end_instruction(&mut self) {
        self.previous = self.start;
        self.start = self.end;
        self.retired += 1;
        self.lookups.next_instruction();
        self.hints.next_instruction();
        if std::mem::take(&mut self.in_sti_shadow) {
            self.end_sti_shadow();
        }
    }

    /// Goes on to the next instruction of a run, whose side exits lead to before its first.
    pub(crate) fn continue_run(&mut self, op: &Op) {
        self.lookups.next_instruction();
        self.hints.next_instruction();
        self.end += i64::from(op.length);
    }

    /// Ends a run of these instructions.
    pub(crate) fn end_run(&mut self, ops: &[Op]) {
        let last = ops.last().map_or(0, |op| i64::from(op.length));
        self.start = self.end - last;
        self.retired += ops.len() as u32 - 1;
        self.end_instruction();
    }

    /// Where the current instruction begins, from the region's first byte.
    pub(crate) fn offset(&self) -> i64 {
        self.start
    }

    /// Whether something translated so far leads to the node, which is not translated yet.
    pub(crate) fn is_due(&self, node: usize) -> bool {
        self.reached[node] && self.done[node].is_none()
    }

    /// Ends the node before the instruction that is next: only the interpreter executes it.
    pub(crate) fn stop_before_instruction(&mut self) {
        self.ending = Ending::Interpret;
    }

    /// How many instructions of this node have been emitted.
    pub(crate) fn retired(&self) -> u32 {
        self.retired
    }

    /// Ends a node: counts its instructions, keeps what it knows, and goes to where it leads.
    pub(crate) fn end_node(
        &mut self,
        successors: &Successors,
        likely: &[usize],
        offset_of_node: impl Fn(usize) -> i64,
    ) {
        let remaining = self.builder.use_var(self.remaining);
        let remaining = self.add_constant(remaining, u64::from(self.retired).wrapping_neg());
        self.builder.def_var(self.remaining, remaining);
        for number in 0..16 {
            if let Some(value) = self.held.registers[number]
                && self.held.dirty >> number & 1 != 0
            {
                self.builder.def_var(self.registers[number], value);
            }
        }
        self.define_flags();
        self.define_vectors();
        self.ends[self.node] = NodeEnd {
            dirty: self.held.dirty,
            flags_dirty: self.held.flags_dirty,
            vectors: self.held.vectors.dirty,
        };
        self.done[self.node] = Some(self.held);
        self.lookups.end_node();
        // From here on `remaining` has the node's instructions taken off.
        let next = self.start;
        match self.ending {
            Ending::Interpret => self.leave_now(Place::Offset(next), LeaveKind::Interpret),
            Ending::Next => {
                let block = self.edge(successors.next, next, &offset_of_node);
                self.builder.ins().jump(block, &[]);
            }
            Ending::Branch { taken, condition } => {
                let target = self.edge(successors.target, taken, &offset_of_node);
                let next = self.edge(successors.next, next, &offset_of_node);
                self.builder.ins().brif(condition, target, &[], next, &[]);
            }
            Ending::Target(target) => self.end_at(target, successors, likely, &offset_of_node),
        }
    }

    /// Ends a node that has no instructions; where it leads is the caller's to say.
    pub(super) fn end_without_instructions(&mut self) {
        self.ends[self.node] = NodeEnd {
            dirty: self.held.dirty,
            flags_dirty: self.held.flags_dirty,
            vectors: self.held.vectors.dirty,
        };
        self.done[self.node] = Some(self.held);
        self.lookups.end_node();
    }

    /// Ends the node at `target`: a direct jump or call, a return to where the call was, or whatever it turns out to be.
    fn end_at(
        &mut self,
        target: Value,
        successors: &Successors,
        likely: &[usize],
        offset_of_node: &impl Fn(usize) -> i64,
    ) {
        if let Some(offset) = self.static_offset(target) {
            let block = self.edge(successors.target, offset, offset_of_node);
            self.builder.ins().jump(block, &[]);
            return;
        }
        if let Some(node) = successors.return_to {
            let offset = offset_of_node(node);
            let expected = self.rip_at(offset);
            let returns = self.builder.ins().icmp(IntCC::Equal, target, expected);
            let elsewhere = self.builder.create_block();
            let here = self.edge(Some(node), offset, offset_of_node);
            self.builder.ins().brif(returns, here, &[], elsewhere, &[]);
            self.builder.switch_to_block(elsewhere);
        }
        self.go_where_likely(target, likely, offset_of_node);
        // Only a return changes what the hub could not undo.
        let stack = usize::from(reg::RSP);
        let undone = self.before.registers[stack] == self.held.registers[stack];
        if let Some(hub) = successors.hub
            && (undone || self.checked == Some(target))
        {
            self.jump_to_hub(hub, target);
            return;
        }
        if self.checked != Some(target) {
            // The instruction is done here, and is undone on the way out: it counts one less.
            let place = Place::Offset(self.previous);
            let exit = self.leave_block(self.before, place, -1, LeaveKind::Interpret);
            let canonical = self.is_canonical(target);
            let next = self.builder.create_block();
            self.builder.ins().brif(canonical, next, &[], exit, &[]);
            self.builder.switch_to_block(next);
        }
        if let Some(hub) = successors.hub {
            self.jump_to_hub(hub, target);
            return;
        }
        self.leave_now(Place::Address(target), LeaveKind::Next);
    }

    /// Goes to one of these nodes if `target` is there, and there is budget left.
    fn go_where_likely(&mut self, target: Value, likely: &[usize], offset_of_node: &impl Fn(usize) -> i64) {
        if likely.is_empty() {
            return;
        }
        let [compare, other] = [(); 2].map(|()| self.builder.create_block());
        self.builder.set_cold_block(other);
        // A jump may lead back.
        let remaining = self.builder.use_var(self.remaining);
        let goes_on = self.builder.ins().icmp_imm_s(IntCC::SignedGreaterThan, remaining, 0);
        self.builder.ins().brif(goes_on, compare, &[], other, &[]);
        self.builder.switch_to_block(compare);
        let distance = (likely.len() > 1).then(|| self.builder.ins().isub(target, self.entry_rip));
        for (at, &node) in likely.iter().enumerate() {
            let offset = offset_of_node(node);
            let is_there = match distance {
                Some(distance) => self.builder.ins().icmp_imm_s(IntCC::Equal, distance, offset),
                None => {
                    let expected = self.rip_at(offset);
                    self.builder.ins().icmp(IntCC::Equal, target, expected)
                }
            };
            self.note_extent(offset);
            self.reached[node] = true;
            let is_last = at + 1 == likely.len();
            let next = if is_last { other } else { self.builder.create_block() };
            self.builder.ins().brif(is_there, self.nodes[node].0, &[], next, &[]);
            self.builder.switch_to_block(next);
        }
    }

    /// The block through which the current node goes on at `offset`: the node there, or a way out of the region. A way back
    /// looks at the budget first.
    fn edge(&mut self, node: Option<usize>, offset: i64, offset_of_node: &impl Fn(usize) -> i64) -> Block {
        let Some(node) = node.filter(|&node| offset_of_node(node) == offset) else {
            return self.leave_block(self.held, Place::Offset(offset), 0, LeaveKind::Next);
        };
        self.reached[node] = true;
        let target = self.nodes[node].0;
        if self.done[node].is_none() {
            return target;
        }
        let here = self.builder.current_block();
        let check = self.builder.create_block();
        self.builder.switch_to_block(check);
        let remaining = self.builder.use_var(self.remaining);
        let zero = self.builder.ins().iconst(I64, 0);
        let goes_on = self.builder.ins().icmp(IntCC::SignedGreaterThan, remaining, zero);
        let over = self.leave_block(self.held, Place::Offset(offset), 0, LeaveKind::Next);
        self.builder.ins().brif(goes_on, target, &[], over, &[]);
        if let Some(here) = here {
            self.builder.switch_to_block(here);
        }
        check
    }

    /// Continues at `target` when the node ends, if that turns out to be canonical; else the instruction is undone.
    pub(crate) fn continue_at(&mut self, target: Value) {
        // A return changes RSP after this, and nothing else that it would have to undo.
        let stack = usize::from(reg::RSP);
        if self.before.registers[stack].is_none()
            && self.held.dirty >> stack & 1 == self.before.dirty >> stack & 1
        {
            self.before.registers[stack] = self.held.registers[stack];
        }
        self.ending = Ending::Target(target);
    }

    /// Continues `displacement` bytes behind the current instruction if `condition` is not zero.
    pub(crate) fn branch_if(&mut self, condition: Value, displacement: u64) {
        let taken = self.end.wrapping_add(displacement as i64);
        self.note_extent(taken);
        self.ending = Ending::Branch { taken, condition };
    }

    /// Leaves before the current instruction unless `target` is canonical. With 57-bit linear addresses there are more
    /// canonical addresses than are accepted here; the interpreter jumps to those.
    pub(crate) fn require_canonical(&mut self, target: Value) {
        if let Some(offset) = self.static_offset(target) {
            self.note_extent(offset);
            return;
        }
        if self.checked == Some(target) {
            return;
        }
        let canonical = self.is_canonical(target);
        self.side_exit_unless(canonical);
        self.checked = Some(target);
    }

    /// Remembers that code jumps to `offset` without looking whether that is canonical; who enters the region looks.
    pub(super) fn note_extent(&mut self, offset: i64) {
        self.extent = (self.extent.0.min(offset), self.extent.1.max(offset));
    }

    /// The least and the greatest offset from the region's first byte that its code jumps to.
    pub(crate) fn extent(&self) -> (i64, i64) {
        self.extent
    }

    pub(super) fn is_canonical(&mut self, target: Value) -> Value {
        let high = self.builder.ins().ishl_imm_u(target, 16);
        let extended = self.builder.ins().sshr_imm_u(high, 16);
        self.builder.ins().icmp(IntCC::Equal, extended, target)
    }
}
