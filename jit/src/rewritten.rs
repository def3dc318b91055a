//! Code that is rewritten: how often that happens, and the translations that wait for it to be again what it was.

use crate::region::Region;
use rustc_hash::FxHashMap;
use rx86_cpu::cpu::Cpu;
use rx86_cpu::interp::tier::TranslationId;
use rx86_cpu::mode::ModeKey;

/// Translations that wait at one address.
const MOST_PARKED: usize = 4;
/// Blocks whose count is kept; beyond, all begin anew.
const MOST_COUNTED: usize = 1 << 16;
/// A block that was rewritten any number of times is worth a good translation after the threshold doubled so often.
const MOST_DOUBLINGS: u8 = 16;

/// What is known of rewritten code.
#[derive(Debug, Default)]
pub(crate) struct Rewritten {
    /// How often the block that begins at a physical address was written while a translation was made from it.
    times: FxHashMap<u64, u8>,
    /// Translations that were dropped for that, the latest last.
    parked: FxHashMap<(u64, ModeKey), Vec<TranslationId>>,
}

impl Rewritten {
    /// The block at `gpa`, of which there is a translation, has been written.
    pub(crate) fn note(&mut self, gpa: u64) {
        if self.times.len() >= MOST_COUNTED {
            self.times.clear();
        }
        let times = self.times.entry(gpa).or_insert(0);
        *times = times.saturating_add(1);
    }

    /// Whether constants of the block at `gpa` are to be read anew at each execution.
    pub(crate) fn is_rewritten(&self, gpa: u64) -> bool {
        self.times.contains_key(&gpa)
    }

    /// Whether the block at `gpa`, executed `heat` times since it was written last, will stay as it is for long enough. The
    /// `threshold` holds for blocks that were never written.
    pub(crate) fn is_settled(&self, gpa: u64, heat: u32, threshold: u32) -> bool {
        match self.times.get(&gpa) {
            Some(&times) => heat >> times.min(MOST_DOUBLINGS) >= threshold,
            None => true,
        }
    }

    /// A translation waits; the result is one that is no longer worth it.
    pub(crate) fn park(&mut self, gpa: u64, mode: ModeKey, id: TranslationId) -> Option<TranslationId> {
        let waiting = self.parked.entry((gpa, mode)).or_default();
        waiting.push(id);
        (waiting.len() > MOST_PARKED).then(|| waiting.remove(0))
    }

    /// Those that wait at an address, the latest last.
    pub(crate) fn parked(&self, gpa: u64, mode: ModeKey) -> &[TranslationId] {
        self.parked.get(&(gpa, mode)).map_or(&[], Vec::as_slice)
    }

    /// A translation does not wait any more.
    pub(crate) fn unpark(&mut self, gpa: u64, mode: ModeKey, id: TranslationId) {
        if let Some(waiting) = self.parked.get_mut(&(gpa, mode)) {
            waiting.retain(|&other| other != id);
            if waiting.is_empty() {
                self.parked.remove(&(gpa, mode));
            }
        }
    }
}

/// A constant that a translation reads anew at each execution.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadAnew {
    /// The physical address of its node.
    pub(crate) node: u64,
    /// Its own.
    pub(crate) gpa: u64,
    pub(crate) bytes: u64,
}

/// The code that a translation was made from.
#[derive(Debug)]
pub(crate) struct Source {
    /// The pieces of physical memory (address, bytes), each within a page. What is read anew is in none.
    pub(crate) pieces: Vec<(u64, u64)>,
    /// What they held, one after the other; None if that is not kept.
    bytes: Option<Box<[u8]>>,
}

impl Source {
    /// The source of a region of which nothing is kept but where it is.
    pub(crate) fn places_of(region: &Region) -> Self {
        Self { pieces: region.pieces.clone(), bytes: None }
    }

