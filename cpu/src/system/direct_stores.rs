//! Direct stores: MOVDIRI and MOVDIR64B (SDM vol. 2). Memory has no caches that they could bypass.

use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::op::Op;
use crate::ops::{Hard, MicroOps};
use crate::state::SegmentIndex;
use crate::width::{W32, W64, Width};
use iced_x86::{Code, Instruction};
use rx86_softmmu::Access;

/// The meaning of an instruction of this family.
pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    Some(match instruction.code() {
        Code::Movdiri_m32_r32 => movdiri::<W32>,
        Code::Movdiri_m64_r64 => movdiri::<W64>,
        Code::Movdir64b_r16_m512 | Code::Movdir64b_r32_m512 | Code::Movdir64b_r64_m512 => movdir64b,
        _ => return None,
    })
}

fn movdiri<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let value = cpu.get::<W>(op.regs[1]);
    cpu.store::<W>(op, value)
}

/// Moves 64 bytes from anywhere to a multiple of 64 in ES, which no prefix overrides.
fn movdir64b(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let source = cpu.operand_linear(op, 64, Access::Read)?;
    let data: [u8; 64] = cpu.read_operand(op, source)?;
    let offset = cpu.state.regs[usize::from(op.regs[0] & 31)] & op.address_mask();
    let target = cpu.segment_linear(SegmentIndex::ES, offset, 64, Access::Write)?;
    if target & 63 != 0 {
        return Err(Exception::gp(0));
    }
    cpu.write_linear(target, data)
}
