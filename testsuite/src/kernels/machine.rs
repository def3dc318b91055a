//! Where the kernels run: the host itself, and guests with Debian's kernel on QEMU and rx86.

use super::program::{Kernel, Program};
use super::times::Times;
use crate::guest::runner::{Emulator, Guest, run_watched};
use anyhow::{Context, Result};
use rx86::demo::debian::{self, Flavour};
use rx86::initrd::{self, INIT_PROLOGUE};
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Memory of a guest.
const MEMORY_MIB: u64 = 512;
/// Where the program is in a guest.
const PROGRAM_IN_GUEST: &str = "bin/kernels";

/// Something that runs the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// The host, without emulation.
    Native,
    /// A guest.
    Guest(Emulator),
}

impl Machine {
    /// Its name in tables and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Guest(Emulator::QemuTcg) => "QEMU",
            Self::Guest(Emulator::Rx86) => "rx86",
            Self::Guest(Emulator::Rx86Interpreter) => "interpreter",
        }
    }
}

/// The kernels' outcome on one machine.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What was measured, also if the run did not reach its end.
    pub times: Times,
    /// What went wrong.
    pub failure: Option<String>,
    /// Host memory beyond the guest's own pages, at its largest.
    pub overhead_mib: Option<u64>,
}

/// A program and the guest around it.
pub struct Bench {
    program: Program,
    kernels: Vec<Kernel>,
    guest: Guest,
    limit: Duration,
}

impl Bench {
    /// A guest whose `/init` runs the chosen kernels one by one, each in a process of its own. Files go to `folder`;
    /// packages are kept in `cache`.
    pub fn new(
        folder: &Path,
        cache: &Path,
        program: Program,
        kernels: Vec<Kernel>,
        limit: Duration,
        rx86_args: Vec<OsString>,
    ) -> Result<Self> {
        let found = debian::fetch(cache, Flavour::Cloud)?;
        let busybox = std::fs::read(&found.busybox).context("cannot read busybox")?;
        let executable = std::fs::read(&program.path).context("cannot read the kernels")?;
        let commands: String =
            kernels.iter().map(|kernel| format!("/{PROGRAM_IN_GUEST} {}\n", kernel.name)).collect();
        let script = format!("{INIT_PROLOGUE}{commands}poweroff -f\n");
        let disk = initrd::busybox(&busybox, &script).file(PROGRAM_IN_GUEST, 0o755, &executable).gzip()?;
        let initrd = folder.join("initrd.gz");
        std::fs::write(&initrd, disk).with_context(|| format!("cannot write '{}'", initrd.display()))?;
        let guest = Guest {
            kernel: found.kernel,
            initrd: Some(initrd),
            append: "console=ttyS0 quiet panic=-1".into(),
            memory_mib: MEMORY_MIB,
            rx86_args: [vec!["--no-reboot".into()], rx86_args].concat(),
        };
        Ok(Self { program, kernels, guest, limit })
    }

    /// Runs all kernels on `machine`. Progress goes to standard error.
    pub fn run(&self, machine: Machine) -> Result<Outcome> {
        match machine {
            Machine::Native => self.run_natively(),
            Machine::Guest(emulator) => {
                eprintln!("{:12} starts", machine.name());
                self.run_command(machine, self.guest.command(emulator)?)
            }
        }
    }

    fn run_natively(&self) -> Result<Outcome> {
        let mut all = Outcome::default();
        for kernel in &self.kernels {
            let mut command = Command::new(&self.program.path);
            command.arg(&kernel.name);
            let one = self.run_command(Machine::Native, command)?;
            all.times.merge(one.times);
            all.failure = all.failure.or(one.failure);
        }
        Ok(all)
    }

    fn run_command(&self, machine: Machine, command: Command) -> Result<Outcome> {
        let times = Arc::new(Mutex::new(Times::default()));
        let watched = times.clone();
        let watch = move |now: Duration, line: &str| {
            let mut times = watched.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((name, measured)) = times.line(now, line) {
                eprintln!("{:12} {name:12} {:8.3} s", machine.name(), measured.seconds);
            }
        };
        let run = run_watched(command, Some(MEMORY_MIB), self.limit, watch)
            .with_context(|| format!("cannot start the kernels ({})", machine.name()))?;
        let times = times.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let place = match &times.running {
            Some((kernel, _)) => format!("in {kernel}"),
            None => "between kernels".into(),
        };
        let failure = if run.timed_out {
            let seconds = self.limit.as_secs();
            Some(format!("the limit of {seconds} s ended the run {place}; --limit raises it"))
        } else {
            (run.status != Some(0)).then(|| format!("ended with {:?} {place}\n{}", run.status, run.tail()))
        };
        let failure = failure.map(|text| format!("{}: {text}", machine.name()));
        Ok(Outcome { times, failure, overhead_mib: run.residency.map(|r| r.overhead_kib >> 10) })
    }
}
