//! Boots of Debian's kernel with several vCPUs to a script that puts work on all of them.
//!
//! The kernel and busybox come from Debian's packages; without apt each test says that it is skipped. `RX86_SMP_BOOTS` sets
//! how often each boots.

use rx86::demo::debian::Flavour;
use rx86_testsuite::guest::debian;
use rx86_testsuite::guest::runner::Emulator;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Many times what a boot takes on an idle machine.
const LIMIT: Duration = Duration::from_secs(600);

/// One of these boots keeps all cores of a small machine busy.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Prints `check NAME ok` or what it found; the number of checks depends on that of processors, which is in `$N`.
const SCRIPT: &str = r#"
check() { if [ "$2" = "$3" ]; then echo "check $1 ok"; else echo "check $1 FAILED: '$2', not '$3'"; fi; }
check nproc "$(nproc)" $N
for round in 1 2 3; do
  for job in 1 2 3 4 5 6; do (seq 1 4000 | sha256sum | cut -c1-8 > /tmp/sum$job) & done
  wait
  check sums$round "$(cat /tmp/sum? | sort -u)" "$(seq 1 4000 | sha256sum | cut -c1-8)"
done
for job in 1 2 3 4; do (i=0; while [ $i -lt 60 ]; do (exit 3); i=$((i + $?)); done; echo $i > /tmp/forks$job) & done
wait
check forks "$(cat /tmp/forks? | sort -u)" 60
where() { taskset -c $1 sh -c 'cut -d" " -f39 /proc/self/stat'; }
cpu=0; while [ $cpu -lt $N ]; do check place$cpu "$(where $cpu)" $cpu; cpu=$((cpu+1)); done
check pipes "$(taskset -c 0 seq 1 20000 | taskset -c $((N-1)) awk '{ s += $1 } END { print s }')" 200010000
cpu=1; while [ $cpu -lt $N ]; do
  online=/sys/devices/system/cpu/cpu$cpu/online
  echo 0 > $online; check unplugged$cpu "$(cat $online) $(nproc)" "0 $((N-1))"
  echo 1 > $online; check plugged$cpu "$(cat $online) $(where $cpu)" "1 $cpu"
  cpu=$((cpu+1))
done
check clock "$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)" tsc
COMPLAINTS='BUG:|WARNING:|Oops|soft lockup|rcu.*stall|hung task|unchecked MSR|skewed|unstable|Call Trace'
dmesg | grep -E "$COMPLAINTS"
check complaints "$(dmesg | grep -cE "$COMPLAINTS")" 0
echo done
poweroff -f
"#;

fn boots(name: &str, engine: &str, cpus: usize) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let script = format!("N={cpus}\n{SCRIPT}");
    let Some(mut guest) = debian::guest(env!("CARGO_TARGET_TMPDIR"), name, Flavour::Cloud, &script, &[])
    else {
        return;
    };
    guest.rx86_args.extend(["--cpus".into(), cpus.to_string().into(), "--engine".into(), engine.into()]);
    let times = std::env::var("RX86_SMP_BOOTS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    for _ in 0..times {
        let run = guest.run(Emulator::Rx86, LIMIT).expect("rx86 starts");
        let console = run.console();
        let passed =
            console.lines().filter(|line| line.starts_with("check ") && line.ends_with(" ok")).count();
        // Eight, one for each processor, and two for each that is unplugged.
        assert_eq!(passed, 8 + cpus + 2 * (cpus - 1), "{console}\n{}", run.errors);
        assert_eq!((run.status, run.after("done")), (Some(0), Some("")), "{console}\n{}", run.errors);
        println!("{name}: {passed} checks in {:.1} s", run.elapsed.as_secs_f64());
    }
}

#[test]
fn two_processors() {
    boots("smp-2", "jit", 2);
}

#[test]
fn four_processors() {
    boots("smp-4", "jit", 4);
}

#[test]
fn two_processors_on_the_interpreter() {
    boots("smp-2-interp", "interp", 2);
}

#[test]
fn four_processors_on_the_interpreter() {
    boots("smp-4-interp", "interp", 4);
}
