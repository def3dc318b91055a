//! MOVS, STOS, LODS, SCAS, CMPS, INS, OUTS, with REP prefixes.
//!
//! A repeated instruction works in runs (`crate::runs`): as many elements as lie in the present pages of source and
//! destination. After a bounded number of elements it returns to its own start, so that interrupts are seen.

use super::flags::set_sub;
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::memory::pieces;
use crate::mode::ModeKey;
use crate::op::{AddressForm, Op, op_flags, reg};
use crate::ops::{Hard, MicroOps};
use crate::state::{SegmentIndex, bits};
use crate::width::{W8, W16, W32, W64, Width};
use iced_x86::{Code, Instruction};
use rx86_softmmu::{Access, Attention};

/// Elements after which a repeated instruction lets interrupts in.
const ELEMENTS_PER_TURN: u64 = 4096;

impl Cpu {
    /// RSI, RDI or RCX under the address size.
    fn string_register(&self, register: u8, op: &Op) -> u64 {
        self.state.regs[usize::from(register)] & op.address_mask()
    }

    /// Writes RSI, RDI or RCX under the address size: 16 bits keep the rest, 32 bits clear it.
    fn set_string_register(&mut self, register: u8, op: &Op, value: u64) {
        let slot = &mut self.state.regs[usize::from(register)];
        let mask = op.address_mask();
        *slot = if mask == 0xffff { *slot & !mask | value & mask } else { value & mask };
    }

    /// Bytes from one element to the next.
    fn string_stride(&self, bytes: u64) -> u64 {
        if self.state.flags.system & bits::RFLAGS_DF != 0 { bytes.wrapping_neg() } else { bytes }
    }

    fn advance_string(&mut self, register: u8, op: &Op, distance: u64) {
        let value = self.string_register(register, op).wrapping_add(distance);
        self.set_string_register(register, op, value);
    }

    fn source_linear(&mut self, op: &Op, bytes: u64) -> Result<u64, Exception> {
        let offset = self.string_register(reg::RSI, op);
        self.segment_linear(usize::from(op.segment), offset, bytes, Access::Read)
    }

    fn destination_linear(&mut self, op: &Op, bytes: u64, access: Access) -> Result<u64, Exception> {
        let offset = self.string_register(reg::RDI, op);
        self.segment_linear(SegmentIndex::ES, offset, bytes, access)
    }

    fn load_element<W: Width>(&mut self, linear: u64) -> Result<u64, Exception> {
        Ok(match W::BITS {
            8 => u64::from(u8::from_le_bytes(self.read_linear(linear)?)),
            16 => u64::from(u16::from_le_bytes(self.read_linear(linear)?)),
            32 => u64::from(u32::from_le_bytes(self.read_linear(linear)?)),
            _ => u64::from_le_bytes(self.read_linear(linear)?),
        })
    }

    fn store_element<W: Width>(&mut self, linear: u64, value: u64) -> Result<(), Exception> {
        match W::BITS {
            8 => self.write_linear(linear, (value as u8).to_le_bytes()),
            16 => self.write_linear(linear, (value as u16).to_le_bytes()),
            32 => self.write_linear(linear, (value as u32).to_le_bytes()),
            _ => self.write_linear(linear, value.to_le_bytes()),
        }
    }
}

/// Whether a whole run may be done at once: 64-bit flat addressing, and upward unless `descends`.
fn runs_allowed(cpu: &Cpu, op: &Op, descends: bool) -> bool {
    op.form == AddressForm::Flat && (descends || cpu.state.flags.system & bits::RFLAGS_DF == 0)
}

/// Elements of `bytes` that fit from `linear` to the end of its page.
fn elements_in_page(linear: u64, bytes: u64) -> u64 {
    (4096 - (linear & 0xfff)) / bytes
}

/// Elements of `bytes` that fit from the one at `linear` down to the begin of its page; zero if that one leaves the page.
fn elements_down_in_page(linear: u64, bytes: u64) -> u64 {
    let offset = linear & 0xfff;
    if offset + bytes > 4096 { 0 } else { offset / bytes + 1 }
}

/// A string instruction's one element, and its run of many.
trait Element {
    /// Whether REPE and REPNE look at ZF after each element.
    const COMPARES: bool = false;
    /// Whether `run` looks at the direction.
    const DESCENDS: bool = false;
    fn one<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception>;
    /// Does up to `count` elements at once and returns how many; zero if it cannot.
    fn run<W: Width>(_cpu: &mut Cpu, _op: &Op, _count: u64) -> u64 {
        0
    }
}

struct Movs;
struct Stos;
struct Lods;
struct Scas;
struct Cmps;
struct Ins;
struct Outs;

