//! `Translator`: the state of translating a region, and how translated code is left.

use crate::context::{JitContext, LeaveKind};
use crate::region::Successors;
use cranelift_codegen::ir::condcodes::{CondCode, IntCC};
use cranelift_codegen::ir::types::{I64, Type};
use cranelift_codegen::ir::{
    AliasRegionData, Block, DataFlowGraph, InstBuilder, InstructionData, MemFlagsData, Opcode, SigRef, Value,
    ValueDef,
};
use cranelift_frontend::{FunctionBuilder, Variable};
use rx86_cpu::op::{Op, reg};
use rx86_cpu::state::{ArithFlags, Flags, Vcpu};
use std::mem::offset_of;

/// The translator has no code for this instruction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Untranslatable;

/// What a node knows of registers and flags, as SSA values. What it does not know is in the variables.
#[derive(Clone, Copy)]
pub(crate) struct Held {
    /// Values of the sixteen general registers, where known.
    registers: [Option<Value>; 16],
    /// Bit n: register n was set since the region began, as far as this node knows.
    dirty: u16,
    flags: Option<ArithFlags<Value>>,
    flags_dirty: bool,
    /// The flags are those of this comparison.
    difference: Option<Difference>,
}

/// `a - b` in integers of a type.
#[derive(Clone, Copy)]
pub(crate) struct Difference {
    pub(crate) a: Value,
    pub(crate) b: Value,
    pub(crate) width: Type,
}

impl Held {
    const NOTHING: Self =
        Self { registers: [None; 16], dirty: 0, flags: None, flags_dirty: false, difference: None };
}

/// Kinds of memory that never overlap, for Cranelift's alias analysis.
pub(crate) struct Regions {
    /// `JitContext`, which the code only reads.
    pub(crate) context: MemFlagsData,
    /// `Vcpu`.
    pub(crate) state: MemFlagsData,
    /// The software TLB, which the code only reads.
    pub(crate) tlb: MemFlagsData,
    /// Guest RAM; no alignment is known.
    pub(crate) guest: MemFlagsData,
    /// What the code and the functions it calls tell each other in `JitContext`.
    pub(crate) exchange: MemFlagsData,
}

impl Regions {
    fn new(graph: &mut DataFlowGraph) -> Self {
        let mut region = |user_id, description: &'static str| {
            let data = AliasRegionData { user_id, description: description.into() };
            Some(graph.alias_regions.insert(data))
        };
        let constant = MemFlagsData::trusted().with_readonly().with_can_move();
        Self {
            context: constant.with_alias_region(region(0, "context")),
            state: MemFlagsData::trusted().with_alias_region(region(1, "state")),
            tlb: MemFlagsData::trusted().with_alias_region(region(2, "tlb")),
            guest: MemFlagsData::new().with_notrap().with_alias_region(region(3, "guest")),
            exchange: MemFlagsData::trusted().with_alias_region(region(4, "exchange")),
        }
    }
}

/// Where a leave continues.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    /// This many bytes from the region's first.
    Offset(i64),
    /// An RIP.
    Address(Value),
    /// What `Vcpu` holds is right.
    Kept,
}

/// A way out of the region, whose code is emitted behind the region's own.
struct Leave {
    block: Block,
    node: usize,
    held: Held,
    place: Place,
    /// Instructions to take off `Translator::remaining` as it is where the way out begins.
    retired: i64,
    kind: LeaveKind,
    /// Registers (bit n: register n) and flags of which `Vcpu` has the newest value.
    kept: Kept,
}

/// What need not be stored.
#[derive(Clone, Copy, Default)]
pub(crate) struct Kept {
    pub(crate) registers: u16,
    pub(crate) flags: bool,
}

/// What a node leaves behind when it is translated.
#[derive(Clone, Copy, Default)]
struct NodeEnd {
    /// Registers that are set in the node, or that it knows to have been set before.
    dirty: u16,
    flags_dirty: bool,
}

/// How a node ends.
#[derive(Clone, Copy)]
enum Ending {
    /// Behind its last instruction.
    Next,
    /// Where a value says.
    Target(Value),
    /// At an offset if a value is not zero, else behind its last instruction.
    Branch { taken: i64, condition: Value },
    /// Before the instruction that is next; the interpreter executes it.
    Interpret,
}

