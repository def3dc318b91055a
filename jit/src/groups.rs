//! Which memory accesses of a node lie so close to each other, by the same registers, that one look into the TLB will do
//! for all of them.

use iced_x86::{
    Code, Decoder, DecoderOptions, Instruction, InstructionInfoFactory, OpAccess, OpKind, Register,
    UsedMemory,
};

/// The most bytes from the first to the last that accesses of a group touch. Groups that turn out to cross a page are left to
/// the interpreter, so it is small against a page.
const MAX_SPAN_BYTES: i64 = 256;

/// Accesses within one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// Bytes from the first to the last that is accessed.
    pub(crate) span: u64,
    /// Whether any access writes.
    pub(crate) writes: bool,
}

/// An access's place in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) group: usize,
    /// Bytes from the group's first.
    pub(crate) offset: u64,
}

/// The groups of a node, and each instruction's access if it is a member. An instruction with more than one access is none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Groups {
    pub(crate) groups: Vec<Group>,
    members: Vec<Option<Member>>,
}

/// A register's value: what some register held at some time, plus a constant.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Symbol {
    root: u32,
    offset: i64,
}

/// What addresses of a group have in common.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    segment: Register,
    base: u32,
    index: Option<(u32, u32)>,
}

/// The root of RIP: known, but for a constant.
const RIP: u32 = 16;
/// The base of an address that has none.
const ABSOLUTE: u32 = 17;

struct Access {
    instruction: usize,
    key: Key,
    offset: i64,
    bytes: i64,
    writes: bool,
}

/// A group that may still grow.
struct Open {
    key: Key,
    first: i64,
    end: i64,
    writes: bool,
    accesses: Vec<(usize, i64)>,
}

struct Symbols {
    registers: [Symbol; 16],
    next_root: u32,
}

impl Groups {
    /// The groups of a node's code.
    /// Accesses of instructions that `elsewhere` names are in none.
    pub(crate) fn of(bytes: &[u8], elsewhere: &[Option<u64>]) -> Self {
        let mut factory = InstructionInfoFactory::new();
        let mut symbols = Symbols::new();
        let mut groups: Vec<Open> = Vec::new();
        let mut count = 0;
        for instruction in Decoder::with_ip(64, bytes, 0, DecoderOptions::NONE) {
            let info = factory.info(&instruction);
            if let [memory] = info.used_memory()
                && elsewhere.get(count).is_none_or(Option::is_none)
                && let Some(access) = symbols.access(count, &instruction, memory)
            {
                add(&mut groups, &access);
            }
            let written = info.used_registers().iter().filter(|used| is_write(used.access()));
            symbols.execute(&instruction, written.map(|used| used.register()));
            count += 1;
        }
        let mut result = Self { groups: Vec::new(), members: vec![None; count] };
        for open in groups.iter().filter(|open| open.accesses.len() > 1) {
            let group = result.groups.len();
            result.groups.push(Group { span: (open.end - open.first) as u64, writes: open.writes });
            for &(instruction, offset) in &open.accesses {
                result.members[instruction] = Some(Member { group, offset: (offset - open.first) as u64 });
            }
        }
        result
    }

    /// The membership of the node's instruction number `index`.
    pub(crate) fn member(&self, index: usize) -> Option<Member> {
        self.members.get(index).copied().flatten()
    }
}

/// An access at a distance from RSP as it is at its node's beginning.
pub(crate) struct StackAccess {
    pub(crate) instruction: usize,
    pub(crate) offset: i64,
    pub(crate) bytes: i64,
    pub(crate) writes: bool,
}

/// What a node does with the stack.
pub(crate) struct StackUse {
    pub(crate) accesses: Vec<StackAccess>,
    /// How far RSP is at the end from where it was, if that is known.
    pub(crate) moved: Option<i64>,
    pub(crate) instructions: usize,
}

