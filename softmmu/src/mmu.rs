//! One vCPU's MMU: the paging context, the software TLB and guest memory.
//!
//! Every view (privilege) of every address space (PCID) has its own TLB arrays, so that a change of privilege, STAC, CLAC and
//! a CR3 load that keeps its PCID's translations only switch arrays. What a flush costs is in proportion to what was cached.

use std::collections::BTreeSet;
use std::mem::{offset_of, replace};
use std::sync::Arc;

use crate::access::{Access, View};
use crate::memory::GuestMemory;
use crate::paging::{PageFault, PagingContext, Translation, walk};
use crate::space::AddressSpace;
use crate::tlb::{Origin, TlbEntry, ViewTlb, Which, set_of};

/// How many PCIDs are cached at a time.
const SPACES: usize = 8;
const CR3_NO_FLUSH: u64 = 1 << 63;

/// Where a byte's linear address leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    /// Guest physical address of the byte.
    pub gpa: u64,
    /// Host address of the byte, good to the end of its 4-KiB page; None for MMIO and where nothing answers.
    pub host: Option<*mut u8>,
    /// False for ROM, where stores are dropped, and where `host` is None.
    pub writable: bool,
    /// The page holds translated code, which a store may change.
    pub has_code: bool,
}

/// Counters since the start. Hits of the fast path are not counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MmuStats {
    /// Translations that took the slow path.
    pub misses: u64,
    /// Page walks, those that ended in a page fault included.
    pub walks: u64,
    /// Page walks that ended in a page fault.
    pub faults: u64,
    /// Flushes of an address space or more.
    pub flushes: u64,
    /// Invalidations of one page.
    pub invalidations: u64,
    /// CR3 loads that found their PCID's translations.
    pub pcid_hits: u64,
}

/// One vCPU's MMU.
#[derive(Debug)]
pub struct Mmu {
    /// The arrays in use: those of `view` in `spaces[space]`, whose own place for them is empty meanwhile.
    active: Box<ViewTlb>,
    view: View,
    space: usize,
    spaces: [AddressSpace; SPACES],
    context: PagingContext,
    memory: Arc<GuestMemory>,
    /// Page addresses with a data breakpoint.
    watched: Vec<u64>,
    last_generation: u64,
    /// The generation of fetch translations in the upper half of the address space, while they are all of global pages.
    upper_generation: u64,
    upper_is_global: bool,
    stats: MmuStats,
}

impl Mmu {
    /// Where generated code finds, in an `Mmu`, the pointer to the `TlbEntry` array (`tlb::SETS` long) in use.
    pub const TLB_OFFSET: usize = offset_of!(Mmu, active);

    /// An MMU with paging off, supervisor view, and nothing cached.
    pub fn new(memory: Arc<GuestMemory>) -> Self {
        let mut spaces: [AddressSpace; SPACES] = Default::default();
        spaces[0].pcid = Some(0);
        spaces[0].generation = 1;
        Self {
            active: ViewTlb::new(),
            view: View::Supervisor,
            space: 0,
            spaces,
            context: PagingContext::default(),
            memory,
            watched: Vec::new(),
            last_generation: 1,
            upper_generation: 1,
            upper_is_global: true,
            stats: MmuStats::default(),
        }
    }

    /// The guest's memory.
    #[inline]
    pub fn memory(&self) -> &Arc<GuestMemory> {
        &self.memory
    }

    /// The state that translations depend on.
    #[inline]
    pub fn context(&self) -> &PagingContext {
        &self.context
    }

    /// The counters.
    pub fn stats(&self) -> MmuStats {
        self.stats
    }

    /// Changes as soon as a fetch translation (gpa or host address of a page of code) given before for an address of the same
    /// half of the address space as `linear` may be wrong in the same view; who remembers one keys it by this and the view. A
    /// return to a PCID whose translations were kept brings back its generation, and they are good again. As long as all code
    /// in the upper half is on global pages, a change of the address space leaves that half's generation alone.
    #[inline(always)]
    pub fn generation(&self, linear: u64) -> u64 {
        if is_upper(linear) && self.upper_is_global {
            self.upper_generation
        } else {
            self.spaces[self.space & (SPACES - 1)].generation
        }
    }

