//! Which accesses in a region's loops are likely to stay in a page for a while: those whose addresses only move by small steps, or lead
//! into small tables. An address that was loaded or computed in another way may lead anywhere.

use crate::region::Region;
use iced_x86::{
    Code, Decoder, DecoderOptions, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
};

/// The farthest that an address may move from one access to the next, in bytes.
const MAX_STEP: u64 = 512;

/// An index into a table is taken for one that moves by this part of the table.
const TABLE_PER_STEP: u64 = 8;

/// How far a value may move that may be anything.
const ANYWHERE: u64 = u64::MAX;

/// How far each general-purpose register moves at most.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Steps([u64; 16]);

impl Steps {
    /// Of registers that are not written.
    const NONE: Self = Self([0; 16]);

    fn of(&self, register: Register) -> u64 {
        match register {
            Register::None | Register::RIP => 0,
            _ if register.is_gpr() => self.0[register.full_register().number()],
            _ => ANYWHERE,
        }
    }

    /// Of the address of an instruction's memory operand.
    fn of_address(&self, instruction: &Instruction) -> u64 {
        let scale = u64::from(instruction.memory_index_scale());
        let index = self.of(instruction.memory_index()).saturating_mul(scale);
        self.of(instruction.memory_base()).max(index)
    }

    /// By the longer of the steps of both, for each register.
    fn longest(self, other: Self) -> Self {
        Self(std::array::from_fn(|register| self.0[register].max(other.0[register])))
    }
}

/// For each instruction of a node whether its access is likely to stay in a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sites(Vec<bool>);

impl Sites {
    pub(crate) fn has(&self, instruction: usize) -> bool {
        self.0.get(instruction).copied().unwrap_or(false)
    }
}

/// The sites of each node; none outside of loops.
pub(crate) fn steady_sites(region: &Region) -> Vec<Sites> {
    let loops = region.loops();
    if !loops.contains(&true) {
        return Vec::new();
    }
    let before = steps_before(region);
    let mut factory = InstructionInfoFactory::new();
    let sites = |node: usize| {
        let mut steps = before[node];
        let mut sites = Vec::new();
        for instruction in decoder(&region.nodes[node].bytes) {
            sites.push(loops[node] && is_site(&instruction, &steps));
            steps = execute(&instruction, steps, &mut factory);
        }
        Sites(sites)
    };
    (0..region.nodes.len()).map(sites).collect()
}

fn decoder(bytes: &[u8]) -> Decoder<'_> {
    Decoder::with_ip(64, bytes, 0, DecoderOptions::NONE)
}

/// How far registers move at each node's beginning, whichever way leads there.
fn steps_before(region: &Region) -> Vec<Steps> {
    let predecessors = region.predecessors();
    let mut factory = InstructionInfoFactory::new();
    let mut after = |node: usize, steps: Steps| {
        let code = decoder(&region.nodes[node].bytes);
        code.into_iter().fold(steps, |steps, instruction| execute(&instruction, steps, &mut factory))
    };
    let mut before = vec![Steps::NONE; region.nodes.len()];
    let mut ends: Vec<Steps> = (0..before.len()).map(|node| after(node, Steps::NONE)).collect();
    loop {
        let mut changed = false;
        for node in 0..before.len() {
            let steps =
                predecessors[node].iter().fold(before[node], |steps, &from| steps.longest(ends[from]));
            if steps != before[node] {
                before[node] = steps;
                ends[node] = after(node, steps);
                changed = true;
            }
        }
        if !changed {
            return before;
        }
    }
}

fn is_site(instruction: &Instruction, steps: &Steps) -> bool {
    let has_memory =
        (0..instruction.op_count()).any(|operand| instruction.op_kind(operand) == OpKind::Memory);
    let step = if has_memory {
        steps.of_address(instruction)
    } else if instruction.is_stack_instruction() {
        steps.of(Register::RSP)
    } else {
        ANYWHERE
    };
    step <= MAX_STEP
}

fn execute(instruction: &Instruction, steps: Steps, factory: &mut InstructionInfoFactory) -> Steps {
    let step = step_of_result(instruction, &steps);
    let info = factory.info(instruction);
    let written = info.used_registers().iter().filter(|used| {
        !matches!(used.access(), OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess)
    });
    let written = written.map(|used| used.register()).filter(|register| register.is_gpr());
    written.fold(steps, |mut after, register| {
        if register != Register::RSP || !instruction.is_stack_instruction() {
            after.0[register.full_register().number()] = step;
        }
        after
    })
}

