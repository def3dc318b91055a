//! Boots of Debian's kernel with several vCPUs to a script, and to the program of `testsuite/smp`, that put work on all of them; bare
//! guests whose vCPUs spin while they wait for each other, more of them than the host has CPUs.
//!
//! The kernel and busybox come from Debian's packages; without apt each test says that it is skipped. `RX86_SMP_BOOTS` sets
//! how often each boots, `RX86_SMP_PERCENT` how much the program does.

use iced_x86::IcedError;
use iced_x86::code_asm::*;
use rx86::demo::debian::Flavour;
use rx86_testsuite::guest::debian;
use rx86_testsuite::guest::rounds::{
    self, Counts, Part, Test, increment_under_lock, nothing, repeat, variable,
};
use rx86_testsuite::guest::runner::{Emulator, Guest};
use rx86_testsuite::smp::program::{self, COMPLAINTS, IN_GUEST, TIMER_COMPLAINTS};
use std::io::Write;
use std::path::PathBuf;
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
dmesg | grep -E "$COMPLAINTS"
check complaints "$(dmesg | grep -cE "$COMPLAINTS")" 0
# The kernel's own line must not come into the middle of the last one.
sleep 0.3
echo l > /proc/sysrq-trigger
check nmis "$(dmesg | grep -c "NMI backtrace for cpu")" $N
echo done
poweroff -f
"#;

/// Runs the program's checks, and some again while processors go and come and the kernel rewrites its own code. `$PERCENT` is how
/// much of it.
const LOAD: &str = r#"
/bin/smp check $((N * 2)) $PERCENT
(while [ -e /tmp/busy ]; do
  echo 1 > /proc/sys/kernel/sched_schedstats; echo 0 > /proc/sys/kernel/sched_schedstats
done; echo > /tmp/patched) &
(while [ -e /tmp/busy ]; do
  echo 0 > /sys/devices/system/cpu/cpu$((N-1))/online; echo 1 > /sys/devices/system/cpu/cpu$((N-1))/online
done; echo > /tmp/plugged) &
/bin/smp check $((N * 2)) $PERCENT mutexes futexes maps rights signals jobs clocks
rm /tmp/busy
while ! [ -e /tmp/patched -a -e /tmp/plugged ]; do sleep 0.1; done
for source in kvm-clock tsc; do
  echo $source > /sys/devices/system/clocksource/clocksource0/current_clocksource
  echo clock $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)
  /bin/smp check $((N * 2)) $PERCENT clocks
done
echo processors $(nproc) $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)
dmesg | grep -E "$COMPLAINTS|$TIMER_COMPLAINTS"
echo complaints $(dmesg | grep -cE "$COMPLAINTS")
poweroff -f
"#;
/// The checks in `testsuite/smp`, and those of them that `LOAD` repeats, once and with each clock.
const CHECKS: usize = 11 + 7 + 2;

