//! The XSAVE feature set: XSAVE, XSAVEOPT, XSAVEC, XSAVES, XRSTOR and XRSTORS (SDM vol. 1, chapter 13).
//!
//! `features::xsave_area` says where components lie; `image` and `load` here say what is in them.

use super::fxsave::{
    LEGACY_BYTES, MXCSR_AT, Pointers, REGISTERS_AT, XMM_AT, area_linear, load_xmm, mxcsr_from, save_mxcsr,
    save_x87, save_xmm, x87_from, xmm_count,
};
use super::mxcsr::MXCSR_INITIAL;
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::features::xsave_area::{AVX, COMPONENTS, Component, HEADER_END, PKRU, SSE, X87 as X87_BIT};
use crate::op::{Op, reg};
use crate::ops::{Hard, MicroOps};
use crate::state::{X87, bits};
use crate::width::W32;
use iced_x86::{Code, Instruction};
use rx86_softmmu::Access;

/// XCOMP_BV bit 63: the area is compacted.
const COMPACTED: u64 = 1 << 63;

/// Bytes of the XSAVE header.
const HEADER_BYTES: usize = HEADER_END as usize - LEGACY_BYTES;
/// The largest component beyond the legacy area that the buffers here have room for.
const LARGEST: usize = 256;

/// What extended component `component` looks like in memory.
fn image(cpu: &Cpu, component: &Component) -> [u8; LARGEST] {
    let mut image = [0; LARGEST];
    match mask(component) {
        AVX => {
            let registers = &cpu.state.zmm[..usize::from(xmm_count(cpu))];
            for (bytes, register) in image.as_chunks_mut::<8>().0.chunks_exact_mut(2).zip(registers) {
                bytes[0] = register.0[2].to_le_bytes();
                bytes[1] = register.0[3].to_le_bytes();
            }
        }
        PKRU => image[..4].copy_from_slice(&cpu.state.pkru.to_le_bytes()),
        _ => {}
    }
    image
}

/// Whether extended component `component` is not in its initial configuration.
fn is_used(cpu: &Cpu, component: &Component) -> bool {
    match mask(component) {
        AVX => cpu.state.zmm[..usize::from(xmm_count(cpu))].iter().any(|zmm| zmm.0[2] | zmm.0[3] != 0),
        PKRU => cpu.state.pkru != 0,
        _ => false,
    }
}

/// The bytes of a component that the mode accesses: those of YMM8 to YMM15 only in 64-bit mode.
fn accessed_bytes(cpu: &Cpu, component: &Component) -> usize {
    if mask(component) == AVX { 16 * usize::from(xmm_count(cpu)) } else { component.size as usize }
}

/// Loads extended component `component`; zeros are its initial configuration.
fn load(cpu: &mut Cpu, component: &Component, image: &[u8; LARGEST]) {
    match mask(component) {
        AVX => {
            let count = usize::from(xmm_count(cpu));
            let quads = image.as_chunks::<8>().0.chunks_exact(2);
            for (register, bytes) in cpu.state.zmm[..count].iter_mut().zip(quads) {
                register.0[2] = u64::from_le_bytes(bytes[0]);
                register.0[3] = u64::from_le_bytes(bytes[1]);
            }
        }
        PKRU => {
            let pkru = u32::from_le_bytes([image[0], image[1], image[2], image[3]]);
            cpu.state.pkru = pkru;
            cpu.mmu.set_pkru(pkru);
        }
        _ => {}
    }
}

/// The components of `set` outside the legacy area, each with its offset in the area.
fn layout(set: u64, compacted: bool) -> impl Iterator<Item = (&'static Component, u32)> {
    let mut next = HEADER_END;
    COMPONENTS.iter().filter(move |component| set & mask(component) != 0).map(move |component| {
        let offset = if compacted { next } else { component.offset };
        next = offset + component.size;
        (component, offset)
    })
}

fn mask(component: &Component) -> u64 {
    1 << component.index
}

/// What differs between the saving instructions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Saving {
    Xsave,
    Xsaveopt,
    Xsavec,
    Xsaves,
}

impl Saving {
    fn compacted(self) -> bool {
        matches!(self, Saving::Xsavec | Saving::Xsaves)
    }
}

/// #UD without CR4.OSXSAVE, #NM with CR0.TS.
fn check_enabled(cpu: &Cpu) -> Result<(), Exception> {
    if cpu.state.cr4 & bits::CR4_OSXSAVE == 0 {
        Err(Exception::UD)
    } else if cpu.state.cr0 & bits::CR0_TS != 0 {
        Err(Exception::NM)
    } else {
        Ok(())
    }
}

/// The requested components (RFBM): EDX:EAX and what `enabled` allows.
fn requested(cpu: &mut Cpu, enabled: u64) -> u64 {
    let mask = cpu.get::<W32>(reg::RAX) | cpu.get::<W32>(reg::RDX) << 32;
    mask & enabled
}

