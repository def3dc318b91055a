//! The board and a vCPU's local APIC as that vCPU sees them.

use super::clock::{GuestClock, TSC_HZ};
use rx86_cpu::environment::{Environment, Refused};
use rx86_devices::lapic::LocalApic;
use rx86_devices::{Board, BoardRequest, Clock};
use rx86_softmmu::Attention;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const LAPIC_BYTES: u64 = 0x1000;
/// The local APIC's memory-mapped registers are 32 bits wide.
const REGISTER_BYTES: usize = 4;

/// What the guest has asked of the machine and the machine has not yet done.
pub(super) type Request = Arc<Mutex<Option<BoardRequest>>>;

/// One vCPU's view of the machine.
pub(super) struct VcpuEnvironment {
    board: Arc<Mutex<Board>>,
    lapic: Arc<Mutex<LocalApic>>,
    clock: Arc<GuestClock>,
    cpu: usize,
    cpu_count: u32,
    attention: Attention,
    request: Request,
    /// The A20 gate as the machine last saw it.
    a20: bool,
    random_state: u64,
    nmi: bool,
    init: bool,
    sipi: Option<u8>,
    /// External interrupts wait while it is set.
    interrupts_held: Arc<AtomicBool>,
}

/// A thread that panicked with a lock held has ended the machine anyway.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl VcpuEnvironment {
    pub(super) fn new(
        board: Arc<Mutex<Board>>,
        clock: Arc<GuestClock>,
        attention: Attention,
        request: Request,
        (cpu, cpu_count): (usize, u32),
        seed: u64,
        interrupts_held: Arc<AtomicBool>,
    ) -> Self {
        let (lapic, a20) = {
            let board = lock(&board);
            (board.lapic(cpu), board.a20())
        };
        let random_state = seed.wrapping_add(cpu as u64);
        Self {
            a20,
            board,
            lapic,
            clock,
            cpu,
            cpu_count,
            attention,
            request,
            random_state,
            nmi: false,
            init: false,
            sipi: None,
            interrupts_held,
        }
    }

    /// The offset of `gpa` in the local APIC's registers, if it is there.
    fn lapic_offset(&self, gpa: u64) -> Option<u64> {
        let offset = gpa.checked_sub(lock(&self.lapic).base_address()?)?;
        (offset < LAPIC_BYTES).then_some(offset)
    }

    /// Carries what the local APIC sent to the rest of the board.
    fn route(&self) {
        lock(&self.board).after_lapic_access(self.cpu);
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
        lock(&self.board).port_read(port, bytes)
    }

    fn port_write(&mut self, port: u16, bytes: u8, value: u32) {
        let mut board = lock(&self.board);
        board.port_write(port, bytes, value);
        let request = board.take_request();
        let a20 = board.a20();
        drop(board);
        if request.is_some() || a20 != self.a20 {
            // The instruction behind this one must not run before the machine has acted.
            self.a20 = a20;
            if request.is_some() {
                *lock(&self.request) = request;
            }
            self.attention.raise(Attention::KICK);
        }
    }

    fn mmio_read(&mut self, gpa: u64, data: &mut [u8]) {
        let Some(offset) = self.lapic_offset(gpa) else { return lock(&self.board).mmio_read(gpa, data) };
        let register = lock(&self.lapic).mmio_read(offset & !3).to_le_bytes();
        let start = offset as usize & (REGISTER_BYTES - 1);
        for (i, byte) in data.iter_mut().enumerate() {
            *byte = register.get(start + i).copied().unwrap_or(0);
        }
        self.route();
    }

    fn mmio_write(&mut self, gpa: u64, data: &[u8]) {
        let Some(offset) = self.lapic_offset(gpa) else { return lock(&self.board).mmio_write(gpa, data) };
        // Registers take aligned 32-bit writes; what other writes do is undefined (SDM vol. 3, 10.4.1).
        let mut register = [0; REGISTER_BYTES];
        let count = data.len().min(REGISTER_BYTES);
        register[..count].copy_from_slice(&data[..count]);
        lock(&self.lapic).mmio_write(offset & !3, u32::from_le_bytes(register));
        self.route();
    }

    fn interrupt_pending(&mut self) -> bool {
        !self.interrupts_held.load(Ordering::Relaxed) && lock(&self.board).pending(self.cpu)
    }

    fn acknowledge_interrupt(&mut self) -> Option<u8> {
        if self.interrupts_held.load(Ordering::Relaxed) {
            return None;
        }
        lock(&self.board).acknowledge(self.cpu)
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
        self.route();
        outcome
    }

    fn apic_id(&self) -> u32 {
        self.cpu as u32
    }

    fn cpu_count(&self) -> u32 {
        self.cpu_count
    }

    fn tsc(&mut self) -> u64 {
        self.clock.now_ns()
    }

    fn tsc_hz(&self) -> u64 {
        TSC_HZ
    }

    fn now_ns(&mut self) -> u64 {
        self.clock.now_ns()
    }

    fn boot_wall_clock_ns(&mut self) -> u64 {
        self.clock.unix_ns_at_start()
    }

    fn random(&mut self) -> u64 {
        split_mix(&mut self.random_state)
    }

    fn set_ferr(&mut self, asserted: bool) {
        lock(&self.board).set_ferr(asserted);
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
