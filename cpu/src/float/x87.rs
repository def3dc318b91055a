//! The x87's computations by the quickest way that the host has. Setting and restoring the host's control word costs
//! more than exact arithmetic in Rust, so an x86-64 host's x87 (60 to 80 ns an addition against 35, measured) serves
//! only the transcendental functions, for their speed and for silicon's very bits.

pub use super::x87_soft::{
    Outcome, add, compare, div, extract, load_bcd, load_f32, load_f64, load_int, mul, prem, prem1,
    round_to_int, scale, sqrt, store_bcd, store_f32, store_f64, store_i16, store_i32, store_i64, sub,
    widen_f32, widen_f64,
};

#[cfg(target_arch = "x86_64")]
use super::x87_host as transcendental;
#[cfg(not(target_arch = "x86_64"))]
use super::x87_soft as transcendental;
pub use transcendental::{cos, f2xm1, fyl2x, fyl2xp1, patan, ptan, sin, sincos};