impl Movs {
    /// `run` towards lower addresses, as Linux moves its compressed kernel.
    fn run_down<W: Width>(cpu: &mut Cpu, op: &Op, count: u64) -> u64 {
        let from = cpu.string_register(reg::RSI, op);
        let to = cpu.string_register(reg::RDI, op);
        let in_pages = elements_down_in_page(from, W::BYTES).min(elements_down_in_page(to, W::BYTES));
        let count = count.min(in_pages);
        // A destination shortly below the source repeats what was just written: only up to there at once.
        let distance = from.wrapping_sub(to);
        let count = if distance < count * W::BYTES { distance / W::BYTES } else { count };
        if count < 2 {
            return 0;
        }
        let bytes = count * W::BYTES;
        let first = bytes - W::BYTES;
        if !cpu.copy_within_pages(from.wrapping_sub(first), to.wrapping_sub(first), bytes, true) {
            return 0;
        }
        cpu.advance_string(reg::RSI, op, bytes.wrapping_neg());
        cpu.advance_string(reg::RDI, op, bytes.wrapping_neg());
        count
    }
}

impl Element for Movs {
    const DESCENDS: bool = true;

    fn one<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
        let from = cpu.source_linear(op, W::BYTES)?;
        // The source faults before the destination is looked at.
        let value = cpu.load_element::<W>(from)?;
        let to = cpu.destination_linear(op, W::BYTES, Access::Write)?;
        cpu.store_element::<W>(to, value)?;
        let stride = cpu.string_stride(W::BYTES);
        cpu.advance_string(reg::RSI, op, stride);
        cpu.advance_string(reg::RDI, op, stride);
        Ok(())
    }

    fn run<W: Width>(cpu: &mut Cpu, op: &Op, count: u64) -> u64 {
        if cpu.state.flags.system & bits::RFLAGS_DF != 0 {
            return Self::run_down::<W>(cpu, op, count);
        }
        let from = cpu.string_register(reg::RSI, op);
        let to = cpu.string_register(reg::RDI, op);
        let count = count.min(elements_in_page(from, W::BYTES)).min(elements_in_page(to, W::BYTES));
        // A destination shortly above the source repeats what was just written: only up to there at once.
        let distance = to.wrapping_sub(from);
        let count = if distance < count * W::BYTES { distance / W::BYTES } else { count };
        let bytes = count * W::BYTES;
        if count < 2 || !cpu.copy_within_pages(from, to, bytes, false) {
            return 0;
        }
        cpu.advance_string(reg::RSI, op, bytes);
        cpu.advance_string(reg::RDI, op, bytes);
        count
    }
}

impl Element for Stos {
    fn one<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
        let to = cpu.destination_linear(op, W::BYTES, Access::Write)?;
        let value = cpu.get::<W>(reg::RAX);
        cpu.store_element::<W>(to, value)?;
        let stride = cpu.string_stride(W::BYTES);
        cpu.advance_string(reg::RDI, op, stride);
        Ok(())
    }

    fn run<W: Width>(cpu: &mut Cpu, op: &Op, count: u64) -> u64 {
        let to = cpu.string_register(reg::RDI, op);
        let count = count.min(elements_in_page(to, W::BYTES));
        let pattern = cpu.get::<W>(reg::RAX);
        if count < 2 || !cpu.fill_within_page::<W>(to, pattern, count) {
            return 0;
        }
        cpu.advance_string(reg::RDI, op, count * W::BYTES);
        count
    }
}

impl Element for Lods {
    fn one<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
        let from = cpu.source_linear(op, W::BYTES)?;
        let value = cpu.load_element::<W>(from)?;
        cpu.put::<W>(reg::RAX, value);
        let stride = cpu.string_stride(W::BYTES);
        cpu.advance_string(reg::RSI, op, stride);
        Ok(())
    }
}

fn set_compare_flags<W: Width>(cpu: &mut Cpu, a: u64, b: u64) {
    let difference = a.wrapping_sub(b) & W::MASK;
    set_sub::<Cpu, W>(cpu, a, b, difference);
}

/// Whether a repeated comparison ends at equal elements (REPNE) or at different ones.
fn stops_when_equal(op: &Op) -> bool {
    !op.has(op_flags::REP)
}

impl Element for Scas {
    const COMPARES: bool = true;
    fn one<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
        let at = cpu.destination_linear(op, W::BYTES, Access::Read)?;
        let value = cpu.load_element::<W>(at)?;
        let accumulator = cpu.get::<W>(reg::RAX);
        set_compare_flags::<W>(cpu, accumulator, value);
        let stride = cpu.string_stride(W::BYTES);
        cpu.advance_string(reg::RDI, op, stride);
        Ok(())
    }

    fn run<W: Width>(cpu: &mut Cpu, op: &Op, count: u64) -> u64 {
        let at = cpu.string_register(reg::RDI, op);
        let count = count.min(elements_in_page(at, W::BYTES));
        let accumulator = cpu.get::<W>(reg::RAX);
        if count < 2 {
            return 0;
        }
        let found = cpu.scan_within_page::<W>(at, accumulator, stops_when_equal(op), count);
        let Some((done, value)) = found else { return 0 };
        set_compare_flags::<W>(cpu, accumulator, value);
        cpu.advance_string(reg::RDI, op, done * W::BYTES);
        done
    }
}

