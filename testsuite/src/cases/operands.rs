//! Operands of a generated case: registers, immediates, branch targets, and memory operands whose address registers are
//! set so that they hit the data pages.

use super::family::host_has_ymm;
use super::random::Random;
use super::values;
use crate::oracle::{CODE, DATA, DATA_BYTES, GS_BASE, Mode, PAGE, Program};
use iced_x86::{Instruction, Mnemonic, OpCodeOperandKind, OpKind, Register};

/// General registers by size, in encoding order.
const GPR8: [Register; 20] = [
    Register::AL,
    Register::CL,
    Register::DL,
    Register::BL,
    Register::SPL,
    Register::BPL,
    Register::SIL,
    Register::DIL,
    Register::R8L,
    Register::R9L,
    Register::R10L,
    Register::R11L,
    Register::R12L,
    Register::R13L,
    Register::R14L,
    Register::R15L,
    Register::AH,
    Register::CH,
    Register::DH,
    Register::BH,
];

/// An instruction in the making, with the program that it will be.
pub struct Builder<'a> {
    /// The instruction.
    pub instruction: Instruction,
    /// The program; its code is empty so far.
    pub program: &'a mut Program,
    /// The source of everything.
    pub random: &'a mut Random,
    /// Whether operands that may be registers are to be memory.
    pub memory: bool,
    /// Whether an address must be a multiple of 32.
    pub aligned: bool,
    /// An address in the data pages at which the memory operand begins.
    pub target: u64,
    /// The address of the instruction: RIP before it.
    pub here: u64,
    /// Address bits of string operands.
    pub string_bits: u32,
    /// A bit instruction's register operand, whose value must be kept small.
    pub bit_offset: bool,
}