    fn next_generation(&mut self) -> u64 {
        self.last_generation += 1;
        self.last_generation
    }

    /// The privilege of explicit accesses now.
    #[inline(always)]
    pub fn view(&self) -> View {
        self.view
    }

    /// Sets the privilege of explicit accesses: after a change of CPL or EFLAGS.AC.
    #[inline(always)]
    pub fn set_view(&mut self, view: View) {
        if view != self.view {
            self.activate(self.space, view);
        }
    }

    fn activate(&mut self, space: usize, view: View) {
        if (space, view) == (self.space, self.view) {
            return;
        }
        let next = self.spaces[space].views[view as usize].take().unwrap_or_else(ViewTlb::new);
        let last = replace(&mut self.active, next);
        self.spaces[self.space].views[self.view as usize] = Some(last);
        self.space = space;
        self.view = view;
    }

    /// The entry where `linear` is looked up.
    #[inline(always)]
    fn entry(&self, linear: u64) -> &TlbEntry {
        &self.active.entries[set_of(linear)]
    }

    /// The host address for a read of `bytes` (1 to 4096) if the TLB knows it and the access stays in one page. Else the
    /// caller splits it by pages and calls `translate`.
    #[inline(always)]
    pub fn host_for_read(&self, linear: u64, bytes: u64) -> Option<*const u8> {
        let entry = self.entry(linear);
        ((linear ^ entry.read) < 4097 - bytes).then(|| host_address(entry, linear).cast_const())
    }

    /// The host address for a write of `bytes` (1 to 4096), as `host_for_read`; None for pages with code, too.
    #[inline(always)]
    pub fn host_for_write(&self, linear: u64, bytes: u64) -> Option<*mut u8> {
        let entry = self.entry(linear);
        ((linear ^ entry.write) < 4097 - bytes).then(|| host_address(entry, linear))
    }

    /// The host address for a fetch of `bytes` (1 to 4096), as `host_for_read`.
    #[inline(always)]
    pub fn host_for_fetch(&self, linear: u64, bytes: u64) -> Option<*const u8> {
        let entry = self.entry(linear);
        ((linear ^ entry.fetch) < 4097 - bytes).then(|| host_address(entry, linear).cast_const())
    }

    /// The guest physical address for a fetch at `linear` if the TLB knows it.
    #[inline(always)]
    pub fn gpa_for_fetch(&self, linear: u64) -> Option<u64> {
        (self.entry(linear).fetch == linear & !0xfff).then(|| self.active.gpa_page(linear) | (linear & 0xfff))
    }

    /// Translates one byte's address in the current view, sets accessed and dirty flags, and fills the TLB for its page.
    ///
    /// That `linear` is canonical is the caller's check; an address that is not is never cached.
    pub fn translate(&mut self, linear: u64, access: Access) -> Result<Target, PageFault> {
        self.translate_in(self.view, linear, access)
    }

    /// The same, with supervisor privilege whatever the CPL and with EFLAGS.AC taken as clear when `implicit_supervisor`: the
    /// CPU's own accesses to descriptor tables and the TSS.
    pub fn translate_as(
        &mut self,
        linear: u64,
        access: Access,
        implicit_supervisor: bool,
    ) -> Result<Target, PageFault> {
        self.translate_in(if implicit_supervisor { View::Supervisor } else { self.view }, linear, access)
    }

