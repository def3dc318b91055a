//! The JIT as the interpreter's hot tier: which code is translated when, and how translations are kept and entered.

use crate::code::{CodeArena, DENSE, LINE, Segment};
use crate::compiler::{CompileError, Compiler, Translation, leave_kind};
use crate::context::{JitContext, LeaveKind, place_calls};
use crate::dump::Installation;
use crate::exits;
use crate::heat::Heat;
use crate::installed::{Directory, Installed, NoEntry};
use crate::liberties::Liberties;
use crate::links::Links;
use crate::pending::{Pending, PendingRegions, overlaps};
use crate::quick::QuickCompiler;
use crate::quick::ways::QUICK_OFFSET;
use crate::region::{Limits, Region};
use crate::rewritten::{ReadAnew, Rewritten, Source};
use crate::thunks::Thunks;
use crate::watch::{Watch, WatchConfig};
use crate::worker::{Job, Worker};
use crate::workshop::{Product, Workshop};
use rustc_hash::FxHashMap;
use rx86_cpu::backend::TierStats;
use rx86_cpu::cpu::Cpu;
use rx86_cpu::features::CpuModel;
use rx86_cpu::interp::Interpreter;
use rx86_cpu::interp::tier::{CodeView, HotBlock, HotTier, TierExit, TranslationId};
use rx86_cpu::mode::ModeKey;
use std::sync::Arc;
use std::time::Instant;

/// How the JIT works.
#[derive(Clone, Debug)]
pub struct JitConfig {
    /// How often a block is executed before it is translated well; at least one.
    pub threshold: u32,
    /// How often it executes one before that is translated quickly, where the host is one that can be done for; zero for never.
    pub quick_threshold: u32,
    /// Translate on a thread of its own while the guest goes on, rather than at once.
    pub background: bool,
    /// Whose thread that is; the JITs of a machine's vCPUs share one.
    pub workshop: Workshop,
    /// Other vCPUs use the same memory at the same time: x86's memory order is kept.
    pub parallel: bool,
    /// Host code kept, in bytes; when it is full, the oldest goes.
    pub code_cache_bytes: usize,
    /// What is written out for people to look at.
    pub watch: WatchConfig,
}

impl Default for JitConfig {
    fn default() -> Self {
        Self {
            // Where the interpreter is all that there is meanwhile, it has to come sooner.
            threshold: if QuickCompiler::is_host_known() { 64_000 } else { 8_000 },
            quick_threshold: 32,
            background: true,
            workshop: Workshop::default(),
            parallel: false,
            code_cache_bytes: 128 << 20,
            watch: WatchConfig::default(),
        }
    }
}

/// After so many instructions, and one way through a region more, translated code comes back to where interrupts are looked at: soon
/// where another vCPU may send one and wait; else they come from the thread itself, between two runs.
const MOST_AT_ONCE: u64 = 200_000;
const MOST_AT_ONCE_OF_SEVERAL: u64 = 20_000;

/// The part of the code cache that is for quick translations: one over this.
const QUICK_SHARE: usize = 6;

/// The JIT.
pub struct Jit {
    config: JitConfig,
    quick: Option<QuickCompiler>,
    heat: Heat,
    rewritten: Rewritten,
    /// Translations that nobody has been told of.
    fresh: Vec<(u64, ModeKey, TranslationId)>,
    worker: Worker,
    thunks: Thunks,
    arena: CodeArena,
    /// Quick translations come and go more often, and are soon made again: they have a part of the code cache for themselves.
    quick_arena: CodeArena,
    directory: Directory,
    model: CpuModel,
    by_page: FxHashMap<u64, Vec<TranslationId>>,
    pending: PendingRegions,
    next_job: u64,
    liberties: Liberties,
    stats: TierStats,
    watch: Watch,
    /// Instructions of the longest translation so far. None executes more of them before it looks at what is left.
    longest: u64,
}

/// The engine: the interpreter with the JIT above it.
pub fn engine(cpu: Cpu, config: JitConfig) -> Result<Interpreter<Jit>, CompileError> {
    let jit = Jit::new(&cpu, config)?;
    Ok(Interpreter::with_tier(cpu, jit))
}

fn compiler(config: &JitConfig) -> Result<Compiler, CompileError> {
    let mut compiler = Compiler::for_host()?;
    compiler.keep_clif(config.watch.dump.as_ref().map(|dump| dump.regions));
    if config.parallel {
        compiler.keep_order();
    }
    Ok(compiler)
}

