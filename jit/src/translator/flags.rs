//! Arithmetic flags in translated code: the operation that set them, and what of it tells them. The two values of
//! `ArithFlags` are computed where somebody wants them, which for most operations nobody does.
//!
//! From node to node go four variables. `shape` is what a `Shape` is encoded as; which of the others mean something depends
//! on it, but CF always is `left < right`, unsigned: of a sum `left` is the result, and of what was known as two values
//! `right` is `aux` and `left` the greatest number without its bit 63. So INC and DEC leave these two alone. A loop that only
//! ways out of it could tell the flags of carries what it compares anyway.

use super::{Regions, Translator};
use crate::context::JitContext;
use crate::shape::{Shape, Tells};
use cranelift_codegen::ir::condcodes::{CondCode, IntCC};
use cranelift_codegen::ir::types::{I64, Type};
use cranelift_codegen::ir::{InstBuilder, Value};
use cranelift_frontend::{FunctionBuilder, Variable};
use rx86_cpu::ops::FlagsOf;
use rx86_cpu::state::{AUX_AF, AUX_CF_XOR_OF, ArithFlags};
use std::mem::offset_of;

/// What a node knows of the flags that it has set.
#[derive(Clone, Copy)]
pub(crate) struct HeldFlags {
    shape: Shape,
    /// The result of the operation, zero-extended; of two values `ArithFlags::result`.
    result: Value,
    left: Value,
    right: Value,
}

/// The variables that carry flags from node to node.
pub(super) struct FlagVariables {
    shape: Variable,
    result: Variable,
    left: Variable,
    right: Variable,
    /// The encodings of all shapes, so that nodes that end with the same one are seen to.
    encodings: [(Shape, Value); Shape::ALL.len()],
    /// `left` of two values.
    greatest: Value,
    /// Some node gives `result` a value; else what `Vcpu` holds stays right.
    result_is_set: bool,
}

impl FlagVariables {
    /// `result` and `aux` are what `Vcpu` holds at the region's entry; the context holds the others.
    pub(super) fn new(
        builder: &mut FunctionBuilder<'_>,
        (result, aux): (Variable, Variable),
        regions: &Regions,
        context: Value,
    ) -> Self {
        let mut of_context =
            |offset: usize| builder.ins().load(I64, regions.exchange, context, offset as i32);
        let shape = of_context(offset_of!(JitContext, flags_shape));
        let left = of_context(offset_of!(JitContext, flags_left));
        let encodings = Shape::ALL.map(|shape| (shape, builder.ins().iconst(I64, i64::from(shape.encode()))));
        let greatest = builder.ins().iconst(I64, i64::MAX);
        // Who leaves two values behind does not say what is `left` of them.
        let left = builder.ins().select(shape, left, greatest);
        let [shape, left] = [shape, left].map(|value| {
            let variable = builder.declare_var(I64);
            builder.def_var(variable, value);
            variable
        });
        Self { shape, result, left, right: aux, encodings, greatest, result_is_set: false }
    }

    fn encoding(&self, shape: Shape) -> Value {
        self.encodings.iter().find(|(other, _)| *other == shape).map_or(self.greatest, |&(_, value)| value)
    }
}

/// What is stored of flags where the region is left: what whoever looks at them makes them of.
pub(super) struct StoredFlags {
    pub(super) shape: Value,
    pub(super) result: Option<Value>,
    pub(super) left: Option<Value>,
    pub(super) right: Value,
}

