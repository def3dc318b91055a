//! The debug registers: access rules, breakpoints on data, code and ports, single steps (SDM vol. 3, 18.2 and 18.3).

use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::mode::ModeKey;
use crate::op::Op;
use crate::ops::{Hard, MicroOps};
use crate::state::{SegmentIndex, bits};
use crate::width::{W32, W64};
use iced_x86::{Code, Instruction};
use rx86_softmmu::Access;

/// DR6's bits that software can set or clear.
const DR6_WRITABLE: u64 = 0xf | bits::DR6_BD | bits::DR6_BS | bits::DR6_BT;
/// DR7's bits that software can set or clear.
const DR7_WRITABLE: u64 = 0xffff_23ff;
/// DR7's bit that always reads one.
const DR7_FIXED: u64 = 0x400;

/// What a breakpoint waits for: DR7's R/W field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Execute,
    Write,
    Port,
    ReadWrite,
}

/// One enabled breakpoint.
#[derive(Clone, Copy)]
struct Breakpoint {
    /// Its bit in DR6.
    hit: u64,
    condition: Condition,
    /// The first address, aligned to the length.
    first: u64,
    last: u64,
}

impl Breakpoint {
    fn overlaps(&self, first: u64, last: u64) -> bool {
        first <= self.last && self.first <= last
    }

    fn on_data(&self) -> bool {
        matches!(self.condition, Condition::Write | Condition::ReadWrite)
    }
}

/// The meaning of an instruction of this family.
pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    match instruction.code() {
        Code::Mov_r32_dr | Code::Mov_r64_dr => Some(mov_from_dr),
        Code::Mov_dr_r32 | Code::Mov_dr_r64 => Some(mov_to_dr),
        _ => None,
    }
}

/// The register that an instruction means, if it may be accessed. DR4 and DR5 are DR6 and DR7 unless CR4.DE is set.
fn checked_register(cpu: &Cpu, number: u8) -> Result<usize, Exception> {
    let register = match number {
        0..=3 | 6 | 7 => number,
        4 | 5 if cpu.state.cr4 & bits::CR4_DE == 0 => number + 2,
        _ => return Err(Exception::UD),
    };
    cpu.require_cpl0()?;
    if cpu.state.dr[7] & bits::DR7_GD != 0 {
        return Err(Exception::db(bits::DR6_BD));
    }
    Ok(usize::from(register))
}

fn mov_from_dr(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let value = cpu.state.dr[checked_register(cpu, op.regs[1])?];
    if cpu.mode().has(ModeKey::LONG64) {
        cpu.put::<W64>(op.regs[0], value);
    } else {
        cpu.put::<W32>(op.regs[0], value & 0xffff_ffff);
    }
    Ok(())
}

fn mov_to_dr(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let register = checked_register(cpu, op.regs[0])?;
    let value =
        if cpu.mode().has(ModeKey::LONG64) { cpu.get::<W64>(op.regs[1]) } else { cpu.get::<W32>(op.regs[1]) };
    if register >= 6 && value >> 32 != 0 {
        return Err(Exception::gp(0));
    }
    cpu.state.dr[register] = match register {
        6 => value & DR6_WRITABLE | bits::DR6_FIXED,
        7 => value & DR7_WRITABLE | DR7_FIXED,
        _ => value,
    };
    cpu.debug_registers_changed();
    Ok(())
}

impl Cpu {
    fn breakpoints(&self) -> impl Iterator<Item = Breakpoint> + use<> {
        let dr = self.state.dr;
        (0..4).filter(move |i| dr[7] >> (2 * i) & 3 != 0).map(move |i| {
            let field = dr[7] >> (16 + 4 * i);
            let condition = match field & 3 {
                0 => Condition::Execute,
                1 => Condition::Write,
                2 => Condition::Port,
                _ => Condition::ReadWrite,
            };
            // LEN 2 means 8 bytes, the others one more than their number.
            let mask = [0, 1, 7, 3][(field >> 2 & 3) as usize];
            Breakpoint { hit: 1 << i, condition, first: dr[i] & !mask, last: dr[i] | mask }
        })
    }

