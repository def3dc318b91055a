//! SYSCALL, SYSRET, SYSENTER, SYSEXIT (SDM vol. 2; vol. 3, 5.8.7 and 5.8.8).

use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::mode::ModeKey;
use crate::op::{Op, reg};
use crate::ops::Hard;
use crate::state::{Segment, SegmentIndex, bits};
use iced_x86::{Code, Instruction};

/// Present, DPL 0, execute/read, accessed, granular; without the L and D bits.
const CODE_ACCESS: u32 = 0x809b;
/// Present, DPL 0, read/write, accessed, granular, 32-bit.
const DATA_ACCESS: u32 = 0xc093;
const LONG: u32 = 0x2000;
const DEFAULT_32: u32 = 0x4000;
const RFLAGS_RESTORED: u64 = 0x3c_7fd7;

fn flat(selector: u16, access: u32, cpl: u8) -> Segment {
    Segment { base: 0, limit: u32::MAX, access: access | u32::from(cpl) << 5, selector }
}

impl Cpu {
    /// Flat CS and SS for a fast transfer, and the privilege level they run at.
    fn load_flat_segments(&mut self, code: u16, stack: u16, long: bool, cpl: u8) {
        let size = if long { LONG } else { DEFAULT_32 };
        self.state.segments[SegmentIndex::CS] = flat(code, CODE_ACCESS | size, cpl);
        self.state.segments[SegmentIndex::SS] = flat(stack, DATA_ACCESS, cpl);
        self.state.cpl = cpl;
        self.mode_changed();
    }
}

fn syscall(cpu: &mut Cpu, _: &Op) -> Result<(), Exception> {
    if cpu.state.efer & bits::EFER_SCE == 0 || !cpu.mode().has(ModeKey::LONG64) {
        return Err(Exception::UD);
    }
    let rflags = cpu.state.flags.get();
    cpu.state.regs[usize::from(reg::RCX)] = cpu.state.rip();
    cpu.state.regs[11] = rflags & !bits::RFLAGS_RF;
    cpu.state.set_rip(cpu.state.msrs.lstar);
    let masked = rflags & !cpu.state.msrs.fmask & !bits::RFLAGS_RF;
    cpu.state.flags.set(masked);
    let selector = (cpu.state.msrs.star >> 32) as u16;
    cpu.load_flat_segments(selector & !3, selector.wrapping_add(8), true, 0);
    Ok(())
}

fn sysret(cpu: &mut Cpu, wide: bool) -> Result<(), Exception> {
    if cpu.state.efer & bits::EFER_SCE == 0 || !cpu.mode().has(ModeKey::LONG64) {
        return Err(Exception::UD);
    }
    cpu.require_cpl0()?;
    let target = cpu.state.regs[usize::from(reg::RCX)];
    if wide && !cpu.is_canonical(target) {
        return Err(Exception::gp(0));
    }
    let base = (cpu.state.msrs.star >> 48) as u16;
    let code = if wide { base.wrapping_add(16) } else { base } | 3;
    let stack = base.wrapping_add(8) | 3;
    cpu.state.set_rip(if wide { target } else { target & 0xffff_ffff });
    let rflags = cpu.state.regs[11] & RFLAGS_RESTORED;
    cpu.state.flags.set(rflags);
    cpu.load_flat_segments(code, stack, wide, 3);
    Ok(())
}

fn sysenter(cpu: &mut Cpu, _: &Op) -> Result<(), Exception> {
    let selector = cpu.state.msrs.sysenter_cs as u16 & !3;
    if cpu.state.cr0 & bits::CR0_PE == 0 || selector == 0 {
        return Err(Exception::gp(0));
    }
    let long = cpu.state.long_mode_active();
    let mask = if long { u64::MAX } else { 0xffff_ffff };
    cpu.state.flags.system &= !(bits::RFLAGS_VM | bits::RFLAGS_IF | bits::RFLAGS_RF);
    cpu.load_flat_segments(selector, selector.wrapping_add(8), long, 0);
    cpu.state.regs[usize::from(reg::RSP)] = cpu.state.msrs.sysenter_esp & mask;
    cpu.state.set_rip(cpu.state.msrs.sysenter_eip & mask);
    Ok(())
}

fn sysexit(cpu: &mut Cpu, wide: bool) -> Result<(), Exception> {
    let base = cpu.state.msrs.sysenter_cs as u16;
    if cpu.state.cr0 & bits::CR0_PE == 0 || base & !3 == 0 {
        return Err(Exception::gp(0));
    }
    cpu.require_cpl0()?;
    let (rip, rsp) = (cpu.state.regs[usize::from(reg::RDX)], cpu.state.regs[usize::from(reg::RCX)]);
    if wide && !(cpu.is_canonical(rip) && cpu.is_canonical(rsp)) {
        return Err(Exception::gp(0));
    }
    let mask = if wide { u64::MAX } else { 0xffff_ffff };
    let code = base.wrapping_add(if wide { 32 } else { 16 }) | 3;
    cpu.load_flat_segments(code, code.wrapping_add(8), wide, 3);
    cpu.state.regs[usize::from(reg::RSP)] = rsp & mask;
    cpu.state.set_rip(rip & mask);
    Ok(())
}

/// The meaning of an instruction of this family.
pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    Some(match instruction.code() {
        Code::Syscall => syscall,
        Code::Sysretd => |cpu, _| sysret(cpu, false),
        Code::Sysretq => |cpu, _| sysret(cpu, true),
        Code::Sysenter => sysenter,
        Code::Sysexitd => |cpu, _| sysexit(cpu, false),
        Code::Sysexitq => |cpu, _| sysexit(cpu, true),
        _ => return None,
    })
}
