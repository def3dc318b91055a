//! Kernel and initrd images: files of the host, or bytes that rx86 has made, with errors that name them.

use anyhow::{Context, Result, bail};
use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
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
    /// In a file, which is read anew for every boot, so that the host's memory holds them once: in the guest's RAM.
    File(PathBuf),
    /// In memory, with a name for messages.
    Bytes {
        /// The name.
        name: String,
        /// The bytes.
        bytes: Vec<u8>,
    },
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
    pub fn read(&self, role: Role, memory_bytes: u64) -> Result<Cow<'_, [u8]>> {
        match self {
            Self::File(path) => read_file(role, path, memory_bytes).map(Cow::Owned),
            Self::Bytes { bytes, .. } => Ok(Cow::Borrowed(bytes)),
        }
    }
}

/// Reads all of `path`, which must be a regular file: a pipe or a device may never end.
fn read_file(role: Role, path: &Path, memory_bytes: u64) -> Result<Vec<u8>> {
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
    let mut bytes = Vec::with_capacity(length as usize);
    let file = File::open(path).map_err(advise).with_context(tried)?;
    // A file that grows meanwhile is as long as it was.
    file.take(length).read_to_end(&mut bytes).map_err(advise).with_context(tried)?;
    Ok(bytes)
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