/// What a node's code does with the stack; None if it may change the mapping.
pub(crate) fn stack_use(bytes: &[u8]) -> Option<StackUse> {
    let stack = Register::RSP.number() as u32;
    let mut factory = InstructionInfoFactory::new();
    let mut symbols = Symbols::new();
    let mut result = StackUse { accesses: Vec::new(), moved: None, instructions: 0 };
    for instruction in Decoder::with_ip(64, bytes, 0, DecoderOptions::NONE) {
        if instruction.is_privileged() {
            return None;
        }
        let info = factory.info(&instruction);
        if let [memory] = info.used_memory()
            && let Some(access) = symbols.access(result.instructions, &instruction, memory)
            && access.key == (Key { segment: Register::None, base: stack, index: None })
        {
            let Access { instruction, offset, bytes, writes, .. } = access;
            result.accesses.push(StackAccess { instruction, offset, bytes, writes });
        }
        let written = info.used_registers().iter().filter(|used| is_write(used.access()));
        symbols.execute(&instruction, written.map(|used| used.register()));
        result.instructions += 1;
    }
    let end = symbols.registers[Register::RSP.number()];
    result.moved = (end.root == stack).then_some(end.offset);
    Some(result)
}

/// Adds an access to the last group of its key, or to a new one.
fn add(groups: &mut Vec<Open>, access: &Access) {
    let &Access { instruction, key, offset, bytes, writes } = access;
    if let Some(open) = groups.iter_mut().rev().find(|open| open.key == key) {
        let (first, end) = (open.first.min(offset), open.end.max(offset + bytes));
        if end - first <= MAX_SPAN_BYTES {
            (open.first, open.end) = (first, end);
            open.writes |= writes;
            open.accesses.push((instruction, offset));
            return;
        }
    }
    let accesses = vec![(instruction, offset)];
    groups.push(Open { key, first: offset, end: offset + bytes, writes, accesses });
}

fn is_write(access: OpAccess) -> bool {
    !matches!(access, OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess)
}

impl Symbols {
    fn new() -> Self {
        let registers = std::array::from_fn(|number| Symbol { root: number as u32, offset: 0 });
        Self { registers, next_root: ABSOLUTE + 1 }
    }

    fn of(&self, register: Register) -> Option<Symbol> {
        match register {
            Register::RIP => Some(Symbol { root: RIP, offset: 0 }),
            Register::None => Some(Symbol { root: ABSOLUTE, offset: 0 }),
            _ if register.is_gpr64() => Some(self.registers[register.number()]),
            _ => None,
        }
    }

    /// The access, if it is one that translated code makes by itself and whose address is known that well.
    fn access(&self, number: usize, instruction: &Instruction, memory: &UsedMemory) -> Option<Access> {
        let unfit = matches!(instruction.code(), Code::Leaveq | Code::Enterq_imm16_imm8)
            || instruction.is_string_instruction()
            || memory.access() == OpAccess::NoMemAccess
            || memory.vsib_size() != 0;
        let bytes = memory.memory_size().size() as i64;
        if unfit || bytes == 0 {
            return None;
        }
        let base = self.of(memory.base())?;
        let scale = memory.scale().max(1);
        let index = match memory.index() {
            Register::None => None,
            register => Some(self.of(register)?),
        };
        let segment = match memory.segment() {
            segment @ (Register::FS | Register::GS) => segment,
            _ => Register::None,
        };
        let scaled = index.map_or(0, |index| index.offset.wrapping_mul(i64::from(scale)));
        let offset = (memory.displacement() as i64).wrapping_add(base.offset).wrapping_add(scaled);
        // Far from overflow.
        if offset.unsigned_abs() > 1 << 40 {
            return None;
        }
        let key = Key { segment, base: base.root, index: index.map(|index| (index.root, scale)) };
        Some(Access { instruction: number, key, offset, bytes, writes: is_write(memory.access()) })
    }

    /// What the registers hold behind the instruction.
    fn execute(&mut self, instruction: &Instruction, written: impl Iterator<Item = Register>) {
        if let Some((register, symbol)) = self.moved(instruction) {
            self.registers[register.number()] = symbol;
            return;
        }
        let stack = self.registers[Register::RSP.number()];
        let mut sets_stack = false;
        for register in written.filter(|register| register.is_gpr()) {
            let number = register.full_register().number();
            sets_stack |= number == Register::RSP.number();
            self.registers[number] = Symbol { root: self.next_root, offset: 0 };
            self.next_root += 1;
        }
        let pops_stack =
            instruction.op0_register().full_register() == Register::RSP || instruction.code() == Code::Leaveq;
        if sets_stack && instruction.is_stack_instruction() && !pops_stack {
            let moved = i64::from(instruction.stack_pointer_increment());
            self.registers[Register::RSP.number()] =
                Symbol { root: stack.root, offset: stack.offset.wrapping_add(moved) };
        }
    }

