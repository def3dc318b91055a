//! The translator's vector micro-operations.

use crate::access::Kind;
use crate::translator::{Translator, Untranslatable};
use cranelift_codegen::ir::types::{
    F32, F32X4, F64, F64X2, I8, I8X16, I16, I16X8, I32, I32X4, I64, I64X2, Type,
};
use cranelift_codegen::ir::{InstBuilder, Value};
use rx86_cpu::float::{Arith, Fused, IntSize};
use rx86_cpu::op::Op;
use rx86_cpu::simd::packed::{Conversion, Operation, PackedOperation};
use rx86_cpu::vector_ops::VectorOps;
use rx86_cpu::width::{W32, W64, Width};

/// An access of 128 bits.
#[derive(Clone, Copy)]
struct Bits128;

impl Width for Bits128 {
    const BITS: u32 = 128;
    const MASK: u64 = u64::MAX;
    const SIGN: u64 = 0;
}

/// An access of 256 bits.
#[derive(Clone, Copy)]
struct Bits256;

impl Width for Bits256 {
    const BITS: u32 = 256;
    const MASK: u64 = u64::MAX;
    const SIGN: u64 = 0;
}

fn number(register: u8) -> usize {
    usize::from(register & 15)
}

/// Lanes of `bits` bits: the type of a vector of them, and of one.
fn lanes_of(bits: u32) -> (Type, Type) {
    match bits {
        8 => (I8X16, I8),
        16 => (I16X8, I16),
        32 => (I32X4, I32),
        _ => (I64X2, I64),
    }
}

impl Translator<'_> {
    /// The host address of `N` times 128 bits.
    fn vectors_address<const N: usize>(&mut self, op: &Op, aligned: bool, kind: Kind) -> Value {
        let linear = self.operand_linear(op, None);
        if aligned {
            self.require_aligned(linear, 16 * N as u64);
        }
        if N == 1 {
            self.member_host::<Bits128>(kind, |_| linear)
        } else {
            self.member_host::<Bits256>(kind, |_| linear)
        }
    }

    fn load_scalar<W: Width>(&mut self, of: Type, op: &Op) -> Value {
        let host = self.operand_host::<W>(op, Kind::Read);
        self.load_guest(of, host, 0)
    }

    fn store_scalar<W: Width>(&mut self, op: &Op, value: Value) {
        let host = self.operand_host::<W>(op, Kind::Write);
        self.store_guest(value, host, 0);
    }

    /// Applies `f` to vectors of the same lanes, which it gives back as such.
    fn in_lanes<const N: usize, const COUNT: usize>(
        &mut self,
        lanes: Type,
        operands: [[Value; N]; COUNT],
        f: impl Fn(&mut Self, [Value; COUNT]) -> Result<Value, Untranslatable>,
    ) -> Result<[Value; N], Untranslatable> {
        let mut result = operands[0];
        for (i, slot) in result.iter_mut().enumerate() {
            let operands = operands.map(|operand| self.recast(lanes, operand[i]));
            let value = f(self, operands)?;
            *slot = self.recast(I8X16, value);
        }
        Ok(result)
    }
}