/// The components that are not in their initial configuration (XINUSE).
pub(crate) fn in_use(cpu: &Cpu) -> u64 {
    let state = &cpu.state;
    let set = |condition: bool, mask: u64| if condition { mask } else { 0 };
    let legacy =
        set(state.x87 != X87::default(), X87_BIT) | set((0..xmm_count(cpu)).any(|i| state.xmm(i) != 0), SSE);
    COMPONENTS.iter().fold(legacy, |used, component| used | set(is_used(cpu, component), mask(component)))
}

fn save(cpu: &mut Cpu, op: &Op, saving: Saving, pointers: Pointers) -> Result<(), Exception> {
    check_enabled(cpu)?;
    let mut enabled = cpu.state.xcr0;
    if saving == Saving::Xsaves {
        cpu.require_cpl0()?;
        enabled |= cpu.state.msrs.xss;
    }
    let wanted = requested(cpu, enabled);
    let bytes = layout(wanted, saving.compacted())
        .fold(HEADER_END, |bytes, (component, offset)| bytes.max(offset + component.size));
    let linear = area_linear(cpu, op, u64::from(bytes), 64, Access::Write)?;
    let mut used = in_use(cpu);
    if saving.compacted() && cpu.state.mxcsr != MXCSR_INITIAL {
        used |= SSE;
    }
    let written = if saving == Saving::Xsave { wanted } else { wanted & used };
    probe_parts(cpu, linear, wanted, saving.compacted())?;
    save_legacy(cpu, linear, written, wanted, saving, pointers)?;
    for (component, offset) in layout(wanted, saving.compacted()) {
        if written & mask(component) != 0 {
            let image = image(cpu, component);
            let at = linear.wrapping_add(u64::from(offset));
            let bytes = accessed_bytes(cpu, component);
            cpu.write_bytes(at, &image[..bytes])?;
        }
    }
    let header = linear.wrapping_add(LEGACY_BYTES as u64);
    if saving.compacted() {
        cpu.write_linear(header, (wanted & used).to_le_bytes())?;
        return cpu.write_linear(header.wrapping_add(8), (wanted | COMPACTED).to_le_bytes());
    }
    let old = u64::from_le_bytes(cpu.read_linear(header)?);
    cpu.write_linear(header, (old & !wanted | used & wanted).to_le_bytes())
}

/// Makes sure that everything that may be written can be, so that a fault leaves the area as it was.
fn probe_parts(cpu: &mut Cpu, linear: u64, wanted: u64, compacted: bool) -> Result<(), Exception> {
    cpu.probe_write(linear, u64::from(HEADER_END))?;
    for (component, offset) in layout(wanted, compacted) {
        cpu.probe_write(linear.wrapping_add(u64::from(offset)), u64::from(component.size))?;
    }
    Ok(())
}

/// Writes the parts of the legacy area that belong to the components of `written`, and MXCSR.
fn save_legacy(
    cpu: &mut Cpu,
    linear: u64,
    written: u64,
    wanted: u64,
    saving: Saving,
    pointers: Pointers,
) -> Result<(), Exception> {
    let mut area = [0; LEGACY_BYTES];
    let write = |cpu: &mut Cpu, area: &[u8; LEGACY_BYTES], from: usize, to: usize| {
        cpu.write_bytes(linear.wrapping_add(from as u64), &area[from..to])
    };
    if written & X87_BIT != 0 {
        save_x87(&cpu.state.x87, pointers, &mut area);
        write(cpu, &area, 0, MXCSR_AT)?;
        write(cpu, &area, REGISTERS_AT, XMM_AT)?;
    }
    if written & SSE != 0 {
        let count = xmm_count(cpu);
        save_xmm(&cpu.state, count, &mut area);
        write(cpu, &area, XMM_AT, XMM_AT + 16 * usize::from(count))?;
    }
    let with_mxcsr = if saving.compacted() { written & SSE != 0 } else { wanted & (SSE | AVX) != 0 };
    if with_mxcsr {
        save_mxcsr(&cpu.state, &mut area);
        write(cpu, &area, MXCSR_AT, REGISTERS_AT)?;
    }
    Ok(())
}

/// The XSAVE header.
struct Header {
    xstate_bv: u64,
    xcomp_bv: u64,
    /// Bytes 16 to 23 are all zero.
    reserved_low_clear: bool,
    /// Bytes 24 to 63 are all zero.
    reserved_high_clear: bool,
}

impl Header {
    fn read(cpu: &mut Cpu, linear: u64) -> Result<Self, Exception> {
        let bytes: [u8; HEADER_BYTES] = cpu.read_linear(linear.wrapping_add(LEGACY_BYTES as u64))?;
        let quad = |i: usize| u64::from_le_bytes(std::array::from_fn(|k| bytes[8 * i + k]));
        Ok(Self {
            xstate_bv: quad(0),
            xcomp_bv: quad(1),
            reserved_low_clear: quad(2) == 0,
            reserved_high_clear: bytes[24..].iter().all(|&byte| byte == 0),
        })
    }

    fn compacted(&self) -> bool {
        self.xcomp_bv & COMPACTED != 0
    }

