//! Debian guests for tests: kernels and busybox from the distribution's packages, and an initrd around a script.

use super::runner::Guest;
use rx86::demo::debian::{self, Flavour};
use rx86::initrd::{self, INIT_PROLOGUE};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Only one test of a process fetches packages at a time.
static FETCHING: Mutex<()> = Mutex::new(());

/// A guest with Debian's kernel whose `/init` runs `script` behind the usual prologue; `extra` files are put into its
/// initrd. Packages and initrds are kept in `folder`'s `guests`.
///
/// Without apt there is no guest: one line says that the test is skipped. With `RX86_REQUIRE_GUESTS` set it fails.
pub fn guest(
    folder: &str,
    name: &str,
    flavour: Flavour,
    script: &str,
    extra: &[(&str, &[u8])],
) -> Option<Guest> {
    let folder = Path::new(folder).join("guests");
    let fetched = {
        let _turn = FETCHING.lock().unwrap_or_else(PoisonError::into_inner);
        debian::fetch(&folder, flavour)
    };
    let found = match fetched {
        Ok(found) => found,
        Err(error) if std::env::var_os("RX86_REQUIRE_GUESTS").is_none() => {
            // The test harness keeps what `println!` prints to itself; a skipped test must be seen.
            let _ = writeln!(std::io::stderr(), "skipped: {name}: {error:#}");
            return None;
        }
        Err(error) => panic!("RX86_REQUIRE_GUESTS is set, and there is no guest: {error:#}"),
    };
    let busybox = std::fs::read(found.busybox).expect("busybox was fetched");
    let initrd = folder.join(format!("{name}.gz"));
    let guest = guest_of(found.kernel, &busybox, &initrd, script, extra);
    Some(guest.expect("the target folder can be written"))
}

/// A guest with this kernel, whose initial RAM disk, with busybox, `extra` files and an `/init` that runs `script` behind the
/// usual prologue, is written to `initrd`.
pub fn guest_of(
    kernel: PathBuf,
    busybox: &[u8],
    initrd: &Path,
    script: &str,
    extra: &[(&str, &[u8])],
) -> std::io::Result<Guest> {
    let mut builder = initrd::busybox(busybox, &format!("{INIT_PROLOGUE}{script}"));
    for (path, contents) in extra {
        builder.file(path, 0o755, contents);
    }
    std::fs::write(initrd, builder.gzip()?)?;
    Ok(Guest {
        kernel,
        initrd: Some(initrd.into()),
        append: "console=ttyS0 quiet".into(),
        memory_mib: 512,
        rx86_args: vec!["--no-reboot".into()],
    })
}
