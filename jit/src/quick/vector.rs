//! The quick tier's vector micro-operations (`VectorOps`).
//!
//! A vector register is 128 bits in one slot and the 128 above them in another. A scalar is a vector of which only the low bits
//! matter: so it is a view of its register, and scalar arithmetic leaves the rest of the register where it is.
//! Floating-point operations are executed whether somebody needs their result or not, for the flags of MXCSR, which is the
//! guest's wherever there are some (`Emitter::require_mxcsr`).

use super::encoding::{self, Encoding};
use super::ir::{NONE, Opcode, Value, slot};
use super::micro::Recorder;
use crate::access::{Kind, Request};
use crate::translator::Untranslatable;
use rx86_cpu::float::{Arith, Fused, IntSize};
use rx86_cpu::op::Op;
use rx86_cpu::ops::MicroOps;
use rx86_cpu::simd::packed::{Conversion, Operation, PackedOperation};
use rx86_cpu::state::ArithFlags;
use rx86_cpu::vector_ops::VectorOps;
use std::array::from_fn;

/// The result of ORDER: CF, not ZF, not PF.
const BELOW: u64 = 1;
const NOT_EQUAL: u64 = 2;
const ORDERED: u64 = 4;

fn low_slot(register: u8) -> u8 {
    slot::VECTORS + (register & 15)
}

fn upper_slot(register: u8) -> u8 {
    slot::VECTORS + 16 + (register & 15)
}

impl Recorder {
    fn vector_value(&mut self, opcode: Opcode, operands: [Value; 3], width: u32, constant: u64) -> Value {
        self.list_narrow(opcode, operands, width, constant, 128)
    }

    /// An instruction of one or two vectors that sets all of its result but for what is above `width` bits: that is the
    /// first operand's.
    fn vector_of(&mut self, a: Value, b: Value, width: u32, encoding: Encoding) -> Value {
        self.listing.floating |= encoding.floating;
        self.vector_value(Opcode::Vector, [a, b, NONE], width, encoding.encode())
    }

    fn zero_vector(&mut self) -> Value {
        if self.held.zero == NONE {
            self.held.zero = self.vector_value(Opcode::VectorZero, [NONE; 3], 128, 0);
        }
        self.held.zero
    }

    /// The value whose bits above the low 32 or 64 another has, as far as is known.
    fn source_above(&self, width: u8, value: Value) -> Value {
        let mut value = value;
        loop {
            let operation = &self.listing.operations[usize::from(value)];
            value = match operation.opcode {
                Opcode::Vector if operation.width <= width => operation.a,
                Opcode::Fused if operation.width <= width => operation.c,
                Opcode::Vector if width == 64 && operation.constant == encoding::MERGE_HIGH.encode() => {
                    let high = &self.listing.operations[usize::from(operation.b)];
                    if high.opcode != Opcode::Vector || high.constant != encoding::HIGH.encode() {
                        return value;
                    }
                    high.b
                }
                _ => return value,
            };
        }
    }

    /// Whether a value's bits from `width` on are known to be clear.
    fn is_clear_above(&self, width: u8, value: Value) -> bool {
        let operation = &self.listing.operations[usize::from(value)];
        match operation.opcode {
            Opcode::VectorZero => true,
            Opcode::VectorLoad => operation.width <= width,
            Opcode::VectorOfInt => {
                operation.constant == encoding::OF_INT[0].encode()
                    || width == 64 && operation.constant == encoding::OF_INT[1].encode()
            }
            Opcode::Vector => width == 64 && operation.constant == encoding::ONLY_DOUBLE.encode(),
            _ => false,
        }
    }

    fn vector_host(&mut self, op: &Op, bytes: u64, aligned: bool, kind: Kind) -> Value {
        let linear = self.linear(op, None);
        let instruction = self.current();
        if aligned {
            self.list(Opcode::Aligned, [linear, NONE, instruction], 64, bytes - 1);
        }
        let request = Request { bytes, kind, for_writes: kind == Kind::Write, grouped: false };
        self.list(Opcode::Probe, [linear, NONE, instruction], 64, request.encode())
    }

    fn load_part(&mut self, op: &Op, bits: u32) -> Value {
        let host = self.vector_host(op, u64::from(bits / 8), false, Kind::Read);
        self.vector_value(Opcode::VectorLoad, [host, NONE, NONE], bits, 0)
    }

    fn store_part(&mut self, op: &Op, bits: u32, value: Value) {
        let host = self.vector_host(op, u64::from(bits / 8), false, Kind::Write);
        self.list(Opcode::VectorStore, [host, value, NONE], bits, 0);
    }

