//! Which registers of a region hold some earlier value plus a constant, and so which of its memory accesses are a constant apart
//! from each other: value numbering over its nodes.

use crate::region::{Node, Region};
use iced_x86::{
    Code, Decoder, DecoderOptions, Instruction, InstructionInfo, InstructionInfoFactory, OpAccess, OpKind,
    Register, UsedMemory,
};

/// The sixteen general registers, and the bases of FS and GS.
const REGISTERS: usize = 18;
const FS_BASE: usize = 16;
const GS_BASE: usize = 17;
const RSP: usize = 4;

/// The root of the region's entry, which RIP is known from. Those before it are what the registers held there.
const ENTRY: u32 = REGISTERS as u32;
/// The base of an address that has none.
const ABSOLUTE: u32 = ENTRY + 1;
const FIRST_FREE: u32 = ABSOLUTE + 1;

/// A register's value: a *root*, which is what some register held at some place, plus a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Symbol {
    root: u32,
    offset: i64,
}

type Symbols = [Symbol; REGISTERS];

/// What addresses have in common that are a constant apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    base: u32,
    /// A root, and what it is multiplied by.
    index: Option<(u32, u32)>,
    segment: Option<Symbol>,
}

impl Key {
    /// That of addresses at known distances from RSP as it is at the region's entry.
    pub(crate) const STACK: Self = Self { base: RSP as u32, index: None, segment: None };
}

/// The only memory access of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    /// Where the instruction is, from the region's first byte.
    pub(crate) at: i64,
    pub(crate) key: Key,
    /// From what the key stands for.
    pub(crate) offset: i64,
    pub(crate) bytes: i64,
    pub(crate) writes: bool,
}

/// The accesses of a region, by node and instruction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accesses {
    nodes: Vec<Vec<Option<Access>>>,
    /// There is an instruction that may change the mapping.
    pub(crate) may_change_mapping: bool,
}

impl Accesses {
    /// Those that are one for their instruction, and whose address is known so well.
    pub(crate) fn of(region: &Region) -> Self {
        let mut steps: Vec<Vec<Step>> = region.nodes.iter().map(steps_of).collect();
        let roots = (own_root(steps.len())..).step_by(REGISTERS);
        steps.iter_mut().flatten().zip(roots).for_each(|(step, root)| step.root = root);
        let entries = symbols_at_entries(region, &steps);
        let may_change_mapping = steps.iter().flatten().any(|step| step.is_privileged);
        let accesses = |(steps, mut symbols): (&Vec<Step>, Symbols)| {
            let access = |step: &Step| {
                let access = step.operand.as_ref().and_then(|operand| operand.access(&symbols));
                step.execute(&mut symbols);
                access
            };
            steps.iter().map(access).collect()
        };
        Self { nodes: steps.iter().zip(entries).map(accesses).collect(), may_change_mapping }
    }

    /// That of an instruction, by its number in its node.
    pub(crate) fn get(&self, node: usize, instruction: usize) -> Option<&Access> {
        self.nodes.get(node)?.get(instruction)?.as_ref()
    }

    /// Those of a node, with their instructions' numbers.
    pub(crate) fn of_node(&self, node: usize) -> impl Iterator<Item = (usize, &Access)> {
        let all = self.nodes[node].iter().enumerate();
        all.filter_map(|(instruction, access)| Some((instruction, access.as_ref()?)))
    }

    pub(crate) fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// How many instructions a node has.
    pub(crate) fn instructions(&self, node: usize) -> usize {
        self.nodes[node].len()
    }

    /// Takes those away that `is_kept` does not want.
    pub(crate) fn retain(&mut self, is_kept: impl Fn(usize, usize) -> bool) {
        for (node, accesses) in self.nodes.iter_mut().enumerate() {
            for (instruction, access) in accesses.iter_mut().enumerate() {
                if !is_kept(node, instruction) {
                    *access = None;
                }
            }
        }
    }
}

/// What is at a register's place in an address.
#[derive(Clone, Copy)]
enum Part {
    Register(usize),
    Entry,
    Nothing,
}

impl Part {
    fn of(register: Register) -> Option<Self> {
        match register {
            Register::RIP => Some(Self::Entry),
            Register::None => Some(Self::Nothing),
            _ => register.is_gpr64().then(|| Self::Register(register.number())),
        }
    }