impl Jit {
    /// A JIT for `cpu`'s model.
    pub fn new(cpu: &Cpu, config: JitConfig) -> Result<Self, CompileError> {
        let thunks = Thunks::new(&mut compiler(&config)?)?;
        let links = Links::of(&thunks);
        let watch = Watch::new(&config.watch)?;
        let workshop = config.background.then_some(&config.workshop);
        Ok(Self {
            quick: if config.quick_threshold == 0 { None } else { QuickCompiler::for_host() },
            heat: Heat::new(config.threshold),
            rewritten: Rewritten::default(),
            fresh: Vec::new(),
            worker: Worker::new(|| compiler(&config), cpu.model.clone(), workshop)?,
            thunks,
            arena: CodeArena::new(config.code_cache_bytes - config.code_cache_bytes / QUICK_SHARE, LINE)?,
            quick_arena: CodeArena::new(config.code_cache_bytes / QUICK_SHARE, DENSE)?,
            directory: Directory::new(links),
            model: cpu.model.clone(),
            by_page: FxHashMap::default(),
            pending: PendingRegions::default(),
            next_job: 0,
            liberties: Liberties::default(),
            stats: TierStats::default(),
            watch,
            longest: 0,
            config,
        })
    }

    /// Makes a translation of the region at an entry one that is found. Its code stays with it.
    fn install(
        &mut self,
        (gpa, mode): (u64, ModeKey),
        region: &Region,
        translation: &mut Translation,
        quick: Option<Box<[u32]>>,
    ) -> Option<(u64, ModeKey, TranslationId)> {
        if let Some(segment) = self.arena_for(quick.is_some()).make_room(translation.code.len()) {
            self.evict(segment, quick.is_some());
        }
        let mut code = self.arena_for(quick.is_some()).add(&translation.code).ok()??;
        if quick.is_some() {
            code = code.behind(QUICK_OFFSET);
        }
        place_calls(&mut translation.calls, code.start);
        let id = self.directory.next_id()?;
        if let Some(replaced) = self.directory.find(gpa, mode) {
            self.remove(replaced);
        }
        let stats = if quick.is_some() { &mut self.stats.quick } else { &mut self.stats.full };
        stats.regions += 1;
        stats.guest_instructions += u64::from(translation.instructions);
        stats.host_bytes += code.bytes as u64;
        if quick.is_none() {
            self.heat.take_over(gpa, mode);
        }
        self.longest = self.longest.max(translation.instructions.into());
        self.watch.installed(&Installation {
            gpa,
            mode,
            is_quick: quick.is_some(),
            region,
            clif: translation.clif.as_deref(),
            address: code.start as u64,
            host: &translation.code,
        });
        let source = match quick {
            Some(_) => Source::of(region, &translation.read_anew),
            None => Source::places_of(region),
        };
        self.directory.push(Installed {
            quick,
            code,
            calls: std::mem::take(&mut translation.calls),
            extent: translation.extent,
            gpa,
            mode,
            source,
            read_anew: std::mem::take(&mut translation.read_anew),
            pages: region.pages.iter().copied().filter(|&(distance, _)| distance != 0).collect(),
            checked: None,
            shared_looks: std::mem::take(&mut translation.shared_looks),
            window_misses: 0,
            is_parked: false,
            windowed: translation.windowed,
            remembered: Vec::new(),
            latest: None,
            is_anywhere: false,
            slots: std::mem::take(&mut translation.slots),
            linked_from: Vec::new(),
        });
        self.link(id);
        Some((gpa, mode, id))
    }

    /// Makes a translation one that is found.
    fn link(&mut self, id: TranslationId) {
        let Some(installed) = self.directory.get(id) else { return };
        for &(piece, _) in &installed.source.pieces {
            let ids = self.by_page.entry(piece >> 12).or_default();
            if ids.last() != Some(&id) {
                ids.push(id);
            }
        }
        self.directory.link(id);
    }

    fn arena_for(&mut self, quick: bool) -> &mut CodeArena {
        if quick { &mut self.quick_arena } else { &mut self.arena }
    }

    /// Drops the translations of a segment of either arena.
    fn evict(&mut self, segment: Segment, quick: bool) {
        let is_in = |one: &Installed| one.code.segment == segment && one.quick.is_some() == quick;
        let all = self.directory.iter();
        let evicted: Vec<TranslationId> = all.filter(|(_, one)| is_in(one)).map(|(id, _)| id).collect();
        self.stats.evicted += evicted.len() as u64;
        for id in evicted {
            self.remove(id);
        }
    }

