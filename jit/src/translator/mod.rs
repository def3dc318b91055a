//! `Translator`: the state of translating a region.

mod flags;
mod hub;
mod leaving;
mod nodes;
mod values;

use crate::access::Lookups;
use crate::context::{JitContext, LeaveKind};
use crate::divide::Division;
use crate::groups::Groups;
use crate::hints::PageHints;
use crate::order::MemoryOrder;
use crate::steady::Sites;
use crate::vector::plan::Plan;
use crate::vector::{DirtyVectors, HeldVectors, HostVectors, Vectors};
use crate::window::StackWindow;
use crate::x87::NodeX87;
use cranelift_codegen::ir::types::{I64, Type};
use cranelift_codegen::ir::{
    AliasRegionData, Block, DataFlowGraph, InstBuilder, MemFlagsData, SigRef, Value,
};
use cranelift_frontend::{FunctionBuilder, Variable};
use flags::{FlagVariables, HeldFlags};
use hub::HubVariables;
use rx86_cpu::op::reg;
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
    flags: Option<HeldFlags>,
    /// The same as two values, if somebody has asked.
    values: Option<ArithFlags<Value>>,
    flags_dirty: bool,
    /// The flags are those of the comparison of these floating-point numbers.
    order: Option<(Value, Value)>,
    pub(crate) vectors: HeldVectors,
}

impl Held {
    const NOTHING: Self = Self {
        registers: [None; 16],
        dirty: 0,
        flags: None,
        values: None,
        flags_dirty: false,
        order: None,
        vectors: HeldVectors::NOTHING,
    };
}

/// How a translation gets at guest memory.
pub(crate) struct MemoryPlan {
    pub(crate) window: Option<StackWindow>,
    /// For each node what may use hints; empty for nothing.
    pub(crate) sites: Vec<Sites>,
    pub(crate) groups: Groups,
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
    /// Stack slots of results that nobody reads.
    pub(crate) scratch: MemFlagsData,
    /// Stack slots of page hints.
    pub(crate) hints: MemFlagsData,
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
            scratch: MemFlagsData::trusted().with_alias_region(region(5, "scratch")),
            hints: MemFlagsData::trusted().with_alias_region(region(6, "hints")),
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
    pub(crate) vectors: DirtyVectors,
}

/// What a node leaves behind when it is translated.
#[derive(Clone, Copy, Default)]
struct NodeEnd {
    /// Registers that are set in the node, or that it knows to have been set before.
    dirty: u16,
    flags_dirty: bool,
    vectors: DirtyVectors,
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
    /// The signatures of what translated code calls.
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
    flags: FlagVariables,
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
    pub(crate) held: Held,
    pub(crate) vectors: Vectors,
    pub(crate) x87: NodeX87,
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
    pub(crate) lookups: Lookups,
    /// The host address of the region's stack window, if it has one.
    pub(crate) window: Option<Value>,
    pub(crate) hints: PageHints,
    /// Unsigned divisions so far.
    pub(crate) divisions: Vec<Division>,
    /// An instruction may change the mapping: a window or hints would be wrong behind it.
    pub(crate) mapping_changes: bool,
    pub(crate) order: MemoryOrder,
    /// There was no access to guest RAM since the last barrier.
    pub(crate) fenced: bool,
    /// The next instruction is the one behind an STI.
    pub(crate) in_sti_shadow: bool,
    ending: Ending,
    /// Declared when the first hub is there.
    hub_variables: Option<HubVariables>,
    extent: (i64, i64),
    /// The last target known to be canonical.
    checked: Option<Value>,
    /// The last cut: a value, the type it was cut to, the result. An instruction that names a register twice then has one
    /// value for both.
    cut: Option<(Value, Type, Value)>,
}

/// Signatures of the functions in `JitContext` that translated code calls: those that preserve all registers, `call`, `dispatch`.
#[derive(Clone, Copy)]
pub(crate) struct Signatures {
    pub(crate) preserving: SigRef,
    pub(crate) call: SigRef,
    pub(crate) dispatch: SigRef,
}

