//! Vector registers as SSA values: reading and writing them in every form, and storing them on the way out.

use super::plan::{Kind, Plan};
use super::{DirtyVectors, Form, HOST_FLOATING_POINT, HeldVectors, HostVectors, Variables, Vectors};
use crate::context::{JitContext, LeaveKind};
use crate::translator::{Regions, Translator};
use cranelift_codegen::ir::types::{F32, F32X4, F64, F64X2, I8X16, I64, Type};
use cranelift_codegen::ir::{
    Endianness, InstBuilder, InstructionData, MemFlagsData, Opcode, SigRef, Value, ValueDef,
};
use cranelift_frontend::FunctionBuilder;
use rx86_cpu::state::{Vcpu, Zmm};
use std::mem::offset_of;

/// Where quadword `quad` of a vector register is in `Vcpu`.
pub(crate) fn vector_offset(number: usize, quad: usize) -> usize {
    offset_of!(Vcpu, zmm) + number * size_of::<Zmm>() + 8 * quad
}

impl Vectors {
    /// Loads the registers of the plan at the region's entry.
    pub(crate) fn new(
        builder: &mut FunctionBuilder<'_>,
        regions: &Regions,
        state: Value,
        plan: Plan,
        host: HostVectors,
    ) -> Self {
        let mut variable = |of: Type, number: usize, quad: usize| {
            let variable = builder.declare_var(of);
            let offset = vector_offset(number, quad) as i32;
            let value = builder.ins().load(of, regions.state, state, offset);
            builder.def_var(variable, value);
            variable
        };
        let variables = std::array::from_fn(|number| match plan.registers[number] {
            None => Variables::None,
            Some(Kind::Whole) => Variables::Whole(variable(I8X16, number, 0)),
            Some(Kind::Halves) => Variables::Halves([variable(F64, number, 0), variable(F64, number, 1)]),
        });
        let uppers = std::array::from_fn(|number| {
            (plan.uppers >> number & 1 != 0).then(|| variable(I8X16, number, 2))
        });
        Self {
            plan,
            host,
            variables,
            uppers,
            joined: None,
            operations: Vec::new(),
            comparisons: Vec::new(),
            barriers: Vec::new(),
        }
    }

    /// Goes on with the guest's MXCSR loaded, or leaves the region; without arithmetic neither.
    pub(crate) fn require_mxcsr(
        &self,
        builder: &mut FunctionBuilder<'_>,
        regions: &Regions,
        context: Value,
        signature: SigRef,
    ) {
        if !(self.plan.arithmetic && HOST_FLOATING_POINT) {
            return;
        }
        let [load, refuse, done] = std::array::from_fn(|_| builder.create_block());
        builder.set_cold_block(load);
        builder.set_cold_block(refuse);
        let offset = offset_of!(JitContext, mxcsr_loaded) as i32;
        let loaded = builder.ins().load(I64, regions.exchange, context, offset);
        builder.ins().brif(loaded, done, &[], load, &[]);
        builder.switch_to_block(load);
        let offset = offset_of!(JitContext, load_mxcsr) as i32;
        let function = builder.ins().load(I64, regions.context, context, offset);
        // All registers are preserved: a register that has to be in memory here would be there in loops, too.
        builder.ins().call_indirect(signature, function, &[context]);
        let offset = offset_of!(JitContext, mxcsr_loaded) as i32;
        let loaded = builder.ins().load(I64, regions.exchange, context, offset);
        builder.ins().brif(loaded, done, &[], refuse, &[]);
        builder.switch_to_block(refuse);
        let kind = builder.ins().iconst(I64, LeaveKind::Interpret as i64);
        builder.ins().return_(&[kind]);
        builder.switch_to_block(done);
    }

    pub(super) fn host(&self) -> HostVectors {
        self.host
    }
}

