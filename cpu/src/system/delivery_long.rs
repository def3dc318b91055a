//! Event delivery through a 64-bit IDT (SDM vol. 3, 6.14), with the interrupt stack table.

use super::descriptor::{Descriptor, is_null, selector_error, system_type};
use super::event::{Event, EventSource};
use super::segment_load::null_stack_segment;
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::op::reg;
use crate::state::{Segment, SegmentIndex, bits};
use rx86_softmmu::View;

/// Offset of RSP0 in a 64-bit TSS.
const TSS_RSP0: u64 = 4;
/// Offset of IST1 in a 64-bit TSS.
const TSS_IST1: u64 = 0x24;

/// Flags that every delivery clears (SDM vol. 3, 6.12.1.3).
pub(super) const CLEARED_FLAGS: u64 = bits::RFLAGS_TF | bits::RFLAGS_NT | bits::RFLAGS_RF | bits::RFLAGS_VM;

impl Cpu {
    /// Delivers through a 64-bit interrupt or trap gate.
    pub(super) fn deliver_long(&mut self, event: Event) -> Result<(), Exception> {
        // The IDT, the TSS and an inner stack are accessed with supervisor privilege.
        self.mmu.set_view(View::Supervisor);
        let gate = self.long_gate(event)?;
        let selector = gate.gate_selector();
        let (code, cpl) = self.handler_code(selector, event)?;
        if !code.is_long() || code.is_default_32() {
            return Err(Exception::gp(selector_error(selector) | event.ext()));
        }
        let target = gate.gate_offset();
        if !self.is_canonical(target) {
            return Err(Exception::gp(event.ext()));
        }
        let inner = cpl < self.state.cpl;
        let stack = match gate.gate_count() & 7 {
            0 if inner => self.tss_stack(TSS_RSP0 + u64::from(cpl) * 8, event)?,
            0 => self.state.regs[usize::from(reg::RSP)],
            ist => self.tss_stack(TSS_IST1 + u64::from(ist - 1) * 8, event)?,
        };
        if cpl == 3 {
            // A handler for users has a user's rights to its stack.
            self.mmu.set_view(View::User);
        }
        let top = self.push_long_frame(stack & !15, event)?;

        // Nothing faults from here on.
        if inner {
            self.state.segments[SegmentIndex::SS] = null_stack_segment(u16::from(cpl), cpl);
        }
        let selector = selector & !3 | u16::from(cpl);
        self.state.segments[SegmentIndex::CS] = Segment { selector, ..code.segment(selector) };
        self.state.regs[usize::from(reg::RSP)] = top;
        self.state.set_rip(target);
        self.state.cpl = cpl;
        self.clear_flags_for(&gate);
        Ok(())
    }

    /// Reads and checks the gate.
    fn long_gate(&mut self, event: Event) -> Result<Descriptor, Exception> {
        let offset = u64::from(event.vector) * 16;
        if offset + 15 > u64::from(self.state.idtr.limit) {
            return Err(Exception::gp(event.gate_error()));
        }
        let address = self.state.idtr.base.wrapping_add(offset);
        let low = u64::from_le_bytes(self.read_linear(address)?);
        let high = u64::from_le_bytes(self.read_linear(address.wrapping_add(8))?);
        let gate = Descriptor { address, low, high };
        let valid = gate.is_system()
            && matches!(gate.kind(), system_type::INTERRUPT_GATE | system_type::TRAP_GATE)
            && (event.source != EventSource::Software || gate.dpl() >= self.state.cpl);
        if !valid {
            return Err(Exception::gp(event.gate_error()));
        }
        if !gate.is_present() {
            return Err(Exception::np(event.gate_error()));
        }
        Ok(gate)
    }

    /// The handler's code descriptor, checked, and the privilege level that it runs at.
    pub(super) fn handler_code(
        &mut self,
        selector: u16,
        event: Event,
    ) -> Result<(Descriptor, u8), Exception> {
        if is_null(selector) {
            return Err(Exception::gp(event.ext()));
        }
        let error = selector_error(selector) | event.ext();
        let mut code =
            self.read_descriptor_or(selector, Exception::gp).map_err(|fault| with_ext(fault, event))?;
        if !code.is_code() || code.dpl() > self.state.cpl {
            return Err(Exception::gp(error));
        }
        if !code.is_present() {
            return Err(Exception::np(error));
        }
        self.mark_accessed(&mut code)?;
        let cpl = if code.is_conforming() { self.state.cpl } else { code.dpl() };
        Ok((code, cpl))
    }

    /// A stack pointer from the 64-bit TSS.
    pub(super) fn tss_stack(&mut self, offset: u64, event: Event) -> Result<u64, Exception> {
        let tss = self.state.tr;
        if offset + 7 > u64::from(tss.limit) {
            return Err(Exception::ts(selector_error(tss.selector) | event.ext()));
        }
        let stack = u64::from_le_bytes(self.read_system(tss.base.wrapping_add(offset))?);
        if !self.is_canonical(stack) {
            return Err(Exception::ss(event.ext()));
        }
        Ok(stack)
    }

    /// Writes the frame below the aligned `stack`; returns the new RSP.
    fn push_long_frame(&mut self, stack: u64, event: Event) -> Result<u64, Exception> {
        let state = &self.state;
        let frame = [
            state.rip(),
            u64::from(state.segments[SegmentIndex::CS].selector),
            self.pushed_rflags(event),
            state.regs[usize::from(reg::RSP)],
            u64::from(state.segments[SegmentIndex::SS].selector),
        ];
        let frame_top = stack.wrapping_sub(40);
        if !self.is_canonical(frame_top.wrapping_sub(8)) || !self.is_canonical(stack.wrapping_sub(1)) {
            return Err(Exception::ss(event.ext()));
        }
        let mut image = [0u8; 48];
        image[..8].copy_from_slice(&u64::from(event.error_code.unwrap_or(0)).to_le_bytes());
        for (i, value) in frame.iter().enumerate() {
            image[8 + i * 8..16 + i * 8].copy_from_slice(&value.to_le_bytes());
        }
        if event.error_code.is_some() {
            self.write_linear(frame_top.wrapping_sub(8), image)?;
            Ok(frame_top.wrapping_sub(8))
        } else {
            let mut short = [0u8; 40];
            short.copy_from_slice(&image[8..]);
            self.write_linear(frame_top, short)?;
            Ok(frame_top)
        }
    }

    /// Interrupt gates clear IF; every gate clears TF, NT, RF and VM.
    pub(super) fn clear_flags_for(&mut self, gate: &Descriptor) {
        let interrupt = matches!(gate.kind(), system_type::INTERRUPT_GATE | system_type::INTERRUPT_GATE16);
        let cleared = CLEARED_FLAGS | if interrupt { bits::RFLAGS_IF } else { 0 };
        self.state.flags.system &= !cleared;
    }
}

/// Adds the event's EXT bit to an error code that names a selector.
pub(super) fn with_ext(mut fault: Exception, event: Event) -> Exception {
    if matches!(fault.vector, 10..=13) {
        fault.error_code |= event.ext();
    }
    fault
}