    fn int_of(&mut self, a: Value, bits: u32, encoding: Encoding) -> Value {
        self.listing.floating |= encoding.floating;
        self.list_narrow(Opcode::IntOfVector, [a, NONE, NONE], 64, encoding.encode(), bits)
    }

    fn of_int(&mut self, a: Value, b: Value, encoding: Encoding) -> Value {
        self.listing.floating |= encoding.floating;
        self.vector_value(Opcode::VectorOfInt, [a, b, NONE], 128, encoding.encode())
    }

    fn arith<const N: usize>(
        &mut self,
        operation: Arith,
        a: [Value; N],
        b: [Value; N],
        double: bool,
    ) -> [Value; N] {
        let encoding = encoding::arithmetic(operation, double, true);
        from_fn(|i| {
            let a = if operation == Arith::Sqrt { NONE } else { a[i] };
            self.vector_of(a, b[i], 128, encoding)
        })
    }

    fn fused(
        &mut self,
        operation: Fused,
        abc: [Value; 3],
        width: u32,
        double: bool,
    ) -> Result<Value, Untranslatable> {
        let encoding = encoding::fused(operation, double, width == 128).ok_or(Untranslatable)?;
        self.listing.floating = true;
        Ok(self.vector_value(Opcode::Fused, abc, width, encoding.encode()))
    }

    fn fused_lanes<const N: usize>(
        &mut self,
        operation: Fused,
        [a, b, c]: [[Value; N]; 3],
        double: bool,
    ) -> Result<[Value; N], Untranslatable> {
        let mut result = a;
        for (i, value) in result.iter_mut().enumerate() {
            *value = self.fused(operation, [a[i], b[i], c[i]], 128, double)?;
        }
        Ok(result)
    }

    /// Sets the flags as UCOMISD does.
    fn order(&mut self, a: Value, b: Value, encoding: Encoding) {
        self.listing.floating = true;
        let order = self.list_narrow(Opcode::Order, [a, b, NONE], 64, encoding.encode(), 3);
        // As `ArithFlags::from_rflags` has it: ZF, CF with CF xor OF, PF.
        let mut bit = |mask: u64, shift: u32| {
            let mask = self.constant(mask);
            let bit = self.and(order, mask);
            self.shl_by(bit, shift)
        };
        let result = bit(NOT_EQUAL, 8 - NOT_EQUAL.trailing_zeros());
        let (carry, overflow) = (bit(BELOW, 63), bit(BELOW, 62));
        let parity = bit(ORDERED, 8 - ORDERED.trailing_zeros());
        let aux = self.or(carry, overflow);
        let aux = self.or(aux, parity);
        self.set_flags(ArithFlags { result, aux });
        self.held.order = order;
    }

    /// Condition `code` of the flags that `order` set, if they are still those.
    pub(super) fn condition_of_order(&mut self, code: u8) -> Option<Value> {
        const EQUAL: u8 = 4;
        let order = self.held.order;
        if order == NONE {
            return None;
        }
        let (mask, wanted, condition) = match code >> 1 {
            1 => (BELOW, BELOW, EQUAL),
            2 => (NOT_EQUAL, 0, EQUAL),
            // Neither below nor equal is only one of its values.
            3 => (BELOW | NOT_EQUAL, NOT_EQUAL, EQUAL ^ 1),
            5 => (ORDERED, 0, EQUAL),
            _ => return None,
        };
        let (mask, wanted) = (self.constant(mask), self.constant(wanted));
        let bits = self.and(order, mask);
        Some(self.compare(condition ^ code & 1, 64, bits, wanted))
    }
}

impl VectorOps for Recorder {
    type Vector = Value;
    type Double = Value;
    type Single = Value;

    fn vector(&mut self, register: u8) -> Value {
        self.slot(low_slot(register))
    }

    fn set_vector(&mut self, register: u8, value: Value) {
        self.set_slot(low_slot(register), value);
    }

    fn upper(&mut self, register: u8) -> Value {
        self.slot(upper_slot(register))
    }

    fn set_upper(&mut self, register: u8, value: Value) {
        self.set_slot(upper_slot(register), value);
    }

    fn clear_upper(&mut self, register: u8) {
        let zero = self.zero_vector();
        if !self.is_in_slot(upper_slot(register), zero) {
            self.set_upper(register, zero);
        }
    }

    fn double(&mut self, register: u8, half: usize) -> Value {
        let whole = self.vector(register);
        if half == 0 { whole } else { self.vector_of(NONE, whole, 128, encoding::HIGH) }
    }

