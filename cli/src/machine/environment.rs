//! The board and a vCPU's local APIC as that vCPU sees them.

use super::clock::TSC_HZ;
use super::halt_poll::has_host_cpus_for;
use super::shared::{Ending, Shared, lock};
use super::stolen::StolenTime;
use rx86_cpu::environment::{Environment, Refused};
use rx86_devices::Clock;
use rx86_devices::lapic::{ApicOut, LocalApic, LocalApics};
use rx86_softmmu::Attention;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const LAPIC_BYTES: u64 = 0x1000;
/// The local APIC's memory-mapped registers are 32 bits wide.
const REGISTER_BYTES: usize = 4;
const IA32_APIC_BASE: u32 = 0x1b;

/// One vCPU's view of the machine.
pub(super) struct VcpuEnvironment {
    shared: Arc<Shared>,
    lapic: Arc<Mutex<LocalApic>>,
    lapics: LocalApics,
    cpu: usize,
    random_state: u64,
    nmi: bool,
    init: bool,
    sipi: Option<u8>,
    stolen: StolenTime,
    /// How often `relax` is called before it gives the host CPU away, and how often it still will be.
    patience: u32,
    patience_left: u32,
}

/// Calls of `relax` in some 50 microseconds of spinning: what a lock, or the answer to an interrupt, takes at most from a vCPU
/// that runs.
const PATIENCE: u32 = 32;

impl VcpuEnvironment {
    /// The view of vCPU `cpu`; `seed` is the machine's.
    pub(super) fn new(shared: Arc<Shared>, cpu: usize, seed: u64) -> Self {
        let lapics = lock(&shared.board).lapics();
        let patience = if has_host_cpus_for(lapics.len()) { PATIENCE } else { 1 };
        Self {
            shared,
            lapic: lapics[cpu].clone(),
            lapics,
            cpu,
            random_state: seed.wrapping_add(cpu as u64),
            nmi: false,
            init: false,
            sipi: None,
            stolen: StolenTime::default(),
            patience,
            patience_left: patience,
        }
    }

    fn attention(&self) -> &Attention {
        &self.shared.attentions[self.cpu]
    }

    /// The offset of `gpa` in the local APIC's registers, if it is there.
    fn lapic_offset(&self, gpa: u64) -> Option<u64> {
        let offset = gpa.checked_sub(lock(&self.lapic).base_address()?)?;
        (offset < LAPIC_BYTES).then_some(offset)
    }

    /// Carries what the local APIC sent to the others, and to the board what is for the I/O APIC.
    fn route(&self) {
        let mut lapic = lock(&self.lapic);
        if !lapic.has_outbox() {
            return;
        }
        let outbox = lapic.take_outbox();
        drop(lapic);
        for out in outbox {
            match out {
                ApicOut::Ipi(message, destination) => self.lapics.send(&message, destination),
                ApicOut::Eoi(vector) => lock(&self.shared.board).end_of_interrupt(vector),
            }
        }
    }

    fn is_pending(&self) -> bool {
        let lapic = lock(&self.lapic);
        if !lapic.accepts_pic() {
            return lapic.pending_vector().is_some();
        }
        drop(lapic);
        lock(&self.shared.board).pending(self.cpu)
    }

    fn collect_events(&mut self) {
        let events = lock(&self.lapic).take_cpu_events();
        self.nmi |= events.nmi;
        self.init |= events.init;
        self.sipi = events.sipi.or(self.sipi);
    }
}

impl Environment for VcpuEnvironment {
    fn port_read(&mut self, port: u16, bytes: u8) -> u32 {
        lock(&self.shared.board).port_read(port, bytes)
    }

    fn port_write(&mut self, port: u16, bytes: u8, value: u32) {
        let mut board = lock(&self.shared.board);
        board.port_write(port, bytes, value);
        let request = board.take_request();
        let a20 = board.a20();
        let deadline = board.next_chip_deadline_ns();
        let is_early = deadline.is_some_and(|at| at < self.shared.next_look_ns.load(Ordering::Relaxed));
        drop(board);
        if self.cpu != 0 && is_early {
            self.shared.call_keeper();
        }
        // The instruction behind this one must not run before the machine has acted.
        if self.shared.a20.swap(a20, Ordering::Relaxed) != a20 {
            self.attention().raise(Attention::KICK);
        }
        if let Some(request) = request {
            self.shared.end(Ending::Request(request));
        }
    }

    fn mmio_read(&mut self, gpa: u64, data: &mut [u8]) {
        let Some(offset) = self.lapic_offset(gpa) else {
            return lock(&self.shared.board).mmio_read(gpa, data);
        };
        let register = lock(&self.lapic).mmio_read(offset & !3).to_le_bytes();
        let start = offset as usize & (REGISTER_BYTES - 1);
        for (i, byte) in data.iter_mut().enumerate() {
            *byte = register.get(start + i).copied().unwrap_or(0);
        }
        self.route();
    }

