//! A function's configuration space: values and which of their bits a guest may write (PCI Local Bus Specification
//! 3.0, section 6.1).

const REGISTERS: usize = 64;

/// The identity of a function, in the first registers of its configuration header.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// Vendor ID.
    pub vendor: u16,
    /// Device ID.
    pub device: u16,
    /// Base class, sub-class and programming interface in 24 bits.
    pub class: u32,
    /// Revision ID.
    pub revision: u8,
}

/// 256 bytes of configuration registers.
#[derive(Clone, Debug)]
pub struct ConfigSpace {
    values: [u32; REGISTERS],
    writable: [u32; REGISTERS],
}

impl ConfigSpace {
    /// A space with a type 0 header that names `identity` and is otherwise zero and read-only.
    pub fn new(identity: Identity) -> Self {
        let mut space = Self { values: [0; REGISTERS], writable: [0; REGISTERS] };
        space.values[0] = u32::from(identity.device) << 16 | u32::from(identity.vendor);
        space.values[2] = identity.class << 8 | u32::from(identity.revision);
        space
    }

    /// Gives the register at `offset` a value and the bits of it that the guest may write.
    pub fn define(&mut self, offset: u8, value: u32, writable: u32) {
        self.values[usize::from(offset / 4)] = value;
        self.writable[usize::from(offset / 4)] = writable;
    }

    /// The register at `offset`.
    pub fn read(&self, offset: u8) -> u32 {
        self.values[usize::from(offset / 4)]
    }

    /// A guest's write: only writable bits within `lanes` change.
    pub fn write(&mut self, offset: u8, value: u32, lanes: u32) {
        let index = usize::from(offset / 4);
        let changing = self.writable[index] & lanes;
        self.values[index] = self.values[index] & !changing | value & changing;
    }
}