impl Element for Cmps {
    const COMPARES: bool = true;
    fn one<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
        let first = cpu.source_linear(op, W::BYTES)?;
        let a = cpu.load_element::<W>(first)?;
        let second = cpu.destination_linear(op, W::BYTES, Access::Read)?;
        let b = cpu.load_element::<W>(second)?;
        set_compare_flags::<W>(cpu, a, b);
        let stride = cpu.string_stride(W::BYTES);
        cpu.advance_string(reg::RSI, op, stride);
        cpu.advance_string(reg::RDI, op, stride);
        Ok(())
    }

    fn run<W: Width>(cpu: &mut Cpu, op: &Op, count: u64) -> u64 {
        let first = cpu.string_register(reg::RSI, op);
        let second = cpu.string_register(reg::RDI, op);
        let count = count.min(elements_in_page(first, W::BYTES)).min(elements_in_page(second, W::BYTES));
        if count < 2 {
            return 0;
        }
        let found = cpu.compare_within_pages::<W>(first, second, stops_when_equal(op), count);
        let Some((done, a, b)) = found else { return 0 };
        set_compare_flags::<W>(cpu, a, b);
        cpu.advance_string(reg::RSI, op, done * W::BYTES);
        cpu.advance_string(reg::RDI, op, done * W::BYTES);
        done
    }
}

impl Element for Ins {
    fn one<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
        let port = cpu.get::<W16>(reg::RDX) as u16;
        cpu.check_port_permission(port, W::BYTES as u8)?;
        let to = cpu.destination_linear(op, W::BYTES, Access::Write)?;
        // Reading the port may have effects, so the store must not fault after it.
        cpu.probe_write(to, W::BYTES)?;
        let value = cpu.read_port(port, W::BYTES as u8);
        cpu.store_element::<W>(to, u64::from(value))?;
        let stride = cpu.string_stride(W::BYTES);
        cpu.advance_string(reg::RDI, op, stride);
        Ok(())
    }
}

impl Element for Outs {
    fn one<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
        let port = cpu.get::<W16>(reg::RDX) as u16;
        cpu.check_port_permission(port, W::BYTES as u8)?;
        let from = cpu.source_linear(op, W::BYTES)?;
        let value = cpu.load_element::<W>(from)?;
        cpu.write_port(port, W::BYTES as u8, value as u32);
        let stride = cpu.string_stride(W::BYTES);
        cpu.advance_string(reg::RSI, op, stride);
        Ok(())
    }
}

/// Whether something waits that must be looked at before the next element of a repeated instruction. Written code does not
/// count unless it is the instruction itself: which code is cached is the engines' affair, and every engine is to pause at
/// the same element. Nor does the host that wants the machine's attention, at a moment of its own: it can wait for the turn.
fn pauses(cpu: &mut Cpu, op: &Op) -> bool {
    let attention = cpu.attention.peek() & !(Attention::CODE_WRITTEN | Attention::KICK);
    let waits = if attention == Attention::INTERRUPT { cpu.interrupts_open() } else { attention != 0 };
    waits
        || cpu.pending_exception.is_some()
        || cpu.exit.is_some()
        || (cpu.code_map.has_writes() && overwrites_itself(cpu, op))
}

/// Whether one of the last stores has changed the instruction that executes.
#[cold]
fn overwrites_itself(cpu: &mut Cpu, op: &Op) -> bool {
    let start = cpu.instruction_start(op.length);
    let linear = if cpu.mode().has(ModeKey::LONG64) {
        start
    } else {
        u64::from(start.wrapping_add(cpu.state.segments[SegmentIndex::CS].base) as u32)
    };
    pieces(linear, op.length.into()).any(|(at, bytes)| {
        cpu.mmu.translate(at, Access::Fetch).is_ok_and(|target| cpu.code_map.has_write_in(target.gpa, bytes))
    })
}

