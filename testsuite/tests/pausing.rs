//! Pausing and stopping a machine from outside: all vCPUs stand still soon, a paused machine's time does too, and a
//! deterministic run that was paused is the same as one that was not.
//!
//! How long a pause takes to begin is printed, and not judged: other work on the host counts too.

use rx86::console::Remote;
use rx86::image::Image;
use rx86::machine::{Engine, Machine, MachineConfig, Outcome, Protocol, StateHashes, Turns};
use rx86::recording::Input;
use rx86_cpu::features::CpuModel;
use rx86_jit::JitConfig;
use rx86_softmmu::GuestMemory;
use rx86_testsuite::guest::crowd;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const PAUSES: usize = 20;

fn machine(engine: Engine, cpus: u32, by_hand: bool) -> Machine {
    let config = MachineConfig {
        memory_bytes: 32 << 20,
        kernel: Image::Bytes { name: "the test's guest".into(), bytes: crowd::endless() },
        initrd: None,
        append: String::new(),
        protocol: Protocol::Auto,
        engine,
        jit: JitConfig::default(),
        cpu: CpuModel::max(),
        cpus,
        debug_exit: None,
        no_reboot: true,
        seed: 1,
        by_hand,
    };
    Machine::new(config).expect("the guest is loaded")
}

/// How far each vCPU has counted.
fn counts(memory: &GuestMemory, cpus: u32) -> Vec<u64> {
    let count = |cpu| {
        let mut bytes = [0; 8];
        memory.read(crowd::counter(cpu).into(), &mut bytes).expect("RAM");
        u64::from_le_bytes(bytes)
    };
    (0..cpus).map(count).collect()
}

/// Waits until all vCPUs have counted on, then has the machine paused. Returns when it was asked to.
fn pause_when_all_run(remote: &Remote, memory: &GuestMemory, cpus: u32) -> Instant {
    let before = counts(memory, cpus);
    while counts(memory, cpus).iter().zip(&before).any(|(now, before)| now <= before) {
        std::thread::yield_now();
    }
    let asked = Instant::now();
    remote.pause();
    asked
}

/// Pauses and resumes a machine, and at last stops it; returns the median and the longest of the times that a pause took to
/// begin.
fn pause_often(
    machine: &mut Machine,
    cpus: u32,
    run: impl Fn(&mut Machine) -> Outcome,
) -> (Duration, Duration) {
    let (remote, memory) = (machine.remote(), machine.memory().clone());
    let mut times = Vec::new();
    for _ in 0..PAUSES {
        let took = std::thread::scope(|scope| {
            let pausing = scope.spawn(|| pause_when_all_run(&remote, &memory, cpus));
            let outcome = run(machine);
            let stands = Instant::now();
            assert!(matches!(outcome, Outcome::Paused), "{outcome:?}");
            stands - pausing.join().expect("it only waits")
        });
        times.push(took);
        let before = counts(&memory, cpus);
        assert!(matches!(run(machine), Outcome::Paused), "it is to stand still until it is resumed");
        assert_eq!(counts(&memory, cpus), before, "a paused vCPU executes something");
        remote.resume();
    }
    remote.stop();
    assert!(matches!(run(machine), Outcome::Stopped));
    times.sort();
    (times[PAUSES / 2], times[PAUSES - 1])
}

#[test]
fn all_processors_stand_still_and_go_on() {
    for engine in [Engine::Interp, Engine::Jit] {
        for cpus in [1, 4] {
            let (median, longest) = pause_often(&mut machine(engine, cpus, false), cpus, |machine| {
                machine.run().expect("the guest runs")
            });
            println!("{engine:?}, {cpus} vCPUs on threads: {median:?} in the median, at most {longest:?}");
            let turns = Mutex::new(Turns::new(1, Input::None));
            let (median, longest) = pause_often(&mut machine(engine, cpus, true), cpus, |machine| {
                machine.run_in_turns(&mut turns.lock().expect("no panic")).expect("the guest runs")
            });
            println!("{engine:?}, {cpus} vCPUs in turns: {median:?} in the median, at most {longest:?}");
        }
    }
}

/// Hashes, and a stop when there are enough of them.
#[derive(Clone)]
struct Lines {
    text: Arc<Mutex<Vec<u8>>>,
    enough: usize,
    remote: Remote,
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut text = self.text.lock().expect("no panic");
        text.extend_from_slice(bytes);
        if text.iter().filter(|&&byte| byte == b'\n').count() >= self.enough {
            self.remote.stop();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The first hashes of a run; a thread that wants the machine's attention all the time pauses it now and then.
fn hashes(engine: Engine, disturbed: bool) -> Vec<String> {
    const ENOUGH: usize = 60;
    let mut machine = machine(engine, 2, true);
    let remote = machine.remote();
    let text: Arc<Mutex<Vec<u8>>> = Arc::default();
    let lines = Lines { text: text.clone(), enough: ENOUGH, remote: remote.clone() };
    let mut turns = Turns::new(1, Input::None);
    turns.set_hashes(StateHashes::new(30_011, Box::new(lines)));
    std::thread::scope(|scope| {
        if disturbed {
            let remote = remote.clone();
            scope.spawn(move || {
                while !remote.is_stopped() {
                    remote.pause();
                    remote.resume();
                    std::thread::yield_now();
                }
            });
        }
        loop {
            match machine.run_in_turns(&mut turns).expect("the guest runs") {
                Outcome::Paused => remote.wait_until_resumed(),
                outcome => return assert!(matches!(outcome, Outcome::Stopped), "{outcome:?}"),
            }
        }
    });
    let text = String::from_utf8(text.lock().expect("no panic").clone()).expect("ASCII");
    text.lines().take(ENOUGH).map(String::from).collect()
}

#[test]
fn a_pause_leaves_no_trace_in_a_deterministic_run() {
    let undisturbed = hashes(Engine::Interp, false);
    assert_eq!(undisturbed.len(), 60);
    for engine in [Engine::Interp, Engine::Jit] {
        assert_eq!(hashes(engine, true), undisturbed, "{engine:?}");
    }
}
