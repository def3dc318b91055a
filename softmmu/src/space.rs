//! The TLB of one address space (PCID): its views, and which of its fetch translations somebody may remember.

use crate::access::View;
use crate::tlb::{ViewTlb, Which};

const FILTER_WORDS: usize = 32;

/// The pages that were translated for fetches, hashed to a bit each; never forgets one, may have too many.
#[derive(Clone, Copy, Debug, Default)]
struct FetchedPages([u64; FILTER_WORDS]);

impl FetchedPages {
    fn place(linear: u64) -> (usize, u64) {
        let page = linear >> 12;
        let hash = (page ^ page >> 11) as usize;
        (hash >> 6 & (FILTER_WORDS - 1), 1 << (hash & 63))
    }

    fn add(&mut self, linear: u64) {
        let (word, bit) = Self::place(linear);
        self.0[word] |= bit;
    }

    fn has(&self, linear: u64) -> bool {
        let (word, bit) = Self::place(linear);
        self.0[word] & bit != 0
    }
}

/// What is cached for one PCID. The arrays of a view exist from its first use; those of the view in use are in the `Mmu`,
/// which passes them as `active` where it calls the space in use.
#[derive(Debug, Default)]
pub(crate) struct AddressSpace {
    /// None while the slot is unused.
    pub(crate) pcid: Option<u16>,
    /// Unique over all spaces and times; a new one whenever a remembered fetch translation may be wrong.
    pub(crate) generation: u64,
    /// When a CR3 load last chose this space.
    pub(crate) last_used: u64,
    pub(crate) views: [Option<Box<ViewTlb>>; View::COUNT],
    fetched_local: FetchedPages,
    fetched_global: FetchedPages,
}

impl AddressSpace {
    /// Remembers that a fetch translation of `linear` was given out.
    pub(crate) fn note_fetch(&mut self, linear: u64, global: bool) {
        if global { self.fetched_global.add(linear) } else { self.fetched_local.add(linear) }
    }

    fn each_view<'a>(&'a mut self, active: Option<&'a mut ViewTlb>) -> impl Iterator<Item = &'a mut ViewTlb> {
        self.views.iter_mut().flatten().map(|view| &mut **view).chain(active)
    }

    /// Forgets everything.
    pub(crate) fn flush_all(&mut self, active: Option<&mut ViewTlb>) {
        self.each_view(active).for_each(ViewTlb::flush_all);
        self.fetched_local = FetchedPages::default();
        self.fetched_global = FetchedPages::default();
    }

    /// Forgets all that is not global.
    pub(crate) fn flush_non_global(&mut self, active: Option<&mut ViewTlb>) {
        self.each_view(active).for_each(ViewTlb::flush_non_global);
        self.fetched_local = FetchedPages::default();
    }

    /// Forgets the guest's page at `linear`. True when a fetch translation of it may be remembered by somebody.
    pub(crate) fn invalidate(&mut self, active: Option<&mut ViewTlb>, linear: u64, which: Which) -> bool {
        let mut fetched = (which.takes(false) && self.fetched_local.has(linear))
            || (which.takes(true) && self.fetched_global.has(linear));
        for view in self.each_view(active) {
            // Of a large page any part may have been fetched from.
            fetched |= view.invalidate(linear, which);
        }
        fetched
    }

    /// Closes the fast path of writes to the physical pages that `is_closed` names.
    pub(crate) fn close_writes(&mut self, active: Option<&mut ViewTlb>, is_closed: impl Fn(u64) -> bool) {
        self.each_view(active).for_each(|view| view.close_writes(&is_closed));
    }
}
