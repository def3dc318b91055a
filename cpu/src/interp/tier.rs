//! `HotTier`: what takes blocks over from the interpreter when they have been executed often.

use crate::backend::TierStats;
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::mode::ModeKey;
use crate::op::Op;

/// The number of a translation that a tier has made; never reused.
pub type TranslationId = std::num::NonZeroU32;

/// How the execution of a translation ended. The `Cpu` holds the whole state then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TierExit {
    /// Any engine goes on at RIP.
    Next,
    /// The interpreter must execute at least the instruction at RIP: it may fault, or has no translation.
    Interpret,
    /// The same, and the block at RIP should be asked about: it has been executed often.
    Hot,
    /// The instruction at RIP raised this.
    Exception(Exception),
    /// The translation is no longer valid, and nothing was executed.
    Gone,
}

/// A decoded block, as a tier sees it.
#[derive(Clone, Debug)]
pub struct HotBlock {
    /// The physical address of its first byte.
    pub gpa: u64,
    /// The physical page in which its last instruction ends, if that is not the page it begins in.
    pub tail_page: Option<u64>,
    /// The code.
    pub bytes: Vec<u8>,
    /// How many instructions that is.
    pub instructions: usize,
    /// The last one.
    pub last: Op,
    /// How often it has been executed, as far as counted.
    pub heat: u32,
}

/// What a tier may look at when it chooses what to translate.
pub trait CodeView {
    /// The decoded block at a linear address in the current mapping and mode.
    fn block(&mut self, linear: u64) -> Option<HotBlock>;
    /// Its physical address, and how often it has been executed, as far as counted.
    fn heat(&mut self, linear: u64) -> Option<(u64, u32)> {
        self.block(linear).map(|block| (block.gpa, block.heat))
    }
    /// Where the indirect jump or call at the end of the block at a linear address has led, as far as somebody remembers.
    fn targets(&mut self, _linear: u64) -> Vec<u64> {
        Vec::new()
    }
    /// The host address where the byte at physical address `gpa` is as long as the guest has memory; none if that is not RAM.
    fn host_address(&mut self, _gpa: u64) -> Option<u64> {
        None
    }
}

/// A faster executor for blocks that are executed often.
pub trait HotTier: Send {
    /// The engine's name as `--engine` takes it.
    const NAME: &'static str;
    /// Whether there is a tier at all; without, nothing is counted.
    const ACTIVE: bool;

    /// How often the interpreter executes a block before it asks for a translation.
    fn threshold(&self) -> u32;
    /// Asks for a translation of the code at `linear`, physical address `gpa`, in `mode`. It may come at once or later.
    fn translate(&mut self, linear: u64, gpa: u64, mode: ModeKey, code: &mut dyn CodeView);
    /// Takes the translations that have been finished since the last call, with the physical address they begin at.
    fn finished(&mut self) -> Vec<(u64, ModeKey, TranslationId)>;
    /// The valid translation that begins at a physical address, for a block that was decoded again.
    fn find(&self, gpa: u64, mode: ModeKey) -> Option<TranslationId>;
    /// Makes a translation valid again that was dropped because its bytes were written, if they are what they were. To be
    /// called while stores to the page of `gpa` are noticed.
    fn revive(&mut self, _cpu: &mut Cpu, _gpa: u64, _mode: ModeKey) -> Option<TranslationId> {
        None
    }
    /// Executes a translation, of which RIP is the first instruction, and what follows it, for about `budget` instructions.
    /// Unless `chains`, it returns wherever a block was ended (`Cpu::end_block`), else only if `Cpu::is_undisturbed` denies.
    fn run(&mut self, cpu: &mut Cpu, translation: TranslationId, budget: u64, chains: bool) -> TierExit;
    /// The most instructions by which the next `run` may exceed its budget.
    fn overrun(&self) -> u64;
    /// Drops what was translated from `bytes` bytes at `gpa`, within one page. Returns how many translations went.
    fn invalidate(&mut self, gpa: u64, bytes: u64) -> usize;
    /// The pieces of memory in a physical page that translations were made from.
    fn pieces_of_page(&self, page: u64) -> Vec<(u64, u64)>;
    /// The counters.
    fn stats(&self) -> TierStats;
}

/// No tier: the interpreter executes everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTier;

impl HotTier for NoTier {
    const NAME: &'static str = "interp";
    const ACTIVE: bool = false;

    fn threshold(&self) -> u32 {
        u32::MAX
    }
    fn translate(&mut self, _linear: u64, _gpa: u64, _mode: ModeKey, _code: &mut dyn CodeView) {}
    fn finished(&mut self) -> Vec<(u64, ModeKey, TranslationId)> {
        Vec::new()
    }
    fn find(&self, _gpa: u64, _mode: ModeKey) -> Option<TranslationId> {
        None
    }
    fn run(&mut self, _cpu: &mut Cpu, _translation: TranslationId, _budget: u64, _chains: bool) -> TierExit {
        TierExit::Gone
    }
    fn overrun(&self) -> u64 {
        0
    }
    fn invalidate(&mut self, _gpa: u64, _bytes: u64) -> usize {
        0
    }
    fn pieces_of_page(&self, _page: u64) -> Vec<(u64, u64)> {
        Vec::new()
    }
    fn stats(&self) -> TierStats {
        TierStats::default()
    }
}