/// Translates a region: implements `MicroOps` (in `micro`) by emitting Cranelift IR.
pub(crate) struct Translator<'a> {
    pub(crate) builder: FunctionBuilder<'a>,
    pub(crate) regions: Regions,
    /// The signatures of `JitContext::slow_access` and `JitContext::call`.
    pub(crate) signatures: Signatures,
    /// Pointer to the `JitContext`.
    pub(crate) context: Value,
    /// Pointer to the first of the translation's `Call`s.
    pub(crate) calls: Value,
    /// Pointer to the `Vcpu`.
    pub(crate) state: Value,
    /// Pointer to the TLB's entries.
    pub(crate) tlb: Value,
    /// RIP of the region's first instruction.
    entry_rip: Value,
    registers: [Variable; 16],
    flags: [Variable; 2],
    /// Instructions that may still be executed before the region has to be left; negative when it is over.
    remaining: Variable,
    /// For each node its first block and the nodes that lead to it.
    nodes: Vec<(Block, Vec<usize>)>,
    /// Nodes that are led to.
    reached: Vec<bool>,
    /// For each node that is done, what it knows.
    done: Vec<Option<Held>>,
    ends: Vec<NodeEnd>,
    node: usize,
    held: Held,
    /// `held` as it was before the current instruction.
    before: Held,
    /// The current instruction's first byte, and the one behind it, from the region's first.
    start: i64,
    end: i64,
    /// Where the instruction before the current one begins.
    previous: i64,
    /// Instructions of the current node that are done.
    retired: u32,
    /// Where the current instruction's side exits lead, if it has any.
    side_exit: Option<Block>,
    leaves: Vec<Leave>,
    ending: Ending,
    extent: (i64, i64),
    /// The last target known to be canonical.
    checked: Option<Value>,
    /// The last cut: a value, the type it was cut to, the result. An instruction that names a register twice then has one
    /// value for both.
    cut: Option<(Value, Type, Value)>,
}

/// Signatures of the functions in `JitContext` that translated code calls.
#[derive(Clone, Copy)]
pub(crate) struct Signatures {
    pub(crate) slow_access: SigRef,
    pub(crate) call: SigRef,
    pub(crate) dispatch: SigRef,
}

