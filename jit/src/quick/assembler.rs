//! An assembler for the x86-64 host instructions that the quick tier uses (SDM vol. 2, chapters 2 and 3 to 6).

/// A host register: a general one as encoded, or from 16 on a vector one.
pub(super) type Reg = u8;

pub(super) const RAX: Reg = 0;
pub(super) const RCX: Reg = 1;
pub(super) const RDX: Reg = 2;
pub(super) const RBX: Reg = 3;
pub(super) const RSP: Reg = 4;
pub(super) const RBP: Reg = 5;
pub(super) const RSI: Reg = 6;
pub(super) const RDI: Reg = 7;
pub(super) const R8: Reg = 8;
pub(super) const R9: Reg = 9;
pub(super) const R10: Reg = 10;
pub(super) const R11: Reg = 11;
pub(super) const R12: Reg = 12;
pub(super) const R13: Reg = 13;
pub(super) const R14: Reg = 14;
pub(super) const R15: Reg = 15;

/// Conditions as encoded in Jcc, SETcc and CMOVcc.
pub(super) mod condition {
    pub(crate) const BELOW: u8 = 2;
    pub(crate) const ABOVE_OR_EQUAL: u8 = 3;
    pub(crate) const EQUAL: u8 = 4;
    pub(crate) const NOT_EQUAL: u8 = 5;
    pub(crate) const SIGN: u8 = 8;
    pub(crate) const NO_PARITY: u8 = 11;
    pub(crate) const LESS: u8 = 12;
    pub(crate) const GREATER_OR_EQUAL: u8 = 13;
    pub(crate) const LESS_OR_EQUAL: u8 = 14;
}

/// Two-operand arithmetic, numbered as in opcodes 00 to 3F and in 81 /n.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Alu {
    Add = 0,
    Or = 1,
    And = 4,
    Sub = 5,
    Xor = 6,
    Cmp = 7,
}

/// Shifts, numbered as in C1 /n; the number of the BMI2 form's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Shift {
    Left = 4,
    Right = 5,
    Arithmetic = 7,
}

/// A place in the code that jumps lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(u32);

const UNBOUND: u32 = u32::MAX;

/// Host code being written. Operands are 64 bits wide where nothing else is said.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    pub(super) code: Vec<u8>,
    labels: Vec<u32>,
    /// Where a 32-bit distance to a label is missing.
    fixups: Vec<(u32, Label)>,
}

impl Assembler {
    pub(super) fn clear(&mut self) {
        self.code.clear();
        self.labels.clear();
        self.fixups.clear();
    }

    pub(super) fn label(&mut self) -> Label {
        self.labels.push(UNBOUND);
        Label(self.labels.len() as u32 - 1)
    }

    /// The label is here.
    pub(super) fn bind(&mut self, label: Label) {
        self.labels[label.0 as usize] = self.code.len() as u32;
    }

    /// Fills in the distances; every label that is jumped to must have been bound.
    pub(super) fn link(&mut self) {
        for (at, label) in self.fixups.drain(..) {
            let distance = self.labels[label.0 as usize].wrapping_sub(at + 4);
            let at = at as usize;
            self.code[at..at + 4].copy_from_slice(&distance.to_le_bytes());
        }
    }

    pub(super) fn byte(&mut self, byte: u8) {
        self.code.push(byte);
    }

    pub(super) fn dword(&mut self, value: i32) {
        self.code.extend_from_slice(&value.to_le_bytes());
    }

    fn distance(&mut self, label: Label) {
        self.fixups.push((self.code.len() as u32, label));
        self.dword(0);
    }

    /// The REX prefix, if one is needed or `always`.
    fn rex(&mut self, wide: bool, reg: Reg, index: Reg, base: Reg, always: bool) {
        let rex = 0x40 | u8::from(wide) << 3 | (reg >> 3) << 2 | (index >> 3) << 1 | base >> 3;
        if rex != 0x40 || always {
            self.byte(rex);
        }
    }

    pub(super) fn registers(&mut self, reg: Reg, rm: Reg) {
        self.byte(0xc0 | (reg & 7) << 3 | rm & 7);
    }

    /// ModRM, SIB and displacement of `[base + displacement]`.
    pub(super) fn based(&mut self, reg: Reg, base: Reg, displacement: i32) {
        let small = i8::try_from(displacement).is_ok();
        let mode = match displacement {
            0 if base & 7 != RBP => 0,
            _ if small => 1,
            _ => 2,
        };
        self.byte(mode << 6 | (reg & 7) << 3 | base & 7);
        if base & 7 == RSP {
            self.byte(0x24);
        }
        match mode {
            0 => {}
            1 => self.byte(displacement as u8),
            _ => self.dword(displacement),
        }
    }

