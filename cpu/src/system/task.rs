//! Task switches through 16-bit and 32-bit task-state segments (SDM vol. 3, 7.3).

use super::descriptor::{Descriptor, is_null, selector_error, system_type};
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::state::{Segment, SegmentIndex, access, bits};
use rx86_softmmu::Access;

/// What causes a task switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SwitchKind {
    /// JMP: the old task becomes available.
    Jump,
    /// CALL: the new task is nested in the old one.
    Call,
    /// An interrupt or exception through a task gate: as CALL.
    Gate,
    /// IRET with NT: back to the linking task.
    Return,
}

/// Length of a 32-bit TSS without its I/O map, less one.
const TSS32_LIMIT: u32 = 0x67;
/// DR7's local breakpoint enables, which end with the task: L0 to L3 and LE.
const DR7_LOCAL: u64 = 0x155;
/// Length of a 16-bit TSS, less one.
const TSS16_LIMIT: u32 = 0x2b;

/// The dynamic part of a task's state.
#[derive(Default)]
struct TaskImage {
    cr3: u64,
    rip: u64,
    rflags: u64,
    regs: [u64; 8],
    /// ES, CS, SS, DS, FS, GS.
    selectors: [u16; 6],
    ldt: u16,
    debug_trap: bool,
}

/// How the new task begins: an error is a fault in the new task, at its first instruction.
pub(super) type Entered = Result<(), Exception>;

impl Cpu {
    /// Far transfers and IRET: switches to another task. The instruction is done with the switch; what fails in the new
    /// task is pending there.
    pub(super) fn continue_in_task(&mut self, selector: u16, kind: SwitchKind) -> Result<(), Exception> {
        let rflags = self.state.flags.get();
        let entered = self.switch_task(selector, kind, rflags)?;
        self.fault_in_new_task(entered);
        Ok(())
    }

    /// Makes what failed in a new task pending before its first instruction.
    pub(super) fn fault_in_new_task(&mut self, entered: Entered) {
        if let Err(fault) = entered {
            self.pending_exception = Some(fault);
            self.end_block();
        }
    }

    /// Switches to the task whose TSS `selector` names, and leaves `rflags` in the old task's. Error codes carry no EXT
    /// bit; delivery adds it. An outer error is one in the old task, and nothing has changed.
    pub(super) fn switch_task(
        &mut self,
        selector: u16,
        kind: SwitchKind,
        rflags: u64,
    ) -> Result<Entered, Exception> {
        let mut new = self.task_descriptor(selector, kind)?;
        let wide = new.kind() & 8 != 0;
        let needed = if wide { TSS32_LIMIT } else { TSS16_LIMIT };
        if new.limit() < needed {
            return Err(Exception::ts(selector_error(selector)));
        }
        let old = self.state.tr;
        // Everything that the switch will touch must be there before the first change.
        if matches!(kind, SwitchKind::Call | SwitchKind::Gate) {
            self.probe_system(new.base(), 2)?;
        }
        let image = self.read_task(new.base(), wide)?;
        self.save_task(&old, kind, rflags)?;
        if matches!(kind, SwitchKind::Jump | SwitchKind::Return) {
            self.set_busy(old.selector, false)?;
        }
        if matches!(kind, SwitchKind::Call | SwitchKind::Gate) {
            self.write_system(u64::from(new.base() as u32), old.selector.to_le_bytes())?;
        }
        if kind != SwitchKind::Return {
            self.mark_type(&mut new, 2)?;
        }
        let mut tr = new.segment(selector);
        tr.access |= 2;
        self.state.tr = tr;
        self.state.cr0 |= bits::CR0_TS;
        let entered = self.load_task(&image, wide, kind);
        self.mode_changed();
        Ok(entered)
    }

    /// Reads and checks the new TSS's descriptor.
    fn task_descriptor(&mut self, selector: u16, kind: SwitchKind) -> Result<Descriptor, Exception> {
        let error = selector_error(selector);
        let back = kind == SwitchKind::Return;
        let fault = if back { Exception::ts } else { Exception::gp };
        if is_null(selector) || selector & 4 != 0 {
            return Err(fault(error));
        }
        let descriptor = self.read_descriptor_or(selector, fault)?;
        let expected = if back {
            [system_type::TSS_BUSY, system_type::TSS16_BUSY]
        } else {
            [system_type::TSS_AVAILABLE, system_type::TSS16_AVAILABLE]
        };
        if !descriptor.is_system() || !expected.contains(&descriptor.kind()) {
            return Err(fault(error));
        }
        if !descriptor.is_present() {
            return Err(Exception::np(error));
        }
        Ok(descriptor)
    }

