//! Long runs of generated instruction cases against the host CPU, QEMU, or between rx86's engines. Failures are printed, and saved as lines of a cases file;
//! the exit status is 1 if there are any.

const USAGE: &str = "\
Usage: rx86-cases [OPTION VALUE]...
  --oracle NAME     host (default): the host's CPU; qemu: QEMU's TCG, found through PATH; kvm: the host's CPU
                    through /dev/kvm; engines: the interpreter, with the JIT in rx86's place;
                    quick: the same with the JIT's quick tier alone
  --families LIST   all (default), or families with commas between them
  --modes LIST      all (default), or of 64,32,16: the bits of the code
  --programs KIND   both (default), single instructions, or sequences of 2 to 8
  --seed S          the seed of all cases (default 1)
  --first N         the number of the first case (default 0)
  --count N         cases of each family and mode (default 100000)
  --minutes M       run for so long in place of a count
  --save FILE       where failing cases are appended (default: cases/found.cases of the test suite)
  --plant FAULT     adc-af, cvtsd2si-rounding or split-store: let rx86 be wrong, to see it found";

fn main() -> std::process::ExitCode {
    long_run::main()
}

mod long_run {
    use rx86_testsuite::cases::coverage::Coverage;
    use rx86_testsuite::cases::family::Family;
    use rx86_testsuite::cases::known_qemu;
    use rx86_testsuite::cases::run::{BATCH, Plan, Report, Runner, buildable, buildable_of};
    use rx86_testsuite::oracle::engine::EngineOracle;
    use rx86_testsuite::oracle::features::Features;
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    use rx86_testsuite::oracle::host::HostOracle;
    use rx86_testsuite::oracle::kvm::KvmOracle;
    use rx86_testsuite::oracle::planted::{Fault, Planted};
    use rx86_testsuite::oracle::qemu::QemuOracle;
    use rx86_testsuite::oracle::{Mode, Oracle};
    use std::fs::OpenOptions;
    use std::io::Write;
    use std::path::{Path, PathBuf};
    use std::process::ExitCode;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    /// Batches of one plan before the next plan's turn.
    const ROUND: u64 = 8 * BATCH;
    const PROGRESS: Duration = Duration::from_secs(5);
    static STOP: AtomicBool = AtomicBool::new(false);