    /// If the instruction sets a 64-bit register to another's value plus a constant: which, and to what.
    fn moved(&self, instruction: &Instruction) -> Option<(Register, Symbol)> {
        let target = instruction.op0_register();
        if instruction.op0_kind() != OpKind::Register || !target.is_gpr64() {
            return None;
        }
        let plus = |symbol: Symbol, constant: i64| {
            Some((target, Symbol { offset: symbol.offset.wrapping_add(constant), ..symbol }))
        };
        match instruction.code() {
            Code::Mov_r64_rm64 | Code::Mov_rm64_r64 if instruction.op1_kind() == OpKind::Register => {
                plus(self.of(instruction.op1_register())?, 0)
            }
            Code::Lea_r64_m if instruction.memory_index() == Register::None => {
                let base = instruction.memory_base();
                let is_general = base.is_gpr64();
                is_general
                    .then(|| self.of(base))?
                    .and_then(|symbol| plus(symbol, instruction.memory_displacement64() as i64))
            }
            Code::Add_rm64_imm8 | Code::Add_rm64_imm32 | Code::Add_RAX_imm32 => {
                plus(self.of(target)?, instruction.immediate(1) as i64)
            }
            Code::Sub_rm64_imm8 | Code::Sub_rm64_imm32 | Code::Sub_RAX_imm32 => {
                plus(self.of(target)?, (instruction.immediate(1) as i64).wrapping_neg())
            }
            Code::Inc_rm64 => plus(self.of(target)?, 1),
            Code::Dec_rm64 => plus(self.of(target)?, -1),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::code_asm::*;

    /// For each instruction its group and offset, as the node's only ones.
    fn members(
        program: impl Fn(&mut CodeAssembler) -> Result<(), iced_x86::IcedError>,
    ) -> Vec<Option<(usize, u64)>> {
        let mut assembler = CodeAssembler::new(64).unwrap();
        program(&mut assembler).unwrap();
        let bytes = assembler.assemble(0).unwrap();
        let groups = Groups::of(&bytes, &[]);
        let count = Decoder::with_ip(64, &bytes, 0, DecoderOptions::NONE).into_iter().count();
        (0..count).map(|index| groups.member(index).map(|member| (member.group, member.offset))).collect()
    }

    #[test]
    fn accesses_by_the_same_registers_are_a_group() {
        let found = members(|a| {
            a.mov(rax, qword_ptr(rdi + 8))?;
            a.mov(ecx, dword_ptr(rdi + rsi * 4))?;
            a.add(rdi, 16)?;
            a.mov(dword_ptr(rdi - 16), ecx)?;
            a.mov(ecx, dword_ptr(rdi + rsi * 4 - 12))?;
            a.mov(rdi, qword_ptr(rdi + 24))?;
            a.mov(rdx, qword_ptr(rdi))
        });
        assert_eq!(
            found,
            [Some((0, 8)), Some((1, 0)), None, Some((0, 0)), Some((1, 4)), Some((0, 40)), None]
        );
    }

    #[test]
    fn pushes_and_pops_are_with_what_is_near_the_stack_pointer() {
        let found = members(|a| {
            a.push(rbp)?;
            a.mov(rbp, rsp)?;
            a.push(rbx)?;
            a.sub(rsp, 24)?;
            a.mov(qword_ptr(rbp - 24), rdi)?;
            a.mov(qword_ptr(rsp), rsi)?;
            a.call(0x1000)
        });

        assert_eq!(
            found,
            [Some((0, 40)), None, Some((0, 32)), None, Some((0, 16)), Some((0, 8)), Some((0, 0))]
        );
    }

    #[test]
    fn what_is_far_away_is_another_group_and_two_segments_never_meet() {
        let found = members(|a| {
            a.mov(rax, qword_ptr(rdi))?;
            a.mov(rax, qword_ptr(rdi + 0x1000))?;
            a.mov(rax, qword_ptr(rdi + 0x1008))?;
            a.mov(rax, qword_ptr(rdi + 8).gs())
        });
        assert_eq!(found, [None, Some((0, 0)), Some((0, 8)), None]);
    }
}
