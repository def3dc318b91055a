//! How runs end: the exit status of each way, and what is left on standard error.

use crate::{Folder, bzimage, run_rx86};

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
            let (found, _, errors) = run_rx86(&arguments);
            assert_eq!(found, status, "{name} {protocol}: {errors}");
            assert!(errors.contains(part), "{name} {protocol}: {errors}");
            assert!(!errors.contains("panicked"), "{name} {protocol}: {errors}");
        }
    }
}

/// Without `--no-reboot` the kernel starts again, and RAM is as the guest left it.
#[test]
fn a_reset_boots_again() {
    let folder = Folder::new("reset");
    #[rustfmt::skip]
    let code = [
        0x81, 0x3c, 0x25, 0, 0, 0x40, 0, 0xdd, 0xcc, 0xbb, 0x0a, // cmp dword [0x400000], 0xabbccdd
        0x74, 0x11,                                             // je second
        0xc7, 0x04, 0x25, 0, 0, 0x40, 0, 0xdd, 0xcc, 0xbb, 0x0a, // mov dword [0x400000], 0xabbccdd
        0xb0, 0xfe, 0xe6, 0x64, 0x0f, 0x0b,                     // the keyboard controller's reset
        0xb0, 0x21, 0xe6, 0xf4, 0x0f, 0x0b,                     // second: isa-debug-exit
    ];
    let kernel = folder.file("kernel", &bzimage(&code));
    let (status, _, errors) = run_rx86(&["--kernel", &kernel, "--memory=32M", "--debug-exit"]);
    assert_eq!((status, errors.as_str()), (0x21 * 2 + 1, ""));
}

#[test]
fn counters_are_one_json_object() {
    let folder = Folder::new("stats");
    let kernel = folder.file("kernel", &bzimage(&[0xfa, 0xf4]));
    let (status, console, errors) = run_rx86(&["--kernel", &kernel, "--memory=32M", "--stats=json"]);
    assert_eq!((status, console.as_str()), (10, ""));
    let line = errors.lines().find(|line| line.starts_with('{')).unwrap();
    let counters: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(counters["instructions"]["interp"], 2);
    assert_eq!(counters["exits"]["halt"], 1);
}

#[test]
fn help_and_version_are_no_errors() {
    for (arguments, part) in
        [(&["--help"][..], "Exit status"), (&["demo", "--help"], "--cache"), (&["--version"], "rx86 ")]
    {
        let (status, console, errors) = run_rx86(arguments);
        assert_eq!((status, errors.as_str()), (0, ""), "{arguments:?}");
        assert!(console.contains(part), "{arguments:?}: {console}");
    }
}
