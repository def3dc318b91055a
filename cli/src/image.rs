//! Kernel and initrd images: files of the host, or bytes that rx86 has made, with errors that name them.

#![expect(unsafe_code, reason = "maps files, so that what the host has cached of them is copied once")]

use anyhow::{Context, Result, bail, ensure};
use memmap2::{Mmap, MmapOptions};
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};

const MIB: u64 = 1 << 20;

/// What an image is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A kernel.
    Kernel,
    /// An initial RAM disk.
    Initrd,
    /// The program that an initial RAM disk is made around.
    Busybox,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
            Self::Busybox => "busybox",
        })
    }
}

/// Where an image's bytes are.
#[derive(Clone, Debug)]
pub enum Image {
    /// In a file, which is mapped anew for every boot, so that the host's memory holds them once: in the guest's RAM.
    File(PathBuf),
    /// In memory, with a name for messages.
    Bytes {
        /// The name.
        name: String,
        /// The bytes.
        bytes: Vec<u8>,
    },
}

/// An image's bytes.
#[derive(Debug)]
pub enum Contents<'a> {
    /// Those of a file.
    Mapped(Mmap),
    /// Those that were there.
    Held(&'a [u8]),
}

impl Deref for Contents<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(file) => file,
            Self::Held(bytes) => bytes,
        }
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Bytes { name, .. } => f.write_str(name),
        }
    }
}

impl Image {
    /// All bytes, which must be fewer than the guest's `memory_bytes`.
    pub fn read(&self, role: Role, memory_bytes: u64) -> Result<Contents<'_>> {
        match self {
            Self::File(path) => map_file(role, path, memory_bytes),
            Self::Bytes { bytes, .. } => Ok(Contents::Held(bytes)),
        }
    }
}

/// Maps all of `path`, which must be a regular file: a pipe or a device may never end.
fn map_file(role: Role, path: &Path, memory_bytes: u64) -> Result<Contents<'static>> {
    let tried = || format!("cannot read the {role} '{}'", path.display());
    let metadata = std::fs::metadata(path).map_err(advise).with_context(tried)?;
    if metadata.is_dir() {
        bail!("{}: it is a directory; name a file", tried());
    }
    if !metadata.is_file() {
        bail!("{}: it is not a regular file; copy it to one", tried());
    }
    let length = metadata.len();
    if length >= memory_bytes {
        bail!(
            "cannot boot with the {role} '{}': it has {} MiB and the guest's whole memory {}; use a larger --memory, or \
             another file if this is a disk image",
            path.display(),
            length.div_ceil(MIB),
            memory_bytes / MIB
        );
    }
    let file = File::open(path).map_err(advise).with_context(tried)?;
    if length == 0 {
        return Ok(Contents::Held(&[]));
    }
    let mut options = MmapOptions::new();
    // A file that grows meanwhile is as long as it was.
    options.len(length as usize).populate();
    // SAFETY: nothing relies on the bytes to stay the same: what is read of them twice is checked twice. If somebody makes the
    // file shorter while it is copied to the guest, the host ends this process.
    let mapped = unsafe { options.map(&file) }.map_err(advise).with_context(tried)?;
    let is_whole = file.metadata().is_ok_and(|now| now.len() >= length);
    ensure!(is_whole, "{}: it is being written; wait until it is whole", tried());
    Ok(Contents::Mapped(mapped))
}

/// The host's error in words that say what to do, where it is a usual one.
fn advise(error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::NotFound => anyhow::anyhow!("there is no such file; check the path"),
        io::ErrorKind::PermissionDenied => {
            anyhow::anyhow!("you may not read it; copy it, or change its permissions")
        }
        _ => error.into(),
    }
}
