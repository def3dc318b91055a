//! The shortcuts of `fma` compiled for an x86-64 host with FMA; without it there are none.
#![expect(unsafe_code, reason = "calls functions that use an instruction that the host was found to have")]

use super::fma;
use crate::float::Fused;

macro_rules! shortcut {
    ($name:ident($bits:ty)) => {
        /// Like its namesake in `fma`; nothing on a host without FMA.
        #[inline]
        pub(super) fn $name<const N: usize>(
            operation: Fused,
            a: [$bits; N],
            b: [$bits; N],
            c: [$bits; N],
        ) -> Option<[$bits; N]> {
            #[target_feature(enable = "fma")]
            fn with_feature<const N: usize>(
                operation: Fused,
                a: [$bits; N],
                b: [$bits; N],
                c: [$bits; N],
            ) -> Option<[$bits; N]> {
                fma::$name(operation, a, b, c)
            }
            if !is_x86_feature_detected!("fma") {
                return None;
            }
            // SAFETY: the host was just found to have FMA.
            unsafe { with_feature(operation, a, b, c) }
        }
    };
}

shortcut!(lanes_f32(u32));
shortcut!(lanes_f64(u64));
