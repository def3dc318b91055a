//! The x87 FPU's registers (SDM vol. 1, 8.1); MMX registers are the significands of the physical registers.

/// One 80-bit register: the significand with its explicit integer bit, and sign with biased exponent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct F80 {
    /// The 64-bit significand.
    pub mantissa: u64,
    /// Bit 15: sign. Bits 0 to 14: biased exponent.
    pub sign_exponent: u16,
}

/// The x87 FPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct X87 {
    /// Physical registers R0 to R7 (ST(i) is `(top + i) & 7`).
    pub regs: [F80; 8],
    /// Control word.
    pub control: u16,
    /// Status word; its TOP field is always current.
    pub status: u16,
    /// Full tag word, two bits for each physical register.
    pub tags: u16,
    /// Last opcode, 11 bits.
    pub opcode: u16,
    /// Last instruction's selector.
    pub instruction_selector: u16,
    /// Last operand's selector.
    pub operand_selector: u16,
    /// Last instruction's offset.
    pub instruction_pointer: u64,
    /// Last operand's offset.
    pub operand_pointer: u64,
}

impl Default for X87 {
    /// The state after FNINIT.
    fn default() -> Self {
        Self {
            regs: [F80::default(); 8],
            control: 0x37f,
            status: 0,
            tags: 0xffff,
            opcode: 0,
            instruction_selector: 0,
            operand_selector: 0,
            instruction_pointer: 0,
            operand_pointer: 0,
        }
    }
}