    /// Accesses at RIP were looked up together in vain.
    #[cold]
    fn note_group_miss(&mut self, cpu: &Cpu) {
        let Some(gpa) = cpu.mmu.gpa_for_fetch(cpu.state.rip()) else { return };
        let ids = self.by_page.get(&(gpa >> 12)).cloned().unwrap_or_default();
        let reaches_less = self.liberties.note_miss(gpa);
        for id in ids {
            let Some(installed) = self.directory.get_mut(id) else { continue };
            let entry = (installed.gpa, installed.mode);
            if installed.windowed && installed.gpa == gpa {
                installed.window_misses += 1;
                if self.liberties.note_window_miss(entry, installed.window_misses) {
                    self.remove(id);
                }
            } else if reaches_less && installed.shared_looks.contains(&gpa) {
                self.liberties.note_change(entry);
                self.remove(id);
            }
        }
    }

    fn translation_of(&self, gpa: u64, mode: ModeKey) -> Option<&Installed> {
        self.directory.get(self.directory.find(gpa, mode)?)
    }

    fn warm<'a>(&'a self, code: &'a mut dyn CodeView, mode: ModeKey) -> Warm<'a> {
        Warm { code, heat: &self.heat, mode, settled: None, translated: None }
    }

    /// Takes the translation that was made of the code at `linear` for another vCPU, if there is one.
    fn take_over(&mut self, entry: (u64, ModeKey), linear: u64, code: &mut dyn CodeView) -> bool {
        let Some(Product { region, translation }) = self.worker.made(entry) else { return false };
        let fits = self.liberties.are_those_of(entry, &region) && region.is_still(linear, code);
        if fits {
            let installed = self.install(entry, &region, &mut Translation::clone(&translation), None);
            self.stats.shared += u64::from(installed.is_some());
            self.fresh.extend(installed);
        }
        fits
    }

    /// Has the hot code at `linear` translated, unless it is about to be for another vCPU.
    fn translate_well(&mut self, entry: (u64, ModeKey), linear: u64, heat: u32, code: &mut dyn CodeView) {
        let (gpa, mode) = entry;
        // If it is still hot then, it is asked for again.
        if self.worker.is_under_way(entry) {
            return;
        }
        let settled = Some((&self.rewritten, self.config.threshold));
        let mut view = Warm { settled, ..self.warm(code, mode) };
        let Some(mut region) = Region::grow(linear, &mut view, Limits::FULL) else { return };
        self.liberties.grant(entry, &mut region);
        let region = Arc::new(region);
        let number = self.next_job;
        self.next_job += 1;
        self.worker.begin(Job { number, entry, heat, region: region.clone() });
        self.pending.insert(number, Pending { gpa, mode, region });
    }

    /// Grows a quick region from the block at `linear`, and translates it. What is often rewritten in it is read anew.
    fn translate_quickly(&mut self, linear: u64, first: HotBlock, mode: ModeKey, code: &mut dyn CodeView) {
        let gpa = first.gpa;
        let mut view = Warm { translated: Some(&self.directory), ..self.warm(code, mode) };
        let Some(mut region) = Region::grow_from(first, linear, &mut view, Limits::QUICK) else { return };
        let Some(quick) = &mut self.quick else { return };
        for node in region.nodes.iter_mut().filter(|node| self.rewritten.is_rewritten(node.gpa)) {
            let is_in_one_page = (node.gpa & 0xfff) + node.bytes.len() as u64 <= 0x1000;
            node.read_anew = if is_in_one_page { code.host_address(node.gpa) } else { None };
        }
        let began = Instant::now();
        let heats: Vec<u32> = region.nodes.iter().map(|node| self.heat.number(node.gpa, mode)).collect();
        let translated = quick.translate(&region, &heats, mode, &self.model, &mut self.directory.links);
        self.stats.quick.compile_ns += began.elapsed().as_nanos() as u64;
        match translated {
            Ok(mut translation) => {
                let installed = self.install((gpa, mode), &region, &mut translation, Some(heats.into()));
                self.fresh.extend(installed);
                // Still there if it was not installed.
                self.directory.links.close(&translation.slots);
                if let Some(quick) = &mut self.quick {
                    quick.take_back(translation.code);
                }
            }
            Err(error) => {
                self.stats.failed += 1;
                tracing::debug!(target: "rx86::jit", "{gpa:#x}: {error}");
            }
        }
    }

    fn remove(&mut self, id: TranslationId) {
        self.unlink(id);
        let Some(gone) = self.directory.take(id) else { return };
        if gone.is_parked {
            self.rewritten.unpark(gone.gpa, gone.mode, id);
        }
        if gone.quick.is_none() {
            self.heat.give_back(gone.gpa, gone.mode);
        }
    }

