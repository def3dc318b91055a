//! INT n, INT3, INTO, INT1, BOUND, UD0 to UD2 (SDM vol. 2; vol. 3, 20.3.3 for virtual-8086 mode).

use super::event::{Event, EventSource};
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::op::Op;
use crate::ops::{Hard, MicroOps};
use crate::state::{SegmentIndex, bits};
use crate::width::{self, W16, W32, Width};
use iced_x86::{Code, Instruction, Mnemonic};

/// Offset in a 32-bit TSS of the I/O permission bitmap's offset; the interrupt redirection map lies below the bitmap.
const IO_MAP_BASE: u64 = 102;
/// Bytes of the interrupt redirection map.
const REDIRECTION_BYTES: u64 = 32;

fn software_interrupt(cpu: &mut Cpu, vector: u8) -> Result<(), Exception> {
    cpu.deliver(Event { vector, error_code: None, source: EventSource::Software, resume: false })
}

/// INT n, which virtual-8086 mode may redirect to the 8086 program's own table.
fn int_n(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let vector = op.immediate as u8;
    if cpu.state.vm86() {
        if cpu.state.cr4 & bits::CR4_VME != 0 && !redirected_to_monitor(cpu, vector)? {
            return vm86_interrupt(cpu, vector);
        }
        if cpu.state.flags.system & bits::RFLAGS_IOPL != bits::RFLAGS_IOPL {
            return Err(Exception::gp(0));
        }
    }
    software_interrupt(cpu, vector)
}

/// Whether the TSS's redirection map sends `vector` to the protected-mode monitor.
fn redirected_to_monitor(cpu: &mut Cpu, vector: u8) -> Result<bool, Exception> {
    let tss = cpu.state.tr;
    if IO_MAP_BASE + 1 > u64::from(tss.limit) {
        return Err(Exception::gp(0));
    }
    let base = u16::from_le_bytes(cpu.read_system(tss.base.wrapping_add(IO_MAP_BASE))?);
    let Some(map) = u64::from(base).checked_sub(REDIRECTION_BYTES) else { return Err(Exception::gp(0)) };
    let at = map + u64::from(vector >> 3);
    if at > u64::from(tss.limit) {
        return Err(Exception::gp(0));
    }
    let [byte] = cpu.read_system(tss.base.wrapping_add(at))?;
    Ok(byte >> (vector & 7) & 1 != 0)
}

/// An interrupt within the 8086 program, as real-address mode does it, with VIF in IF's place below IOPL 3.
fn vm86_interrupt(cpu: &mut Cpu, vector: u8) -> Result<(), Exception> {
    let entry = u32::from_le_bytes(cpu.read_linear(u64::from(vector) * 4)?);
    let iopl3 = cpu.state.flags.system & bits::RFLAGS_IOPL == bits::RFLAGS_IOPL;
    let mut image = cpu.state.flags.get() & 0xffff;
    if !iopl3 {
        image = image & !bits::RFLAGS_IF | bits::RFLAGS_IOPL;
        image |= if cpu.state.flags.system & bits::RFLAGS_VIF != 0 { bits::RFLAGS_IF } else { 0 };
    }
    cpu.push_real_frame_with(image)?;
    let cleared = bits::RFLAGS_TF | if iopl3 { bits::RFLAGS_IF } else { bits::RFLAGS_VIF };
    cpu.state.flags.system &= !cleared;
    cpu.load_real_segment(SegmentIndex::CS, (entry >> 16) as u16);
    cpu.state.set_rip(u64::from(entry & 0xffff));
    cpu.mode_changed();
    Ok(())
}

fn int3(cpu: &mut Cpu, _: &Op) -> Result<(), Exception> {
    software_interrupt(cpu, Exception::BP.vector)
}

fn into(cpu: &mut Cpu, _: &Op) -> Result<(), Exception> {
    if cpu.state.flags.arith.overflow() { software_interrupt(cpu, Exception::OF.vector) } else { Ok(()) }
}

/// INT1 (ICEBP) raises #DB as a trap, without a privilege check and without DR6 bits.
fn int1(cpu: &mut Cpu, _: &Op) -> Result<(), Exception> {
    cpu.pending_exception = Some(Exception::db(0));
    cpu.end_block();
    Ok(())
}

/// BOUND: a signed index within the two bounds in memory, else #BR.
fn bound<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let signed = |value: u64| width::sign_extend::<W>(value) as i64;
    let index = signed(cpu.get::<W>(op.regs[0]));
    let low = signed(cpu.load::<W>(op)?);
    let high = signed(cpu.load_at::<W>(op, W::BYTES)?);
    if index < low || index > high { Err(Exception::BR) } else { Ok(()) }
}

/// The meaning of an instruction of this family.
pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    Some(match instruction.mnemonic() {
        Mnemonic::Int => int_n,
        Mnemonic::Int3 => int3,
        Mnemonic::Into => into,
        Mnemonic::Int1 => int1,
        Mnemonic::Bound if instruction.code() == Code::Bound_r16_m1616 => bound::<W16>,
        Mnemonic::Bound => bound::<W32>,
        Mnemonic::Ud0 | Mnemonic::Ud1 | Mnemonic::Ud2 => |_, _| Err(Exception::UD),
        _ => return None,
    })
}
