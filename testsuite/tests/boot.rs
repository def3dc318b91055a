//! Boots guests to their end, as a user would: Debian's kernels to a script that runs real programs, and small kernels
//! of our own to every way in which a run can end.

use rx86::demo::debian::Flavour;
use rx86_testsuite::guest::debian::{Debian, assert_checks, assert_status};
use rx86_testsuite::guest::kernel;
use rx86_testsuite::guest::runner::{Emulator, Guest, Run};
use rx86_testsuite::guest::tool;
use std::path::PathBuf;
use std::time::Duration;

/// Far more than any of these takes; it only ends what hangs.
const LIMIT: Duration = Duration::from_secs(300);

/// Runs busybox's applets and a program of ours; the expected values come from other machines.
const PROGRAMS: &str = r#"
check sha256sum "$(seq 1 20000 | sha256sum)" \
    "f6351f5ead9a700e34275480b3856ea738122a7c57bdeb744a631251c069587a  -"
check float-sum "$(awk 'BEGIN { for (i = 1; i <= 20000; i++) s += 1 / (i * i); printf "%.15g", s }')" \
    1.64488406809821
check float-root "$(awk 'BEGIN { x = 2; for (i = 0; i < 40; i++) x = (x + 2 / x) / 2; printf "%.17g %d", x, -7.9 }')" \
    "1.4142135623730949 -7"
check float-range "$(awk 'BEGIN { y = 1; for (i = 1; i < 170; i++) y *= i; printf "%.15e", y }')" \
    4.269068009004703e+304
i=0; sum=0
while [ $i -lt 300 ]; do (exit $((i % 7))); sum=$((sum + $?)); i=$((i + 1)); done
check fork $sum 897
check pipes "$(seq 1 5000 | sort -r | sort -n | md5sum)" "a5a208cd26b07cadade3450fe14d1d93  -"
check gzip "$(seq 1 50000 | gzip | gunzip | md5sum)" "c1d4ba52c72ac7bcc71ff2d6c083e684  -"
got=0
trap 'got=$((got + 1))' USR1
kill -USR1 $$; kill -USR1 $$
check trap $got 2
sleep 1000 & kill -TERM $!; wait $!
check kill $? 143
check zeros "$(dd if=/dev/zero bs=64k count=4 2>/dev/null | od -A n -t x1 | sort -u | tr -d ' \n')" \
    "00000000000000000000000000000000*"
/tests/memory-maps
check memory-maps $? 0
yes | head -c 8000000 > /tmp/file; cp /tmp/file /tmp/copy
check files "$(md5sum < /tmp/copy) $(wc -c < /tmp/copy)" "$(md5sum < /tmp/file) 8000000"
before=$(date +%s); usleep 1100000; after=$(date +%s)
check time $((after > before && before > 1700000000)) 1
check processors "$(grep -c '^processor' /proc/cpuinfo)" 1
check long-mode "$(grep -m 1 '^flags' /proc/cpuinfo | grep -c -w lm)" 1
check kernel-complaints "$(dmesg | grep -E 'BUG:|WARNING:|Oops|soft lockup|unchecked MSR|stalls on CPU')" ""
echo "kilobytes $(grep MemTotal /proc/meminfo | tr -dc 0-9)"
poweroff -f
"#;

const PROGRAM_CHECKS: [&str; 16] = [
    "sha256sum",
    "float-sum",
    "float-root",
    "float-range",
    "fork",
    "pipes",
    "gzip",
    "trap",
    "kill",
    "zeros",
    "memory-maps",
    "files",
    "time",
    "processors",
    "long-mode",
    "kernel-complaints",
];

/// Boots a Debian kernel to [`PROGRAMS`]; MemTotal must lie between `memory_mib` and `missing_mib` less.
fn boot(name: &str, flavour: Flavour, memory_mib: u64, missing_mib: u64, arguments: &[&str]) {
    let Some(debian) = Debian::get(env!("CARGO_TARGET_TMPDIR"), flavour) else { return };
    let mut guest = debian.guest(name, PROGRAMS, &[("memory-maps", &tool::memory_maps())]);
    guest.memory_mib = memory_mib;
    guest.rx86_args = arguments.iter().map(Into::into).collect();
    let run = run(&guest);
    assert_checks(&run, &PROGRAM_CHECKS, 0);
    let kilobytes: u64 = run.after("kilobytes ").and_then(|n| n.parse().ok()).expect("MemTotal was printed");
    let mib = kilobytes >> 10;
    assert!((memory_mib - missing_mib..memory_mib).contains(&mib), "MemTotal is {mib} MiB of {memory_mib}");
}