/// Executes a string instruction, once or repeated.
fn string<E: Element, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    if op.flags & (op_flags::REP | op_flags::REPNE) == 0 {
        return E::one::<W>(cpu, op);
    }
    let runs = runs_allowed(cpu, op, E::DESCENDS);
    // A single step is one iteration (SDM vol. 3, 17.3.1.2).
    let stepped = cpu.state.flags.system & bits::RFLAGS_TF != 0;
    let mut turn = if stepped { 1 } else { ELEMENTS_PER_TURN };
    loop {
        let count = cpu.string_register(reg::RCX, op);
        if count == 0 {
            // A zero count still clears the upper half of RCX under 32-bit addressing.
            cpu.set_string_register(reg::RCX, op, 0);
            return Ok(());
        }
        let done = if runs { E::run::<W>(cpu, op, count.min(turn)) } else { 0 };
        let done = if done == 0 {
            E::one::<W>(cpu, op)?;
            1
        } else {
            done
        };
        cpu.set_string_register(reg::RCX, op, count - done);
        if E::COMPARES && cpu.state.flags.arith.zero() != op.has(op_flags::REP) {
            return Ok(());
        }
        turn = turn.saturating_sub(done);
        let ended = count == done;
        if !ended && (turn == 0 || pauses(cpu, op)) {
            let start = cpu.instruction_start(op.length);
            cpu.state.set_rip(start);
            // What interrupts before the last element pushes RF set (SDM vol. 3, 18.3.1.1).
            cpu.state.flags.system |= bits::RFLAGS_RF;
            cpu.end_block();
            return Ok(());
        }
    }
}

/// The plain function of an instruction of this family.
pub(super) fn select_hard(i: &Instruction) -> Option<Hard> {
    use Code::*;
    Some(match i.code() {
        Movsb_m8_m8 => string::<Movs, W8>,
        Movsw_m16_m16 => string::<Movs, W16>,
        Movsd_m32_m32 => string::<Movs, W32>,
        Movsq_m64_m64 => string::<Movs, W64>,
        Stosb_m8_AL => string::<Stos, W8>,
        Stosw_m16_AX => string::<Stos, W16>,
        Stosd_m32_EAX => string::<Stos, W32>,
        Stosq_m64_RAX => string::<Stos, W64>,
        Lodsb_AL_m8 => string::<Lods, W8>,
        Lodsw_AX_m16 => string::<Lods, W16>,
        Lodsd_EAX_m32 => string::<Lods, W32>,
        Lodsq_RAX_m64 => string::<Lods, W64>,
        Scasb_AL_m8 => string::<Scas, W8>,
        Scasw_AX_m16 => string::<Scas, W16>,
        Scasd_EAX_m32 => string::<Scas, W32>,
        Scasq_RAX_m64 => string::<Scas, W64>,
        Cmpsb_m8_m8 => string::<Cmps, W8>,
        Cmpsw_m16_m16 => string::<Cmps, W16>,
        Cmpsd_m32_m32 => string::<Cmps, W32>,
        Cmpsq_m64_m64 => string::<Cmps, W64>,
        Insb_m8_DX => string::<Ins, W8>,
        Insw_m16_DX => string::<Ins, W16>,
        Insd_m32_DX => string::<Ins, W32>,
        Outsb_DX_m8 => string::<Outs, W8>,
        Outsw_DX_m16 => string::<Outs, W16>,
        Outsd_DX_m32 => string::<Outs, W32>,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use crate::backend::{Exit, X86Ops};
    use crate::bare_board::BareBoard;
    use crate::interp::Interpreter;
    use crate::op::reg;
    use crate::state::{Segment, SegmentIndex};

    /// Runs code at 0x500 in real-address mode to its HLT. Returns how many instructions that took, and CX.
    fn run(code: &[u8]) -> (u64, u64) {
        let mut cpu = BareBoard::default().cpu();
        cpu.mmu.memory().write(0x500, code).unwrap();
        cpu.state.segments = [Segment::real_mode(0); 6];
        cpu.state.segments[SegmentIndex::CS].access = 0x9b;
        cpu.state.regs[usize::from(reg::RSP)] = 0x4000;
        cpu.state.set_rip(0x500);
        cpu.mode_changed();
        let mut engine = Interpreter::new(cpu);
        assert_eq!(engine.run(1000), Exit::Halt);
        (engine.stats().instructions, engine.state().regs[usize::from(reg::RCX)])
    }

    #[test]
    fn a_repeated_store_over_code_is_one_instruction() {
        // CALL 0x530; MOV DI, 0x530; MOV CX, 0x40; REP STOSB; HLT. RET is at 0x530.
        let mut code = b"\xe8\x2d\x00\xbf\x30\x05\xb9\x40\x00\xf3\xaa\xf4".to_vec();
        code.resize(0x31, 0xc3);
        assert_eq!(run(&code), (6, 0));
    }

    #[test]
    fn a_repeated_store_over_itself_is_executed_as_it_has_become() {
        // MOV DI, 0x508; MOV CX, 4; MOV AL, 0x90; REP STOSB, which becomes NOP; STOSB; HLT.
        assert_eq!(run(b"\xbf\x08\x05\xb9\x04\x00\xb0\x90\xf3\xaa\xf4"), (7, 3));
    }
}
