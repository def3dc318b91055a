//! One run of a machine from the command line: terminal, signals, counters, exit status.

use crate::args::{CpuChoice, DeterministicArgs, MachineArgs, StatsFormat};
use crate::console::{InputMode, Remote, spawn_input};
use crate::exit_status;
use crate::image::Image;
use crate::machine::{Machine, MachineConfig, Outcome, Protocol, StateHashes, Turns};
use crate::recording::{Input, Recorder, Recording};
use crate::stats::Stats;
use crate::terminal::{self, RawTerminal};
use crate::trace;
use anyhow::{Context, Result, bail};
use rx86_cpu::features::CpuModel;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long the machine may take to stop when it is asked to.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// The images of a run.
pub struct Images {
    /// The kernel.
    pub kernel: Image,
    /// The initial RAM disk.
    pub initrd: Option<Image>,
    /// The kernel's command line.
    pub append: String,
    /// How a bzImage is entered.
    pub protocol: Protocol,
}

/// Boots the images and runs the guest to its end; returns the exit status.
pub fn run(images: Images, args: &MachineArgs) -> Result<u8> {
    refuse_overwriting(&images, args)?;
    if let Some(list) = &args.trace {
        trace::install(list, args.trace_file.as_deref(), terminal::is_interactive())?;
    }
    let cpu = cpu_model(args);
    let (seed, mut turns) = match &args.deterministic {
        wanted if wanted.is_wanted() => {
            let (seed, turns) = deterministic(wanted, args.seed)?;
            (seed, Some(turns))
        }
        _ => (args.seed.unwrap_or_else(seed_from_clock), None),
    };
    let for_guest = turns.is_none() || args.deterministic.record.is_some();
    let mut machine = Machine::new(MachineConfig {
        memory_bytes: args.memory,
        kernel: images.kernel,
        initrd: images.initrd,
        append: images.append,
        protocol: images.protocol,
        engine: args.engine,
        jit: args.jit.config(),
        cpu,
        cpus: args.cpus,
        debug_exit: args.debug_exit,
        no_reboot: args.no_reboot,
        seed,
        by_hand: turns.is_some(),
    })?;
    let remote = machine.remote();
    ctrlc::set_handler(move || stop_surely(&remote)).context("cannot listen for signals")?;
    let terminal = RawTerminal::enter()?;
    let mode = InputMode { terminal: terminal.is_active(), for_guest };
    spawn_input(machine.remote(), mode, stop_surely);
    let start = Instant::now();
    let outcome = drive(&mut machine, turns.as_mut());
    let elapsed = start.elapsed();
    drop(terminal);
    let outcome = outcome?;
    match args.stats {
        Some(StatsFormat::Text) => eprint!("{}", Stats::of(&machine, elapsed)),
        Some(StatsFormat::Json) => eprintln!("{}", Stats::of(&machine, elapsed).json()?),
        None => {}
    }
    let status = report(outcome);
    // The process is about to end, which gives all that the machine has back at once.
    std::mem::forget(machine);
    Ok(status)
}

/// Runs the machine to its end, however often it is paused meanwhile.
fn drive(machine: &mut Machine, mut turns: Option<&mut Turns>) -> Result<Outcome> {
    let remote = machine.remote();
    loop {
        let outcome = match &mut turns {
            Some(turns) => machine.run_in_turns(turns)?,
            None => machine.run()?,
        };
        if !matches!(outcome, Outcome::Paused) {
            return Ok(outcome);
        }
        if remote.take_show() {
            let line_end = if terminal::is_interactive() { "\r\n" } else { "\n" };
            eprint!("{line_end}{}", machine.state_text().replace('\n', line_end));
        }
        remote.wait_until_resumed();
    }
}

/// The seed and the turns of a deterministic run.
fn deterministic(args: &DeterministicArgs, seed: Option<u64>) -> Result<(u64, Turns)> {
    let create = |path: &Path| -> Result<Box<dyn Write + Send>> {
        let file = File::create(path).with_context(|| format!("cannot write '{}'", path.display()))?;
        Ok(Box::new(BufWriter::new(file)))
    };
    let seed = seed.unwrap_or(1);
    let (seed, input) = match (&args.record, &args.replay) {
        (Some(path), _) => (seed, Input::Record(Recorder::new(create(path)?, seed))),
        (None, Some(path)) => {
            let recording = Recording::open(path)?;
            (recording.seed, Input::Replay(recording))
        }
        (None, None) => (seed, Input::None),
    };
    let mut turns = Turns::new(seed, input);
    if let Some(every) = args.state_hash_every {
        let to = match &args.state_hash_file {
            Some(path) => create(path)?,
            None => Box::new(io::stderr()),
        };
        turns.set_hashes(StateHashes::new(every, to));
    }
    Ok((seed, turns))
}

/// The processor that was asked for; tells what the user may not expect of it.
fn cpu_model(args: &MachineArgs) -> CpuModel {
    let CpuChoice::Model(selection) = &args.cpu else { return CpuModel::max() };
    for note in &selection.notes {
        eprintln!("rx86: --cpu: {note}");
    }
    selection.model.clone()
}

/// An error if a file that is to be written is an image that is to be booted, or the recording that is to be replayed.
fn refuse_overwriting(images: &Images, args: &MachineArgs) -> Result<()> {
    let wanted = &args.deterministic;
    let images = [Some(&images.kernel), images.initrd.as_ref()].into_iter().flatten();
    let files = images.filter_map(|image| match image {
        Image::File(path) => Some(path),
        Image::Bytes { .. } => None,
    });
    let read: Vec<_> =
        files.chain(&wanted.replay).filter_map(|path| Some((path, path.canonicalize().ok()?))).collect();
    let written = [
        ("--trace-file", &args.trace_file),
        ("--record", &wanted.record),
        ("--state-hash-file", &wanted.state_hash_file),
    ];
    for (option, path) in written {
        let Some(target) = path.as_ref().and_then(|path| path.canonicalize().ok()) else { continue };
        if let Some((image, _)) = read.iter().find(|(_, path)| *path == target) {
            bail!("{option} would overwrite '{}', which is to be read; name another file", image.display());
        }
    }
    Ok(())
}

/// Tells the user what is not obvious from the console, and gives the exit status.
fn report(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::PowerOff => exit_status::POWER_OFF,
        Outcome::Reset => exit_status::GUEST_RESET,
        Outcome::DebugExit(value) => exit_status::debug_exit(value),
        Outcome::TripleFault(fault) => {
            eprint!("rx86: {fault}");
            exit_status::TRIPLE_FAULT
        }
        Outcome::HaltedForGood(rip) => {
            eprintln!(
                "rx86: the guest has halted at {rip:#x} with interrupts off and nothing can wake it; if its console says nothing, \
                 the kernel may be damaged: copy it again"
            );
            exit_status::HALTED_FOR_GOOD
        }
        Outcome::Stopped | Outcome::Paused => {
            if terminal::is_interactive() {
                // The guest's cursor is anywhere; the shell's prompt wants a line of its own.
                eprintln!("\nrx86: stopped");
            }
            exit_status::STOPPED
        }
    }
}

/// Stops the machine; should its thread be stuck, for example in writing to a terminal that takes nothing, ends the
/// process. Not to be called on the machine's thread.
fn stop_surely(remote: &Remote) {
    remote.stop();
    std::thread::sleep(STOP_GRACE);
    terminal::restore();
    std::process::exit(exit_status::STOPPED.into());
}

fn seed_from_clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64)
}
