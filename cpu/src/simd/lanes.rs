//! 128-bit values and their lanes. Lane 0 is the lowest.
//!
//! A vector stays an array in memory from the register file through its leaf and back: then the compiler sees lanes
//! and uses the host's vector instructions. As one `u128` it would become shifts and masks.

#![expect(unsafe_code, reason = "reinterprets arrays as arrays of other lanes")]

use std::array::from_fn;
use std::mem::transmute;

/// 128 bits, the low quadword first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct Vector(pub [u64; 2]);

impl Vector {
    /// All bits clear.
    pub(crate) const ZERO: Self = Self([0; 2]);

    /// The low quadword, the high one clear.
    #[inline(always)]
    pub(crate) const fn from_low(low: u64) -> Self {
        Self([low, 0])
    }

    #[inline(always)]
    pub(crate) const fn from_bits(bits: u128) -> Self {
        Self([bits as u64, (bits >> 64) as u64])
    }

    #[inline(always)]
    pub(crate) const fn bits(self) -> u128 {
        self.0[0] as u128 | (self.0[1] as u128) << 64
    }

    #[inline(always)]
    pub(crate) const fn low(self) -> u64 {
        self.0[0]
    }

    #[inline(always)]
    pub(crate) const fn high(self) -> u64 {
        self.0[1]
    }

    /// The bytes as they lie in memory.
    #[inline(always)]
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        u8::split(self)
    }

    #[inline(always)]
    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        u8::join(bytes)
    }
}

/// A type that fills 128 bits when repeated.
pub(crate) trait Lane: Copy {
    /// All lanes of 128 bits.
    type All: AsRef<[Self]> + AsMut<[Self]> + Copy;
    /// The lanes of `vector`.
    fn split(vector: Vector) -> Self::All;
    /// The vector with these lanes.
    fn join(lanes: Self::All) -> Vector;
    /// The vector whose lane `i` is `lane(i)`.
    fn build(lane: impl FnMut(usize) -> Self) -> Vector;
    /// The vector of `f` of each lane.
    fn map(a: Vector, f: impl Fn(Self) -> Self) -> Vector;
    /// The vector of `f` of each pair of lanes.
    fn zip(a: Vector, b: Vector, f: impl Fn(Self, Self) -> Self) -> Vector;
}

macro_rules! lanes {
    ($($lane:ty),*) => {$(
        impl Lane for $lane {
            type All = [$lane; 16 / size_of::<$lane>()];

            #[inline(always)]
            fn split(vector: Vector) -> Self::All {
                // Guest and host are little-endian.
                // SAFETY: both are 16 bytes, and every bit pattern is valid.
                unsafe { transmute(vector) }
            }

            #[inline(always)]
            fn join(lanes: Self::All) -> Vector {
                // SAFETY: as in `split`.
                unsafe { transmute(lanes) }
            }

            #[inline(always)]
            fn build(lane: impl FnMut(usize) -> Self) -> Vector {
                Self::join(from_fn(lane))
            }

            #[inline(always)]
            fn map(a: Vector, f: impl Fn(Self) -> Self) -> Vector {
                let a = Self::split(a);
                Self::build(|i| f(a[i]))
            }

            #[inline(always)]
            fn zip(a: Vector, b: Vector, f: impl Fn(Self, Self) -> Self) -> Vector {
                let (a, b) = (Self::split(a), Self::split(b));
                Self::build(|i| f(a[i], b[i]))
            }
        }
    )*};
}

lanes!(u8, i8, u16, i16, u32, i32, u64, i64);

#[cfg(target_endian = "big")]
compile_error!("lanes are taken from vectors as they lie in the memory of a little-endian host");
