//! Tests of the whole of rx86: guests of our own, instruction cases against oracles, benchmarks.

pub mod cases;

pub mod guest;
pub mod oracle;
pub mod system;
