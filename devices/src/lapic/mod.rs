//! The local APIC: xAPIC and x2APIC (SDM Vol. 3A, chapter 12).
//!
//! One `LocalApic` belongs to one vCPU. What it sends to others waits in an outbox that the board empties; what it
//! has for its own CPU beyond vectors waits in [`CpuEvents`]. In either case, and whenever a vector may have become
//! deliverable, a bit of the CPU's [`Attention`] is raised.

mod bus;
mod delivery;
mod message;
mod registers;
mod timer;

#[cfg(test)]
mod bus_tests;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use rx86_softmmu::Attention;

use crate::device::Clock;

pub use bus::LocalApics;
pub(crate) use bus::lock;
pub use message::{DeliveryMode, Destination, InterruptMessage};
pub use timer::{TIMER_HZ, TscClock};

use timer::Timer;

/// The physical address of the registers after reset.
pub const DEFAULT_BASE: u64 = 0xfee0_0000;

/// An MSR that does not exist in the present mode, or a value that it refuses: #GP(0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidMsr;

/// What a local APIC sends to the rest of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApicOut {
    /// An interprocessor interrupt, for the APICs of which [`LocalApic::is_addressed`] is true.
    Ipi(InterruptMessage, Destination),
    /// The end of a level-triggered interrupt with this vector, for the I/O APICs.
    Eoi(u8),
}

/// What has arrived for the CPU and is not a vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuEvents {
    /// A non-maskable interrupt.
    pub nmi: bool,
    /// INIT; it precedes a SIPI reported with it.
    pub init: bool,
    /// A start-up IPI with this vector: execution begins at `vector << 12`. Only a CPU waiting for it listens.
    pub sipi: Option<u8>,
}

/// A vector set: IRR, ISR or TMR.
#[derive(Clone, Copy, Debug, Default)]
struct Vectors([u32; 8]);

impl Vectors {
    fn set(&mut self, vector: u8) {
        self.0[usize::from(vector >> 5)] |= 1 << (vector & 31);
    }

    fn clear(&mut self, vector: u8) {
        self.0[usize::from(vector >> 5)] &= !(1 << (vector & 31));
    }

    fn contains(&self, vector: u8) -> bool {
        self.0[usize::from(vector >> 5)] & 1 << (vector & 31) != 0
    }

    fn highest(&self) -> Option<u8> {
        let word = self.0.iter().rposition(|&word| word != 0)?;
        Some(word as u8 * 32 + self.0[word].ilog2() as u8)
    }
}

/// The local vector table's entries that have a source here, by the order of the registers from 0x320 on. Between
/// timer and LINT0 are the thermal sensor's and the performance counters', whose sources never interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lvt {
    Timer = 0,
    Lint0 = 3,
    Lint1 = 4,
    Error = 5,
}

const LVT_COUNT: usize = 6;
const LVT_MASKED: u32 = 1 << 16;
const LVT_LEVEL: u32 = 1 << 15;
const LVT_REMOTE_IRR: u32 = 1 << 14;
const SVR_ENABLED: u32 = 1 << 8;
const SVR_SUPPRESS_EOI_BROADCAST: u32 = 1 << 12;
const BASE_BSP: u64 = 1 << 8;
const BASE_EXTD: u64 = 1 << 10;
const BASE_ENABLED: u64 = 1 << 11;

/// One local APIC.
pub struct LocalApic {
    id: u32,
    /// The IA32_APIC_BASE MSR.
    apic_base: u64,
    bootstrap: bool,
    tpr: u8,
    irr: Vectors,
    isr: Vectors,
    tmr: Vectors,
    /// The logical destination register of xAPIC mode.
    ldr: u32,
    dfr: u32,
    svr: u32,
    esr: u32,
    /// Errors since the last write to the ESR.
    errors: u32,
    icr: u64,
    lvt: [u32; LVT_COUNT],
    lint_high: [bool; 2],
    timer: Timer,
    /// An ExtINT message asks for one INTA cycle at the 8259A.
    ext_int: bool,
    events: CpuEvents,
    outbox: Vec<ApicOut>,
    attention: Attention,
}