fn run(guest: &Guest) -> Run {
    guest.run(Emulator::Rx86, LIMIT).expect("rx86 starts")
}

#[test]
fn cloud_kernel_in_512_mib() {
    boot("cloud-512", Flavour::Cloud, 512, 64, &[]);
}

#[test]
fn cloud_kernel_in_128_mib() {
    boot("cloud-128", Flavour::Cloud, 128, 56, &[]);
}

#[test]
fn cloud_kernel_in_5_gib() {
    boot("cloud-5g", Flavour::Cloud, 5 << 10, 256, &[]);
}

#[test]
fn full_kernel() {
    boot("full", Flavour::Full, 512, 96, &[]);
}

#[test]
fn cloud_kernel_by_the_32_bit_protocol() {
    boot("cloud-32", Flavour::Cloud, 512, 64, &["--boot-protocol", "32"]);
}

#[test]
fn a_kernel_panic_resets_the_guest() {
    let Some(debian) = Debian::get(env!("CARGO_TARGET_TMPDIR"), Flavour::Cloud) else { return };
    let mut guest = debian.guest("panic", "exit 3\n", &[]);
    guest.append.push_str(" panic=-1");
    guest.rx86_args.push("--no-reboot".into());
    let run = run(&guest);
    assert_status(&run, 4);
    let console = run.console();
    assert!(console.contains("Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000300"), "{console}");
}

#[test]
fn a_guest_program_ends_the_run_through_debug_exit() {
    let Some(debian) = Debian::get(env!("CARGO_TARGET_TMPDIR"), Flavour::Cloud) else { return };
    let programs: [(&str, &[u8]); 1] = [("debug-exit", &tool::port_output(0xf4, 0x2a))];
    let mut guest = debian.guest("debug-exit", "/tests/debug-exit\npoweroff -f\n", &programs);
    guest.rx86_args.push("--debug-exit".into());
    assert_status(&run(&guest), 0x2a * 2 + 1);
    // Without the device the port is nobody's, and the script goes on.
    guest.rx86_args.clear();
    assert_status(&run(&guest), 0);
}

/// A guest of a few bytes, without initrd.
fn small_guest(name: &str, kernel: &[u8]) -> Guest {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("kernel-{name}"));
    std::fs::write(&path, kernel).expect("the folder is writable");
    Guest { kernel: path, initrd: None, append: String::new(), memory_mib: 64, rx86_args: Vec::new() }
}

#[test]
fn a_pvh_kernel_prints_and_powers_off() {
    let run = run(&small_guest("says", &kernel::says_and_powers_off("hello\n")));
    assert_status(&run, 0);
    assert_eq!((run.console().as_str(), run.errors.as_str()), ("hello\n", ""));
}

#[test]
fn a_triple_fault_is_reported() {
    for (bits, mode, walk) in [(32, "32-bit protected mode", "paging is off"), (64, "64-bit mode", "PML4")] {
        let run = run(&small_guest(&format!("fault-{bits}"), &kernel::triple_faults(bits)));
        assert_status(&run, 6);
        let said = &run.errors;
        for part in [
            "rx86: triple fault at 0x10",
            mode,
            "RBX=0000000012345678",
            "IDTR base=0000000000000000 limit=0000",
            "CR0=",
            "last events",
            "exception 0x08",
            "int3",
            "page walk",
            walk,
        ] {
            assert!(said.contains(part), "{bits} bits: no '{part}' in:\n{said}");
        }
    }
}

#[test]
fn a_halted_guest_executes_nothing() {
    let ticks = 100;
    let mut guest = small_guest("idle", &kernel::idles(ticks));
    guest.rx86_args.push("--stats=json".into());
    let run = run(&guest);
    assert_status(&run, 0);
    let stats: serde_json::Value = serde_json::from_str(run.errors.trim()).expect("the counters are JSON");
    // Eight a tick, and some to begin: a second of guest time, in which a guest that spins executes many millions.
    let instructions = stats["instructions"]["interp"].as_u64().expect("they are counted");
    assert!((800..1200).contains(&instructions), "{stats}");
    let halts = stats["exits"]["halt"].as_u64().expect("they are counted");
    assert!((50..=200).contains(&halts), "{stats}");
}
