//! The three binary formats and the unpacked form that all operations share (SDM vol. 1, 4.2.2 and 4.8.3).

pub use crate::state::F80;

impl F80 {
    /// +0.
    pub const ZERO: F80 = F80 { mantissa: 0, sign_exponent: 0 };
    /// +1.
    pub const ONE: F80 = F80 { mantissa: 1 << 63, sign_exponent: 0x3fff };
    /// The QNaN that masked invalid operations give (SDM: "real indefinite").
    pub const INDEFINITE: F80 = F80 { mantissa: 3 << 62, sign_exponent: 0xffff };

    /// From 80 bits, the mantissa lowest; higher bits are ignored.
    pub const fn from_bits(bits: u128) -> F80 {
        F80 { mantissa: bits as u64, sign_exponent: (bits >> 64) as u16 }
    }

    /// The 80 bits, the mantissa lowest.
    pub const fn to_bits(self) -> u128 {
        self.mantissa as u128 | (self.sign_exponent as u128) << 64
    }

    /// From the ten bytes that memory holds.
    pub fn from_bytes(bytes: [u8; 10]) -> F80 {
        let mut wide = [0; 16];
        wide[..10].copy_from_slice(&bytes);
        F80::from_bits(u128::from_le_bytes(wide))
    }

    /// The ten bytes that memory holds.
    pub fn to_bytes(self) -> [u8; 10] {
        let mut bytes = [0; 10];
        bytes.copy_from_slice(&self.to_bits().to_le_bytes()[..10]);
        bytes
    }

    /// The value with its sign bit cleared (FABS).
    pub const fn abs(self) -> F80 {
        F80 { sign_exponent: self.sign_exponent & 0x7fff, ..self }
    }

    /// The value with its sign bit inverted (FCHS).
    pub const fn negate(self) -> F80 {
        F80 { sign_exponent: self.sign_exponent ^ 0x8000, ..self }
    }

    /// The sign bit.
    pub const fn sign(self) -> bool {
        self.sign_exponent >> 15 != 0
    }

    /// The unpacked form.
    #[inline]
    pub fn unpack(self) -> Unpacked {
        F80_FORMAT.unpack(self.to_bits(), false)
    }
}

/// What kind of value an operand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Plus or minus zero.
    Zero,
    /// A normal or denormal number.
    Finite,
    /// Plus or minus infinity.
    Infinity,
    /// A quiet NaN.
    QuietNan,
    /// A signaling NaN.
    SignalingNan,
    /// An F80 encoding that no x87 since the 387 accepts: unnormal, pseudo-infinity, pseudo-NaN.
    Unsupported,
}

/// An operand taken apart. A finite value is `significand / 2^63 * 2^exponent`, normalised also when it was denormal.
#[derive(Clone, Copy, Debug)]
pub struct Unpacked {
    /// Its kind.
    pub class: Class,
    /// The sign bit.
    pub sign: bool,
    /// It was encoded as a denormal or pseudo-denormal.
    pub denormal: bool,
    /// The unbiased exponent; of meaning for finite values only.
    pub exponent: i32,
    /// Bit 63 set for finite values; a NaN's significand in F80's alignment.
    pub significand: u64,
}

impl Unpacked {
    /// A quiet or signaling NaN.
    pub fn is_nan(&self) -> bool {
        matches!(self.class, Class::QuietNan | Class::SignalingNan)
    }

    /// The same value with the sign inverted; NaNs keep theirs.
    pub fn negated(self) -> Unpacked {
        Unpacked { sign: self.sign == self.is_nan(), ..self }
    }
}

/// A binary format's parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Bits of significand, the integer bit included.
    pub precision: u32,
    /// Bits of the exponent field.
    pub exponent_bits: u32,
    /// The integer bit is stored (F80).
    pub explicit_integer: bool,
}

/// Half precision.
pub const F16: Format = Format { precision: 11, exponent_bits: 5, explicit_integer: false };
/// Single precision.
pub const F32: Format = Format { precision: 24, exponent_bits: 8, explicit_integer: false };
/// Double precision.
pub const F64: Format = Format { precision: 53, exponent_bits: 11, explicit_integer: false };
/// Double extended precision.
pub const F80_FORMAT: Format = Format { precision: 64, exponent_bits: 15, explicit_integer: true };

impl Format {
    /// The exponent bias, which is also the largest exponent.
    pub const fn bias(&self) -> i32 {
        (1 << (self.exponent_bits - 1)) - 1
    }

    /// The smallest exponent of a normal number.
    pub const fn min_exponent(&self) -> i32 {
        1 - self.bias()
    }

    /// The exponent field that infinities and NaNs have.
    const fn special(&self) -> u32 {
        (1 << self.exponent_bits) - 1
    }

    /// Bits of the stored significand field.
    const fn field_bits(&self) -> u32 {
        self.precision - !self.explicit_integer as u32
    }

    /// Takes `bits` (right-aligned) apart; with `daz`, denormals become zeros.
    #[inline(always)]
    pub fn unpack(&self, bits: u128, daz: bool) -> Unpacked {
        let sign = bits >> (self.field_bits() + self.exponent_bits) & 1 != 0;
        let field = (bits >> self.field_bits()) as u32 & self.special();
        // The stored significand at F80's alignment, with the integer bit when it is stored.
        let stored = ((bits & ((1 << self.field_bits()) - 1)) as u64) << (64 - self.precision);
        let implied = if self.explicit_integer { 0 } else { 1 << 63 };
        let mut out =
            Unpacked { class: Class::Finite, sign, denormal: false, exponent: 0, significand: stored };
        if field == 0 {
            if stored == 0 || daz {
                return Unpacked { class: Class::Zero, significand: 0, ..out };
            }
            out.denormal = true;
            out.exponent = self.min_exponent() - stored.leading_zeros() as i32;
            out.significand = stored << stored.leading_zeros();
            return out;
        }
        out.significand |= implied;
        out.exponent = field as i32 - self.bias();
        if out.significand >> 63 == 0 {
            out.class = Class::Unsupported;
        } else if field == self.special() {
            out.class = match out.significand << 1 {
                0 => Class::Infinity,
                fraction if fraction >> 63 != 0 => Class::QuietNan,
                _ => Class::SignalingNan,
            };
        }
        out
    }

    /// Puts a number together from its exponent field and F80-aligned significand (integer bit included).
    #[inline(always)]
    pub(super) fn assemble(&self, sign: bool, field: u32, significand: u64) -> u128 {
        let stored = u128::from(significand >> (64 - self.precision)) & ((1 << self.field_bits()) - 1);
        stored
            | u128::from(field) << self.field_bits()
            | u128::from(sign) << (self.field_bits() + self.exponent_bits)
    }

    /// Infinity.
    pub(super) fn infinity(&self, sign: bool) -> u128 {
        self.assemble(sign, self.special(), 1 << 63)
    }

    /// A quiet NaN with the F80-aligned significand given.
    pub(super) fn nan(&self, sign: bool, significand: u64) -> u128 {
        self.assemble(sign, self.special(), significand | 3 << 62)
    }
}