impl LocalApic {
    /// A local APIC as after power-up. `bootstrap` is the BSP flag of IA32_APIC_BASE.
    pub fn new(
        apic_id: u32,
        bootstrap: bool,
        clock: Arc<dyn Clock>,
        tsc: Arc<dyn TscClock>,
        attention: Attention,
    ) -> Self {
        let mut apic = Self {
            id: apic_id,
            apic_base: 0,
            bootstrap,
            tpr: 0,
            irr: Vectors::default(),
            isr: Vectors::default(),
            tmr: Vectors::default(),
            ldr: 0,
            dfr: 0,
            svr: 0,
            esr: 0,
            errors: 0,
            icr: 0,
            lvt: [0; LVT_COUNT],
            lint_high: [false; 2],
            timer: Timer::new(clock, tsc),
            ext_int: false,
            events: CpuEvents::default(),
            outbox: Vec::new(),
            attention,
        };
        apic.reset(false);
        apic
    }

    /// Power-up or RESET, or with `init` the INIT that leaves IA32_APIC_BASE alone (SDM Vol. 3A, 12.4.7).
    pub fn reset(&mut self, init: bool) {
        if !init {
            let bsp = if self.bootstrap { BASE_BSP } else { 0 };
            self.apic_base = DEFAULT_BASE | BASE_ENABLED | bsp;
            self.events = CpuEvents::default();
        }
        self.tpr = 0;
        self.irr = Vectors::default();
        self.isr = Vectors::default();
        self.tmr = Vectors::default();
        self.ldr = 0;
        self.dfr = u32::MAX;
        self.svr = 0xff;
        self.esr = 0;
        self.errors = 0;
        self.icr = 0;
        self.lvt = [LVT_MASKED; LVT_COUNT];
        self.timer.reset();
        self.ext_int = false;
    }

    /// Leaves the registers as a PC's firmware does for the bootstrap processor: enabled, LINT0 taking the 8259A's
    /// vectors and LINT1 NMI (virtual wire mode, MultiProcessor Specification 3.6.2.2).
    pub fn set_virtual_wire(&mut self) {
        self.svr = SVR_ENABLED | 0xff;
        self.lvt[Lvt::Lint0 as usize] = (DeliveryMode::ExtInt as u32) << 8;
        self.lvt[Lvt::Lint1 as usize] = (DeliveryMode::Nmi as u32) << 8;
        self.raise_if_pending();
    }

    /// The full APIC ID.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Where the registers are in physical memory; `None` when the APIC is disabled or in x2APIC mode.
    pub fn base_address(&self) -> Option<u64> {
        (self.is_enabled() && !self.is_x2apic()).then_some(self.apic_base & !0xfff)
    }

    /// The task priority register; CR8 is its upper four bits.
    pub fn tpr(&self) -> u8 {
        self.tpr
    }

    /// Writes the task priority register.
    pub fn set_tpr(&mut self, tpr: u8) {
        self.tpr = tpr;
        self.raise_if_pending();
    }

    /// The vector that the CPU is to take once its interrupt flag allows it.
    pub fn pending_vector(&self) -> Option<u8> {
        if !self.is_software_enabled() {
            return None;
        }
        self.irr.highest().filter(|vector| vector & 0xf0 > self.ppr() & 0xf0)
    }

    /// The CPU takes the pending vector, which moves from the IRR to the ISR.
    ///
    /// The spurious vector never comes out of this: silicon needs it because the TPR may be raised between the CPU's
    /// look at the INTR signal and its INTA cycle, and here the two are one step.
    pub fn acknowledge(&mut self) -> Option<u8> {
        let vector = self.pending_vector()?;
        self.irr.clear(vector);
        self.isr.set(vector);
        Some(vector)
    }

    /// The vector that the next EOI ends.
    pub fn highest_in_service(&self) -> Option<u8> {
        self.isr.highest()
    }

    /// Whether the next EOI goes out to the I/O APICs too, which a paravirtual EOI would miss.
    pub fn eoi_is_broadcast(&self) -> bool {
        self.svr & SVR_SUPPRESS_EOI_BROADCAST == 0
            && self.isr.highest().is_some_and(|vector| self.tmr.contains(vector))
    }

    /// A write to the EOI register: ends the interrupt of highest priority in service.
    pub fn eoi(&mut self) {
        let Some(vector) = self.isr.highest() else { return };
        if self.eoi_is_broadcast() {
            self.outbox.push(ApicOut::Eoi(vector));
        }
        self.isr.clear(vector);
        if vector == self.lvt[Lvt::Lint0 as usize] as u8 {
            self.lvt[Lvt::Lint0 as usize] &= !LVT_REMOTE_IRR;
            self.redeliver_lint0();
        }
        self.raise_if_pending();
    }

