//! Instruction cases: one instruction with all its inputs, executed by two oracles whose outcomes must be the same.
//!
//! Cases come from the files in `testsuite/cases`, and from a generator that knows every form of every instruction.

pub mod compare;
pub mod coverage;
pub mod family;
pub mod form;
pub mod known;
pub mod known_qemu;
pub mod operands;
pub mod random;
pub mod run;
pub mod sequence;
pub mod shrink;
pub mod text;
pub mod untried;
pub mod values;
mod vendors;
