//! Vector instructions as host code: VEX prefixes (SDM vol. 2, 2.3.5), and what the emitter does with vectors.

use super::assembler::*;
use super::emit::{Emitter, Here};
use super::encoding::{self, Encoding, Form};
use super::ir::{Listing, NONE, Opcode, Operation, Value};
use super::registers::{OutOfPlaces, TEMPORARY};
use super::stubs::Stub;

impl Assembler {
    fn vex_prefix(&mut self, encoding: Encoding, reg: Reg, operand: Reg, rm: Reg) {
        self.byte(0xc4);
        self.byte((!reg >> 3 & 1) << 7 | 1 << 6 | (!rm >> 3 & 1) << 5 | encoding.map);
        self.byte(u8::from(encoding.wide) << 7 | (!operand & 15) << 3 | encoding.prefix);
        self.byte(encoding.opcode);
    }

    /// An instruction of registers. An operand that it does not have is zero.
    pub(super) fn vector(&mut self, encoding: Encoding, to: Reg, a: Reg, b: Reg) {
        let (reg, operand, rm) = match encoding.form {
            Form::Plain => (to, a, b),
            Form::Reversed => (b, 0, to),
            Form::Group(number) => (number, to, b),
        };
        self.vex_prefix(encoding, reg, operand, rm);
        self.registers(reg, rm);
        if let Some(immediate) = encoding.immediate {
            self.byte(immediate);
        }
    }

    /// Loads `bits` bits and clears what is above.
    pub(super) fn load_vector(&mut self, bits: u32, to: Reg, base: Reg, displacement: i32) {
        self.vex_prefix(encoding::movement(bits, false), to, 0, base);
        self.based(to, base, displacement);
    }

    /// Stores the low `bits` bits.
    pub(super) fn store_vector(&mut self, bits: u32, base: Reg, displacement: i32, from: Reg) {
        self.vex_prefix(encoding::movement(bits, true), from, 0, base);
        self.based(from, base, displacement);
    }
}

impl Emitter {
    /// Makes MXCSR the guest's, or leaves before the node's first instruction.
    pub(super) fn require_mxcsr(&mut self, listing: &Listing) {
        let (label, back) = (self.asm.label(), self.asm.label());
        let exit = self.exit(listing, 0);
        self.stubs.check_mxcsr(&mut self.asm, label);
        self.asm.bind(back);
        self.stubs.add(Stub::LoadMxcsr { label, back, exit });
    }

    /// The register of an operand; zero for none.
    fn operand_or_none(&mut self, here: &mut Here<'_>, value: Value) -> Result<Reg, OutOfPlaces> {
        if value == NONE { Ok(0) } else { self.operand(here, value) }
    }

    /// A register for the result, which may be that of an operand of its kind.
    fn result(&mut self, here: &mut Here<'_>, [a, b]: [Value; 2]) -> Result<Reg, OutOfPlaces> {
        for operand in [a, b] {
            if self.is_last_use(here, operand)
                && let Some(reg) = self.registers.hand_over(operand, here.at)
            {
                return Ok(reg);
            }
        }
        self.fresh(here)
    }

    pub(super) fn vector_operation(
        &mut self,
        here: &mut Here<'_>,
        operation: &Operation,
    ) -> Result<(), OutOfPlaces> {
        let Operation { opcode, width, a, b, c, constant, .. } = *operation;
        match opcode {
            Opcode::VectorZero => {
                let to = self.fresh(here)?;
                self.asm.vector(encoding::XOR, to, to, to);
            }
            Opcode::VectorLoad => {
                let host = self.operand(here, a)?;
                let to = self.fresh(here)?;
                self.asm.load_vector(width.into(), to, host, constant as i32);
            }
            Opcode::VectorStore => {
                let (host, from) = (self.operand(here, a)?, self.operand(here, b)?);
                self.asm.store_vector(width.into(), host, constant as i32, from);
            }
            Opcode::Vector => {
                let (first, second) = (self.operand_or_none(here, a)?, self.operand(here, b)?);
                let to = self.result(here, [a, b])?;
                self.asm.vector(Encoding::decode(constant), to, first, second);
            }
            Opcode::Fused => {
                let (first, second) = (self.operand(here, a)?, self.operand(here, b)?);
                let addend = self.operand(here, c)?;
                let to = self.result(here, [c, NONE])?;
                if to != addend {
                    self.asm.vector(encoding::COPY, to, 0, addend);
                }
                self.asm.vector(Encoding::decode(constant), to, first, second);
            }
            Opcode::VectorOfInt => self.vector_of_int(here, operation)?,
            Opcode::IntOfVector => {
                let from = self.operand(here, a)?;
                let to = self.fresh(here)?;
                self.asm.vector(Encoding::decode(constant), to, 0, from);
            }
            Opcode::Order => self.order(here, operation)?,
            Opcode::Aligned => {
                let linear = self.operand(here, a)?;
                let exit = self.exit(here.listing, c);
                self.asm.test_low(linear, constant as u8);
                self.asm.jump_if(condition::NOT_EQUAL, exit);
            }
            _ => unreachable!("not an operation on vectors"),
        }
        Ok(())
    }

    fn vector_of_int(&mut self, here: &mut Here<'_>, operation: &Operation) -> Result<(), OutOfPlaces> {
        let Operation { a, b, constant, .. } = *operation;
        let encoding = Encoding::decode(constant);
        let (first, from) = (self.operand_or_none(here, a)?, self.operand(here, b)?);
        let to = self.result(here, [a, NONE])?;
        if encoding.floating {
            // The bits above the number are the first operand's: not those of what was there by chance, to wait for.
            self.asm.vector(encoding::XOR, to, to, to);
        }
        self.asm.vector(encoding, to, if encoding.floating { to } else { first }, from);
        Ok(())
    }

    /// CF, not ZF and not PF of a comparison, as bits 0 to 2.
    fn order(&mut self, here: &mut Here<'_>, operation: &Operation) -> Result<(), OutOfPlaces> {
        let (a, b) = (self.operand(here, operation.a)?, self.operand(here, operation.b)?);
        let to = self.fresh(here)?;
        self.asm.vector(Encoding::decode(operation.constant), a, 0, b);
        self.asm.set(condition::BELOW, to);
        self.asm.set(condition::NOT_EQUAL, TEMPORARY);
        self.asm.lea_indexed(to, to, TEMPORARY, 1, 0);
        self.asm.set(condition::NO_PARITY, TEMPORARY);
        self.asm.lea_indexed(to, to, TEMPORARY, 2, 0);
        Ok(())
    }
}
