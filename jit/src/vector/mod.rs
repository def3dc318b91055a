//! Vector registers and instructions in translated code.
//!
//! In a region, the XMM registers that its instructions use are SSA values, as the general registers are. A register that is
//! used for double-precision scalars is two `F64` values, so that scalar code becomes scalar host code without a shuffle;
//! any other is one value of 128 bits. Which it is, is decided for each register and region by what the region's instructions do
//! (`plan`); within a node a register is whatever was written last (`Form`). Bits 128 to 255 are a value of their own.
//!
//! # Floating point
//!
//! On x86-64 hosts, arithmetic is the host's, and MXCSR is the guest's while a region with arithmetic runs (`mxcsr`), as
//! long as the guest has all exceptions masked. Rounding, DAZ, FTZ and NaNs are then the silicon's. The IR knows nothing of
//! MXCSR's flags, so three things are seen to:
//! - an operation whose result is not needed on every way, or not before a function looks at MXCSR, must be executed all the
//!   same: `anchor` stores it;
//! - operands must not be swapped nor folded, for the first operand's NaN and for the rounding: `float::settled`;
//! - comparisons that signal quiet NaNs do so in a cold block (`float`).
//!
//! An operation on values that do not change in a loop may be executed before the loop, although the loop might never have
//! come to it: a sticky flag may then be set that would not have been.

pub(crate) mod aligned;
pub(crate) mod anchor;
pub(crate) mod control;
mod float;
mod micro;
mod packed;
pub(crate) mod plan;
mod registers;

use cranelift_codegen::ir::{Inst, Value};
use cranelift_frontend::Variable;
use plan::Plan;
pub(crate) use registers::vector_offset;

/// What a node knows of an XMM register.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    /// It is in the variables.
    Variables,
    /// 128 bits (`I8X16`).
    Whole(Value),
    /// Two quadwords (`F64`).
    Halves([Value; 2]),
    /// A doubleword (`F32`) in place of the lowest lane of 128 bits.
    SingleOver(Value, Value),
}

/// What a node knows of the vector registers.
#[derive(Clone, Copy)]
pub(crate) struct HeldVectors {
    forms: [Form; 16],
    /// Bits 128 to 255 (`I8X16`), where known.
    uppers: [Option<Value>; 16],
    pub(crate) dirty: DirtyVectors,
}

impl HeldVectors {
    pub(crate) const NOTHING: Self =
        Self { forms: [Form::Variables; 16], uppers: [None; 16], dirty: DirtyVectors::NONE };
}

/// Vector registers that may differ from what `Vcpu` holds; bit n for register n.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct DirtyVectors {
    pub(crate) lows: u16,
    pub(crate) uppers: u16,
}

impl DirtyVectors {
    const NONE: Self = Self { lows: 0, uppers: 0 };
    pub(crate) const ALL: Self = Self { lows: u16::MAX, uppers: u16::MAX };

    /// All of one register.
    pub(crate) fn of(number: usize) -> Self {
        Self { lows: 1 << number, uppers: 1 << number }
    }

    pub(crate) fn union(self, other: Self) -> Self {
        Self { lows: self.lows | other.lows, uppers: self.uppers | other.uppers }
    }

    pub(crate) fn without(self, other: Self) -> Self {
        Self { lows: self.lows & !other.lows, uppers: self.uppers & !other.uppers }
    }
}

/// The variables of an XMM register.
#[derive(Clone, Copy)]
enum Variables {
    None,
    Whole(Variable),
    Halves([Variable; 2]),
}

/// What is the same for the whole region.
pub(crate) struct Vectors {
    plan: Plan,
    host: HostVectors,
    variables: [Variables; 16],
    uppers: [Option<Variable>; 16],
    /// The last parts joined, and what they became: a register named twice is then one value.
    pub(crate) joined: Option<([Value; 2], Value)>,
    /// Floating-point operations, which must be executed for their flags.
    pub(crate) operations: Vec<Value>,
    /// Quiet comparisons: an instruction where each must have been executed, and its operands.
    pub(crate) comparisons: Vec<(Inst, Value, Value)>,
    /// Calls of functions that may look at MXCSR: what comes before them must have been executed.
    pub(crate) barriers: Vec<Inst>,
}

/// What the host can do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HostVectors {
    pub(crate) fused: bool,
}

/// Whether floating-point arithmetic of translated code is the host's.
pub(crate) const HOST_FLOATING_POINT: bool = cfg!(target_arch = "x86_64");
