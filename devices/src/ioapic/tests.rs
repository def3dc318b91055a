//! The I/O APIC's cases.

use super::{IoApic, PINS};
use crate::device::Device;
use crate::lapic::{DeliveryMode, InterruptMessage};

fn read(chip: &mut IoApic, register: u8) -> u32 {
    chip.write(0x00, &[register, 0, 0, 0]);
    let mut data = [0; 4];
    chip.read(0x10, &mut data);
    u32::from_le_bytes(data)
}

fn write(chip: &mut IoApic, register: u8, value: u32) {
    chip.write(0x00, &[register, 0, 0, 0]);
    chip.write(0x10, &value.to_le_bytes());
}

fn program(chip: &mut IoApic, pin: u8, entry: u64) {
    write(chip, 0x11 + pin * 2, (entry >> 32) as u32);
    write(chip, 0x10 + pin * 2, entry as u32);
}

const EDGE: u64 = 0x0000;
const LEVEL: u64 = 0x8000;
const MASKED: u64 = 0x1_0000;

#[test]
fn registers() {
    let mut chip = IoApic::new(5);
    assert_eq!(read(&mut chip, 0), 5 << 24);
    assert_eq!(read(&mut chip, 1), 0x0017_0020);
    write(&mut chip, 0, 0xffff_ffff);
    assert_eq!(read(&mut chip, 0), 0x0f00_0000);
    for pin in 0..PINS as u8 {
        assert_eq!(read(&mut chip, 0x10 + pin * 2), 0x1_0000, "pin {pin} is masked after reset");
    }
    program(&mut chip, 23, u64::MAX);
    assert_eq!((read(&mut chip, 0x3e), read(&mut chip, 0x3f)), (0x1_afff, 0xff00_0000));
    assert_eq!(read(&mut chip, 0x40), 0);
}

#[test]
fn the_message_is_the_entry() {
    let fixed = InterruptMessage {
        destination: 3,
        logical: false,
        wide: false,
        delivery_mode: DeliveryMode::Fixed,
        vector: 0x41,
        level: false,
    };
    for (entry, expected) in [
        (0x0300_0000_0000_0041, Some(fixed)),
        (0x0300_0000_0000_8041, Some(InterruptMessage { level: true, ..fixed })),
        (0x0300_0000_0000_a041, Some(InterruptMessage { level: true, ..fixed })),
        (
            0xff00_0000_0000_0941,
            Some(InterruptMessage {
                destination: 0xff,
                logical: true,
                delivery_mode: DeliveryMode::LowestPriority,
                ..fixed
            }),
        ),
        (0x0300_0000_0000_8441, Some(InterruptMessage { delivery_mode: DeliveryMode::Nmi, ..fixed })),
        (0x0300_0000_0000_0341, None),
        (0x0300_0000_0001_0041, None),
    ] {
        let mut chip = IoApic::new(0);
        program(&mut chip, 7, entry);
        chip.set_irq(7, true);
        assert_eq!(chip.take_messages(), Vec::from_iter(expected), "{entry:#x}");
    }
}

#[test]
fn edges() {
    let mut chip = IoApic::new(0);
    program(&mut chip, 4, EDGE | 0x30);
    for (high, messages) in [(true, 1), (true, 0), (false, 0), (true, 1)] {
        chip.set_irq(4, high);
        assert_eq!(chip.take_messages().len(), messages);
    }
    program(&mut chip, 4, EDGE | MASKED | 0x30);
    chip.set_irq(4, false);
    chip.set_irq(4, true);
    program(&mut chip, 4, EDGE | 0x30);
    assert!(!chip.has_messages(), "an edge at a masked pin is lost");
    chip.set_irq(24, true);
    chip.set_irq(usize::MAX, true);
    assert!(!chip.has_messages());
}

#[test]
fn levels() {
    let mut chip = IoApic::new(0);
    program(&mut chip, 10, LEVEL | MASKED | 0x50);
    chip.set_irq(10, true);
    assert!(!chip.has_messages());
    program(&mut chip, 10, LEVEL | 0x50);
    assert_eq!(chip.take_messages().len(), 1, "unmasked while high");
    assert_eq!(read(&mut chip, 0x24) & 0x4000, 0x4000, "remote IRR");
    chip.set_irq(10, false);
    chip.set_irq(10, true);
    chip.eoi(0x51);
    assert!(!chip.has_messages(), "nothing until its EOI");
    chip.eoi(0x50);
    assert_eq!(chip.take_messages().len(), 1, "still high");
    chip.set_irq(10, false);
    chip.write(0x40, &0x50u32.to_le_bytes());
    assert!(!chip.has_messages(), "low at the EOI");
    assert_eq!(read(&mut chip, 0x24) & 0x4000, 0);
    chip.set_irq(10, true);
    chip.take_messages();
    program(&mut chip, 10, EDGE | MASKED | 0x50);
    assert_eq!(read(&mut chip, 0x24) & 0x4000, 0, "edge mode clears remote IRR");
}
