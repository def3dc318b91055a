//! Where a block is left early, the processor is as it was before the instruction that could not go on.

mod world;

use iced_x86::code_asm::*;
use rx86_cpu::cpu::Cpu;
use rx86_cpu::exception::Exception;
use rx86_cpu::features::CpuModel;
use rx86_cpu::mode::ModeKey;
use rx86_cpu::op::reg;
use rx86_cpu::state::Activity;
use rx86_jit::{BlockExit, CompileError, CompiledBlock, Compiler, ExitKind};
use rx86_softmmu::Attention;
use world::{ABSENT, DATA, READ_ONLY, STACK};

const START: u64 = 0x40_0000;

fn assemble(write: impl FnOnce(&mut CodeAssembler) -> Result<(), iced_x86::IcedError>) -> Vec<u8> {
    let mut assembler = CodeAssembler::new(64).expect("64-bit code");
    write(&mut assembler).expect("instructions that exist");
    assembler.assemble(START).expect("instructions that can be encoded")
}

fn translate(cpu: &Cpu, bytes: &[u8]) -> Result<CompiledBlock, CompileError> {
    let mut compiler = Compiler::for_host().expect("a code generator for this host");
    compiler.translate_block(bytes, cpu.mode(), &CpuModel::max())
}

fn cpu() -> Cpu {
    let mut cpu = world::cpu();
    cpu.state.set_rip(START);
    cpu.state.regs[usize::from(reg::RSP)] = STACK + 0x1000;
    cpu
}

fn leaves(retired: u32) -> BlockExit {
    BlockExit { retired, kind: ExitKind::Interpret }
}

#[test]
fn a_miss_fills_the_tlb_and_goes_on() {
    let mut bytes = assemble(|a| {
        a.mov(eax, 5)?;
        a.add(eax, 3)
    });
    bytes.extend(assemble(|a| {
        a.mov(qword_ptr(rbx), rax)?;
        a.mov(rcx, rax)
    }));
    let mut cpu = cpu();
    cpu.state.regs[usize::from(reg::RBX)] = DATA + 8;
    let block = translate(&cpu, &bytes).expect("a block");
    assert_eq!(block.instructions(), 4);
    cpu.mmu.flush_all();
    assert_eq!(cpu.stats.slow_accesses, 0);
    assert_eq!(block.run(&mut cpu), BlockExit { retired: 4, kind: ExitKind::Next });
    assert_eq!(cpu.stats.slow_accesses, 1);
    assert!(cpu.mmu.host_for_write(DATA, 8).is_some());
    assert!(!cpu.state.flags.arith.zero());
    assert_eq!(cpu.state.regs[usize::from(reg::RCX)], 8);
    assert_eq!(cpu.state.rip(), START + bytes.len() as u64);
    assert_eq!(world::memory(&cpu)[8], 8);
}

#[test]
fn what_may_not_be_accessed_leaves_the_block() {
    let bytes = assemble(|a| {
        a.inc(rdx)?;
        a.add(dword_ptr(rbx), edx)?;
        a.inc(rdx)
    });
    let mut cpu = cpu();
    let block = translate(&cpu, &bytes).expect("a block");
    for (address, exit) in [
        (READ_ONLY, leaves(1)),
        (ABSENT, leaves(1)),
        (DATA + 0xffd, leaves(1)),
        (0x8000_0000_0000, leaves(1)),
        (DATA + 0xffc, BlockExit { retired: 3, kind: ExitKind::Next }),
    ] {
        cpu.state.set_rip(START);
        cpu.state.regs[usize::from(reg::RBX)] = address;
        assert_eq!(block.run(&mut cpu), exit, "{address:#x}");
    }
}

#[test]
fn a_read_across_a_page_goes_on_unless_one_of_the_pages_is_absent() {
    let bytes = assemble(|a| {
        a.mov(rax, qword_ptr(rbx))?;
        a.inc(rdx)
    });
    let mut cpu = cpu();
    let block = translate(&cpu, &bytes).expect("a block");
    for (address, exit) in [
        (DATA + 0xffc, BlockExit { retired: 2, kind: ExitKind::Next }),
        (READ_ONLY - 1, BlockExit { retired: 2, kind: ExitKind::Next }),
        (ABSENT - 7, leaves(0)),
        (DATA - 1, leaves(0)),
    ] {
        let value = 0x1122_3344_5566_7788 ^ address;
        cpu.mmu.memory().write(address, &value.to_le_bytes()).expect("in RAM");
        cpu.state.set_rip(START);
        cpu.state.regs[usize::from(reg::RAX)] = 0;
        cpu.state.regs[usize::from(reg::RBX)] = address;
        assert_eq!(block.run(&mut cpu), exit, "{address:#x}");
        let expected = if exit.retired == 0 { 0 } else { value };
        assert_eq!(cpu.state.regs[usize::from(reg::RAX)], expected, "{address:#x}");
    }
}