    /// Checks that `bytes` of system data can be written.
    fn probe_system(&mut self, linear: u64, bytes: u64) -> Result<(), Exception> {
        for at in [linear, linear.wrapping_add(bytes - 1)] {
            self.mmu.translate_as(u64::from(at as u32), Access::Write, true)?;
        }
        Ok(())
    }

    fn tss_u32(&mut self, base: u64, offset: u64) -> Result<u64, Exception> {
        let at = u64::from(base.wrapping_add(offset) as u32);
        Ok(u64::from(u32::from_le_bytes(self.read_system(at)?)))
    }

    fn tss_u16(&mut self, base: u64, offset: u64) -> Result<u64, Exception> {
        let at = u64::from(base.wrapping_add(offset) as u32);
        Ok(u64::from(u16::from_le_bytes(self.read_system(at)?)))
    }

    /// Reads a task's state (SDM vol. 3, figures 7-2 and 7-10).
    fn read_task(&mut self, base: u64, wide: bool) -> Result<TaskImage, Exception> {
        let mut image = TaskImage::default();
        if wide {
            image.cr3 = self.tss_u32(base, 0x1c)?;
            image.rip = self.tss_u32(base, 0x20)?;
            image.rflags = self.tss_u32(base, 0x24)?;
            for (i, value) in image.regs.iter_mut().enumerate() {
                *value = self.tss_u32(base, 0x28 + 4 * i as u64)?;
            }
            for (i, selector) in image.selectors.iter_mut().enumerate() {
                *selector = self.tss_u16(base, 0x48 + 4 * i as u64)? as u16;
            }
            image.ldt = self.tss_u16(base, 0x60)? as u16;
            image.debug_trap = self.tss_u16(base, 0x64)? & 1 != 0;
        } else {
            image.cr3 = self.state.cr3;
            image.rip = self.tss_u16(base, 0x0e)?;
            image.rflags = self.tss_u16(base, 0x10)?;
            // The SDM does not say what the upper halves become.
            for (i, value) in image.regs.iter_mut().enumerate() {
                *value = self.tss_u16(base, 0x12 + 2 * i as u64)?;
            }
            for (i, selector) in image.selectors.iter_mut().enumerate().take(4) {
                *selector = self.tss_u16(base, 0x22 + 2 * i as u64)? as u16;
            }
            image.ldt = self.tss_u16(base, 0x2a)? as u16;
        }
        Ok(image)
    }

    /// Saves the running task's state into its TSS.
    fn save_task(&mut self, tss: &Segment, kind: SwitchKind, rflags: u64) -> Result<(), Exception> {
        let wide = tss.access & 8 != 0;
        let rflags = if kind == SwitchKind::Return { rflags & !bits::RFLAGS_NT } else { rflags };
        let at = |offset: u64| u64::from(tss.base.wrapping_add(offset) as u32);
        let rip = self.state.rip();
        let regs: [u64; 8] = std::array::from_fn(|i| self.state.regs[i]);
        let selectors: [u16; 6] = std::array::from_fn(|i| self.state.segments[i].selector);
        self.probe_system(tss.base, if wide { 0x60 } else { 0x2a })?;
        if wide {
            self.write_system(at(0x20), (rip as u32).to_le_bytes())?;
            self.write_system(at(0x24), (rflags as u32).to_le_bytes())?;
            for (i, value) in regs.iter().enumerate() {
                self.write_system(at(0x28 + 4 * i as u64), (*value as u32).to_le_bytes())?;
            }
            for (i, selector) in selectors.iter().enumerate() {
                self.write_system(at(0x48 + 4 * i as u64), selector.to_le_bytes())?;
            }
        } else {
            self.write_system(at(0x0e), (rip as u16).to_le_bytes())?;
            self.write_system(at(0x10), (rflags as u16).to_le_bytes())?;
            for (i, value) in regs.iter().enumerate() {
                self.write_system(at(0x12 + 2 * i as u64), (*value as u16).to_le_bytes())?;
            }
            for (i, selector) in selectors.iter().enumerate().take(4) {
                self.write_system(at(0x22 + 2 * i as u64), selector.to_le_bytes())?;
            }
        }
        Ok(())
    }