    fn symbol(self, symbols: &Symbols) -> Symbol {
        match self {
            Self::Register(number) => symbols[number],
            Self::Entry => Symbol { root: ENTRY, offset: 0 },
            Self::Nothing => Symbol { root: ABSOLUTE, offset: 0 },
        }
    }
}

/// A memory operand.
struct Operand {
    at: i64,
    base: Part,
    index: Option<(usize, u32)>,
    segment: Option<usize>,
    displacement: i64,
    bytes: i64,
    writes: bool,
}

impl Operand {
    /// The operand, if it is one that translated code accesses by itself.
    fn of(instruction: &Instruction, memory: &UsedMemory) -> Option<Self> {
        let unfit = matches!(instruction.code(), Code::Leaveq | Code::Enterq_imm16_imm8)
            || instruction.is_string_instruction()
            || memory.access() == OpAccess::NoMemAccess
            || memory.vsib_size() != 0;
        let bytes = memory.memory_size().size() as i64;
        if unfit || bytes == 0 {
            return None;
        }
        let index = match Part::of(memory.index())? {
            Part::Register(number) => Some((number, memory.scale().max(1))),
            _ => None,
        };
        let segment = match memory.segment() {
            Register::FS => Some(FS_BASE),
            Register::GS => Some(GS_BASE),
            _ => None,
        };
        let (displacement, writes) = (memory.displacement() as i64, is_write(memory.access()));
        let (at, base) = (instruction.ip() as i64, Part::of(memory.base())?);
        Some(Self { at, base, index, segment, displacement, bytes, writes })
    }

    fn access(&self, symbols: &Symbols) -> Option<Access> {
        let base = self.base.symbol(symbols);
        let index = self.index.map(|(number, scale)| (symbols[number], scale));
        let scaled = index.map_or(0, |(index, scale)| index.offset.wrapping_mul(i64::from(scale)));
        let offset = self.displacement.wrapping_add(base.offset).wrapping_add(scaled);
        // Far from overflow.
        if offset.unsigned_abs() > 1 << 40 {
            return None;
        }
        let key = Key {
            base: base.root,
            index: index.map(|(index, scale)| (index.root, scale)),
            segment: self.segment.map(|base| symbols[base]),
        };
        Some(Access { at: self.at, key, offset, bytes: self.bytes, writes: self.writes })
    }
}

/// What an instruction does with registers.
enum Effect {
    /// Sets the first to the other, plus a constant.
    Move(usize, Part, i64),
    /// Sets those of these bits to something. What it adds to RSP is known, if it does.
    Set { registers: u32, stack: Option<i64> },
}

struct Step {
    operand: Option<Operand>,
    effect: Effect,
    /// The root of the first register that it sets; the others' follow.
    root: u32,
    is_privileged: bool,
}

fn steps_of(node: &Node) -> Vec<Step> {
    let mut factory = InstructionInfoFactory::new();
    let decoder = Decoder::with_ip(64, &node.bytes, node.offset as u64, DecoderOptions::NONE);
    let step = |instruction: Instruction| {
        let info = factory.info(&instruction);
        let operand = match info.used_memory() {
            [memory] => Operand::of(&instruction, memory),
            _ => None,
        };
        let is_privileged = instruction.is_privileged();
        Step { operand, effect: Effect::of(&instruction, info), root: 0, is_privileged }
    };
    decoder.into_iter().map(step).collect()
}

fn is_write(access: OpAccess) -> bool {
    !matches!(access, OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess)
}

impl Effect {
    fn of(instruction: &Instruction, info: &InstructionInfo) -> Self {
        if let Some(moved) = Self::of_move(instruction) {
            return moved;
        }
        let mut registers = match instruction.code() {
            Code::Swapgs | Code::Wrgsbase_r64 | Code::Wrgsbase_r32 => 1 << GS_BASE,
            Code::Wrfsbase_r64 | Code::Wrfsbase_r32 => 1 << FS_BASE,
            _ => 0,
        };
        for used in info.used_registers().iter().filter(|used| is_write(used.access())) {
            match used.register() {
                Register::FS => registers |= 1 << FS_BASE,
                Register::GS => registers |= 1 << GS_BASE,
                register if register.is_gpr() => registers |= 1 << register.full_register().number(),
                _ => {}
            }
        }
        let pops_stack =
            instruction.op0_register().full_register() == Register::RSP || instruction.code() == Code::Leaveq;
        let moves_stack = registers >> RSP & 1 != 0 && instruction.is_stack_instruction() && !pops_stack;
        let stack = moves_stack.then(|| i64::from(instruction.stack_pointer_increment()));
        Self::Set { registers, stack }
    }

