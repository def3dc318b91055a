//! `X86Ops`: what an execution backend does for a vCPU, after KVM's `kvm_x86_ops`. The interpreter implements it
//! here; a JIT engine and a hardware-assisted backend implement it in their own crates.

use crate::exception::Exception;
use crate::state::{Segment, Vcpu};
use crate::system::event::Event;
use rx86_softmmu::WalkStep;

/// Why `X86Ops::run` came back (after `kvm_run`'s exit reasons).
///
/// Port and memory-mapped accesses do not show here: a backend completes them through its `Environment`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The budget of instructions is spent, or somebody raised `Attention::KICK`.
    Yield,
    /// HLT with no interrupt to deliver: call again when there is one.
    Halt,
    /// Triple fault. The state is that of the instruction that began it.
    Shutdown,
    /// An interrupt window that was asked for has opened.
    InterruptWindow,
    /// A debugger's breakpoint or single step.
    Debug,
    /// The backend itself cannot go on; `X86Ops::failure` says why.
    Failed,
}

/// Which reset line was pulled (SDM vol. 3, table 10-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetKind {
    /// Power-up or RESET#.
    PowerOn,
    /// INIT#: caches, x87, SSE state and most MSRs survive.
    Init,
}

/// What has been executed and why it stopped, for `--stats`.
#[derive(Clone, Debug, Default)]
pub struct EngineStats {
    /// Instructions retired.
    pub instructions: u64,
    /// Blocks executed.
    pub blocks_executed: u64,
    /// Blocks decoded.
    pub blocks_decoded: u64,
    /// Block look-ups that the per-address cache answered.
    pub block_hits: u64,
    /// Blocks dropped because their bytes were written.
    pub blocks_invalidated: u64,
    /// Page walks made to fill the TLB.
    pub tlb_fills: u64,
    /// Memory accesses of instructions that found their page in the TLB.
    pub tlb_hits: u64,
    /// Memory accesses that did not find their page in the TLB, or were not plain RAM.
    pub slow_accesses: u64,
    /// Exceptions delivered.
    pub exceptions: u64,
    /// External interrupts and NMIs delivered.
    pub interrupts: u64,
    /// Port accesses.
    pub port_accesses: u64,
    /// Memory-mapped register accesses.
    pub mmio_accesses: u64,
    /// Returns from `run`: yields, halts, shutdowns.
    pub exits_yield: u64,
    /// `run` returned because of HLT.
    pub exits_halt: u64,
    /// What the tier above the interpreter has done, if there is one.
    pub tier: Option<TierStats>,
}

/// What the tier above an interpreter has done.
#[derive(Clone, Copy, Debug, Default)]
pub struct TierStats {
    /// What was translated for good.
    pub full: TranslationStats,
    /// What was translated quickly.
    pub quick: TranslationStats,
    /// How many of `full` had been translated for another vCPU.
    pub shared: u64,
    /// Regions that could not be translated.
    pub failed: u64,
    /// Regions dropped because their bytes were written.
    pub invalidated: u64,
    /// Of those, regions that were used again as their bytes were the same again.
    pub revived: u64,
    /// Regions dropped because the cache was full.
    pub evicted: u64,
    /// Instructions executed in translations.
    pub instructions: u64,
    /// Entries into translations from the engine; from one translation to the next is none.
    pub entries: u64,
    /// Entries refused because the mapping of the region's pages has changed.
    pub refused_entries: u64,
    /// How those entries ended.
    pub exits: TierExits,
}

/// What a translator has done.
#[derive(Clone, Copy, Debug, Default)]
pub struct TranslationStats {
    /// Regions of code translated and installed.
    pub regions: u64,
    /// Guest instructions in them.
    pub guest_instructions: u64,
    /// Bytes of host code in them.
    pub host_bytes: u64,
    /// Nanoseconds of translating.
    pub compile_ns: u64,
}

impl TranslationStats {
    fn add(&mut self, other: &Self) {
        self.regions += other.regions;
        self.guest_instructions += other.guest_instructions;
        self.host_bytes += other.host_bytes;
        self.compile_ns += other.compile_ns;
    }
}

/// Why a tier went back to its engine, counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct TierExits {
    /// No translation is known for the next instruction.
    pub next_unknown: u64,
    /// A quick translation has been executed so often that a better one is worth it.
    pub hot: u64,
    /// The instructions that `run` was given are used up.
    pub budget: u64,
    /// Something waits to be done at an instruction border.
    pub attention: u64,
    /// An instruction has changed what the engine has to look at.
    pub block_ended: u64,
    /// An instruction raised an exception.
    pub exception: u64,
    /// A memory access faults; the interpreter raises the exception.
    pub access_faults: u64,
    /// A memory access crosses a page's end.
    pub access_crosses_page: u64,
    /// A store to a page that holds code.
    pub access_writes_code_page: u64,
    /// A memory access to something other than RAM.
    pub access_not_ram: u64,
    /// Another instruction that the interpreter has to execute.
    pub no_translation: u64,
}

