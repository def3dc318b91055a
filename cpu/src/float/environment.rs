//! What an operation is told (rounding, precision, masks) and what it tells back (SDM vol. 1, 8.1.3, 8.1.5, 10.2.3).

/// Status bits, at their places in the x87 status word; bits 0 to 5 are also MXCSR's.
pub mod status {
    /// Invalid operation.
    pub const IE: u16 = 1 << 0;
    /// Denormal operand.
    pub const DE: u16 = 1 << 1;
    /// Divide by zero.
    pub const ZE: u16 = 1 << 2;
    /// Overflow.
    pub const OE: u16 = 1 << 3;
    /// Underflow.
    pub const UE: u16 = 1 << 4;
    /// Precision (inexact result).
    pub const PE: u16 = 1 << 5;
    /// All six numeric exceptions.
    pub const EXCEPTIONS: u16 = 0x3f;
    /// The exceptions found before computing: the destination keeps its value when one is unmasked.
    pub const BEFORE: u16 = IE | DE | ZE;
    /// Condition code 0.
    pub const C0: u16 = 1 << 8;
    /// Condition code 1: the result was rounded up in magnitude.
    pub const C1: u16 = 1 << 9;
    /// Condition code 2.
    pub const C2: u16 = 1 << 10;
    /// Condition code 3.
    pub const C3: u16 = 1 << 14;
}

/// The rounding mode, coded as in the RC fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// To nearest, ties to even.
    Nearest = 0,
    /// Toward minus infinity.
    Down = 1,
    /// Toward plus infinity.
    Up = 2,
    /// Toward zero.
    Zero = 3,
}

impl Rounding {
    /// The mode that a two-bit RC field names; higher bits are ignored.
    pub fn from_bits(rc: u32) -> Rounding {
        match rc & 3 {
            0 => Rounding::Nearest,
            1 => Rounding::Down,
            2 => Rounding::Up,
            _ => Rounding::Zero,
        }
    }
}

/// Which NaN operand becomes the result (SDM vol. 1, table 4-7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NanRule {
    /// x87: a QNaN before an SNaN, then the larger significand.
    X87,
    /// SSE: the first operand that is a NaN.
    Sse,
}

/// The environment of one operation. `status` gathers what it raises.
#[derive(Clone, Copy, Debug)]
pub struct Env {
    /// How inexact results are rounded.
    pub rounding: Rounding,
    /// Significant bits of an F80 result: 24, 53 or 64. Other formats ignore it.
    pub precision: u32,
    /// Masked exceptions, as in the x87 control word's low six bits (1 = masked).
    pub masks: u16,
    /// Denormal operands count as zero.
    pub daz: bool,
    /// Tiny results become zero (when underflow is masked).
    pub ftz: bool,
    /// How NaN operands are chosen.
    pub nan_rule: NanRule,
    /// Raised so far; see [`status`].
    pub status: u16,
}

impl Env {
    /// The environment of an x87 instruction that obeys precision control, from the control word.
    pub fn x87(control: u16) -> Env {
        let precision = match control >> 8 & 3 {
            0 => 24,
            2 => 53,
            _ => 64,
        };
        Env { precision, ..Env::x87_extended(control) }
    }

    /// The environment of an x87 instruction that always computes to 64 bits.
    pub fn x87_extended(control: u16) -> Env {
        Env {
            rounding: Rounding::from_bits(u32::from(control) >> 10),
            precision: 64,
            masks: control & status::EXCEPTIONS,
            daz: false,
            ftz: false,
            nan_rule: NanRule::X87,
            status: 0,
        }
    }

    /// The environment of an SSE instruction, from MXCSR.
    pub fn sse(mxcsr: u32) -> Env {
        Env {
            rounding: Rounding::from_bits(mxcsr >> 13),
            precision: 64,
            masks: (mxcsr >> 7) as u16 & status::EXCEPTIONS,
            daz: mxcsr & 1 << 6 != 0,
            ftz: mxcsr & 1 << 15 != 0,
            nan_rule: NanRule::Sse,
            status: 0,
        }
    }

    /// Notes that the operation raised `bits`.
    pub fn raise(&mut self, bits: u16) {
        self.status |= bits;
    }

    /// Raised exceptions that are not masked.
    pub fn unmasked(&self) -> u16 {
        self.status & !self.masks & status::EXCEPTIONS
    }
}
