//! Boots again and again: every kernel, engine and number of processors, alone and two at once on a starved host.

use super::program::{COMPLAINTS, TIMER_COMPLAINTS};
use crate::guest::debian::guest_of;
use crate::guest::runner::{Emulator, Guest, Run, run};
use anyhow::{Context, Result, anyhow};
use rx86::demo::debian::{self, Flavour};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const MEMORY_MIB: u64 = 512;
/// How little of the host two instances at once get.
const NICENESS: &str = "19";

/// What is booted.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The kernel.
    pub flavour: Flavour,
    /// The engine, as `--engine` takes it.
    pub engine: &'static str,
    /// The number of processors.
    pub cpus: u32,
    /// How many instances at once.
    pub at_once: usize,
}

/// What became of the boots of one setting.
#[derive(Debug, Default)]
pub struct Outcome {
    /// From start to exit, of those that went well.
    pub times: Vec<Duration>,
    /// What went wrong, with the end of the console.
    pub failures: Vec<String>,
}

impl Outcome {
    /// The median and the longest time in seconds.
    pub fn seconds(&self) -> Option<(f64, f64)> {
        let mut times = self.times.clone();
        times.sort();
        Some((times.get(times.len() / 2)?.as_secs_f64(), times.last()?.as_secs_f64()))
    }
}

/// Kernels and a script that looks for processors and complaints.
pub struct Boots {
    folder: PathBuf,
    cache: PathBuf,
    limit: Duration,
}

impl Boots {
    /// Files go to `folder`, packages are kept in `cache`; a boot may take `limit`.
    pub fn new(folder: &Path, cache: &Path, limit: Duration) -> Self {
        Self { folder: folder.into(), cache: cache.into(), limit }
    }

    fn guest(&self, setting: &Setting) -> Result<Guest> {
        let found = debian::fetch(&self.cache, setting.flavour)?;
        let busybox = std::fs::read(&found.busybox).context("cannot read busybox")?;
        let initrd = self.folder.join(format!("boots-{}.gz", setting.cpus));
        let script = format!(
            "echo processors $(nproc) $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)\n\
             dmesg | grep -E '{COMPLAINTS}|{TIMER_COMPLAINTS}'\n\
             echo complaints $(dmesg | grep -cE '{COMPLAINTS}|{TIMER_COMPLAINTS}')\n\
             poweroff -f\n"
        );
        let mut guest = guest_of(found.kernel, &busybox, &initrd, &script, &[])?;
        guest.memory_mib = MEMORY_MIB;
        let cpus = setting.cpus.to_string();
        guest.rx86_args.extend(["--engine", setting.engine, "--cpus", &cpus].map(Into::into));
        Ok(guest)
    }

    /// Boots once, all instances of the setting at the same time.
    pub fn boot(&self, setting: &Setting, outcome: &mut Outcome) -> Result<()> {
        let guest = self.guest(setting)?;
        let boot = || -> Result<Run> {
            let command = guest.command(Emulator::Rx86)?;
            let command = if setting.at_once > 1 { starved(&command) } else { command };
            Ok(run(command, None, self.limit)?)
        };
        let runs: Vec<Result<Run>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..setting.at_once).map(|_| scope.spawn(boot)).collect();
            threads.into_iter().map(|t| t.join().unwrap_or_else(|_| Err(anyhow!("panicked")))).collect()
        });
        for run in runs {
            let run = run?;
            match fault(&run, setting.cpus) {
                Some(fault) => outcome.failures.push(format!("{setting:?}: {fault}\n{}", run.tail())),
                None => outcome.times.push(run.elapsed),
            }
        }
        Ok(())
    }
}

/// The command with the least share of the host's processors.
fn starved(command: &Command) -> Command {
    let mut nice = Command::new("nice");
    nice.args(["-n", NICENESS]).arg(command.get_program()).args(command.get_args());
    nice
}

fn fault(run: &Run, cpus: u32) -> Option<String> {
    let processors = format!("{cpus} tsc");
    if run.timed_out {
        Some("the time limit ended it".into())
    } else if run.status != Some(0) {
        Some(format!("it ended with {:?}", run.status))
    } else if run.after("processors ") != Some(&processors) {
        Some(format!("'{}', not '{processors}'", run.after("processors ").unwrap_or_default()))
    } else if run.after("complaints ") != Some("0") {
        Some("the kernel complains".into())
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_of(status: Option<i32>, lines: &[&str]) -> Run {
        Run {
            status,
            timed_out: false,
            lines: lines.iter().map(|line| (Duration::ZERO, line.to_string())).collect(),
            errors: String::new(),
            elapsed: Duration::from_secs(1),
            residency: None,
        }
    }

    #[test]
    fn faults_are_found() {
        for (status, lines, good) in [
            (Some(0), ["processors 4 tsc", "complaints 0"], true),
            (Some(3), ["processors 4 tsc", "complaints 0"], false),
            (None, ["processors 4 tsc", "complaints 0"], false),
            (Some(0), ["processors 3 tsc", "complaints 0"], false),
            (Some(0), ["processors 4 hpet", "complaints 0"], false),
            (Some(0), ["processors 4 tsc", "complaints 1"], false),
            (Some(0), ["processors 4 tsc", ""], false),
        ] {
            assert_eq!(fault(&run_of(status, &lines), 4).is_none(), good, "{status:?} {lines:?}");
        }
    }
}
