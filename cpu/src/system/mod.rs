//! System instructions and events: plain functions on `Cpu`.

use crate::backend::ResetKind;
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::features::CpuModel;
use crate::ops::Hard;
use crate::state::Vcpu;
use iced_x86::Instruction;
use rx86_softmmu::Access;

/// The meaning of a system instruction.
pub fn select(_instruction: &Instruction) -> Option<Hard> {
    None
}

impl Vcpu {
    /// State after power-up.
    pub fn power_on(_model: &CpuModel) -> Self {
        panic!()
    }
}

impl Cpu {
    /// CR0, CR3, CR4, EFER or the PDPTEs may have changed: rebuilds the MMU's context.
    pub fn paging_changed(&mut self) {}
    /// Notes data breakpoints that an access touches.
    pub fn data_breakpoints(&mut self, _linear: u64, _bytes: u64, _access: Access) {}
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
    /// Reset.
    pub fn reset(&mut self, _kind: ResetKind) {}
    /// SIPI.
    pub fn start_up(&mut self, _vector: u8) {}
    /// DR7 has an execution breakpoint enabled.
    pub fn code_breakpoints_armed(&self) -> bool {
        false
    }
    /// #DB if an execution breakpoint is at RIP and RF is clear.
    pub fn check_code_breakpoint(&mut self) -> Result<(), Exception> {
        Ok(())
    }
    /// Makes the single-step trap pending.
    pub fn note_single_step(&mut self) {}
    /// RDMSR.
    pub fn read_msr(&mut self, _index: u32) -> Result<u64, Exception> {
        Ok(0)
    }
    /// WRMSR.
    pub fn write_msr(&mut self, _index: u32, _value: u64) -> Result<(), Exception> {
        Ok(())
    }
    /// MOV CR0.
    pub fn write_cr0(&mut self, _value: u64) -> Result<(), Exception> {
        Ok(())
    }
    /// MOV CR3.
    pub fn write_cr3(&mut self, _value: u64) -> Result<(), Exception> {
        Ok(())
    }
    /// MOV CR4.
    pub fn write_cr4(&mut self, _value: u64) -> Result<(), Exception> {
        Ok(())
    }
}
