//! Model-specific registers: RDMSR, WRMSR and the rules of each register (SDM vol. 4).

mod memory_types;
mod table;
#[cfg(test)]
mod tests;
mod time;

use super::{edx_eax, set_edx_eax};
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::features::Feature;
use crate::op::{Op, reg};
use crate::ops::{Hard, MicroOps};
use crate::state::Vcpu;
use crate::width::W32;
use iced_x86::{Instruction, Mnemonic};

/// What a value must be like to be stored.
#[derive(Clone, Copy)]
enum Rule {
    /// Anything.
    Any,
    /// A canonical linear address.
    Canonical,
    /// Only these bits may be set.
    Bits(u64),
    /// Eight memory types (`true`: PAT's, which include UC-).
    MemoryTypes(bool),
}

/// Reads a register that is not plain storage. The index tells registers of one kind apart.
type Read = fn(&mut Cpu, u32) -> Result<u64, Exception>;
/// Writes a register that is not plain storage.
type Write = fn(&mut Cpu, u32, u64) -> Result<(), Exception>;

/// How a register behaves.
#[derive(Clone, Copy)]
enum Kind {
    /// Reads a fixed value; a write is #GP(0).
    Constant(u64),
    /// Reads a fixed value; writes do nothing.
    Inert(u64),
    /// Storage in the vCPU's state, indexed from the row's first register.
    Stored(fn(&mut Vcpu, usize) -> &mut u64, Rule),
    /// Functions.
    Computed(Read, Write),
}

/// One register, or a range of registers of one kind.
struct Row {
    first: u32,
    last: u32,
    /// The manual's name.
    name: &'static str,
    /// The feature that brings the register.
    needs: Option<Feature>,
    kind: Kind,
}

/// The row of a register that the processor has.
fn find(cpu: &Cpu, index: u32) -> Result<&'static Row, Exception> {
    let after = table::TABLE.partition_point(|row| row.first <= index);
    after
        .checked_sub(1)
        .map(|i| &table::TABLE[i])
        .filter(|row| index <= row.last && row.needs.is_none_or(|feature| cpu.model.has(feature)))
        .ok_or_else(|| {
            tracing::debug!("there is no MSR {index:#x}");
            Exception::gp(0)
        })
}

fn check(cpu: &Cpu, rule: Rule, value: u64) -> Result<(), Exception> {
    let allowed = match rule {
        Rule::Any => true,
        Rule::Canonical => cpu.is_canonical(value),
        Rule::Bits(bits) => value & !bits == 0,
        Rule::MemoryTypes(pat) => value.to_le_bytes().iter().all(|&kind| memory_types::valid(kind, pat)),
    };
    if allowed { Ok(()) } else { Err(Exception::gp(0)) }
}

impl Cpu {
    /// RDMSR at CPL 0. #GP(0) for a register that the processor does not have.
    pub fn read_msr(&mut self, index: u32) -> Result<u64, Exception> {
        let row = find(self, index)?;
        match row.kind {
            Kind::Constant(value) | Kind::Inert(value) => Ok(value),
            Kind::Stored(place, _) => Ok(*place(&mut self.state, (index - row.first) as usize)),
            Kind::Computed(read, _) => read(self, index),
        }
    }

    /// WRMSR at CPL 0. #GP(0) for a register that the processor does not have, or a value that it does not take.
    pub fn write_msr(&mut self, index: u32, value: u64) -> Result<(), Exception> {
        let row = find(self, index)?;
        self.write_row(row, index, value).inspect_err(|_| {
            tracing::debug!("WRMSR of {value:#x} to {} ({index:#x}) refused", row.name);
        })
    }

    fn write_row(&mut self, row: &Row, index: u32, value: u64) -> Result<(), Exception> {
        match row.kind {
            Kind::Constant(_) => Err(Exception::gp(0)),
            Kind::Inert(_) => Ok(()),
            Kind::Stored(place, rule) => {
                check(self, rule, value)?;
                *place(&mut self.state, (index - row.first) as usize) = value;
                Ok(())
            }
            Kind::Computed(_, write) => write(self, index, value),
        }
    }
}

/// The meaning of an instruction of this family.
pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    match instruction.mnemonic() {
        Mnemonic::Rdmsr => Some(rdmsr),
        Mnemonic::Wrmsr => Some(wrmsr),
        _ => None,
    }
}

fn rdmsr(cpu: &mut Cpu, _: &Op) -> Result<(), Exception> {
    cpu.require_cpl0()?;
    let index = cpu.get::<W32>(reg::RCX) as u32;
    let value = cpu.read_msr(index)?;
    set_edx_eax(cpu, value);
    Ok(())
}

fn wrmsr(cpu: &mut Cpu, _: &Op) -> Result<(), Exception> {
    cpu.require_cpl0()?;
    let index = cpu.get::<W32>(reg::RCX) as u32;
    let value = edx_eax(cpu);
    cpu.write_msr(index, value)?;
    cpu.serialize();
    // The local APIC's registers may let an interrupt through.
    cpu.end_block();
    Ok(())
}
