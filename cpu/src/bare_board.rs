//! A board with nothing on it: time stands still, and the local APIC is a few fields. Tests of single instructions run
//! on it, and tools that execute code without a machine.

use crate::cpu::Cpu;
use crate::environment::{Environment, Refused};
use crate::features::CpuModel;
use rx86_softmmu::{Attention, GuestMemory};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// The counter's rate on this board.
pub const TSC_HZ: u64 = 2_500_000_000;
/// The counter's value.
pub const TSC: u64 = 1_000_000;
/// The time since switch-on.
pub const NOW_NS: u64 = 400_000;
/// Nanoseconds since 1970 at switch-on.
pub const BOOT_NS: u64 = 1_700_000_000_123_456_789;

/// The board; this processor has the last APIC id of `cpus`.
#[derive(Clone, Default)]
pub struct BareBoard {
    /// How many processors CPUID tells of; zero counts as one.
    pub cpus: u32,
    /// CR8.
    pub priority: u8,
    /// Interrupts that were ended on the guest's behalf.
    pub ended: Arc<AtomicU32>,
    /// The FERR# line.
    pub ferr: Arc<AtomicBool>,
    /// How often the processor gave the host CPU away to wait.
    pub rests: Arc<AtomicU32>,
    /// The APIC id of the last halt that was ended by hypercall.
    pub unhalted: Arc<AtomicU32>,
    /// Stolen nanoseconds.
    pub stolen: Arc<AtomicU32>,
    /// The vector of every external interrupt; who wants one raises attention.
    pub interrupt: Option<u8>,
}

impl BareBoard {
    /// A processor of the largest model on this board, with 2 MiB of memory, in its power-on state.
    pub fn cpu(self) -> Cpu {
        let memory = GuestMemory::new(2 << 20).expect("2 MiB of memory");
        Cpu::new(memory, Box::new(self), CpuModel::max(), Attention::default())
    }
}

impl Environment for BareBoard {
    fn port_read(&mut self, _: u16, _: u8) -> u32 {
        0
    }
    fn port_write(&mut self, _: u16, _: u8, _: u32) {}
    fn mmio_read(&mut self, _: u64, data: &mut [u8]) {
        data.fill(0xff);
    }
    fn mmio_write(&mut self, _: u64, _: &[u8]) {}
    fn interrupt_pending(&mut self) -> bool {
        false
    }
    fn acknowledge_interrupt(&mut self) -> Option<u8> {
        self.interrupt
    }
    fn take_nmi(&mut self) -> bool {
        false
    }
    fn take_init(&mut self) -> bool {
        false
    }
    fn take_sipi(&mut self) -> Option<u8> {
        None
    }
    fn task_priority(&mut self) -> u8 {
        self.priority
    }
    fn set_task_priority(&mut self, priority: u8) {
        self.priority = priority;
    }
    fn apic_msr_read(&mut self, msr: u32) -> Result<u64, Refused> {
        if msr == 0x1b { Ok(0xfee0_0900) } else { Err(Refused) }
    }
    fn apic_msr_write(&mut self, _: u32, _: u64) -> Result<(), Refused> {
        Err(Refused)
    }
    fn apic_id(&self) -> u32 {
        self.cpu_count() - 1
    }
    fn cpu_count(&self) -> u32 {
        self.cpus.max(1)
    }
    fn tsc(&mut self) -> u64 {
        TSC
    }
    fn tsc_hz(&self) -> u64 {
        TSC_HZ
    }
    fn now_ns(&mut self) -> u64 {
        NOW_NS
    }
    fn rest(&mut self, _: u64) {
        self.rests.fetch_add(1, Ordering::Relaxed);
    }
    fn end_halt(&mut self, apic_id: u32) {
        self.unhalted.store(apic_id, Ordering::Relaxed);
    }
    fn stolen_ns(&mut self) -> u64 {
        self.stolen.load(Ordering::Relaxed).into()
    }
    fn boot_wall_clock_ns(&mut self) -> u64 {
        BOOT_NS
    }
    fn random(&mut self) -> u64 {
        0x0123_4567_89ab_cdef
    }
    fn set_ferr(&mut self, asserted: bool) {
        self.ferr.store(asserted, Ordering::Relaxed);
    }
    fn pv_eoi_allowed(&mut self) -> bool {
        true
    }
    fn end_of_interrupt(&mut self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }
}
