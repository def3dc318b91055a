//! `Cpu`: a vCPU's state with its ways to memory and the machine; what instruction meanings execute on.

use crate::backend::{EngineStats, Exit};
use crate::code_map::CodeMap;
use crate::environment::Environment;
use crate::exception::Exception;
use crate::features::CpuModel;
use crate::mode::ModeKey;
use crate::op::reg;
use crate::state::{Vcpu, bits};
use crate::system::event::EventHistory;
use crate::system::idle::Monitored;
use rx86_softmmu::{Attention, CodeWatcher, GuestMemory, Mmu, View};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

/// One logical processor as the software engines execute it.
pub struct Cpu {
    /// The architectural state.
    pub state: Vcpu,
    /// Paging and the TLB, kept in step with `state` by the methods that change control registers and CPL.
    pub mmu: Mmu,
    /// The machine.
    pub env: Box<dyn Environment>,
    /// What CPUID offers and the decoder accepts.
    pub model: CpuModel,
    /// Flags by which others ask this vCPU to look up.
    pub attention: Attention,
    /// Which bytes of guest memory hold decoded code, and which of them were written.
    pub code_map: CodeMap,
    /// By which other vCPUs tell this one of changes to code.
    pub code_watcher: CodeWatcher,
    /// The engine has code that others may still change unnoticed.
    pub code_unsettled: bool,
    /// A serializing instruction was executed, or an event delivered, since the engine last looked whether code that
    /// others may have changed unnoticed is still what it was.
    pub serialized: bool,
    /// Counters for `--stats`.
    pub stats: EngineStats,
    /// Operations of the current block still allowed to start; zero ends the block after the current instruction.
    pub block_limit: usize,
    /// Why `run` must return after the current instruction.
    pub exit: Option<Exit>,
    /// An exception that waits for delivery before the next instruction (a trap, or one queued from outside).
    pub pending_exception: Option<Exception>,
    /// The last delivered events, for reports.
    pub recent_events: EventHistory,
    /// The address armed by MONITOR.
    pub monitor: Option<Monitored>,
    /// Another vCPU has ended the next HLT by hypercall.
    pub unhalted: bool,
    /// PAUSE instructions executed since the host CPU was last offered to others.
    pub pauses: u32,
    /// The linear pages with data breakpoints, as the MMU knows them.
    pub watched_pages: Vec<u64>,
    /// The interrupt in service ends when the guest clears its PV EOI flag.
    pub pv_eoi_deferred: bool,
    mode: ModeKey,
}

impl Cpu {
    /// A processor in its power-on state.
    pub fn new(
        memory: Arc<GuestMemory>,
        env: Box<dyn Environment>,
        model: CpuModel,
        attention: Attention,
    ) -> Self {
        let code_watcher = memory.watch_code(attention.clone());
        let mut cpu = Self {
            state: Vcpu::power_on(&model),
            mmu: Mmu::new(memory),
            env,
            model,
            attention,
            code_map: CodeMap::default(),
            code_watcher,
            code_unsettled: false,
            serialized: false,
            stats: EngineStats::default(),
            block_limit: 0,
            exit: None,
            pending_exception: None,
            recent_events: EventHistory::default(),
            monitor: None,
            unhalted: false,
            pauses: 0,
            watched_pages: Vec::new(),
            pv_eoi_deferred: false,
            mode: ModeKey::default(),
        };
        cpu.paging_changed();
        cpu
    }

    /// The mode bits in force.
    #[inline(always)]
    pub fn mode(&self) -> ModeKey {
        self.mode
    }

    /// Ends the current block after the current instruction, because the mode, the mapping or the code may have
    /// changed, or an event may have become deliverable.
    #[inline]
    pub fn end_block(&mut self) {
        self.block_limit = 0;
    }

    /// What a serializing instruction does beyond its own work (SDM vol. 3, 9.3): stores are done before anything behind it
    /// is, and the next instruction is fetched anew. Only what others do makes that different from what was fetched.
    pub fn serialize(&mut self) {
        fence(Ordering::SeqCst);
        self.serialized = true;
        if self.code_unsettled || self.attention.peek() != 0 {
            self.end_block();
        }
    }

    /// Ends the block and makes `run` return `exit`.
    pub fn request_exit(&mut self, exit: Exit) {
        self.exit = Some(exit);
        self.end_block();
    }

    /// Brings the cached mode and the MMU's view up to date. To be called after every change of CPL, RFLAGS.AC or VM,
    /// CS, SS, CR0, CR4, XCR0 or EFER.
    pub fn mode_changed(&mut self) {
        self.mode = ModeKey::of(&self.state);
        let view = if self.state.cpl == 3 {
            View::User
        } else if self.state.flags.system & bits::RFLAGS_AC != 0 {
            View::SupervisorAc
        } else {
            View::Supervisor
        };
        self.mmu.set_view(view);
        self.end_block();
    }

    /// Replaces RFLAGS and everything that depends on it. Which bits may change is the caller's decision.
    pub fn set_rflags(&mut self, rflags: u64) {
        let changed = self.state.flags.get() ^ rflags;
        self.state.flags.set(rflags);
        if changed & (bits::RFLAGS_AC | bits::RFLAGS_VM) != 0 {
            self.mode_changed();
        }
        if changed & (bits::RFLAGS_IF | bits::RFLAGS_TF | bits::RFLAGS_RF) != 0 {
            self.end_block();
        }
    }

    /// Sets the privilege level.
    pub fn set_cpl(&mut self, cpl: u8) {
        self.state.cpl = cpl;
        self.mode_changed();
    }

    /// #GP(0) unless CPL is 0.
    pub fn require_cpl0(&self) -> Result<(), Exception> {
        if self.state.cpl == 0 { Ok(()) } else { Err(Exception::gp(0)) }
    }

    /// The address of the current instruction's first byte, given its length.
    pub fn instruction_start(&self, length: u8) -> u64 {
        self.state.regs[reg::RIP as usize].wrapping_sub(u64::from(length))
    }

    /// Whether `linear` is canonical under the paging mode in force (SDM vol. 1, 3.3.7.1).
    #[inline]
    pub fn is_canonical(&self, linear: u64) -> bool {
        let unused = if self.state.cr4 & bits::CR4_LA57 != 0 { 7 } else { 16 };
        (((linear << unused) as i64) >> unused) as u64 == linear
    }
}
