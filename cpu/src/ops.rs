//! The micro-operations in which instruction meanings are written, once for every engine.
//!
//! A meaning is a function generic over `MicroOps`. The interpreter implements the trait on numbers (`Int = u64`); a
//! translator implements it by emitting code. Values are 64 bits wide; a value "of width W" has its upper bits zero.

use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::op::{Op, Reg};
use crate::state::ArithFlags;
use crate::width::Width;

/// An operation whose operands or result say what the arithmetic flags are. All values have the operation's width.
#[derive(Clone, Copy, Debug)]
pub enum FlagsOf<V> {
    /// `a - b = result`.
    Difference {
        /// The minuend.
        a: V,
        /// The subtrahend.
        b: V,
        /// The difference.
        result: V,
    },
    /// `a + b = result`, without a carry in.
    Sum {
        /// The first summand.
        a: V,
        /// The second one.
        b: V,
        /// The sum.
        result: V,
    },
    /// A logical operation.
    Logic {
        /// Its result.
        result: V,
    },
    /// INC, which leaves CF alone.
    Increment {
        /// What the value became.
        result: V,
    },
    /// DEC, which leaves CF alone.
    Decrement {
        /// What the value became.
        result: V,
    },
}

/// What instruction meanings may ask of an engine.
pub trait MicroOps: Sized {
    /// An integer value of up to 64 bits.
    type Int: Copy;
    /// What a faulting instruction returns.
    type Fault;

    /// A constant.
    fn constant(&mut self, value: u64) -> Self::Int;
    /// The immediate operand, cut to `W`.
    #[inline(always)]
    fn immediate<W: Width>(&mut self, op: &Op) -> Self::Int {
        self.constant(op.immediate & W::MASK)
    }
    /// Reads a general register, zero-extended from `W`.
    fn get<W: Width>(&mut self, reg: Reg) -> Self::Int;
    /// Writes a value of width `W` to a general register; 32-bit writes clear the upper half.
    fn put<W: Width>(&mut self, reg: Reg, value: Self::Int);
    /// The effective address of the memory operand, cut to the address size (LEA, and bit-string offsets).
    fn effective_address(&mut self, op: &Op) -> Self::Int;
    /// Reads the memory operand.
    fn load<W: Width>(&mut self, op: &Op) -> Result<Self::Int, Self::Fault>;
    /// Reads at `displacement` bytes from the memory operand (bit strings reach beyond it).
    fn load_at<W: Width>(&mut self, op: &Op, displacement: Self::Int) -> Result<Self::Int, Self::Fault>;
    /// Writes the memory operand.
    fn store<W: Width>(&mut self, op: &Op, value: Self::Int) -> Result<(), Self::Fault>;
    /// Reads, changes and writes the memory operand at `displacement` bytes from its address; atomically if `op` is
    /// locked, and then `change` may be called more than once. Returns the old and the new value. Faults as a write.
    fn modify_at<W: Width>(
        &mut self,
        op: &Op,
        displacement: Self::Int,
        change: impl Fn(&mut Self, Self::Int) -> Self::Int,
    ) -> Result<(Self::Int, Self::Int), Self::Fault>;
    /// Pushes a value of width `W`.
    fn push<W: Width>(&mut self, op: &Op, value: Self::Int) -> Result<(), Self::Fault>;
    /// Reads the value of width `W` on top of the stack; RSP is not changed until `release_stack`.
    fn peek_stack<W: Width>(&mut self, op: &Op) -> Result<Self::Int, Self::Fault>;
    /// Adds `bytes` to the stack pointer of the stack's address size.
    fn release_stack(&mut self, op: &Op, bytes: u64);

    /// Sets the stack pointer, as far as the stack's address size covers it.
    fn set_stack(&mut self, value: Self::Int);

