//! Which accesses in a region's loops are likely to stay in a page for a while: those whose registers only move by small steps, or are
//! bytes. An address that was loaded or computed in another way may lead anywhere.

use crate::region::Region;
use iced_x86::{
    Code, Decoder, DecoderOptions, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
};

/// The farthest that a step may go.
const MAX_STEP: u64 = 512;

/// The greatest mask that leaves an index into a small table.
const MAX_MASK: u64 = 0xfff;

/// Bit n: register n is steady.
type Steady = u16;

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
    let before = steady_before(region);
    let mut factory = InstructionInfoFactory::new();
    let sites = |node: usize| {
        let mut steady = before[node];
        let mut sites = Vec::new();
        for instruction in decoder(&region.nodes[node].bytes) {
            sites.push(loops[node] && is_site(&instruction, steady));
            steady = execute(&instruction, steady, &mut factory);
        }
        Sites(sites)
    };
    (0..region.nodes.len()).map(sites).collect()
}

fn decoder(bytes: &[u8]) -> Decoder<'_> {
    Decoder::with_ip(64, bytes, 0, DecoderOptions::NONE)
}

/// What is steady at each node's beginning, whichever way leads there.
fn steady_before(region: &Region) -> Vec<Steady> {
    let predecessors = region.predecessors();
    let mut factory = InstructionInfoFactory::new();
    let mut after = |node: usize, steady: Steady| {
        let code = decoder(&region.nodes[node].bytes);
        code.into_iter().fold(steady, |steady, instruction| execute(&instruction, steady, &mut factory))
    };
    let mut before = vec![Steady::MAX; region.nodes.len()];
    let mut ends: Vec<Steady> = (0..before.len()).map(|node| after(node, Steady::MAX)).collect();
    loop {
        let mut changed = false;
        for node in 0..before.len() {
            let steady = predecessors[node].iter().fold(before[node], |steady, &from| steady & ends[from]);
            if steady != before[node] {
                before[node] = steady;
                ends[node] = after(node, steady);
                changed = true;
            }
        }
        if !changed {
            return before;
        }
    }
}

fn is_steady(register: Register, steady: Steady) -> bool {
    match register {
        Register::None | Register::RIP => true,
        _ => register.is_gpr() && steady >> register.full_register().number() & 1 != 0,
    }
}

fn is_site(instruction: &Instruction, steady: Steady) -> bool {
    let has_memory =
        (0..instruction.op_count()).any(|operand| instruction.op_kind(operand) == OpKind::Memory);
    if has_memory {
        is_steady(instruction.memory_base(), steady) && is_steady(instruction.memory_index(), steady)
    } else {
        instruction.is_stack_instruction() && is_steady(Register::RSP, steady)
    }
}

fn execute(instruction: &Instruction, steady: Steady, factory: &mut InstructionInfoFactory) -> Steady {
    let keeps = keeps_steady(instruction, steady);
    let info = factory.info(instruction);
    let written = info.used_registers().iter().filter(|used| {
        !matches!(used.access(), OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess)
    });
    let written = written.map(|used| used.register()).filter(|register| register.is_gpr());
    written.fold(steady, |after, register| {
        let bit = 1 << register.full_register().number();
        match register {
            Register::RSP if instruction.is_stack_instruction() => after,
            _ if keeps => after | bit,
            _ => after & !bit,
        }
    })
}

/// Whether what the instruction sets is steady.
fn keeps_steady(instruction: &Instruction, steady: Steady) -> bool {
    let of = |operand: u32| {
        instruction.op_kind(operand) == OpKind::Register
            && is_steady(instruction.op_register(operand), steady)
    };
    let sources_are_same = instruction.op_count() == 2
        && instruction.op1_kind() == OpKind::Register
        && instruction.op0_register() == instruction.op1_register();
    let is_immediate = instruction.op_count() == 2 && immediate(instruction).is_some();
    match instruction.mnemonic() {
        Mnemonic::Movzx => of(1) || is_of_byte(instruction.code()),
        Mnemonic::Mov | Mnemonic::Movsxd | Mnemonic::Cdqe => {
            instruction.op_count() < 2 || of(1) || is_immediate
        }
        Mnemonic::Lea => {
            is_steady(instruction.memory_base(), steady) && is_steady(instruction.memory_index(), steady)
        }
        Mnemonic::Add | Mnemonic::Sub => match immediate(instruction) {
            Some(step) => of(0) && (step <= MAX_STEP || step >= MAX_STEP.wrapping_neg()),
            None => of(0) && of(1),
        },
        Mnemonic::And => of(0) || immediate(instruction).is_some_and(|mask| mask <= MAX_MASK),
        Mnemonic::Inc | Mnemonic::Dec => of(0),
        Mnemonic::Xor => sources_are_same,
        mnemonic if is_conditional_move(mnemonic) => of(0) && of(1),
        _ => false,
    }
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
    fn nothing_outside_of_loops_is_a_site() {
        let mut assembler = CodeAssembler::new(64).unwrap();
        assembler.mov(rax, qword_ptr(rsi)).unwrap();
        assert!(steady_sites(&Region::of_bytes(&assembler.assemble(0).unwrap())).is_empty());
    }
}
