//! Tests of the whole of rx86: guests of our own, instruction cases against oracles, fuzz targets, benchmarks.

pub mod cases;
pub mod fuzz;
pub mod guest;
pub mod kernels;
pub mod oracle;
pub mod smp;
pub mod system;