    fn translate_in(&mut self, view: View, linear: u64, access: Access) -> Result<Target, PageFault> {
        self.stats.misses += 1;
        let linear = self.context.effective(linear);
        let space = &mut self.spaces[self.space];
        let tlb = if view == self.view {
            &mut *self.active
        } else {
            &mut **space.views[view as usize].get_or_insert_with(ViewTlb::new)
        };
        let cacheable = self.context.is_canonical(linear);
        let origin = match tlb.lookup(linear, access).or_else(|| tlb.recall(linear, access)) {
            Some(origin) => origin,
            None => {
                self.stats.walks += 1;
                let found = walk(&self.memory, &self.context, linear, access, view)
                    .inspect_err(|_| self.stats.faults += 1)?;
                let rights = rights_of(&found, &self.context, view);
                let origin = Origin::new(linear, found.gpa, found.page_shift, rights);
                if cacheable {
                    tlb.insert(origin, found.global);
                }
                origin
            }
        };
        let gpa = origin.gpa_page() | (linear & 0xfff);
        let page = self.memory.host_page(gpa);
        let has_code = self.memory.has_code(gpa);
        if let Some(page) = page.filter(|_| cacheable) {
            let data = !self.watched.contains(&(linear & !0xfff));
            // Only fetches open the fetch path: what opens it must have been noted.
            let fetch = access == Access::Fetch || tlb.fetches(linear);
            let write = data && page.writable && !has_code;
            tlb.open(origin, page.host.expose_provenance() as u64, data, write, fetch);
        }
        if access == Access::Fetch {
            let global = tlb.is_global(linear);
            space.note_fetch(linear, global);
            self.upper_is_global &= global || !is_upper(linear);
        }
        Ok(Target {
            gpa,
            host: page.map(|page| page.host.wrapping_add((gpa & 0xfff) as usize)),
            writable: page.is_some_and(|page| page.writable),
            has_code,
        })
    }

    /// Replaces the context. If anything differs, everything is flushed, global pages included.
    pub fn set_context(&mut self, context: PagingContext) {
        if context == self.context {
            return;
        }
        self.context = context;
        self.flush_all();
        self.choose_space(self.context.pcid());
    }

    /// A MOV to CR3: without CR4.PCIDE all but global pages is flushed; with it, the address space changes to the new PCID's,
    /// of which all but global pages is flushed unless `keep` (bit 63 of the operand).
    pub fn load_cr3(&mut self, cr3: u64, keep: bool) {
        self.context.cr3 = cr3 & !CR3_NO_FLUSH;
        let known = self.choose_space(self.context.pcid());
        if self.context.pcide && keep {
            self.stats.pcid_hits += u64::from(known);
        } else {
            self.flush_space(self.space);
        }
    }

    /// Makes the address space of `pcid` the current one, taking the least recently used place if it has none. True if it had.
    fn choose_space(&mut self, pcid: u16) -> bool {
        let known = self.spaces.iter().position(|space| space.pcid == Some(pcid));
        let chosen = known.unwrap_or_else(|| {
            let spaces = self.spaces.iter().enumerate();
            // A place never used has 0 there.
            let oldest = spaces.min_by_key(|(_, space)| space.last_used);
            oldest.map_or(0, |(slot, _)| slot)
        });
        let now = self.next_generation();
        self.activate(chosen, self.view);
        self.spaces[chosen].last_used = now;
        if known.is_none() {
            let space = &mut self.spaces[chosen];
            space.flush_all(Some(&mut self.active));
            space.generation = now;
            if space.pcid.replace(pcid).is_some() {
                // What the place knew of fetches from global pages is lost.
                self.upper_generation = now;
            }
        }
        known.is_some()
    }

    /// Sets PKRU.
    pub fn set_pkru(&mut self, pkru: u32) {
        if replace(&mut self.context.pkru, pkru) != pkru && self.context.pke {
            self.flush_all();
        }
    }

    /// Sets the PDPTE registers of PAE paging, as a MOV to CR3 loads them from memory.
    pub fn set_pdptes(&mut self, pdptes: [u64; 4]) {
        if replace(&mut self.context.pdptes, pdptes) != pdptes {
            self.flush_non_global();
        }
    }

    /// Forgets every translation, global pages and all PCIDs included.
    pub fn flush_all(&mut self) {
        self.stats.flushes += 1;
        for slot in 0..SPACES {
            let generation = self.next_generation();
            let active = (slot == self.space).then_some(&mut *self.active);
            let space = &mut self.spaces[slot];
            space.flush_all(active);
            space.generation = generation;
        }
        self.upper_generation = self.next_generation();
        self.upper_is_global = true;
    }