    fn mmio_write(&mut self, gpa: u64, data: &[u8]) {
        let Some(offset) = self.lapic_offset(gpa) else {
            return lock(&self.shared.board).mmio_write(gpa, data);
        };
        // Registers take aligned 32-bit writes; what other writes do is undefined (SDM vol. 3, 10.4.1).
        let mut register = [0; REGISTER_BYTES];
        let count = data.len().min(REGISTER_BYTES);
        register[..count].copy_from_slice(&data[..count]);
        lock(&self.lapic).mmio_write(offset & !3, u32::from_le_bytes(register));
        self.route();
    }

    fn interrupt_pending(&mut self) -> bool {
        !self.shared.interrupts_held.load(Ordering::Relaxed) && self.is_pending()
    }

    fn acknowledge_interrupt(&mut self) -> Option<u8> {
        if self.shared.interrupts_held.load(Ordering::Relaxed) {
            return None;
        }
        let mut lapic = lock(&self.lapic);
        // Most vectors need nothing of the board.
        if !lapic.accepts_pic()
            && let Some(vector) = lapic.acknowledge()
        {
            return Some(vector);
        }
        drop(lapic);
        lock(&self.shared.board).acknowledge(self.cpu)
    }

    fn take_nmi(&mut self) -> bool {
        self.collect_events();
        std::mem::take(&mut self.nmi)
    }

    fn take_init(&mut self) -> bool {
        self.collect_events();
        let init = std::mem::take(&mut self.init);
        if init {
            lock(&self.lapic).reset(true);
        }
        init
    }

    fn take_sipi(&mut self) -> Option<u8> {
        self.collect_events();
        self.sipi.take()
    }

    fn task_priority(&mut self) -> u8 {
        lock(&self.lapic).tpr() >> 4
    }

    fn set_task_priority(&mut self, priority: u8) {
        lock(&self.lapic).set_tpr(priority << 4);
    }

    fn apic_msr_read(&mut self, msr: u32) -> Result<u64, Refused> {
        let value = lock(&self.lapic).read_msr(msr).map_err(|_| Refused);
        self.route();
        value
    }

    fn apic_msr_write(&mut self, msr: u32, value: u64) -> Result<(), Refused> {
        let outcome = lock(&self.lapic).write_msr(msr, value).map_err(|_| Refused);
        if msr == IA32_APIC_BASE {
            // The 8259A's output may reach the processor now.
            lock(&self.shared.board).after_lapic_access(self.cpu);
        }
        self.route();
        outcome
    }

    fn apic_id(&self) -> u32 {
        self.cpu as u32
    }

    fn cpu_count(&self) -> u32 {
        self.shared.attentions.len() as u32
    }

    fn tsc(&mut self) -> u64 {
        self.shared.clock.look_ns()
    }

    fn tsc_hz(&self) -> u64 {
        TSC_HZ
    }

    fn now_ns(&mut self) -> u64 {
        self.shared.clock.now_ns()
    }

    fn tsc_and_ns(&mut self) -> (u64, u64) {
        const { assert!(TSC_HZ == 1_000_000_000) };
        let now = self.shared.clock.look_ns();
        (now, now)
    }

    fn relax(&mut self) {
        if self.cpu_count() < 2 {
            return;
        }
        if self.shared.clock.is_by_hand() {
            return self.shared.rest(self.cpu, 0);
        }
        self.patience_left -= 1;
        if self.patience_left == 0 {
            self.patience_left = self.patience;
            std::thread::yield_now();
        }
    }

    fn rest(&mut self, limit_ns: u64) {
        if self.shared.clock.is_by_hand() {
            self.shared.rest(self.cpu, limit_ns);
        } else {
            self.shared.clock.sleeps(self.cpu, limit_ns);
            self.attention().sleep(u32::MAX, Duration::from_nanos(limit_ns));
            self.shared.clock.runs(self.cpu);
        }
    }

    fn end_halt(&mut self, apic_id: u32) {
        if let Some(attention) = self.shared.attentions.get(apic_id as usize) {
            self.shared.clock.is_called(apic_id as usize);
            attention.raise(Attention::UNHALT);
        }
    }

    fn stolen_ns(&mut self) -> u64 {
        if self.shared.clock.is_by_hand() {
            return 0;
        }
        self.stolen.at(self.shared.clock.now_ns())
    }

    fn boot_wall_clock_ns(&mut self) -> u64 {
        self.shared.clock.unix_ns_at_start()
    }

    fn random(&mut self) -> u64 {
        split_mix(&mut self.random_state)
    }

    fn set_ferr(&mut self, asserted: bool) {
        lock(&self.shared.board).set_ferr(asserted);
    }

    fn pv_eoi_allowed(&mut self) -> bool {
        let lapic = lock(&self.lapic);
        lapic.highest_in_service().is_some() && !lapic.eoi_is_broadcast()
    }

    fn end_of_interrupt(&mut self) {
        lock(&self.lapic).eoi();
        self.route();
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and good enough to seed a guest's own generator.
pub(super) fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
