//! Messages and local interrupts arriving at a local APIC (SDM Vol. 3A, 12.5 to 12.8).

use rx86_softmmu::Attention;

use super::registers::{ESR_RECEIVE_ILLEGAL_VECTOR, ESR_SEND_ILLEGAL_VECTOR};
use super::{
    ApicOut, DeliveryMode, Destination, InterruptMessage, LVT_LEVEL, LVT_MASKED, LVT_REMOTE_IRR, LocalApic,
    Lvt,
};

impl LocalApic {
    /// Whether the message's destination field selects this APIC (SDM Vol. 3A, 12.6.2).
    pub fn matches(&self, message: &InterruptMessage) -> bool {
        if !self.is_enabled() {
            return false;
        }
        let destination = message.destination;
        let broadcast = if message.wide { u32::MAX } else { 0xff };
        if destination == broadcast {
            return true;
        }
        if !message.logical {
            return destination == self.id;
        }
        let ldr = self.logical_id();
        if self.is_x2apic() {
            return destination >> 16 == ldr >> 16 && destination & ldr & 0xffff != 0;
        }
        let (ldr, mda) = (ldr >> 24, destination);
        match self.dfr >> 28 {
            0xf => mda <= 0xff && mda & ldr != 0,
            0x0 => mda >> 4 == ldr >> 4 && mda & ldr & 0xf != 0,
            _ => false,
        }
    }

    /// Whether an IPI out of another APIC's outbox (or this one's) is for this APIC.
    pub fn is_addressed(&self, message: &InterruptMessage, destination: Destination) -> bool {
        match destination {
            Destination::Field => self.matches(message),
            Destination::Only(id) => self.id == id,
            Destination::AllBut(id) => self.id != id,
            Destination::All => true,
        }
    }

    /// Accepts a message. The caller has found that it is for this APIC.
    pub fn deliver(&mut self, message: &InterruptMessage) {
        if !self.is_enabled() {
            return;
        }
        self.accept(message.delivery_mode, message.vector, message.level);
    }

    /// Drives the LINT0 or LINT1 pin. In ExtINT mode LINT0 has no effect here: see [`LocalApic::accepts_pic`].
    pub fn set_lint(&mut self, pin: usize, high: bool) {
        let (Some(was_high), Some(&entry)) = (self.lint_high.get_mut(pin), [Lvt::Lint0, Lvt::Lint1].get(pin))
        else {
            return;
        };
        let rose = high && !*was_high;
        *was_high = high;
        if entry == Lvt::Lint0 && self.lint0_is_level() {
            self.redeliver_lint0();
        } else if rose && self.lvt[entry as usize] & 0x700 != (DeliveryMode::ExtInt as u32) << 8 {
            self.deliver_local(entry);
        }
    }

    /// Delivers a local interrupt as its LVT entry says.
    pub(super) fn deliver_local(&mut self, entry: Lvt) {
        let lvt = self.lvt[entry as usize];
        if lvt & LVT_MASKED != 0 || !self.is_enabled() {
            return;
        }
        // The timer's and the error entry have no delivery mode: theirs is Fixed, and these bits read as zero.
        if let Some(mode) = DeliveryMode::from_bits(lvt >> 8) {
            self.accept(mode, lvt as u8, false);
        }
    }

    /// A level-triggered LINT0 in Fixed mode interrupts again after each EOI for as long as it is high.
    pub(super) fn redeliver_lint0(&mut self) {
        let lvt = self.lvt[Lvt::Lint0 as usize];
        if self.lint_high[0] && self.lint0_is_level() && lvt & (LVT_MASKED | LVT_REMOTE_IRR) == 0 {
            self.lvt[Lvt::Lint0 as usize] |= LVT_REMOTE_IRR;
            self.deliver_local(Lvt::Lint0);
        }
    }

    fn lint0_is_level(&self) -> bool {
        self.lvt[Lvt::Lint0 as usize] & (LVT_LEVEL | 0x700) == LVT_LEVEL
    }

    fn accept(&mut self, mode: DeliveryMode, vector: u8, level: bool) {
        match mode {
            DeliveryMode::Fixed | DeliveryMode::LowestPriority => self.accept_vector(vector, level),
            // There is no system management mode: an SMI is as if handled at once.
            DeliveryMode::Smi => {}
            DeliveryMode::Nmi => {
                self.events.nmi = true;
                self.attention.raise(Attention::NMI);
            }
            DeliveryMode::Init => {
                self.events.init = true;
                self.events.sipi = None;
                self.attention.raise(Attention::INIT);
            }
            DeliveryMode::StartUp => {
                self.events.sipi = Some(vector);
                self.attention.raise(Attention::INIT);
            }
            DeliveryMode::ExtInt => {
                self.ext_int = true;
                self.attention.raise(Attention::INTERRUPT);
            }
        }
    }

    fn accept_vector(&mut self, vector: u8, level: bool) {
        if !self.is_software_enabled() {
            return;
        }
        if vector < 16 {
            self.report_error(ESR_RECEIVE_ILLEGAL_VECTOR);
            return;
        }
        self.irr.set(vector);
        if level {
            self.tmr.set(vector);
        } else {
            self.tmr.clear(vector);
        }
        self.raise_if_pending();
    }

    /// Notes an error for the ESR and delivers the error interrupt (SDM Vol. 3A, 12.5.3).
    pub(super) fn report_error(&mut self, bit: u32) {
        let is_new = self.errors & bit == 0;
        self.errors |= bit;
        let lvt = self.lvt[Lvt::Error as usize];
        // An error entry with an illegal vector of its own reports nothing, or it would report for ever.
        if is_new && lvt as u8 >= 16 {
            self.deliver_local(Lvt::Error);
        }
    }

    /// A write to the ICR sends its message (SDM Vol. 3A, 12.6.1).
    pub(super) fn send_ipi(&mut self, icr: u64) {
        let low = icr as u32;
        let vector = low as u8;
        let (level_assert, level) = (low & 1 << 14 != 0, low & 1 << 15 != 0);
        let Some(delivery_mode) = DeliveryMode::from_bits(low >> 8) else { return };
        let has_vector = matches!(delivery_mode, DeliveryMode::Fixed | DeliveryMode::LowestPriority);
        if has_vector && vector < 16 {
            self.report_error(ESR_SEND_ILLEGAL_VECTOR);
            return;
        }
        // INIT level de-assert only synchronized the arbitration IDs of APICs that had a serial bus.
        if delivery_mode == DeliveryMode::Init && level && !level_assert {
            return;
        }
        let destination = match low >> 18 & 3 {
            0 => Destination::Field,
            1 => Destination::Only(self.id),
            2 => Destination::All,
            _ => Destination::AllBut(self.id),
        };
        let wide = self.is_x2apic();
        let message = InterruptMessage {
            destination: (icr >> if wide { 32 } else { 56 }) as u32,
            logical: low & 1 << 11 != 0,
            wide,
            delivery_mode,
            vector,
            // The trigger mode of an IPI is Edge whatever the ICR says, but for INIT level de-assert.
            level: false,
        };
        if destination == Destination::Only(self.id) {
            // The self shorthand is for Fixed only; a lone self-IPI need not wait for the board.
            if delivery_mode == DeliveryMode::Fixed {
                self.accept_vector(vector, false);
            }
            return;
        }
        self.outbox.push(ApicOut::Ipi(message, destination));
    }
}
