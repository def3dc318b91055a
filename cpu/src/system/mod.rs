//! System instructions and events: plain functions on `Cpu`.

mod bases;
mod caches;
mod control;
mod control_moves;
#[cfg(test)]
mod control_tests;
mod cpuid;
mod debug;
#[cfg(test)]
mod debug_tests;
mod idle;
mod msr;
mod pv;
mod reset;
#[cfg(test)]
mod test_board;
mod time_random;
mod translations;

pub use cpuid::CpuidResult;

use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::op::reg;
use crate::ops::{Hard, MicroOps};
use crate::width::W32;
use iced_x86::Instruction;

/// The meaning of a system instruction: each family is asked.
pub fn select(instruction: &Instruction) -> Option<Hard> {
    control_moves::select(instruction)
        .or_else(|| bases::select(instruction))
        .or_else(|| caches::select(instruction))
        .or_else(|| cpuid::select(instruction))
        .or_else(|| debug::select(instruction))
        .or_else(|| idle::select(instruction))
        .or_else(|| msr::select(instruction))
        .or_else(|| pv::select(instruction))
        .or_else(|| time_random::select(instruction))
        .or_else(|| translations::select(instruction))
}

/// EDX:EAX.
fn edx_eax(cpu: &mut Cpu) -> u64 {
    cpu.get::<W32>(reg::RDX) << 32 | cpu.get::<W32>(reg::RAX)
}

/// Sets EDX and EAX, and clears the upper halves of RDX and RAX.
fn set_edx_eax(cpu: &mut Cpu, value: u64) {
    cpu.put::<W32>(reg::RAX, value & 0xffff_ffff);
    cpu.put::<W32>(reg::RDX, value >> 32);
}

impl Cpu {
    /// Delivers an exception; a double fault or shutdown if that faults.
    pub fn deliver_exception(&mut self, _exception: Exception) {}
    /// Delivers an external interrupt.
    pub fn deliver_interrupt(&mut self, _vector: u8) {}
    /// Delivers an NMI.
    pub fn deliver_nmi(&mut self) {}
    /// IF set and no shadow.
    pub fn interrupts_open(&self) -> bool {
        false
    }
    /// No NMI blocking and no shadow.
    pub fn nmi_open(&self) -> bool {
        false
    }
}
