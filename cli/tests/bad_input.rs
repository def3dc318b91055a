//! What a user can pass wrongly: each gets one line on standard error, a non-zero status, and no waiting.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Ends a test whose command hangs; far longer than any of them needs.
const LIMIT: Duration = Duration::from_secs(120);

/// A folder of the test's own, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Writes a file and returns its path.
    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path.display().to_string()
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs rx86 with nothing on its standard input; returns status, standard output and standard error.
fn rx86(arguments: &[&str]) -> (i32, String, String) {
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

/// Asserts one line on standard error with all `parts`, the host-error status, and an empty console.
fn assert_refused(arguments: &[&str], parts: &[&str]) {
    let (status, console, errors) = rx86(arguments);
    assert_eq!(status, 2, "{arguments:?}: {errors}");
    assert_eq!(errors.lines().count(), 1, "{arguments:?}: {errors}");
    assert!(errors.starts_with("rx86: ") && errors.ends_with('\n'), "{arguments:?}: {errors}");
    assert_eq!(console, "", "{arguments:?}");
    for part in parts {
        assert!(errors.contains(part), "{arguments:?} does not say '{part}': {errors}");
    }
}

/// Bytes without any order, the same at every run (a linear congruential generator, Knuth's constants).
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x1234_5678_u64;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(next).collect()
}

/// A bzImage that passes for one, with `code` at both entry points: protocol 2.15, one setup sector.
fn bzimage(code: &[u8]) -> Vec<u8> {
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

#[test]
fn kernels_that_are_none() {
    let folder = Folder::new("kernels");
    let elf_for_arm = {
        let mut elf = vec![0u8; 0x200];
        elf[..8].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0]);
        elf[16..20].copy_from_slice(&[2, 0, 183, 0]);
        elf
    };
    let whole = bzimage(&[0xf4]);
    let cases: [(&str, Vec<u8>, &str); 11] = [
        ("empty", vec![], "empty"),
        ("one-byte", vec![0x90], "1 bytes"),
        ("zeros", vec![0; 1 << 16], "zeros"),
        ("noise", noise(1 << 16), "not an x86 kernel"),
        ("text", b"hello\n".repeat(200), "a text file"),
        ("gzip", [&[0x1f, 0x8b, 8, 0][..], &noise(4096)].concat(), "gzip"),
        ("script", b"#!/bin/sh\n".repeat(100), "a script"),
        ("arm.elf", elf_for_arm, "ELF"),
        ("cut-in-header", whole[..0x210].to_vec(), "copy it again"),
        ("cut-in-setup", whole[..1000].to_vec(), "truncated"),
        ("cut-in-code", whole[..2000].to_vec(), "truncated"),
    ];
    for (name, bytes, part) in cases {
        let path = folder.file(name, &bytes);
        assert_refused(&["--kernel", &path], &[&path, part]);
    }
}

#[test]
fn files_that_cannot_be_read() {
    let folder = Folder::new("files");
    let kernel = folder.file("kernel", &bzimage(&[0xf4]));
    let nothing = folder.path("nothing");
    let odd_name = folder.path("two\nlines");
    let directory = folder.0.display().to_string();
    assert_refused(&["--kernel", &nothing], &[&nothing, "no such file"]);
    assert_refused(&["--kernel", &odd_name], &["no such file"]);
    assert_refused(&["--kernel", ""], &["--kernel"]);
    assert_refused(&["--kernel", &directory], &[&directory, "directory"]);
    assert_refused(&["--kernel", &kernel, "--initrd", &nothing], &[&nothing, "no such file"]);
    assert_refused(&["--kernel", &kernel, "--initrd", &directory], &[&directory, "directory"]);
    let trace = folder.path("nowhere/trace");
    assert_refused(&["--kernel", &kernel, "--trace", "io", "--trace-file", &trace], &[&trace]);
}

#[cfg(unix)]
#[test]
fn devices_pipes_and_forbidden_files() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("devices");
    assert_refused(&["--kernel", "/dev/zero"], &["/dev/zero", "not a regular file"]);
    let kernel = folder.file("kernel", &bzimage(&[0xf4]));
    assert_refused(&["--kernel", &kernel, "--initrd", "/dev/null"], &["/dev/null", "not a regular file"]);
    fs::set_permissions(&kernel, fs::Permissions::from_mode(0o000)).unwrap();
    // Root reads it all the same.
    if fs::File::open(&kernel).is_err() {
        assert_refused(&["--kernel", &kernel], &[&kernel, "may not read"]);
    }
}

