//! What a user can pass wrongly: each gets one line on standard error, a non-zero status, and no waiting.

use crate::{Folder, bzimage, run_rx86};
use std::fs;

/// Asserts one line on standard error with all `parts`, the host-error status, and an empty console.
fn assert_refused(arguments: &[&str], parts: &[&str]) {
    let (status, console, errors) = run_rx86(arguments);
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
fn numbers_of_processors_that_cannot_be() {
    let folder = Folder::new("processors");
    let kernel = folder.file("kernel", &bzimage(&[0xf4]));
    for (cpus, engine, parts) in [
        ("2", "kvm", ["kvm engine runs one processor", "--engine jit"]),
        ("0", "jit", ["--cpus", "0"]),
        ("65", "jit", ["--cpus", "64"]),
    ] {
        assert_refused(&["--kernel", &kernel, "--cpus", cpus, "--engine", engine], &parts);
    }
}

#[test]
fn initrds_that_are_none() {
    let folder = Folder::new("initrds");
    let kernel = folder.file("kernel", &bzimage(&[0xf4]));
    let whole = rx86::initrd::Builder::new().file("init", 0o755, &noise(5000)).gzip().unwrap();
    let cases: [(&str, &[u8], &str); 6] = [
        ("empty", &[], "empty"),
        ("noise", &noise(5000), "no initrd"),
        ("text", b"hello\n", "no initrd"),
        ("kernel-again", &bzimage(&[0xf4]), "no initrd"),
        ("cut.gz", &whole[..whole.len() / 2], "truncated"),
        (
            "cut",
            &rx86::initrd::Builder::new().file("init", 0o755, &noise(5000)).archive()[..2000],
            "truncated",
        ),
    ];
    for (name, bytes, part) in cases {
        let path = folder.file(name, bytes);
        assert_refused(&["--kernel", &kernel, "--initrd", &path], &[&path, part]);
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
    let initrd = folder.file("initrd", &rx86::initrd::Builder::new().gzip().unwrap());
    let empty = folder.file("empty", &[]);
    let huge = folder.path("huge");
    fs::File::create(&huge).unwrap().set_len(3 << 40).unwrap();
    let large = folder.path("large");
    // A file system image, which is taken as it is.
    let squashfs = fs::write(&large, b"hsqs").and_then(|()| fs::OpenOptions::new().write(true).open(&large));
    squashfs.unwrap().set_len(31 << 20).unwrap();
    let long = "x".repeat(5000);
    assert_refused(&["--kernel", &huge], &[&huge, "--memory"]);
    assert_refused(&["--kernel", &kernel, "--initrd", &huge], &[&huge, "--memory"]);
    assert_refused(&["--kernel", &kernel, "--initrd", &large, "--memory", "32M"], &[&large, "--memory"]);
    assert_refused(&["--kernel", &kernel, "--initrd", &empty], &[&empty, "empty"]);
    assert_refused(&["--kernel", &kernel, "--initrd", &initrd, "--append", &long], &["5000", "shorten"]);
    for size in ["0", "1M", "15M", "513G", "20000000G", "-1", "3.5G", "lots", ""] {
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

#[test]
fn files_that_are_read_are_not_overwritten() {
    let folder = Folder::new("overwritten");
    let kernel = folder.file("kernel", &bzimage(&[0xf4]));
    let recording = folder.file("recording", b"rx86 recording 1\n");
    for arguments in [
        &["--record", &kernel][..],
        &["--state-hash-every", "1000", "--state-hash-file", &kernel],
        &["--trace", "io", "--trace-file", &kernel],
    ] {
        let option = arguments[arguments.len() - 2];
        assert_refused(
            &[&["--kernel", &kernel][..], arguments].concat(),
            &[option, "would overwrite", &kernel],
        );
    }
    let hashes = ["--replay", &recording, "--state-hash-every", "9", "--state-hash-file", &recording];
    assert_refused(&[&["--kernel", &kernel][..], &hashes].concat(), &["would overwrite", &recording]);
    assert!(fs::read(&kernel).is_ok_and(|bytes| bytes == bzimage(&[0xf4])));
}

#[test]
fn recordings_that_are_none() {
    let folder = Folder::new("recordings");
    let kernel = folder.file("kernel", &bzimage(&[0xf4]));
    let wrong = folder.file("wrong", b"rx86 recording 1\nat noon ls\n");
    for (path, part) in
        [("/nonexistent/recording", "cannot read"), (wrong.as_str(), "line 2 is 'at noon ls'")]
    {
        assert_refused(&["--kernel", &kernel, "--replay", path], &[path, part]);
    }
    let kvm = ["--kernel", &kernel, "--deterministic", "--engine", "kvm"];
    let (status, _, _) = run_rx86(&kvm);
    assert_eq!(status, 2);
}
