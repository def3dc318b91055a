//! Segment bases without descriptors, and RFLAGS.AC: SWAPGS, RDFSBASE and its kin, CLAC and STAC (SDM vol. 2).

use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::op::Op;
use crate::ops::{Hard, MicroOps};
use crate::state::{SegmentIndex, bits};
use crate::width::{W32, W64};
use iced_x86::{Code, Instruction};
use rx86_softmmu::View;

/// The meaning of an instruction of this family.
pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    Some(match instruction.code() {
        Code::Swapgs => swapgs,
        Code::Rdfsbase_r32 => |cpu, op| read_base::<false>(cpu, op, SegmentIndex::FS),
        Code::Rdfsbase_r64 => |cpu, op| read_base::<true>(cpu, op, SegmentIndex::FS),
        Code::Rdgsbase_r32 => |cpu, op| read_base::<false>(cpu, op, SegmentIndex::GS),
        Code::Rdgsbase_r64 => |cpu, op| read_base::<true>(cpu, op, SegmentIndex::GS),
        Code::Wrfsbase_r32 => |cpu, op| write_base::<false>(cpu, op, SegmentIndex::FS),
        Code::Wrfsbase_r64 => |cpu, op| write_base::<true>(cpu, op, SegmentIndex::FS),
        Code::Wrgsbase_r32 => |cpu, op| write_base::<false>(cpu, op, SegmentIndex::GS),
        Code::Wrgsbase_r64 => |cpu, op| write_base::<true>(cpu, op, SegmentIndex::GS),
        Code::Clac => |cpu, _| set_access_control(cpu, false),
        Code::Stac => |cpu, _| set_access_control(cpu, true),
        _ => return None,
    })
}

fn swapgs(cpu: &mut Cpu, _: &Op) -> Result<(), Exception> {
    cpu.require_cpl0()?;
    let state = &mut cpu.state;
    std::mem::swap(&mut state.segments[SegmentIndex::GS].base, &mut state.msrs.kernel_gs_base);
    Ok(())
}

fn require_fsgsbase(cpu: &Cpu) -> Result<(), Exception> {
    if cpu.state.cr4 & bits::CR4_FSGSBASE == 0 { Err(Exception::UD) } else { Ok(()) }
}

fn read_base<const WIDE: bool>(cpu: &mut Cpu, op: &Op, segment: usize) -> Result<(), Exception> {
    require_fsgsbase(cpu)?;
    let base = cpu.state.segments[segment].base;
    if WIDE {
        cpu.put::<W64>(op.regs[0], base);
    } else {
        cpu.put::<W32>(op.regs[0], base & 0xffff_ffff);
    }
    Ok(())
}

fn write_base<const WIDE: bool>(cpu: &mut Cpu, op: &Op, segment: usize) -> Result<(), Exception> {
    require_fsgsbase(cpu)?;
    let base = if WIDE { cpu.get::<W64>(op.regs[0]) } else { cpu.get::<W32>(op.regs[0]) };
    if !cpu.is_canonical(base) {
        return Err(Exception::gp(0));
    }
    cpu.state.segments[segment].base = base;
    Ok(())
}

/// CLAC and STAC are invalid above CPL 0, and so in virtual-8086 mode.
fn set_access_control(cpu: &mut Cpu, set: bool) -> Result<(), Exception> {
    if cpu.state.cpl != 0 {
        return Err(Exception::UD);
    }
    let system = cpu.state.flags.system;
    let changed = if set { system | bits::RFLAGS_AC } else { system & !bits::RFLAGS_AC };
    if changed != system {
        cpu.state.flags.system = changed;
        // At CPL 0 no mode bit depends on AC, so the block goes on.
        cpu.mmu.set_view(View::of(0, set));
    }
    Ok(())
}
