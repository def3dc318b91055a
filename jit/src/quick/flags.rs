//! Arithmetic flags in the quick tier: the operation that set them is what is stored, as `Shape` says; the two values of
//! `ArithFlags` are computed where somebody wants them.

use super::ir::{NONE, Opcode, Value, slot};
use super::micro::Recorder;
use crate::shape::{Shape, Tells};
use rx86_cpu::ops::{FlagsOf, MicroOps};
use rx86_cpu::state::{AUX_AF, AUX_CF_XOR_OF, ArithFlags};

/// What is known of the flags where the listing has come to.
#[derive(Clone, Copy)]
pub(super) enum HeldFlags {
    Unknown,
    /// What the slots hold is two values, if these are looked at.
    Settled,
    /// What the slots hold is of this shape.
    Kept(Shape),
    /// The same, as values. `result` is `NONE` if the shape does not need it.
    Set {
        shape: Shape,
        result: Value,
        left: Value,
        right: Value,
        /// What was made of them when somebody asked.
        values: Option<ArithFlags<Value>>,
    },
}

impl HeldFlags {
    /// The shape of what the slots hold, if it is known.
    pub(super) fn shape(&self) -> Option<Shape> {
        match *self {
            Self::Unknown | Self::Settled => None,
            Self::Kept(shape) | Self::Set { shape, .. } => Some(shape),
        }
    }
}

/// An operation and its width, the result (or `NONE`), and what tells the flags.
type Parts = (Shape, Value, Value, Value);

impl Recorder {
    /// Remembers the flags of an operation in `bits` bits, if they can be told from its operands and what is known.
    pub(super) fn set_operation(&mut self, bits: u32, of: FlagsOf<Value>) -> bool {
        let (shape, result, left, right) = match of {
            FlagsOf::Difference { a, b, .. } => (Shape::new(Tells::Difference, bits), NONE, a, b),
            FlagsOf::Sum { a, result, .. } => (Shape::new(Tells::Sum, bits), NONE, result, a),
            // The flags of subtracting nothing.
            FlagsOf::Logic { result } => {
                (Shape::new(Tells::Difference, bits), NONE, result, self.constant(0))
            }
            FlagsOf::Increment { result } | FlagsOf::Decrement { result } => {
                let Some((_, _, left, right)) = self.parts() else { return false };
                let is_increment = matches!(of, FlagsOf::Increment { .. });
                let tells = if is_increment { Tells::Increment } else { Tells::Decrement };
                (Shape::new(tells, bits), result, left, right)
            }
        };
        self.set_shape(shape);
        for (number, value) in [(slot::LEFT, left), (slot::AUX, right), (slot::RESULT, result)] {
            if value != NONE && !self.is_in_slot(number, value) {
                self.set_slot(number, value);
            }
        }
        self.held.flags = HeldFlags::Set { shape, result, left, right, values: None };
        self.held.order = NONE;
        true
    }

    pub(super) fn set_flag_values(&mut self, flags: ArithFlags<Value>) {
        self.set_shape(Shape::VALUES);
        self.set_slot(slot::RESULT, flags.result);
        self.set_slot(slot::AUX, flags.aux);
        self.held.flags = HeldFlags::Kept(Shape::VALUES);
        self.held.order = NONE;
    }

    fn set_shape(&mut self, shape: Shape) {
        if self.held.flags.shape() != Some(shape) {
            let encoded = self.constant(u64::from(shape.encode()));
            self.set_slot(slot::SHAPE, encoded);
        }
    }

    pub(super) fn flag_values(&mut self) -> ArithFlags<Value> {
        if let HeldFlags::Set { values: Some(values), .. } = self.held.flags {
            return values;
        }
        if let Some(parts) = self.parts() {
            let made = self.values_of(parts);
            if let HeldFlags::Set { values, .. } = &mut self.held.flags {
                *values = Some(made);
            }
            return made;
        }
        if matches!(self.held.flags, HeldFlags::Unknown) {
            let settled = self.list(Opcode::Settle, [NONE; 3], 64, 0);
            for number in [slot::RESULT, slot::AUX] {
                let value = self.list(Opcode::Get, [settled, NONE, NONE], 64, u64::from(number));
                self.note_slot(number, value);
            }
            self.held.flags = HeldFlags::Settled;
        }
        ArithFlags { result: self.slot(slot::RESULT), aux: self.slot(slot::AUX) }
    }

    /// The operation that has set the flags, if it is known.
    fn parts(&mut self) -> Option<Parts> {
        match self.held.flags {
            HeldFlags::Set { shape, result, left, right, .. } => Some((shape, result, left, right)),
            HeldFlags::Kept(shape) if shape != Shape::VALUES => {
                let result = if shape.needs_result() { self.slot(slot::RESULT) } else { NONE };
                let (left, right) = (self.slot(slot::LEFT), self.slot(slot::AUX));
                self.held.flags = HeldFlags::Set { shape, result, left, right, values: None };
                Some((shape, result, left, right))
            }
            _ => None,
        }
    }

    /// The two values of the flags of an operation, as `shape::settle` has them.
    fn values_of(&mut self, (shape, result, left, right): Parts) -> ArithFlags<Value> {
        let unused = 64 - shape.bits();
        let carry = self.less_unsigned(left, right);
        let carry = self.shl_by(carry, 63);
        let (result, carries, differs) = match shape.tells() {
            tells @ (Tells::Increment | Tells::Decrement) => {
                let up = tells == Tells::Increment;
                let step = self.constant(if up { u64::MAX } else { 1 });
                let before = self.add(result, step);
                let (gone, come) = if up { (before, result) } else { (result, before) };
                let ones = self.constant(u64::MAX);
                let absent = self.xor(gone, ones);
                let overflow = self.and(come, absent);
                let overflow = self.shl_by(overflow, unused);
                let one = self.constant(1);
                let changed = self.xor(before, result);
                (result, self.xor(changed, one), self.xor(overflow, carry))
            }
            tells => {
                let difference = self.sub(left, right);
                let without = self.xor(left, right);
                let carries = self.xor(without, difference);
                let result = if tells == Tells::Sum { left } else { difference };
                (result, carries, self.shl_by(carries, unused))
            }
        };
        let [half, differs] = [carries, differs].map(|value| self.shr_by(value, 1));
        let [half_mask, differs_mask] = [AUX_AF, AUX_CF_XOR_OF].map(|mask| self.constant(mask));
        let half = self.and(half, half_mask);
        let differs = self.and(differs, differs_mask);
        let aux = self.or(half, differs);
        let aux = self.or(aux, carry);
        let high = self.shl_by(result, unused);
        let count = self.constant(unused.into());
        ArithFlags { result: self.sar(high, count), aux }
    }

    /// Condition `code` as 0 or 1, if the operation that set the flags tells it: the host's own flags do.
    pub(super) fn condition_of_operation(&mut self, code: u8) -> Option<Value> {
        if self.held.order != NONE {
            return self.condition_of_order(code);
        }
        let (shape, result, left, right) = self.parts()?;
        let (of, bits) = (if shape.tells() == Tells::Sum { left } else { result }, shape.bits());
        match (shape.tells(), code >> 1) {
            (Tells::Difference, _) => Some(self.compare(code, bits, left, right)),
            (_, 1) => Some(self.compare(code, 64, left, right)),
            (_, 2 | 4 | 5) => {
                let zero = self.constant(0);
                Some(self.compare(code, bits, of, zero))
            }
            _ => None,
        }
    }
}
