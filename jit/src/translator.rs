//! `Translator`: the state of translating one block, and how the block is left.

use crate::block::ExitKind;
use crate::code::JitContext;
use cranelift_codegen::ir::condcodes::{CondCode, IntCC};
use cranelift_codegen::ir::types::{I64, Type};
use cranelift_codegen::ir::{
    AliasRegionData, Block, DataFlowGraph, InstBuilder, MemFlagsData, Value, ValueDef,
};
use cranelift_frontend::FunctionBuilder;
use rx86_cpu::op::{Op, reg};
use rx86_cpu::state::{ArithFlags, Flags, Vcpu};
use std::mem::offset_of;

/// The translator has no code for this instruction: the block ends before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Untranslatable;

/// What the block knows of registers and flags, as SSA values.
#[derive(Clone, Copy)]
pub(crate) struct Held {
    /// Values of the sixteen general registers, where known.
    registers: [Option<Value>; 16],
    /// Bit n: register n differs from what `Vcpu` holds.
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
    /// `JitContext`, which the block only reads.
    context: MemFlagsData,
    /// `Vcpu`.
    state: MemFlagsData,
    /// The software TLB, which the block only reads.
    pub(crate) tlb: MemFlagsData,
    /// Guest RAM; no alignment is known.
    pub(crate) guest: MemFlagsData,
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
        }
    }
}

/// Code of a side exit that is still to be emitted, behind the block's own.
struct SideExit {
    block: Block,
    /// The state before the instruction.
    held: Held,
    /// The instruction's first byte, from the block's.
    offset: u64,
    /// Instructions that the block executed before it.
    retired: u32,
}

/// Translates one block: implements `MicroOps` (in `micro`) by emitting Cranelift IR.
pub(crate) struct Translator<'a> {
    pub(crate) builder: FunctionBuilder<'a>,
    pub(crate) regions: Regions,
    /// Pointer to the `JitContext`.
    context: Value,
    /// Pointer to the `Vcpu`.
    state: Value,
    /// Pointer to the TLB's entries, if an access has needed it.
    tlb: Option<Value>,
    held: Held,
    /// `held` as it was before the current instruction.
    before: Held,
    /// The current instruction's first byte, and the one behind it, from the block's first.
    start: u64,
    end: u64,
    retired: u32,
    /// Where the current instruction's side exits lead, if it has any.
    side_exit: Option<Block>,
    side_exits: Vec<SideExit>,
    /// Where the block continues, if not at `end`.
    target: Option<Value>,
    /// The last target known to be canonical.
    checked: Option<Value>,
    /// The last cut: a value, the type it was cut to, the result. An instruction that names a register twice then has one
    /// value for both.
    cut: Option<(Value, Type, Value)>,
}

impl<'a> Translator<'a> {
    /// Begins the function's body.
    pub(crate) fn new(mut builder: FunctionBuilder<'a>) -> Self {
        let regions = Regions::new(&mut builder.func.dfg);
        let entry = builder.create_block();
        builder.append_block_params_for_function_params(entry);
        builder.switch_to_block(entry);
        let context = builder.block_params(entry)[0];
        let offset = offset_of!(JitContext, state) as i32;
        let state = builder.ins().load(I64, regions.context, context, offset);
        Self {
            builder,
            regions,
            context,
            state,
            tlb: None,
            held: Held::NOTHING,
            before: Held::NOTHING,
            start: 0,
            end: 0,
            retired: 0,
            side_exit: None,
            side_exits: Vec::new(),
            target: None,
            checked: None,
            cut: None,
        }
    }

    /// Emits one instruction by calling its meaning. On `Err` the state is that before the instruction.
    pub(crate) fn instruction(
        &mut self,
        op: &Op,
        meaning: rx86_cpu::ops::Meaning<Self>,
    ) -> Result<(), Untranslatable> {
        self.before = self.held;
        self.side_exit = None;
        self.end = self.start + u64::from(op.length);
        if let Err(untranslatable) = meaning(self, op) {
            self.held = self.before;
            self.target = None;
            return Err(untranslatable);
        }
        self.start = self.end;
        self.retired += 1;
        Ok(())
    }

    /// How many instructions have been emitted.
    pub(crate) fn retired(&self) -> u32 {
        self.retired
    }

    /// How many bytes of guest code have been translated.
    pub(crate) fn length(&self) -> u64 {
        self.start
    }

