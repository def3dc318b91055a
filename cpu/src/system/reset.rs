//! Power-up, RESET, INIT and start-up IPIs (SDM vol. 3, table 10-1 and 9.4).

use crate::backend::ResetKind;
use crate::cpu::Cpu;
use crate::features::CpuModel;
use crate::op::reg;
use crate::state::{
    Activity, Flags, Msrs, REG_SLOTS, Segment, SegmentIndex, TableRegister, Vcpu, X87, Zmm, bits,
};

/// CR0 after a reset: caches off, everything else off.
const CR0_RESET: u64 = bits::CR0_CD | bits::CR0_NW | bits::CR0_ET;
/// DR7 after a reset.
const DR7_RESET: u64 = 0x400;
/// IA32_PAT after a reset: WB, WT, UC-, UC, twice.
const PAT_RESET: u64 = 0x0007_0406_0007_0406;
/// IA32_MISC_ENABLE: fast strings are on; branch trace storage and PEBS do not exist.
pub(super) const MISC_ENABLE_RESET: u64 = 1 << 0 | 1 << 11 | 1 << 12;

impl Vcpu {
    /// State after power-up.
    pub fn power_on(model: &CpuModel) -> Self {
        let mut regs = [0; REG_SLOTS];
        regs[usize::from(reg::RDX)] = u64::from(model.signature());
        regs[usize::from(reg::RIP)] = 0xfff0;
        let mut flags = Flags::default();
        flags.set(bits::RFLAGS_FIXED);
        let mut segments = [Segment::real_mode(0); 6];
        segments[SegmentIndex::CS] =
            Segment { base: 0xffff_0000, limit: 0xffff, access: 0x9b, selector: 0xf000 };
        let table = TableRegister { base: 0, limit: 0xffff };
        Self {
            regs,
            flags,
            segments,
            ldtr: Segment { base: 0, limit: 0xffff, access: 0x82, selector: 0 },
            tr: Segment { base: 0, limit: 0xffff, access: 0x8b, selector: 0 },
            gdtr: table,
            idtr: table,
            cr0: CR0_RESET,
            cr2: 0,
            cr3: 0,
            cr4: 0,
            efer: 0,
            xcr0: 1,
            pdptes: [0; 4],
            dr: [0, 0, 0, 0, 0, 0, bits::DR6_FIXED, DR7_RESET],
            pkru: 0,
            mxcsr: 0x1f80,
            cpl: 0,
            activity: Activity::Active,
            sti_shadow: false,
            mov_ss_shadow: false,
            nmi_blocked: false,
            nmi_pending: false,
            a20: true,
            msrs: Msrs { pat: PAT_RESET, misc_enable: MISC_ENABLE_RESET, ..Msrs::default() },
            x87: X87 { control: 0x40, tags: 0x5555, ..X87::default() },
            zmm: [Zmm::default(); 32],
        }
    }
}

impl Cpu {
    /// Resets the processor. The local APIC and the devices are the machine's to reset.
    pub fn reset(&mut self, kind: ResetKind) {
        let mut state = Vcpu::power_on(&self.model);
        if kind == ResetKind::Init {
            let old = &self.state;
            state.cr0 = old.cr0 & (bits::CR0_CD | bits::CR0_NW) | bits::CR0_ET;
            state.xcr0 = old.xcr0;
            state.pkru = old.pkru;
            state.mxcsr = old.mxcsr;
            state.x87 = old.x87;
            state.zmm = old.zmm;
            state.msrs = old.msrs.clone();
            state.a20 = old.a20;
        }
        self.state = state;
        self.pending_exception = None;
        self.monitor = None;
        self.unhalted = false;
        self.exit = None;
        self.forget_debug_state();
        if kind == ResetKind::PowerOn {
            self.pv_eoi_deferred = false;
        }
        self.mmu.flush_all();
        self.paging_changed();
    }

    /// A start-up IPI: execution begins at `vector` times 4 KiB, if the processor waits for one.
    pub fn start_up(&mut self, vector: u8) {
        if self.state.activity != Activity::WaitForSipi {
            return;
        }
        let selector = u16::from(vector) << 8;
        self.state.segments[SegmentIndex::CS] = Segment { access: 0x9b, ..Segment::real_mode(selector) };
        self.state.set_rip(0);
        self.state.activity = Activity::Active;
        self.mode_changed();
    }
}