    /// ModRM, SIB and displacement of `[base + index << scale + displacement]`.
    fn indexed(&mut self, reg: Reg, base: Reg, index: Reg, scale: u8, displacement: i32) {
        let mode = match displacement {
            0 if base & 7 != RBP => 0,
            _ if i8::try_from(displacement).is_ok() => 1,
            _ => 2,
        };
        self.byte(mode << 6 | (reg & 7) << 3 | 4);
        self.byte(scale << 6 | (index & 7) << 3 | base & 7);
        match mode {
            0 => {}
            1 => self.byte(displacement as u8),
            _ => self.dword(displacement),
        }
    }

    /// `to = from`.
    pub(super) fn mov(&mut self, to: Reg, from: Reg) {
        self.rex(true, from, 0, to, true);
        self.byte(0x89);
        self.registers(from, to);
    }

    /// `to = value`; leaves the flags.
    pub(super) fn mov_constant(&mut self, to: Reg, value: u64) {
        if let Ok(value) = u32::try_from(value) {
            self.rex(false, 0, 0, to, false);
            self.byte(0xb8 | to & 7);
            self.dword(value as i32);
        } else if let Ok(value) = i32::try_from(value as i64) {
            self.rex(true, 0, 0, to, true);
            self.byte(0xc7);
            self.registers(0, to);
            self.dword(value);
        } else {
            self.rex(true, 0, 0, to, true);
            self.byte(0xb8 | to & 7);
            self.code.extend_from_slice(&value.to_le_bytes());
        }
    }

    /// Loads `bits` bits, zero-extended.
    pub(super) fn load(&mut self, bits: u32, to: Reg, base: Reg, displacement: i32) {
        self.rex(bits == 64, to, 0, base, false);
        self.load_opcode(bits);
        self.based(to, base, displacement);
    }

    /// Loads 64 bits from `[base + index + displacement]`.
    pub(super) fn load_indexed(&mut self, to: Reg, base: Reg, index: Reg, displacement: i32) {
        self.rex(true, to, index, base, true);
        self.byte(0x8b);
        self.indexed(to, base, index, 0, displacement);
    }

    /// Loads 32 bits, sign-extended.
    pub(super) fn load_signed(&mut self, to: Reg, base: Reg, displacement: i32) {
        self.rex(true, to, 0, base, true);
        self.byte(0x63);
        self.based(to, base, displacement);
    }

    /// Loads 32 bits, zero-extended, from `[base + (index << 2)]`.
    pub(super) fn load_element(&mut self, to: Reg, base: Reg, index: Reg) {
        self.rex(false, to, index, base, false);
        self.byte(0x8b);
        self.indexed(to, base, index, 2, 0);
    }

    fn load_opcode(&mut self, bits: u32) {
        match bits {
            8 => self.code.extend_from_slice(&[0x0f, 0xb6]),
            16 => self.code.extend_from_slice(&[0x0f, 0xb7]),
            _ => self.byte(0x8b),
        }
    }

    /// Stores the low `bits` bits.
    pub(super) fn store(&mut self, bits: u32, base: Reg, displacement: i32, from: Reg) {
        if bits == 16 {
            self.byte(0x66);
        }
        self.rex(bits == 64, from, 0, base, bits == 8);
        self.byte(if bits == 8 { 0x88 } else { 0x89 });
        self.based(from, base, displacement);
    }

    /// Stores `bits` bits of a constant, which for 64 is sign-extended from 32.
    pub(super) fn store_constant(&mut self, bits: u32, base: Reg, displacement: i32, value: i32) {
        if bits == 16 {
            self.byte(0x66);
        }
        self.rex(bits == 64, 0, 0, base, false);
        self.byte(if bits == 8 { 0xc6 } else { 0xc7 });
        self.based(0, base, displacement);
        match bits {
            8 => self.byte(value as u8),
            16 => self.code.extend_from_slice(&(value as u16).to_le_bytes()),
            _ => self.dword(value),
        }
    }

    /// `to = base + displacement`.
    pub(super) fn lea(&mut self, to: Reg, base: Reg, displacement: i32) {
        self.rex(true, to, 0, base, true);
        self.byte(0x8d);
        self.based(to, base, displacement);
    }

