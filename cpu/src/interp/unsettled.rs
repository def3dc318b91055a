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
            part.copy_from_slice(&page.bytes[gpa as usize & 0xfff..][..part.len()]);
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
            if !self.cpu.code_map.forget(page) {
                continue;
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Exit, X86Ops};
    use crate::bare_board::BareBoard;
    use crate::features::CpuModel;
    use crate::interp::tier::NoTier;
    use crate::state::Activity;
    use rx86_softmmu::{Attention, GuestMemory};

    const CODE: u64 = 0x1000;

    /// Executes the code from its start; returns BL.
    fn result(engine: &mut Interpreter<NoTier>) -> u8 {
        engine.cpu().state.activity = Activity::Active;
        engine.cpu().state.set_rip(CODE);
        assert_eq!(engine.run(100), Exit::Halt);
        engine.state().regs[3] as u8
    }

    #[test]
    fn what_another_vcpu_stored_unnoticed_is_seen_behind_a_serializing_instruction() {
        let memory = GuestMemory::new(1 << 20).expect("1 MiB");
        let cpu = || {
            let board = Box::new(BareBoard { cpus: 2, ..BareBoard::default() });
            Cpu::new(memory.clone(), board, CpuModel::max(), Attention::default())
        };
        // MOV BL, 1; HLT.
        memory.write(CODE, b"\xb3\x01\xf4").expect("RAM");
        let mut other = cpu();
        memory.enter_guest(&other.code_watcher);
        other.write_linear(CODE + 64, [0u8]).expect("RAM");
        let mut engine = Interpreter::new(cpu());
        engine.cpu().state.segments[1].base = 0;
        assert_eq!(result(&mut engine), 1);
        assert!(!engine.unsettled.is_empty(), "the other one can still store to it");

        other.write_linear(CODE + 1, [2u8]).expect("RAM");
        assert!(engine.cpu().code_watcher.take().writes().next().is_none(), "unnoticed");
        engine.cpu().serialize();
        assert_eq!(result(&mut engine), 2);

        other.write_linear(CODE + 1, [3u8]).expect("RAM");
        let news = other.code_watcher.take();
        other.mmu.protect_code_pages(news.closed_pages());
        other.code_watcher.acknowledge(&news);
        assert_eq!(result(&mut engine), 3, "all have closed it: looked at once more");
        assert!(engine.unsettled.is_empty());

        other.write_linear(CODE + 1, [4u8]).expect("RAM");
        assert_eq!(result(&mut engine), 4, "noticed");
    }
}
