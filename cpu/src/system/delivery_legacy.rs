//! Event delivery in real-address mode (SDM vol. 3, 20.1.4), in protected mode and out of virtual-8086 mode (6.12, 20.3).

use super::delivery_long::with_ext;
use super::descriptor::{Descriptor, selector_error, system_type};
use super::event::{Event, EventSource};
use super::task::SwitchKind;
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::op::reg;
use crate::state::{Segment, SegmentIndex, access, bits};
use rx86_softmmu::Access;

/// The most values that one transfer pushes: a call gate's 31 parameters, SS, ESP, CS and EIP.
const FRAME_VALUES: usize = 35;

/// Values to push, first to last, at a stack that is not the current one until all is written.
pub(super) struct Frame {
    values: [u64; FRAME_VALUES],
    count: usize,
}

impl Frame {
    pub(super) fn new() -> Self {
        Self { values: [0; FRAME_VALUES], count: 0 }
    }
    pub(super) fn push(&mut self, value: u64) {
        self.values[self.count] = value;
        self.count += 1;
    }
}

impl Cpu {
    /// Delivers through the interrupt vector table.
    pub(super) fn deliver_real(&mut self, event: Event) -> Result<(), Exception> {
        let offset = u64::from(event.vector) * 4;
        if offset + 3 > u64::from(self.state.idtr.limit) {
            return Err(Exception::gp(event.gate_error()));
        }
        let vector = u32::from_le_bytes(self.read_system(self.state.idtr.base.wrapping_add(offset))?);
        self.push_real_frame()?;
        self.state.set_rip(u64::from(vector & 0xffff));
        self.load_real_segment(SegmentIndex::CS, (vector >> 16) as u16);
        self.state.flags.system &= !(bits::RFLAGS_IF | bits::RFLAGS_TF | bits::RFLAGS_AC | bits::RFLAGS_RF);
        Ok(())
    }

    /// FLAGS, CS and IP on the current 16-bit stack.
    pub(super) fn push_real_frame(&mut self) -> Result<(), Exception> {
        let flags = self.state.flags.get() & 0xffff;
        self.push_real_frame_with(flags)
    }

    /// `push_real_frame` with another flags image.
    pub(super) fn push_real_frame_with(&mut self, flags: u64) -> Result<(), Exception> {
        let mut frame = Frame::new();
        frame.push(flags);
        frame.push(u64::from(self.state.segments[SegmentIndex::CS].selector));
        frame.push(self.state.rip() & 0xffff);
        let stack = self.state.segments[SegmentIndex::SS];
        let top = self.write_frame(&frame, &stack, self.state.regs[usize::from(reg::RSP)], 2, 0)?;
        self.set_stack_pointer(top);
        Ok(())
    }

    /// Writes a frame of 2-byte or 4-byte values below `pointer` in `stack`, every value checked before the first is
    /// written; returns the new stack pointer. `error` is the error code of a stack fault.
    pub(super) fn write_frame(
        &mut self,
        frame: &Frame,
        stack: &Segment,
        pointer: u64,
        bytes: u64,
        error: u32,
    ) -> Result<u64, Exception> {
        let mask = if stack.default_32() { 0xffff_ffff } else { 0xffff };
        let top = pointer.wrapping_sub(bytes * frame.count as u64) & mask;
        let mut slots = [0u64; FRAME_VALUES];
        for (i, slot) in slots.iter_mut().enumerate().take(frame.count) {
            let offset = pointer.wrapping_sub(bytes * (i as u64 + 1)) & mask;
            if !stack.contains(offset, bytes) {
                return Err(Exception::ss(error));
            }
            *slot = u64::from(stack.base.wrapping_add(offset) as u32);
            self.probe_write(*slot, bytes)?;
        }
        for (slot, value) in slots.iter().zip(&frame.values[..frame.count]) {
            self.write_bytes(*slot, &value.to_le_bytes()[..bytes as usize])?;
        }
        Ok(top)
    }

    /// Delivers through a protected-mode gate.
    pub(super) fn deliver_protected(&mut self, event: Event) -> Result<(), Exception> {
        let gate = self.legacy_gate(event)?;
        if gate.kind() == system_type::TASK_GATE {
            return self.deliver_through_task(event, &gate);
        }
        let selector = gate.gate_selector();
        let (code, cpl) = self.handler_code(selector, event)?;
        let from_vm86 = self.state.vm86();
        if from_vm86 && cpl != 0 {
            return Err(Exception::gp(selector_error(selector) | event.ext()));
        }
        let wide = gate.kind() & 8 != 0;
        let target = if wide { gate.gate_offset() & 0xffff_ffff } else { gate.gate_offset() & 0xffff };
        let bytes = if wide { 4 } else { 2 };
        let inner = cpl < self.state.cpl || from_vm86;
        let (stack, pointer) = if inner {
            let (selector, pointer) = self.legacy_tss_stack(cpl, event)?;
            (self.inner_stack_segment(selector, cpl).map_err(|fault| with_ext(fault, event))?, pointer)
        } else {
            (self.state.segments[SegmentIndex::SS], self.state.regs[usize::from(reg::RSP)])
        };
        if target > u64::from(code.limit()) {
            return Err(Exception::gp(event.ext()));
        }
        let frame = self.legacy_frame(event, inner, from_vm86);
        // The inner stack is written with the handler's privilege.
        if inner && cpl != 3 {
            self.mmu.set_view(rx86_softmmu::View::Supervisor);
        }
        // A new stack's fault names it; the current one's does not.
        let named = if inner { selector_error(stack.selector) } else { 0 };
        let top = self.write_frame(&frame, &stack, pointer, bytes, named | event.ext())?;

        self.clear_flags_for(&gate);
        if from_vm86 {
            for index in [SegmentIndex::ES, SegmentIndex::DS, SegmentIndex::FS, SegmentIndex::GS] {
                self.state.segments[index] =
                    Segment { base: 0, limit: 0, access: access::UNUSABLE, selector: 0 };
            }
        }
        self.state.segments[SegmentIndex::SS] = stack;
        self.state.segments[SegmentIndex::CS] = code.segment(selector & !3 | u16::from(cpl));
        self.state.cpl = cpl;
        self.mode_changed();
        self.set_stack_pointer(top);
        self.state.set_rip(target);
        Ok(())
    }

