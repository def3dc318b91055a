//! The hardware-assisted backend: the same machine on Linux's KVM, where `/dev/kvm` works.
//!
//! KVM executes the guest; the board, the local APIC included, stays ours, so that a guest sees the same machine on
//! every backend. On other hosts only `open` exists, and says why there is no backend.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod backend;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod kick;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod registers;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod xsave;

use rx86_cpu::backend::X86Ops;
use rx86_cpu::environment::Environment;
use rx86_cpu::features::CpuModel;
use rx86_softmmu::{Attention, GuestMemory};
use std::sync::Arc;
use thiserror::Error;

/// Why there is no KVM backend.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum KvmError {
    /// The host is of another kind.
    #[error("KVM needs Linux on x86-64; use --engine interp")]
    OtherHost,
    /// KVM refused a call.
    #[error(
        "KVM cannot {action}: {reason}; use --engine interp, or see that /dev/kvm is there and may be opened"
    )]
    Refused {
        /// What was tried.
        action: &'static str,
        /// What the kernel said.
        reason: String,
    },
}

/// A vCPU on KVM. It must be run on one thread only.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub fn open(
    memory: Arc<GuestMemory>,
    environment: Box<dyn Environment>,
    model: &CpuModel,
    attention: Attention,
) -> Result<Box<dyn X86Ops>, KvmError> {
    Ok(Box::new(backend::KvmBackend::new(memory, environment, model, attention)?))
}

/// A vCPU on KVM, which this host does not have.
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
pub fn open(
    _memory: Arc<GuestMemory>,
    _environment: Box<dyn Environment>,
    _model: &CpuModel,
    _attention: Attention,
) -> Result<Box<dyn X86Ops>, KvmError> {
    Err(KvmError::OtherHost)
}
