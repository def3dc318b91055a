//! The translator's micro-operations: each emits the IR that computes it.

use crate::access::Kind;
use crate::translator::{Translator, Untranslatable};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I8, I16, I32, I64, Type};
use cranelift_codegen::ir::{InstBuilder, Value};
use rx86_cpu::op::{Op, Reg, op_flags, reg};
use rx86_cpu::ops::{FlagsOf, Hard, MicroOps};
use rx86_cpu::state::ArithFlags;
use rx86_cpu::width::{W64, Width};

pub(crate) const fn type_of<W: Width>() -> Type {
    match W::BITS {
        8 => I8,
        16 => I16,
        32 => I32,
        _ => I64,
    }
}

macro_rules! binary {
    ($($(#[$doc:meta])* $name:ident = $instruction:ident;)*) => {$(
        $(#[$doc])*
        fn $name(&mut self, a: Value, b: Value) -> Value {
            self.builder.ins().$instruction(a, b)
        }
    )*};
}

macro_rules! unary {
    ($($name:ident = $instruction:ident;)*) => {$(
        fn $name(&mut self, a: Value) -> Value {
            self.builder.ins().$instruction(a)
        }
    )*};
}

impl Translator<'_> {
    fn compare(&mut self, condition: IntCC, a: Value, b: Value) -> Value {
        let holds = self.builder.ins().icmp(condition, a, b);
        self.builder.ins().uextend(I64, holds)
    }

    /// `value` with its low `bits` from bit `shift` on replaced by those of `part`.
    fn insert<W: Width>(&mut self, value: Value, part: Value, shift: u8) -> Value {
        let part = self.truncate::<W>(part);
        // Nothing is kept where the rest is known to be zero.
        if shift == 0 && self.significant_bits(value) <= W::BITS {
            return part;
        }
        let part = if shift == 0 { part } else { self.builder.ins().ishl_imm_u(part, i64::from(shift)) };
        let kept = self.builder.ins().band_imm_s(value, !(W::MASK << shift) as i64);
        self.builder.ins().bor(kept, part)
    }
}

impl Translator<'_> {
    /// An atomic read-modify-write: compares and exchanges until nobody has come between. Returns the old and the new value.
    fn exchange_until_equal<W: Width>(
        &mut self,
        host: Value,
        change: impl Fn(&mut Self, Value) -> Value,
    ) -> (Value, Value) {
        let width = type_of::<W>();
        let first = self.load_host::<W>(host);
        let (again, done) = (self.builder.create_block(), self.builder.create_block());
        let old = self.builder.append_block_param(again, I64);
        self.builder.ins().jump(again, &[first.into()]);

        self.builder.switch_to_block(again);
        let new = change(self, old);
        let (expected, wanted) = (self.low_bits(old, width), self.low_bits(new, width));
        let found = self.builder.ins().atomic_cas(self.regions.guest, host, expected, wanted);
        let same = self.builder.ins().icmp(IntCC::Equal, found, expected);
        let found = if width == I64 { found } else { self.builder.ins().uextend(I64, found) };
        self.builder.ins().brif(same, done, &[], again, &[found.into()]);

        self.builder.switch_to_block(done);
        self.after_locked();
        (old, new)
    }
}

