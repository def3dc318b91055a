//! What is measured with one and two processors, and the guests that it is measured in.

use super::program::IN_GUEST;
use crate::guest::runner::{Emulator, Guest, run};
use crate::kernels::machine::Machine;
use crate::kernels::times::Times;
use anyhow::{Context, Result, bail};
use rx86::demo::debian::{self, Flavour};
use rx86::initrd::{self, INIT_PROLOGUE};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const MEMORY_MIB: u64 = 512;

/// What a thread's rounds are to the other threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Independent,
    /// They want the same memory or the same locks of the kernel.
    Contended,
    /// Each waits for another processor.
    RoundTrip,
}

/// A piece of work of `testsuite/smp/measured.c`.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Its name there.
    pub name: &'static str,
    /// What its threads are to each other.
    pub kind: Kind,
    /// Rounds of each thread.
    pub rounds: u32,
    /// What it is.
    pub what: &'static str,
}

/// All of them.
pub const WORK: [Work; 12] = {
    use Kind::*;
    const fn work(name: &'static str, kind: Kind, rounds: u32, what: &'static str) -> Work {
        Work { name, kind, rounds, what }
    }
    [
        work("arithmetic", Independent, 3_000_000, "integer arithmetic in registers"),
        work("memory", Independent, 16_000, "loads, stores and look-ups in 256 KiB of its own"),
        work("calls", Independent, 5_000_000, "the shortest system call"),
        work("neighbours", Contended, 2_000, "steps through pages that lie between the other thread's"),
        work("processes", Contended, 300, "processes made and waited for"),
        work("additions", Contended, 30_000_000, "locked additions to one counter"),
        work("mutex", Contended, 5_000_000, "one mutex, taken and given back"),
        work("faults", Contended, 100, "pages of one process touched for the first time and given back"),
        work("ipi", RoundTrip, 40_000, "membarrier: an IPI to a running processor, and its completion"),
        work("shootdown", RoundTrip, 20_000, "a page protected, and an IPI to make the other TLB forget it"),
        work("futex", RoundTrip, 20_000, "two threads that wake each other by futex"),
        work("pipes", RoundTrip, 20_000, "a byte to another thread and back"),
    ]
};

/// The program, and a guest around it.
pub struct Bench {
    program: PathBuf,
    work: Vec<Work>,
    kernel: PathBuf,
    folder: PathBuf,
    limit: Duration,
    rx86_args: Vec<OsString>,
}

impl Bench {
    /// Measures `work` with the compiled `program`. Files go to `folder`, packages are kept in `cache`.
    pub fn new(
        program: PathBuf,
        work: Vec<Work>,
        folder: &Path,
        cache: &Path,
        limit: Duration,
        rx86_args: Vec<OsString>,
    ) -> Result<Self> {
        let found = debian::fetch(cache, Flavour::Cloud)?;
        let bench = Self { program, work, kernel: found.kernel, folder: folder.into(), limit, rx86_args };
        for cpus in [1, 2] {
            bench.write_initrd(&found.busybox, cpus)?;
        }
        Ok(bench)
    }

    fn initrd(&self, cpus: u32) -> PathBuf {
        self.folder.join(format!("initrd-{cpus}.gz"))
    }

    fn work_for(&self, cpus: u32) -> impl Iterator<Item = &Work> {
        self.work.iter().filter(move |work| cpus > 1 || work.kind != Kind::RoundTrip)
    }

    fn write_initrd(&self, busybox: &Path, cpus: u32) -> Result<()> {
        let busybox = std::fs::read(busybox).context("cannot read busybox")?;
        let program = std::fs::read(&self.program).context("cannot read the compiled program")?;
        let commands: String = self
            .work_for(cpus)
            .map(|work| format!("/{IN_GUEST} measure {} {cpus} {}\n", work.name, work.rounds))
            .collect();
        let script = format!("{INIT_PROLOGUE}{commands}poweroff -f\n");
        let disk = initrd::busybox(&busybox, &script).file(IN_GUEST, 0o755, &program).gzip()?;
        let path = self.initrd(cpus);
        std::fs::write(&path, disk).with_context(|| format!("cannot write '{}'", path.display()))
    }

    /// Does all the work on a machine with so many processors.
    pub fn run(&self, machine: Machine, cpus: u32) -> Result<Times> {
        let mut times = Times::default();
        let Machine::Guest(emulator) = machine else {
            for work in self.work_for(cpus) {
                let mut command = Command::new(&self.program);
                command.args(["measure", work.name, &cpus.to_string(), &work.rounds.to_string()]);
                self.run_command(command, &mut times)?;
            }
            return Ok(times);
        };
        let guest = Guest {
            kernel: self.kernel.clone(),
            initrd: Some(self.initrd(cpus)),
            append: "console=ttyS0 quiet panic=-1".into(),
            memory_mib: MEMORY_MIB,
            rx86_args: [vec!["--no-reboot".into()], self.rx86_args.clone()].concat(),
        };
        let mut command = guest.command(emulator)?;
        command.arg(if emulator == Emulator::QemuTcg { "-smp" } else { "--cpus" }).arg(cpus.to_string());
        self.run_command(command, &mut times)?;
        Ok(times)
    }

    fn run_command(&self, command: Command, times: &mut Times) -> Result<()> {
        let run = run(command, None, self.limit)?;
        for (now, line) in &run.lines {
            times.line(*now, line);
        }
        if run.status != Some(0) {
            bail!("the run ended with {:?}:\n{}", run.status, run.tail());
        }
        Ok(())
    }
}
