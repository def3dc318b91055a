//! Comparison (SDM vol. 1, 8.1.3.1 for the condition codes).

use super::environment::Env;
use super::environment::status::IE;
use super::format::{Class, Unpacked};
use super::round::check_denormal;
use std::cmp::Ordering;

/// The order of two operands, `None` when unordered. A quiet comparison raises invalid for SNaNs only.
/// Unmasked exceptions do not cut the answer short; the caller looks at `env.status`.
pub(super) fn compare(env: &mut Env, a: Unpacked, b: Unpacked, quiet: bool) -> Option<Ordering> {
    let signals = |x: &Unpacked| match x.class {
        Class::QuietNan => !quiet,
        Class::SignalingNan | Class::Unsupported => true,
        _ => false,
    };
    if signals(&a) || signals(&b) {
        env.raise(IE);
        return None;
    }
    if a.is_nan() || b.is_nan() {
        return None;
    }
    // Whether the exception is unmasked matters to the caller only.
    let _ = check_denormal(env, &[a, b]);
    Some(order(a, b))
}

/// The order of two operands that are no NaNs.
fn order(a: Unpacked, b: Unpacked) -> Ordering {
    signed_rank(a).cmp(&signed_rank(b))
}

/// A number that orders as the operand does.
fn signed_rank(x: Unpacked) -> i128 {
    let magnitude = match x.class {
        Class::Zero => 0,
        Class::Infinity => i128::MAX,
        // Exponents reach down to -16445.
        _ => i128::from(x.exponent + 0x8000) << 64 | i128::from(x.significand),
    };
    if x.sign { -magnitude } else { magnitude }
}
