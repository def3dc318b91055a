//! x86's memory order in translated code (SDM vol. 3, 9.2.2), for machines whose vCPUs run at the same time.
//!
//! Loads stay in order among each other, stores too, and no store goes before an earlier load; only a load may pass an
//! earlier store. A locked instruction is a barrier for everything. Two can break this:
//!
//! - The code generator: it takes the value of a load from an earlier load or store at the same address, although others
//!   were loaded in between, and drops a store that a later one replaces. A mark between accesses, which becomes no
//!   instruction, keeps it from that.
//! - The host's processor, if it is not an x86: a barrier behind each load and before each store keeps it from that. One
//!   serves both where a store follows a load. (Acquiring loads and releasing stores would be cheaper, but fault where the
//!   address is not aligned, and Cranelift has no lesser barrier than the full one.)
//!
//! With one vCPU nobody can tell, and accesses get neither: devices access memory on the vCPU's own thread.

use crate::translator::Translator;
use cranelift_codegen::ir::types::Type;
use cranelift_codegen::ir::{InstBuilder, Value};

/// Who must be kept from changing the order of accesses to guest memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum MemoryOrder {
    /// Nobody.
    #[default]
    Free,
    /// The code generator.
    HostKeeps,
    /// The host's processor, too.
    Barriers,
}

impl MemoryOrder {
    /// What this host needs for vCPUs that run at the same time.
    pub(crate) const PARALLEL: Self =
        if cfg!(target_arch = "x86_64") { Self::HostKeeps } else { Self::Barriers };
}

impl Translator<'_> {
    /// To be called before emitting a load from guest RAM.
    pub(crate) fn before_load(&mut self) {
        if self.order != MemoryOrder::Free && !self.fenced {
            self.builder.ins().sequence_point();
        }
    }

    /// To be called behind it.
    pub(crate) fn after_load(&mut self) {
        self.fence();
    }

    /// To be called before emitting a store to guest RAM.
    pub(crate) fn before_store(&mut self) {
        if self.order == MemoryOrder::HostKeeps {
            self.builder.ins().sequence_point();
        }
        if !self.fenced {
            self.fence();
        }
        self.fenced = false;
    }

    /// To be called behind a locked read-modify-write: where the host has no single instruction for it, what follows could go
    /// before its store.
    pub(crate) fn after_locked(&mut self) {
        self.fence();
    }

    /// A barrier, where the host needs any.
    fn fence(&mut self) {
        if self.order == MemoryOrder::Barriers {
            self.builder.ins().fence();
            self.fenced = true;
        }
    }

    /// Loads a value of a type from guest RAM.
    pub(crate) fn load_guest(&mut self, of: Type, host: Value, offset: i32) -> Value {
        self.before_load();
        let value = self.builder.ins().load(of, self.regions.guest, host, offset);
        self.after_load();
        value
    }

    /// Stores a value to guest RAM.
    pub(crate) fn store_guest(&mut self, value: Value, host: Value, offset: i32) {
        self.before_store();
        self.builder.ins().store(self.regions.guest, value, host, offset);
    }
}