    /// Ends the function: the block's own exit, then the side exits.
    pub(crate) fn finish(mut self, kind: ExitKind) -> FunctionBuilder<'a> {
        let held = self.held;
        let rip = match self.target {
            Some(target) => target,
            None => self.rip_at(self.start),
        };
        self.leave(&held, rip, kind, self.retired);
        for exit in std::mem::take(&mut self.side_exits) {
            self.builder.switch_to_block(exit.block);
            let rip = self.rip_at(exit.offset);
            self.leave(&exit.held, rip, ExitKind::Interpret, exit.retired);
        }
        self.builder.seal_all_blocks();
        self.builder
    }

    fn leave(&mut self, held: &Held, rip: Value, kind: ExitKind, retired: u32) {
        for (number, value) in held.registers.iter().enumerate() {
            if let Some(value) = *value
                && held.dirty >> number & 1 != 0
            {
                self.store_state(value, register_offset(number));
            }
        }
        if let Some(flags) = held.flags
            && held.flags_dirty
        {
            self.store_state(flags.result, result_offset());
            self.store_state(flags.aux, aux_offset());
        }
        self.store_state(rip, register_offset(usize::from(reg::RIP)));
        let code = self.builder.ins().iconst(I64, kind.code(retired) as i64);
        self.builder.ins().return_(&[code]);
    }

    /// Leaves the block before the current instruction unless `holds` is not zero.
    pub(crate) fn side_exit_unless(&mut self, holds: Value) {
        let exit = match self.side_exit {
            Some(exit) => exit,
            None => {
                let block = self.builder.create_block();
                self.builder.set_cold_block(block);
                self.side_exits.push(SideExit {
                    block,
                    held: self.before,
                    offset: self.start,
                    retired: self.retired,
                });
                *self.side_exit.insert(block)
            }
        };
        let next = self.builder.create_block();
        self.builder.ins().brif(holds, next, &[], exit, &[]);
        self.builder.switch_to_block(next);
    }

    pub(crate) fn load_state(&mut self, offset: usize) -> Value {
        self.builder.ins().load(I64, self.regions.state, self.state, offset as i32)
    }

    fn store_state(&mut self, value: Value, offset: usize) {
        self.builder.ins().store(self.regions.state, value, self.state, offset as i32);
    }

    /// The pointer to the TLB's entries.
    pub(crate) fn tlb(&mut self) -> Value {
        if let Some(tlb) = self.tlb {
            return tlb;
        }
        let offset = offset_of!(JitContext, tlb) as i32;
        let tlb = self.builder.ins().load(I64, self.regions.context, self.context, offset);
        *self.tlb.insert(tlb)
    }

    /// RIP at `offset` bytes from the block's start. `Vcpu` holds the block's own RIP until the block is left, so a block
    /// does not depend on the linear address it runs at.
    pub(crate) fn rip_at(&mut self, offset: u64) -> Value {
        let rip = self.load_state(register_offset(usize::from(reg::RIP)));
        self.add_constant(rip, offset)
    }

    /// RIP as instructions see it: behind the current one.
    pub(crate) fn next_rip(&mut self, displacement: u64) -> Value {
        self.rip_at(self.end.wrapping_add(displacement))
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
        let value = self.load_state(register_offset(number));
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
        let flags =
            ArithFlags { result: self.load_state(result_offset()), aux: self.load_state(aux_offset()) };
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
        if self.checked == Some(target) {
            return;
        }
        let high = self.builder.ins().ishl_imm_u(target, 16);
        let extended = self.builder.ins().sshr_imm_u(high, 16);
        let canonical = self.builder.ins().icmp(IntCC::Equal, extended, target);
        self.side_exit_unless(canonical);
        self.checked = Some(target);
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

    /// Continues at `target`, known to be canonical, when the block ends.
    pub(crate) fn continue_at(&mut self, target: Value) {
        self.target = Some(target);
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

fn register_offset(number: usize) -> usize {
    offset_of!(Vcpu, regs) + 8 * number
}

fn result_offset() -> usize {
    offset_of!(Vcpu, flags) + offset_of!(Flags, arith) + offset_of!(ArithFlags<u64>, result)
}

fn aux_offset() -> usize {
    offset_of!(Vcpu, flags) + offset_of!(Flags, arith) + offset_of!(ArithFlags<u64>, aux)
}
