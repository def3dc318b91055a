//! A processor in 64-bit mode on a board without devices, and how the tests run single instructions on it.

use crate::cpu::Cpu;
use crate::decode::{Semantics, decode};
use crate::environment::{Environment, Refused};
use crate::exception::Exception;
use crate::features::CpuModel;
use crate::op::reg;
use crate::state::{Segment, SegmentIndex, X87, access, bits};
use rx86_softmmu::{Attention, GuestMemory};

/// Where the tests' memory operand lies: a multiple of 64.
pub(super) const BUFFER: u64 = 0x10_000;

struct NoDevices;

impl Environment for NoDevices {
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

/// A processor in 64-bit mode, CPL 0, without paging, with SSE and XSAVE enabled, the x87 initialised; RDI points to the buffer.
pub(super) fn processor() -> Cpu {
    let memory = GuestMemory::new(1 << 20).expect("1 MiB of memory");
    let mut cpu = Cpu::new(memory, Box::new(NoDevices), CpuModel::max(), Attention::default());
    let state = &mut cpu.state;
    state.cr0 = bits::CR0_PE | bits::CR0_NE | bits::CR0_ET;
    state.cr4 |= bits::CR4_OSFXSR | bits::CR4_OSXMMEXCPT | bits::CR4_OSXSAVE;
    state.efer |= bits::EFER_LME | bits::EFER_LMA;
    let flat = Segment { base: 0, limit: u32::MAX, access: 0x9b | access::LONG, selector: 8 };
    state.segments[SegmentIndex::CS] = flat;
    state.xcr0 = 0x203;
    state.x87 = X87::default();
    state.regs[usize::from(reg::RDI)] = BUFFER;
    cpu.paging_changed();
    cpu
}

/// Executes one instruction.
pub(super) fn run(cpu: &mut Cpu, code: &[u8]) -> Result<(), Exception> {
    let decoded = decode::<Cpu>(code, cpu.mode(), &cpu.model).expect("a whole instruction");
    let next = cpu.state.rip().wrapping_add(u64::from(decoded.op.length));
    cpu.state.set_rip(next);
    match decoded.semantics {
        Semantics::Hard(hard) => hard(cpu, &decoded.op),
        Semantics::Inline(meaning) => meaning(cpu, &decoded.op),
    }
}