    fn set_double(&mut self, register: u8, half: usize, value: Value) {
        let old = self.vector(register);
        let whole = if half != 0 {
            self.vector_of(old, value, 128, encoding::MERGE_HIGH)
        } else if self.source_above(64, value) == self.source_above(64, old) {
            value
        } else {
            self.vector_of(old, value, 64, encoding::MERGE_DOUBLE)
        };
        self.set_vector(register, whole);
    }

    fn set_only_double(&mut self, register: u8, value: Value) {
        let value = self.vector_of_double(value);
        self.set_vector(register, value);
    }

    fn single(&mut self, register: u8) -> Value {
        self.vector(register)
    }

    fn set_single(&mut self, register: u8, value: Value) {
        let old = self.vector(register);
        let whole = if self.source_above(32, value) == self.source_above(32, old) {
            value
        } else {
            self.vector_of(old, value, 32, encoding::MERGE_SINGLE)
        };
        self.set_vector(register, whole);
    }

    fn set_only_single(&mut self, register: u8, value: Value) {
        let value = self.vector_of_single(value);
        self.set_vector(register, value);
    }

    fn load_vectors<const N: usize>(&mut self, op: &Op, aligned: bool) -> Result<[Value; N], Untranslatable> {
        let host = self.vector_host(op, 16 * N as u64, aligned, Kind::Read);
        Ok(from_fn(|i| self.vector_value(Opcode::VectorLoad, [host, NONE, NONE], 128, 16 * i as u64)))
    }

    fn store_vectors<const N: usize>(
        &mut self,
        op: &Op,
        aligned: bool,
        value: [Value; N],
    ) -> Result<(), Untranslatable> {
        let host = self.vector_host(op, 16 * N as u64, aligned, Kind::Write);
        for (i, value) in value.into_iter().enumerate() {
            self.list(Opcode::VectorStore, [host, value, NONE], 128, 16 * i as u64);
        }
        Ok(())
    }

    fn load_double(&mut self, op: &Op) -> Result<Value, Untranslatable> {
        Ok(self.load_part(op, 64))
    }

    fn store_double(&mut self, op: &Op, value: Value) -> Result<(), Untranslatable> {
        self.store_part(op, 64, value);
        Ok(())
    }

    fn load_single(&mut self, op: &Op) -> Result<Value, Untranslatable> {
        Ok(self.load_part(op, 32))
    }

    fn store_single(&mut self, op: &Op, value: Value) -> Result<(), Untranslatable> {
        self.store_part(op, 32, value);
        Ok(())
    }

    fn double_of(&mut self, value: Value) -> Value {
        self.of_int(NONE, value, encoding::OF_INT[1])
    }

    fn single_of(&mut self, value: Value) -> Value {
        self.of_int(NONE, value, encoding::OF_INT[0])
    }

    fn double_bits(&mut self, value: Value) -> Value {
        self.int_of(value, 64, encoding::TO_INT[1])
    }

    fn single_bits(&mut self, value: Value) -> Value {
        self.int_of(value, 32, encoding::TO_INT[0])
    }

    fn vector_of_double(&mut self, value: Value) -> Value {
        if self.is_clear_above(64, value) {
            return value;
        }
        self.vector_of(NONE, value, 128, encoding::ONLY_DOUBLE)
    }

    fn vector_of_single(&mut self, value: Value) -> Value {
        if self.is_clear_above(32, value) {
            return value;
        }
        let zero = self.zero_vector();
        self.vector_of(zero, value, 32, encoding::MERGE_SINGLE)
    }

    fn packed<O: Operation>(&mut self, a: Value, b: Value, immediate: u8) -> Value {
        if a == b && O::KIND == PackedOperation::Pxor {
            return self.zero_vector();
        }
        let (encoding, has_first) = encoding::packed(O::KIND, immediate);
        self.vector_of(if has_first { a } else { NONE }, b, 128, encoding)
    }

    fn sign_bits(&mut self, a: Value, lane_bits: u32) -> Value {
        self.int_of(a, 128 / lane_bits, encoding::sign_bits(lane_bits))
    }

    fn extract(&mut self, a: Value, lane_bits: u32, lane: u32) -> Value {
        self.int_of(a, lane_bits, encoding::extraction(lane_bits, lane))
    }

    fn insert(&mut self, a: Value, lane_bits: u32, lane: u32, value: Value) -> Value {
        self.of_int(a, value, encoding::insertion(lane_bits, lane))
    }

    fn arith_single(&mut self, operation: Arith, a: Value, b: Value) -> Result<Value, Untranslatable> {
        Ok(self.vector_of(a, b, 32, encoding::arithmetic(operation, false, false)))
    }