impl EngineStats {
    /// Adds another vCPU's counters.
    pub fn add(&mut self, other: &Self) {
        let Self {
            instructions,
            blocks_executed,
            blocks_decoded,
            block_hits,
            blocks_invalidated,
            tlb_fills,
            tlb_hits,
            slow_accesses,
            exceptions,
            interrupts,
            port_accesses,
            mmio_accesses,
            exits_yield,
            exits_halt,
            tier,
        } = other;
        self.instructions += instructions;
        self.blocks_executed += blocks_executed;
        self.blocks_decoded += blocks_decoded;
        self.block_hits += block_hits;
        self.blocks_invalidated += blocks_invalidated;
        self.tlb_fills += tlb_fills;
        self.tlb_hits += tlb_hits;
        self.slow_accesses += slow_accesses;
        self.exceptions += exceptions;
        self.interrupts += interrupts;
        self.port_accesses += port_accesses;
        self.mmio_accesses += mmio_accesses;
        self.exits_yield += exits_yield;
        self.exits_halt += exits_halt;
        if let (Some(sum), Some(tier)) = (&mut self.tier, tier) {
            sum.add(tier);
        }
    }
}

impl TierStats {
    fn add(&mut self, other: &Self) {
        self.full.add(&other.full);
        self.quick.add(&other.quick);
        self.shared += other.shared;
        self.failed += other.failed;
        self.invalidated += other.invalidated;
        self.revived += other.revived;
        self.evicted += other.evicted;
        self.instructions += other.instructions;
        self.entries += other.entries;
        self.refused_entries += other.refused_entries;
        self.exits.add(&other.exits);
    }
}

impl TierExits {
    fn add(&mut self, other: &Self) {
        self.next_unknown += other.next_unknown;
        self.hot += other.hot;
        self.budget += other.budget;
        self.attention += other.attention;
        self.block_ended += other.block_ended;
        self.exception += other.exception;
        self.access_faults += other.access_faults;
        self.access_crosses_page += other.access_crosses_page;
        self.access_writes_code_page += other.access_writes_code_page;
        self.access_not_ram += other.access_not_ram;
        self.no_translation += other.no_translation;
    }
}

/// One execution backend with the vCPU that it drives.
pub trait X86Ops: Send {
    /// The backend's name as `--engine` takes it.
    fn name(&self) -> &'static str;

    /// Puts the vCPU into its state after `kind` of reset.
    fn reset(&mut self, kind: ResetKind);
    /// The whole architectural state, brought up to date.
    fn state(&mut self) -> &Vcpu;
    /// Replaces the whole architectural state.
    fn load_state(&mut self, state: &Vcpu);

    /// RDMSR on the guest's behalf.
    fn msr(&mut self, index: u32) -> Result<u64, Exception>;
    /// WRMSR on the guest's behalf.
    fn set_msr(&mut self, index: u32, value: u64) -> Result<(), Exception>;
    /// Loads a segment register (0 to 5: ES, CS, SS, DS, FS, GS) with its hidden part, unchecked.
    fn set_segment(&mut self, index: usize, segment: Segment);
    /// Writes CR0 with all its checks and mode changes.
    fn set_cr0(&mut self, value: u64) -> Result<(), Exception>;
    /// Writes CR3.
    fn set_cr3(&mut self, value: u64) -> Result<(), Exception>;
    /// Writes CR4.
    fn set_cr4(&mut self, value: u64) -> Result<(), Exception>;

    /// Drops every cached translation, global ones too.
    fn flush_tlb(&mut self);
    /// INVLPG on the guest's behalf.
    fn flush_tlb_linear(&mut self, linear: u64);

    /// Whether an external interrupt would be delivered now (IF set, no shadow).
    fn interrupt_allowed(&mut self) -> bool;
    /// Whether an NMI would be delivered now.
    fn nmi_allowed(&mut self) -> bool;
    /// Asks for `Exit::InterruptWindow` as soon as `interrupt_allowed` holds.
    fn request_interrupt_window(&mut self);
    /// Makes an exception pending, delivered before the next instruction.
    fn queue_exception(&mut self, exception: Exception);

    /// The board's A20 gate.
    fn set_a20(&mut self, open: bool);

    /// The last delivered events, oldest first, each with the RIP that it interrupted.
    fn recent_events(&self) -> Vec<(Event, u64)>;
    /// Up to `bytes` bytes at a linear address as a debugger sees them: no faults, no accessed bits, RAM only.
    fn peek(&mut self, linear: u64, bytes: usize) -> Vec<u8>;
    /// The page-table entries that the translation of `linear` reads; empty without paging.
    fn page_walk(&mut self, linear: u64) -> Vec<WalkStep>;

    /// Runs until something needs the machine; about `budget` instructions at most.
    fn run(&mut self, budget: u64) -> Exit;

    /// Whether `step` works.
    fn can_step(&self) -> bool {
        false
    }
    /// Executes one instruction (one turn of a long repetition), delivers the exception that it raised, and what else is due
    /// behind it. Not all backends can: see `can_step`.
    fn step(&mut self) -> Exit {
        Exit::Failed
    }

    /// Runs until something needs the machine or exactly `budget` instructions are retired; events behind the last one wait
    /// for the next call. Backends that can do this can `step`.
    fn run_exactly(&mut self, _budget: u64) -> Exit {
        Exit::Failed
    }

    /// Why the backend cannot go on, if a host call failed.
    fn failure(&self) -> Option<&str> {
        None
    }

    /// Counters since creation.
    fn stats(&self) -> EngineStats;
}
