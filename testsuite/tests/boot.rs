//! Whole boots of Debian's kernels to a script that runs real programs, and the statuses of guests that end badly.
//!
//! The kernels and busybox come from Debian's packages; without apt each test says that it is skipped.

use rx86::demo::debian::Flavour;
use rx86_testsuite::guest::debian;
use rx86_testsuite::guest::program::debug_exit_program;
use rx86_testsuite::guest::runner::{Emulator, Guest, Run};
use rx86_testsuite::guest::tool;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const TMP: &str = env!("CARGO_TARGET_TMPDIR");

/// Many times what a boot takes on an idle machine.
const LIMIT: Duration = Duration::from_secs(600);

/// Two boots at once would only slow each other down; and one of them fetches the packages.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Real programs with known output; each prints `check NAME ok`, or what it found.
const CHECKS: &str = r#"
check() { if [ "$2" = "$3" ]; then echo "check $1 ok"; else echo "check $1 FAILED: '$2', not '$3'"; fi; }
check sha256 "$(printf 'the quick brown fox' | sha256sum | cut -c1-16)" 9ecb36561341d18e
check awk "$(awk 'BEGIN { x = 0; for (i = 1; i <= 1000; i++) x += 1 / i; printf "%.9f", x }')" 7.485470861
check float "$(awk 'BEGIN { printf "%.12g %.3e %d", 1.4142135623730951 * 3.7 / 1.1, 1e300 * 1e5, -7.9 }')" "4.75690016435 1.000e+305 -7"
check fork "$(i=0; while [ $i -lt 40 ]; do (exit 3); i=$((i + $?)); done; echo $i)" 42
check pipes "$(seq 1 2000 | sort -rn | tail -n +11 | head -n 5 | md5sum | cut -c1-8)" "$(printf '1990\n1989\n1988\n1987\n1986\n' | md5sum | cut -c1-8)"
check signals "$(sh -c 'trap "echo caught; exit 0" USR1; kill -USR1 $$; sleep 5; echo missed')" caught
check kill "$(sh -c 'sleep 1000 & kill $!; wait $!; echo $?')" 143
check memory-maps "$(memory-maps; echo $?)" 0
check range "$(awk 'BEGIN { y = 1; for (i = 1; i < 170; i++) y *= i; printf "%.15e", y }')" 4.269068009004703e+304
check files "$(yes | head -c 8000000 > /tmp/a; cp /tmp/a /tmp/b; md5sum < /tmp/b; wc -c < /tmp/b)" "$(md5sum < /tmp/a; echo 8000000)"
check gzip "$(seq 1 5000 | gzip -9 | gunzip | md5sum)" "$(seq 1 5000 | md5sum)"
check zero "$(dd if=/dev/zero bs=64k count=32 2>/dev/null | md5sum | cut -c1-8)" b2d1236c
check background "$(sh -c 'sleep 0.2 & wait $!; echo $?')" 0
check cpu "$(grep -c ^processor /proc/cpuinfo)" 1
check mitigations "$(cat /sys/devices/system/cpu/vulnerabilities/* | grep -vc 'Not affected')" 0
check clock "$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)" tsc
before=$(cut -d. -f1 /proc/uptime); sleep 2; after=$(cut -d. -f1 /proc/uptime)
check sleep "$([ $((after - before)) -ge 1 ] && [ $((after - before)) -le 20 ] && echo plausible)" plausible
check complaints "$(dmesg | grep -cE 'BUG:|WARNING:|Oops|soft lockup|unchecked MSR|Clocksource.*skewed|call trace')" 0
echo "memory $(grep MemTotal /proc/meminfo | tr -s ' ' | cut -d' ' -f2)"
echo done
poweroff -f
"#;

/// How many checks there are.
fn check_count() -> usize {
    CHECKS.lines().filter(|line| line.starts_with("check ")).count()
}

fn run(guest: &Guest) -> Run {
    guest.run(Emulator::Rx86, LIMIT).expect("rx86 starts")
}