impl MicroOps for Translator<'_> {
    type Int = Value;
    type Fault = Untranslatable;

    fn constant(&mut self, value: u64) -> Value {
        self.builder.ins().iconst(I64, value as i64)
    }

    fn get<W: Width>(&mut self, reg: Reg) -> Value {
        let value = self.register(reg);
        if W::BITS == 8 && reg & reg::HIGH_BYTE != 0 {
            let high = self.builder.ins().ushr_imm_u(value, 8);
            return self.truncate::<W>(high);
        }
        self.truncate::<W>(value)
    }

    fn put<W: Width>(&mut self, reg: Reg, value: Value) {
        let value = match W::BITS {
            8 | 16 => {
                let shift = if W::BITS == 8 { (reg & reg::HIGH_BYTE) >> 3 } else { 0 };
                let old = self.register(reg);
                self.insert::<W>(old, value, shift)
            }
            _ => self.truncate::<W>(value),
        };
        self.set_register(reg, value);
    }

    fn effective_address(&mut self, op: &Op) -> Value {
        self.address_offset(op)
    }

    fn load<W: Width>(&mut self, op: &Op) -> Result<Value, Untranslatable> {
        let host = self.operand_host::<W>(op, Kind::Read);
        Ok(self.load_host::<W>(host))
    }

    fn load_at<W: Width>(&mut self, op: &Op, displacement: Value) -> Result<Value, Untranslatable> {
        let linear = self.operand_linear(op, Some(displacement));
        let host = self.host_address::<W>(linear, Kind::Read);
        Ok(self.load_host::<W>(host))
    }

    fn store<W: Width>(&mut self, op: &Op, value: Value) -> Result<(), Untranslatable> {
        let host = self.operand_host::<W>(op, Kind::Write);
        self.store_host::<W>(host, value);
        Ok(())
    }

    fn modify_at<W: Width>(
        &mut self,
        op: &Op,
        displacement: Value,
        change: impl Fn(&mut Self, Value) -> Value,
    ) -> Result<(Value, Value), Untranslatable> {
        let host = if self.constant_value(displacement) == Some(0) {
            self.operand_host::<W>(op, Kind::Write)
        } else {
            let linear = self.operand_linear(op, Some(displacement));
            self.host_address::<W>(linear, Kind::Write)
        };
        if op.has(op_flags::LOCK) {
            // Those that are not aligned are the interpreter's.
            let low = self.builder.ins().band_imm_u(host, W::BYTES as i64 - 1);
            let aligned = self.builder.ins().icmp_imm_u(IntCC::Equal, low, 0);
            self.side_exit_unless(aligned);
            return Ok(self.exchange_until_equal::<W>(host, change));
        }
        let old = self.load_host::<W>(host);
        let new = change(self, old);
        self.store_host::<W>(host, new);
        Ok((old, new))
    }

    fn push<W: Width>(&mut self, _op: &Op, value: Value) -> Result<(), Untranslatable> {
        let top = self.register(reg::RSP);
        let top = self.add_constant(top, W::BYTES.wrapping_neg());
        let host = self.member_host::<W>(Kind::Write, |_| top);
        self.store_host::<W>(host, value);
        self.set_register(reg::RSP, top);
        Ok(())
    }

    fn peek_stack<W: Width>(&mut self, _op: &Op) -> Result<Value, Untranslatable> {
        let host = self.member_host::<W>(Kind::Read, |t| t.register(reg::RSP));
        Ok(self.load_host::<W>(host))
    }

    fn release_stack(&mut self, _op: &Op, bytes: u64) {
        let top = self.register(reg::RSP);
        let top = self.add_constant(top, bytes);
        self.set_register(reg::RSP, top);
    }

    fn set_stack(&mut self, value: Value) {
        self.set_register(reg::RSP, value);
    }

    binary! {
        add = iadd;
        mul = imul;
        mul_high_unsigned = umulhi;
        mul_high_signed = smulhi;
        and = band;
        or = bor;
        /// Cranelift's shifts take the count modulo the width, too.
        shl = ishl;
        shr = ushr;
        sar = sshr;
    }

    fn sub(&mut self, a: Value, b: Value) -> Value {
        // Of one register this sets zero, and the register need not be loaded.
        if a == b { self.constant(0) } else { self.builder.ins().isub(a, b) }
    }

    fn xor(&mut self, a: Value, b: Value) -> Value {
        if a == b { self.constant(0) } else { self.builder.ins().bxor(a, b) }
    }

    unary! {
        count_ones = popcnt;
        leading_zeros = clz;
        trailing_zeros = ctz;
        swap_bytes = bswap;
    }

    fn sign_extend<W: Width>(&mut self, a: Value) -> Value {
        if W::BITS == 64 {
            return a;
        }
        let low = self.builder.ins().ireduce(type_of::<W>(), a);
        self.builder.ins().sextend(I64, low)
    }

    fn truncate<W: Width>(&mut self, a: Value) -> Value {
        self.cut_to(a, type_of::<W>())
    }

    fn equal(&mut self, a: Value, b: Value) -> Value {
        self.compare(IntCC::Equal, a, b)
    }

    fn less_unsigned(&mut self, a: Value, b: Value) -> Value {
        self.compare(IntCC::UnsignedLessThan, a, b)
    }

    fn select(&mut self, condition: Value, a: Value, b: Value) -> Value {
        self.builder.ins().select(condition, a, b)
    }

    fn flags(&mut self) -> ArithFlags<Value> {
        self.arithmetic_flags()
    }

    fn set_flags(&mut self, flags: ArithFlags<Value>) {
        self.set_arithmetic_flags(flags);
    }

    fn remember_flags<W: Width>(&mut self, of: FlagsOf<Value>) -> bool {
        self.set_operation(type_of::<W>(), of);
        true
    }

    fn known_condition(&mut self, code: u8) -> Option<Value> {
        self.known_condition_of(code)
    }

    fn check_target(&mut self, target: Value) -> Result<(), Untranslatable> {
        self.require_canonical(target);
        Ok(())
    }

    fn jump(&mut self, target: Value) -> Result<(), Untranslatable> {
        self.continue_at(target);
        Ok(())
    }

    fn branch(&mut self, op: &Op, condition: Value) -> Result<(), Untranslatable> {
        if op.operand_bits() != W64::BITS {
            return Err(Untranslatable);
        }
        match self.constant_value(condition) {
            Some(0) => {}
            Some(_) => {
                let target = self.next_rip(op.immediate);
                self.require_canonical(target);
                self.continue_at(target);
            }
            None => self.branch_if(condition, op.immediate),
        }
        Ok(())
    }

    fn call(&mut self, _function: Hard, _op: &Op) -> Result<(), Untranslatable> {
        Err(Untranslatable)
    }
}
