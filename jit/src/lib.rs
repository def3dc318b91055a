//! The JIT: guest instructions to host code through Cranelift.
//!
//! What exists: `Compiler` turns one straight-line block of 64-bit code into one host function, and
//! `CompiledBlock::run` executes it on a `Cpu`. What an engine around it needs (hot counters, regions, links between
//! blocks, a code cache, SSE as host vectors) comes with the issue "The JIT".
//!
//! # How a meaning becomes code
//!
//! An instruction's meaning is written once, in `rx86_cpu::integer`, as a function generic over
//! `rx86_cpu::ops::MicroOps`. `rx86_cpu::decode::decode::<Cpu>` picks its instance that computes with numbers: that is
//! the interpreter. `decode::<Translator>` picks the instance whose integers are Cranelift values: calling it executes
//! nothing, it emits the code that will. `m.add(a, b)` becomes an `iadd`, `m.get(reg)` the register's current value,
//! `m.load(op)` a probe of the software TLB and a host load. Rust's own control flow in a meaning (a width, an operand
//! shape) is decided while translating and leaves no trace in the code; what depends on guest values goes through
//! `select`. So there is nothing to write, and nothing that can differ, when an instruction is added.
//!
//! Inside a block, registers and flags are SSA values (`translator::Held`): loaded at their first use, stored where the
//! block is left. Results that nobody reads before they are replaced cost nothing (`dead_code` removes even their
//! loads). Flags that a comparison set are remembered as that comparison (`MicroOps::note_difference`), so that CMP and Jcc
//! become one host comparison; the two values that define the flags are still what is stored.
//!
//! RIP is never a constant: `Vcpu` holds the block's own until the block is left, and all else is relative to it. So a
//! block may run at any linear address, as the interpreter's blocks may, and its code holds no host address either.
//!
//! # Leaving a block
//!
//! Translated code never raises an exception. Where an instruction may not be able to go on (a TLB miss, a page
//! crossing, a device's register, a page with code, a jump target that may not be canonical) a *side exit* stores the
//! state as it was before that instruction, with its RIP, and leaves; the interpreter executes it and raises what there
//! is to raise. A meaning therefore must make sure that what can fail comes before its first store to memory; changes of
//! registers and flags are undone for free.
//!
//! What the translator has no code for (a plain function on the processor, a locked read-modify-write) is an `Err` while
//! translating: the block ends before that instruction.

mod access;
mod block;
mod calls;
mod code;
mod compiler;
mod context;
mod dead_code;
mod engine;
mod micro;
mod region;
mod translator;
mod worker;

pub use block::{BlockExit, CompiledBlock, ExitKind};
pub use compiler::{CompileError, Compiler};
pub use engine::{Jit, JitConfig, engine};