impl Translator<'_> {
    pub(crate) fn arithmetic_flags(&mut self) -> ArithFlags<Value> {
        if let Some(values) = self.held.values {
            return values;
        }
        let values = match self.held.flags {
            Some(flags) => self.values_of(flags),
            None => self.values_of_variables(),
        };
        *self.held.values.insert(values)
    }

    pub(crate) fn set_arithmetic_flags(&mut self, flags: ArithFlags<Value>) {
        let left = self.flags.greatest;
        let ArithFlags { result, aux } = flags;
        self.set_flags_of(HeldFlags { shape: Shape::VALUES, result, left, right: aux });
        self.held.values = Some(flags);
    }

    /// Remembers that the flags just set are those of the comparison of two floating-point numbers.
    pub(crate) fn note_order(&mut self, a: Value, b: Value) {
        self.held.order = Some((a, b));
    }

    fn set_flags_of(&mut self, flags: HeldFlags) {
        self.held.flags = Some(flags);
        self.held.values = None;
        self.held.flags_dirty = true;
        self.held.order = None;
    }

    /// Sets the flags of an operation of `width`.
    pub(crate) fn set_operation(&mut self, width: Type, of: FlagsOf<Value>) {
        let bits = width.bits();
        let flags = match of {
            FlagsOf::Difference { a, b, result } => {
                HeldFlags { shape: Shape::new(Tells::Difference, bits), result, left: a, right: b }
            }
            FlagsOf::Sum { a, result, .. } => {
                HeldFlags { shape: Shape::new(Tells::Sum, bits), result, left: result, right: a }
            }
            // The flags of subtracting nothing.
            FlagsOf::Logic { result } => {
                let right = self.builder.ins().iconst(I64, 0);
                HeldFlags { shape: Shape::new(Tells::Difference, bits), result, left: result, right }
            }
            FlagsOf::Increment { result } => self.step(Shape::new(Tells::Increment, bits), result),
            FlagsOf::Decrement { result } => self.step(Shape::new(Tells::Decrement, bits), result),
        };
        self.set_flags_of(flags);
    }

    fn step(&mut self, shape: Shape, result: Value) -> HeldFlags {
        let (left, right) = self.carry_operands();
        HeldFlags { shape, result, left, right }
    }

    /// Two values of which the first is less, unsigned, if CF is set.
    fn carry_operands(&mut self) -> (Value, Value) {
        match self.held.flags {
            Some(flags) => (flags.left, flags.right),
            None => (self.builder.use_var(self.flags.left), self.builder.use_var(self.flags.right)),
        }
    }

    /// Gives the node's flags to the variables.
    pub(super) fn define_flags(&mut self) {
        let Some(flags) = self.held.flags.filter(|_| self.held.flags_dirty) else { return };
        let encoding = self.flags.encoding(flags.shape);
        self.builder.def_var(self.flags.shape, encoding);
        self.builder.def_var(self.flags.left, flags.left);
        self.builder.def_var(self.flags.right, flags.right);
        if flags.shape.needs_result() {
            self.flags.result_is_set = true;
            self.builder.def_var(self.flags.result, flags.result);
        }
    }

    /// What has to be stored of the flags.
    pub(super) fn flags_to_store(&mut self, held: Option<HeldFlags>) -> StoredFlags {
        match held {
            Some(flags) => StoredFlags {
                shape: self.flags.encoding(flags.shape),
                result: flags.shape.needs_result().then_some(flags.result),
                left: (flags.shape != Shape::VALUES).then_some(flags.left),
                right: flags.right,
            },
            None => StoredFlags {
                shape: self.builder.use_var(self.flags.shape),
                result: self.flags.result_is_set.then(|| self.builder.use_var(self.flags.result)),
                left: Some(self.builder.use_var(self.flags.left)),
                right: self.builder.use_var(self.flags.right),
            },
        }
    }

    /// The two values of flags that the node has set.
    fn values_of(&mut self, flags: HeldFlags) -> ArithFlags<Value> {
        let HeldFlags { shape, result, left, right } = flags;
        if shape == Shape::VALUES {
            return ArithFlags { result, aux: right };
        }
        let unused = self.builder.ins().iconst(I64, i64::from(64 - shape.bits()));
        let carries = match shape.tells() {
            Tells::Difference | Tells::Sum => self.carries_of(left, right),
            Tells::Increment => self.carries_of_step(result, -1),
            _ => self.carries_of_step(result, 1),
        };
        let aux = match shape.tells() {
            Tells::Difference | Tells::Sum => self.aux_of(carries, unused, left, right),
            tells => {
                let before = self.add_constant(result, if tells == Tells::Increment { u64::MAX } else { 1 });
                let (gone, come) =
                    if tells == Tells::Increment { (before, result) } else { (result, before) };
                self.aux_of_step(carries, unused, gone, come, (left, right))
            }
        };
        let result = self.sign_extend_from(result, unused);
        ArithFlags { result, aux }
    }

    fn sign_extend_from(&mut self, value: Value, unused: Value) -> Value {
        let high = self.builder.ins().ishl(value, unused);
        self.builder.ins().sshr(high, unused)
    }

    /// The carries into each bit of `left - right`, and of the sum that has these two.
    fn carries_of(&mut self, left: Value, right: Value) -> Value {
        let difference = self.builder.ins().isub(left, right);
        let without = self.builder.ins().bxor(left, right);
        self.builder.ins().bxor(without, difference)
    }

    /// The carries into each bit of the addition or subtraction of one that led to `result`; `back` undoes it.
    fn carries_of_step(&mut self, result: Value, back: i64) -> Value {
        let before = self.add_constant(result, back as u64);
        let without = self.builder.ins().bxor(before, result);
        self.builder.ins().bxor_imm_u(without, 1)
    }

    /// AF, and the carry into the top bit where `AUX_CF_XOR_OF` is.
    fn low_aux(&mut self, carries: Value) -> Value {
        let half = self.builder.ins().ushr_imm_u(carries, 1);
        self.builder.ins().band_imm_u(half, AUX_AF as i64)
    }

    fn carry_bit(&mut self, left: Value, right: Value) -> Value {
        // This way round, Cranelift does not take it for the comparison of a branch, whose result would then be kept for the way
        // out where this is needed.
        let carry = self.builder.ins().icmp(IntCC::UnsignedGreaterThan, right, left);
        let carry = self.builder.ins().uextend(I64, carry);
        self.builder.ins().ishl_imm_u(carry, 63)
    }

    /// `aux` of a difference or sum.
    fn aux_of(&mut self, carries: Value, unused: Value, left: Value, right: Value) -> Value {
        let low = self.low_aux(carries);
        let high = self.builder.ins().ishl(carries, unused);
        let high = self.builder.ins().ushr_imm_u(high, 1);
        let high = self.builder.ins().band_imm_u(high, AUX_CF_XOR_OF as i64);
        let carry = self.carry_bit(left, right);
        let aux = self.builder.ins().bor(low, high);
        self.builder.ins().bor(aux, carry)
    }

    /// `aux` of INC and DEC: OF is set if the sign bit has gone from clear in `gone` to set in `come`.
    fn aux_of_step(
        &mut self,
        carries: Value,
        unused: Value,
        gone: Value,
        come: Value,
        (left, right): (Value, Value),
    ) -> Value {
        let low = self.low_aux(carries);
        let overflow = self.builder.ins().band_not(come, gone);
        let overflow = self.builder.ins().ishl(overflow, unused);
        let carry = self.carry_bit(left, right);
        let differs = self.builder.ins().bxor(overflow, carry);
        let differs = self.builder.ins().ushr_imm_u(differs, 1);
        let differs = self.builder.ins().band_imm_u(differs, AUX_CF_XOR_OF as i64);
        let aux = self.builder.ins().bor(low, carry);
        self.builder.ins().bor(aux, differs)
    }

    /// The two values, whatever the shape turns out to be. There are no branches in it, so that it is computed only where it
    /// is used.
    fn values_of_variables(&mut self) -> ArithFlags<Value> {
        let FlagVariables { shape, result, left, right, .. } = self.flags;
        let [shape, result, left, right] = [shape, result, left, right].map(|v| self.builder.use_var(v));
        let unused = self.builder.ins().band_imm_u(shape, i64::from(Shape::UNUSED_BITS));
        let mut is = |tells: Tells| self.builder.ins().band_imm_u(shape, i64::from(tells.bit()));
        let (is_difference, is_sum, is_increment) =
            (is(Tells::Difference), is(Tells::Sum), is(Tells::Increment));
        let is_pair = self.builder.ins().bor(is_difference, is_sum);

        let carries = self.carries_of(left, right);
        let pair = self.aux_of(carries, unused, left, right);
        let [up, down] = [-1i64, 1].map(|back| {
            let before = self.add_constant(result, back as u64);
            let carries = self.carries_of_step(result, back);
            let (gone, come) = if back < 0 { (before, result) } else { (result, before) };
            self.aux_of_step(carries, unused, gone, come, (left, right))
        });
        let step = self.builder.ins().select(is_increment, up, down);
        let operation = self.builder.ins().select(is_pair, pair, step);
        let aux = self.builder.ins().select(shape, operation, right);

        let difference = self.builder.ins().isub(left, right);
        let whole = self.builder.ins().select(is_sum, left, result);
        let whole = self.builder.ins().select(is_difference, difference, whole);
        let result = self.sign_extend_from(whole, unused);
        ArithFlags { result, aux }
    }

    /// Condition `code` as 0 or 1, if it is known from the operation that set the flags.
    pub(crate) fn known_condition_of(&mut self, code: u8) -> Option<Value> {
        if let Some((a, b)) = self.held.order {
            return self.condition_of_order(a, b, code);
        }
        if self.held.flags.is_some_and(|flags| flags.shape == Shape::VALUES) {
            return None;
        }
        if code >> 1 == 1 {
            let (left, right) = self.carry_operands();
            return Some(self.holds(IntCC::UnsignedLessThan, code, left, right, I64));
        }
        let HeldFlags { shape, result, left, right } = self.held.flags?;
        let zero = self.builder.ins().iconst(I64, 0);
        let width = Type::int(u16::try_from(shape.bits()).ok()?)?;
        match (shape.tells(), code >> 1) {
            (Tells::Difference, 2) => Some(self.holds(IntCC::Equal, code, left, right, width)),
            (Tells::Difference, 3) => {
                Some(self.holds(IntCC::UnsignedLessThanOrEqual, code, left, right, width))
            }
            (Tells::Difference, 6) => Some(self.holds(IntCC::SignedLessThan, code, left, right, width)),
            (Tells::Difference, 7) => {
                Some(self.holds(IntCC::SignedLessThanOrEqual, code, left, right, width))
            }
            (_, 2) => Some(self.holds(IntCC::Equal, code, result, zero, width)),
            (_, 4) => Some(self.holds(IntCC::SignedLessThan, code, result, zero, width)),
            _ => None,
        }
    }

    /// `condition` of integers of `width`, or its complement if `code` is odd.
    fn holds(&mut self, condition: IntCC, code: u8, left: Value, right: Value, width: Type) -> Value {
        let condition = if code & 1 == 0 { condition } else { condition.complement() };
        let cut =
            |t: &mut Self, value| if width == I64 { value } else { t.builder.ins().ireduce(width, value) };
        let (left, right) = (cut(self, left), cut(self, right));
        let holds = self.builder.ins().icmp(condition, left, right);
        self.builder.ins().uextend(I64, holds)
    }
}
