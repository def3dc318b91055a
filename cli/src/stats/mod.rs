//! `--stats`: what the engine and the board did, for people and as JSON.

mod translations;

use crate::machine::Machine;
use rx86_cpu::backend::EngineStats;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;
use translations::Translations;

/// Accesses to one chip.
#[derive(Debug, Serialize)]
struct ChipAccesses {
    reads: u64,
    writes: u64,
}

/// All counters of a run.
#[derive(Debug, Serialize)]
pub struct Stats {
    seconds: f64,
    instructions: BTreeMap<&'static str, u64>,
    mips: f64,
    blocks_executed: u64,
    blocks_decoded: u64,
    block_cache_hit_rate: f64,
    blocks_invalidated: u64,
    tlb_hits: u64,
    tlb_hit_rate: f64,
    tlb_fills: u64,
    tlb_misses_and_slow_accesses: u64,
    exceptions: u64,
    interrupts: u64,
    port_accesses: u64,
    mmio_accesses: u64,
    exits: BTreeMap<&'static str, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    translations: Option<Translations>,
    chips: BTreeMap<&'static str, ChipAccesses>,
}

impl Stats {
    /// The counters of `machine` after running for `elapsed`.
    pub fn of(machine: &Machine, elapsed: Duration) -> Self {
        let s = machine.stats();
        let seconds = elapsed.as_secs_f64();
        // A block whose translation is entered is looked up, too.
        let look_ups = s.blocks_executed + s.tier.map_or(0, |tier| tier.entries);
        let chips = machine.io_counts().into_iter().filter(|(_, count)| count.reads + count.writes > 0);
        Self {
            seconds,
            instructions: instructions_by_tier(machine.engine_name(), &s),
            mips: s.instructions as f64 / seconds / 1e6,
            blocks_executed: s.blocks_executed,
            blocks_decoded: s.blocks_decoded,
            block_cache_hit_rate: s.block_hits as f64 / look_ups.max(1) as f64,
            blocks_invalidated: s.blocks_invalidated,
            tlb_hits: s.tlb_hits,
            tlb_hit_rate: s.tlb_hits as f64 / (s.tlb_hits + s.slow_accesses).max(1) as f64,
            tlb_fills: s.tlb_fills,
            tlb_misses_and_slow_accesses: s.slow_accesses,
            exceptions: s.exceptions,
            interrupts: s.interrupts,
            port_accesses: s.port_accesses,
            mmio_accesses: s.mmio_accesses,
            exits: BTreeMap::from([("halt", s.exits_halt), ("yield", s.exits_yield)]),
            translations: s.tier.map(Translations::of),
            chips: chips
                .map(|(name, count)| (name, ChipAccesses { reads: count.reads, writes: count.writes }))
                .collect(),
        }
    }

    /// One JSON object.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }
}

/// The instructions of each tier, or all as the engine's.
fn instructions_by_tier(engine: &'static str, stats: &EngineStats) -> BTreeMap<&'static str, u64> {
    match stats.tier {
        Some(tier) => BTreeMap::from([
            (engine, tier.instructions),
            ("interp", stats.instructions.saturating_sub(tier.instructions)),
        ]),
        None => BTreeMap::from([(engine, stats.instructions)]),
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "time                 {:.3} s", self.seconds)?;
        let all: u64 = self.instructions.values().sum();
        for (engine, count) in &self.instructions {
            let share = *count as f64 / all.max(1) as f64 * 100.0;
            writeln!(f, "instructions         {count} ({engine}, {share:.2} %)")?;
        }
        writeln!(f, "speed                {:.1} million instructions/s", self.mips)?;
        writeln!(f, "blocks executed      {}", self.blocks_executed)?;
        writeln!(f, "blocks decoded       {}", self.blocks_decoded)?;
        writeln!(f, "block cache hits     {:.3} %", self.block_cache_hit_rate * 100.0)?;
        writeln!(f, "blocks invalidated   {}", self.blocks_invalidated)?;
        writeln!(f, "TLB hits             {} ({:.3} %)", self.tlb_hits, self.tlb_hit_rate * 100.0)?;
        writeln!(f, "TLB fills            {}", self.tlb_fills)?;
        writeln!(f, "slow accesses        {}", self.tlb_misses_and_slow_accesses)?;
        writeln!(f, "exceptions           {}", self.exceptions)?;
        writeln!(f, "interrupts           {}", self.interrupts)?;
        writeln!(f, "port accesses        {}", self.port_accesses)?;
        writeln!(f, "register accesses    {}", self.mmio_accesses)?;
        for (kind, count) in &self.exits {
            writeln!(f, "{:20} {count}", format!("exits: {kind}"))?;
        }
        if let Some(translations) = &self.translations {
            write!(f, "{translations}")?;
        }
        for (name, chip) in &self.chips {
            writeln!(f, "{:20} {} reads, {} writes", format!("chip {name}"), chip.reads, chip.writes)?;
        }
        Ok(())
    }
}
