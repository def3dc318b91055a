//! Exact IEEE 754 floating point for the x87 and for SSE (SDM vol. 1 chapters 4.8, 8 and 11.5).
//!
//! [`x87_soft`] and [`sse_soft`] are portable; [`x87_host`] and [`sse_host`] run the same functions on an x86-64 host's
//! own units. [`x87`] and [`sse`] name the quickest that the host has.
//! Nothing here touches a vCPU: a control or MXCSR word goes in, a value and sticky flags come out.

mod arith;
mod compare;
mod constants;
mod convert;
mod decimal;
mod environment;
mod explog;
#[cfg(target_arch = "x86_64")]
mod fma_host;
mod format;
#[cfg(all(test, target_arch = "x86_64"))]
pub(crate) mod random;
mod remainder;
mod round;
#[cfg(target_arch = "x86_64")]
pub mod sse_host;
pub mod sse_soft;
#[cfg(all(test, target_arch = "x86_64"))]
mod sse_twins;
mod trigonometry;
#[cfg(all(test, target_arch = "x86_64"))]
mod twins;
mod wide;
pub mod x87;
#[cfg(target_arch = "x86_64")]
pub mod x87_host;
pub mod x87_soft;

pub use environment::{Env, NanRule, Rounding, status};
pub use format::{Class, F16, F32, F64, F80, F80_FORMAT, Format, Unpacked};
pub use sse_soft::{Arith, Fused, IntSize};
pub use x87_soft::Outcome;

#[cfg(target_arch = "x86_64")]
pub use sse_host as sse;
#[cfg(not(target_arch = "x86_64"))]
pub use sse_soft as sse;