    /// Whether the 8259A's INTR output reaches this CPU: through LINT0 in ExtINT mode, by an ExtINT message, or
    /// directly at the bootstrap processor while the APIC is globally disabled (SDM Vol. 3A, 12.4.3).
    pub fn accepts_pic(&self) -> bool {
        if !self.is_enabled() {
            return self.apic_base & BASE_BSP != 0;
        }
        let lint0 = self.lvt[Lvt::Lint0 as usize];
        let ext_int = (DeliveryMode::ExtInt as u32) << 8;
        self.ext_int || lint0 & (LVT_MASKED | 0x700) == ext_int
    }

    /// The 8259A has given its vector to this CPU, which settles an ExtINT message.
    pub fn pic_acknowledged(&mut self) {
        self.ext_int = false;
    }

    /// Whether there is something to send.
    pub fn has_outbox(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Takes what this APIC has to send.
    pub fn take_outbox(&mut self) -> Vec<ApicOut> {
        std::mem::take(&mut self.outbox)
    }

    /// Takes what has arrived for the CPU and is not a vector.
    pub fn take_cpu_events(&mut self) -> CpuEvents {
        std::mem::take(&mut self.events)
    }

    /// When the timer next interrupts, in the clock's nanoseconds. A masked timer waits until somebody looks at it.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        self.timer.deadline_ns().filter(|_| self.lvt[Lvt::Timer as usize] & LVT_MASKED == 0)
    }

    /// Lets the timer expire if it is due at `now_ns`. Periods that passed unseen are one interrupt.
    pub fn advance(&mut self, now_ns: u64) {
        let periodic = self.lvt_timer_mode() == timer::Mode::Periodic;
        if self.timer.expire(now_ns, periodic) {
            self.deliver_local(Lvt::Timer);
        }
    }

    /// The processor priority register (SDM Vol. 3A, 12.8.3.1), by which lowest-priority messages are arbitrated.
    pub fn ppr(&self) -> u8 {
        let in_service = self.isr.highest().unwrap_or(0);
        if self.tpr & 0xf0 >= in_service & 0xf0 { self.tpr } else { in_service & 0xf0 }
    }

    /// Brings the timer up to date before the guest looks at it or changes it.
    fn advance_to_now(&mut self) {
        self.advance(self.timer.now_ns());
    }

    fn is_enabled(&self) -> bool {
        self.apic_base & BASE_ENABLED != 0
    }

    fn is_x2apic(&self) -> bool {
        self.apic_base & BASE_EXTD != 0
    }

    fn is_software_enabled(&self) -> bool {
        self.is_enabled() && self.svr & SVR_ENABLED != 0
    }

    /// The LDR of the present mode.
    fn logical_id(&self) -> u32 {
        if self.is_x2apic() { (self.id >> 4) << 16 | 1 << (self.id & 15) } else { self.ldr }
    }

    fn lvt_timer_mode(&self) -> timer::Mode {
        timer::Mode::from_lvt(self.lvt[Lvt::Timer as usize])
    }

    /// All that it remembers, as numbers, for a comparison of states.
    pub fn state_words(&self) -> impl Iterator<Item = u64> {
        let Self {
            id,
            apic_base,
            bootstrap,
            tpr,
            irr,
            isr,
            tmr,
            ldr,
            dfr,
            svr,
            esr,
            errors,
            icr,
            lvt,
            lint_high,
            timer,
            ext_int,
            events,
            outbox,
            attention: _,
        } = self;
        let narrow = [*id, (*tpr).into(), *ldr, *dfr, *svr, *esr, *errors, outbox.len() as u32];
        let CpuEvents { nmi, init, sipi } = *events;
        let bits = [*bootstrap, lint_high[0], lint_high[1], *ext_int, nmi, init];
        let words = [irr, isr, tmr].into_iter().flat_map(|vectors| vectors.0).chain(*lvt).chain(narrow);
        let sipi = sipi.map_or(u64::MAX, u64::from);
        [*apic_base, *icr, sipi]
            .into_iter()
            .chain(timer.state_words())
            .chain(words.map(u64::from))
            .chain(bits.map(u64::from))
    }

    fn raise_if_pending(&self) {
        if self.pending_vector().is_some() {
            self.attention.raise(Attention::INTERRUPT);
        }
    }
}