/// How far what the instruction sets moves. What moves farther than an access may is taken for moving anywhere.
fn step_of_result(instruction: &Instruction, steps: &Steps) -> u64 {
    let of = |operand: u32| match instruction.op_kind(operand) {
        OpKind::Register => steps.of(instruction.op_register(operand)),
        _ => ANYWHERE,
    };
    let immediate = immediate(instruction);
    let sources_are_same = instruction.op_count() == 2
        && instruction.op1_kind() == OpKind::Register
        && instruction.op0_register() == instruction.op1_register();
    let step = match instruction.mnemonic() {
        Mnemonic::Movzx if is_of_byte(instruction.code()) => of(1).min(step_in_table(u8::MAX.into())),
        Mnemonic::Cdqe => steps.of(Register::RAX),
        Mnemonic::Mov if immediate.is_some() => 0,
        Mnemonic::Movzx | Mnemonic::Mov | Mnemonic::Movsxd => of(1),
        Mnemonic::Lea => steps.of_address(instruction),
        Mnemonic::Add | Mnemonic::Sub => of(0).max(match immediate {
            Some(step) => step.min(step.wrapping_neg()),
            None => of(1),
        }),
        Mnemonic::Shl => match immediate {
            Some(count) => of(0).saturating_mul(1 << (count & 0x3f)),
            None => ANYWHERE,
        },
        Mnemonic::And => of(0).min(immediate.map_or(ANYWHERE, step_in_table)),
        Mnemonic::Inc | Mnemonic::Dec => of(0).max(1),
        Mnemonic::Xor if sources_are_same => 0,
        mnemonic if is_conditional_move(mnemonic) => of(0).max(of(1)),
        _ => ANYWHERE,
    };
    if step <= MAX_STEP { step } else { ANYWHERE }
}

/// How far an index into a table is taken to move whose last index is given.
fn step_in_table(last: u64) -> u64 {
    last / TABLE_PER_STEP
}

fn is_of_byte(code: Code) -> bool {
    matches!(code, Code::Movzx_r16_rm8 | Code::Movzx_r32_rm8 | Code::Movzx_r64_rm8)
}

fn is_conditional_move(mnemonic: Mnemonic) -> bool {
    use Mnemonic::*;
    matches!(
        mnemonic,
        Cmova
            | Cmovae
            | Cmovb
            | Cmovbe
            | Cmove
            | Cmovg
            | Cmovge
            | Cmovl
            | Cmovle
            | Cmovne
            | Cmovno
            | Cmovnp
            | Cmovns
            | Cmovo
            | Cmovp
            | Cmovs
    )
}

/// The second operand, if it is an immediate.
fn immediate(instruction: &Instruction) -> Option<u64> {
    let is_immediate = !matches!(instruction.op1_kind(), OpKind::Register | OpKind::Memory);
    (instruction.op_count() == 2 && is_immediate).then(|| instruction.try_immediate(1).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::IcedError;
    use iced_x86::code_asm::*;

    /// The sites of a node that leads to itself.
    fn sites(build: impl Fn(&mut CodeAssembler) -> Result<(), IcedError>) -> Vec<bool> {
        let mut assembler = CodeAssembler::new(64).unwrap();
        build(&mut assembler).unwrap();
        let mut region = Region::of_bytes(&assembler.assemble(0).unwrap());
        region.nodes[0].successors.target = Some(0);
        steady_sites(&region).remove(0).0
    }

    #[test]
    fn a_pointer_that_steps_is_steady() {
        let found = sites(|a| {
            a.mov(rax, qword_ptr(rsi))?;
            a.add(rsi, 8)?;
            a.add(rax, rbx)
        });
        assert_eq!(found, [true, false, false]);
    }

    #[test]
    fn a_loaded_pointer_is_not() {
        let found = sites(|a| {
            a.mov(rsi, qword_ptr(rsi))?;
            a.add(rsi, 8)
        });
        assert_eq!(found, [false, false]);
    }

    #[test]
    fn a_byte_is_an_index_into_a_small_table() {
        let found = sites(|a| {
            a.imul_3(eax, eax, 7)?;
            a.mov(ecx, dword_ptr(rdi + rax * 4))?;
            a.movzx(eax, al)?;
            a.xor(ecx, dword_ptr(rdi + rax * 4))
        });
        assert_eq!(found, [false, false, false, true]);
    }

    #[test]
    fn steps_are_of_as_many_bytes_as_the_scale_says() {
        let found = sites(|a| {
            a.mov(rax, qword_ptr(rsi + rdx))?;
            a.mov(rcx, qword_ptr(rsi + rdx * 8))?;
            a.add(rdx, 77)
        });
        assert_eq!(found, [true, false, false]);
    }

    #[test]
    fn a_masked_index_is_one_into_a_table() {
        let found = sites(|a| {
            a.mov(ecx, eax)?;
            a.and(ecx, 0xff)?;
            a.mov(rdx, qword_ptr(rsi + rcx * 8))?;
            a.and(eax, 0xfff)?;
            a.mov(dl, byte_ptr(rdi + rax))?;
            a.mov(rdx, qword_ptr(rsi + rax * 8))?;
            a.imul_3(eax, eax, 7)
        });
        assert_eq!(found, [false, false, true, false, true, false, false]);
    }

    #[test]
    fn a_pointer_that_doubles_leads_anywhere() {
        let found = sites(|a| {
            a.mov(rax, qword_ptr(rsi))?;
            a.inc(rsi)?;
            a.shl(rsi, 1)
        });
        assert_eq!(found, [false, false, false]);
    }

    #[test]
    fn nothing_outside_of_loops_is_a_site() {
        let mut assembler = CodeAssembler::new(64).unwrap();
        assembler.mov(rax, qword_ptr(rsi)).unwrap();
        assert!(steady_sites(&Region::of_bytes(&assembler.assemble(0).unwrap())).is_empty());
    }
}
