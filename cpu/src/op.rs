//! The compact pre-decoded operation that blocks are made of.

/// A general register operand: bits 0 to 4 choose the slot in `Vcpu::regs`, bit 6 the high byte (AH, CH, DH, BH).
pub type Reg = u8;

/// Slots of `Vcpu::regs` and the register operands that name them.
pub mod reg {
    /// RAX.
    pub const RAX: u8 = 0;
    /// RCX.
    pub const RCX: u8 = 1;
    /// RDX.
    pub const RDX: u8 = 2;
    /// RBX.
    pub const RBX: u8 = 3;
    /// RSP.
    pub const RSP: u8 = 4;
    /// RBP.
    pub const RBP: u8 = 5;
    /// RSI.
    pub const RSI: u8 = 6;
    /// RDI.
    pub const RDI: u8 = 7;
    /// RIP. While an instruction executes it already points behind that instruction.
    pub const RIP: u8 = 16;
    /// A slot that always reads zero: the base or index of an address that has none.
    pub const ZERO: u8 = 17;
    /// Flag in a byte register operand: bits 8 to 15 of the slot.
    pub const HIGH_BYTE: u8 = 0x40;
    /// The operand in this position is not a register.
    pub const NONE: u8 = 0xff;
}

/// How an operation's memory operand becomes a linear address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum AddressForm {
    /// 64-bit mode, 64-bit address size, segment base zero.
    Flat,
    /// 64-bit mode, 64-bit address size, FS or GS base added.
    Based,
    /// Everything else: address-size wrapping, segment limits and access rights, alignment checks.
    Checked,
}

/// Prefix and size bits in `Op::flags`.
pub mod op_flags {
    /// LOCK prefix, or XCHG with memory, which locks without it.
    pub const LOCK: u8 = 1 << 0;
    /// REP or REPE.
    pub const REP: u8 = 1 << 1;
    /// REPNE.
    pub const REPNE: u8 = 1 << 2;
    /// The instruction has a memory operand.
    pub const MEMORY: u8 = 1 << 3;
    /// Effective operand size 16.
    pub const OPERAND16: u8 = 1 << 4;
    /// Effective operand size 64 (neither bit: 32).
    pub const OPERAND64: u8 = 1 << 5;
    /// Effective address size 16.
    pub const ADDRESS16: u8 = 1 << 6;
    /// Effective address size 64 (neither bit: 32).
    pub const ADDRESS64: u8 = 1 << 7;
}

/// One decoded instruction, without its meaning: what both engines' meanings read their operands from.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Op {
    /// The immediate, sign-extended to 64 bits; a near branch's displacement from the next instruction; a far
    /// pointer's offset; a 64-bit absolute memory offset's low part goes to `displacement` and its whole here.
    pub immediate: u64,
    /// The memory operand's displacement; a far pointer's selector; ENTER's second immediate.
    pub displacement: i32,
    /// iced-x86's `Code`, for traces and translators.
    pub code: u16,
    /// Register operands by position; `reg::NONE` where the operand is not a register. SIMD, x87, segment, control and
    /// debug registers are plain numbers.
    pub regs: [Reg; 4],
    /// Base register slot of the memory operand, `reg::ZERO` if it has none.
    pub base: u8,
    /// Index register slot of the memory operand, `reg::ZERO` if it has none.
    pub index: u8,
    /// Left shift of the index, 0 to 3.
    pub scale: u8,
    /// Segment of the memory operand (0 to 5: ES, CS, SS, DS, FS, GS).
    pub segment: u8,
    /// How the memory operand, or the stack, is addressed.
    pub form: AddressForm,
    /// Length of the instruction in bytes, 1 to 15.
    pub length: u8,
    /// Bits of `op_flags`.
    pub flags: u8,
}

impl Op {
    /// Whether all bits of `bits` (see `op_flags`) are set.
    #[inline(always)]
    pub fn has(&self, bits: u8) -> bool {
        self.flags & bits == bits
    }

    /// The effective operand size in bits.
    #[inline(always)]
    pub fn operand_bits(&self) -> u32 {
        match self.flags & (op_flags::OPERAND16 | op_flags::OPERAND64) {
            op_flags::OPERAND16 => 16,
            op_flags::OPERAND64 => 64,
            _ => 32,
        }
    }

    /// The effective address size as a mask of valid offset bits.
    #[inline(always)]
    pub fn address_mask(&self) -> u64 {
        match self.flags & (op_flags::ADDRESS16 | op_flags::ADDRESS64) {
            op_flags::ADDRESS16 => 0xffff,
            op_flags::ADDRESS64 => u64::MAX,
            _ => 0xffff_ffff,
        }
    }

    /// iced-x86's code of this instruction.
    pub fn iced_code(&self) -> iced_x86::Code {
        iced_x86::Code::try_from(usize::from(self.code)).unwrap_or(iced_x86::Code::INVALID)
    }
}
