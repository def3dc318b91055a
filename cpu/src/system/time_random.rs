//! The instructions that read counters and the random number generator (SDM vol. 2: RDTSC, RDTSCP, RDPID, RDPMC, RDRAND,
//! RDSEED).

use super::set_edx_eax;
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::op::{Op, reg};
use crate::ops::{Hard, MicroOps};
use crate::state::{ArithFlags, bits};
use crate::width::{W16, W32, W64};
use iced_x86::{Instruction, Mnemonic};

/// The meaning of an instruction of this family.
pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    Some(match instruction.mnemonic() {
        Mnemonic::Rdtsc => rdtsc,
        Mnemonic::Rdtscp => rdtscp,
        Mnemonic::Rdpid => rdpid,
        Mnemonic::Rdpmc => rdpmc,
        Mnemonic::Rdrand | Mnemonic::Rdseed => match instruction.op0_register().size() {
            2 => random16,
            4 => random32,
            _ => random64,
        },
        _ => return None,
    })
}

fn rdtsc(cpu: &mut Cpu, _: &Op) -> Result<(), Exception> {
    if cpu.state.cr4 & bits::CR4_TSD != 0 {
        cpu.require_cpl0()?;
    }
    let tsc = cpu.tsc();
    set_edx_eax(cpu, tsc);
    Ok(())
}

fn rdtscp(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    rdtsc(cpu, op)?;
    let aux = cpu.state.msrs.tsc_aux;
    cpu.put::<W32>(reg::RCX, aux & 0xffff_ffff);
    Ok(())
}

fn rdpid(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let aux = cpu.state.msrs.tsc_aux;
    cpu.put::<W64>(op.regs[0], aux);
    Ok(())
}

/// There is no performance counter to read.
fn rdpmc(_: &mut Cpu, _: &Op) -> Result<(), Exception> {
    Err(Exception::gp(0))
}

/// There always is a random number: CF is set, the other flags are clear.
fn random(cpu: &mut Cpu) -> u64 {
    cpu.state.flags.arith = ArithFlags::from_rflags(bits::RFLAGS_CF);
    cpu.env.random()
}

fn random16(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let value = random(cpu) & 0xffff;
    cpu.put::<W16>(op.regs[0], value);
    Ok(())
}

fn random32(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let value = random(cpu) & 0xffff_ffff;
    cpu.put::<W32>(op.regs[0], value);
    Ok(())
}

fn random64(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let value = random(cpu);
    cpu.put::<W64>(op.regs[0], value);
    Ok(())
}
