//! The software TLB's arrays for one view of one address space.
//!
//! `TlbEntry` is what the fast path compares; `Origin` holds the whole translation. An entry may have an origin but no
//! tags: a device's page, a store to a page with code or a watched page then take the slow path without a page walk.

use crate::access::Access;
use crate::evicted::Evicted;

/// Entries of a view, direct-mapped by linear address bits 22:12.
pub const SETS: usize = 2048;
const WORDS: usize = SETS / 64;

/// One entry of the fast path. Generated code may read it (`size_of` is 32; fields by `offset_of!`).
///
/// A tag matches an access of `bytes` when `(linear ^ tag) < 4097 - bytes`, which also fails for one that crosses a page.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TlbEntry {
    /// Host address of a byte = its linear address + addend, wrapping. First, as a load without a displacement takes a cycle
    /// less, and it is on the way to the data.
    pub addend: u64,
    /// The page's linear address if the view may read it, else `invalid_tag`.
    pub read: u64,
    /// The same for writes: also dirty, not ROM, no code in it.
    pub write: u64,
    /// The same for fetches.
    pub fetch: u64,
}

impl TlbEntry {
    fn invalid(set: usize) -> Self {
        let tag = invalid_tag(set);
        Self { addend: 0, read: tag, write: tag, fetch: tag }
    }
}

/// A tag that no linear address can match: all addresses that look into this set differ from it in bits 22:12.
#[inline]
pub(crate) fn invalid_tag(set: usize) -> u64 {
    ((!set & (SETS - 1)) as u64) << 12
}

/// The set where a linear address is looked up.
#[inline(always)]
pub fn set_of(linear: u64) -> usize {
    (linear >> 12) as usize & (SETS - 1)
}

/// The translation behind an entry.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Origin {
    /// The page's linear address; bits 11:0 are `RIGHT_*`, none in an empty entry.
    linear: u64,
    /// The page's guest physical address; bits 11:0 are log2 of the size of the guest's page.
    gpa: u64,
}

impl Origin {
    pub(crate) const READ: u64 = 1 << 0;
    /// Permitted and dirty.
    pub(crate) const WRITE: u64 = 1 << 1;
    pub(crate) const FETCH: u64 = 1 << 2;

    pub(crate) fn new(linear: u64, gpa: u64, page_shift: u32, rights: u64) -> Self {
        Self { linear: (linear & !0xfff) | rights, gpa: (gpa & !0xfff) | u64::from(page_shift) }
    }

    /// What `from_words` makes an origin of again.
    pub(crate) fn words(self) -> (u64, u64) {
        (self.linear, self.gpa)
    }

    pub(crate) fn from_words(linear: u64, gpa: u64) -> Self {
        Self { linear, gpa }
    }

    fn right(access: Access) -> u64 {
        match access {
            Access::Read => Self::READ,
            Access::Write => Self::WRITE,
            Access::Fetch => Self::FETCH,
        }
    }

    pub(crate) fn page(&self) -> u64 {
        self.linear & !0xfff
    }

    pub(crate) fn gpa_page(&self) -> u64 {
        self.gpa & !0xfff
    }

    pub(crate) fn permits(&self, access: Access) -> bool {
        self.linear & Self::right(access) != 0
    }

    fn is_large(&self) -> bool {
        self.gpa & 0xfff > 12
    }

    /// Whether the guest's page, of whatever size, contains `linear`.
    fn covers(&self, linear: u64) -> bool {
        (self.linear ^ linear) >> (self.gpa & 0x3f) == 0
    }
}

/// A set of TLB entries, one bit each.
#[derive(Clone, Copy, Debug)]
struct Sets([u64; WORDS]);

impl Sets {
    const EMPTY: Self = Self([0; WORDS]);

    fn put(&mut self, set: usize, value: bool) {
        let bit = 1 << (set & 63);
        let word = &mut self.0[set >> 6 & (WORDS - 1)];
        *word = if value { *word | bit } else { *word & !bit };
    }

    fn has(&self, set: usize) -> bool {
        self.0[set >> 6 & (WORDS - 1)] >> (set & 63) & 1 != 0
    }

    fn without(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] & !other.0[word]))
    }

    fn iter(self) -> impl Iterator<Item = usize> {
        self.0.into_iter().enumerate().flat_map(|(index, mut word)| {
            std::iter::from_fn(move || {
                let bit = word.trailing_zeros() as usize;
                word &= word.wrapping_sub(1);
                (bit < 64).then_some(index * 64 + bit)
            })
        })
    }
}

/// The gigabytes in which large pages are cached, hashed to a bit each; never forgets one, may have too many.
#[derive(Clone, Copy, Debug, Default)]
struct Gigabytes(u64);

impl Gigabytes {
    fn bit(linear: u64) -> u64 {
        1 << ((linear >> 30).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58)
    }
}

/// The TLB of one view of one address space.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct ViewTlb {
    /// First, so that a pointer to the view is a pointer to its entries.
    pub(crate) entries: [TlbEntry; SETS],
    origins: [Origin; SETS],
    used: Sets,
    /// Of `used`, those of global pages.
    global: Sets,
    /// Of `used`, those of pages larger than 4 KiB.
    large: Sets,
    /// Of `used`, those with a write tag.
    writable: Sets,
    /// Where the large pages are: of non-global and of global ones.
    large_local: Gigabytes,
    large_global: Gigabytes,
    /// What was replaced.
    evicted: Evicted,
}