    /// Tells the MMU which pages have data breakpoints, so that accesses there take the slow way and are looked at. To be
    /// called after the debug registers were replaced.
    pub fn debug_registers_changed(&mut self) {
        let watched: Vec<u64> = self
            .breakpoints()
            .filter(Breakpoint::on_data)
            // Outside 64-bit mode linear addresses have 32 bits.
            .flat_map(|breakpoint| [breakpoint.first & !0xfff, breakpoint.first & 0xffff_f000])
            .collect();
        if watched != self.watched_pages {
            self.watched_pages.clone_from(&watched);
            self.mmu.set_watched_pages(watched);
        }
        self.end_block();
    }

    /// After a reset: no breakpoints, no pages to watch.
    pub(super) fn forget_debug_state(&mut self) {
        self.debug_registers_changed();
    }

    /// Makes a debug trap with these DR6 bits pending, together with one that already is.
    fn add_debug_trap(&mut self, dr6_bits: u64) {
        let already = match self.pending_exception {
            Some(pending) if pending.vector == 1 => pending.payload,
            // Another exception is pending, and has the higher priority.
            Some(_) => return,
            None => 0,
        };
        self.pending_exception = Some(Exception::db(already | dr6_bits));
        self.end_block();
    }

    /// Makes a debug trap pending if an access touches a data breakpoint.
    #[inline]
    pub fn data_breakpoints(&mut self, linear: u64, bytes: u64, access: Access) {
        if !self.watched_pages.is_empty() {
            self.check_data_breakpoints(linear, bytes, access);
        }
    }

    #[cold]
    fn check_data_breakpoints(&mut self, linear: u64, bytes: u64, access: Access) {
        let last = linear.wrapping_add(bytes - 1);
        let hits = self
            .breakpoints()
            .filter(|b| match access {
                Access::Write => b.on_data(),
                Access::Read => b.condition == Condition::ReadWrite,
                Access::Fetch => false,
            })
            .filter(|b| b.overlaps(linear, last))
            .fold(0, |hits, b| hits | b.hit);
        if hits != 0 {
            self.add_debug_trap(hits);
        }
    }

    /// Makes a debug trap pending if a port access touches an I/O breakpoint. To be called by the port instructions.
    pub fn port_breakpoints(&mut self, port: u16, bytes: u64) {
        if self.state.dr[7] & 0xff == 0 || self.state.cr4 & bits::CR4_DE == 0 {
            return;
        }
        let first = u64::from(port);
        let hits = self
            .breakpoints()
            .filter(|b| b.condition == Condition::Port && b.overlaps(first, first + bytes - 1))
            .fold(0, |hits, b| hits | b.hit);
        if hits != 0 {
            self.add_debug_trap(hits);
        }
    }

    /// Whether DR7 enables a breakpoint on code.
    #[inline]
    pub fn code_breakpoints_armed(&self) -> bool {
        self.state.dr[7] & 0xff != 0 && self.breakpoints().any(|b| b.condition == Condition::Execute)
    }

    /// #DB if an execution breakpoint is at RIP and RF is clear.
    pub fn check_code_breakpoint(&mut self) -> Result<(), Exception> {
        if self.state.flags.system & bits::RFLAGS_RF != 0 || !self.code_breakpoints_armed() {
            return Ok(());
        }
        let rip = self.state.rip();
        let linear = if self.mode().has(ModeKey::LONG64) {
            rip
        } else {
            u64::from(rip.wrapping_add(self.state.segments[SegmentIndex::CS].base) as u32)
        };
        let hits = self
            .breakpoints()
            .filter(|b| b.condition == Condition::Execute && b.first == linear)
            .fold(0, |hits, b| hits | b.hit);
        if hits == 0 { Ok(()) } else { Err(Exception::db(hits)) }
    }

    /// Makes the single-step trap pending.
    pub fn note_single_step(&mut self) {
        self.add_debug_trap(bits::DR6_BS);
    }
}
