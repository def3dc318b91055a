//! What a node of guest code computes, as a list of operations; a value is named by the operation that computes it.

use super::encoding;

/// An operation's number, and its result.
pub(super) type Value = u16;

/// No operand.
pub(super) const NONE: Value = u16::MAX;

/// Places in `Vcpu` and `JitContext` that operations read and write as 64 bits, or from `VECTORS` on as 128: 0 to 16 are the
/// slots of `Vcpu::regs`.
pub(super) mod slot {
    pub(crate) const RIP: u8 = 16;
    /// `ArithFlags::result` and `aux`, or what `JitContext::flags_shape` says.
    pub(crate) const RESULT: u8 = 17;
    pub(crate) const AUX: u8 = 18;
    pub(crate) const FS_BASE: u8 = 19;
    pub(crate) const GS_BASE: u8 = 20;
    /// `JitContext::flags_shape` and `flags_left`.
    pub(crate) const SHAPE: u8 = 21;
    pub(crate) const LEFT: u8 = 22;
    /// `Flags::system`, and the MSR that SWAPGS exchanges.
    pub(crate) const SYSTEM_FLAGS: u8 = 23;
    pub(crate) const KERNEL_GS_BASE: u8 = 24;
    /// Bits 0 to 127 of the 16 vector registers, then bits 128 to 255 of each.
    pub(crate) const VECTORS: u8 = 25;
    pub(crate) const COUNT: usize = VECTORS as usize + 32;
}

/// What is done. Operands are `a`, `b` and `c`; `constant` and `width` (in bits) are said where they matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    /// `constant`.
    Constant,
    /// Slot `constant`, behind `a` if that is a `Settle`.
    Get,
    /// Makes the flags two values.
    Settle,
    Add,
    Sub,
    Mul,
    MulHigh,
    And,
    Or,
    Xor,
    ShiftLeft,
    ShiftRight,
    ShiftArithmetic,
    /// `a + (b << width) + constant`.
    Address,
    SignExtend,
    ZeroExtend,
    /// `a` with its low `width` bits replaced by those of `b`.
    InsertLow,
    CountOnes,
    LeadingZeros,
    TrailingZeros,
    SwapBytes,
    /// 1 if condition `constant`, as encoded in Jcc, holds for the flags of `a - b` in `width`, else 0.
    Compare,
    /// `b` if `a` is not zero, else `c`.
    Select,
    /// The host address of guest memory at `a`; `constant` is the `Request`, `c` the instruction.
    Probe,
    /// Loads from host address `a`.
    Load,
    /// Stores `b` to host address `a`.
    Store,
    /// Puts `a` into slot `constant`.
    Set,
    /// Leaves unless `a` is canonical; `c` is the instruction.
    Canonical,
    /// Executes instruction `c` by function `constant`.
    Call,
    /// `Vcpu::sti_shadow` is `a`.
    SetShadow,
    /// It is off; leaves if somebody wants attention. The next instruction is `c`.
    EndShadow,
    /// 128 zeros.
    VectorZero,
    /// Loads `width` bits from host address `a + constant`, with zeros above.
    VectorLoad,
    /// Stores the low `width` bits of vector `b` to host address `a + constant`.
    VectorStore,
    /// The instruction that `constant` encodes, of vectors `a`, if it has a first operand, and `b`. Bits above `width` are
    /// those of `a`.
    Vector,
    /// The same of `a`, `b` and addend `c`, of which the bits above `width` are.
    Fused,
    /// The instruction that `constant` encodes: from integer `b`, and vector `a` if it has such an operand, a vector.
    VectorOfInt,
    /// The same from vector `a` to an integer.
    IntOfVector,
    /// Compares scalars in vectors `a` and `b` by the instruction that `constant` encodes: CF, not ZF and not PF, as bits 0
    /// to 2.
    Order,
    /// Leaves unless the bits of `a` that `constant` has are clear; `c` is the instruction.
    Aligned,
}

impl Opcode {
    /// Whether it can leave the code where it is.
    pub(super) fn may_leave(self) -> bool {
        matches!(self, Self::Probe | Self::Canonical | Self::Aligned | Self::Call | Self::EndShadow)
    }
}

/// An operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operation {
    pub(super) opcode: Opcode,
    pub(super) width: u8,
    /// The result's bits from this one up are zero; 128 for vectors.
    pub(super) bits: u8,
    pub(super) a: Value,
    pub(super) b: Value,
    pub(super) c: Value,
    pub(super) constant: u64,
}

impl Operation {
    /// Whether it may set flags of MXCSR.
    pub(super) fn is_floating(&self) -> bool {
        use Opcode::{Fused, IntOfVector, Order, Vector, VectorOfInt};
        matches!(self.opcode, Vector | Fused | VectorOfInt | IntOfVector | Order)
            && encoding::is_floating(self.constant)
    }
}

/// How a node ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Behind its last instruction.
    Next,
    /// This many bytes from the region's first.
    Offset(i64),
    /// Where a value says.
    Target(Value),
    /// At an offset if a value is not zero, else behind its last instruction.
    Branch { taken: i64, condition: Value },
    /// Before the instruction that is next; the interpreter executes it.
    Interpret,
}

/// A node's operations, and the places of its instructions.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) operations: Vec<Operation>,
    /// Where each instruction begins, from the region's first byte; and where the last one ends.
    pub(super) starts: Vec<i64>,
    pub(super) ending: Ending,
    /// There is an operation that may set flags of MXCSR.
    pub(super) floating: bool,
}

impl Listing {
    /// Operands whose result is needed for the operation itself; of a comparison that it looks at, that comparison's.
    pub(super) fn operands(&self, operation: &Operation) -> [Value; 3] {
        let Operation { opcode, a, b, c, .. } = *operation;
        match opcode {
            Opcode::Probe | Opcode::Canonical | Opcode::Aligned | Opcode::Get => [a, NONE, NONE],
            Opcode::Call | Opcode::Settle | Opcode::Constant | Opcode::EndShadow => [NONE; 3],
            _ => [a, b, c],
        }
    }

    /// The comparison that a condition is, if it is one.
    pub(super) fn comparison(&self, condition: Value) -> Option<&Operation> {
        self.operations.get(usize::from(condition)).filter(|operation| operation.opcode == Opcode::Compare)
    }

    /// Whether a value is a vector.
    pub(super) fn is_vector(&self, value: Value) -> bool {
        self.operations.get(usize::from(value)).is_some_and(|operation| operation.bits == 128)
    }

    pub(super) fn constant(&self, value: Value) -> Option<u64> {
        let operation = self.operations.get(usize::from(value))?;
        (operation.opcode == Opcode::Constant).then_some(operation.constant)
    }
}
