//! Floating point as the host's, under the guest's MXCSR.

use super::HOST_FLOATING_POINT;
use crate::context::JitContext;
use crate::translator::{Translator, Untranslatable};
use cranelift_codegen::ir::condcodes::{CondCode, FloatCC, IntCC};
use cranelift_codegen::ir::types::{F32, F32X4, F64, F64X2, I8X16, I32, I32X4, I64, I64X2, Type};
use cranelift_codegen::ir::{InstBuilder, InstructionData, Opcode, Value, ValueDef};
use rx86_cpu::float::{Arith, Fused, IntSize};
use rx86_cpu::simd::packed::Conversion;
use rx86_cpu::state::ArithFlags;
use std::mem::offset_of;

impl Translator<'_> {
    /// Hosts without the guest's floating point call functions for it.
    pub(super) fn host_floating_point(&self) -> Result<(), Untranslatable> {
        if HOST_FLOATING_POINT { Ok(()) } else { Err(Untranslatable) }
    }

    /// Notes an operation that must be executed for its flags.
    fn operation(&mut self, value: Value) -> Value {
        self.vectors.operations.push(value);
        value
    }

    fn opcode_of(&self, value: Value) -> Option<Opcode> {
        let graph = &self.builder.func.dfg;
        match graph.value_def(graph.resolve_aliases(value)) {
            ValueDef::Result(instruction, _) => Some(graph.insts[instruction].opcode()),
            _ => None,
        }
    }

    /// Whether a value is known when translating, for all that Cranelift can see.
    fn is_constant(&self, value: Value) -> bool {
        let graph = &self.builder.func.dfg;
        let mut value = graph.resolve_aliases(value);
        loop {
            let ValueDef::Result(instruction, _) = graph.value_def(value) else { return false };
            value = match graph.insts[instruction] {
                InstructionData::UnaryImm { .. }
                | InstructionData::UnaryIeee32 { .. }
                | InstructionData::UnaryIeee64 { .. } => return true,
                InstructionData::Unary { arg, .. } | InstructionData::LoadNoOffset { arg, .. } => {
                    graph.resolve_aliases(arg)
                }
                _ => return false,
            };
        }
    }

    /// The first operand of an operation in a form in which it stays the first: Cranelift makes a load the second operand
    /// of what commutes, and computes what is constant; it does neither with a lane.
    fn settled(&mut self, value: Value) -> Value {
        let is_exposed = self.opcode_of(value) == Some(Opcode::Load) || self.is_constant(value);
        let of = self.builder.func.dfg.value_type(value);
        if !is_exposed || of.is_vector() {
            return value;
        }
        let lanes = if of == F32 { F32X4 } else { F64X2 };
        let vector = self.builder.ins().scalar_to_vector(lanes, value);
        self.builder.ins().extractlane(vector, 0)
    }

    /// Arithmetic of scalars or lanes of one type.
    pub(super) fn emit_arith(
        &mut self,
        operation: Arith,
        a: Value,
        b: Value,
    ) -> Result<Value, Untranslatable> {
        if operation == Arith::Sqrt {
            let b = self.settled(b);
            let value = self.builder.ins().sqrt(b);
            return Ok(self.operation(value));
        }
        let first = a;
        let a = self.settled(a);
        let ins = self.builder.ins();
        let value = match operation {
            Arith::Add => ins.fadd(a, b),
            Arith::Sub => ins.fsub(a, b),
            Arith::Mul => ins.fmul(a, b),
            Arith::Div => ins.fdiv(a, b),
            // One value twice would be optimized away, with the flag it may raise.
            _ if self.origin(first) == self.origin(b) => return Err(Untranslatable),
            Arith::Min => self.select_less(a, b, a, b),
            _ => self.select_less(b, a, a, b),
        };
        Ok(self.operation(value))
    }

    /// What a value is the bits of, and which lane of it.
    fn origin(&self, value: Value) -> (Value, Option<u8>) {
        let graph = &self.builder.func.dfg;
        let (mut value, mut lane) = (graph.resolve_aliases(value), None);
        while let ValueDef::Result(instruction, _) = graph.value_def(value) {
            value = match graph.insts[instruction] {
                InstructionData::LoadNoOffset { opcode: Opcode::Bitcast, arg, .. } => arg,
                InstructionData::BinaryImm8 { opcode: Opcode::Extractlane, arg, imm } if lane.is_none() => {
                    lane = Some(imm);
                    arg
                }
                _ => break,
            };
            value = graph.resolve_aliases(value);
        }
        (value, lane)
    }

    /// `a` where x < y, else `b`: in this form, with x and y being a and b, it is MIN or MAX.
    fn select_less(&mut self, x: Value, y: Value, a: Value, b: Value) -> Value {
        let less = self.builder.ins().fcmp(FloatCC::LessThan, x, y);
        let of = self.builder.func.dfg.value_type(a);
        if !of.is_vector() {
            return self.builder.ins().select(less, a, b);
        }
        let less = self.recast(of, less);
        self.builder.ins().bitselect(less, a, b)
    }

    /// `a * b + c` and its kin.
    pub(super) fn emit_fused(
        &mut self,
        operation: Fused,
        [a, b, c]: [Value; 3],
    ) -> Result<Value, Untranslatable> {
        if !self.vectors.host().fused {
            return Err(Untranslatable);
        }
        // The host's form multiplies its second operand by its first.
        let multiplicand = self.settled(a);
        let mut multiplier = b;
        let mut addend = c;
        if matches!(operation, Fused::NegAdd | Fused::NegSub) {
            multiplier = self.builder.ins().fneg(multiplier);
        }
        if matches!(operation, Fused::Sub | Fused::NegSub) {
            addend = self.builder.ins().fneg(addend);
        }
        let value = self.builder.ins().fma(multiplier, multiplicand, addend);
        Ok(self.operation(value))
    }

    /// The comparison of a predicate of VCMPPS, in lanes of `a`'s type: all ones or zeros.
    pub(super) fn emit_compare(
        &mut self,
        predicate: u8,
        a: Value,
        b: Value,
    ) -> Result<Value, Untranslatable> {
        let condition = match predicate {
            0 => FloatCC::Equal,
            1 => FloatCC::LessThan,
            2 => FloatCC::LessThanOrEqual,
            3 => FloatCC::Unordered,
            4 => FloatCC::NotEqual,
            5 => FloatCC::UnorderedOrGreaterThanOrEqual,
            6 => FloatCC::UnorderedOrGreaterThan,
            7 => FloatCC::Ordered,
            13 => FloatCC::GreaterThanOrEqual,
            14 => FloatCC::GreaterThan,
            _ => return Err(Untranslatable),
        };
        let value = self.builder.ins().fcmp(condition, a, b);
        Ok(self.operation(value))
    }

    /// The same of scalars, as the lowest lane of a packed comparison: only those signal as predicates say.
    pub(super) fn emit_compare_scalar(
        &mut self,
        predicate: u8,
        a: Value,
        b: Value,
    ) -> Result<Value, Untranslatable> {
        let of = self.scalar_type(a);
        let lanes = if of == F32 { F32X4 } else { F64X2 };
        let [a, b] = [a, b].map(|value| self.builder.ins().scalar_to_vector(lanes, value));
        let value = self.emit_compare(predicate, a, b)?;
        let value = self.recast(lanes, value);
        Ok(self.builder.ins().extractlane(value, 0))
    }

    /// Sets the flags as UCOMISD (`quiet`) or COMISD does.
    pub(super) fn emit_order(&mut self, a: Value, b: Value, quiet: bool) {
        let unordered = self.builder.ins().fcmp(FloatCC::Unordered, a, b);
        if quiet {
            let instruction = match self.builder.func.dfg.value_def(unordered) {
                ValueDef::Result(instruction, _) => instruction,
                _ => unreachable!("fcmp is an instruction"),
            };
            self.vectors.comparisons.push((instruction, a, b));
        } else {
            self.signal_if(unordered);
        }
        let mut holds = |condition| {
            let holds = self.builder.ins().fcmp(condition, a, b);
            self.builder.ins().uextend(I64, holds)
        };
        let below = holds(FloatCC::UnorderedOrLessThan);
        let not_equal = holds(FloatCC::OrderedNotEqual);
        let ordered = holds(FloatCC::Ordered);
        // As `ArithFlags::from_rflags` has it: ZF, CF with CF xor OF, PF.
        let result = self.builder.ins().ishl_imm_u(not_equal, 8);
        let carry = self.builder.ins().imul_imm_s(below, 3);
        let carry = self.builder.ins().ishl_imm_u(carry, 62);
        let parity = self.builder.ins().ishl_imm_u(ordered, 8);
        let aux = self.builder.ins().bor(carry, parity);
        self.set_arithmetic_flags(ArithFlags { result, aux });
        self.note_order(a, b);
    }

    /// Condition `code` of the flags that UCOMISD of a and b set, as 0 or 1.
    pub(crate) fn condition_of_order(&mut self, a: Value, b: Value, code: u8) -> Option<Value> {
        let condition = match code >> 1 {
            1 => FloatCC::UnorderedOrLessThan,
            2 => FloatCC::UnorderedOrEqual,
            3 => FloatCC::UnorderedOrLessThanOrEqual,
            5 => FloatCC::Unordered,
            _ => return None,
        };
        let condition = if code & 1 == 0 { condition } else { condition.complement() };
        let holds = self.builder.ins().fcmp(condition, a, b);
        Some(self.builder.ins().uextend(I64, holds))
    }

    /// Raises the invalid exception if a condition holds, which is rare.
    fn signal_if(&mut self, condition: Value) {
        let (cold, next) = (self.builder.create_block(), self.builder.create_block());
        self.builder.set_cold_block(cold);
        self.builder.ins().brif(condition, cold, &[], next, &[]);
        self.builder.switch_to_block(cold);
        let offset = offset_of!(JitContext, signalling_nan) as i32;
        let flags = self.regions.exchange;
        let signalling = self.builder.ins().load(F64, flags, self.context, offset);
        let quiet = self.builder.ins().fadd(signalling, signalling);
        self.store_exchange(quiet, offset_of!(JitContext, scratch));
        self.builder.ins().jump(next, &[]);
        self.builder.switch_to_block(next);
    }

    pub(super) fn emit_widen(&mut self, a: Value) -> Value {
        let value = self.builder.ins().fpromote(F64, a);
        self.operation(value)
    }

    pub(super) fn emit_narrow(&mut self, a: Value) -> Value {
        let value = self.builder.ins().fdemote(F32, a);
        self.operation(value)
    }

    /// A signed integer to floating point.
    pub(super) fn emit_of_int(&mut self, to: Type, a: Value, size: IntSize) -> Result<Value, Untranslatable> {
        // A constant would be converted at once, and not by the guest's rounding.
        if self.is_constant(a) {
            return Err(Untranslatable);
        }
        let a = if size == IntSize::I32 { self.builder.ins().ireduce(I32, a) } else { a };
        let value = self.builder.ins().fcvt_from_sint(to, a);
        Ok(self.operation(value))
    }

    /// A truncation to a signed integer, zero-extended; what does not fit becomes the most negative integer.
    pub(super) fn emit_truncate(&mut self, a: Value, size: IntSize) -> Value {
        let of = self.scalar_type(a);
        match (size, of) {
            (IntSize::I32, F32) => {
                let lanes = self.builder.ins().scalar_to_vector(F32X4, a);
                let value = self.builder.ins().x86_cvtt2dq(I32X4, lanes);
                self.low_int(value)
            }
            (IntSize::I32, _) => {
                let lanes = self.builder.ins().scalar_to_vector(F64X2, a);
                let value = self.truncate_doubles(lanes);
                self.low_int(value)
            }
            (IntSize::I64, _) => {
                let value = self.builder.ins().fcvt_to_sint_sat(I64, a);
                let value = self.operation(value);
                self.unsaturated(a, value)
            }
        }
    }

    fn low_int(&mut self, value: Value) -> Value {
        let value = self.operation(value);
        let value = self.builder.ins().extractlane(value, 0);
        self.builder.ins().uextend(I64, value)
    }

    /// CVTTPD2DQ: Cranelift knows it by this form.
    fn truncate_doubles(&mut self, lanes: Value) -> Value {
        let value = self.builder.ins().x86_cvtt2dq(I64X2, lanes);
        let zero = self.builder.func.dfg.constants.insert(vec![0; 16].into());
        let zero = self.builder.ins().vconst(I64X2, zero);
        self.builder.ins().snarrow(value, zero)
    }

    /// The integer that x86 gives for a saturated conversion of `a`: positive overflows and NaNs become the most negative
    /// one, too. NaNs are found by their bits: a comparison would look at denormals.
    fn unsaturated(&mut self, a: Value, value: Value) -> Value {
        let (of, infinity) = if self.scalar_type(a) == F32 {
            (I32, i64::from(0x7f80_0000u32) << 1)
        } else {
            (I64, (0x7ff0_0000_0000_0000u64 << 1) as i64)
        };
        let bits = self.recast(of, a);
        let bits = if of == I32 { self.builder.ins().uextend(I64, bits) } else { bits };
        let magnitude = self.builder.ins().ishl_imm_u(bits, 1);
        let infinity = self.builder.ins().iconst(I64, infinity);
        let magnitude =
            if of == I32 { self.builder.ins().band_imm_u(magnitude, 0xffff_ffff) } else { magnitude };
        let is_nan = self.builder.ins().icmp(IntCC::UnsignedGreaterThan, magnitude, infinity);
        let greatest = self.builder.ins().iconst(I64, i64::MAX);
        let overflows = self.builder.ins().icmp(IntCC::Equal, value, greatest);
        let invalid = self.builder.ins().bor(is_nan, overflows);
        let indefinite = self.builder.ins().iconst(I64, i64::MIN);
        self.builder.ins().select(invalid, indefinite, value)
    }

    /// A conversion of 128 bits.
    pub(super) fn emit_convert(&mut self, conversion: Conversion, a: Value) -> Result<Value, Untranslatable> {
        let from = match conversion {
            Conversion::IntsToSingles | Conversion::IntsToDoubles => I32X4,
            Conversion::TruncateSingles | Conversion::Widen => F32X4,
            Conversion::TruncateDoubles | Conversion::Narrow => F64X2,
            Conversion::RoundSingles | Conversion::RoundDoubles => return Err(Untranslatable),
        };
        let a = self.recast(from, a);
        let value = match conversion {
            Conversion::IntsToSingles => self.builder.ins().fcvt_from_sint(F32X4, a),
            Conversion::TruncateSingles => self.builder.ins().x86_cvtt2dq(I32X4, a),
            Conversion::TruncateDoubles => self.truncate_doubles(a),
            Conversion::Narrow => self.builder.ins().fvdemote(a),
            Conversion::Widen => self.builder.ins().fvpromote_low(a),
            _ => {
                let wide = self.builder.ins().swiden_low(a);
                self.builder.ins().fcvt_from_sint(F64X2, wide)
            }
        };
        let value = self.operation(value);
        Ok(self.recast(I8X16, value))
    }
}
