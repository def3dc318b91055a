//! The I/O APIC: the 82093AA with the version number and the EOI register of its integrated successors.

#[cfg(test)]
mod tests;

use crate::device::Device;
use crate::lapic::{DeliveryMode, InterruptMessage};

/// Number of interrupt input pins.
pub const PINS: usize = 24;

/// Version 0x20: there is an EOI register.
const VERSION: u32 = (PINS as u32 - 1) << 16 | 0x20;

const IOREGSEL: u64 = 0x00;
const IOWIN: u64 = 0x10;
const EOI: u64 = 0x40;

const LOGICAL: u64 = 1 << 11;
const REMOTE_IRR: u64 = 1 << 14;
const LEVEL: u64 = 1 << 15;
const MASKED: u64 = 1 << 16;
/// Vector, delivery mode, destination mode, polarity, trigger mode, mask and destination; the rest is read-only.
const WRITABLE: u64 = 0xff00_0000_0001_afff;

/// An I/O APIC with 24 pins.
///
/// Its pins take a wire's assertion, not a voltage: a guest's choice of polarity is kept in the redirection table and
/// changes nothing, since nothing on the board is wired against what the firmware's tables say.
pub struct IoApic {
    /// Bits 27:24 of the identification register, in place.
    id: u32,
    select: u8,
    redirection: [u64; PINS],
    asserted: [bool; PINS],
    messages: Vec<InterruptMessage>,
}

impl IoApic {
    /// An I/O APIC after reset: all pins masked. `id` is the four-bit identification.
    pub fn new(id: u8) -> Self {
        let mut chip = Self {
            id: u32::from(id & 0xf) << 24,
            select: 0,
            redirection: [0; PINS],
            asserted: [false; PINS],
            messages: Vec::new(),
        };
        chip.reset();
        chip
    }

    /// Drives `pin`. Pins beyond the last are not there.
    pub fn set_irq(&mut self, pin: usize, high: bool) {
        let Some(asserted) = self.asserted.get_mut(pin) else { return };
        let rose = high && !*asserted;
        *asserted = high;
        let entry = self.redirection[pin];
        if entry & LEVEL != 0 {
            self.deliver_level(pin);
        } else if rose && entry & MASKED == 0 {
            // An edge at a masked pin is neither delivered nor held (82093AA, 3.2.4, interrupt mask).
            self.send(pin);
        }
    }

    /// The end of an interrupt with `vector` at some processor: level-triggered pins still asserted interrupt anew.
    pub fn eoi(&mut self, vector: u8) {
        for pin in 0..PINS {
            let entry = self.redirection[pin];
            if entry & LEVEL != 0 && entry & REMOTE_IRR != 0 && entry as u8 == vector {
                self.redirection[pin] = entry & !REMOTE_IRR;
                self.deliver_level(pin);
            }
        }
    }

    /// Takes the messages for the local APICs, in the order of their making.
    pub fn take_messages(&mut self) -> Vec<InterruptMessage> {
        std::mem::take(&mut self.messages)
    }

    /// Whether there are messages to take.
    pub fn has_messages(&self) -> bool {
        !self.messages.is_empty()
    }

    fn deliver_level(&mut self, pin: usize) {
        if self.asserted[pin] && self.redirection[pin] & (MASKED | REMOTE_IRR) == 0 {
            self.send(pin);
        }
    }

    fn send(&mut self, pin: usize) {
        let entry = self.redirection[pin];
        let Some(delivery_mode) = DeliveryMode::from_bits((entry >> 8) as u32) else { return };
        let acknowledged = matches!(delivery_mode, DeliveryMode::Fixed | DeliveryMode::LowestPriority);
        // SMI, NMI, INIT and ExtINT are edges whatever the trigger mode says: no EOI would answer them.
        let level = acknowledged && entry & LEVEL != 0;
        if level {
            self.redirection[pin] |= REMOTE_IRR;
        }
        self.messages.push(InterruptMessage {
            destination: (entry >> 56) as u32,
            logical: entry & LOGICAL != 0,
            wide: false,
            delivery_mode,
            vector: entry as u8,
            level,
        });
    }

    fn read_register(&self) -> u32 {
        match self.select {
            0x00 | 0x02 => self.id,
            0x01 => VERSION,
            0x10..=0x3f => {
                let half = self.select - 0x10;
                (self.redirection[usize::from(half / 2)] >> (u32::from(half & 1) * 32)) as u32
            }
            _ => 0,
        }
    }

    fn write_register(&mut self, value: u32) {
        match self.select {
            0x00 => self.id = value & 0x0f00_0000,
            0x10..=0x3f => {
                let half = self.select - 0x10;
                let pin = usize::from(half / 2);
                let shift = u32::from(half & 1) * 32;
                let writable = WRITABLE & 0xffff_ffff << shift;
                let old = self.redirection[pin];
                let mut entry = old & !writable | u64::from(value) << shift & writable;
                // A pin made edge-triggered forgets that it waits for an EOI.
                if entry & LEVEL == 0 {
                    entry &= !REMOTE_IRR;
                }
                self.redirection[pin] = entry;
                if entry & LEVEL != 0 {
                    self.deliver_level(pin);
                }
            }
            _ => {}
        }
    }
}

impl Device for IoApic {
    fn name(&self) -> &'static str {
        "ioapic"
    }

    fn read(&mut self, offset: u64, data: &mut [u8]) {
        let value = match offset & !3 {
            IOREGSEL => u32::from(self.select),
            IOWIN => self.read_register(),
            _ => 0,
        };
        let bytes = u64::from(value).to_le_bytes();
        for (index, byte) in data.iter_mut().enumerate() {
            *byte = bytes.get(index + (offset & 3) as usize).copied().unwrap_or(0);
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let mut bytes = [0; 4];
        for (to, from) in bytes.iter_mut().zip(data) {
            *to = *from;
        }
        let value = u32::from_le_bytes(bytes);
        match offset {
            IOREGSEL => self.select = value as u8,
            // The registers are 32 bits wide and only a whole one can be written.
            IOWIN if data.len() >= 4 => self.write_register(value),
            EOI => self.eoi(value as u8),
            _ => {}
        }
    }

    fn reset(&mut self) {
        self.select = 0;
        self.redirection = [MASKED; PINS];
        self.messages.clear();
    }
}