    fn set_busy(&mut self, selector: u16, busy: bool) -> Result<(), Exception> {
        if is_null(selector) {
            return Ok(());
        }
        let descriptor = self.read_descriptor_or(selector, Exception::ts)?;
        let byte = (descriptor.low >> 40) as u8;
        let byte = if busy { byte | 2 } else { byte & !2 };
        self.write_system(descriptor.address.wrapping_add(5), [byte])
    }

    /// Loads the new task's state. A fault from here on happens in the new task.
    fn load_task(&mut self, image: &TaskImage, wide: bool, kind: SwitchKind) -> Entered {
        let mut rflags = image.rflags & bits::RFLAGS_DEFINED;
        if matches!(kind, SwitchKind::Call | SwitchKind::Gate) {
            rflags |= bits::RFLAGS_NT;
        }
        self.state.set_rip(image.rip);
        self.state.flags.set(rflags);
        for (slot, value) in self.state.regs[..8].iter_mut().zip(image.regs) {
            *slot = value;
        }
        // The selectors are loaded first, so that a fault's handler sees the new task's.
        for (segment, selector) in self.state.segments.iter_mut().zip(image.selectors) {
            *segment = Segment { selector, base: 0, limit: 0, access: access::UNUSABLE };
        }
        self.state.dr[7] &= !DR7_LOCAL;
        self.debug_registers_changed();
        let vm86 = rflags & bits::RFLAGS_VM != 0;
        self.state.cpl = if vm86 { 3 } else { (image.selectors[SegmentIndex::CS] & 3) as u8 };
        if wide && self.state.paging() {
            self.write_cr3(image.cr3)?;
        }
        self.load_task_ldt(image.ldt)?;
        if vm86 {
            for (index, selector) in image.selectors.into_iter().enumerate() {
                self.load_real_segment(index, selector);
            }
        } else {
            self.load_task_segments(&image.selectors)?;
        }
        if image.rip > u64::from(self.state.segments[SegmentIndex::CS].limit) {
            return Err(Exception::gp(0));
        }
        if image.debug_trap {
            self.pending_exception = Some(Exception::db(bits::DR6_BT));
        }
        Ok(())
    }

    fn load_task_ldt(&mut self, selector: u16) -> Result<(), Exception> {
        self.state.ldtr = Segment { selector, base: 0, limit: 0, access: access::UNUSABLE };
        if is_null(selector) {
            return Ok(());
        }
        let error = selector_error(selector);
        if selector & 4 != 0 {
            return Err(Exception::ts(error));
        }
        let descriptor = self.read_descriptor_or(selector, Exception::ts)?;
        if !descriptor.is_system() || descriptor.kind() != system_type::LDT || !descriptor.is_present() {
            return Err(Exception::ts(error));
        }
        self.state.ldtr = descriptor.segment(selector);
        Ok(())
    }

    /// CS, SS and the data segments of a protected-mode task; every failure is #TS, #NP or #SS in the new task.
    fn load_task_segments(&mut self, selectors: &[u16; 6]) -> Result<(), Exception> {
        let code_selector = selectors[SegmentIndex::CS];
        let error = selector_error(code_selector);
        if is_null(code_selector) {
            return Err(Exception::ts(error));
        }
        let cpl = self.state.cpl;
        let mut code = self.read_descriptor_or(code_selector, Exception::ts)?;
        let allowed = if code.is_conforming() { code.dpl() <= cpl } else { code.dpl() == cpl };
        if !code.is_code() || !allowed {
            return Err(Exception::ts(error));
        }
        if !code.is_present() {
            return Err(Exception::np(error));
        }
        self.mark_accessed(&mut code)?;
        let mut segment = code.segment(code_selector);
        segment.access &= !access::LONG;
        self.state.segments[SegmentIndex::CS] = segment;
        self.mode_changed();
        self.state.segments[SegmentIndex::SS] = self.inner_stack_segment(selectors[SegmentIndex::SS], cpl)?;
        self.mode_changed();
        for index in [SegmentIndex::ES, SegmentIndex::DS, SegmentIndex::FS, SegmentIndex::GS] {
            self.load_segment(index, selectors[index]).map_err(|mut fault| {
                if fault.vector == Exception::gp(0).vector {
                    fault.vector = Exception::ts(0).vector;
                }
                fault
            })?;
        }
        Ok(())
    }
}
