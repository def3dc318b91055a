//! `rx86 demo`: a Debian kernel and busybox from the distribution's packages, booted to a shell.

pub mod debian;
mod package;

use crate::args::DemoArgs;
use crate::image::{Image, Role};
use crate::initrd;
use crate::machine::Protocol;
use crate::session::{self, Images};
use crate::terminal;
use anyhow::{Context, Result, bail};
use debian::Flavour;
use std::path::{Path, PathBuf};

const INTERACTIVE: &str = "\
echo
echo \"A Debian kernel on rx86. 'poweroff -f' or Ctrl-D ends it; Ctrl-A X quits at once.\"
setsid cttyhack sh
poweroff -f
";
const BATCH: &str = "\
uname -a
poweroff -f
";

/// Gets the guest, builds its initrd and boots it; returns the exit status.
pub fn run(args: &DemoArgs) -> Result<u8> {
    let cache = || args.cache.clone().map_or_else(default_cache, Ok);
    let busybox = match &args.busybox {
        Some(file) => file.clone(),
        None => debian::busybox(&cache()?)?,
    };
    let flavour = if args.full_kernel { Flavour::Full } else { Flavour::Cloud };
    let kernel = match &args.kernel {
        Some(file) => file.clone(),
        None => debian::kernel(&cache()?, flavour)?,
    };
    let initrd = initrd_around(&busybox, args.machine.memory)?;
    let images = Images {
        kernel: Image::File(kernel),
        initrd: Some(Image::Bytes { name: "made by demo".to_string(), bytes: initrd }),
        append: "console=ttyS0".to_string(),
        protocol: Protocol::Auto,
    };
    session::run(images, &args.machine)
}

/// The demo's initrd: busybox, and a shell for a person or a few lines of output for a pipe.
fn initrd_around(busybox: &Path, memory_bytes: u64) -> Result<Vec<u8>> {
    let image = Image::File(busybox.to_path_buf());
    let bytes = image.read(Role::Busybox, memory_bytes)?;
    if !is_static_x86_64(&bytes) {
        bail!(
            "cannot use the busybox '{}': it is not a static x86-64 executable; Debian's package is busybox-static",
            busybox.display()
        );
    }
    let interactive = terminal::is_interactive();
    let script = format!("{}{}", initrd::INIT_PROLOGUE, if interactive { INTERACTIVE } else { BATCH });
    Ok(initrd::busybox(&bytes, &script).gzip()?)
}

/// Whether `bytes` are an ELF file for x86-64 that needs no interpreter (System V ABI, "Object Files").
fn is_static_x86_64(bytes: &[u8]) -> bool {
    const EM_X86_64: u16 = 62;
    const PT_INTERP: u32 = 3;
    let u16_at = |at: usize| bytes.get(at..at + 2).map(|field| u16::from_le_bytes([field[0], field[1]]));
    let header = bytes.starts_with(b"\x7fELF\x02\x01") && u16_at(18) == Some(EM_X86_64);
    let (Some(offset), Some(size), Some(count)) = (bytes.get(32..40), u16_at(54), u16_at(56)) else {
        return false;
    };
    let offset = usize::try_from(offset.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)));
    let Some(table) = offset.ok().and_then(|offset| bytes.get(offset..)) else { return false };
    let mut entries = table.chunks(usize::from(size).max(4)).take(usize::from(count));
    header && entries.all(|entry| !entry.starts_with(&PT_INTERP.to_le_bytes()))
}

/// The user's cache folder.
pub fn default_cache() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .context("there is no cache folder: set XDG_CACHE_HOME or HOME, or pass --cache FOLDER")?;
    Ok(base.join("rx86"))
}
