//! Long runs of generated instruction cases against the host CPU: `rx86-cases [--family F] [--seed S] [--count N]
//! [--first N]`. Failures are printed as lines for a cases file; the exit status is 1 if there are any.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn main() -> std::process::ExitCode {
    runs::main()
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn main() {
    eprintln!("rx86-cases: the host CPU can be an oracle on x86-64 Linux only");
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod runs {
    use rx86_testsuite::cases::family::Family;
    use rx86_testsuite::cases::run::{Report, Runner};
    use rx86_testsuite::oracle::engine::EngineOracle;
    use rx86_testsuite::oracle::host::HostOracle;
    use std::process::ExitCode;
    use std::time::Instant;

    struct Options {
        families: Vec<Family>,
        seed: u64,
        first: u64,
        count: u64,
    }

    fn options() -> Result<Options, String> {
        let mut options = Options { families: Family::ALL.to_vec(), seed: 1, first: 0, count: 100_000 };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            let number = || value.parse::<u64>().map_err(|error| format!("{name} {value}: {error}"));
            match name.as_str() {
                "--family" => {
                    let family = Family::from_name(&value);
                    options.families = vec![family.ok_or_else(|| format!("there is no family {value}"))?];
                }
                "--seed" => options.seed = number()?,
                "--first" => options.first = number()?,
                "--count" => options.count = number()?,
                _ => return Err(format!("there is no option {name}")),
            }
        }
        Ok(options)
    }

    pub(super) fn main() -> ExitCode {
        let (options, mut host) =
            match options().and_then(|o| Ok((o, HostOracle::new().map_err(|e| e.to_string())?))) {
                Ok(both) => both,
                Err(error) => {
                    eprintln!("rx86-cases: {error}");
                    return ExitCode::from(2);
                }
            };
        let mut engine = EngineOracle::interpreter();
        let mut failed = false;
        for &family in &options.families {
            let start = Instant::now();
            let mut runner =
                Runner { reference: &mut host, subject: &mut engine, seed: options.seed, family };
            let end = options.first.saturating_add(options.count);
            let report = runner.run(options.first..end, &mut |next, report| {
                if next % (1 << 14) == 0 {
                    let rate = report.cases as f64 / start.elapsed().as_secs_f64();
                    let failed: u32 = report.failed.values().sum();
                    eprintln!("{}: {next} of {end}, {rate:.0} a second, {failed} failed", family.name());
                }
            });
            print(family, options.seed, &report);
            failed |= !report.failed.is_empty();
        }
        if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }

    fn print(family: Family, seed: u64, report: &Report) {
        for failure in &report.failures {
            println!("{}", failure.text());
        }
        for (mnemonic, (flags, count)) in &report.undefined {
            println!("# undefined flags {flags:03x} of {mnemonic:?} differ in {count} cases");
        }
        println!(
            "# {}, seed {seed}: {} cases of {} forms, {} forms failed in {} cases; {} approximate, {} not run; not built: {:?}",
            family.name(),
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
