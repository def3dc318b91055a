//! Code that other vCPUs change: written blocks are dropped, and pages that others may still write unnoticed are compared
//! with what was decoded (`rx86_softmmu::CodeWatcher`).

use super::Interpreter;
use super::tier::HotTier;
use crate::cpu::Cpu;

const PAGE_BYTES: usize = 4096;
/// The piece of a page that is taken as written when a byte of it differs.
const PIECE_BYTES: usize = 64;

/// A page that was marked as code while other vCPUs could store to it directly.
struct Unsettled {
    gpa: u64,
    /// `GuestMemory::code_closed_up_to` reaches it when they cannot any more.
    sequence: u64,
    /// What all blocks of the page were decoded from.
    bytes: Box<[u8; PAGE_BYTES]>,
}

/// Such pages; none most of the time.
#[derive(Default)]
pub(super) struct UnsettledPages(Vec<Unsettled>);

impl UnsettledPages {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn has(&self, gpa: u64) -> bool {
        self.0.iter().any(|page| page.gpa == gpa & !0xfff)
    }

    /// Whether pages are to be compared now: because a serializing instruction was executed, or because they have settled.
    #[inline]
    pub(super) fn is_due(&self, cpu: &Cpu) -> bool {
        !self.is_empty() && (cpu.serialized || self.has_settled(closed_up_to(cpu)))
    }

    fn has_settled(&self, closed: u64) -> bool {
        self.0.iter().any(|page| page.sequence <= closed)
    }

    /// Copies from `gpa` to the end of its page.
    pub(super) fn read(&self, gpa: u64, part: &mut [u8]) {
        if let Some(page) = self.0.iter().find(|page| page.gpa == gpa & !0xfff) {
            part.copy_from_slice(&page.bytes[gpa as usize & 0xfff..]);
        }
    }
}

fn closed_up_to(cpu: &Cpu) -> u64 {
    cpu.mmu.memory().code_closed_up_to(&cpu.code_watcher)
}

fn read_page(cpu: &Cpu, gpa: u64) -> Box<[u8; PAGE_BYTES]> {
    let mut bytes = Box::new([0; PAGE_BYTES]);
    // Only RAM is marked.
    let _ = cpu.mmu.memory().read(gpa, &mut *bytes);
    bytes
}

impl<T: HotTier> Interpreter<T> {
    /// Makes stores to the page of `gpa` tell of themselves: those of this vCPU, and as soon as may be those of others.
    pub(super) fn mark_code(&mut self, gpa: u64) {
        let cpu = &mut self.cpu;
        let sequence = cpu.mmu.memory().mark_code(&cpu.code_watcher, gpa);
        cpu.mmu.protect_code_page(gpa);
        if let Some(sequence) = sequence
            && !self.unsettled.has(gpa)
        {
            let gpa = gpa & !0xfff;
            self.unsettled.0.push(Unsettled { gpa, sequence, bytes: read_page(cpu, gpa) });
            cpu.code_unsettled = true;
        }
    }

    /// Learns what others have done to code, and drops what was decoded from bytes that anybody has written.
    pub(super) fn hear_of_code(&mut self) {
        let news = self.cpu.code_watcher.take();
        self.cpu.mmu.protect_code_pages(news.closed_pages());
        self.cpu.code_watcher.acknowledge(&news);
        for (gpa, bytes) in news.writes() {
            self.cpu.code_map.note_write(gpa, bytes);
        }
        for page in self.drop_written_code() {
            self.cpu.code_map.forget(page);
            self.cpu.mmu.memory().clear_code(&self.cpu.code_watcher, page << 12);
            self.unsettled.0.retain(|unsettled| unsettled.gpa >> 12 != page);
        }
        self.cpu.code_unsettled = !self.unsettled.is_empty();
    }

    /// Returns the pages that hold no code any more.
    fn drop_written_code(&mut self) -> Vec<u64> {
        let mut empty = Vec::new();
        for (gpa, bytes) in self.cpu.code_map.take_writes() {
            let dropped = self.blocks.invalidate(gpa, bytes) + self.tier.invalidate(gpa, bytes);
            self.cpu.stats.blocks_invalidated += dropped as u64;
            let page = gpa >> 12;
            let translated = self.tier.pieces_of_page(page);
            if !self.cpu.code_map.set_page(page, self.blocks.pieces_of_page(page).chain(translated)) {
                empty.push(page);
            }
        }
        empty
    }

    /// Compares all unsettled pages, and forgets those that have settled.
    #[cold]
    pub(super) fn compare_unsettled(&mut self) {
        self.cpu.serialized = false;
        // Before the comparison: what was stored unnoticed was stored before.
        let closed = closed_up_to(&self.cpu);
        let pages: Vec<u64> = self.unsettled.0.iter().map(|page| page.gpa).collect();
        for gpa in pages {
            self.compare_page(gpa);
        }
        self.unsettled.0.retain(|page| page.sequence > closed);
        self.cpu.code_unsettled = !self.unsettled.is_empty();
    }

    /// Drops what was decoded from bytes of an unsettled page that are not what they were.
    pub(super) fn compare_page(&mut self, gpa: u64) {
        let gpa = gpa & !0xfff;
        let now = read_page(&self.cpu, gpa);
        let Some(page) = self.unsettled.0.iter_mut().find(|page| page.gpa == gpa) else { return };
        if *page.bytes == *now {
            return;
        }
        let pieces = page.bytes.chunks(PIECE_BYTES).zip(now.chunks(PIECE_BYTES));
        for (number, _) in pieces.enumerate().filter(|(_, (then, now))| then != now) {
            self.cpu.code_map.note_write(gpa + (number * PIECE_BYTES) as u64, PIECE_BYTES as u64);
        }
        page.bytes = now;
        self.drop_written_code();
    }
}