impl Translator<'_> {
    /// The same bits as another type.
    pub(super) fn recast(&mut self, to: Type, value: Value) -> Value {
        if self.builder.func.dfg.value_type(value) == to {
            return value;
        }
        let flags = MemFlagsData::new().with_endianness(Endianness::Little);
        self.builder.ins().bitcast(to, flags, value)
    }

    /// All bits clear.
    pub(super) fn zero_vector(&mut self) -> Value {
        self.constant_vector([0; 16])
    }

    pub(super) fn constant_vector(&mut self, bytes: [u8; 16]) -> Value {
        let constant = self.builder.func.dfg.constants.insert(bytes.to_vec().into());
        self.builder.ins().vconst(I8X16, constant)
    }

    fn zero_double(&mut self) -> Value {
        self.builder.ins().f64const(0.0)
    }

    /// What a register is, in a form that can be read.
    fn form(&mut self, number: usize) -> Form {
        if let Form::Variables = self.held.vectors.forms[number] {
            let form = match self.vectors.variables[number] {
                Variables::Whole(variable) => Form::Whole(self.builder.use_var(variable)),
                Variables::Halves(variables) => {
                    Form::Halves(variables.map(|variable| self.builder.use_var(variable)))
                }
                // Not in the plan: the instruction is not what the plan took it for.
                Variables::None => {
                    let offset = vector_offset(number, 0) as i32;
                    let flags = self.regions.state;
                    Form::Whole(self.builder.ins().load(I8X16, flags, self.state, offset))
                }
            };
            self.held.vectors.forms[number] = form;
        }
        self.held.vectors.forms[number]
    }

    fn set_form(&mut self, number: usize, form: Form) {
        self.held.vectors.forms[number] = form;
        self.held.vectors.dirty.lows |= 1 << number;
    }

    fn prefers_halves(&self, number: usize) -> bool {
        self.vectors.plan.registers[number] == Some(Kind::Halves)
    }

    /// 128 bits of an XMM register.
    pub(super) fn whole(&mut self, number: usize) -> Value {
        match self.form(number) {
            Form::Variables => self.zero_vector(),
            Form::Whole(value) => value,
            Form::Halves(halves) => self.join(halves),
            Form::SingleOver(single, whole) => match self.vectors.joined {
                Some((of, value)) if of == [single, whole] => value,
                _ => {
                    let value = self.replace_single(whole, single);
                    self.vectors.joined = Some(([single, whole], value));
                    value
                }
            },
        }
    }

    fn replace_single(&mut self, whole: Value, single: Value) -> Value {
        let lanes = self.recast(F32X4, whole);
        let value = self.builder.ins().insertlane(lanes, single, 0);
        self.recast(I8X16, value)
    }

    /// The operand of an instruction of this opcode that made `value`, and its lane number.
    fn extracted(&self, value: Value) -> Option<(Value, u8)> {
        let graph = &self.builder.func.dfg;
        let ValueDef::Result(instruction, _) = graph.value_def(graph.resolve_aliases(value)) else {
            return None;
        };
        match graph.insts[instruction] {
            InstructionData::BinaryImm8 { opcode: Opcode::Extractlane, arg, imm } => Some((arg, imm)),
            _ => None,
        }
    }

    fn join(&mut self, halves: [Value; 2]) -> Value {
        match self.vectors.joined {
            Some((of, value)) if of == halves => value,
            _ => {
                let value = self.joined(halves);
                self.vectors.joined = Some((halves, value));
                value
            }
        }
    }

    fn joined(&mut self, [low, high]: [Value; 2]) -> Value {
        if let (Some((from, 0)), Some((other, 1))) = (self.extracted(low), self.extracted(high))
            && from == other
        {
            return self.recast(I8X16, from);
        }
        let value = if self.is_zero_double(high) {
            self.builder.ins().scalar_to_vector(F64X2, low)
        } else {
            let both = self.builder.ins().splat(F64X2, low);
            self.builder.ins().insertlane(both, high, 1)
        };
        self.recast(I8X16, value)
    }

    fn is_zero_double(&self, value: Value) -> bool {
        let graph = &self.builder.func.dfg;
        match graph.value_def(graph.resolve_aliases(value)) {
            ValueDef::Result(instruction, _) => match graph.insts[instruction] {
                InstructionData::UnaryIeee64 { imm, .. } => imm.bits() == 0,
                _ => false,
            },
            _ => false,
        }
    }

    /// A quadword of a vector.
    pub(super) fn half_of(&mut self, whole: Value, half: usize) -> Value {
        let lanes = self.recast(F64X2, whole);
        self.builder.ins().extractlane(lanes, half as u8)
    }

    /// A quadword of an XMM register.
    pub(super) fn half(&mut self, number: usize, half: usize) -> Value {
        match self.form(number) {
            Form::Halves(halves) => halves[half],
            _ => {
                let whole = self.whole(number);
                self.half_of(whole, half)
            }
        }
    }

    /// The low doubleword of an XMM register.
    pub(super) fn low_single(&mut self, number: usize) -> Value {
        match self.form(number) {
            Form::SingleOver(single, _) => single,
            _ => {
                let whole = self.whole(number);
                let lanes = self.recast(F32X4, whole);
                self.builder.ins().extractlane(lanes, 0)
            }
        }
    }

    pub(super) fn set_whole(&mut self, number: usize, value: Value) {
        self.set_form(number, Form::Whole(value));
    }

    pub(super) fn set_half(&mut self, number: usize, half: usize, value: Value) {
        if self.prefers_halves(number) {
            let mut halves = match self.form(number) {
                Form::Halves(halves) => halves,
                _ => [0, 1].map(|half| self.half(number, half)),
            };
            halves[half] = value;
            return self.set_form(number, Form::Halves(halves));
        }
        let whole = self.whole(number);
        let lanes = self.recast(F64X2, whole);
        let lanes = self.builder.ins().insertlane(lanes, value, half as u8);
        let value = self.recast(I8X16, lanes);
        self.set_form(number, Form::Whole(value));
    }

    /// Sets the low quadword and clears the high one.
    pub(super) fn set_only_half(&mut self, number: usize, value: Value) {
        if self.prefers_halves(number) {
            let zero = self.zero_double();
            return self.set_form(number, Form::Halves([value, zero]));
        }
        let whole = self.builder.ins().scalar_to_vector(F64X2, value);
        let whole = self.recast(I8X16, whole);
        self.set_form(number, Form::Whole(whole));
    }

    pub(super) fn set_low_single(&mut self, number: usize, value: Value) {
        let under = match self.form(number) {
            Form::SingleOver(_, under) => under,
            _ => self.whole(number),
        };
        self.set_form(number, Form::SingleOver(value, under));
    }

    /// Replaces both halves by a bitwise operation each.
    pub(super) fn set_halves(&mut self, number: usize, halves: [Value; 2]) {
        self.set_form(number, Form::Halves(halves));
    }

    /// The halves, if the register is kept so.
    pub(super) fn kept_halves(&mut self, number: usize) -> Option<[Value; 2]> {
        match self.form(number) {
            Form::Halves(halves) if self.prefers_halves(number) => Some(halves),
            _ => None,
        }
    }

    /// Sets the register to zero.
    pub(super) fn clear(&mut self, number: usize) {
        if self.prefers_halves(number) {
            let zero = self.zero_double();
            return self.set_form(number, Form::Halves([zero; 2]));
        }
        let zero = self.zero_vector();
        self.set_form(number, Form::Whole(zero));
    }

    /// Bits 128 to 255.
    pub(super) fn upper_half(&mut self, number: usize) -> Value {
        if let Some(value) = self.held.vectors.uppers[number] {
            return value;
        }
        let Some(variable) = self.vectors.uppers[number] else {
            let offset = vector_offset(number, 2) as i32;
            return self.builder.ins().load(I8X16, self.regions.state, self.state, offset);
        };
        let value = self.builder.use_var(variable);
        *self.held.vectors.uppers[number].insert(value)
    }

    pub(super) fn set_upper_half(&mut self, number: usize, value: Value) {
        if self.vectors.uppers[number].is_none() {
            // Only VZEROUPPER writes what the plan does not know, and nothing undoes that.
            let offset = vector_offset(number, 2) as i32;
            self.builder.ins().store(self.regions.state, value, self.state, offset);
            return;
        }
        self.held.vectors.uppers[number] = Some(value);
        self.held.vectors.dirty.uppers |= 1 << number;
    }

    /// Gives what a node has set to the variables.
    pub(crate) fn define_vectors(&mut self) {
        for number in 0..16 {
            let dirty = self.held.vectors.dirty;
            let known = !matches!(self.held.vectors.forms[number], Form::Variables);
            if known && dirty.lows >> number & 1 != 0 {
                match self.vectors.variables[number] {
                    Variables::None => {}
                    Variables::Whole(variable) => {
                        let value = self.whole(number);
                        self.builder.def_var(variable, value);
                        self.held.vectors.forms[number] = Form::Whole(value);
                    }
                    Variables::Halves(variables) => {
                        let halves = [0, 1].map(|half| self.half(number, half));
                        for (variable, value) in variables.into_iter().zip(halves) {
                            self.builder.def_var(variable, value);
                        }
                        self.held.vectors.forms[number] = Form::Halves(halves);
                    }
                }
            }
            if let (Some(value), Some(variable)) =
                (self.held.vectors.uppers[number], self.vectors.uppers[number])
                && dirty.uppers >> number & 1 != 0
            {
                self.builder.def_var(variable, value);
            }
        }
    }

    /// Stores the vector registers of `which` as `held` has them, into `Vcpu`.
    pub(crate) fn store_vectors_of(&mut self, held: &HeldVectors, which: DirtyVectors) {
        for number in 0..16 {
            if which.lows >> number & 1 != 0 {
                self.store_low(number, held.forms[number]);
            }
            if which.uppers >> number & 1 != 0 {
                let value = match (held.uppers[number], self.vectors.uppers[number]) {
                    (Some(value), _) => value,
                    (None, Some(variable)) => self.builder.use_var(variable),
                    (None, None) => continue,
                };
                self.store_quads(value, number, 2);
            }
        }
    }

    fn store_low(&mut self, number: usize, form: Form) {
        match form {
            Form::Whole(value) => self.store_quads(value, number, 0),
            Form::Halves([low, high]) => {
                self.store_quads(low, number, 0);
                self.store_quads(high, number, 1);
            }
            Form::SingleOver(single, whole) => {
                self.store_quads(whole, number, 0);
                self.store_quads(single, number, 0);
            }
            Form::Variables => match self.vectors.variables[number] {
                Variables::None => {}
                Variables::Whole(variable) => {
                    let value = self.builder.use_var(variable);
                    self.store_quads(value, number, 0);
                }
                Variables::Halves(variables) => {
                    for (quad, variable) in variables.into_iter().enumerate() {
                        let value = self.builder.use_var(variable);
                        self.store_quads(value, number, quad);
                    }
                }
            },
        }
    }

    fn store_quads(&mut self, value: Value, number: usize, quad: usize) {
        self.store_state(value, vector_offset(number, quad));
    }

    /// Stores registers that a function looks at.
    pub(crate) fn publish_vectors(&mut self, which: DirtyVectors) {
        let held = self.held.vectors;
        self.store_vectors_of(&held, which);
    }

    /// Loads registers that a function may have written.
    pub(crate) fn take_back_vectors(&mut self, which: DirtyVectors) {
        let flags = self.regions.state;
        let state = self.state;
        for number in 0..16 {
            let mut load = |of: Type, quad: usize| {
                self.builder.ins().load(of, flags, state, vector_offset(number, quad) as i32)
            };
            if which.lows >> number & 1 != 0 {
                let form = match self.vectors.plan.registers[number] {
                    // Read by what iced-x86 takes for a mere zeroing; what was read is no longer so.
                    None => {
                        self.held.vectors.forms[number] = Form::Variables;
                        continue;
                    }
                    Some(Kind::Whole) => Form::Whole(load(I8X16, 0)),
                    Some(Kind::Halves) => Form::Halves([load(F64, 0), load(F64, 1)]),
                };
                self.set_form(number, form);
            }
            if which.uppers >> number & 1 != 0 && self.vectors.uppers[number].is_some() {
                let offset = vector_offset(number, 2) as i32;
                let value = self.builder.ins().load(I8X16, flags, state, offset);
                self.set_upper_half(number, value);
            }
        }
    }

    /// The type of a scalar.
    pub(super) fn scalar_type(&self, value: Value) -> Type {
        let of = self.builder.func.dfg.value_type(value);
        if of == F32 { F32 } else { F64 }
    }
}