#[test]
fn what_does_not_fit_into_memory() {
    let folder = Folder::new("fit");
    let kernel = folder.file("kernel", &bzimage(&[0xf4]));
    let initrd = folder.file("initrd", &noise(1 << 12));
    let empty = folder.file("empty", &[]);
    let huge = folder.path("huge");
    fs::File::create(&huge).unwrap().set_len(3 << 40).unwrap();
    let large = folder.path("large");
    fs::File::create(&large).unwrap().set_len(31 << 20).unwrap();
    let long = "x".repeat(5000);
    assert_refused(&["--kernel", &huge], &[&huge, "--memory"]);
    assert_refused(&["--kernel", &kernel, "--initrd", &huge], &[&huge, "--memory"]);
    assert_refused(&["--kernel", &kernel, "--initrd", &large, "--memory", "32M"], &[&large, "--memory"]);
    assert_refused(&["--kernel", &kernel, "--initrd", &empty], &[&empty, "empty"]);
    assert_refused(&["--kernel", &kernel, "--initrd", &initrd, "--append", &long], &["5000", "shorten"]);
    for size in ["0", "1M", "15M", "20000000G", "-1", "3.5G", "lots", ""] {
        assert_refused(&["--kernel", &kernel, &format!("--memory={size}")], &["--memory"]);
    }
}

#[test]
fn options_that_contradict_each_other() {
    let folder = Folder::new("options");
    let kernel = folder.file("kernel", &bzimage(&[0xf4]));
    let k = ["--kernel", &kernel];
    assert_refused(&[], &["--kernel", "demo"]);
    assert_refused(&["--memory", "64M"], &["--kernel"]);
    assert_refused(&["--initrd", &kernel], &["--kernel"]);
    assert_refused(&["--append", "quiet"], &["--kernel"]);
    assert_refused(&[k[0], k[1], k[0], k[1]], &["multiple times"]);
    assert_refused(&[k[0], k[1], "demo"], &["demo", "--kernel"]);
    assert_refused(&["demo", k[0], k[1], "--full-kernel"], &["--kernel", "--full-kernel"]);
    assert_refused(&["demo", k[0], k[1], "--busybox", &kernel], &[&kernel, "static"]);
    assert_refused(&["demo", k[0], k[1], "--busybox", "nothing"], &["nothing", "no such file"]);
    assert_refused(&[k[0], k[1], "--trace-file", "t"], &["--trace"]);
    assert_refused(&[k[0], k[1], "--trace", "weather"], &["weather", "exceptions"]);
    assert_refused(&[k[0], k[1], "--trace", "exceptions:pic"], &["exceptions:pic"]);
    assert_refused(&[k[0], k[1], "--trace", "io", "--trace-file", &kernel], &["--trace-file", &kernel]);
    assert_refused(&[k[0], k[1], "--engine", "abacus"], &["abacus", "interp"]);
    assert_refused(&[k[0], k[1], "--debug-exit=beef"], &["--debug-exit"]);
    assert_refused(&[k[0], k[1], "stray"], &["stray"]);
    assert_refused(&["--kernle", k[1]], &["--kernle", "similar", "--kernel"]);
}

/// A guest that runs, but not to a power-off: the status tells how it ended, and the line says so.
#[test]
fn guests_that_end_badly() {
    let folder = Folder::new("guests");
    let cases: [(&str, &[u8], i32, &str); 4] = [
        // cli; hlt
        ("halted", &[0xfa, 0xf4], 10, "halted"),
        // mov $0x33, %al; out %al, $0xf4
        ("debug-exit", &[0xb0, 0x33, 0xe6, 0xf4, 0x0f, 0x0b], 0x33 * 2 + 1, ""),
        // mov $0xfe, %al; out %al, $0x64
        ("reset", &[0xb0, 0xfe, 0xe6, 0x64, 0x0f, 0x0b], 4, ""),
        // ud2, and the IDT is empty.
        ("triple-fault", &[0x0f, 0x0b], 6, "triple fault"),
    ];
    for (name, code, status, part) in cases {
        let kernel = folder.file(name, &bzimage(code));
        for protocol in ["--boot-protocol=64", "--boot-protocol=32"] {
            let arguments = ["--kernel", &kernel, "--memory", "32M", "--no-reboot", "--debug-exit", protocol];
            let (found, _, errors) = rx86(&arguments);
            assert_eq!(found, status, "{name} {protocol}: {errors}");
            assert!(errors.contains(part), "{name} {protocol}: {errors}");
            assert!(!errors.contains("panicked"), "{name} {protocol}: {errors}");
        }
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for (arguments, part) in
        [(&["--help"][..], "Exit status"), (&["demo", "--help"], "--cache"), (&["--version"], "rx86 ")]
    {
        let (status, console, errors) = rx86(arguments);
        assert_eq!((status, errors.as_str()), (0, ""), "{arguments:?}");
        assert!(console.contains(part), "{arguments:?}: {console}");
    }
}