    /// Forgets every translation of all PCIDs except those of global pages.
    pub fn flush_non_global(&mut self) {
        for slot in 0..SPACES {
            self.flush_space(slot);
        }
    }

    fn flush_space(&mut self, slot: usize) {
        self.stats.flushes += 1;
        let generation = self.next_generation();
        let active = (slot == self.space).then_some(&mut *self.active);
        let space = &mut self.spaces[slot];
        space.flush_non_global(active);
        space.generation = generation;
    }

    fn invalidate_in(&mut self, slot: usize, linear: u64, which: Which) {
        let active = (slot == self.space).then_some(&mut *self.active);
        if self.spaces[slot].invalidate(active, linear, which) {
            let generation = self.next_generation();
            self.spaces[slot].generation = generation;
            if is_upper(linear) {
                self.upper_generation = generation;
            }
        }
    }

    /// INVLPG: forgets the page at `linear` in the current PCID, and in all if it is global. Every piece of a large page goes.
    pub fn invalidate_page(&mut self, linear: u64) {
        self.stats.invalidations += 1;
        let linear = self.context.effective(linear);
        for slot in 0..SPACES {
            let which = if slot == self.space { Which::All } else { Which::Global };
            self.invalidate_in(slot, linear, which);
        }
    }

    /// INVPCID types 0 (`linear` given) and 1: forgets one page or everything of a PCID, except global pages.
    pub fn invalidate_pcid(&mut self, pcid: u16, linear: Option<u64>) {
        let Some(slot) = self.spaces.iter().position(|space| space.pcid == Some(pcid)) else { return };
        match linear {
            Some(linear) => {
                self.stats.invalidations += 1;
                self.invalidate_in(slot, linear, Which::NonGlobal);
            }
            None => self.flush_space(slot),
        }
    }

    /// Makes all stores to the page of `gpa` take the slow path, where `Target::has_code` tells of the code. To be called
    /// after `GuestMemory::mark_code`.
    pub fn protect_code_page(&mut self, gpa: u64) {
        self.close_writes(|page| page == gpa & !0xfff);
    }

    /// The same for all pages whose addresses are in `pages`.
    pub fn protect_code_pages(&mut self, pages: &BTreeSet<u64>) {
        if !pages.is_empty() {
            self.close_writes(|page| pages.contains(&page));
        }
    }

    fn close_writes(&mut self, is_closed: impl Fn(u64) -> bool) {
        for slot in 0..SPACES {
            let active = (slot == self.space).then_some(&mut *self.active);
            self.spaces[slot].close_writes(active, &is_closed);
        }
    }

    /// Whether there are data breakpoints in the page of `linear`.
    pub fn is_watched(&self, linear: u64) -> bool {
        self.watched.contains(&(linear & !0xfff))
    }

    /// Makes all data accesses to these pages (any linear address in each) take the slow path: data breakpoints are there.
    pub fn set_watched_pages(&mut self, linear_pages: Vec<u64>) {
        self.watched = linear_pages.into_iter().map(|linear| linear & !0xfff).collect();
        self.flush_all();
    }
}

/// Whether an address is in the upper half of the address space, which kernels keep for themselves.
#[inline(always)]
fn is_upper(linear: u64) -> bool {
    linear >> 63 != 0
}

/// What `view` may do in a page without another walk.
fn rights_of(found: &Translation, context: &PagingContext, view: View) -> u64 {
    let right = |access, bit| if found.permits(context, access, view) { bit } else { 0 };
    let write = if found.dirty { right(Access::Write, Origin::WRITE) } else { 0 };
    right(Access::Read, Origin::READ) | right(Access::Fetch, Origin::FETCH) | write
}

#[inline(always)]
fn host_address(entry: &TlbEntry, linear: u64) -> *mut u8 {
    std::ptr::with_exposed_provenance_mut(linear.wrapping_add(entry.addend) as usize)
}