#[test]
fn a_write_beside_code_goes_on_and_one_to_code_does_not() {
    let bytes = assemble(|a| a.mov(dword_ptr(rbx), eax));
    let mut cpu = cpu();
    let block = translate(&cpu, &bytes).expect("a block");
    cpu.code_map.add(DATA + 0x100, 16);
    cpu.mmu.memory().mark_code(&cpu.code_watcher, DATA);
    cpu.mmu.protect_code_page(DATA);
    for (address, exit) in [
        (DATA + 0x80, BlockExit { retired: 1, kind: ExitKind::Next }),
        (DATA + 0x10c, leaves(0)),
        (DATA + 0xfe, leaves(0)),
    ] {
        cpu.state.set_rip(START);
        cpu.state.regs[usize::from(reg::RBX)] = address;
        assert_eq!(block.run(&mut cpu), exit, "{address:#x}");
    }
    assert!(!cpu.code_map.has_writes());
    let _other = cpu.mmu.memory().watch_code(Attention::default());
    cpu.state.set_rip(START);
    cpu.state.regs[usize::from(reg::RBX)] = DATA + 0x80;
    assert_eq!(block.run(&mut cpu), leaves(0), "another processor may decode code there");
}

#[test]
fn pop_to_an_absent_page_does_not_move_the_stack() {
    let bytes = assemble(|a| a.pop(qword_ptr(rbx)));
    let mut cpu = cpu();
    cpu.state.regs[usize::from(reg::RBX)] = ABSENT;
    let before = cpu.state.regs;
    let block = translate(&cpu, &bytes).expect("a block");
    assert_eq!(block.run(&mut cpu), leaves(0));
    assert_eq!(cpu.state.regs, before);
}

#[test]
fn a_jump_out_of_the_canonical_addresses_is_the_interpreters() {
    let bytes = assemble(|a| {
        a.inc(rax)?;
        a.call(rcx)
    });
    let mut cpu = cpu();
    cpu.state.regs[usize::from(reg::RCX)] = 1 << 47;
    let block = translate(&cpu, &bytes).expect("a block");
    assert_eq!(block.run(&mut cpu), leaves(1));
    assert_eq!(cpu.state.rip(), START + 3);
    assert_eq!(cpu.state.regs[usize::from(reg::RSP)], STACK + 0x1000);
    assert_eq!(world::memory(&cpu)[(STACK + 0xff8 - DATA) as usize], 0);
}

#[test]
fn a_system_instruction_is_called() {
    let bytes = assemble(|a| {
        a.mov(eax, 0x4000_0000)?;
        a.cpuid()?;
        a.inc(rdx)?;
        a.hlt()?;
        a.inc(rdx)
    });
    let mut cpu = cpu();
    let block = translate(&cpu, &bytes).expect("a block");
    assert_eq!(block.run(&mut cpu), BlockExit { retired: 4, kind: ExitKind::Next });
    assert_eq!(cpu.state.regs[usize::from(reg::RBX)], u64::from(u32::from_le_bytes(*b"KVMK")));
    assert_eq!(cpu.state.regs[usize::from(reg::RDX)], u64::from(u32::from_le_bytes(*b"M\0\0\0")) + 1);
    assert_eq!(cpu.state.rip(), START + bytes.len() as u64 - 3);
    assert_eq!(cpu.state.activity, Activity::Halted);
}

#[test]
fn a_called_function_sees_and_changes_the_state() {
    let bytes = assemble(|a| {
        a.inc(rax)?;
        a.lock().xadd(dword_ptr(rbx), eax)?;
        a.inc(rax)?;
        a.movq(xmm0, rax)?;
        a.div(rcx)
    });
    let mut cpu = cpu();
    let block = translate(&cpu, &bytes).expect("a block");
    assert_eq!(block.instructions(), 5);
    cpu.state.regs[usize::from(reg::RAX)] = 41;
    cpu.state.regs[usize::from(reg::RBX)] = DATA;
    let raised = BlockExit { retired: 4, kind: ExitKind::Exception(Exception::DE) };
    assert_eq!(block.run(&mut cpu), raised);
    assert_eq!(world::memory(&cpu)[0], 42);
    assert_eq!(cpu.state.regs[usize::from(reg::RAX)], 1);
    assert_eq!(cpu.state.xmm(0), 1);
    assert_eq!(cpu.state.rip(), START + bytes.len() as u64 - 3);
}

#[test]
fn other_modes_and_cut_off_bytes_are_refused() {
    let cpu = cpu();
    assert!(matches!(translate(&cpu, &[0x48, 0x01]), Err(CompileError::Decode(_))));
    let mut compiler = Compiler::for_host().expect("a code generator for this host");
    for mode in [ModeKey(ModeKey::PROTECTED | ModeKey::CODE32), ModeKey(cpu.mode().0 | ModeKey::ALIGNMENT)] {
        let outcome = compiler.translate_block(&[0x90], mode, &CpuModel::max());
        assert!(matches!(outcome, Err(CompileError::Mode(_))), "{mode:?}");
    }
}

#[test]
fn a_block_runs_at_any_linear_address() {
    let bytes = assemble(|a| {
        a.lea(rax, qword_ptr(START + 0x100))?;
        a.jmp(START + 0x80)
    });
    let block = translate(&cpu(), &bytes).expect("a block");
    for start in [START, 0x1234_5000, 0xffff_ffff_8100_0000] {
        let mut cpu = cpu();
        cpu.state.set_rip(start);
        assert_eq!(block.run(&mut cpu).kind, ExitKind::Next);
        assert_eq!(cpu.state.rip(), start + 0x80);
    }
}
