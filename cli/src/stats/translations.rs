//! The JIT's part of `--stats`.

use rx86_cpu::backend::{TierExits, TierStats, TranslationStats};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// What the JIT did.
#[derive(Debug, Serialize)]
pub(super) struct Translations {
    #[serde(flatten)]
    full: Made,
    quick: Made,
    shared: u64,
    failed: u64,
    invalidated: u64,
    revived: u64,
    evicted: u64,
    entries: u64,
    refused_entries: u64,
    exits: Exits,
}

/// What a translator has made.
#[derive(Debug, Serialize)]
struct Made {
    regions: u64,
    guest_instructions: u64,
    host_bytes: u64,
    compile_seconds: f64,
}

impl Made {
    fn of(stats: TranslationStats) -> Self {
        let TranslationStats { regions, guest_instructions, host_bytes, compile_ns } = stats;
        Self { regions, guest_instructions, host_bytes, compile_seconds: compile_ns as f64 / 1e9 }
    }
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { regions, guest_instructions, host_bytes, compile_seconds } = self;
        write!(f, "{regions}: {guest_instructions} instructions, {host_bytes} bytes, {compile_seconds:.3} s")
    }
}

/// Why translated code was left, by reason.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Exits(BTreeMap<&'static str, u64>);

impl Exits {
    fn of(exits: TierExits) -> Self {
        let TierExits {
            next_unknown,
            hot,
            budget,
            attention,
            block_ended,
            exception,
            access_faults,
            access_crosses_page,
            access_writes_code_page,
            access_not_ram,
            no_translation,
        } = exits;
        Self(BTreeMap::from([
            ("next_unknown", next_unknown),
            ("hot", hot),
            ("budget", budget),
            ("attention", attention),
            ("block_ended", block_ended),
            ("exception", exception),
            ("access_faults", access_faults),
            ("access_crosses_page", access_crosses_page),
            ("access_writes_code_page", access_writes_code_page),
            ("access_not_ram", access_not_ram),
            ("no_translation", no_translation),
        ]))
    }
}

impl Translations {
    pub(super) fn of(tier: TierStats) -> Self {
        Self {
            full: Made::of(tier.full),
            quick: Made::of(tier.quick),
            shared: tier.shared,
            failed: tier.failed,
            invalidated: tier.invalidated,
            revived: tier.revived,
            evicted: tier.evicted,
            entries: tier.entries,
            refused_entries: tier.refused_entries,
            exits: Exits::of(tier.exits),
        }
    }
}

impl fmt::Display for Translations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "translated regions   {}", self.full)?;
        writeln!(f, "translated quickly   {}", self.quick)?;
        writeln!(f, "taken from another   {}", self.shared)?;
        writeln!(f, "not translated       {}", self.failed)?;
        let (written, revived, evicted) = (self.invalidated, self.revived, self.evicted);
        writeln!(f, "regions dropped      {written} written ({revived} used again), {evicted} evicted")?;
        writeln!(f, "region entries       {}, {} refused", self.entries, self.refused_entries)?;
        for (reason, count) in &self.exits.0 {
            writeln!(f, "{:30} {count}", format!("region exits: {reason}"))?;
        }
        Ok(())
    }
}
