//! Loading segment registers: MOV, POP, LDS and its kin (SDM vol. 3, 5.5 to 5.7; vol. 2, MOV).

use super::descriptor::{Descriptor, is_null, selector_error};
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::mode::ModeKey;
use crate::op::{Op, op_flags};
use crate::ops::{Hard, MicroOps};
use crate::state::{Segment, SegmentIndex, access};
use crate::width::{W16, W32, W64, Width};
use iced_x86::{Code, Instruction};

/// Access rights of every segment in virtual-8086 mode: present, DPL 3, writable data, accessed.
const VM86_ACCESS: u32 = 0xf3;

impl Cpu {
    /// Loads ES, SS, DS, FS or GS (an index into `Vcpu::segments`) with all checks.
    pub(super) fn load_segment(&mut self, index: usize, selector: u16) -> Result<(), Exception> {
        if !self.state.protected() {
            self.load_real_segment(index, selector);
            return Ok(());
        }
        let segment = if index == SegmentIndex::SS {
            self.stack_segment(selector, self.state.cpl)?
        } else {
            self.data_segment(selector)?
        };
        self.state.segments[index] = segment;
        if index == SegmentIndex::SS {
            self.mode_changed();
        }
        Ok(())
    }

    /// Real-address mode changes the base only, so that limits loaded in protected mode stay ("unreal mode").
    pub(super) fn load_real_segment(&mut self, index: usize, selector: u16) {
        let vm86 = self.state.vm86();
        let segment = &mut self.state.segments[index];
        if segment.unusable() {
            // A null selector's limit of zero must not outlive protected mode.
            *segment = Segment::real_mode(selector);
        }
        segment.selector = selector;
        segment.base = u64::from(selector) << 4;
        if vm86 {
            segment.limit = 0xffff;
            segment.access = VM86_ACCESS;
        }
    }

    /// What DS, ES, FS or GS becomes.
    fn data_segment(&mut self, selector: u16) -> Result<Segment, Exception> {
        if is_null(selector) {
            return Ok(Segment { base: 0, limit: 0, access: access::UNUSABLE, selector });
        }
        let mut descriptor = self.read_descriptor(selector)?;
        let error = selector_error(selector);
        let rpl = (selector & 3) as u8;
        let too_private = rpl > descriptor.dpl() || self.state.cpl > descriptor.dpl();
        if !descriptor.is_readable() || (!descriptor.is_conforming() && too_private) {
            return Err(Exception::gp(error));
        }
        if !descriptor.is_present() {
            return Err(Exception::np(error));
        }
        self.mark_accessed(&mut descriptor)?;
        Ok(descriptor.segment(selector))
    }

    /// What SS becomes for code at `cpl`.
    pub(super) fn stack_segment(&mut self, selector: u16, cpl: u8) -> Result<Segment, Exception> {
        if is_null(selector) {
            let rpl = (selector & 3) as u8;
            if self.mode().has(ModeKey::LONG64) && cpl != 3 && rpl == cpl {
                return Ok(null_stack_segment(selector, cpl));
            }
            return Err(Exception::gp(0));
        }
        let mut descriptor = self.read_descriptor(selector)?;
        check_stack(&descriptor, selector, cpl, Exception::gp)?;
        self.mark_accessed(&mut descriptor)?;
        Ok(descriptor.segment(selector))
    }

    /// SS for an inner stack in a legacy task-state segment: every failure but absence is #TS.
    pub(super) fn inner_stack_segment(&mut self, selector: u16, cpl: u8) -> Result<Segment, Exception> {
        if is_null(selector) {
            return Err(Exception::ts(0));
        }
        let mut descriptor = self.read_descriptor_or(selector, Exception::ts)?;
        check_stack(&descriptor, selector, cpl, Exception::ts)?;
        self.mark_accessed(&mut descriptor)?;
        Ok(descriptor.segment(selector))
    }

    /// After a return to an outer privilege level, data segments that it may not use become null (SDM vol. 2, IRET, RET).
    pub(super) fn drop_inner_segments(&mut self) {
        let cpl = self.state.cpl;
        for index in [SegmentIndex::ES, SegmentIndex::DS, SegmentIndex::FS, SegmentIndex::GS] {
            let segment = &mut self.state.segments[index];
            let conforming_code = segment.is_code() && segment.access & access::EXPAND_DOWN != 0;
            if segment.unusable() || (!conforming_code && segment.dpl() < cpl) {
                *segment = Segment { base: segment.base, limit: 0, access: access::UNUSABLE, selector: 0 };
            }
        }
    }
}

/// A null SS, as 64-bit mode allows below CPL 3; its DPL still says the CPL.
pub(super) fn null_stack_segment(selector: u16, cpl: u8) -> Segment {
    Segment { base: 0, limit: 0, access: access::UNUSABLE | u32::from(cpl) << 5, selector }
}

fn check_stack(
    descriptor: &Descriptor,
    selector: u16,
    cpl: u8,
    fault: fn(u32) -> Exception,
) -> Result<(), Exception> {
    let error = selector_error(selector);
    let rpl = (selector & 3) as u8;
    if rpl != cpl || descriptor.dpl() != cpl || !descriptor.is_writable_data() {
        return Err(fault(error));
    }
    if !descriptor.is_present() {
        return Err(Exception::ss(error));
    }
    Ok(())
}