    fn arith_double(&mut self, operation: Arith, a: Value, b: Value) -> Result<Value, Untranslatable> {
        Ok(self.vector_of(a, b, 64, encoding::arithmetic(operation, true, false)))
    }

    fn arith_singles<const N: usize>(
        &mut self,
        operation: Arith,
        a: [Value; N],
        b: [Value; N],
    ) -> Result<[Value; N], Untranslatable> {
        Ok(self.arith(operation, a, b, false))
    }

    fn arith_doubles<const N: usize>(
        &mut self,
        operation: Arith,
        a: [Value; N],
        b: [Value; N],
    ) -> Result<[Value; N], Untranslatable> {
        Ok(self.arith(operation, a, b, true))
    }

    fn fused_single(&mut self, operation: Fused, abc: [Value; 3]) -> Result<Value, Untranslatable> {
        self.fused(operation, abc, 32, false)
    }

    fn fused_double(&mut self, operation: Fused, abc: [Value; 3]) -> Result<Value, Untranslatable> {
        self.fused(operation, abc, 64, true)
    }

    fn fused_singles<const N: usize>(
        &mut self,
        operation: Fused,
        abc: [[Value; N]; 3],
    ) -> Result<[Value; N], Untranslatable> {
        self.fused_lanes(operation, abc, false)
    }

    fn fused_doubles<const N: usize>(
        &mut self,
        operation: Fused,
        abc: [[Value; N]; 3],
    ) -> Result<[Value; N], Untranslatable> {
        self.fused_lanes(operation, abc, true)
    }

    fn compare_single(&mut self, predicate: u8, a: Value, b: Value) -> Result<Value, Untranslatable> {
        Ok(self.vector_of(a, b, 32, encoding::comparison(predicate, false, false)))
    }

    fn compare_double(&mut self, predicate: u8, a: Value, b: Value) -> Result<Value, Untranslatable> {
        Ok(self.vector_of(a, b, 64, encoding::comparison(predicate, true, false)))
    }

    fn compare_singles<const N: usize>(
        &mut self,
        predicate: u8,
        a: [Value; N],
        b: [Value; N],
    ) -> Result<[Value; N], Untranslatable> {
        let encoding = encoding::comparison(predicate, false, true);
        Ok(from_fn(|i| self.vector_of(a[i], b[i], 128, encoding)))
    }

    fn compare_doubles<const N: usize>(
        &mut self,
        predicate: u8,
        a: [Value; N],
        b: [Value; N],
    ) -> Result<[Value; N], Untranslatable> {
        let encoding = encoding::comparison(predicate, true, true);
        Ok(from_fn(|i| self.vector_of(a[i], b[i], 128, encoding)))
    }

    fn order_single(&mut self, a: Value, b: Value, quiet: bool) -> Result<(), Untranslatable> {
        self.order(a, b, encoding::order(quiet, false));
        Ok(())
    }

    fn order_double(&mut self, a: Value, b: Value, quiet: bool) -> Result<(), Untranslatable> {
        self.order(a, b, encoding::order(quiet, true));
        Ok(())
    }

    fn widen(&mut self, a: Value) -> Result<Value, Untranslatable> {
        Ok(self.vector_of(a, a, 64, encoding::resizing(true)))
    }

    fn narrow(&mut self, a: Value) -> Result<Value, Untranslatable> {
        Ok(self.vector_of(a, a, 32, encoding::resizing(false)))
    }

    fn single_of_int(&mut self, a: Value, size: IntSize) -> Result<Value, Untranslatable> {
        Ok(self.of_int(NONE, a, encoding::of_int(false, size == IntSize::I64)))
    }

    fn double_of_int(&mut self, a: Value, size: IntSize) -> Result<Value, Untranslatable> {
        Ok(self.of_int(NONE, a, encoding::of_int(true, size == IntSize::I64)))
    }

    fn int_of_single(&mut self, a: Value, size: IntSize, truncate: bool) -> Result<Value, Untranslatable> {
        let wide = size == IntSize::I64;
        Ok(self.int_of(a, if wide { 64 } else { 32 }, encoding::to_int(false, wide, truncate)))
    }

    fn int_of_double(&mut self, a: Value, size: IntSize, truncate: bool) -> Result<Value, Untranslatable> {
        let wide = size == IntSize::I64;
        Ok(self.int_of(a, if wide { 64 } else { 32 }, encoding::to_int(true, wide, truncate)))
    }

    fn convert<const N: usize>(
        &mut self,
        conversion: Conversion,
        a: [Value; N],
    ) -> Result<[Value; N], Untranslatable> {
        let encoding = encoding::conversion(conversion);
        Ok(from_fn(|i| self.vector_of(NONE, a[i], 128, encoding)))
    }
}