    fn legacy_gate(&mut self, event: Event) -> Result<Descriptor, Exception> {
        let offset = u64::from(event.vector) * 8;
        if offset + 7 > u64::from(self.state.idtr.limit) {
            return Err(Exception::gp(event.gate_error()));
        }
        let address = self.table_address(self.state.idtr.base.wrapping_add(offset));
        let gate = Descriptor { address, low: u64::from_le_bytes(self.read_system(address)?), high: 0 };
        use system_type::{INTERRUPT_GATE, INTERRUPT_GATE16, TASK_GATE, TRAP_GATE, TRAP_GATE16};
        let known =
            matches!(gate.kind(), TASK_GATE | INTERRUPT_GATE16 | TRAP_GATE16 | INTERRUPT_GATE | TRAP_GATE);
        if !gate.is_system()
            || !known
            || (event.source == EventSource::Software && gate.dpl() < self.state.cpl)
        {
            return Err(Exception::gp(event.gate_error()));
        }
        if !gate.is_present() {
            return Err(Exception::np(event.gate_error()));
        }
        Ok(gate)
    }

    fn legacy_frame(&self, event: Event, inner: bool, from_vm86: bool) -> Frame {
        let state = &self.state;
        let selector = |index: usize| u64::from(state.segments[index].selector);
        let mut frame = Frame::new();
        if from_vm86 {
            for index in [SegmentIndex::GS, SegmentIndex::FS, SegmentIndex::DS, SegmentIndex::ES] {
                frame.push(selector(index));
            }
        }
        if inner {
            frame.push(selector(SegmentIndex::SS));
            frame.push(state.regs[usize::from(reg::RSP)]);
        }
        frame.push(self.pushed_rflags(event));
        frame.push(selector(SegmentIndex::CS));
        frame.push(state.rip());
        if let Some(code) = event.error_code {
            frame.push(u64::from(code));
        }
        frame
    }

    /// SS and ESP for privilege `cpl` from the 16-bit or 32-bit TSS.
    pub(super) fn legacy_tss_stack(&mut self, cpl: u8, event: Event) -> Result<(u16, u64), Exception> {
        let tss = self.state.tr;
        let wide = tss.access & 8 != 0;
        let (offset, bytes) = if wide { (4 + u64::from(cpl) * 8, 6) } else { (2 + u64::from(cpl) * 4, 4) };
        if offset + bytes - 1 > u64::from(tss.limit) {
            return Err(Exception::ts(selector_error(tss.selector) | event.ext()));
        }
        let address = self.table_address(tss.base.wrapping_add(offset));
        if wide {
            let pointer = u32::from_le_bytes(self.read_system(address)?);
            let selector = self.read_system(self.table_address(address.wrapping_add(4)))?;
            Ok((u16::from_le_bytes(selector), u64::from(pointer)))
        } else {
            let image = u32::from_le_bytes(self.read_system(address)?);
            Ok(((image >> 16) as u16, u64::from(image & 0xffff)))
        }
    }

    /// Delivers through a task gate: a task switch, then the error code on the new task's stack.
    fn deliver_through_task(&mut self, event: Event, gate: &Descriptor) -> Result<(), Exception> {
        let rflags = self.pushed_rflags(event);
        let entered = self
            .switch_task(gate.gate_selector(), SwitchKind::Gate, rflags)
            .map_err(|fault| with_ext(fault, event))?;
        let outcome =
            entered.map_err(|fault| with_ext(fault, event)).and_then(|()| self.push_task_error(event));
        if event.source == EventSource::Software {
            // The INT instruction is done; what fails now fails in the new task.
            self.fault_in_new_task(outcome);
            return Ok(());
        }
        outcome
    }

    /// Pushes the event's error code, if it has one, on the stack of the task that a task gate has led to.
    fn push_task_error(&mut self, event: Event) -> Result<(), Exception> {
        let Some(code) = event.error_code else { return Ok(()) };
        let wide = self.state.tr.access & 8 != 0;
        let bytes = if wide { 4 } else { 2 };
        let mut frame = Frame::new();
        frame.push(u64::from(code));
        let stack = self.state.segments[SegmentIndex::SS];
        let top =
            self.write_frame(&frame, &stack, self.state.regs[usize::from(reg::RSP)], bytes, event.ext())?;
        self.set_stack_pointer(top);
        Ok(())
    }

    /// Reads a value of 2 or 4 bytes (8 in 64-bit mode) on the current stack, `index` values above its top.
    pub(super) fn stack_value(&mut self, index: u64, bytes: u64) -> Result<u64, Exception> {
        self.stack_value_at(index * bytes, bytes)
    }

    /// Reads a value on the current stack, `distance` bytes above its top.
    pub(super) fn stack_value_at(&mut self, distance: u64, bytes: u64) -> Result<u64, Exception> {
        let pointer = self.state.regs[usize::from(reg::RSP)].wrapping_add(distance) & self.stack_mask();
        let linear = self.segment_linear(SegmentIndex::SS, pointer, bytes, Access::Read)?;
        let mut data = [0; 8];
        self.read_bytes(linear, &mut data[..bytes as usize])?;
        Ok(u64::from_le_bytes(data))
    }
}
