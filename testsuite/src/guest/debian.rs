//! Debian guests for tests: kernels from the distribution's packages, and initrds around a script and its checks.

use super::runner::{Guest, Run};
use rx86::demo::debian::{self, Flavour};
use rx86::initrd;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Only one test at a time fetches packages.
static FETCHING: Mutex<()> = Mutex::new(());

/// What scripts are made of: `check NAME FOUND EXPECTED` prints one line that [`assert_checks`] reads.
const CHECK_FUNCTION: &str = r#"
# The kernel's own messages would cut lines in two.
dmesg -n 1
check() {
    if [ "$2" = "$3" ]; then echo "check $1 ok"; else echo "check $1 FAILED: '$2' in place of '$3'"; fi
}
"#;

/// A Debian kernel and busybox.
#[derive(Debug)]
pub struct Debian {
    files: debian::Guest,
    /// Where initrds are written.
    folder: PathBuf,
}

impl Debian {
    /// Gets the files into `target_tmp`'s neighbour `guests`. Without apt the test is skipped: this says so and gives
    /// none, unless `RX86_REQUIRE_GUESTS` is set.
    pub fn get(target_tmp: &str, flavour: Flavour) -> Option<Self> {
        let _one = FETCHING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let folder = Path::new(target_tmp).with_file_name("guests");
        match debian::fetch(&folder, flavour) {
            Ok(files) => Some(Self { files, folder }),
            Err(error) if std::env::var_os("RX86_REQUIRE_GUESTS").is_none() => {
                // Not `eprintln!`, which the test harness would swallow.
                let _ = writeln!(std::io::stderr(), "skipped: no Debian guest: {error:#}");
                None
            }
            Err(error) => panic!("RX86_REQUIRE_GUESTS is set: {error:#}"),
        }
    }

    /// A guest whose `/init` runs `script` behind the usual prologue. `programs` are put into `/tests`.
    pub fn guest(&self, name: &str, script: &str, programs: &[(&str, &[u8])]) -> Guest {
        let busybox = std::fs::read(&self.files.busybox).expect("busybox was just fetched");
        let script = format!("{}{CHECK_FUNCTION}{script}", initrd::INIT_PROLOGUE);
        let mut disk = initrd::busybox(&busybox, &script);
        disk.directory("tests");
        for (program, elf) in programs {
            disk.file(&format!("tests/{program}"), 0o755, elf);
        }
        let path = self.folder.join(format!("initrd-{name}-{}.gz", std::process::id()));
        std::fs::write(&path, disk.gzip().expect("writing to memory works")).expect("the folder is writable");
        Guest {
            kernel: self.files.kernel.clone(),
            initrd: Some(path),
            append: "console=ttyS0".to_string(),
            memory_mib: 512,
            rx86_args: Vec::new(),
        }
    }
}

/// Asserts that the guest printed `check NAME ok` for exactly these names, in this order, and ended with `status`.
pub fn assert_checks(run: &Run, names: &[&str], status: i32) {
    let checks: Vec<&str> =
        run.lines.iter().filter_map(|(_, line)| line.trim().strip_prefix("check ")).collect();
    let expected: Vec<String> = names.iter().map(|name| format!("{name} ok")).collect();
    assert_eq!(checks, expected, "{}", run.tail());
    assert_status(run, status);
}

/// Asserts the exit status; a failure shows the console's end.
pub fn assert_status(run: &Run, status: i32) {
    assert!(!run.timed_out, "the time limit ended it:\n{}", run.tail());
    assert_eq!(run.status, Some(status), "{}", run.tail());
}
