//! System instructions that translations execute themselves. Interrupts come where STI, its shadow and CLI let them, and
//! nowhere else.

mod machine;

use iced_x86::code_asm::*;
use machine::compared::*;
use machine::{DATA, Emitted, Guest, INTERRUPTS, Machine};

const TURNS: u32 = 20_000;
/// Instructions after which an interrupt is raised: some ten turns.
const BETWEEN_INTERRUPTS: u64 = 97;

/// A loop in which interrupts are open only between `in_shadow`, which follows STI, and CLI. RBP is where that is.
fn open_once(in_shadow: fn(&mut CodeAssembler) -> Emitted) -> Guest {
    Guest::new("open once a turn", move |a| {
        let mut open = a.create_label();
        a.lea(rbp, ptr(open))?;
        a.mov(rdi, DATA)?;
        repeated(a, TURNS, |a| {
            a.cli()?;
            a.add(rbx, r15)?;
            a.rol(rbx, 3)?;
            a.sti()?;
            in_shadow(a)?;
            a.set_label(&mut open)?;
            a.cli()?;
            a.xor(rbx, rsi)
        })
    })
}

#[test]
fn interrupts_come_behind_the_shadow_of_sti_and_nowhere_else() {
    let guests: [fn(&mut CodeAssembler) -> Emitted; 4] = [
        |a| a.inc(rsi),
        |a| a.add(qword_ptr(rdi + 8), rbx),
        // The interpreter executes it, alone.
        |a| a.add(qword_ptr(rdi + 0xffd), rbx),
        // A function does.
        |a| a.cpuid(),
    ];
    for in_shadow in guests {
        let guest = open_once(in_shadow);
        let expected = Machine::new(&guest, interpreter).run(guest.name, BUDGET, false);
        for (jit, engine) in JITS.into_iter().chain([("interpreter", interpreter as MakeEngine)]) {
            let mut machine = Machine::new(&guest, engine);
            let got = machine.run(guest.name, BETWEEN_INTERRUPTS, true);
            expect_same(jit, &expected, &got);
            let (came, sum) = (machine.quad(INTERRUPTS), machine.quad(INTERRUPTS + 8));
            assert!(came > 100, "{jit}: {came} interrupts");
            assert_eq!(
                sum,
                came * got.regs[5],
                "{jit}: {came} interrupts came elsewhere than behind the shadow"
            );
        }
    }
}

#[test]
fn swapgs_exchanges_the_bases() {
    compare(&[Guest::new("swapgs", |a| {
        for (msr, base) in [(0xc000_0101u32, DATA), (0xc000_0102, DATA + 0x2000)] {
            a.mov(ecx, msr)?;
            a.mov(eax, base as u32)?;
            a.xor(edx, edx)?;
            a.wrmsr()?;
        }
        repeated(a, 1500, |a| {
            a.add(qword_ptr(8).gs(), r15)?;
            a.swapgs()?;
            a.mov(rax, qword_ptr(8).gs())?;
            a.rol(rax, 5)?;
            a.xor(qword_ptr(8).gs(), rax)?;
            a.add(rbx, rax)?;
            a.test(r15d, 3)?;
            let mut behind = a.create_label();
            a.jne(behind)?;
            a.swapgs()?;
            a.set_label(&mut behind)?;
            a.zero_bytes()
        })
    })]);
}
