//! What stands in for firmware: kernel loaders and ACPI tables. It works on bytes; it never opens a file.

pub mod acpi;
mod bytes;
mod bzimage;
pub mod e820;
mod elf;
pub mod entry;
mod error;
pub mod layout;

pub use bzimage::BootProtocol;
pub use entry::{Entry, EntryMode, SegmentImage};
pub use error::LoadError;

use rx86_softmmu::GuestMemory;

/// What to boot.
#[derive(Clone, Copy, Debug)]
pub struct BootRequest<'a> {
    /// The kernel file: a bzImage, or an ELF file with a PVH entry.
    pub kernel: &'a [u8],
    /// The initial RAM disk file.
    pub initrd: Option<&'a [u8]>,
    /// The kernel's command line.
    pub cmdline: &'a str,
    /// How many vCPUs the tables name: 1 to [`acpi::MAX_CPUS`].
    pub cpus: u32,
    /// The seed that the kernel's random number generator gets.
    pub rng_seed: [u8; 32],
    /// How a bzImage is entered; PVH has only one way.
    pub protocol: BootProtocol,
}

/// Loads the kernel, its initrd and all tables into guest memory; returns how to enter it.
pub fn load(memory: &GuestMemory, request: &BootRequest<'_>) -> Result<Entry, LoadError> {
    let entry = if request.kernel.is_empty() {
        return Err(LoadError::Empty);
    } else if elf::is_elf(request.kernel) {
        elf::load(memory, request)?
    } else if bzimage::is_bzimage(request.kernel) {
        bzimage::load(memory, request)?
    } else {
        return Err(error::not_a_kernel(request.kernel, bzimage::HEADER_BYTES));
    };
    acpi::write_tables(memory, request.cpus)?;
    Ok(entry)
}
