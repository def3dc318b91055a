//! Guest physical memory, page walks, the software TLB, and the flags that connect a vCPU with the rest of the machine.
//!
//! This crate knows neither the vCPU's insides nor any device.

pub mod access;
pub mod attention;
mod code;
mod evicted;
pub mod memory;
pub mod mmu;
#[cfg(all(test, loom))]
mod models;
pub mod paging;
mod sequenced;
mod space;
mod sync;
pub mod tlb;

pub use access::{Access, View};
pub use attention::Attention;
pub use code::{CodeNews, CodeWatcher};
pub use memory::{GuestMemory, HostPage, MemoryError, RamRegion, Unmapped};
pub use mmu::{Mmu, MmuStats, Target};
pub use paging::{PageFault, PagingContext, PagingMode, Translation, WalkStep, probe, walk, walk_trace};
pub use sequenced::Sequenced;
pub use tlb::TlbEntry;
