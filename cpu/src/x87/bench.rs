//! A processor on a bare machine, for the tests of single instructions.

use crate::cpu::Cpu;
use crate::decode::{Semantics, decode};
use crate::environment::{Environment, Refused};
use crate::exception::Exception;
use crate::features::CpuModel;
use crate::op::reg;
use crate::state::{SegmentIndex, X87, access, bits};
use rx86_softmmu::{Attention, GuestMemory};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where RDI points, for memory operands.
pub(super) const OPERAND_GPA: u64 = 0x1000;
/// Where instructions stand.
pub(super) const CODE_GPA: u64 = 0x2000;

/// A machine with nothing in it but the FERR# line.
struct Nothing {
    ferr: Arc<AtomicBool>,
}

impl Environment for Nothing {
    fn port_read(&mut self, _port: u16, _bytes: u8) -> u32 {
        0
    }
    fn port_write(&mut self, _port: u16, _bytes: u8, _value: u32) {}
    fn mmio_read(&mut self, _gpa: u64, data: &mut [u8]) {
        data.fill(0xff);
    }
    fn mmio_write(&mut self, _gpa: u64, _data: &[u8]) {}
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
    fn set_task_priority(&mut self, _priority: u8) {}
    fn apic_msr_read(&mut self, _msr: u32) -> Result<u64, Refused> {
        Err(Refused)
    }
    fn apic_msr_write(&mut self, _msr: u32, _value: u64) -> Result<(), Refused> {
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
    fn set_ferr(&mut self, asserted: bool) {
        self.ferr.store(asserted, Ordering::Relaxed);
    }
    fn pv_eoi_allowed(&mut self) -> bool {
        false
    }
    fn end_of_interrupt(&mut self) {}
}

/// A processor in flat 64-bit code, paging off, which no real one could be in but which suffices here.
pub(super) fn cpu() -> Cpu {
    cpu_and_ferr().0
}

/// The same, with its FERR# line.
pub(super) fn cpu_and_ferr() -> (Cpu, Arc<AtomicBool>) {
    let ferr = Arc::new(AtomicBool::new(false));
    let memory = GuestMemory::new(0x10000).expect("64 KiB of guest memory");
    let mut cpu =
        Cpu::new(memory, Box::new(Nothing { ferr: ferr.clone() }), CpuModel::default(), Attention::default());
    cpu.state.cr0 = bits::CR0_PE | bits::CR0_NE;
    cpu.state.x87 = X87::default();
    cpu.state.efer = bits::EFER_LMA;
    cpu.state.segments[SegmentIndex::CS].access |= access::LONG;
    cpu.mode_changed();
    cpu.state.regs[usize::from(reg::RDI)] = OPERAND_GPA;
    (cpu, ferr)
}

/// Decodes and executes one instruction.
pub(super) fn run(cpu: &mut Cpu, code: &[u8]) -> Result<(), Exception> {
    cpu.mmu.memory().write(CODE_GPA, code).expect("RAM");
    let decoded = decode::<Cpu>(code, cpu.mode(), &cpu.model).expect("a whole instruction");
    cpu.state.set_rip(CODE_GPA + u64::from(decoded.op.length));
    let meaning = match decoded.semantics {
        Semantics::Inline(meaning) => meaning,
        Semantics::Hard(meaning) => meaning,
    };
    meaning(cpu, &decoded.op)
}