    /// A translation whose code was written: it goes, or waits for its code to be what it was.
    fn retire(&mut self, id: TranslationId) {
        self.unlink(id);
        let Some(installed) = self.directory.get_mut(id).filter(|installed| installed.source.is_kept())
        else {
            self.remove(id);
            return;
        };
        installed.is_parked = true;
        let (gpa, mode) = (installed.gpa, installed.mode);
        if let Some(given_up) = self.rewritten.park(gpa, mode, id) {
            self.remove(given_up);
        }
    }

    /// Makes a translation one that nobody finds.
    fn unlink(&mut self, id: TranslationId) {
        self.directory.unlink(id);
        let Some(gone) = self.directory.get(id) else { return };
        for &(gpa, _) in &gone.source.pieces {
            if let Some(ids) = self.by_page.get_mut(&(gpa >> 12)) {
                ids.retain(|&other| other != id);
                if ids.is_empty() {
                    self.by_page.remove(&(gpa >> 12));
                }
            }
        }
    }
}

/// Blocks with the heat that quick translations of them have counted.
struct Warm<'a> {
    code: &'a mut dyn CodeView,
    heat: &'a Heat,
    mode: ModeKey,
    /// If only those are wanted that are not about to be rewritten: what is known of that, and the threshold.
    settled: Option<(&'a Rewritten, u32)>,
    /// If those are not wanted that a translation begins with: the translations. Going on in one costs a jump; most code
    /// would be in several otherwise.
    translated: Option<&'a Directory>,
}

impl CodeView for Warm<'_> {
    fn block(&mut self, linear: u64) -> Option<HotBlock> {
        let mut block = self.code.block(linear)?;
        block.heat = block.heat.saturating_add(self.heat.of(block.gpa, self.mode));
        let is_wanted = self
            .settled
            .is_none_or(|(rewritten, threshold)| rewritten.is_settled(block.gpa, block.heat, threshold));
        is_wanted.then_some(block)
    }

    fn heat(&mut self, linear: u64) -> Option<(u64, u32)> {
        let (gpa, heat) = self.code.heat(linear)?;
        if self.translated.is_some_and(|directory| directory.find(gpa, self.mode).is_some()) {
            return None;
        }
        Some((gpa, heat.saturating_add(self.heat.of(gpa, self.mode))))
    }

    fn targets(&mut self, linear: u64) -> Vec<u64> {
        self.code.targets(linear)
    }
}

impl HotTier for Jit {
    const NAME: &'static str = "jit";
    const ACTIVE: bool = true;

    fn threshold(&self) -> u32 {
        if self.quick.is_some() {
            self.config.threshold.min(self.config.quick_threshold)
        } else {
            self.config.threshold
        }
    }

    fn stats(&self) -> TierStats {
        TierStats { refused_entries: self.directory.refused, ..self.stats }
    }

    fn translate(&mut self, linear: u64, gpa: u64, mode: ModeKey, code: &mut dyn CodeView) {
        let is_quick = match self.translation_of(gpa, mode) {
            Some(installed) if installed.quick.is_none() => return,
            known => known.is_some(),
        };
        let Some(first) = self.warm(code, mode).block(linear) else { return };
        let heat = first.heat;
        // What it has asked for itself comes by itself.
        if self.pending.find(gpa, mode).is_none() && self.take_over((gpa, mode), linear, code) {
            return;
        }
        let is_hot = heat >= self.config.threshold;
        // Until it is translated well, too; but then there is nothing to wait for.
        let waits = !is_hot || self.config.background;
        if waits && !is_quick && self.quick.is_some() {
            self.translate_quickly(linear, first, mode, code);
        }
        if !is_hot {
            return;
        }
        if let Some((number, region)) = self.pending.find(gpa, mode) {
            return self.worker.heat(number, heat, (gpa, mode), region);
        }
        self.translate_well((gpa, mode), linear, heat, code);
    }

    fn finished(&mut self) -> Vec<(u64, ModeKey, TranslationId)> {
        let mut finished = std::mem::take(&mut self.fresh);
        if self.pending.is_empty() {
            return finished;
        }
        while let Some(done) = self.worker.take() {
            self.stats.full.compile_ns += done.elapsed.as_nanos() as u64;
            // Gone from here: its code was written meanwhile.
            let Some(pending) = self.pending.remove(done.number) else { continue };
            match done.outcome {
                Ok(mut translation) => {
                    let Pending { gpa, mode, region } = pending;
                    finished.extend(self.install((gpa, mode), &region, &mut translation, None));
                }
                Err(error) => {
                    self.stats.failed += 1;
                    tracing::debug!(target: "rx86::jit", "{:#x}: {error}", pending.gpa);
                }
            }
        }
        finished
    }