/// MOV to a segment register; CS is #UD.
fn mov_to_segment(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let index = usize::from(op.regs[0]);
    if index == SegmentIndex::CS || index > SegmentIndex::GS {
        return Err(Exception::UD);
    }
    let selector = if op.has(op_flags::MEMORY) { cpu.load::<W16>(op)? } else { cpu.get::<W16>(op.regs[1]) };
    cpu.load_segment(index, selector as u16)?;
    if index == SegmentIndex::SS {
        shadow_after_stack_load(cpu);
    }
    Ok(())
}

/// Loading SS holds interrupts and debug traps off for one instruction.
fn shadow_after_stack_load(cpu: &mut Cpu) {
    cpu.state.mov_ss_shadow = true;
    cpu.end_block();
}

/// MOV from a segment register: memory takes 16 bits, a register is zero-extended.
fn mov_from_segment(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let Some(segment) = cpu.state.segments.get(usize::from(op.regs[1])) else { return Err(Exception::UD) };
    let selector = u64::from(segment.selector);
    if op.has(op_flags::MEMORY) {
        return cpu.store::<W16>(op, selector);
    }
    match op.operand_bits() {
        16 => cpu.put::<W16>(op.regs[0], selector),
        _ => cpu.put::<W64>(op.regs[0], selector),
    }
    Ok(())
}

/// Which segment register a PUSH or POP code names.
fn stacked_segment(op: &Op) -> usize {
    usize::from(op.regs[0])
}

/// PUSH of a segment register, zero-extended to the operand size (the SDM allows writing only 16 bits of a 32-bit slot).
fn push_segment<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let selector = u64::from(cpu.state.segments[stacked_segment(op).min(5)].selector);
    cpu.push::<W>(op, selector)
}

fn pop_segment<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let index = stacked_segment(op).min(5);
    let selector = cpu.peek_stack::<W>(op)? as u16;
    // The stack pointer moves under the old SS's address size.
    let mask = cpu.stack_mask();
    cpu.load_segment(index, selector)?;
    let rsp = cpu.state.regs[usize::from(crate::op::reg::RSP)];
    let new = rsp.wrapping_add(W::BYTES);
    cpu.state.regs[usize::from(crate::op::reg::RSP)] =
        if mask == 0xffff { rsp & !mask | new & mask } else { new & mask };
    if index == SegmentIndex::SS {
        shadow_after_stack_load(cpu);
    }
    Ok(())
}

/// LDS, LES, LFS, LGS, LSS: an offset and a selector from memory.
fn load_far_pointer<W: Width>(cpu: &mut Cpu, op: &Op, index: usize) -> Result<(), Exception> {
    let offset = cpu.load::<W>(op)?;
    let selector = cpu.load_at::<W16>(op, W::BYTES)?;
    cpu.load_segment(index, selector as u16)?;
    cpu.put::<W>(op.regs[0], offset);
    Ok(())
}

/// The meaning of an instruction of this family.
pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    use Code::*;
    use SegmentIndex as S;
    Some(match instruction.code() {
        Mov_Sreg_rm16 | Mov_Sreg_r32m16 | Mov_Sreg_r64m16 => mov_to_segment,
        Mov_rm16_Sreg | Mov_r32m16_Sreg | Mov_r64m16_Sreg => mov_from_segment,
        Pushw_ES | Pushw_CS | Pushw_SS | Pushw_DS | Pushw_FS | Pushw_GS => push_segment::<W16>,
        Pushd_ES | Pushd_CS | Pushd_SS | Pushd_DS | Pushd_FS | Pushd_GS => push_segment::<W32>,
        Pushq_FS | Pushq_GS => push_segment::<W64>,
        Popw_ES | Popw_SS | Popw_DS | Popw_FS | Popw_GS => pop_segment::<W16>,
        Popd_ES | Popd_SS | Popd_DS | Popd_FS | Popd_GS => pop_segment::<W32>,
        Popq_FS | Popq_GS => pop_segment::<W64>,
        Les_r16_m1616 => |cpu, op| load_far_pointer::<W16>(cpu, op, S::ES),
        Les_r32_m1632 => |cpu, op| load_far_pointer::<W32>(cpu, op, S::ES),
        Lds_r16_m1616 => |cpu, op| load_far_pointer::<W16>(cpu, op, S::DS),
        Lds_r32_m1632 => |cpu, op| load_far_pointer::<W32>(cpu, op, S::DS),
        Lss_r16_m1616 => |cpu, op| load_far_pointer::<W16>(cpu, op, S::SS),
        Lss_r32_m1632 => |cpu, op| load_far_pointer::<W32>(cpu, op, S::SS),
        Lss_r64_m1664 => |cpu, op| load_far_pointer::<W64>(cpu, op, S::SS),
        Lfs_r16_m1616 => |cpu, op| load_far_pointer::<W16>(cpu, op, S::FS),
        Lfs_r32_m1632 => |cpu, op| load_far_pointer::<W32>(cpu, op, S::FS),
        Lfs_r64_m1664 => |cpu, op| load_far_pointer::<W64>(cpu, op, S::FS),
        Lgs_r16_m1616 => |cpu, op| load_far_pointer::<W16>(cpu, op, S::GS),
        Lgs_r32_m1632 => |cpu, op| load_far_pointer::<W32>(cpu, op, S::GS),
        Lgs_r64_m1664 => |cpu, op| load_far_pointer::<W64>(cpu, op, S::GS),
        _ => return None,
    })
}
