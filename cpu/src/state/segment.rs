//! Segment registers with their hidden part, and the descriptor-table registers (SDM vol. 3, 3.4).

/// Indices into `Vcpu::segments`, in encoding order.
pub struct SegmentIndex;

impl SegmentIndex {
    /// ES.
    pub const ES: usize = 0;
    /// CS.
    pub const CS: usize = 1;
    /// SS.
    pub const SS: usize = 2;
    /// DS.
    pub const DS: usize = 3;
    /// FS.
    pub const FS: usize = 4;
    /// GS.
    pub const GS: usize = 5;
}

/// Bits of `Segment::access`: descriptor bits 40 to 55 moved to bit 0 (the VMX access-rights format).
pub mod access {
    /// The type field.
    pub const TYPE: u32 = 0xf;
    /// Type bit 0: accessed.
    pub const ACCESSED: u32 = 1;
    /// Type bit 1: writable data, or readable code.
    pub const WRITABLE: u32 = 2;
    /// Type bit 2: expand-down data, or conforming code.
    pub const EXPAND_DOWN: u32 = 4;
    /// Type bit 3: code.
    pub const CODE: u32 = 8;
    /// Not a system descriptor.
    pub const CODE_OR_DATA: u32 = 1 << 4;
    /// Present.
    pub const PRESENT: u32 = 1 << 7;
    /// Available to software.
    pub const AVAILABLE: u32 = 1 << 12;
    /// 64-bit code.
    pub const LONG: u32 = 1 << 13;
    /// Default operation size or stack size: 32 bits.
    pub const DEFAULT_32: u32 = 1 << 14;
    /// Limit counts pages.
    pub const GRANULARITY: u32 = 1 << 15;
    /// The register was loaded with a null selector.
    pub const UNUSABLE: u32 = 1 << 16;
}

/// A segment register: the selector and the hidden part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Segment {
    /// Base linear address.
    pub base: u64,
    /// Limit in bytes, granularity already applied.
    pub limit: u32,
    /// Access rights, bits of `access`.
    pub access: u32,
    /// The visible selector.
    pub selector: u16,
}

impl Segment {
    /// A real-mode segment: base is 16 times the selector, 64 KiB, writable data.
    pub const fn real_mode(selector: u16) -> Self {
        Self { base: (selector as u64) << 4, limit: 0xffff, access: 0x93, selector }
    }

    /// Whether the descriptor is a 64-bit code segment.
    #[inline(always)]
    pub fn long(&self) -> bool {
        self.access & access::LONG != 0
    }
    /// The D/B bit.
    #[inline(always)]
    pub fn default_32(&self) -> bool {
        self.access & access::DEFAULT_32 != 0
    }
    /// Whether a null selector was loaded.
    #[inline(always)]
    pub fn unusable(&self) -> bool {
        self.access & access::UNUSABLE != 0
    }
    /// The descriptor privilege level.
    pub fn dpl(&self) -> u8 {
        (self.access >> 5 & 3) as u8
    }
    /// Whether this is a code segment.
    pub fn is_code(&self) -> bool {
        self.access & (access::CODE_OR_DATA | access::CODE) == access::CODE_OR_DATA | access::CODE
    }
    /// Whether `offset..offset + bytes` lies within the limit, for normal and expand-down segments.
    #[inline]
    pub fn contains(&self, offset: u64, bytes: u64) -> bool {
        let last = offset.wrapping_add(bytes - 1);
        let expand_down = self.access & (access::CODE | access::EXPAND_DOWN) == access::EXPAND_DOWN;
        if expand_down {
            let top = if self.default_32() { 0xffff_ffff } else { 0xffff };
            offset > u64::from(self.limit) && last <= top && last >= offset
        } else {
            last <= u64::from(self.limit) && last >= offset
        }
    }
}

/// GDTR or IDTR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TableRegister {
    /// Base linear address.
    pub base: u64,
    /// Limit: the last valid byte's offset.
    pub limit: u16,
}
