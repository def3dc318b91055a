//! The processor: architectural state, decoding, instruction meanings, the interpreter, and events.
//!
//! `backend::X86Ops` is what a machine drives; `interp::Interpreter` is its first implementor. Instruction meanings are
//! in `integer` (written in micro-operations, for every engine) and in `system`, `simd` and `x87` (plain
//! functions on `Cpu`, called by every engine).

pub mod availability;
pub mod backend;
pub mod bare_board;
pub mod code_map;
pub mod cpu;
pub mod decode;
#[cfg(test)]
mod decode_tests;
pub mod environment;
pub mod exception;
pub mod features;
pub mod float;
pub mod integer;
pub mod interp;
pub mod locked;
pub mod memory;
pub mod mode;
pub mod op;
pub mod ops;
mod runs;
pub mod simd;
pub mod state;
pub mod system;
pub mod vector_ops;
pub mod width;
pub mod x87;
