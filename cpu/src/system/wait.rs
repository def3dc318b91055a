//! WAITPKG: UMONITOR, UMWAIT and TPAUSE (SDM vol. 2).
//!
//! Processors may wake for reasons of their own, and this one does so at once: software has to look for itself anyway,
//! and a vCPU that keeps its host thread sees a store of another one soonest.

use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::op::Op;
use crate::ops::{Hard, MicroOps};
use crate::state::{ArithFlags, bits};
use crate::width::W32;
use iced_x86::{Instruction, Mnemonic};
use rx86_softmmu::Access;

/// The meaning of an instruction of this family.
pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    match instruction.mnemonic() {
        Mnemonic::Umonitor => Some(umonitor),
        Mnemonic::Umwait | Mnemonic::Tpause => Some(wait),
        _ => None,
    }
}

/// UMONITOR faults like a load of one byte.
fn umonitor(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let offset = cpu.state.regs[usize::from(op.regs[0] & 31)] & op.address_mask();
    let linear = cpu.segment_linear(usize::from(op.segment), offset, 1, Access::Read)?;
    cpu.mmu.translate(linear, Access::Read)?;
    Ok(())
}

/// UMWAIT and TPAUSE. CF would tell that the limit in IA32_UMWAIT_CONTROL ended the wait, which ends before; the other
/// status flags are cleared.
fn wait(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    // Bit 0 chooses between two states of sleep.
    if cpu.get::<W32>(op.regs[0]) & !1 != 0 {
        return Err(Exception::gp(0));
    }
    if cpu.state.cr4 & bits::CR4_TSD != 0 {
        cpu.require_cpl0()?;
    }
    cpu.state.flags.arith = ArithFlags::from_rflags(0);
    Ok(())
}
