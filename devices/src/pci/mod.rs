//! PCI bus 0 behind configuration mechanism #1 (PCI Local Bus Specification 3.0, section 3.2.2.3.2).

mod bridges;
mod config;

use crate::Device;
pub use bridges::{HostBridge, IsaBridge};
pub use config::{ConfigSpace, Identity};

const ADDRESS_ENABLE: u32 = 1 << 31;
/// The address register's reserved bits and its two low ones read as zero.
const ADDRESS_WRITABLE: u32 = 0x80ff_fffc;
const DATA_OFFSET: u64 = 4;

/// A device and function number on bus 0, as configuration addresses hold them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(u8);

impl Slot {
    /// Device 0 to 31 and function 0 to 7; higher bits are ignored.
    pub const fn new(device: u8, function: u8) -> Self {
        Self((device & 31) << 3 | function & 7)
    }
}

/// A function on the bus: what it shows in its 256 bytes of configuration space.
pub trait PciFunction: Send {
    /// The function's name, for traces.
    fn name(&self) -> &'static str;

    /// Reads the double word at `offset`, a multiple of four.
    fn read_config(&mut self, offset: u8) -> u32;

    /// Writes those bits of the double word at `offset` that `lanes` covers; lanes are whole bytes.
    fn write_config(&mut self, offset: u8, value: u32, lanes: u32);

    /// The bus's reset line.
    fn reset(&mut self);
}

/// The bus, as a chip whose offsets 0 to 3 are the address register and 4 to 7 the data window.
#[derive(Default)]
pub struct PciBus {
    address: u32,
    functions: Vec<(Slot, Box<dyn PciFunction>)>,
}

impl PciBus {
    /// A bus with nothing on it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts `function` into `slot`, in place of what was there.
    pub fn insert(&mut self, slot: Slot, function: Box<dyn PciFunction>) {
        match self.functions.binary_search_by_key(&slot, |(at, _)| *at) {
            Ok(index) => self.functions[index].1 = function,
            Err(index) => self.functions.insert(index, (slot, function)),
        }
    }

    /// The function that the address register selects.
    fn selected(&mut self) -> Option<&mut dyn PciFunction> {
        let bus = self.address >> 16 & 0xff;
        if self.address & ADDRESS_ENABLE == 0 || bus != 0 {
            return None;
        }
        let slot = Slot((self.address >> 8) as u8);
        let index = self.functions.binary_search_by_key(&slot, |(at, _)| *at).ok()?;
        Some(self.functions[index].1.as_mut())
    }
}

impl Device for PciBus {
    fn name(&self) -> &'static str {
        "pci"
    }

    /// Accesses do not cross a double word. Only a whole one reaches the address register; the rest is not decoded.
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        let value = match (offset, data.len()) {
            (0, 4) => self.address,
            (0..DATA_OFFSET, _) => u32::MAX,
            _ => {
                let register = self.address as u8 & 0xfc;
                self.selected().map_or(u32::MAX, |function| function.read_config(register))
            }
        };
        let bytes = value.to_le_bytes();
        for (index, byte) in data.iter_mut().enumerate() {
            *byte = bytes[(offset as usize + index) & 3];
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let (mut value, mut lanes) = ([0; 4], [0; 4]);
        for (index, &byte) in data.iter().enumerate() {
            let lane = (offset as usize + index) & 3;
            (value[lane], lanes[lane]) = (byte, 0xff);
        }
        let (value, lanes) = (u32::from_le_bytes(value), u32::from_le_bytes(lanes));
        match (offset, lanes) {
            (0, u32::MAX) => self.address = value & ADDRESS_WRITABLE,
            (0..DATA_OFFSET, _) => {}
            _ => {
                let register = self.address as u8 & 0xfc;
                if let Some(function) = self.selected() {
                    function.write_config(register, value, lanes);
                }
            }
        }
    }

    fn reset(&mut self) {
        self.address = 0;
        for (_, function) in &mut self.functions {
            function.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bus() -> PciBus {
        let mut bus = PciBus::new();
        bus.insert(Slot::new(1, 0), Box::new(IsaBridge::new()));
        bus.insert(Slot::new(0, 0), Box::new(HostBridge::new()));
        bus
    }

    fn read(bus: &mut PciBus, address: u32, offset: u64, bytes: usize) -> u32 {
        bus.write(0, &address.to_le_bytes());
        let mut data = [0; 4];
        bus.read(DATA_OFFSET + offset, &mut data[..bytes]);
        u32::from_le_bytes(data)
    }

    #[test]
    fn shows_its_functions_in_every_width() {
        let cases = [
            ("host bridge", 0x8000_0000, 0, 4, 0x1237_8086),
            ("vendor alone", 0x8000_0000, 0, 2, 0x8086),
            ("device alone", 0x8000_0000, 2, 2, 0x1237),
            ("one byte", 0x8000_0000, 3, 1, 0x12),
            ("host bridge class", 0x8000_0008, 0, 4, 0x0600_0002),
            ("ISA bridge", 0x8000_0800, 0, 4, 0x7000_8086),
            ("ISA bridge class", 0x8000_0808, 2, 2, 0x0601),
            ("no such device", 0x8000_1000, 0, 4, 0xffff_ffff),
            ("no such function", 0x8000_0100, 0, 2, 0xffff),
            ("no such bus", 0x8001_0000, 0, 4, 0xffff_ffff),
            ("not enabled", 0x0000_0000, 0, 4, 0xffff_ffff),
        ];
        for (name, address, offset, bytes, expected) in cases {
            assert_eq!(read(&mut bus(), address, offset, bytes), expected, "{name}");
        }
    }

    #[test]
    fn only_a_double_word_reaches_the_address_register() {
        let mut bus = bus();
        bus.write(0, &0x8000_0803_u32.to_le_bytes());
        bus.write(3, &[0x01]);
        bus.write(0, &[0, 0]);
        let mut data = [0; 4];
        bus.read(0, &mut data);
        assert_eq!(u32::from_le_bytes(data), 0x8000_0800);
        bus.read(0, &mut data[..1]);
        assert_eq!(data[0], 0xff, "mechanism #2 is not there");
    }

    #[test]
    fn writes_touch_their_bytes_and_writable_bits() {
        let mut bus = bus();
        bus.write(0, &0x8000_0860_u32.to_le_bytes());
        bus.write(DATA_OFFSET + 1, &[0x0b]);
        assert_eq!(read(&mut bus, 0x8000_0860, 0, 4), 0x8080_0b80, "PIRQRC");
        bus.write(0, &0x8000_0000_u32.to_le_bytes());
        bus.write(DATA_OFFSET, &[0; 4]);
        assert_eq!(read(&mut bus, 0x8000_0000, 0, 4), 0x1237_8086, "identification");
        bus.reset();
        assert_eq!(read(&mut bus, 0x8000_0860, 0, 4), 0x8080_8080);
    }
}
