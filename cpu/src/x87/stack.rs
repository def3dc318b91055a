//! The register stack, exceptions and pointers of the x87 (SDM vol. 1, 8.1 and 8.5 to 8.7).

use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::float::status::{BEFORE, C0, C1, C2, C3, EXCEPTIONS, IE};
use crate::float::{F80, Outcome};
use crate::mode::ModeKey;
use crate::op::{Op, op_flags};
use crate::state::{SegmentIndex, X87, bits};

/// Status: stack fault.
pub(super) const SF: u16 = 1 << 6;
/// Status: error summary, an unmasked exception is pending.
pub(super) const ES: u16 = 1 << 7;
/// Status: busy, which since the 387 copies ES.
pub(super) const BUSY: u16 = 1 << 15;
/// Status: all condition codes.
pub(super) const CODES: u16 = C0 | C1 | C2 | C3;
/// Status: the TOP field.
pub(super) const TOP: u16 = 7 << 11;

impl X87 {
    /// The physical register of ST(i).
    fn physical(&self, i: u8) -> usize {
        usize::from((self.status >> 11).wrapping_add(u16::from(i)) & 7)
    }

    /// ST(i), whether or not it is empty.
    pub(super) fn st(&self, i: u8) -> F80 {
        self.regs[self.physical(i)]
    }

    /// Whether ST(i) is tagged empty.
    pub(super) fn is_empty(&self, i: u8) -> bool {
        self.tags >> (2 * self.physical(i)) & 3 == 3
    }

    /// Writes ST(i) and tags it full. The finer classes of tags are found when somebody stores the tag word.
    pub(super) fn set_st(&mut self, i: u8, value: F80) {
        let physical = self.physical(i);
        self.regs[physical] = value;
        self.tags &= !(3 << (2 * physical));
    }

    /// Tags ST(i) empty.
    pub(super) fn free(&mut self, i: u8) {
        self.tags |= 3 << (2 * self.physical(i));
    }

    /// Adds to TOP, modulo 8.
    pub(super) fn rotate(&mut self, by: u16) {
        self.status = self.status & !TOP | (self.status.wrapping_add(by << 11)) & TOP;
    }

    /// Frees ST(0) and increments TOP.
    pub(super) fn pop(&mut self) {
        self.free(0);
        self.rotate(1);
    }

    /// Decrements TOP and writes ST(0).
    pub(super) fn push(&mut self, value: F80) {
        self.rotate(7);
        self.set_st(0, value);
    }

    /// Replaces the bits of `mask` in the condition codes.
    pub(super) fn set_codes(&mut self, mask: u16, codes: u16) {
        self.status = self.status & !mask | codes & mask;
    }

    /// Sets ES and B to what flags and masks say; to be called after status or control were replaced (FXRSTOR, XRSTOR).
    pub fn summarise(&mut self) {
        self.status &= !(ES | BUSY);
        if self.status & !self.control & EXCEPTIONS != 0 {
            self.status |= ES | BUSY;
        }
    }
}

impl Cpu {
    /// What a waiting instruction does first: a pending exception becomes #MF, or FERR# for CR0.NE = 0, where the
    /// instruction then goes on as with IGNNE# asserted (the board's interrupt comes before it if IF is set).
    pub(super) fn x87_wait(&mut self) -> Result<(), Exception> {
        if self.state.x87.status & ES == 0 {
            return Ok(());
        }
        if self.state.cr0 & bits::CR0_NE != 0 {
            return Err(Exception::MF);
        }
        self.env.set_ferr(true);
        Ok(())
    }