    /// `to = base + (index << scale) + displacement`; `index` is not RSP.
    pub(super) fn lea_indexed(&mut self, to: Reg, base: Reg, index: Reg, scale: u8, displacement: i32) {
        self.rex(true, to, index, base, true);
        self.byte(0x8d);
        self.indexed(to, base, index, scale, displacement);
    }

    /// `to = operation(to, from)`, of `bits` bits (32 clears the upper half).
    pub(super) fn alu(&mut self, operation: Alu, bits: u32, to: Reg, from: Reg) {
        if bits == 16 {
            self.byte(0x66);
        }
        self.rex(bits == 64, from, 0, to, bits == 8);
        self.byte((operation as u8) << 3 | u8::from(bits != 8));
        self.registers(from, to);
    }

    /// `to = operation(to, value)`, 64 bits with the constant sign-extended, or fewer.
    pub(super) fn alu_constant(&mut self, operation: Alu, bits: u32, to: Reg, value: i32) {
        if bits == 16 {
            self.byte(0x66);
        }
        self.rex(bits == 64, 0, 0, to, bits == 8);
        let small = i8::try_from(value).is_ok();
        self.byte(match bits {
            8 => 0x80,
            _ if small => 0x83,
            _ => 0x81,
        });
        self.registers(operation as u8, to);
        match bits {
            _ if bits == 8 || small => self.byte(value as u8),
            16 => self.code.extend_from_slice(&(value as u16).to_le_bytes()),
            _ => self.dword(value),
        }
    }

    /// `[base + displacement] = operation(.., value)`.
    pub(super) fn alu_memory(&mut self, operation: Alu, bits: u32, base: Reg, displacement: i32, value: i32) {
        self.rex(bits == 64, 0, 0, base, false);
        let small = i8::try_from(value).is_ok();
        self.byte(if small { 0x83 } else { 0x81 });
        self.based(operation as u8, base, displacement);
        if small { self.byte(value as u8) } else { self.dword(value) }
    }

    /// `[base + displacement] += from`.
    pub(super) fn add_to_memory(&mut self, base: Reg, displacement: i32, from: Reg) {
        self.rex(true, from, 0, base, true);
        self.byte(0x01);
        self.based(from, base, displacement);
    }

    /// Flags of `a & b`.
    pub(super) fn test(&mut self, a: Reg, b: Reg) {
        self.rex(true, b, 0, a, true);
        self.byte(0x85);
        self.registers(b, a);
    }

    /// Flags of the lowest byte and `mask`.
    pub(super) fn test_low(&mut self, reg: Reg, mask: u8) {
        self.rex(false, 0, 0, reg, true);
        self.byte(0xf6);
        self.registers(0, reg);
        self.byte(mask);
    }

    /// `to = operation(to, count)` for a constant count.
    pub(super) fn shift(&mut self, operation: Shift, to: Reg, count: u8) {
        self.rex(true, 0, 0, to, true);
        self.byte(0xc1);
        self.registers(operation as u8, to);
        self.byte(count);
    }

    /// `to = operation(from, count modulo 64)` (BMI2).
    pub(super) fn shift_by(&mut self, operation: Shift, to: Reg, from: Reg, count: Reg) {
        let prefix = match operation {
            Shift::Left => 1,
            Shift::Arithmetic => 2,
            Shift::Right => 3,
        };
        self.vex(prefix, to, count, from);
        self.byte(0xf7);
        self.registers(to, from);
    }

    /// `to = from` rotated right by `count` (BMI2).
    pub(super) fn rotate_right(&mut self, to: Reg, from: Reg, count: u8) {
        self.vex_of_map(3, 3, to, 0, from);
        self.byte(0xf0);
        self.registers(to, from);
        self.byte(count);
    }

    /// `to = high half of RDX * from` (BMI2 MULX with both results in one register).
    pub(super) fn mul_high(&mut self, to: Reg, from: Reg) {
        self.vex(3, to, to, from);
        self.byte(0xf6);
        self.registers(to, from);
    }

    /// A three-byte VEX prefix of map 0F38, W1.
    fn vex(&mut self, prefix: u8, reg: Reg, operand: Reg, rm: Reg) {
        self.vex_of_map(2, prefix, reg, operand, rm);
    }