    /// Whose outcomes are right.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Reference {
        Host,
        Qemu,
        Kvm,
        Engines,
        Quick,
    }

    impl Reference {
        const ALL: [Self; 5] = [Self::Host, Self::Qemu, Self::Kvm, Self::Engines, Self::Quick];

        const fn name(self) -> &'static str {
            match self {
                Self::Host => "host",
                Self::Qemu => "qemu",
                Self::Kvm => "kvm",
                Self::Engines => "engines",
                Self::Quick => "quick",
            }
        }

        /// The oracle, or why there is none.
        fn open(self) -> Result<Box<dyn Oracle>, String> {
            match self {
                #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
                Self::Host => match HostOracle::new() {
                    Ok(host) => Ok(Box::new(host)),
                    Err(error) => Err(format!("no child process for the host's CPU: {error}")),
                },
                #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
                Self::Host => Err("the host CPU can be an oracle on x86-64 Linux only".into()),
                Self::Qemu => match QemuOracle::new() {
                    Ok(Some(qemu)) => Ok(Box::new(qemu)),
                    Ok(None) => Err("there is no qemu-system-x86_64 in PATH".into()),
                    Err(error) => Err(format!("QEMU does not work: {error:#}")),
                },
                Self::Kvm => match KvmOracle::new() {
                    Ok(kvm) => Ok(Box::new(kvm)),
                    Err(error) => Err(error.to_string()),
                },
                Self::Engines | Self::Quick => Ok(Box::new(EngineOracle::interpreter())),
            }
        }
    }

    /// What the user asked for.
    struct Options {
        oracle: Reference,
        families: Vec<Family>,
        modes: Vec<Mode>,
        single: bool,
        sequences: bool,
        seed: u64,
        first: u64,
        count: u64,
        minutes: Option<u64>,
        save: PathBuf,
        plant: Option<Fault>,
    }

    impl Options {
        fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
            let mut options = Self {
                oracle: Reference::Host,
                families: Family::ALL.to_vec(),
                modes: Mode::ALL.to_vec(),
                single: true,
                sequences: true,
                seed: 1,
                first: 0,
                count: 100_000,
                minutes: None,
                save: Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/found.cases"),
                plant: None,
            };
            while let Some(name) = arguments.next() {
                if matches!(name.as_str(), "--help" | "-h") {
                    return Err(super::USAGE.to_string());
                }
                let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
                options.set(&name, &value)?;
            }
            Ok(options)
        }

        fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
            let number = || value.parse::<u64>().map_err(|error| format!("{name} {value}: {error}"));
            match name {
                "--oracle" => {
                    let oracle = Reference::ALL.into_iter().find(|oracle| oracle.name() == value);
                    self.oracle = oracle.ok_or_else(|| format!("there is no oracle {value}"))?;
                }
                "--families" | "--family" if value != "all" => {
                    let family =
                        |name| Family::from_name(name).ok_or_else(|| format!("there is no family {name}"));
                    self.families = value.split(',').map(family).collect::<Result<_, _>>()?;
                }
                "--modes" if value != "all" => {
                    let mode = |bits: &str| {
                        let mode = bits.parse().ok().and_then(Mode::from_bits);
                        mode.ok_or_else(|| format!("there is no mode {bits}: write 64, 32 or 16"))
                    };
                    self.modes = value.split(',').map(mode).collect::<Result<_, _>>()?;
                }
                "--families" | "--family" | "--modes" => {}
                "--programs" => {
                    (self.single, self.sequences) = match value {
                        "both" => (true, true),
                        "single" => (true, false),
                        "sequences" => (false, true),
                        _ => return Err(format!("there is no kind {value}: both, single or sequences")),
                    }
                }
                "--seed" => self.seed = number()?,
                "--first" => self.first = number()?,
                "--count" => self.count = number()?,
                "--minutes" => self.minutes = Some(number()?),
                "--save" => self.save = PathBuf::from(value),
                "--plant" => {
                    let fault = Fault::ALL.into_iter().find(|fault| fault.name() == value);
                    self.plant = Some(fault.ok_or_else(|| format!("there is no fault {value}"))?);
                }
                _ => return Err(format!("there is no option {name}; --help lists them")),
            }
            Ok(())
        }

        fn plans(&self) -> Vec<Plan> {
            let mut plans = Vec::new();
            for &mode in &self.modes {
                if self.single {
                    plans.extend(self.families.iter().map(|&family| Plan { mode, ..Plan::of(family) }));
                }
                if self.sequences {
                    plans.push(Plan { families: self.families.clone(), mode, sequences: true });
                }
            }
            plans
        }

        /// The command that goes on with case `next`.
        fn resume(&self, next: u64) -> String {
            let families: Vec<_> = self.families.iter().map(|family| family.name()).collect();
            let modes: Vec<_> = self.modes.iter().map(|mode| mode.bits().to_string()).collect();
            let programs = match (self.single, self.sequences) {
                (true, true) => "both",
                (true, false) => "single",
                _ => "sequences",
            };
            let (families, modes, seed) = (families.join(","), modes.join(","), self.seed);
            format!(
                "cargo run --release -p rx86-testsuite --bin rx86-cases -- --oracle {} --families {families} --modes {modes} \
                 --programs {programs} --seed {seed} --first {next} --count {}",
                self.oracle.name(),
                self.count
            )
        }
    }

    /// One plan with its forms and what it has come to.
    struct Pass {
        plan: Plan,
        forms: Vec<iced_x86::Code>,
        report: Report,
    }

    pub(super) fn main() -> ExitCode {
        let options = match Options::parse(std::env::args().skip(1)) {
            Ok(options) => options,
            Err(error) => {
                eprintln!("rx86-cases: {error}");
                return ExitCode::from(2);
            }
        };
        let mut reference = match options.oracle.open() {
            Ok(reference) => reference,
            Err(error) => {
                eprintln!("rx86-cases: {error}");
                return ExitCode::from(2);
            }
        };
        // Without a handler Ctrl-C ends the run with no report, which is all that is lost.
        let _ = ctrlc::set_handler(|| STOP.store(true, Ordering::Relaxed));
        let engine = match options.oracle {
            Reference::Engines => EngineOracle::jit(),
            Reference::Quick => EngineOracle::quick(),
            _ => EngineOracle::interpreter(),
        };
        let mut engine: Box<dyn Oracle> = match options.plant {
            Some(fault) => Box::new(Planted { oracle: engine, fault }),
            None => Box::new(engine),
        };
        let mut passes = passes(&options, &mut *reference);
        let (next, elapsed) = run(&options, &mut passes, &mut *reference, &mut *engine);
        finish(&options, &passes, &*reference, next, elapsed)
    }

    fn passes(options: &Options, reference: &mut dyn Oracle) -> Vec<Pass> {
        let features = Features::of(reference);
        let mut plans = options.plans();
        for &mode in &options.modes {
            if !reference.offers(mode) {
                println!("# skipped: {} runs no {}-bit code", reference.name(), mode.bits());
                plans.retain(|plan| plan.mode != mode);
            }
        }
        plans
            .into_iter()
            .map(|plan| {
                let (forms, not_built) = match options.oracle {
                    // Bases of segments are the host's own matter.
                    Reference::Host => buildable(&plan),
                    Reference::Qemu if plan.sequences => {
                        buildable_of(&plan, |code| features.have(code) && known_qemu::is_fit(code))
                    }
                    _ => buildable_of(&plan, |code| features.have(code)),
                };
                Pass { plan, forms, report: Report { not_built, ..Report::default() } }
            })
            .collect()
    }

    /// Runs the passes in turns. Returns the number of the next case and how long it took.
    fn run(
        options: &Options,
        passes: &mut [Pass],
        reference: &mut dyn Oracle,
        engine: &mut dyn Oracle,
    ) -> (u64, Duration) {
        let start = Instant::now();
        let mut told = start;
        let end = match options.minutes {
            Some(_) => u64::MAX,
            None => options.first.saturating_add(options.count),
        };
        let limit = options.minutes.map(|minutes| Duration::from_secs(60 * minutes));
        let mut next = options.first;
        while next < end && !STOP.load(Ordering::Relaxed) && limit.is_none_or(|limit| start.elapsed() < limit)
        {
            let until = end.min(next.saturating_add(ROUND));
            for pass in &mut *passes {
                let plan = pass.plan.clone();
                let mut runner =
                    Runner { reference: &mut *reference, subject: &mut *engine, seed: options.seed, plan };
                runner.extend(next..until, &pass.forms, &mut pass.report);
            }
            next = until;
            if told.elapsed() >= PROGRESS {
                told = Instant::now();
                progress(passes, next, start.elapsed());
            }
        }
        (next, start.elapsed())
    }

    fn progress(passes: &[Pass], next: u64, elapsed: Duration) {
        let cases: u64 = passes.iter().map(|pass| pass.report.cases).sum();
        let failed: u32 = passes.iter().flat_map(|pass| pass.report.failed.values()).sum();
        let tried: usize = passes.iter().map(|pass| pass.report.tried.len()).sum();
        let forms: usize = passes.iter().map(|pass| pass.forms.len()).sum();
        let rate = cases as f64 * 60.0 / elapsed.as_secs_f64();
        eprintln!(
            "{:>5} s: {cases} programs, {rate:.0} a minute, {tried} of {forms} forms, {failed} failed, next case {next}",
            elapsed.as_secs()
        );
    }

    fn finish(
        options: &Options,
        passes: &[Pass],
        reference: &dyn Oracle,
        next: u64,
        elapsed: Duration,
    ) -> ExitCode {
        let mut coverage = Coverage::default();
        let mut failures = Vec::new();
        for Pass { plan, report, .. } in passes {
            print(plan, options.seed, report, &reference.known_names());
            coverage.add(plan.mode, &report.tried);
            failures.extend(report.failures.iter().map(|failure| failure.text()));
        }
        let modes: Vec<Mode> = passes.iter().map(|pass| pass.plan.mode).collect();
        for mode in Mode::ALL.into_iter().filter(|mode| modes.contains(mode)) {
            let has = |code| passes.iter().any(|pass| pass.plan.mode == mode && pass.forms.contains(&code));
            print!("{}", coverage.text(mode, &options.families, &has));
        }
        progress(passes, next, elapsed);
        println!("# to go on: {}", options.resume(next));
        if failures.is_empty() {
            return ExitCode::SUCCESS;
        }
        let text = failures.join("\n") + "\n";
        print!("{text}");
        // What a planted fault fails on is no case for the tree.
        if options.plant.is_none() {
            let file = OpenOptions::new().create(true).append(true).open(&options.save);
            match file.and_then(|mut file| file.write_all(text.as_bytes())) {
                Ok(()) => println!("# saved in {}", options.save.display()),
                Err(error) => eprintln!("rx86-cases: cannot write {}: {error}", options.save.display()),
            }
        }
        ExitCode::FAILURE
    }

    fn print(plan: &Plan, seed: u64, report: &Report, known_names: &[&str]) {
        for (mnemonic, (flags, count)) in &report.undefined {
            println!("# undefined flags {flags:03x} of {mnemonic:?} differ in {count} cases");
        }
        for (&entry, count) in &report.known {
            println!("# known: {}: {count} cases", known_names[entry]);
        }
        println!(
            "# {}, seed {seed}: {} cases of {} forms, {} forms failed in {} cases; {} approximate, {} not run; not built: {:?}",
            plan.name(),
            report.cases,
            report.forms,
            report.failed.len(),
            report.failed.values().sum::<u32>(),
            report.approximate,
            report.not_run,
            report.not_built,
        );
    }
}
