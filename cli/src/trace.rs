//! `--trace`: which events are printed, and where to.

use anyhow::{Context as _, Result, bail};
use std::fmt::Debug;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::Mutex;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer as _;
use tracing_subscriber::layer::{Context, Filter, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// What may be traced, and the `tracing` target behind each.
const TARGETS: [(&str, &str); 4] = [
    ("instructions", "rx86::instruction"),
    ("exceptions", "rx86::exception"),
    ("interrupts", "rx86::interrupt"),
    ("io", "rx86::io"),
];

/// One entry of the list: a target, and the chip whose accesses are wanted, if not all.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    target: &'static str,
    chip: Option<String>,
}

/// Parses a list like `exceptions,io:serial`.
fn parse(list: &str) -> Result<Vec<Wanted>> {
    list.split(',').map(str::trim).map(parse_one).collect()
}

fn parse_one(name: &str) -> Result<Wanted> {
    let (kind, chip) =
        name.split_once(':').map_or((name, None), |(kind, chip)| (kind, Some(chip.to_string())));
    let Some(&(_, target)) = TARGETS.iter().find(|(known, _)| *known == kind) else {
        let known: Vec<&str> = TARGETS.iter().map(|(known, _)| *known).collect();
        bail!("--trace does not know '{name}'; it knows {}", known.join(", "));
    };
    if chip.is_some() && kind != "io" {
        bail!("--trace '{name}': only io takes a chip's name, as in io:serial");
    }
    Ok(Wanted { target, chip })
}

/// Lets through what is wanted.
struct WantedFilter(Vec<Wanted>);

/// Finds the `device` field of an event.
#[derive(Default)]
struct ChipName(Option<String>);

impl Visit for ChipName {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "device" {
            self.0 = Some(format!("{value:?}").trim_matches('"').to_ascii_lowercase());
        }
    }
}

impl<S: Subscriber> Filter<S> for WantedFilter {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        self.0.iter().any(|wanted| wanted.target == metadata.target())
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let mut chip = ChipName::default();
        event.record(&mut chip);
        self.0.iter().any(|wanted| {
            wanted.target == event.metadata().target()
                && wanted.chip.as_deref().is_none_or(|name| chip.0.as_deref() == Some(name))
        })
    }
}

/// Standard error while the terminal is raw, where a line feed alone does not return to the line's start.
struct RawStderr;

impl Write for RawStderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut lines = Vec::with_capacity(bytes.len() + 1);
        for &byte in bytes {
            if byte == b'\n' {
                lines.push(b'\r');
            }
            lines.push(byte);
        }
        io::stderr().write_all(&lines)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Turns tracing on for `list`, to `file` or to standard error. `raw`: the terminal will be in raw mode.
pub fn install(list: &str, file: Option<&Path>, raw: bool) -> Result<()> {
    let filter = WantedFilter(parse(list)?);
    let layer = tracing_subscriber::fmt::layer().without_time().with_ansi(false).with_level(false);
    match file {
        Some(path) => {
            let file = File::create(path)
                .with_context(|| format!("cannot write the trace to '{}'", path.display()))?;
            let layer = layer.with_writer(Mutex::new(file)).with_filter(filter);
            tracing_subscriber::registry().with(layer).init();
        }
        None if raw && io::stderr().is_terminal() => {
            let layer = layer.with_writer(|| RawStderr).with_filter(filter);
            tracing_subscriber::registry().with(layer).init();
        }
        None => {
            let layer = layer.with_writer(io::stderr).with_filter(filter);
            tracing_subscriber::registry().with(layer).init();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_parsed() {
        let io = Wanted { target: "rx86::io", chip: None };
        assert_eq!(parse("io").unwrap(), std::slice::from_ref(&io));
        let serial = Wanted { target: "rx86::io", chip: Some("serial".into()) };
        assert_eq!(parse("io, io:serial").unwrap(), [io, serial]);
        assert!(parse("weather").unwrap_err().to_string().contains("weather"));
        assert!(parse("interrupts:pic").is_err());
    }
}