    /// #GP(0) unless the header fits `enabled` (SDM vol. 1, 13.8 and 13.12).
    fn check(&self, enabled: u64, supervisor: bool) -> Result<(), Exception> {
        let valid = if self.compacted() {
            self.xcomp_bv & !COMPACTED & !enabled == 0
                && self.xstate_bv & !self.xcomp_bv == 0
                && self.xstate_bv & COMPACTED == 0
                && self.reserved_low_clear
                && self.reserved_high_clear
        } else {
            !supervisor && self.xstate_bv & !enabled == 0 && self.xcomp_bv == 0 && self.reserved_low_clear
        };
        if valid { Ok(()) } else { Err(Exception::gp(0)) }
    }
}

fn restore(cpu: &mut Cpu, op: &Op, supervisor: bool, pointers: Pointers) -> Result<(), Exception> {
    check_enabled(cpu)?;
    let mut enabled = cpu.state.xcr0;
    if supervisor {
        cpu.require_cpl0()?;
        enabled |= cpu.state.msrs.xss;
    }
    let wanted = requested(cpu, enabled);
    let linear = area_linear(cpu, op, u64::from(HEADER_END), 64, Access::Read)?;
    let header = Header::read(cpu, linear)?;
    header.check(enabled, supervisor)?;
    let loaded = wanted & header.xstate_bv;

    // Everything is read and checked before the first register changes.
    let mut area = [0; LEGACY_BYTES];
    cpu.read_bytes(linear, &mut area)?;
    let mxcsr = restored_mxcsr(cpu, &area, wanted, loaded, header.compacted())?;
    let held = if header.compacted() { header.xcomp_bv & !COMPACTED } else { wanted };
    let mut images = [[0; LARGEST]; COMPONENTS.len()];
    for (component, offset) in layout(held, header.compacted()) {
        if loaded & mask(component) != 0 {
            let index = COMPONENTS.iter().position(|row| row.index == component.index).unwrap_or(0);
            let at = linear.wrapping_add(u64::from(offset));
            let bytes = accessed_bytes(cpu, component);
            cpu.read_bytes(at, &mut images[index][..bytes])?;
        }
    }
    if wanted & X87_BIT != 0 {
        cpu.state.x87 = if loaded & X87_BIT != 0 { x87_from(&area, pointers) } else { X87::default() };
    }
    if wanted & SSE != 0 {
        let count = xmm_count(cpu);
        if loaded & SSE == 0 {
            area = [0; LEGACY_BYTES];
        }
        load_xmm(&mut cpu.state, count, &area);
    }
    cpu.state.mxcsr = mxcsr;
    for (component, image) in COMPONENTS.iter().zip(&images) {
        if wanted & mask(component) != 0 {
            load(cpu, component, image);
        }
    }
    Ok(())
}

/// MXCSR after a restore. In the standard format it is loaded for SSE and AVX whatever XSTATE_BV says; in the
/// compacted format it is a part of SSE.
fn restored_mxcsr(
    cpu: &Cpu,
    area: &[u8; LEGACY_BYTES],
    wanted: u64,
    loaded: u64,
    compacted: bool,
) -> Result<u32, Exception> {
    if compacted {
        return match (wanted & SSE != 0, loaded & SSE != 0) {
            (false, _) => Ok(cpu.state.mxcsr),
            (true, false) => Ok(MXCSR_INITIAL),
            (true, true) => mxcsr_from(area),
        };
    }
    if wanted & (SSE | AVX) != 0 { mxcsr_from(area) } else { Ok(cpu.state.mxcsr) }
}

pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    use Pointers::{Offsets64, Selectors};
    use Saving::{Xsave, Xsavec, Xsaveopt, Xsaves};
    Some(match instruction.code() {
        Code::Xsave_mem => |cpu, op| save(cpu, op, Xsave, Selectors),
        Code::Xsave64_mem => |cpu, op| save(cpu, op, Xsave, Offsets64),
        Code::Xsaveopt_mem => |cpu, op| save(cpu, op, Xsaveopt, Selectors),
        Code::Xsaveopt64_mem => |cpu, op| save(cpu, op, Xsaveopt, Offsets64),
        Code::Xsavec_mem => |cpu, op| save(cpu, op, Xsavec, Selectors),
        Code::Xsavec64_mem => |cpu, op| save(cpu, op, Xsavec, Offsets64),
        Code::Xsaves_mem => |cpu, op| save(cpu, op, Xsaves, Selectors),
        Code::Xsaves64_mem => |cpu, op| save(cpu, op, Xsaves, Offsets64),
        Code::Xrstor_mem => |cpu, op| restore(cpu, op, false, Selectors),
        Code::Xrstor64_mem => |cpu, op| restore(cpu, op, false, Offsets64),
        Code::Xrstors_mem => |cpu, op| restore(cpu, op, true, Selectors),
        Code::Xrstors64_mem => |cpu, op| restore(cpu, op, true, Offsets64),
        _ => return None,
    })
}