    fn find(&self, gpa: u64, mode: ModeKey) -> Option<TranslationId> {
        self.directory.find(gpa, mode)
    }

    fn revive(&mut self, cpu: &mut Cpu, gpa: u64, mode: ModeKey) -> Option<TranslationId> {
        let is_unchanged = |id: &&TranslationId| {
            self.directory.get(**id).is_some_and(|installed| installed.source.is_unchanged(cpu))
        };
        let id = *self.rewritten.parked(gpa, mode).iter().rev().find(is_unchanged)?;
        self.rewritten.unpark(gpa, mode, id);
        let installed = self.directory.get_mut(id)?;
        installed.is_parked = false;
        for &(piece, bytes) in &installed.source.pieces {
            cpu.code_map.add(piece, bytes);
        }
        self.link(id);
        self.stats.revived += 1;
        Some(id)
    }

    fn run(&mut self, cpu: &mut Cpu, translation: TranslationId, budget: u64, chains: bool) -> TierExit {
        let (code, calls) =
            match self.directory.known(cpu).map_or_else(|| self.directory.enter(translation, cpu), Ok) {
                Ok(entry) => entry,
                Err(NoEntry::Gone) => return TierExit::Gone,
                Err(NoEntry::Refused) => return TierExit::Interpret,
            };
        let budget = budget.min(if self.config.parallel { MOST_AT_ONCE_OF_SEVERAL } else { MOST_AT_ONCE });
        let heats = self.heat.as_mut_ptr();
        let jumps = self.directory.jumps.as_ptr();
        let mut context = JitContext::new(cpu, &self.thunks, jumps, heats, budget, chains);
        context.look_up_in(&mut self.directory);
        let kind = leave_kind(self.thunks.enter(&mut context, code, calls));
        let group_missed = context.group_missed;
        let executed = (budget as i64).wrapping_sub(context.remaining) as u64;
        cpu.stats.instructions += executed;
        self.stats.instructions += executed;
        self.stats.entries += 1;
        exits::count(&mut self.stats.exits, kind, &context, cpu);
        match kind {
            LeaveKind::Next | LeaveKind::Engine => TierExit::Next,
            LeaveKind::Hot => {
                self.heat.wind_up(context.hot as u32);
                TierExit::Hot
            }
            LeaveKind::Interpret => {
                if group_missed {
                    self.note_group_miss(cpu);
                }
                TierExit::Interpret
            }
            LeaveKind::Exception => context.take_exception().map_or(TierExit::Interpret, TierExit::Exception),
        }
    }

    fn overrun(&self) -> u64 {
        self.longest
    }

    fn invalidate(&mut self, gpa: u64, bytes: u64) -> usize {
        for number in self.pending.remove_overlapping(gpa, bytes) {
            self.worker.cancel(number);
        }
        let Some(ids) = self.by_page.get(&(gpa >> 12)) else { return 0 };
        let mut hit = Vec::new();
        for &id in ids {
            let Some(installed) = self.directory.get(id) else { continue };
            let pieces = &installed.source.pieces;
            let is_hit = overlaps(pieces, gpa, bytes);
            if is_hit {
                let written = pieces.iter().filter(|&&piece| overlaps(&[piece], gpa, bytes));
                written.for_each(|&(piece, _)| self.rewritten.note(piece));
                hit.push(id);
            }
            let is_read_anew = |one: &ReadAnew| one.gpa < gpa + bytes && gpa < one.gpa + one.bytes;
            if is_hit || installed.read_anew.iter().any(is_read_anew) {
                installed.quick.iter().flatten().for_each(|&number| self.heat.restart(number));
            }
        }
        self.stats.invalidated += hit.len() as u64;
        for &id in &hit {
            self.retire(id);
        }
        hit.len()
    }

    fn pieces_of_page(&self, page: u64) -> Vec<(u64, u64)> {
        let installed = self.by_page.get(&page).into_iter().flatten();
        let of_installed =
            installed.filter_map(|&id| self.directory.get(id)).flat_map(|installed| &installed.source.pieces);
        let of_installed = of_installed.copied().filter(|&(gpa, _)| gpa >> 12 == page);
        of_installed.chain(self.pending.pieces_of_page(page)).collect()
    }
}
