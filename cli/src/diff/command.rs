//! `rx86 diff`.

use super::against_qemu;
use super::lockstep::{self, Pace};
use super::report::Verdict;
use super::side::Rx86Side;
use crate::args::{DiffArgs, Right};
use crate::exit_status;
use crate::image::Image;
use crate::machine::{Engine, MachineConfig};
use anyhow::{Context, Result};
use rx86_cpu::features::CpuModel;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often the progress line is written.
const PROGRESS_PERIOD: Duration = Duration::from_secs(1);

/// Compares as `args` say, prints the verdict, and returns the exit status.
pub fn run(args: &DiffArgs) -> Result<u8> {
    let mut progress = Progress::start();
    let mut tell = |instructions: u64| progress.tell(instructions);
    let verdict = match args.right {
        Right::Qemu => {
            against_qemu::compare(side(args, args.left, false)?, args.every, args.limit, &mut tell)?
                .context("cannot compare with QEMU: there is no qemu-system-x86_64 in PATH; install it")?
        }
        Right::Engine(right) => {
            let make = || Ok((side(args, args.left, true)?, side(args, right, true)?));
            lockstep::compare(&make, Pace { every: args.every, limit: args.limit }, &mut tell)?
        }
    };
    progress.clear();
    match verdict {
        Verdict::Same { instructions, end } => {
            println!("no difference in {instructions} instructions; {end}");
            Ok(exit_status::POWER_OFF)
        }
        Verdict::Different(finding) => {
            print!("{finding}");
            Ok(exit_status::DIFFERENT)
        }
    }
}

fn side(args: &DiffArgs, engine: Engine, interrupts: bool) -> Result<Rx86Side> {
    let config = MachineConfig {
        memory_bytes: args.memory,
        kernel: Image::File(args.kernel.clone()),
        initrd: args.initrd.clone().map(Image::File),
        append: args.append.clone(),
        protocol: args.boot_protocol,
        engine,
        jit: args.jit.config(),
        cpu: CpuModel::max(),
        cpus: 1,
        debug_exit: None,
        no_reboot: true,
        seed: args.seed,
        by_hand: true,
    };
    Rx86Side::new(config, interrupts)
}

/// A line on a terminal that says how far the comparison is.
struct Progress {
    start: Instant,
    next: Instant,
    shown: bool,
}

impl Progress {
    fn start() -> Self {
        let now = Instant::now();
        Self { start: now, next: now + PROGRESS_PERIOD, shown: false }
    }

    fn tell(&mut self, instructions: u64) {
        let now = Instant::now();
        if now < self.next || !io::stderr().is_terminal() {
            return;
        }
        self.next = now + PROGRESS_PERIOD;
        let millions = instructions as f64 / 1e6;
        let rate = millions / self.start.elapsed().as_secs_f64();
        eprint!("\r{millions:.1} million instructions, {rate:.2} million a second ");
        let _ = io::stderr().flush();
        self.shown = true;
    }

    fn clear(&self) {
        if self.shown {
            eprint!("\r{:60}\r", "");
        }
    }
}
