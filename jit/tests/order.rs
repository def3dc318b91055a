//! Two processors on two threads: what one stores in an order, the other sees in that order (SDM vol. 3, 9.2.3.2), whatever
//! the translation could save.

mod machine;

use iced_x86::code_asm::*;
use machine::{DATA, Emitted, Guest, Machine};
use rx86_cpu::backend::X86Ops;
use rx86_cpu::cpu::Cpu;
use rx86_cpu::interp::Interpreter;
use rx86_jit::{JitConfig, engine};

/// Where the two variables are, and the flag that ends the reader's loop: one cache line each, all by one register.
const SECOND: u64 = 0x100;
const END: u64 = 0x200;
const TIMES: u32 = 300_000;

/// Stores each number to the first variable, then to the second.
fn write(a: &mut CodeAssembler) -> Emitted {
    let mut top = a.create_label();
    a.mov(rdi, DATA)?;
    a.mov(eax, 1)?;
    a.set_label(&mut top)?;
    a.mov(qword_ptr(rdi), rax)?;
    a.mov(qword_ptr(rdi + SECOND), rax)?;
    a.inc(eax)?;
    a.cmp(eax, TIMES)?;
    a.jb(top)?;
    a.mov(qword_ptr(rdi + END), 1)?;
    a.cli()?;
    a.hlt()
}

/// Loads the first, the second and the first again, and counts in RBX how often the last is behind.
fn read(a: &mut CodeAssembler) -> Emitted {
    let (mut top, mut good) = (a.create_label(), a.create_label());
    a.mov(rdi, DATA)?;
    a.xor(ebx, ebx)?;
    a.set_label(&mut top)?;
    a.mov(rcx, qword_ptr(rdi))?;
    a.mov(rdx, qword_ptr(rdi + SECOND))?;
    a.mov(rsi, qword_ptr(rdi))?;
    a.cmp(rdx, rsi)?;
    a.jbe(good)?;
    a.inc(rbx)?;
    a.set_label(&mut good)?;
    a.add(rbp, rcx)?;
    a.cmp(qword_ptr(rdi + END), 0)?;
    a.je(top)?;
    a.cli()?;
    a.hlt()
}

fn jit(cpu: Cpu) -> Box<dyn X86Ops> {
    let config = JitConfig { threshold: 1, background: false, parallel: true, ..JitConfig::default() };
    Box::new(engine(cpu, config).expect("a code generator for this host"))
}

#[test]
fn a_load_is_made_where_it_stands() {
    for (name, engine) in
        [("interp", (|cpu| Box::new(Interpreter::new(cpu))) as fn(Cpu) -> Box<dyn X86Ops>), ("jit", jit)]
    {
        for _ in 0..4 {
            let mut writer = Machine::new(&Guest::new("writer", write), engine);
            let mut reader = writer.beside(&Guest::new("reader", read), engine);
            let thread = std::thread::spawn(move || writer.run("writer", 20_000, false));
            let outcome = reader.run("reader", 20_000, false);
            thread.join().expect("the writer ends");
            assert_eq!(outcome.regs[3], 0, "{name}: loads that saw less than an earlier one's past");
        }
    }
}