impl<'a> Translator<'a> {
    /// Begins the function's body: loads what `Vcpu` holds. `predecessors`: for each node, the nodes that lead to it.
    pub(crate) fn new(
        mut builder: FunctionBuilder<'a>,
        signatures: Signatures,
        predecessors: Vec<Vec<usize>>,
        plan: Plan,
        host: HostVectors,
        order: MemoryOrder,
    ) -> Self {
        let regions = Regions::new(&mut builder.func.dfg);
        let [context, calls] = parameters(&mut builder);
        let pointer = |builder: &mut FunctionBuilder<'_>, offset: usize| {
            builder.ins().load(I64, regions.context, context, offset as i32)
        };
        let state = pointer(&mut builder, offset_of!(JitContext, state));
        let tlb = pointer(&mut builder, offset_of!(JitContext, tlb));
        let mut of_state = |offset| variable(&mut builder, regions.state, state, offset);
        let registers = std::array::from_fn(|number| of_state(register_offset(number)));
        let [result, aux] = [result_offset(), aux_offset()].map(of_state);
        let flags = FlagVariables::new(&mut builder, (result, aux), &regions, context);
        let offset = offset_of!(JitContext, remaining);
        let remaining = variable(&mut builder, regions.exchange, context, offset);
        let rip = register_offset(usize::from(reg::RIP)) as i32;
        let entry_rip = builder.ins().load(I64, regions.state, state, rip);
        let nodes: Vec<(Block, Vec<usize>)> =
            predecessors.into_iter().map(|from| (builder.create_block(), from)).collect();
        let vectors = Vectors::new(&mut builder, &regions, state, plan, host);
        vectors.require_mxcsr(&mut builder, &regions, context, signatures.preserving);
        let count = nodes.len();
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
            reached: (0..count).map(|node| node == 0).collect(),
            done: vec![None; count],
            ends: vec![NodeEnd::default(); count],
            node: 0,
            held: Held::NOTHING,
            vectors,
            x87: NodeX87::default(),
            before: Held::NOTHING,
            start: 0,
            end: 0,
            previous: 0,
            retired: 0,
            side_exit: None,
            leaves: Vec::new(),
            lookups: Lookups::default(),
            window: None,
            hints: PageHints::default(),
            divisions: Vec::new(),
            mapping_changes: false,
            order,
            fenced: false,
            in_sti_shadow: false,
            ending: Ending::Next,
            hub_variables: None,
            extent: (0, 0),
            checked: None,
            cut: None,
        }
    }

    /// Goes on to the first node.
    pub(crate) fn begin(&mut self, memory: MemoryPlan) {
        let MemoryPlan { window, sites, groups } = memory;
        if let Some(window) = &window {
            self.prove_window(window);
        }
        self.lookups = Lookups::new(groups, window);
        self.hints = PageHints::new(sites);
        self.begin_hints();
    }

    /// Whether what has been translated rests on a mapping that may change on the way.
    pub(crate) fn trusts_too_much(&self) -> bool {
        self.mapping_changes && (self.window.is_some() || self.hints.is_used() || self.lookups.spread)
    }
}

/// Begins a function of two parameters, and returns them.
fn parameters(builder: &mut FunctionBuilder<'_>) -> [Value; 2] {
    let entry = builder.create_block();
    builder.append_block_params_for_function_params(entry);
    builder.switch_to_block(entry);
    [0, 1].map(|number| builder.block_params(entry)[number])
}

/// A variable with the value that is in memory.
fn variable(builder: &mut FunctionBuilder<'_>, flags: MemFlagsData, base: Value, offset: usize) -> Variable {
    let variable = builder.declare_var(I64);
    let value = builder.ins().load(I64, flags, base, offset as i32);
    builder.def_var(variable, value);
    variable
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
