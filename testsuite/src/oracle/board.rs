//! A machine with nothing in it, for running single instructions.

use rx86_cpu::environment::{Environment, Refused};

/// No devices, no interrupts; time stands still.
pub struct EmptyBoard;

impl Environment for EmptyBoard {
    fn port_read(&mut self, _: u16, _: u8) -> u32 {
        u32::MAX
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
        None
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
        0
    }
    fn set_task_priority(&mut self, _: u8) {}
    fn apic_msr_read(&mut self, _: u32) -> Result<u64, Refused> {
        Err(Refused)
    }
    fn apic_msr_write(&mut self, _: u32, _: u64) -> Result<(), Refused> {
        Err(Refused)
    }
    fn apic_id(&self) -> u32 {
        0
    }
    fn cpu_count(&self) -> u32 {
        1
    }
    fn tsc(&mut self) -> u64 {
        0
    }
    fn tsc_hz(&self) -> u64 {
        1_000_000_000
    }
    fn now_ns(&mut self) -> u64 {
        0
    }
    fn boot_wall_clock_ns(&mut self) -> u64 {
        0
    }
    fn random(&mut self) -> u64 {
        0
    }
    fn set_ferr(&mut self, _: bool) {}
    fn pv_eoi_allowed(&mut self) -> bool {
        false
    }
    fn end_of_interrupt(&mut self) {}
}