    /// The source of a region without what is read anew, in ascending order.
    pub(crate) fn of(region: &Region, read_anew: &[ReadAnew]) -> Self {
        let length: u64 = region.pieces.iter().map(|&(_, length)| length).sum();
        let mut pieces = Vec::with_capacity(region.pieces.len() + read_anew.len());
        let mut bytes = Vec::with_capacity(length as usize);
        let mut is_whole = true;
        for &(gpa, length) in &region.pieces {
            let node = region.nodes.iter().find(|node| node.gpa == gpa && node.bytes.len() as u64 == length);
            is_whole &= node.is_some();
            let mut from = gpa;
            let holes = read_anew.iter().filter(|hole| hole.node == gpa).map(|hole| (hole.gpa, hole.bytes));
            for (hole, hole_bytes) in holes.chain([(gpa + length, 0)]) {
                if from < hole {
                    pieces.push((from, hole - from));
                    let part = (from - gpa) as usize..(hole - gpa) as usize;
                    bytes.extend(node.and_then(|node| node.bytes.get(part)).unwrap_or_default());
                }
                from = hole + hole_bytes;
            }
        }
        Self { pieces, bytes: is_whole.then(|| bytes.into()) }
    }

    /// Whether `is_unchanged` can ever tell that it is.
    pub(crate) fn is_kept(&self) -> bool {
        self.bytes.is_some()
    }

    /// Whether memory holds what it held, in pages where stores are noticed.
    pub(crate) fn is_unchanged(&self, cpu: &Cpu) -> bool {
        let Some(mut rest) = self.bytes.as_deref() else { return false };
        let mut now = Vec::new();
        self.pieces.iter().all(|&(gpa, length)| {
            let (then, after) = rest.split_at(rest.len().min(length as usize));
            rest = after;
            now.resize(then.len(), 0);
            cpu.code_map.is_open(gpa) && cpu.mmu.memory().read(gpa, &mut now).is_ok() && now == then
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_anew_is_in_no_piece() {
        let mut region = Region::of_bytes(&[0xb8, 1, 2, 3, 4, 0x05, 5, 6, 7, 8, 0xc3]);
        region.nodes[0].gpa = 0x1000;
        region.pieces = vec![(0x1000, 11)];
        let whole = Source::of(&region, &[]);
        assert_eq!(whole.pieces, [(0x1000, 11)]);
        assert_eq!(whole.bytes.as_deref(), Some(&region.nodes[0].bytes[..]));
        let hole = |gpa| ReadAnew { node: 0x1000, gpa, bytes: 4 };
        let cut = Source::of(&region, &[hole(0x1001), hole(0x1006)]);
        assert_eq!(cut.pieces, [(0x1000, 1), (0x1005, 1), (0x100a, 1)]);
        assert_eq!(cut.bytes.as_deref(), Some(&[0xb8, 0x05, 0xc3][..]));
        // Another block begins within this one's constant: there it is an opcode.
        region.pieces.push((0x1004, 7));
        let other = Source::of(&region, &[hole(0x1001)]);
        assert_eq!(other.pieces, [(0x1000, 1), (0x1005, 6), (0x1004, 7)]);
        assert!(!other.is_kept());
    }

    #[test]
    fn code_that_is_rewritten_must_stay_ever_longer() {
        let mut rewritten = Rewritten::default();
        assert!(!rewritten.is_rewritten(0x1000) && rewritten.is_settled(0x1000, 0, 100));
        rewritten.note(0x1000);
        assert!(rewritten.is_rewritten(0x1000) && !rewritten.is_settled(0x1000, 199, 100));
        assert!(rewritten.is_settled(0x1000, 200, 100));
        rewritten.note(0x1000);
        assert!(!rewritten.is_settled(0x1000, 399, 100) && rewritten.is_settled(0x1000, 400, 100));
        assert!(!rewritten.is_rewritten(0x1001));
    }

    #[test]
    fn the_latest_translations_wait() {
        let (mut rewritten, mode) = (Rewritten::default(), ModeKey::default());
        let id = |number| TranslationId::new(number).unwrap();
        for number in 1..=4 {
            assert_eq!(rewritten.park(0x1000, mode, id(number)), None);
        }
        assert_eq!(rewritten.park(0x1000, mode, id(5)), Some(id(1)));
        rewritten.unpark(0x1000, mode, id(3));
        assert_eq!(rewritten.parked(0x1000, mode), [id(2), id(4), id(5)]);
        assert!(rewritten.parked(0x1001, mode).is_empty());
    }
}
