//! The translations that can be entered, and how they are found: by physical address and mode, and from translated code by
//! linear address.

use crate::code::HostCode;
use crate::compiler::is_extent_canonical;
use crate::context::{Call, tag_of};
use crate::jumps::JumpCache;
use crate::links::{Links, SlotNumber, Slots};
use crate::quick::ways::WITHIN;
use crate::rewritten::{ReadAnew, Source};
use rustc_hash::FxHashMap;
use rx86_cpu::cpu::Cpu;
use rx86_cpu::interp::tier::TranslationId;
use rx86_cpu::mode::ModeKey;
use rx86_softmmu::Access;

/// A translation.
pub(crate) struct Installed {
    /// By the quick tier, with these counters.
    pub(crate) quick: Option<Box<[u32]>>,
    pub(crate) code: HostCode,
    pub(crate) calls: Box<[Call]>,
    pub(crate) extent: (i64, i64),
    pub(crate) gpa: u64,
    pub(crate) mode: ModeKey,
    pub(crate) source: Source,
    pub(crate) read_anew: Vec<ReadAnew>,
    /// Pages beyond the entry's: distance in pages, and the physical page it must be.
    pub(crate) pages: Box<[(i64, u64)]>,
    /// The mapping (`Mmu::generation`) and the entry's address for which `pages` were last found right.
    pub(crate) checked: Option<(u64, u64)>,
    /// As in `Translation`.
    pub(crate) shared_looks: Vec<u64>,
    /// How often its window was in vain.
    pub(crate) window_misses: u32,
    /// It waits in `Rewritten`.
    pub(crate) is_parked: bool,
    /// The code has a stack window.
    pub(crate) windowed: bool,
    /// The RIPs at which the jump cache may know it.
    pub(crate) remembered: Vec<u64>,
    /// The one of them at which it was entered last.
    pub(crate) latest: Option<u64>,
    /// Links may enter it at others.
    pub(crate) is_anywhere: bool,
    /// Those that its code uses.
    pub(crate) slots: Slots,
    /// Those that lead to it, and some that did.
    pub(crate) linked_from: Vec<SlotNumber>,
}

/// All of them.
pub(crate) struct Directory {
    /// By `TranslationId - 1`.
    translations: Vec<Option<Box<Installed>>>,
    by_entry: FxHashMap<(u64, ModeKey), TranslationId>,
    pub(crate) jumps: JumpCache,
    pub(crate) links: Links,
    /// Entries refused because the mapping of the region's pages has changed.
    pub(crate) refused: u64,
}

/// Why a translation is not entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoEntry {
    /// It is not there, or not valid.
    Gone,
    /// The mapping of its pages is another one.
    Refused,
}

/// The host code of a translation, and its calls; valid until the translation is removed.
pub(crate) type Entry = (*const u8, *const Call);

impl Directory {
    pub(crate) fn new(links: Links) -> Self {
        Self {
            translations: Vec::new(),
            by_entry: FxHashMap::default(),
            jumps: JumpCache::new(),
            links,
            refused: 0,
        }
    }

    /// The number that the next translation has; None when there are no more.
    pub(crate) fn next_id(&self) -> Option<TranslationId> {
        TranslationId::new(u32::try_from(self.translations.len()).ok()?.checked_add(1)?)
    }

    /// Adds a translation, which has `next_id`. It is found when `link` was called.
    pub(crate) fn push(&mut self, installed: Installed) {
        if let Some(id) = self.next_id() {
            self.links.open(&installed.slots, id, &installed.calls);
        }
        self.translations.push(Some(Box::new(installed)));
    }

    pub(crate) fn get(&self, id: TranslationId) -> Option<&Installed> {
        self.translations.get(id.get() as usize - 1)?.as_deref()
    }

    pub(crate) fn get_mut(&mut self, id: TranslationId) -> Option<&mut Installed> {
        self.translations.get_mut(id.get() as usize - 1)?.as_deref_mut()
    }

    /// Removes a translation for good.
    pub(crate) fn take(&mut self, id: TranslationId) -> Option<Box<Installed>> {
        let gone = self.translations.get_mut(id.get() as usize - 1)?.take()?;
        self.links.close(&gone.slots);
        Some(gone)
    }

