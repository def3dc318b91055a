//! Guests with several processors: the program of `testsuite/smp`, what is measured with it, and loads with checked results.

pub mod bench;
pub mod boots;
pub mod overlap;
pub mod program;
pub mod table;