impl<'a> Translator<'a> {
    /// Begins the function's body: loads what `Vcpu` holds. `predecessors`: for each node, the nodes that lead to it.
    pub(crate) fn new(
        mut builder: FunctionBuilder<'a>,
        signatures: Signatures,
        predecessors: Vec<Vec<usize>>,
    ) -> Self {
        let regions = Regions::new(&mut builder.func.dfg);
        let entry = builder.create_block();
        builder.append_block_params_for_function_params(entry);
        builder.switch_to_block(entry);
        let (context, calls) = (builder.block_params(entry)[0], builder.block_params(entry)[1]);
        let pointer = |builder: &mut FunctionBuilder<'_>, offset: usize| {
            builder.ins().load(I64, regions.context, context, offset as i32)
        };
        let state = pointer(&mut builder, offset_of!(JitContext, state));
        let tlb = pointer(&mut builder, offset_of!(JitContext, tlb));
        let variable = |builder: &mut FunctionBuilder<'_>, flags, base, offset: usize| {
            let variable = builder.declare_var(I64);
            let value = builder.ins().load(I64, flags, base, offset as i32);
            builder.def_var(variable, value);
            variable
        };
        let registers = std::array::from_fn(|number| {
            variable(&mut builder, regions.state, state, register_offset(number))
        });
        let flags = [result_offset(), aux_offset()]
            .map(|offset| variable(&mut builder, regions.state, state, offset));
        let offset = offset_of!(JitContext, remaining);
        let remaining = variable(&mut builder, regions.exchange, context, offset);
        let rip = register_offset(usize::from(reg::RIP)) as i32;
        let entry_rip = builder.ins().load(I64, regions.state, state, rip);
        let nodes: Vec<(Block, Vec<usize>)> =
            predecessors.into_iter().map(|from| (builder.create_block(), from)).collect();
        builder.ins().jump(nodes[0].0, &[]);
        let count = nodes.len();
        let mut reached = vec![false; count];
        reached[0] = true;
        Self {
            builder,
            regions,
            signatures,
            context,
            calls,
            state,
            tlb,
            entry_rip,
            registers,
            flags,
            remaining,
            nodes,
            reached,
            done: vec![None; count],
            ends: vec![NodeEnd::default(); count],
            node: 0,
            held: Held::NOTHING,
            before: Held::NOTHING,
            start: 0,
            end: 0,
            previous: 0,
            retired: 0,
            side_exit: None,
            leaves: Vec::new(),
            ending: Ending::Next,
            extent: (0, 0),
            checked: None,
            cut: None,
        }
    }

    /// Begins a node. Nodes come in an order in which all but loops lead forward.
    pub(crate) fn begin_node(&mut self, node: usize, offset: i64) {
        let (block, from) = &self.nodes[node];
        self.builder.switch_to_block(*block);
        // What the only node before this one knows still holds. The function's entry also leads to node 0.
        self.held = match from[..] {
            [only] if node != 0 => self.done[only].unwrap_or(Held::NOTHING),
            _ => Held::NOTHING,
        };
        self.node = node;
        self.start = offset;
        self.retired = 0;
        self.ending = Ending::Next;
        self.checked = None;
        self.cut = None;
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
        self.side_exit = None;
        self.end = self.start + i64::from(op.length);
    }

    pub(crate) fn end_instruction(&mut self) {
        self.previous = self.start;
        self.start = self.end;
        self.retired += 1;
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
    pub(crate) fn end_node(&mut self, successors: &Successors, offset_of_node: impl Fn(usize) -> i64) {
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
        if let Some(flags) = self.held.flags
            && self.held.flags_dirty
        {
            self.builder.def_var(self.flags[0], flags.result);
            self.builder.def_var(self.flags[1], flags.aux);
        }
        self.ends[self.node] = NodeEnd { dirty: self.held.dirty, flags_dirty: self.held.flags_dirty };
        self.done[self.node] = Some(self.held);
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
            Ending::Target(target) => self.end_at(target, successors, &offset_of_node),
        }
    }

    /// Ends the node at `target`: a direct jump or call, a return to where the call was, or whatever it turns out to be.
    fn end_at(&mut self, target: Value, successors: &Successors, offset_of_node: &impl Fn(usize) -> i64) {
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
        if self.checked != Some(target) {
            // The instruction is done here, and is undone on the way out: it counts one less.
            let place = Place::Offset(self.previous);
            let exit = self.leave_block(self.before, place, -1, LeaveKind::Interpret);
            let canonical = self.is_canonical(target);
            let next = self.builder.create_block();
            self.builder.ins().brif(canonical, next, &[], exit, &[]);
            self.builder.switch_to_block(next);
        }
        self.leave_now(Place::Address(target), LeaveKind::Next);
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

    fn leave_now(&mut self, place: Place, kind: LeaveKind) {
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
        let reaching = self.reaching();
        for leave in std::mem::take(&mut self.leaves) {
            self.builder.switch_to_block(leave.block);
            let before = reaching[leave.node];
            self.store_registers(&leave.held, before, leave.kept);
            match leave.place {
                Place::Kept => {}
                Place::Offset(offset) => {
                    let rip = self.rip_at(offset);
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
        self.builder
    }

    /// Goes on in another translation, or returns. All state has been stored.
    fn leave_function(&mut self, kind: LeaveKind) {
        if kind == LeaveKind::Next {
            let offset = offset_of!(JitContext, dispatch) as i32;
            let dispatch = self.builder.ins().load(I64, self.regions.context, self.context, offset);
            let arguments = [self.context, self.calls];
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
                    let here = &mut reaching[node];
                    changed |= here.dirty | dirty != here.dirty
                        || here.flags_dirty | flags_dirty != here.flags_dirty;
                    here.dirty |= dirty;
                    here.flags_dirty |= flags_dirty;
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
        if kept.flags || !(held.flags_dirty || before.flags_dirty) {
            return;
        }
        let flags = match held.flags {
            Some(flags) => flags,
            None => self.flags_of_variables(),
        };
        self.store_state(flags.result, result_offset());
        self.store_state(flags.aux, aux_offset());
    }

    fn flags_of_variables(&mut self) -> ArithFlags<Value> {
        let [result, aux] = self.flags.map(|variable| self.builder.use_var(variable));
        ArithFlags { result, aux }
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

    pub(crate) fn load_state(&mut self, offset: usize) -> Value {
        self.builder.ins().load(I64, self.regions.state, self.state, offset as i32)
    }

    pub(crate) fn store_state(&mut self, value: Value, offset: usize) {
        self.builder.ins().store(self.regions.state, value, self.state, offset as i32);
    }

    pub(crate) fn store_exchange(&mut self, value: Value, offset: usize) {
        self.builder.ins().store(self.regions.exchange, value, self.context, offset as i32);
    }

    /// RIP at `offset` bytes from the region's start. It is always relative, so a region does not depend on the linear
    /// address it runs at.
    pub(crate) fn rip_at(&mut self, offset: i64) -> Value {
        self.add_constant(self.entry_rip, offset as u64)
    }

    /// RIP as instructions see it: behind the current one.
    pub(crate) fn next_rip(&mut self, displacement: u64) -> Value {
        self.rip_at(self.end.wrapping_add(displacement as i64))
    }

    /// If `value` is an RIP at a fixed distance from the region's start: that distance.
    fn static_offset(&self, value: Value) -> Option<i64> {
        let graph = &self.builder.func.dfg;
        let value = graph.resolve_aliases(value);
        if value == self.entry_rip {
            return Some(0);
        }
        let ValueDef::Result(instruction, _) = graph.value_def(value) else { return None };
        let InstructionData::Binary { opcode: Opcode::Iadd, args } = graph.insts[instruction] else {
            return None;
        };
        let constant = self.constant_value(args[1])?;
        Some(self.static_offset(args[0])?.wrapping_add(constant as i64))
    }

    pub(crate) fn add_constant(&mut self, value: Value, constant: u64) -> Value {
        if constant == 0 { value } else { self.builder.ins().iadd_imm_s(value, constant as i64) }
    }

    /// All 64 bits of the register in a slot of `Vcpu::regs`.
    pub(crate) fn register(&mut self, slot: u8) -> Value {
        let number = match slot & 31 {
            reg::RIP => return self.next_rip(0),
            number @ 0..16 => usize::from(number),
            _ => return self.builder.ins().iconst(I64, 0),
        };
        if let Some(value) = self.held.registers[number] {
            return value;
        }
        let value = self.builder.use_var(self.registers[number]);
        *self.held.registers[number].insert(value)
    }

    /// Replaces all 64 bits of a general register.
    pub(crate) fn set_register(&mut self, slot: u8, value: Value) {
        let number = usize::from(slot & 15);
        self.held.registers[number] = Some(value);
        self.held.dirty |= 1 << number;
    }

    pub(crate) fn arithmetic_flags(&mut self) -> ArithFlags<Value> {
        if let Some(flags) = self.held.flags {
            return flags;
        }
        let flags = self.flags_of_variables();
        *self.held.flags.insert(flags)
    }

    pub(crate) fn set_arithmetic_flags(&mut self, flags: ArithFlags<Value>) {
        self.held.flags = Some(flags);
        self.held.flags_dirty = true;
        self.held.difference = None;
    }

    /// Remembers that the flags just set are those of a comparison: its conditions are one host comparison each.
    pub(crate) fn set_difference(&mut self, difference: Difference) {
        self.held.difference = Some(difference);
    }

    /// Condition `code` as 0 or 1, if it is known from the comparison that set the flags.
    pub(crate) fn condition_of_difference(&mut self, code: u8) -> Option<Value> {
        let Difference { a, b, width } = self.held.difference?;
        let condition = match code >> 1 {
            1 => IntCC::UnsignedLessThan,
            2 => IntCC::Equal,
            3 => IntCC::UnsignedLessThanOrEqual,
            6 => IntCC::SignedLessThan,
            7 => IntCC::SignedLessThanOrEqual,
            _ => return None,
        };
        let condition = if code & 1 == 0 { condition } else { condition.complement() };
        let cut =
            |t: &mut Self, value| if width == I64 { value } else { t.builder.ins().ireduce(width, value) };
        let (a, b) = (cut(self, a), cut(self, b));
        let holds = self.builder.ins().icmp(condition, a, b);
        Some(self.builder.ins().uextend(I64, holds))
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
    fn note_extent(&mut self, offset: i64) {
        self.extent = (self.extent.0.min(offset), self.extent.1.max(offset));
    }

    /// The least and the greatest offset from the region's first byte that its code jumps to.
    pub(crate) fn extent(&self) -> (i64, i64) {
        self.extent
    }

    fn is_canonical(&mut self, target: Value) -> Value {
        let high = self.builder.ins().ishl_imm_u(target, 16);
        let extended = self.builder.ins().sshr_imm_u(high, 16);
        self.builder.ins().icmp(IntCC::Equal, extended, target)
    }

    /// The low bits of `value` that make an integer of type `width`, zero-extended.
    pub(crate) fn cut_to(&mut self, value: Value, width: Type) -> Value {
        match self.cut {
            _ if width == I64 => value,
            Some((of, to, result)) if (of, to) == (value, width) => result,
            _ => {
                let low = self.builder.ins().ireduce(width, value);
                let result = self.builder.ins().uextend(I64, low);
                self.cut = Some((value, width, result));
                result
            }
        }
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

    /// The value of an `iconst`.
    pub(crate) fn constant_value(&self, value: Value) -> Option<u64> {
        let graph = &self.builder.func.dfg;
        match graph.value_def(graph.resolve_aliases(value)) {
            ValueDef::Result(instruction, _) => match graph.insts[instruction] {
                cranelift_codegen::ir::InstructionData::UnaryImm { imm, .. } => Some(imm.bits() as u64),
                _ => None,
            },
            _ => None,
        }
    }
}

pub(crate) fn register_offset(number: usize) -> usize {
    offset_of!(Vcpu, regs) + 8 * number
}

pub(crate) fn result_offset() -> usize {
    offset_of!(Vcpu, flags) + offset_of!(Flags, arith) + offset_of!(ArithFlags<u64>, result)
}

pub(crate) fn aux_offset() -> usize {
    offset_of!(Vcpu, flags) + offset_of!(Flags, arith) + offset_of!(ArithFlags<u64>, aux)
}