    /// What every non-control instruction does once it can no longer fault: notes its address and its operand's.
    pub(super) fn x87_note(&mut self, op: &Op) {
        let mask = if self.mode().has(ModeKey::LONG64) { u64::MAX } else { 0xffff_ffff };
        let operand = self.effective_offset(op) & op.address_mask();
        let start = self.instruction_start(op.length) & mask;
        let code = self.state.segments[SegmentIndex::CS].selector;
        let data = self.state.segments[usize::from(op.segment) % 6].selector;
        let x87 = &mut self.state.x87;
        x87.instruction_pointer = start;
        x87.instruction_selector = code;
        if op.has(op_flags::MEMORY) {
            x87.operand_pointer = operand;
            x87.operand_selector = data;
        }
    }

    /// Notes raised exceptions, and reports an unmasked one.
    pub(super) fn x87_raise(&mut self, op: &Op, flags: u16) {
        let x87 = &mut self.state.x87;
        x87.status |= flags & (EXCEPTIONS | SF);
        if flags & !x87.control & EXCEPTIONS != 0 {
            x87.status |= ES | BUSY;
            self.x87_report(op);
        }
    }

    /// An unmasked exception: as on today's processors only this saves the opcode.
    #[cold]
    fn x87_report(&mut self, op: &Op) {
        let base =
            if self.mode().has(ModeKey::LONG64) { 0 } else { self.state.segments[SegmentIndex::CS].base };
        let start = self.instruction_start(op.length).wrapping_add(base);
        let mut escape = None;
        for i in 0..u64::from(op.length) {
            // The bytes were fetched a moment ago; should they be gone, the opcode stays as it was.
            let Ok([byte]) = self.read_system::<1>(start.wrapping_add(i)) else { break };
            match escape {
                Some(first) => {
                    self.state.x87.opcode = u16::from(first & 7) << 8 | u16::from(byte);
                    break;
                }
                None if byte & 0xf8 == 0xd8 => escape = Some(byte),
                None => {}
            }
        }
        if self.state.cr0 & bits::CR0_NE == 0 {
            self.env.set_ferr(true);
            self.end_block();
        }
    }

    /// Lowers FERR# when no exception is pending any more.
    pub(super) fn x87_settle_ferr(&mut self) {
        self.state.x87.summarise();
        if self.state.x87.status & ES == 0 && self.state.cr0 & bits::CR0_NE == 0 {
            self.env.set_ferr(false);
        }
    }

    /// Takes over an outcome's status (the condition codes in `codes` and the exceptions). `false`: an unmasked
    /// exception found before computing leaves the destination alone.
    pub(super) fn x87_settle(&mut self, op: &Op, status: u16, codes: u16) -> bool {
        let delivers = status & !self.state.x87.control & BEFORE == 0;
        self.state.x87.set_codes(codes | C1, status);
        self.x87_raise(op, status);
        delivers
    }

    /// A stack underflow. `true`: it is masked, and the instruction goes on with its default response.
    pub(super) fn x87_underflow(&mut self, op: &Op) -> bool {
        self.state.x87.set_codes(C1, 0);
        self.x87_raise(op, IE | SF);
        self.state.x87.control & IE != 0
    }

    /// A stack overflow. `true`: it is masked, and the instruction goes on with its default response.
    pub(super) fn x87_overflow(&mut self, op: &Op) -> bool {
        self.state.x87.set_codes(C1, C1);
        self.x87_raise(op, IE | SF);
        self.state.x87.control & IE != 0
    }

    /// Pushes a value, or the default response to a full stack.
    pub(super) fn x87_push(&mut self, op: &Op, value: F80) {
        if self.state.x87.is_empty(7) {
            self.state.x87.push(value);
        } else if self.x87_overflow(op) {
            self.state.x87.push(F80::INDEFINITE);
        }
    }

    /// Settles an outcome and writes it to ST(i). `false`: it was not delivered.
    pub(super) fn x87_deliver(&mut self, op: &Op, i: u8, outcome: Outcome<F80>) -> bool {
        let delivers = self.x87_settle(op, outcome.status, 0);
        if delivers {
            self.state.x87.set_st(i, outcome.value);
        }
        delivers
    }
}