impl VectorOps for Translator<'_> {
    type Vector = Value;
    type Double = Value;
    type Single = Value;

    fn vector(&mut self, register: u8) -> Value {
        self.whole(number(register))
    }

    fn set_vector(&mut self, register: u8, value: Value) {
        self.set_whole(number(register), value);
    }

    fn upper(&mut self, register: u8) -> Value {
        self.upper_half(number(register))
    }

    fn set_upper(&mut self, register: u8, value: Value) {
        self.set_upper_half(number(register), value);
    }

    fn clear_upper(&mut self, register: u8) {
        let zero = self.zero_vector();
        self.set_upper_half(number(register), zero);
    }

    fn double(&mut self, register: u8, half: usize) -> Value {
        self.half(number(register), half)
    }

    fn set_double(&mut self, register: u8, half: usize, value: Value) {
        self.set_half(number(register), half, value);
    }

    fn set_only_double(&mut self, register: u8, value: Value) {
        self.set_only_half(number(register), value);
    }

    fn single(&mut self, register: u8) -> Value {
        self.low_single(number(register))
    }

    fn set_single(&mut self, register: u8, value: Value) {
        self.set_low_single(number(register), value);
    }

    fn set_only_single(&mut self, register: u8, value: Value) {
        let value = self.vector_of_single(value);
        self.set_whole(number(register), value);
    }

    fn load_vectors<const N: usize>(&mut self, op: &Op, aligned: bool) -> Result<[Value; N], Untranslatable> {
        let host = self.vectors_address::<N>(op, aligned, Kind::Read);
        Ok(std::array::from_fn(|i| self.load_guest(I8X16, host, 16 * i as i32)))
    }

    fn store_vectors<const N: usize>(
        &mut self,
        op: &Op,
        aligned: bool,
        value: [Value; N],
    ) -> Result<(), Untranslatable> {
        let host = self.vectors_address::<N>(op, aligned, Kind::Write);
        for (i, value) in value.into_iter().enumerate() {
            self.store_guest(value, host, 16 * i as i32);
        }
        Ok(())
    }

    fn load_double(&mut self, op: &Op) -> Result<Value, Untranslatable> {
        Ok(self.load_scalar::<W64>(F64, op))
    }

    fn store_double(&mut self, op: &Op, value: Value) -> Result<(), Untranslatable> {
        self.store_scalar::<W64>(op, value);
        Ok(())
    }

    fn load_single(&mut self, op: &Op) -> Result<Value, Untranslatable> {
        Ok(self.load_scalar::<W32>(F32, op))
    }

    fn store_single(&mut self, op: &Op, value: Value) -> Result<(), Untranslatable> {
        self.store_scalar::<W32>(op, value);
        Ok(())
    }

    fn double_of(&mut self, value: Value) -> Value {
        self.recast(F64, value)
    }

    fn single_of(&mut self, value: Value) -> Value {
        let value = self.builder.ins().ireduce(I32, value);
        self.recast(F32, value)
    }

    fn double_bits(&mut self, value: Value) -> Value {
        self.recast(I64, value)
    }

    fn single_bits(&mut self, value: Value) -> Value {
        let value = self.recast(I32, value);
        self.builder.ins().uextend(I64, value)
    }

    fn vector_of_double(&mut self, value: Value) -> Value {
        let value = self.builder.ins().scalar_to_vector(F64X2, value);
        self.recast(I8X16, value)
    }

    fn vector_of_single(&mut self, value: Value) -> Value {
        let value = self.builder.ins().scalar_to_vector(F32X4, value);
        self.recast(I8X16, value)
    }

    fn packed<O: Operation>(&mut self, a: Value, b: Value, immediate: u8) -> Value {
        self.emit_packed(O::KIND, a, b, immediate)
    }

    fn bitwise<O: Operation>(&mut self, register: u8, b: Value) {
        let register = number(register);
        let Some(halves) = self.kept_halves(register) else {
            let a = self.whole(register);
            if a == b && O::KIND == PackedOperation::Pxor {
                return self.clear(register);
            }
            let value = self.packed::<O>(a, b, 0);
            return self.set_whole(register, value);
        };
        // A register with itself joins to one value.
        let a = self.whole(register);
        if a == b && O::KIND == PackedOperation::Pxor {
            return self.clear(register);
        }
        let halves = [0, 1].map(|half| {
            let (a, b) = (halves[half], self.half_of(b, half));
            match O::KIND {
                PackedOperation::Pand => self.builder.ins().band(a, b),
                PackedOperation::Pandn => {
                    let (a, b) = (self.recast(I64, a), self.recast(I64, b));
                    let value = self.builder.ins().band_not(b, a);
                    self.recast(F64, value)
                }
                PackedOperation::Por => self.builder.ins().bor(a, b),
                _ => self.builder.ins().bxor(a, b),
            }
        });
        self.set_halves(register, halves);
    }

    fn sign_bits(&mut self, a: Value, lane_bits: u32) -> Value {
        let (lanes, _) = lanes_of(lane_bits);
        let a = self.recast(lanes, a);
        let value = self.builder.ins().vhigh_bits(I32, a);
        self.builder.ins().uextend(I64, value)
    }

    fn extract(&mut self, a: Value, lane_bits: u32, lane: u32) -> Value {
        let (lanes, _) = lanes_of(lane_bits);
        let a = self.recast(lanes, a);
        let value = self.builder.ins().extractlane(a, lane as u8);
        if lane_bits == 64 { value } else { self.builder.ins().uextend(I64, value) }
    }

    fn insert(&mut self, a: Value, lane_bits: u32, lane: u32, value: Value) -> Value {
        let (lanes, one) = lanes_of(lane_bits);
        let a = self.recast(lanes, a);
        let value = if lane_bits == 64 { value } else { self.builder.ins().ireduce(one, value) };
        let value = self.builder.ins().insertlane(a, value, lane as u8);
        self.recast(I8X16, value)
    }

    fn need_floating_point(&mut self) -> Result<(), Untranslatable> {
        self.host_floating_point()
    }

    fn arith_single(&mut self, operation: Arith, a: Value, b: Value) -> Result<Value, Untranslatable> {
        self.emit_arith(operation, a, b)
    }

    fn arith_double(&mut self, operation: Arith, a: Value, b: Value) -> Result<Value, Untranslatable> {
        self.emit_arith(operation, a, b)
    }

    fn arith_singles<const N: usize>(
        &mut self,
        operation: Arith,
        a: [Value; N],
        b: [Value; N],
    ) -> Result<[Value; N], Untranslatable> {
        self.in_lanes(F32X4, [a, b], |t, [a, b]| t.emit_arith(operation, a, b))
    }

    fn arith_doubles<const N: usize>(
        &mut self,
        operation: Arith,
        a: [Value; N],
        b: [Value; N],
    ) -> Result<[Value; N], Untranslatable> {
        self.in_lanes(F64X2, [a, b], |t, [a, b]| t.emit_arith(operation, a, b))
    }

    fn fused_single(&mut self, operation: Fused, abc: [Value; 3]) -> Result<Value, Untranslatable> {
        self.emit_fused(operation, abc)
    }

    fn fused_double(&mut self, operation: Fused, abc: [Value; 3]) -> Result<Value, Untranslatable> {
        self.emit_fused(operation, abc)
    }

    fn fused_singles<const N: usize>(
        &mut self,
        operation: Fused,
        abc: [[Value; N]; 3],
    ) -> Result<[Value; N], Untranslatable> {
        self.in_lanes(F32X4, abc, |t, abc| t.emit_fused(operation, abc))
    }

    fn fused_doubles<const N: usize>(
        &mut self,
        operation: Fused,
        abc: [[Value; N]; 3],
    ) -> Result<[Value; N], Untranslatable> {
        self.in_lanes(F64X2, abc, |t, abc| t.emit_fused(operation, abc))
    }

    fn compare_single(&mut self, predicate: u8, a: Value, b: Value) -> Result<Value, Untranslatable> {
        self.emit_compare_scalar(predicate, a, b)
    }

    fn compare_double(&mut self, predicate: u8, a: Value, b: Value) -> Result<Value, Untranslatable> {
        self.emit_compare_scalar(predicate, a, b)
    }

    fn compare_singles<const N: usize>(
        &mut self,
        predicate: u8,
        a: [Value; N],
        b: [Value; N],
    ) -> Result<[Value; N], Untranslatable> {
        self.in_lanes(F32X4, [a, b], |t, [a, b]| t.emit_compare(predicate, a, b))
    }

    fn compare_doubles<const N: usize>(
        &mut self,
        predicate: u8,
        a: [Value; N],
        b: [Value; N],
    ) -> Result<[Value; N], Untranslatable> {
        self.in_lanes(F64X2, [a, b], |t, [a, b]| t.emit_compare(predicate, a, b))
    }

    fn order_single(&mut self, a: Value, b: Value, quiet: bool) -> Result<(), Untranslatable> {
        self.emit_order(a, b, quiet);
        Ok(())
    }

    fn order_double(&mut self, a: Value, b: Value, quiet: bool) -> Result<(), Untranslatable> {
        self.emit_order(a, b, quiet);
        Ok(())
    }

    fn widen(&mut self, a: Value) -> Result<Value, Untranslatable> {
        Ok(self.emit_widen(a))
    }

    fn narrow(&mut self, a: Value) -> Result<Value, Untranslatable> {
        Ok(self.emit_narrow(a))
    }

    fn single_of_int(&mut self, a: Value, size: IntSize) -> Result<Value, Untranslatable> {
        self.emit_of_int(F32, a, size)
    }

    fn double_of_int(&mut self, a: Value, size: IntSize) -> Result<Value, Untranslatable> {
        self.emit_of_int(F64, a, size)
    }

    fn int_of_single(&mut self, a: Value, size: IntSize, truncate: bool) -> Result<Value, Untranslatable> {
        if truncate { Ok(self.emit_truncate(a, size)) } else { Err(Untranslatable) }
    }

    fn int_of_double(&mut self, a: Value, size: IntSize, truncate: bool) -> Result<Value, Untranslatable> {
        if truncate { Ok(self.emit_truncate(a, size)) } else { Err(Untranslatable) }
    }

    fn convert<const N: usize>(
        &mut self,
        conversion: Conversion,
        a: [Value; N],
    ) -> Result<[Value; N], Untranslatable> {
        self.in_lanes(I8X16, [a], |t, [a]| t.emit_convert(conversion, a))
    }
}
