//! Operand widths as types, so that the hot instruction meanings are compiled once for each width.

/// The width of an integer operand.
pub trait Width: Copy + 'static {
    /// Bits in the operand: 8, 16, 32 or 64.
    const BITS: u32;
    /// Bytes in the operand.
    const BYTES: u64 = Self::BITS as u64 / 8;
    /// All bits of the operand set.
    const MASK: u64 = u64::MAX >> (64 - Self::BITS);
    /// The operand's sign bit.
    const SIGN: u64 = 1 << (Self::BITS - 1);
}

macro_rules! widths {
    ($($(#[$doc:meta])* $name:ident = $bits:literal;)*) => {
        $($(#[$doc])* #[derive(Clone, Copy, Debug)] pub struct $name;
        impl Width for $name { const BITS: u32 = $bits; })*
    };
}

widths! {
    /// A byte.
    W8 = 8;
    /// A word.
    W16 = 16;
    /// A doubleword.
    W32 = 32;
    /// A quadword.
    W64 = 64;
}

/// Sign-extends the low `W` bits of `value` to 64.
#[inline(always)]
pub const fn sign_extend<W: Width>(value: u64) -> u64 {
    let unused = 64 - W::BITS;
    (((value << unused) as i64) >> unused) as u64
}
