//! Which RAM pages hold code that vCPUs have decoded, and how each learns that such code was changed by somebody else.
//!
//! A page has one bit for each vCPU that has code of it. A store to a page with a bit set takes the slow path, and is
//! posted to the vCPUs whose bits those are. While a page gets its first bit, other vCPUs may still hold TLB entries
//! that store to it directly: they are asked to close them, which they do at their next block border. Until all have,
//! the page is *unsettled*, and its holder compares the bytes it has decoded with memory wherever the architecture makes
//! modified code visible (SDM volume 3, 9.1.3). Nobody waits. A vCPU that executes nothing has nothing to close.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use crate::attention::Attention;
use crate::sync::{
    Arc, AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering, RwLock, RwLockReadGuard, fence, thread,
};

/// As many vCPUs have bits of their own; more share them.
const HOLDER_BITS: u32 = 64;

/// One vCPU as the others know it.
#[derive(Debug)]
struct Watcher {
    number: u32,
    attention: Attention,
    inbox: Mutex<CodeNews>,
    /// The sequence number of the last request to close a page.
    posted: AtomicU64,
    /// The last such number whose page is closed.
    acknowledged: AtomicU64,
    /// Guest instructions may be under way.
    running: AtomicBool,
}

/// What others have done to pages with code.
#[derive(Debug, Default)]
pub struct CodeNews {
    /// First and one-past-last written address, by page address: at most one entry a page, whatever the guest does.
    written: BTreeMap<u64, (u64, u64)>,
    /// Addresses of the pages to close.
    closed: BTreeSet<u64>,
    /// What to acknowledge.
    posted: u64,
}

impl CodeNews {
    /// The ranges `(gpa, bytes)` that were written: at most one a page, covering all writes to it.
    pub fn writes(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.written.values().map(|&(start, end)| (start, end - start))
    }

    /// The addresses of pages that hold code now: write translations of them are to be closed.
    pub fn closed_pages(&self) -> &BTreeSet<u64> {
        &self.closed
    }
}

/// A vCPU's part in the tracking of code; the vCPU is known to others as long as this lives.
#[derive(Clone, Debug)]
pub struct CodeWatcher(Arc<Watcher>);

impl CodeWatcher {
    fn bit(&self) -> u64 {
        self.0.bit()
    }

    /// Takes what has come since the last call. When its pages are closed, `acknowledge` is due.
    pub fn take(&self) -> CodeNews {
        // Before the inbox is opened: what was posted up to here is in it.
        let posted = self.0.posted.load(Ordering::SeqCst);
        CodeNews { posted, ..std::mem::take(&mut *lock(&self.0.inbox)) }
    }

    /// Tells that the pages of `news` are closed.
    pub fn acknowledge(&self, news: &CodeNews) {
        self.0.acknowledged.store(news.posted, Ordering::SeqCst);
    }

    /// Tells that no guest instruction is under way until `GuestMemory::enter_guest`.
    pub fn leave_guest(&self) {
        self.0.running.store(false, Ordering::SeqCst);
    }
}

impl Watcher {
    fn bit(&self) -> u64 {
        1 << (self.number % HOLDER_BITS)
    }

    /// The number up to which this vCPU has closed what it was asked to.
    fn closed_up_to(&self) -> u64 {
        if !self.running.load(Ordering::SeqCst) {
            return u64::MAX;
        }
        let acknowledged = self.acknowledged.load(Ordering::SeqCst);
        if acknowledged >= self.posted.load(Ordering::SeqCst) { u64::MAX } else { acknowledged }
    }

    fn post_write(&self, gpa: u64, len: u64) {
        let mut inbox = lock(&self.inbox);
        let range = inbox.written.entry(gpa & !0xfff).or_insert((gpa, gpa + len));
        *range = (range.0.min(gpa), range.1.max(gpa + len));
        drop(inbox);
        self.attention.raise(Attention::CODE_WRITTEN);
    }
}

/// What is behind these locks is whole at any time, whatever their holder was doing when it panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The holders of every RAM page's code.
#[derive(Debug)]
pub(crate) struct CodeTracking {
    holders: Box<[AtomicU64]>,
    watchers: RwLock<Vec<Arc<Watcher>>>,
    /// Held while a page gets a holder; counts the requests to close pages.
    sequence: Mutex<u64>,
    /// Held by the vCPU that runs alone.
    alone: Mutex<()>,
    /// Somebody wants to run alone.
    stopping: AtomicBool,
}

impl CodeTracking {
    pub(crate) fn new(pages: usize) -> Self {
        Self {
            holders: (0..pages).map(|_| AtomicU64::new(0)).collect(),
            watchers: RwLock::default(),
            sequence: Mutex::default(),
            alone: Mutex::default(),
            stopping: AtomicBool::new(false),
        }
    }

