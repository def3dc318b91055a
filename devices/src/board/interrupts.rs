//! The way of an interrupt: from the chips' wires through the 8259As and the I/O APIC to the local APICs and vCPUs.

use rx86_softmmu::Attention;

use crate::lapic::{ApicOut, Destination, InterruptMessage, lock};
use crate::layout::{IOAPIC_PIN_PIT, IRQ_PIT};

use super::Board;

/// The lines that the 8259A pair has.
const PIC_LINES: u8 = 16;

impl Board {
    /// Whether vCPU `cpu` has an interrupt to take once it can: a vector, or the 8259A's INTR.
    pub fn pending(&mut self, cpu: usize) -> bool {
        let lapic = lock(&self.lapics[cpu]);
        lapic.pending_vector().is_some() || self.pics.output() && lapic.accepts_pic()
    }

    /// vCPU `cpu` takes its interrupt: the local APIC's vector, or the 8259A's by an INTA cycle. `None` if there is
    /// none any more.
    pub fn acknowledge(&mut self, cpu: usize) -> Option<u8> {
        let mut lapic = lock(&self.lapics[cpu]);
        let mut vector = lapic.acknowledge();
        if vector.is_none() && self.pics.output() && lapic.accepts_pic() {
            vector = Some(self.pics.acknowledge());
            lapic.pic_acknowledged();
        }
        drop(lapic);
        tracing::trace!(target: "rx86::interrupt", cpu, ?vector, "acknowledge");
        self.route();
        // The flag was taken for one interrupt; there may be another behind it.
        if self.pending(cpu) {
            self.attentions[cpu].raise(Attention::INTERRUPT);
        }
        vector
    }

    /// Sends what vCPU `cpu`'s local APIC has to send, after its registers were accessed (without its lock held).
    pub fn after_lapic_access(&mut self, cpu: usize) {
        let outbox = lock(&self.lapics[cpu]).take_outbox();
        for out in outbox {
            match out {
                ApicOut::Ipi(message, destination) => self.lapics.send(&message, destination),
                ApicOut::Eoi(vector) => self.ioapic.eoi(vector),
            }
        }
        self.route();
        // LINT0 may have been opened to an INTR that is high already.
        if self.pic_output && lock(&self.lapics[cpu]).accepts_pic() {
            self.attentions[cpu].raise(Attention::INTERRUPT);
        }
    }

    /// The end of a level-triggered interrupt, as a local APIC broadcasts it.
    pub fn end_of_interrupt(&mut self, vector: u8) {
        self.ioapic.eoi(vector);
        self.route();
    }

    /// Delivers a message-signalled interrupt.
    pub fn deliver(&mut self, message: &InterruptMessage) {
        self.lapics.send(message, Destination::Field);
    }

    /// Carries the wires' levels to the interrupt controllers and their outputs to the vCPUs.
    pub(super) fn route(&mut self) {
        let changes = self.harness.take_changes();
        let mut changed = changes.rose | changes.fell;
        while changed != 0 {
            let line = changed.trailing_zeros() as u8;
            let bit = 1 << line;
            changed &= !bit;
            let high = changes.level & bit != 0;
            // Both edges since the last look: the line made a pulse, or dipped.
            if changes.rose & changes.fell & bit != 0 {
                self.set_line(line, !high);
            }
            self.set_line(line, high);
        }
        if self.ioapic.has_messages() {
            for message in self.ioapic.take_messages() {
                self.lapics.send(&message, Destination::Field);
            }
        }
        self.route_pic_output();
    }

    fn set_line(&mut self, line: u8, high: bool) {
        tracing::trace!(target: "rx86::interrupt", line, high, "line");
        if line < PIC_LINES {
            self.pics.set_irq(line, high);
        }
        let pin = if line == IRQ_PIT { IOAPIC_PIN_PIT } else { line };
        self.ioapic.set_irq(usize::from(pin), high);
    }

    /// INTR goes to LINT0 of the bootstrap processor.
    fn route_pic_output(&mut self) {
        let output = self.pics.output();
        if output == self.pic_output {
            return;
        }
        self.pic_output = output;
        let mut lapic = lock(&self.lapics[0]);
        lapic.set_lint(0, output);
        if output && lapic.accepts_pic() {
            self.attentions[0].raise(Attention::INTERRUPT);
        }
    }
}
