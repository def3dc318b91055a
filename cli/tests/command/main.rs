//! Runs the `rx86` binary as a user would, on files made for the test.

mod bad_input;
mod run_ends;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Ends a test whose command hangs; far longer than any of them needs.
const LIMIT: Duration = Duration::from_secs(120);

/// A folder of the test's own, removed at its end.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    /// A folder named after `test`.
    pub(crate) fn new(test: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Writes a file and returns its path.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path.display().to_string()
    }

    /// The path of a file that may not exist.
    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs rx86 with nothing on its standard input; returns status, standard output and standard error.
pub(crate) fn run_rx86(arguments: &[&str]) -> (i32, String, String) {
    let child = Command::new(env!("CARGO_BIN_EXE_rx86"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    #[cfg(unix)]
    let id = child.id();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = receiver.recv_timeout(LIMIT) else {
        #[cfg(unix)]
        let _ = Command::new("kill").args(["-9", &id.to_string()]).status();
        panic!("rx86 {arguments:?} hangs");
    };
    let output = output.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

/// A bzImage that passes for one, with `code` at both entry points: protocol 2.15, one setup sector.
pub(crate) fn bzimage(code: &[u8]) -> Vec<u8> {
    const ENTRY_64: usize = 0x200;
    const SETUP_BYTES: usize = 1024;
    let mut image = vec![0u8; SETUP_BYTES + 0x1000];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x1f1, &[1]);
    put(0x1f4, &(0x1000u32 / 16).to_le_bytes());
    put(0x1fe, &[0x55, 0xaa]);
    put(0x200, &[0xeb, 0x66]);
    put(0x202, b"HdrS");
    put(0x206, &0x020f_u16.to_le_bytes());
    // loadflags: LOADED_HIGH.
    put(0x211, &[1]);
    put(0x214, &0x10_0000_u32.to_le_bytes());
    put(0x22c, &0x7fff_ffff_u32.to_le_bytes());
    put(0x230, &0x20_0000_u32.to_le_bytes());
    // relocatable_kernel, min_alignment, and XLF_KERNEL_64.
    put(0x234, &[1, 21]);
    put(0x236, &1_u16.to_le_bytes());
    put(0x238, &2047_u32.to_le_bytes());
    put(0x258, &0x100_0000_u64.to_le_bytes());
    put(0x260, &0x2000_u32.to_le_bytes());
    put(SETUP_BYTES, code);
    put(SETUP_BYTES + ENTRY_64, code);
    image
}