/// Each processor executes something; prints as `SCRIPT` does.
const CROWD: &str = r#"
check() { if [ "$2" = "$3" ]; then echo "check $1 ok"; else echo "check $1 FAILED: '$2', not '$3'"; fi; }
check nproc "$(nproc)" $N
cpu=0; while [ $cpu -lt $N ]; do taskset -c $cpu cut -d" " -f39 /proc/self/stat > /tmp/place$cpu & cpu=$((cpu+1)); done
wait
cpu=0; places=; while [ $cpu -lt $N ]; do [ "$(cat /tmp/place$cpu)" = $cpu ] && places=x$places; cpu=$((cpu+1)); done
check places ${#places} $N
check clock "$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)" tsc
dmesg | grep -E "$COMPLAINTS"
check complaints "$(dmesg | grep -cE "$COMPLAINTS")" 0
echo done
poweroff -f
"#;

fn boots(name: &str, engine: &str, cpus: usize) {
    // Nine, one for each processor, and two for each that is unplugged.
    boots_to(SCRIPT, 9 + cpus + 2 * (cpus - 1), name, engine, cpus);
}

fn boots_to(script: &str, checks: usize, name: &str, engine: &str, cpus: usize) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let script = format!("N={cpus}\nCOMPLAINTS='{COMPLAINTS}'\n{script}");
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
        assert_eq!(passed, checks, "{console}\n{}", run.errors);
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

#[test]
fn sixty_four_processors() {
    boots_to(CROWD, 4, "smp-64", "jit", 64);
}

const SPINNERS: u32 = 8;
/// If those who spin kept the host's CPUs to themselves for as long as the host's scheduler lets them, two of those would take longer;
/// as it is they take a second, and half a minute beside other work on all of them.
const SPIN_LIMIT: Duration = Duration::from_secs(200);
/// In a round each spins for its turn so often.
const TURNS: u32 = 100;
const ROUNDS: u32 = 20;

/// Variable 0 is a token: its low bits say whose it is. Whoever has it passes it on to the next processor.
fn pass_token<const CPU: u32>(a: &mut CodeAssembler) -> Result<(), IcedError> {
    repeat(a, TURNS, |a| {
        let (mut wait, mut mine) = (a.create_label(), a.create_label());
        a.mov(ebx, variable(0))?;
        a.set_label(&mut wait)?;
        a.mov(eax, dword_ptr(rbx))?;
        a.and(eax, SPINNERS - 1)?;
        a.cmp(eax, CPU)?;
        a.je(mine)?;
        a.pause()?;
        a.jmp(wait)?;
        a.set_label(&mut mine)?;
        a.inc(dword_ptr(rbx))
    })
}

/// Processors that spin with PAUSE for a token, a lock and a barrier give the host's CPUs to the one that they wait for.
fn spins(engine: &str) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let test = |name, parts| Test { name, cells: 1, parts, before: Vec::new(), after: nothing };
    let token: Vec<Part> = vec![
        pass_token::<0>,
        pass_token::<1>,
        pass_token::<2>,
        pass_token::<3>,
        pass_token::<4>,
        pass_token::<5>,
        pass_token::<6>,
        pass_token::<7>,
    ];
    let take_lock: Part = |a| repeat(a, TURNS, |a| increment_under_lock(a, 0, 1));
    let lock = vec![take_lock; SPINNERS as usize];
    let kernel = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("spin-{engine}"));
    let image = rounds::guest(&[(test("token", token), ROUNDS), (test("lock", lock), ROUNDS)]);
    std::fs::write(&kernel, image).expect("the target folder can be written");
    let cpus = SPINNERS.to_string();
    let rx86_args = ["--cpus", &cpus, "--engine", engine, "--no-reboot"].map(Into::into).to_vec();
    let guest = Guest { kernel, initrd: None, append: String::new(), memory_mib: 64, rx86_args };
    let run = guest.run(Emulator::Rx86, SPIN_LIMIT).expect("rx86 starts");
    assert_eq!((run.status, run.after("done")), (Some(0), Some("")), "{engine}: {}", run.tail());
    for name in ["token ", "lock "] {
        let counts = run.after(name).and_then(Counts::parse).unwrap_or_else(|| panic!("{}", run.tail()));
        assert_eq!(counts.variables[0], u64::from(SPINNERS * TURNS * ROUNDS), "{engine} {name}");
    }
    println!("{engine}: {SPINNERS} processors took turns in {:.2} s", run.elapsed.as_secs_f64());
}

#[test]
fn eight_processors_spin() {
    spins("jit");
}

#[test]
fn eight_processors_spin_on_the_interpreter() {
    spins("interp");
}

/// The engine and number of vCPUs under the program's load; `percent` is how much of it in the test command.
fn load(name: &str, engine: &str, cpus: usize, percent: usize) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let program = match program::compile(&folder) {
        Ok(path) => std::fs::read(path).expect("it was just made"),
        Err(error) => {
            // The test harness keeps what `println!` prints to itself; a skipped test must be seen.
            let _ = writeln!(std::io::stderr(), "skipped: {name}: {error:#}");
            return;
        }
    };
    let percent =
        std::env::var("RX86_SMP_PERCENT").ok().and_then(|text| text.parse().ok()).unwrap_or(percent);
    let settings = format!(
        "N={cpus}\nPERCENT={percent}\nCOMPLAINTS='{COMPLAINTS}'\nTIMER_COMPLAINTS='{TIMER_COMPLAINTS}'"
    );
    let script = format!("{settings}\necho > /tmp/busy\n{LOAD}");
    let folder = env!("CARGO_TARGET_TMPDIR");
    let Some(mut guest) = debian::guest(folder, name, Flavour::Cloud, &script, &[(IN_GUEST, &program)])
    else {
        return;
    };
    guest.rx86_args.extend(["--cpus".into(), cpus.to_string().into(), "--engine".into(), engine.into()]);
    let run = guest.run(Emulator::Rx86, LIMIT).expect("rx86 starts");
    let console = run.console();
    let passed = console.lines().filter(|line| line.starts_with("check ") && line.ends_with(" ok")).count();
    assert_eq!(passed, CHECKS, "{console}\n{}", run.errors);
    assert!(console.contains("clock kvm-clock\n") && console.contains("clock tsc\n"), "{console}");
    let processors = format!("{cpus} tsc");
    assert_eq!(run.after("processors "), Some(&*processors), "{console}\n{}", run.errors);
    assert_eq!((run.status, run.after("complaints ")), (Some(0), Some("0")), "{console}\n{}", run.errors);
    let seconds = run.elapsed.as_secs_f64();
    let late = console.contains(TIMER_COMPLAINTS);
    println!("{name}: {passed} checks in {seconds:.1} s{}", if late { ", starved by the host" } else { "" });
}

#[test]
fn two_processors_under_load() {
    load("load-2", "jit", 2, 5);
}

#[test]
fn four_processors_under_load() {
    load("load-4", "jit", 4, 3);
}

#[test]
fn two_processors_under_load_on_the_interpreter() {
    load("load-2-interp", "interp", 2, 3);
}

#[test]
fn four_processors_under_load_on_the_interpreter() {
    load("load-4-interp", "interp", 4, 2);
}
