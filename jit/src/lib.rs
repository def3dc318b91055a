//! The JIT: guest instructions to host code, quickly at first, through Cranelift where that pays.
//!
//! `engine` gives an `X86Ops` engine: the interpreter with this crate's `Jit` above it as its hot tier
//! (`rx86_cpu::interp::tier`). Only 64-bit code without alignment checks is translated; the interpreter has the rest.
//!
//! # From hot code to a translation
//!
//! The interpreter counts how often it executes a block. At the first threshold `Jit::translate` grows a small *region* from
//! it (`region`), and the quick tier makes host code of that at once (`quick`), where it knows the host. Such code goes on
//! counting (`heat`). At the second threshold the block grows into a larger region: along direct jumps, branches and calls,
//! as far as blocks are hot enough, a called function once for every call; and to where indirect jumps have led, as the
//! interpreter remembers, which a comparison finds again (`translator::hub`). The `worker` thread translates regions through
//! Cranelift, the hottest first (`compiler`), while the guest goes on. What is finished is given to the block it begins
//! with, and the next execution of that block enters it (`engine`); quick code that comes to it jumps there.
//!
//! # How a meaning becomes code
//!
//! An instruction's meaning is written once, in `rx86_cpu::integer`, as a function generic over
//! `rx86_cpu::ops::MicroOps`. `rx86_cpu::decode::decode::<Cpu>` picks its instance that computes with numbers: that is
//! the interpreter. `decode::<Translator>` picks the instance whose integers are Cranelift values: calling it executes
//! nothing, it emits the code that will. `m.add(a, b)` becomes an `iadd`, `m.get(reg)` the register's current value,
//! `m.load(op)` a probe of the software TLB and a host load. Rust's own control flow in a meaning (a width, an operand
//! shape) is decided while translating and leaves no trace in the code; what depends on guest values goes through
//! `select`. So there is nothing to write, and nothing that can differ, when an instruction is added. What has no meaning in
//! micro-operations (some of SSE, system instructions) is a call of the function that the interpreter runs (`calls`):
//! what the instruction uses is stored before and loaded after. A few are translated by hand: divisions (`divide`), and the
//! system instructions of every system call (`system`). x87 and MMX instructions are executed by the host's x87 (`x87`).
//!
//! Accesses by the same registers (`symbols` numbers their values over the region) that lie close together share one probe,
//! which proves the page for all of them (`groups`), also in all nodes that it dominates (`dominators`); those near the stack
//! pointer share one where the region is entered (`window`), and in loops an access whose address moves little (`steady`) first
//! looks at the page that was found last (`hints`). What is in vain too often is given up (`liberties`).
//!
//! In a region, registers, flags and the count of instructions are SSA values: loaded where the region is entered, stored
//! where it is left. Results that nobody reads before they are replaced cost nothing (`dead_code` removes even their
//! loads). Flags are remembered as the operation that set them (`MicroOps::remember_flags`, `shape`), so that CMP and Jcc become
//! one host comparison, and what goes around a loop are operands that are there anyway. The two values that define the flags
//! are computed where somebody reads them: a way out stores the operation (`JitContext::flags_shape`), since the next translation mostly
//! replaces the flags unread. The engine, and functions for instructions, find the two values.
//!
//! RIP is never a constant: `Vcpu` holds that of the region's entry until the region is left, and all else is relative to
//! it. So a region may run at any linear address, as the interpreter's blocks may, and its code holds no host address either.
//!
//! # Several vCPUs
//!
//! Each has a JIT of its own. `JitConfig::parallel` makes translations keep x86's memory order (`order`).
//!
//! # Leaving a region
//!
//! Where an access misses the TLB, a function fills it and the code goes on. Where an instruction cannot go on at all (a page
//! fault, a page crossing, a device's register, a page with code, a jump target that is not canonical) a *side exit* stores
//! the state as it was before that instruction, with its RIP, and leaves; the interpreter executes it and raises what there
//! is to raise. A meaning therefore must make sure that what can fail comes before its first store to memory; changes of
//! registers and flags are undone for free.
//!
//! Every way back in a region looks at the count of instructions left, and so does every way into one, so that the
//! interpreter's loop is reached after 20,000 instructions, 200,000 where there is one vCPU (`engine`), and one way through a
//! region more, at most 256: there interrupts are looked at. Called functions that want the block to end end the region.
//!
//! Where a region ends at an RIP that any engine could go on at, it jumps to a shared thunk (`thunks`; on x86-64 hosts
//! `quick::ways`, which has a shorter one from quick code to quick code, too), which looks RIP up in a cache of translations
//! (`jumps`) under the present mapping and mode, and jumps there; what that does not know is looked up by its physical address
//! (`installed`). Where a quick translation's way leads to a fixed place, `links` has it jump straight to the translation there,
//! as long as nothing need be checked for that. So system calls, indirect jumps and returns need not go through the engine; it
//! is reached when the budget is spent, somebody wants attention, or the cache does not know. All host code is in one arena
//! (`code`), mapped once to write and once to execute; the oldest sixteenth makes room when it is full.
//!
//! # Looking at it
//!
//! `JitConfig::watch` asks for regions as text (`dump`) and for names that Linux's `perf` understands (`perf_map`). Every return
//! to the engine is counted by its reason (`exits`). `listing` is machine code as text, for these and for the golden tests.
//!
//! # What a translation assumes
//!
//! The bytes it was made from: `Jit::invalidate` drops it as the interpreter's blocks are dropped. Of code that was written
//! before, quick translations read constants anew at each execution, and so do not assume them; and they wait for their
//! bytes to be the same again (`rewritten`), as where code is patched to and fro or written anew. The mode: it is part of
//! the key. The mapping of its pages other than the first: checked when it is entered under a mapping (`Mmu::generation`) or
//! at an address that it was not entered under before.

mod access;
mod block;
mod calls;
mod code;
mod compiler;
mod context;
mod dead_code;
mod divide;
mod dominators;
mod dump;
mod engine;
mod exits;
mod forgetful;
mod groups;
mod heat;
mod hints;
mod installed;
mod jumps;
mod liberties;
mod links;
pub mod listing;
mod micro;
mod mxcsr;
mod order;
mod overlaps;
mod pending;
mod perf_map;
mod quick;
mod region;
mod rewritten;
mod shape;
mod steady;
mod symbols;
mod system;
mod thunks;
mod translator;
mod vector;
mod watch;
mod window;
mod worker;
mod workshop;
mod x87;

pub use block::{BlockExit, CompiledBlock, ExitKind};
pub use compiler::{CompileError, Compiler};
pub use dump::{DumpConfig, DumpedRegions};
pub use engine::{Jit, JitConfig, engine};
pub use forgetful::Forgetful;
pub use watch::WatchConfig;
pub use workshop::Workshop;