impl ViewTlb {
    /// Not inlined: it is built on the stack, and to make room for that there costs more than its callers.
    #[cold]
    #[inline(never)]
    pub(crate) fn new() -> Box<Self> {
        Box::new(Self {
            entries: std::array::from_fn(TlbEntry::invalid),
            origins: [Origin::default(); SETS],
            used: Sets::EMPTY,
            global: Sets::EMPTY,
            large: Sets::EMPTY,
            writable: Sets::EMPTY,
            large_local: Gigabytes::default(),
            large_global: Gigabytes::default(),
            evicted: Evicted::new(),
        })
    }

    /// The cached translation of `linear` if it permits `access`.
    pub(crate) fn lookup(&self, linear: u64, access: Access) -> Option<Origin> {
        let origin = self.origins[set_of(linear)];
        ((origin.linear ^ linear) >> 12 == 0 && origin.permits(access)).then_some(origin)
    }

    /// The translation of `linear` if it permits `access` and had to make room; it is back in its place then.
    pub(crate) fn recall(&mut self, linear: u64, access: Access) -> Option<Origin> {
        let (origin, global) = self.evicted.take(linear)?;
        if !origin.permits(access) {
            return None;
        }
        self.insert(origin, global);
        Some(origin)
    }

    /// Caches a translation, without tags yet.
    pub(crate) fn insert(&mut self, origin: Origin, global: bool) {
        let set = set_of(origin.page());
        let replaced = self.origins[set];
        if self.used.has(set) && replaced.page() != origin.page() {
            self.evicted.keep(replaced, self.global.has(set));
        }
        self.remove(set);
        self.origins[set] = origin;
        self.used.put(set, true);
        self.global.put(set, global);
        self.large.put(set, origin.is_large());
        if origin.is_large() {
            let filter = if global { &mut self.large_global } else { &mut self.large_local };
            filter.0 |= Gigabytes::bit(origin.page());
        }
    }

    /// Opens the fast path of a cached page to host memory: for reads, writes, fetches as given and as its rights permit.
    pub(crate) fn open(&mut self, origin: Origin, host: u64, read: bool, write: bool, fetch: bool) {
        let page = origin.page();
        let set = set_of(page);
        let closed = invalid_tag(set);
        let tag = |open: bool, access| if open && origin.permits(access) { page } else { closed };
        let entry = TlbEntry {
            addend: host.wrapping_sub(page),
            read: tag(read, Access::Read),
            write: tag(write, Access::Write),
            fetch: tag(fetch, Access::Fetch),
        };
        self.writable.put(set, entry.write != closed);
        self.entries[set] = entry;
    }

    /// Whether the page of `linear` is cached as global.
    pub(crate) fn is_global(&self, linear: u64) -> bool {
        self.global.has(set_of(linear))
    }

    /// Whether the fast path of fetches is open for the page of `linear`.
    pub(crate) fn fetches(&self, linear: u64) -> bool {
        self.entries[set_of(linear)].fetch == linear & !0xfff
    }

    /// The physical page behind the entry of `linear`, which the caller has found to match.
    #[inline(always)]
    pub(crate) fn gpa_page(&self, linear: u64) -> u64 {
        self.origins[set_of(linear)].gpa_page()
    }

    fn remove(&mut self, set: usize) {
        let set = set & (SETS - 1);
        self.entries[set] = TlbEntry::invalid(set);
        self.origins[set] = Origin::default();
        for sets in [&mut self.used, &mut self.global, &mut self.large, &mut self.writable] {
            sets.put(set, false);
        }
    }

    fn forget(&mut self, gone: Sets) {
        for set in gone.iter() {
            self.entries[set] = TlbEntry::invalid(set);
            self.origins[set] = Origin::default();
        }
        for sets in [&mut self.used, &mut self.global, &mut self.large, &mut self.writable] {
            *sets = sets.without(&gone);
        }
    }

    pub(crate) fn flush_all(&mut self) {
        self.forget(self.used);
        self.evicted.flush();
        self.large_local = Gigabytes::default();
        self.large_global = Gigabytes::default();
    }

    pub(crate) fn flush_non_global(&mut self) {
        self.forget(self.used.without(&self.global));
        self.evicted.flush();
        self.large_local = Gigabytes::default();
    }

    /// Forgets every piece of the guest's page at `linear`. With `globals_only`, unless it is not global. True when there
    /// may have been pieces of a large page.
    pub(crate) fn invalidate(&mut self, linear: u64, which: Which) -> bool {
        let set = set_of(linear);
        if (self.origins[set].linear ^ linear) >> 12 == 0 && which.takes(self.global.has(set)) {
            self.remove(set);
        }
        self.evicted.take(linear);
        let mut filter = 0;
        if which.takes(false) {
            filter |= self.large_local.0;
        }
        if which.takes(true) {
            filter |= self.large_global.0;
        }
        if filter & Gigabytes::bit(linear) == 0 {
            return false;
        }
        self.evicted.flush();
        for set in self.large.iter() {
            if self.origins[set].covers(linear) && which.takes(self.global.has(set)) {
                self.remove(set);
            }
        }
        true
    }

    /// Closes the fast path of writes to the physical pages that `is_closed` names.
    pub(crate) fn close_writes(&mut self, is_closed: impl Fn(u64) -> bool) {
        for set in self.writable.iter() {
            if is_closed(self.origins[set].gpa_page()) {
                self.entries[set].write = invalid_tag(set);
                self.writable.put(set, false);
            }
        }
    }
}

/// Which cached pages an invalidation means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Which {
    All,
    Global,
    NonGlobal,
}

impl Which {
    pub(crate) fn takes(self, global: bool) -> bool {
        match self {
            Self::All => true,
            Self::Global => global,
            Self::NonGlobal => !global,
        }
    }
}
