//! `rx86 diff`.

use super::against_qemu;
use super::lockstep::{self, Pace};
use super::report::Verdict;
use super::side::Rx86Side;
use crate::args::{DiffArgs, Right};
use crate::exit_status;
use crate::image::Image;
use crate::machine::{Engine, MachineConfig};
use anyhow::{Context, Result, bail};
use rx86_cpu::features::CpuModel;
use rx86_cpu::features::selection::Selection;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often the progress line is written.
const PROGRESS_PERIOD: Duration = Duration::from_secs(1);

/// What a guest may have found and switched on before QEMU takes its state over: no more than QEMU's processor has without its
/// local APIC, and no registers beyond those that FXSAVE knows. TZCNT and LZCNT are BSF and BSR to a processor that lacks them, and
/// QEMU's has them.
const QEMU_KNOWS: &str =
    "x86-64-v2,+bmi1,+abm,-vme,-pcid,-x2apic,-tsc_deadline_timer,-tsc_adjust,-arch_capabilities,-hypervisor";

/// Compares as `args` say, prints the verdict, and returns the exit status.
pub fn run(args: &DiffArgs) -> Result<u8> {
    let mut progress = Progress::start();
    let mut tell = |instructions: u64| progress.tell(instructions);
    let verdict = match args.right {
        Right::Qemu => {
            let mut left = side(args, args.left, args.skip > 0)?;
            if args.skip > 0 {
                left.run_alone(args.skip, args.every, &mut tell)?;
            }
            let limit = left.retired().saturating_add(args.limit);
            against_qemu::compare(left, args.every, limit, &mut tell)?
                .context("cannot compare with QEMU: there is no qemu-system-x86_64 in PATH; install it")?
        }
        Right::Engine(_) if args.skip > 0 => {
            bail!("--skip is for --right qemu; engines are fast enough without")
        }
        Right::Engine(right) => {
            let make = || Ok((side(args, args.left, true)?, side(args, right, true)?));
            lockstep::compare(&make, Pace { every: args.every, limit: args.limit }, &mut tell)?
        }
    };
    progress.clear();
    match verdict {
        Verdict::Same { instructions, end, known } => {
            println!("no difference in {instructions} instructions; {end}");
            for (known, times) in known {
                println!("known, {times} times: {}: {}", known.name, known.reason);
            }
            Ok(exit_status::POWER_OFF)
        }
        Verdict::Different(finding) => {
            print!("{finding}");
            Ok(exit_status::DIFFERENT)
        }
    }
}

fn side(args: &DiffArgs, engine: Engine, interrupts: bool) -> Result<Rx86Side> {
    let cpu = if args.skip > 0 { Selection::parse(QEMU_KNOWS)?.model } else { CpuModel::max() };
    let config = MachineConfig {
        memory_bytes: args.memory,
        kernel: Image::File(args.kernel.clone()),
        initrd: args.initrd.clone().map(Image::File),
        append: args.append.clone(),
        protocol: args.boot_protocol,
        engine,
        jit: args.jit.config(),
        cpu,
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
