//! Segment descriptors and gates as they stand in memory (SDM vol. 3, 3.4.5, 5.8.3 and 6.11).

use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::state::{Segment, access};

/// A selector's index and table bits: what error codes report.
const SELECTOR_ERROR_BITS: u16 = !3;
/// A selector's table indicator: the LDT.
const SELECTOR_TI: u16 = 4;

/// Types of system descriptors (SDM vol. 3, table 3-2).
pub(super) mod system_type {
    pub(in crate::system) const TSS16_AVAILABLE: u32 = 1;
    pub(in crate::system) const LDT: u32 = 2;
    pub(in crate::system) const TSS16_BUSY: u32 = 3;
    pub(in crate::system) const CALL_GATE16: u32 = 4;
    pub(in crate::system) const TASK_GATE: u32 = 5;
    pub(in crate::system) const INTERRUPT_GATE16: u32 = 6;
    pub(in crate::system) const TRAP_GATE16: u32 = 7;
    pub(in crate::system) const TSS_AVAILABLE: u32 = 9;
    pub(in crate::system) const TSS_BUSY: u32 = 11;
    pub(in crate::system) const CALL_GATE: u32 = 12;
    pub(in crate::system) const INTERRUPT_GATE: u32 = 14;
    pub(in crate::system) const TRAP_GATE: u32 = 15;
}

/// The error code that names a selector.
pub(super) fn selector_error(selector: u16) -> u32 {
    u32::from(selector & SELECTOR_ERROR_BITS)
}

/// Whether a selector is null.
pub(super) fn is_null(selector: u16) -> bool {
    selector & !3 == 0
}

/// A descriptor of eight bytes, with the upper half that system descriptors have in IA-32e mode.
#[derive(Clone, Copy, Debug)]
pub(super) struct Descriptor {
    /// Linear address it was read from.
    pub(super) address: u64,
    /// The eight bytes.
    pub(super) low: u64,
    /// Bytes 8 to 15, zero if there are none.
    pub(super) high: u64,
}

impl Descriptor {
    /// Access rights in the format of `Segment::access`.
    pub(super) fn access(&self) -> u32 {
        (self.low >> 40) as u32 & 0xf0ff
    }
    /// The type field.
    pub(super) fn kind(&self) -> u32 {
        self.access() & access::TYPE
    }
    /// Whether it is a system descriptor or a gate.
    pub(super) fn is_system(&self) -> bool {
        self.access() & access::CODE_OR_DATA == 0
    }
    pub(super) fn is_code(&self) -> bool {
        !self.is_system() && self.access() & access::CODE != 0
    }
    pub(super) fn is_conforming(&self) -> bool {
        self.is_code() && self.access() & access::EXPAND_DOWN != 0
    }
    pub(super) fn is_writable_data(&self) -> bool {
        !self.is_system() && self.access() & (access::CODE | access::WRITABLE) == access::WRITABLE
    }
    pub(super) fn is_readable(&self) -> bool {
        !self.is_system() && self.access() & (access::CODE | access::WRITABLE) != access::CODE
    }
    pub(super) fn is_present(&self) -> bool {
        self.access() & access::PRESENT != 0
    }
    pub(super) fn dpl(&self) -> u8 {
        (self.access() >> 5 & 3) as u8
    }
    pub(super) fn is_long(&self) -> bool {
        self.access() & access::LONG != 0
    }
    pub(super) fn is_default_32(&self) -> bool {
        self.access() & access::DEFAULT_32 != 0
    }

    /// The base address; 64 bits for system descriptors in IA-32e mode.
    pub(super) fn base(&self) -> u64 {
        (self.low >> 16 & 0xff_ffff) | (self.low >> 56) << 24 | self.high << 32
    }
    /// The limit in bytes.
    pub(super) fn limit(&self) -> u32 {
        let raw = (self.low & 0xffff) as u32 | (self.low >> 32) as u32 & 0xf_0000;
        if self.access() & access::GRANULARITY != 0 { raw << 12 | 0xfff } else { raw }
    }

    /// A gate's target selector.
    pub(super) fn gate_selector(&self) -> u16 {
        (self.low >> 16) as u16
    }
    /// A gate's target offset; 64 bits in IA-32e mode, the low 16 of a 16-bit gate.
    pub(super) fn gate_offset(&self) -> u64 {
        (self.low & 0xffff) | (self.low >> 48) << 16 | self.high << 32
    }
    /// A call gate's parameter count, or an IA-32e gate's interrupt stack table index.
    pub(super) fn gate_count(&self) -> u8 {
        (self.low >> 32) as u8 & 0x1f
    }

    /// Whether the upper half of a system descriptor in IA-32e mode is one: its own type field is zero (SDM vol. 3, 5.8.3.1
    /// and 7.2.3). True where there is no upper half.
    pub(super) fn upper_half_valid(&self) -> bool {
        self.high >> 40 & 0x1f == 0
    }

    /// The segment register's contents.
    pub(super) fn segment(&self, selector: u16) -> Segment {
        Segment { base: self.base(), limit: self.limit(), access: self.access(), selector }
    }
}

impl Cpu {
    /// Reads the descriptor that a non-null selector names; #GP(selector) beyond the table's limit.
    pub(super) fn read_descriptor(&mut self, selector: u16) -> Result<Descriptor, Exception> {
        self.read_descriptor_or(selector, Exception::gp)
    }

    /// `read_descriptor` with another exception for a selector beyond the table (#TS in task switches).
    pub(super) fn read_descriptor_or(
        &mut self,
        selector: u16,
        fault: fn(u32) -> Exception,
    ) -> Result<Descriptor, Exception> {
        let offset = u64::from(selector & !7);
        let (base, limit) = if selector & SELECTOR_TI != 0 {
            if self.state.ldtr.unusable() {
                return Err(fault(selector_error(selector)));
            }
            (self.state.ldtr.base, u64::from(self.state.ldtr.limit))
        } else {
            (self.state.gdtr.base, u64::from(self.state.gdtr.limit))
        };
        if offset + 7 > limit {
            return Err(fault(selector_error(selector)));
        }
        let address = self.table_address(base.wrapping_add(offset));
        let low = u64::from_le_bytes(self.read_system(address)?);
        let mut descriptor = Descriptor { address, low, high: 0 };
        if self.state.long_mode_active() && descriptor.is_system() && descriptor.kind() != 0 {
            if offset + 15 > limit {
                return Err(fault(selector_error(selector)));
            }
            descriptor.high = u64::from_le_bytes(self.read_system(address.wrapping_add(8))?);
        }
        Ok(descriptor)
    }

    /// A linear address in a descriptor table: 32 bits outside IA-32e mode.
    pub(super) fn table_address(&self, address: u64) -> u64 {
        if self.state.long_mode_active() { address } else { address & 0xffff_ffff }
    }

    /// Sets the accessed bit of a code or data descriptor in memory, if it is clear.
    pub(super) fn mark_accessed(&mut self, descriptor: &mut Descriptor) -> Result<(), Exception> {
        self.mark_type(descriptor, access::ACCESSED)
    }

    /// Sets bits of a descriptor's type field in memory and in `descriptor`.
    pub(super) fn mark_type(&mut self, descriptor: &mut Descriptor, bits: u32) -> Result<(), Exception> {
        if descriptor.access() & bits == bits {
            return Ok(());
        }
        descriptor.low |= u64::from(bits) << 40;
        self.write_system(descriptor.address.wrapping_add(5), [(descriptor.low >> 40) as u8])
    }
}