/// Boots with the checks; all must hold and the guest must power off.
fn boots(name: &str, flavour: Flavour, memory_mib: u64, args: &[&str]) -> Option<Run> {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let extra: [(&str, &[u8]); 1] = [("bin/memory-maps", &tool::memory_maps())];
    let mut guest = debian::guest(TMP, name, flavour, CHECKS, &extra)?;
    guest.memory_mib = memory_mib;
    guest.rx86_args.extend(args.iter().map(Into::into));
    let run = run(&guest);
    let console = run.console();
    let passed = console.lines().filter(|line| line.starts_with("check ") && line.ends_with(" ok")).count();
    assert_eq!(passed, check_count(), "{console}\n{}", run.errors);
    assert_eq!((run.status, run.after("done")), (Some(0), Some("")), "{console}\n{}", run.errors);
    println!("{name}: {passed} checks in {:.1} s", run.elapsed.as_secs_f64());
    Some(run)
}

#[test]
fn cloud_kernel() {
    boots("cloud", Flavour::Cloud, 512, &["--boot-protocol", "64"]);
}

#[test]
fn cloud_kernel_in_128_mib() {
    boots("cloud-128", Flavour::Cloud, 128, &[]);
}

#[test]
fn cloud_kernel_beyond_4_gib() {
    let Some(run) = boots("cloud-5g", Flavour::Cloud, 5 * 1024, &[]) else { return };
    let total: u64 =
        run.after("memory ").and_then(|kib| kib.parse().ok()).expect("the script prints MemTotal");
    assert!(total > 4_700_000, "{total} KiB");
}

#[test]
fn cloud_kernel_by_the_32_bit_protocol() {
    boots("cloud-32", Flavour::Cloud, 512, &["--boot-protocol", "32"]);
}

#[test]
fn full_kernel() {
    boots("full", Flavour::Full, 512, &[]);
}

/// What translations there are of code that is needed again is given up all the time.
#[test]
fn cloud_kernel_with_a_full_code_cache() {
    let Some(run) = boots("cloud-full-cache", Flavour::Cloud, 512, &["--code-cache", "2M", "--stats"]) else {
        return;
    };
    let dropped = run.errors.lines().find(|line| line.starts_with("regions dropped")).unwrap_or_default();
    let evicted = dropped.split_whitespace().rev().nth(1).and_then(|count| count.parse::<u32>().ok());
    assert!(evicted.is_some_and(|count| count > 1000), "'{dropped}': {}", run.errors);
}

#[test]
fn cloud_kernel_on_the_interpreter() {
    boots("cloud-interp", Flavour::Cloud, 512, &["--engine", "interp"]);
}

#[test]
fn full_kernel_on_the_interpreter() {
    boots("full-interp", Flavour::Full, 512, &["--engine", "interp"]);
}

#[test]
fn a_kernel_panic_ends_with_the_status_of_a_reset() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(mut guest) = debian::guest(TMP, "panic", Flavour::Cloud, "exit 7\n", &[]) else { return };
    guest.append.push_str(" panic=-1");
    let run = run(&guest);
    assert!(
        run.console().contains("Kernel panic - not syncing: Attempted to kill init!"),
        "{}",
        run.console()
    );
    assert_eq!(run.status, Some(4), "{}", run.errors);
}

#[test]
fn a_guest_reports_its_status_through_debug_exit() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let program = debug_exit_program(0xf4, 21);
    let Some(mut guest) =
        debian::guest(TMP, "debug-exit", Flavour::Cloud, "/bin/leave\n", &[("bin/leave", &program)])
    else {
        return;
    };
    guest.rx86_args.push("--debug-exit".into());
    let run = run(&guest);
    assert_eq!(run.status, Some(43), "{}\n{}", run.console(), run.errors);
}

#[test]
fn a_halted_guest_executes_next_to_nothing() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let instructions = |name: &str, seconds: u32| -> Option<u64> {
        let script = format!("sleep {seconds}\npoweroff -f\n");
        let mut guest = debian::guest(TMP, name, Flavour::Cloud, &script, &[])?;
        guest.rx86_args.extend(["--engine=interp".into(), "--stats=json".into(), "--seed=1".into()]);
        let run = run(&guest);
        assert_eq!(run.status, Some(0), "{}\n{}", run.console(), run.errors);
        let (_, rest) = run.errors.split_once("\"interp\":")?;
        rest.split(['}', ',']).next()?.parse().ok()
    };
    let (Some(short), Some(long)) = (instructions("idle-0", 0), instructions("idle-8", 8)) else { return };
    // Eight seconds of interpretation would be two thousand million instructions.
    assert!(long.saturating_sub(short) < 300_000_000, "{short} without the sleep, {long} with it");
}