impl Builder<'_> {
    /// Chooses operand `index` of the form. False if this kind is not known.
    pub fn operand(&mut self, index: u32, kind: OpCodeOperandKind) -> bool {
        use OpCodeOperandKind::*;
        match kind {
            r8_or_mem => self.register_or_memory(index, 8),
            r16_or_mem => self.register_or_memory(index, 16),
            r32_or_mem => self.register_or_memory(index, 32),
            r64_or_mem => self.register_or_memory(index, 64),
            r8_reg | r8_opcode => self.general(index, 8),
            r16_reg | r16_rm | r16_opcode => self.general(index, 16),
            r32_reg | r32_rm | r32_opcode | r32_vvvv => self.general(index, 32),
            r64_reg | r64_rm | r64_opcode | r64_vvvv => self.general(index, 64),
            mm_or_mem | xmm_or_mem | ymm_or_mem if self.memory => self.memory_operand(index),
            mm_reg | mm_rm | mm_or_mem => self.numbered(index, Register::MM0, 8),
            xmm_reg | xmm_rm | xmm_or_mem | xmm_vvvv | xmm_is4 => self.numbered(index, Register::XMM0, 16),
            ymm_reg | ymm_rm | ymm_or_mem | ymm_vvvv | ymm_is4 => self.numbered(index, Register::YMM0, 16),
            mem_vsib32x | mem_vsib64x => self.indices(index, Register::XMM0, kind == mem_vsib32x),
            mem_vsib32y | mem_vsib64y => self.indices(index, Register::YMM0, kind == mem_vsib32y),
            sti_opcode => self.numbered(index, Register::ST0, 8),
            mem => self.memory_operand(index),
            mem_offs => self.absolute(index),
            al => self.set_register(index, Register::AL),
            cl => self.set_register(index, Register::CL),
            ax => self.set_register(index, Register::AX),
            dx => self.set_register(index, Register::DX),
            eax => self.set_register(index, Register::EAX),
            rax => self.set_register(index, Register::RAX),
            st0 => self.set_register(index, Register::ST0),
            imm8 => self.immediate(index, OpKind::Immediate8),
            imm8_const_1 => {
                self.instruction.set_op_kind(index, OpKind::Immediate8);
                self.instruction.set_immediate8(1);
            }
            imm8sex16 => self.immediate(index, OpKind::Immediate8to16),
            imm8sex32 => self.immediate(index, OpKind::Immediate8to32),
            imm8sex64 => self.immediate(index, OpKind::Immediate8to64),
            imm16 => self.immediate(index, OpKind::Immediate16),
            imm32 => self.immediate(index, OpKind::Immediate32),
            imm32sex64 => self.immediate(index, OpKind::Immediate32to64),
            imm64 => self.immediate(index, OpKind::Immediate64),
            seg_rSI => self.string(index, self.sized(OpKind::MemorySegRSI), 6),
            es_rDI => self.string(index, self.sized(OpKind::MemoryESRDI), 7),
            seg_rDI => self.string(index, self.sized(OpKind::MemorySegRDI), 7),
            seg_rBX_al => self.table(index),
            br64_1 | br32_1 | br16_1 => self.branch(index, kind, 0x60),
            br64_4 | br32_4 | br16_2 => self.branch(index, kind, 0x700),
            _ => return false,
        }
        true
    }

    fn set_register(&mut self, index: u32, register: Register) {
        self.instruction.set_op_kind(index, OpKind::Register);
        self.instruction.set_op_register(index, register);
    }

    fn register_or_memory(&mut self, index: u32, bits: u32) {
        if self.memory { self.memory_operand(index) } else { self.general(index, bits) }
    }

    fn general(&mut self, index: u32, bits: u32) {
        let registers = self.registers();
        let register = if bits == 8 {
            let register = self.random.pick(&GPR8);
            // Outside 64-bit mode there are the first four and their second bytes.
            if registers == 16 || register < Register::SPL {
                register
            } else {
                GPR8[16 + self.random.below(4) as usize]
            }
        } else {
            let first = match bits {
                16 => Register::AX,
                32 => Register::EAX,
                _ => Register::RAX,
            };
            // The registers that instructions use by themselves come up more often.
            let number =
                if self.random.percent(40) { self.random.below(4) } else { self.random.below(registers) };
            first + number as u32
        };
        self.set_register(index, register);
        if self.bit_offset && self.memory {
            let small = self.random.below(1 << 10) as i64 - (1 << 9);
            self.program.state.gpr[register.full_register().number()] = small as u64;
        }
    }

    /// General registers, and vector registers, of the mode.
    fn registers(&self) -> u64 {
        if self.program.mode == Mode::Bits64 { 16 } else { 8 }
    }

    /// What a register must hold to point to the linear address `linear` in the data segments.
    pub fn offset_of(&self, linear: u64) -> u64 {
        let offset = linear.wrapping_sub(self.program.mode.data_base());
        match self.program.mode {
            Mode::Bits64 => offset,
            Mode::Bits32 => offset & 0xffff_ffff,
            Mode::Bits16 => offset & 0xffff,
        }
    }

    fn numbered(&mut self, index: u32, first: Register, count: u64) {
        let count = count.min(self.registers());
        let register = first + self.random.below(count) as u32;
        self.set_register(index, register);
    }

    fn immediate(&mut self, index: u32, kind: OpKind) {
        let value = values::integer(self.random);
        self.instruction.set_op_kind(index, kind);
        match kind {
            OpKind::Immediate8 if self.instruction.mnemonic() == Mnemonic::Enter => {}
            OpKind::Immediate8 => self.instruction.set_immediate8(value as u8),
            OpKind::Immediate8to16 => self.instruction.set_immediate8to16((value as i8).into()),
            OpKind::Immediate8to32 => self.instruction.set_immediate8to32((value as i8).into()),
            OpKind::Immediate8to64 => self.instruction.set_immediate8to64((value as i8).into()),
            OpKind::Immediate16 => self.instruction.set_immediate16(value as u16),
            OpKind::Immediate32 => self.instruction.set_immediate32(value as u32),
            OpKind::Immediate32to64 => self.instruction.set_immediate32to64((value as i32).into()),
            _ => self.instruction.set_immediate64(value),
        }
        if index == 1 && self.instruction.mnemonic() == Mnemonic::Enter {
            self.instruction.set_op_kind(1, OpKind::Immediate8_2nd);
            self.instruction.set_immediate8_2nd((value & 0x3f) as u8);
        }
    }

    /// A branch to somewhere in the code pages, at most `reach` bytes from the program.
    fn branch(&mut self, index: u32, kind: OpCodeOperandKind, reach: u64) {
        use OpCodeOperandKind::*;
        // Never into the program itself, which might not end then. This is its last instruction.
        let distance = self.random.below(reach) + 16;
        let target =
            if self.random.percent(50) { self.here + distance } else { self.program.ip() - distance };
        match kind {
            br64_1 | br64_4 => {
                self.instruction.set_op_kind(index, OpKind::NearBranch64);
                self.instruction.set_near_branch64(target);
            }
            br32_1 | br32_4 => {
                self.instruction.set_op_kind(index, OpKind::NearBranch32);
                self.instruction.set_near_branch32(target as u32);
            }
            _ => {
                self.instruction.set_op_kind(index, OpKind::NearBranch16);
                self.instruction.set_near_branch16(target as u16);
            }
        }
    }

    fn set_general(&mut self, register: Register, value: u64) {
        let narrow = self.program.mode != Mode::Bits64;
        let value = if narrow { value & 0xffff_ffff } else { value };
        self.program.state.gpr[register.full_register().number()] = value;
    }

    /// Strings are addressed by the mode's registers mostly, else with an address-size prefix.
    pub fn choose_string_bits(&mut self) {
        let usual = self.random.percent(85);
        self.string_bits = match self.program.mode {
            Mode::Bits64 if usual => 64,
            Mode::Bits64 => 32,
            Mode::Bits32 if usual => 32,
            Mode::Bits32 => 16,
            Mode::Bits16 if usual => 16,
            Mode::Bits16 => 32,
        };
    }

    /// A string operand of 64 address bits, in the size that was chosen.
    fn sized(&self, kind: OpKind) -> OpKind {
        match (kind, self.string_bits) {
            (OpKind::MemorySegRSI, 32) => OpKind::MemorySegESI,
            (OpKind::MemorySegRSI, 16) => OpKind::MemorySegSI,
            (OpKind::MemoryESRDI, 32) => OpKind::MemoryESEDI,
            (OpKind::MemoryESRDI, 16) => OpKind::MemoryESDI,
            (OpKind::MemorySegRDI, 32) => OpKind::MemorySegEDI,
            (OpKind::MemorySegRDI, 16) => OpKind::MemorySegDI,
            (kind, _) => kind,
        }
    }

    /// MOV with the accumulator and a 64-bit address.
    fn absolute(&mut self, index: u32) {
        self.instruction.set_op_kind(index, OpKind::Memory);
        self.instruction.set_memory_displ_size(self.program.mode.bits() / 8);
        self.instruction.set_memory_displacement64(self.offset_of(self.target));
    }

    /// XLATB.
    fn table(&mut self, index: u32) {
        self.instruction.set_op_kind(index, OpKind::Memory);
        let base = match self.program.mode {
            Mode::Bits64 => Register::RBX,
            Mode::Bits32 => Register::EBX,
            Mode::Bits16 => Register::BX,
        };
        self.instruction.set_memory_base(base);
        self.instruction.set_memory_index(Register::AL);
        let al = self.program.state.gpr[0] & 0xff;
        self.set_general(base, self.offset_of(self.target).wrapping_sub(al));
    }

    /// A string operand and the counter.
    fn string(&mut self, index: u32, kind: OpKind, pointer: usize) {
        self.instruction.set_op_kind(index, kind);
        // Strings begin where the windows of random memory are, and may run off the pages.
        let spread = self.random.below(64);
        let linear = self.window().wrapping_add(spread);
        self.program.state.gpr[pointer] = self.offset_of(linear);
        self.program.state.gpr[1] = self.random.below(24);
    }

    /// An address near a border of the data pages.
    pub fn window(&mut self) -> u64 {
        if self.random.percent(15) {
            // Across a border; that only the second page faults is the more interesting case.
            let border = self.random.pick(&[0, PAGE, 2 * PAGE, 2 * PAGE, 3 * PAGE]);
            return DATA + border as u64 - 1 - self.random.below(15);
        }
        // Processors differ in whether they look at the address before the bit offset is added.
        if self.random.percent(1) && !self.bit_offset {
            // Not canonical, or not so to its end.
            return self.random.pick(&[
                1 << 47,
                0x1234_5678_9abc_def0,
                (1 << 47) - 7,
                0u64.wrapping_sub(1 << 47) - 8,
            ]);
        }
        let border = match self.random.below(20) {
            0..=11 => PAGE,
            12..=16 => 2 * PAGE - 64,
            17 => 2 * PAGE,
            18 => 3 * PAGE,
            _ => 64,
        };
        let around = self.random.below(128) as i64 - 64;
        DATA + (border as i64 + around) as u64
    }

    /// A memory operand that begins at `target`, in one of the ways to say so.
    fn memory_operand(&mut self, index: u32) {
        self.instruction.set_op_kind(index, OpKind::Memory);
        match (self.program.mode, self.random.below(10)) {
            (Mode::Bits64, 0) => self.relative(),
            (Mode::Bits64, 2) => self.narrow(),
            (_, 1) => self.direct(),
            (Mode::Bits64, way) => self.based(way),
            (Mode::Bits32, 0) | (Mode::Bits16, 2..=7) => self.pair(),
            (_, way) => {
                self.narrow();
                self.segment(way);
            }
        }
        self.instruction.set_memory_displ_size(self.displacement_size());
    }

    /// As iced-x86 wants it: 1 or 8 where the encoder may choose the shortest.
    fn displacement_size(&self) -> u32 {
        let has_base = self.instruction.memory_base() != Register::None;
        let words = self.program.mode == Mode::Bits16 && self.instruction.memory_index() == Register::None;
        if !has_base && words {
            2
        } else if !has_base && self.program.mode == Mode::Bits32 {
            4
        } else if self.instruction.memory_displacement64() == 0
            && has_base
            && self.instruction.memory_base() != Register::RIP
        {
            0
        } else if has_base && self.instruction.memory_base() != Register::RIP {
            1
        } else if self.instruction.memory_index().is_gpr32() || self.instruction.memory_base().is_gpr32() {
            4
        } else {
            8
        }
    }

    fn relative(&mut self) {
        self.instruction.set_memory_base(Register::RIP);
        self.instruction.set_memory_displacement64(self.target);
    }

    fn direct(&mut self) {
        self.instruction.set_memory_displacement64(self.offset_of(self.target));
    }

    /// Another segment of the same base than the usual one, or CS, which cannot be written.
    fn segment(&mut self, way: u64) {
        match way {
            8 => self.instruction.set_segment_prefix(self.random.pick(&[Register::ES, Register::SS])),
            9 if self.random.percent(20) => self.instruction.set_segment_prefix(Register::CS),
            _ => {}
        }
    }

    /// The base and index registers of 16-bit addresses.
    fn pair(&mut self) {
        use Register::{BP, BX, DI, None, SI};
        let (base, index) = self.random.pick(&[
            (BX, SI),
            (BX, DI),
            (BP, SI),
            (BP, DI),
            (SI, None),
            (DI, None),
            (BP, None),
            (BX, None),
        ]);
        let displacement = self.displacement() as u16;
        let mut rest = (self.offset_of(self.target) as u16).wrapping_sub(displacement);
        let garbage = self.random.bits() & 0xffff_0000;
        if index != None {
            let value = self.random.bits() & 0xffff_ffff;
            self.set_general(index, value);
            rest = rest.wrapping_sub(value as u16);
        }
        self.set_general(base, garbage | u64::from(rest));
        self.instruction.set_memory_base(base);
        self.instruction.set_memory_index(index);
        self.instruction.set_memory_displacement64(u64::from(displacement));
    }

    fn displacement(&mut self) -> i64 {
        match self.random.below(3) {
            0 => 0,
            1 => self.random.below(256) as i64 - 128,
            _ => i64::from(self.random.bits() as i32),
        }
    }

    /// 32 bits of base and index; in 64-bit and 16-bit code by an address-size prefix.
    fn narrow(&mut self) {
        let registers = self.registers();
        let base = self.random.below(registers) as u32;
        let index = (base + 1 + self.random.below(registers - 1) as u32) % registers as u32;
        let displacement = self.displacement() as u32;
        let mut rest = (self.offset_of(self.target) as u32).wrapping_sub(displacement);
        if index != 4 {
            let scale = self.random.below(4) as u32;
            let value = self.random.bits();
            self.instruction.set_memory_index(Register::EAX + index);
            self.instruction.set_memory_index_scale(1 << scale);
            self.set_general(Register::EAX + index, value);
            rest = rest.wrapping_sub((value as u32) << scale);
        }
        self.instruction.set_memory_base(Register::EAX + base);
        self.instruction.set_memory_displacement64(u64::from(displacement));
        let garbage = self.random.bits() << 32;
        self.set_general(Register::EAX + base, garbage | u64::from(rest));
    }

    /// Base, index, displacement and sometimes GS.
    fn based(&mut self, way: u64) {
        let base = self.random.below(16) as u32;
        let index = (base + 1 + self.random.below(15) as u32) % 16;
        let displacement = self.displacement();
        let mut rest = self.target.wrapping_sub(displacement as u64);
        if way == 3 {
            self.instruction.set_segment_prefix(Register::GS);
            rest = rest.wrapping_sub(GS_BASE);
        }
        if way >= 7 && index != 4 {
            let scale = self.random.below(4) as u32;
            let value = if way == 7 { self.random.bits() } else { self.random.below(64) };
            self.instruction.set_memory_index(Register::RAX + index);
            self.instruction.set_memory_index_scale(1 << scale);
            self.set_general(Register::RAX + index, value);
            rest = rest.wrapping_sub(value << scale);
        }
        self.instruction.set_memory_base(Register::RAX + base);
        self.instruction.set_memory_displacement64(displacement as u64);
        self.set_general(Register::RAX + base, rest);
    }

    /// A vector of indices, most of them small, and a base that leads near `target`.
    fn indices(&mut self, index: u32, first: Register, doubles: bool) {
        let used = [self.instruction.op0_register().number(), self.instruction.op2_register().number()];
        let registers = self.registers();
        let mut number = self.random.below(registers) as usize;
        while used.contains(&number) && !self.random.percent(2) {
            number = self.random.below(registers) as usize;
        }
        if !used.contains(&number) {
            let (low, high) = (self.small_lanes(doubles), self.small_lanes(doubles));
            self.program.state.set_xmm(number, low);
            if host_has_ymm() {
                self.program.state.ymm_high[number] = high;
            }
        }
        let displacement = self.displacement();
        let long = self.program.mode == Mode::Bits64;
        let base = if long { Register::RAX } else { Register::EAX } + self.random.below(registers) as u32;
        self.instruction.set_op_kind(index, OpKind::Memory);
        self.instruction.set_memory_index(first + number as u32);
        self.instruction.set_memory_index_scale(1 << self.random.below(4));
        self.instruction.set_memory_base(base);
        let displacement = if long { displacement as u64 } else { u64::from(displacement as u32) };
        self.instruction.set_memory_displacement64(displacement);
        self.set_general(base, self.offset_of(self.target).wrapping_sub(displacement));
        self.instruction.set_memory_displ_size(self.displacement_size());
    }

    /// 128 bits of small signed integers, now and then one that leads far away.
    fn small_lanes(&mut self, doubles: bool) -> u128 {
        let bits = if doubles { 32 } else { 64 };
        (0..128 / bits).fold(0, |all, i| {
            let small = self.random.below(64) as i64 - 32;
            let lane = match self.random.below(100) {
                // Nothing is mapped there, or the address is not canonical.
                0 => small + (1 << 30),
                1 => small - (1 << 30),
                2 if !doubles => small ^ 1 << 58,
                _ => small,
            };
            all | (u128::from(lane as u64) & (u128::MAX >> (128 - bits))) << (i * bits)
        })
    }

    /// A place to jump to: in the code pages, or now and then nowhere.
    pub fn code_address(&mut self) -> u64 {
        let mode = self.program.mode;
        let linear = match self.random.below(10) {
            0 => values::integer(self.random),
            1 => DATA + DATA_BYTES as u64 - 8,
            2..=5 => CODE + self.random.below(PAGE as u64 / 2 - 16),
            _ => CODE + PAGE as u64 + 16 + self.random.below(PAGE as u64 - 16),
        };
        let offset = linear.wrapping_sub(mode.code_base());
        if mode == Mode::Bits64 { offset } else { offset & 0xffff_ffff }
    }
}
