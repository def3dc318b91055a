//! `rx86 demo`: a Debian kernel and busybox from the distribution's packages, booted to a shell.

pub mod debian;
mod package;

use crate::args::DemoArgs;
use crate::image::Image;
use crate::initrd;
use crate::machine::Protocol;
use crate::session::{self, Images};
use anyhow::{Context, Result};
use debian::{Flavour, Guest};
use std::io::IsTerminal;
use std::path::PathBuf;

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
    let cache = match &args.cache {
        Some(folder) => folder.clone(),
        None => default_cache()?,
    };
    let flavour = if args.full_kernel { Flavour::Full } else { Flavour::Cloud };
    let Guest { kernel, busybox } = debian::fetch(&cache, flavour)?;
    let interactive = std::io::stdin().is_terminal();
    let script = format!("{}{}", initrd::INIT_PROLOGUE, if interactive { INTERACTIVE } else { BATCH });
    let busybox_bytes =
        std::fs::read(&busybox).with_context(|| format!("cannot read '{}'", busybox.display()))?;
    let images = Images {
        kernel: Image::File(kernel),
        initrd: Some(Image::Bytes {
            name: "the demo's initrd".to_string(),
            bytes: initrd::busybox(&busybox_bytes, &script).gzip()?,
        }),
        append: "console=ttyS0".to_string(),
        protocol: Protocol::Auto,
    };
    session::run(images, &args.machine)
}

/// The user's cache folder.
pub fn default_cache() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .context("there is no cache folder: set XDG_CACHE_HOME or HOME, or pass --cache FOLDER")?;
    Ok(base.join("rx86"))
}