    fn watchers(&self) -> RwLockReadGuard<'_, Vec<Arc<Watcher>>> {
        self.watchers.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn watch(&self, attention: Attention) -> CodeWatcher {
        let mut watchers = self.watchers.write().unwrap_or_else(PoisonError::into_inner);
        // Those that only this list still knows are gone.
        watchers.retain(|watcher| Arc::strong_count(watcher) > 1);
        let free = (0..).find(|number| watchers.iter().all(|watcher| watcher.number != *number));
        let watcher = Arc::new(Watcher {
            number: free.unwrap_or_default(),
            attention,
            inbox: Mutex::default(),
            posted: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            running: AtomicBool::new(false),
        });
        watchers.push(watcher.clone());
        CodeWatcher(watcher)
    }

    /// Notes that `own` has code of `page`, and asks the others to close it. Returns the number that `closed_up_to` must
    /// reach until the page is settled; none if it is.
    pub(crate) fn mark(&self, own: &CodeWatcher, page: usize, gpa_page: u64) -> Option<u64> {
        let holders = self.holders.get(page)?;
        let mut sequence = lock(&self.sequence);
        let before = holders.fetch_or(own.bit(), Ordering::SeqCst);
        // The code's bytes are read after this, `note_write` reads the holders after writing bytes: with a fence on both
        // sides at least one of them sees the other.
        fence(Ordering::SeqCst);
        let watchers = self.watchers();
        if watchers.len() == 1 {
            return None;
        }
        if before == 0 {
            *sequence += 1;
            for other in watchers.iter().filter(|other| !Arc::ptr_eq(other, &own.0)) {
                lock(&other.inbox).closed.insert(gpa_page);
                other.posted.store(*sequence, Ordering::SeqCst);
                other.attention.raise(Attention::CODE_WRITTEN);
            }
        }
        let number = *sequence;
        drop((sequence, watchers));
        (self.closed_up_to(own) < number).then_some(number)
    }

    /// The number of the last request to close a page that all vCPUs but `own` have fulfilled.
    pub(crate) fn closed_up_to(&self, own: &CodeWatcher) -> u64 {
        let watchers = self.watchers();
        let others = watchers.iter().filter(|other| !Arc::ptr_eq(other, &own.0));
        others.map(|other| other.closed_up_to()).min().unwrap_or(u64::MAX)
    }

    pub(crate) fn clear(&self, own: &CodeWatcher, page: usize) {
        if let Some(holders) = self.holders.get(page) {
            holders.fetch_and(!own.bit(), Ordering::SeqCst);
        }
    }

    pub(crate) fn has_code(&self, page: usize) -> bool {
        self.holders.get(page).is_some_and(|holders| holders.load(Ordering::Relaxed) != 0)
    }

    /// Whether there is only one vCPU.
    pub(crate) fn has_one_watcher(&self) -> bool {
        self.watchers().len() == 1
    }

    /// Called after `len` bytes at `gpa`, all in RAM page `page`, were written: by vCPU `own`, which knows, or by DMA.
    pub(crate) fn note_write(&self, own: Option<&CodeWatcher>, page: usize, gpa: u64, len: u64) {
        fence(Ordering::SeqCst);
        let holders = self.holders.get(page).map_or(0, |holders| holders.load(Ordering::SeqCst));
        if holders == 0 || own.is_some_and(|own| holders == own.bit() && own.0.number < HOLDER_BITS) {
            return;
        }
        for watcher in self.watchers().iter().filter(|watcher| watcher.bit() & holders != 0) {
            if own.is_none_or(|own| !Arc::ptr_eq(watcher, &own.0)) {
                watcher.post_write(gpa, len);
            }
        }
    }

    pub(crate) fn enter_guest(&self, own: &CodeWatcher) {
        loop {
            own.0.running.store(true, Ordering::Release);
            // `alone` writes `stopping` and then reads `running`, `mark` posts and then reads it: with a fence on both sides
            // one of the two sees the other.
            fence(Ordering::SeqCst);
            if !self.stopping.load(Ordering::Acquire) {
                return;
            }
            own.0.running.store(false, Ordering::SeqCst);
            drop(lock(&self.alone));
        }
    }

    /// Does `work` while no other vCPU executes anything.
    pub(crate) fn alone<R>(&self, own: &CodeWatcher, work: impl FnOnce() -> R) -> R {
        // Somebody else's turn may come first.
        own.leave_guest();
        let turn = lock(&self.alone);
        self.stopping.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        let watchers = self.watchers();
        for other in watchers.iter().filter(|other| !Arc::ptr_eq(other, &own.0)) {
            other.attention.raise(Attention::KICK);
            while other.running.load(Ordering::SeqCst) {
                thread::yield_now();
            }
        }
        drop(watchers);
        let result = work();
        own.0.running.store(true, Ordering::SeqCst);
        self.stopping.store(false, Ordering::SeqCst);
        drop(turn);
        result
    }
}
