//! Guests from Debian's packages, through apt.

use super::package;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

const BY_HAND: &str = "get a kernel and busybox-static by hand, then run \
    `rx86 --kernel vmlinuz --initrd initrd.gz --append console=ttyS0`";

/// Which of Debian's kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// The cloud kernel: few drivers, quick to boot.
    Cloud,
    /// The full kernel.
    Full,
}

impl Flavour {
    /// The package that depends on the newest kernel package.
    fn meta_package(self) -> &'static str {
        match self {
            Self::Cloud => "linux-image-cloud-amd64",
            Self::Full => "linux-image-amd64",
        }
    }

    fn file_name(self) -> &'static str {
        match self {
            Self::Cloud => "vmlinuz-cloud",
            Self::Full => "vmlinuz-full",
        }
    }
}

/// The files of a guest.
#[derive(Clone, Debug)]
pub struct Guest {
    /// The kernel.
    pub kernel: PathBuf,
    /// busybox, statically linked.
    pub busybox: PathBuf,
}

/// Gets the guest's files into `cache`; what is there already is not fetched again.
pub fn fetch(cache: &Path, flavour: Flavour) -> Result<Guest> {
    std::fs::create_dir_all(cache)
        .with_context(|| format!("cannot create the cache folder '{}'", cache.display()))?;
    let guest = Guest { kernel: cache.join(flavour.file_name()), busybox: cache.join("busybox") };
    if guest.busybox.is_file() && guest.kernel.is_file() {
        return Ok(guest);
    }
    let work = cache.join(format!("work-{}", std::process::id()));
    std::fs::create_dir_all(&work).with_context(|| format!("cannot create '{}'", work.display()))?;
    let outcome = fetch_into(&work, flavour, &guest);
    // The packages are not needed any more, whether that worked or not.
    let _ = std::fs::remove_dir_all(&work);
    outcome?;
    Ok(guest)
}

fn fetch_into(work: &Path, flavour: Flavour, guest: &Guest) -> Result<()> {
    if !guest.busybox.is_file() {
        eprintln!("rx86: getting busybox-static from the distribution's packages");
        let package = download(work, "busybox-static")?;
        let named = |path: &str| path.ends_with("bin/busybox");
        save(&guest.busybox, &package::extract(&package, named)?)?;
    }
    if !guest.kernel.is_file() {
        let name = newest_kernel(flavour)?;
        eprintln!("rx86: getting {name} from the distribution's packages");
        let package = download(work, &name)?;
        let named = |path: &str| path.trim_start_matches("./").starts_with("boot/vmlinuz-");
        save(&guest.kernel, &package::extract(&package, named)?)?;
    }
    Ok(())
}

/// Writes a file so that another process never sees half of it.
fn save(path: &Path, bytes: &[u8]) -> Result<()> {
    let partial = path.with_extension(format!("partial-{}", std::process::id()));
    std::fs::write(&partial, bytes).with_context(|| format!("cannot write '{}'", partial.display()))?;
    std::fs::rename(&partial, path).with_context(|| format!("cannot write '{}'", path.display()))
}

/// The name of the kernel package that the meta package depends on.
fn newest_kernel(flavour: Flavour) -> Result<String> {
    let meta = flavour.meta_package();
    let depends = |meta: &str| -> Result<Option<String>> {
        let output = Command::new("apt-cache").args(["depends", meta]).output();
        let output = output.with_context(|| format!("cannot run apt-cache; {BY_HAND}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let name = text.lines().find_map(|line| line.trim().strip_prefix("Depends: ").map(str::to_string));
        Ok(name.filter(|name| name.starts_with("linux-image-")))
    };
    if let Some(name) = depends(meta)? {
        return Ok(name);
    }
    update_lists();
    depends(meta)?.with_context(|| format!("apt knows no package {meta} (try `apt-get update`); {BY_HAND}"))
}

/// Renews the package lists, which only root may; without it the lists that are there have to do.
fn update_lists() {
    let _ = Command::new("apt-get").args(["update", "-qq"]).output();
}

/// Downloads a package into `work`; returns its file.
fn download(work: &Path, name: &str) -> Result<PathBuf> {
    for attempt in 0..2 {
        let output = Command::new("apt-get").args(["download", "-q", name]).current_dir(work).output();
        let output = output.with_context(|| format!("cannot run apt-get; {BY_HAND}"))?;
        if output.status.success() {
            return find_package(work, name);
        }
        if attempt == 0 {
            update_lists();
        } else {
            let reason = String::from_utf8_lossy(&output.stderr);
            let reason =
                reason.lines().find(|line| line.starts_with("E:")).unwrap_or("apt-get failed").to_string();
            bail!("cannot download {name}: {reason}; {BY_HAND}");
        }
    }
    bail!("cannot download {name}; {BY_HAND}")
}

fn find_package(work: &Path, name: &str) -> Result<PathBuf> {
    let prefix = format!("{name}_");
    let entries = std::fs::read_dir(work).with_context(|| format!("cannot read '{}'", work.display()))?;
    let found = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&prefix)));
    found.with_context(|| format!("apt-get downloaded no package file for {name}; {BY_HAND}"))
}