    /// All translations.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (TranslationId, &Installed)> {
        let ids = (1..).map_while(TranslationId::new).zip(&self.translations);
        ids.filter_map(|(id, slot)| Some((id, slot.as_deref()?)))
    }

    /// The valid translation that begins at a physical address.
    pub(crate) fn find(&self, gpa: u64, mode: ModeKey) -> Option<TranslationId> {
        self.by_entry.get(&(gpa, mode)).copied()
    }

    /// Makes a translation the one that is found at its address.
    pub(crate) fn link(&mut self, id: TranslationId) {
        if let Some(Some(installed)) = self.translations.get(id.get() as usize - 1) {
            self.by_entry.insert((installed.gpa, installed.mode), id);
        }
    }

    /// Makes it one that nobody finds.
    pub(crate) fn unlink(&mut self, id: TranslationId) {
        self.disconnect(id);
        let Some(Some(gone)) = self.translations.get_mut(id.get() as usize - 1) else { return };
        gone.latest = None;
        for rip in gone.remembered.drain(..) {
            self.jumps.forget(rip, &gone.code);
        }
        if self.by_entry.get(&(gone.gpa, gone.mode)) == Some(&id) {
            self.by_entry.remove(&(gone.gpa, gone.mode));
        }
    }

    /// The way into the translation that the jump cache knows at RIP, whichever that is: it may be entered.
    pub(crate) fn known(&self, cpu: &Cpu) -> Option<Entry> {
        let rip = cpu.state.rip();
        self.jumps.known(rip, tag_of(cpu, rip))
    }

    /// The way into a translation, whose first instruction is at RIP; from now on the jump cache knows it there.
    pub(crate) fn enter(&mut self, id: TranslationId, cpu: &mut Cpu) -> Result<Entry, NoEntry> {
        let Some(Some(installed)) = self.translations.get_mut(id.get() as usize - 1) else {
            return Err(NoEntry::Gone);
        };
        if installed.is_parked {
            return Err(NoEntry::Gone);
        }
        if !installed.fits(cpu) {
            self.refused += 1;
            return Err(NoEntry::Refused);
        }
        let rip = cpu.state.rip();
        let is_new = installed.latest != Some(rip) && installed.note_remembered(rip, &mut self.jumps);
        let Installed { code, calls, .. } = &**installed;
        self.jumps.remember(rip, tag_of(cpu, rip), code, calls, installed.origin_at(rip));
        let entry = (code.start, calls.as_ptr());
        if is_new {
            // Its ways may hold only for where it was entered before.
            self.forget_ways(id);
        }
        Ok(entry)
    }
}

impl Installed {
    /// Where the code of a quick translation is entered with the registers of another one.
    pub(crate) fn within(&self) -> Option<u64> {
        let start = self.code.start.expose_provenance() as u64;
        self.quick.as_ref().map(|_| start + WITHIN as u64)
    }

    /// Whether the code may be entered at RIP in the current mapping: its other pages are where they were when it was
    /// translated, and what it jumps to unchecked is canonical.
    #[inline]
    fn fits(&mut self, cpu: &mut Cpu) -> bool {
        let rip = cpu.state.rip();
        let key = (cpu.mmu.generation(rip), rip);
        self.checked == Some(key) || self.check(cpu, key)
    }

    /// The jump cache is about to know the translation at `rip`, and no longer at the first of many others. Whether that is news.
    #[cold]
    fn note_remembered(&mut self, rip: u64, jumps: &mut JumpCache) -> bool {
        const MOST: usize = 8;
        self.latest = Some(rip);
        if self.remembered.contains(&rip) {
            return false;
        }
        if self.remembered.len() >= MOST {
            jumps.forget(self.remembered.remove(0), &self.code);
        }
        self.remembered.push(rip);
        true
    }

    /// The physical address of the code, if wherever that is mapped at `rip` it fits: it has no other pages, and all that it
    /// jumps to unchecked is canonical if `rip` is.
    pub(crate) fn origin_at(&self, rip: u64) -> Option<u64> {
        const FAR: i64 = 1 << 32;
        let is_near = -FAR <= self.extent.0 && self.extent.1 <= FAR;
        let half = |distance: i64| rip.wrapping_add(distance as u64) >> 47;
        (self.pages.is_empty() && is_near && half(-FAR) == half(FAR)).then_some(self.gpa)
    }

    #[cold]
    fn check(&mut self, cpu: &mut Cpu, key: (u64, u64)) -> bool {
        let rip = key.1;
        if !is_extent_canonical(cpu, self.extent) {
            return false;
        }
        for &(distance, page) in &self.pages {
            let linear = (rip & !0xfff).wrapping_add((distance as u64) << 12);
            match cpu.mmu.translate(linear, Access::Fetch) {
                Ok(target) if target.gpa >> 12 == page => {}
                _ => return false,
            }
        }
        self.checked = (cpu.mmu.generation(rip) == key.0).then_some(key);
        self.checked.is_some()
    }
}