    /// The same of a map (2 for 0F38, 3 for 0F3A).
    fn vex_of_map(&mut self, map: u8, prefix: u8, reg: Reg, operand: Reg, rm: Reg) {
        self.byte(0xc4);
        self.byte((!reg >> 3 & 1) << 7 | 1 << 6 | (!rm >> 3 & 1) << 5 | map);
        self.byte(1 << 7 | (!operand & 15) << 3 | prefix);
    }

    /// `to = to * from`.
    pub(super) fn imul(&mut self, to: Reg, from: Reg) {
        self.rex(true, to, 0, from, true);
        self.code.extend_from_slice(&[0x0f, 0xaf]);
        self.registers(to, from);
    }

    /// `to` = low `bits` of `from`, zero-extended.
    pub(super) fn zero_extend(&mut self, bits: u32, to: Reg, from: Reg) {
        if bits == 32 {
            self.rex(false, from, 0, to, false);
            self.byte(0x89);
            self.registers(from, to);
            return;
        }
        self.rex(false, to, 0, from, true);
        self.code.extend_from_slice(&[0x0f, if bits == 8 { 0xb6 } else { 0xb7 }]);
        self.registers(to, from);
    }

    /// `to` = low `bits` of `from`, sign-extended.
    pub(super) fn sign_extend(&mut self, bits: u32, to: Reg, from: Reg) {
        self.rex(true, to, 0, from, true);
        match bits {
            8 => self.code.extend_from_slice(&[0x0f, 0xbe]),
            16 => self.code.extend_from_slice(&[0x0f, 0xbf]),
            _ => self.byte(0x63),
        }
        self.registers(to, from);
    }

    /// Replaces the low 8 or 16 bits.
    pub(super) fn insert_low(&mut self, bits: u32, to: Reg, from: Reg) {
        if bits == 16 {
            self.byte(0x66);
        }
        self.rex(false, from, 0, to, true);
        self.byte(if bits == 8 { 0x88 } else { 0x89 });
        self.registers(from, to);
    }

    /// POPCNT (B8), TZCNT (BC) or LZCNT (BD), by opcode.
    pub(super) fn count_bits(&mut self, opcode: u8, to: Reg, from: Reg) {
        self.byte(0xf3);
        self.rex(true, to, 0, from, true);
        self.code.extend_from_slice(&[0x0f, opcode]);
        self.registers(to, from);
    }

    pub(super) fn bswap(&mut self, reg: Reg) {
        self.rex(true, 0, 0, reg, true);
        self.code.extend_from_slice(&[0x0f, 0xc8 | reg & 7]);
    }

    /// `to` = 1 if the condition holds, else 0.
    pub(super) fn set(&mut self, condition: u8, to: Reg) {
        self.rex(false, 0, 0, to, true);
        self.code.extend_from_slice(&[0x0f, 0x90 | condition]);
        self.registers(0, to);
        self.zero_extend(8, to, to);
    }

    /// `to = from` if the condition holds.
    pub(super) fn cmov(&mut self, condition: u8, to: Reg, from: Reg) {
        self.rex(true, to, 0, from, true);
        self.code.extend_from_slice(&[0x0f, 0x40 | condition]);
        self.registers(to, from);
    }

    pub(super) fn exchange(&mut self, a: Reg, b: Reg) {
        self.rex(true, a, 0, b, true);
        self.byte(0x87);
        self.registers(a, b);
    }

    pub(super) fn call(&mut self, label: Label) {
        self.byte(0xe8);
        self.distance(label);
    }

    pub(super) fn pop(&mut self, reg: Reg) {
        self.rex(false, 0, 0, reg, false);
        self.byte(0x58 | reg & 7);
    }

    pub(super) fn jump(&mut self, label: Label) {
        self.byte(0xe9);
        self.distance(label);
    }

    pub(super) fn jump_if(&mut self, condition: u8, label: Label) {
        self.code.extend_from_slice(&[0x0f, 0x80 | condition]);
        self.distance(label);
    }

    pub(super) fn call_memory(&mut self, base: Reg, displacement: i32) {
        self.rex(false, 0, 0, base, false);
        self.byte(0xff);
        self.based(2, base, displacement);
    }

    pub(super) fn jump_memory(&mut self, base: Reg, displacement: i32) {
        self.rex(false, 0, 0, base, false);
        self.byte(0xff);
        self.based(4, base, displacement);
    }

    pub(super) fn jump_register(&mut self, reg: Reg) {
        self.rex(false, 0, 0, reg, false);
        self.byte(0xff);
        self.registers(4, reg);
    }

    pub(super) fn ret(&mut self) {
        self.byte(0xc3);
    }
}