    /// If the instruction sets a 64-bit register to another's value plus a constant.
    fn of_move(instruction: &Instruction) -> Option<Self> {
        let target = instruction.op0_register();
        if instruction.op0_kind() != OpKind::Register || !target.is_gpr64() {
            return None;
        }
        let plus =
            |source: Register, constant: i64| Some(Self::Move(target.number(), Part::of(source)?, constant));
        match instruction.code() {
            Code::Mov_r64_rm64 | Code::Mov_rm64_r64 if instruction.op1_kind() == OpKind::Register => {
                plus(instruction.op1_register(), 0)
            }
            Code::Lea_r64_m if instruction.memory_index() == Register::None => {
                let base = instruction.memory_base();
                (base != Register::None).then(|| plus(base, instruction.memory_displacement64() as i64))?
            }
            Code::Add_rm64_imm8 | Code::Add_rm64_imm32 | Code::Add_RAX_imm32 => {
                plus(target, instruction.immediate(1) as i64)
            }
            Code::Sub_rm64_imm8 | Code::Sub_rm64_imm32 | Code::Sub_RAX_imm32 => {
                plus(target, (instruction.immediate(1) as i64).wrapping_neg())
            }
            Code::Inc_rm64 => plus(target, 1),
            Code::Dec_rm64 => plus(target, -1),
            _ => None,
        }
    }
}

impl Step {
    fn execute(&self, symbols: &mut Symbols) {
        match self.effect {
            Effect::Move(target, source, constant) => {
                let Symbol { root, offset } = source.symbol(symbols);
                symbols[target] = Symbol { root, offset: offset.wrapping_add(constant) };
            }
            Effect::Set { registers, stack } => {
                let before = symbols[RSP];
                for number in (0..REGISTERS).filter(|number| registers >> number & 1 != 0) {
                    symbols[number] = Symbol { root: self.root + number as u32, offset: 0 };
                }
                if let Some(moved) = stack {
                    symbols[RSP] = Symbol { offset: before.offset.wrapping_add(moved), ..before };
                }
            }
        }
    }
}

/// The first of the roots that a node has for what registers hold at its beginning.
fn own_root(node: usize) -> u32 {
    FIRST_FREE + (node * REGISTERS) as u32
}

/// What the registers hold at each node's beginning. Where ways meet that do not agree, that is a root of the node's own.
fn symbols_at_entries(region: &Region, steps: &[Vec<Step>]) -> Vec<Symbols> {
    let predecessors = region.predecessors();
    let order = region.order();
    let at_entry = std::array::from_fn(|number| Symbol { root: number as u32, offset: 0 });
    // Bit n: ways to the node do not agree on register n.
    let mut disagreed = vec![0u32; region.nodes.len()];
    loop {
        let mut entries = vec![at_entry; region.nodes.len()];
        let mut ends: Vec<Option<Symbols>> = vec![None; region.nodes.len()];
        for &node in &order {
            let mut known = predecessors[node].iter().filter_map(|&before| ends[before]);
            let first = if node == 0 { at_entry } else { known.next().unwrap_or(at_entry) };
            disagreed[node] |= known.fold(0, |bits, end| bits | differing(&first, &end));
            let own = |number: usize| Symbol { root: own_root(node) + number as u32, offset: 0 };
            let is_own = |number: usize| disagreed[node] >> number & 1 != 0;
            let mut symbols =
                std::array::from_fn(|number| if is_own(number) { own(number) } else { first[number] });
            entries[node] = symbols;
            steps[node].iter().for_each(|step| step.execute(&mut symbols));
            ends[node] = Some(symbols);
        }
        // The ways back were not known yet.
        let mut is_settled = true;
        for &node in &order {
            for end in predecessors[node].iter().filter_map(|&before| ends[before]) {
                let more = differing(&entries[node], &end) & !disagreed[node];
                disagreed[node] |= more;
                is_settled &= more == 0;
            }
        }
        if is_settled {
            return entries;
        }
    }
}

/// The registers that do not hold the same, a bit each.
fn differing(left: &Symbols, right: &Symbols) -> u32 {
    (0..REGISTERS).fold(0, |bits, number| bits | u32::from(left[number] != right[number]) << number)
}
