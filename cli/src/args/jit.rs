//! Options of the JIT.

use super::parse_size;
use clap::Args;
use rx86_jit::{DumpConfig, DumpedRegions, JitConfig, WatchConfig};
use std::path::PathBuf;

/// The smallest code cache: a few of the largest translations.
const CODE_CACHE_MIN: u64 = 256 << 10;
/// The largest: host jumps reach that far.
const CODE_CACHE_MAX: u64 = 1 << 30;

/// How the JIT works; other engines take no notice.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Tune the JIT")]
pub struct JitArgs {
    /// Host code kept at most, with K, M or G behind the number.
    #[arg(long, value_name = "SIZE", default_value = "128M", value_parser = parse_code_cache)]
    pub code_cache: u64,
    /// How often a block is executed before it is compiled well.
    #[arg(long, value_name = "N", default_value_t = JitConfig::default().threshold,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub jit_threshold: u32,
    /// How often the interpreter executes a block before it is compiled quickly, until it is worth compiling well; 0 for
    /// never.
    #[arg(long, value_name = "N", default_value_t = JitConfig::default().quick_threshold)]
    pub jit_quick_threshold: u32,
    /// Write guest code, CLIF and host code of compiled regions to files: of all, or of those that hold the instruction at a
    /// linear address.
    #[arg(long, value_name = "LINEAR|all", value_parser = parse_regions, help_heading = "Look inside")]
    pub dump_region: Option<DumpedRegions>,
    /// Where --dump-region writes.
    #[arg(
        long,
        value_name = "FOLDER",
        default_value = "rx86-regions",
        requires = "dump_region",
        help_heading = "Look inside"
    )]
    pub dump_dir: PathBuf,
    /// Tell Linux's perf the names of compiled regions, in /tmp/perf-PID.map.
    #[arg(long, help_heading = "Look inside")]
    pub perf_map: bool,
}

impl JitArgs {
    /// The JIT's configuration.
    pub fn config(&self) -> JitConfig {
        let dump = |regions| DumpConfig { regions, folder: self.dump_dir.clone() };
        JitConfig {
            watch: WatchConfig { dump: self.dump_region.map(dump), perf_map: self.perf_map },
            threshold: self.jit_threshold,
            quick_threshold: self.jit_quick_threshold,
            code_cache_bytes: self.code_cache as usize,
            ..JitConfig::default()
        }
    }
}

fn parse_code_cache(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        bytes if bytes > CODE_CACHE_MAX => Err(format!("the most is {} GiB", CODE_CACHE_MAX >> 30)),
        bytes if bytes < CODE_CACHE_MIN => Err(format!("the least is {} KiB", CODE_CACHE_MIN >> 10)),
        bytes => Ok(bytes),
    }
}

fn parse_regions(text: &str) -> Result<DumpedRegions, String> {
    if text == "all" {
        return Ok(DumpedRegions::All);
    }
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u64::from_str_radix(digits, 16)
        .map(DumpedRegions::Holding)
        .map_err(|_| "write all, or a linear address such as 0xffffffff81000000".to_string())
}

#[cfg(test)]
mod tests {
    use crate::args::{Cli, one_line};
    use clap::Parser;
    use rx86_jit::{DumpedRegions, JitConfig};

    fn config(options: &[&str]) -> Result<JitConfig, String> {
        let cli = Cli::try_parse_from(["rx86", "--kernel", "k"].iter().chain(options));
        cli.map(|cli| cli.boot.machine.jit.config()).map_err(|error| one_line(&error))
    }

    #[test]
    fn without_options_the_jit_has_its_own_configuration() {
        let (config, default) = (config(&[]).unwrap(), JitConfig::default());
        assert_eq!(config.threshold, default.threshold);
        assert_eq!(config.code_cache_bytes, default.code_cache_bytes);
    }

    #[test]
    fn options_reach_the_configuration() {
        let config = config(&["--code-cache", "2M", "--jit-threshold", "7"]).unwrap();
        assert_eq!((config.code_cache_bytes, config.threshold), (2 << 20, 7));
    }

    #[test]
    fn what_is_dumped_and_where() {
        let dump = |options: &[&str]| config(options).unwrap().watch.dump;
        assert_eq!(dump(&[]), None);
        let all = dump(&["--dump-region", "all", "--dump-dir", "d"]).unwrap();
        assert_eq!((all.regions, all.folder), (DumpedRegions::All, "d".into()));
        let one = dump(&["--dump-region", "0xffffffff81000000"]).unwrap();
        assert_eq!(one.regions, DumpedRegions::Holding(0xffff_ffff_8100_0000));
        assert!(config(&["--perf-map"]).unwrap().watch.perf_map);
        assert!(config(&["--dump-dir", "d"]).unwrap_err().contains("--dump-region"));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (options, part) in [
            (["--code-cache", "255K"], "the least is 256 KiB"),
            (["--code-cache", "2G"], "the most is 1 GiB"),
            (["--code-cache", "many"], "unknown unit 'many'"),
            (["--jit-threshold", "0"], "0 is not in"),
            (["--dump-region", "main"], "write all, or a linear address"),
        ] {
            let line = config(&options).unwrap_err();
            assert!(line.contains(part), "{options:?}: {line}");
        }
    }
}
