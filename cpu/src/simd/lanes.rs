//! Views of a 128-bit value as lanes. Lane 0 is the lowest.

#![expect(
    unsafe_code,
    reason = "the compiler sees vectors through a transmute, and shifts and masks otherwise"
)]

use std::array::from_fn;
use std::mem::transmute;

/// 128 bits as they lie in memory, lane 0 first.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Memory(u128);

/// A type that fills 128 bits when repeated.
pub(crate) trait Lane: Copy {
    /// All lanes of 128 bits.
    type All: AsRef<[Self]> + AsMut<[Self]> + Copy;
    /// The lanes of `vector`.
    fn split(vector: u128) -> Self::All;
    /// The vector with these lanes.
    fn join(lanes: Self::All) -> u128;
    /// The vector whose lane `i` is `lane(i)`.
    fn build(lane: impl FnMut(usize) -> Self) -> u128;
    /// The vector of `f` of each lane.
    fn map(a: u128, f: impl Fn(Self) -> Self) -> u128;
    /// The vector of `f` of each pair of lanes.
    fn zip(a: u128, b: u128, f: impl Fn(Self, Self) -> Self) -> u128;
}

macro_rules! lanes {
    ($($lane:ty),*) => {$(
        impl Lane for $lane {
            type All = [$lane; 16 / size_of::<$lane>()];

            #[inline(always)]
            fn split(vector: u128) -> Self::All {
                // SAFETY: both are 16 bytes, and every bit pattern is valid.
                let lanes: Self::All = unsafe { transmute(Memory(vector.to_le())) };
                lanes.map(<$lane>::from_le)
            }

            #[inline(always)]
            fn join(lanes: Self::All) -> u128 {
                // SAFETY: as in `split`.
                let memory: Memory = unsafe { transmute(lanes.map(<$lane>::to_le)) };
                u128::from_le(memory.0)
            }

            #[inline(always)]
            fn build(lane: impl FnMut(usize) -> Self) -> u128 {
                Self::join(from_fn(lane))
            }

            #[inline(always)]
            fn map(a: u128, f: impl Fn(Self) -> Self) -> u128 {
                Self::join(Self::split(a).map(f))
            }

            #[inline(always)]
            fn zip(a: u128, b: u128, f: impl Fn(Self, Self) -> Self) -> u128 {
                let (a, b) = (Self::split(a), Self::split(b));
                Self::build(|i| f(a[i], b[i]))
            }
        }
    )*};
}

lanes!(u8, i8, u16, i16, u32, i32, u64, i64);
