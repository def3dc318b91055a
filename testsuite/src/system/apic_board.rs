//! A board with a local APIC and nothing else, for guests that send interrupts to themselves.

use rx86_cpu::bare_board::{BareBoard, NOW_NS, TSC};
use rx86_cpu::environment::{Environment, Refused};
use rx86_devices::Clock;
use rx86_devices::lapic::{ApicOut, LocalApic, TscClock};
use rx86_softmmu::Attention;
use std::sync::Arc;

/// Where the local APIC's registers are.
const REGISTERS: u64 = 0xfee0_0000;
const REGISTERS_BYTES: u64 = 0x1000;

/// Time stands still, as on the bare board.
struct StoppedClock;

impl Clock for StoppedClock {
    fn now_ns(&self) -> u64 {
        NOW_NS
    }
}

impl TscClock for StoppedClock {
    fn tsc(&self) -> u64 {
        TSC
    }
    fn ns_until(&self, tsc: u64) -> u64 {
        tsc.saturating_sub(TSC)
    }
}

/// The board.
pub struct ApicBoard {
    bare: BareBoard,
    lapic: LocalApic,
    nmi: bool,
}

impl ApicBoard {
    /// The board of the vCPU that `attention` belongs to.
    pub fn new(attention: Attention) -> Self {
        let lapic = LocalApic::new(0, true, Arc::new(StoppedClock), Arc::new(StoppedClock), attention);
        Self { bare: BareBoard::default(), lapic, nmi: false }
    }

    /// What the APIC sends comes back to it: it is the only one.
    fn route(&mut self) {
        for out in self.lapic.take_outbox() {
            if let ApicOut::Ipi(message, destination) = out
                && self.lapic.is_addressed(&message, destination)
            {
                self.lapic.deliver(&message);
            }
        }
    }
}

impl Environment for ApicBoard {
    fn port_read(&mut self, port: u16, bytes: u8) -> u32 {
        self.bare.port_read(port, bytes)
    }
    fn port_write(&mut self, port: u16, bytes: u8, value: u32) {
        self.bare.port_write(port, bytes, value);
    }
    fn mmio_read(&mut self, gpa: u64, data: &mut [u8]) {
        data.fill(0xff);
        if (REGISTERS..REGISTERS + REGISTERS_BYTES).contains(&gpa) {
            let register = self.lapic.mmio_read((gpa - REGISTERS) & !3).to_le_bytes();
            data.iter_mut().zip(register).for_each(|(to, from)| *to = from);
        }
    }
    fn mmio_write(&mut self, gpa: u64, data: &[u8]) {
        if (REGISTERS..REGISTERS + REGISTERS_BYTES).contains(&gpa) {
            let mut register = [0; 4];
            register.iter_mut().zip(data).for_each(|(to, from)| *to = *from);
            self.lapic.mmio_write((gpa - REGISTERS) & !3, u32::from_le_bytes(register));
            self.route();
        }
    }
    fn interrupt_pending(&mut self) -> bool {
        self.lapic.pending_vector().is_some()
    }
    fn acknowledge_interrupt(&mut self) -> Option<u8> {
        self.lapic.acknowledge()
    }
    fn take_nmi(&mut self) -> bool {
        self.nmi |= self.lapic.take_cpu_events().nmi;
        std::mem::take(&mut self.nmi)
    }
    fn take_init(&mut self) -> bool {
        self.bare.take_init()
    }
    fn take_sipi(&mut self) -> Option<u8> {
        self.bare.take_sipi()
    }
    fn task_priority(&mut self) -> u8 {
        self.lapic.tpr() >> 4
    }
    fn set_task_priority(&mut self, priority: u8) {
        self.lapic.set_tpr(priority << 4);
    }
    fn apic_msr_read(&mut self, msr: u32) -> Result<u64, Refused> {
        self.lapic.read_msr(msr).map_err(|_| Refused)
    }
    fn apic_msr_write(&mut self, msr: u32, value: u64) -> Result<(), Refused> {
        self.lapic.write_msr(msr, value).map_err(|_| Refused)
    }
    fn apic_id(&self) -> u32 {
        0
    }
    fn cpu_count(&self) -> u32 {
        1
    }
    fn tsc(&mut self) -> u64 {
        self.bare.tsc()
    }
    fn tsc_hz(&self) -> u64 {
        self.bare.tsc_hz()
    }
    fn now_ns(&mut self) -> u64 {
        self.bare.now_ns()
    }
    fn boot_wall_clock_ns(&mut self) -> u64 {
        self.bare.boot_wall_clock_ns()
    }
    fn random(&mut self) -> u64 {
        self.bare.random()
    }
    fn set_ferr(&mut self, asserted: bool) {
        self.bare.set_ferr(asserted);
    }
    fn pv_eoi_allowed(&mut self) -> bool {
        false
    }
    fn end_of_interrupt(&mut self) {
        self.lapic.eoi();
    }
}