    /// `a + b`, 64-bit wrapping.
    fn add(&mut self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// `a - b`, 64-bit wrapping.
    fn sub(&mut self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// `a * b`, low 64 bits.
    fn mul(&mut self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// High 64 bits of the unsigned product.
    fn mul_high_unsigned(&mut self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// High 64 bits of the signed product.
    fn mul_high_signed(&mut self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// Bitwise and.
    fn and(&mut self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// Bitwise or.
    fn or(&mut self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// Bitwise exclusive or.
    fn xor(&mut self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// Left shift by `count` modulo 64.
    fn shl(&mut self, a: Self::Int, count: Self::Int) -> Self::Int;
    /// Logical right shift by `count` modulo 64.
    fn shr(&mut self, a: Self::Int, count: Self::Int) -> Self::Int;
    /// Arithmetic right shift by `count` modulo 64.
    fn sar(&mut self, a: Self::Int, count: Self::Int) -> Self::Int;
    /// Sign-extends from `W` to 64 bits.
    fn sign_extend<W: Width>(&mut self, a: Self::Int) -> Self::Int;
    /// Number of one bits.
    fn count_ones(&mut self, a: Self::Int) -> Self::Int;
    /// Number of leading zeros of the 64-bit value, 64 for zero.
    fn leading_zeros(&mut self, a: Self::Int) -> Self::Int;
    /// Number of trailing zeros of the 64-bit value, 64 for zero.
    fn trailing_zeros(&mut self, a: Self::Int) -> Self::Int;
    /// Reverses the eight bytes.
    fn swap_bytes(&mut self, a: Self::Int) -> Self::Int;
    /// 1 if `a == b`, else 0.
    fn equal(&mut self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// 1 if `a < b` unsigned, else 0.
    fn less_unsigned(&mut self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// `a` if `condition` is not zero, else `b`.
    fn select(&mut self, condition: Self::Int, a: Self::Int, b: Self::Int) -> Self::Int;

    /// The values that define the arithmetic flags.
    fn flags(&mut self) -> ArithFlags<Self::Int>;
    /// Sets the values that define the arithmetic flags.
    fn set_flags(&mut self, flags: ArithFlags<Self::Int>);
    /// Sets the flags of an operation of width `W`, if the engine remembers operations in place of flags. False if it does
    /// not: then nothing has happened, and `set_flags` follows.
    #[inline(always)]
    fn remember_flags<W: Width>(&mut self, _of: FlagsOf<Self::Int>) -> bool {
        false
    }
    /// Condition `code` (0 to 15, as encoded in Jcc) as 0 or 1, if the engine knows it without looking at the flags.
    #[inline(always)]
    fn known_condition(&mut self, _code: u8) -> Option<Self::Int> {
        None
    }
    /// The fault, if a near target cannot be jumped to.
    fn check_target(&mut self, target: Self::Int) -> Result<(), Self::Fault>;
    /// Continues at a near target (an offset in CS, already cut to the operand size); checks it.
    fn jump(&mut self, target: Self::Int) -> Result<(), Self::Fault>;
    /// Continues at the displacement in `op`'s immediate if `condition` is not zero.
    fn branch(&mut self, op: &Op, condition: Self::Int) -> Result<(), Self::Fault>;

    /// Calls a plain function on the processor, for what micro-operations cannot say.
    fn call(&mut self, function: Hard, op: &Op) -> Result<(), Self::Fault>;

    /// Bitwise complement within `W`.
    #[inline(always)]
    fn not<W: Width>(&mut self, a: Self::Int) -> Self::Int {
        let mask = self.constant(W::MASK);
        self.xor(a, mask)
    }

    /// Cuts a value to width `W`.
    #[inline(always)]
    fn truncate<W: Width>(&mut self, a: Self::Int) -> Self::Int {
        if W::BITS == 64 {
            return a;
        }
        let mask = self.constant(W::MASK);
        self.and(a, mask)
    }

    /// Left shift by a constant.
    #[inline(always)]
    fn shl_by(&mut self, a: Self::Int, count: u32) -> Self::Int {
        let count = self.constant(u64::from(count));
        self.shl(a, count)
    }

    /// Logical right shift by a constant.
    #[inline(always)]
    fn shr_by(&mut self, a: Self::Int, count: u32) -> Self::Int {
        let count = self.constant(u64::from(count));
        self.shr(a, count)
    }

    /// Pops a value of width `W`.
    #[inline(always)]
    fn pop<W: Width>(&mut self, op: &Op) -> Result<Self::Int, Self::Fault> {
        let value = self.peek_stack::<W>(op)?;
        self.release_stack(op, W::BYTES);
        Ok(value)
    }

    /// `modify_at` with no displacement.
    #[inline(always)]
    fn modify<W: Width>(
        &mut self,
        op: &Op,
        change: impl Fn(&mut Self, Self::Int) -> Self::Int,
    ) -> Result<(Self::Int, Self::Int), Self::Fault> {
        let zero = self.constant(0);
        self.modify_at::<W>(op, zero, change)
    }
}

/// A meaning written in micro-operations, compiled for engine `M`.
pub type Meaning<M> = fn(&mut M, &Op) -> Result<(), <M as MicroOps>::Fault>;

/// A meaning that is a plain function on the processor, called by every engine.
pub type Hard = fn(&mut Cpu, &Op) -> Result<(), Exception>;
