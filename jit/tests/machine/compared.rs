//! Guests on JITs that are compared with the interpreter: what they leave must be the same.
//!
//! Each runs with a JIT that translates every block before its first execution, one that does so quickly, one that does so in
//! the background, one that keeps losing its translations in a cache of the least size, and one that keeps x86's memory order.

use super::{Emitted, Guest, Machine, Outcome};
use iced_x86::code_asm::*;
use rx86_cpu::backend::X86Ops;
use rx86_cpu::cpu::Cpu;
use rx86_cpu::interp::Interpreter;
use rx86_jit::{Forgetful, Jit, JitConfig, engine};

/// Instructions at a time.
pub(crate) const BUDGET: u64 = 20_000;

pub(crate) type Engine = Box<dyn X86Ops>;

pub(crate) fn interpreter(cpu: Cpu) -> Engine {
    Box::new(Interpreter::new(cpu))
}

pub(crate) fn translating(cpu: Cpu, config: JitConfig) -> Engine {
    Box::new(engine(cpu, config).expect("a code generator for this host"))
}

pub(crate) fn at_once() -> JitConfig {
    JitConfig { threshold: 1, background: false, ..JitConfig::default() }
}

/// The least code cache there is; with `RX86_KEEP_CODE` one that is never full (see docs/testing.md).
pub(crate) fn least_cache() -> usize {
    if std::env::var_os("RX86_KEEP_CODE").is_some() { JitConfig::default().code_cache_bytes } else { 0 }
}

pub(crate) type MakeEngine = fn(Cpu) -> Engine;

/// The JITs that are compared with the interpreter.
pub(crate) const JITS: [(&str, MakeEngine); 5] = [
    ("at once", |cpu| translating(cpu, at_once())),
    ("quickly", |cpu| {
        translating(cpu, JitConfig { threshold: u32::MAX, quick_threshold: 1, ..JitConfig::default() })
    }),
    ("in the background", |cpu| translating(cpu, JitConfig { background: true, ..at_once() })),
    ("in order", |cpu| translating(cpu, JitConfig { parallel: true, ..at_once() })),
    ("forgetful", |cpu| {
        let jit = Jit::new(&cpu, JitConfig { code_cache_bytes: least_cache(), ..at_once() })
            .expect("a code generator for this host");
        Box::new(Interpreter::with_tier(cpu, Forgetful::new(jit)))
    }),
];

/// Runs guests on all engines; all must leave what the interpreter leaves.
pub(crate) fn compare(guests: &[Guest]) {
    for guest in guests {
        let expected = Machine::new(guest, interpreter).run(guest.name, BUDGET, false);
        for (jit, engine) in JITS {
            let got = Machine::new(guest, engine).run(guest.name, BUDGET, false);
            expect_same(&format!("{}, {jit}", guest.name), &expected, &got);
        }
    }
}

pub(crate) fn expect_same(name: &str, expected: &Outcome, got: &Outcome) {
    assert_eq!(got.regs, expected.regs, "{name}: general registers");
    assert_eq!(got.flags, expected.flags, "{name}: RFLAGS");
    assert_eq!(got.vectors, expected.vectors, "{name}: vector registers");
    let different = (0..got.data.len()).find(|&at| got.data[at] != expected.data[at]);
    assert_eq!(different, None, "{name}: offset in the data");
}

/// R15 counts down from `times` around `body`; then HLT.
pub(crate) fn repeated(
    a: &mut CodeAssembler,
    times: u32,
    body: impl FnOnce(&mut CodeAssembler) -> Emitted,
) -> Emitted {
    let mut top = a.create_label();
    a.mov(r15d, times)?;
    a.set_label(&mut top)?;
    body(a)?;
    a.dec(r15d)?;
    a.jne(top)?;
    a.cli()?;
    a.hlt()
}

/// Writes code to `at`: at most eight bytes.
pub(crate) fn put_code(a: &mut CodeAssembler, at: u64, code: &[u8]) -> Emitted {
    let mut bytes = [0xcc; 8];
    bytes[..code.len()].copy_from_slice(code);
    a.mov(rax, u64::from_le_bytes(bytes))?;
    a.mov(rdi, at)?;
    a.mov(qword_ptr(rdi), rax)
}

pub(crate) fn call(a: &mut CodeAssembler, at: u64) -> Emitted {
    a.mov(rdi, at)?;
    a.call(rdi)?;
    a.add(rbx, rax)?;
    a.rol(rbx, 7)
}

/// MOV EAX, `value`; RET.
pub(crate) fn returning(value: u32) -> Vec<u8> {
    let mut code = vec![0xb8];
    code.extend(value.to_le_bytes());
    code.push(0xc3);
    code
}
