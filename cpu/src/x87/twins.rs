//! Every x87 instruction, decoded and executed on random states, against the host's x87.
#![expect(unsafe_code, reason = "runs single instructions on the host's x87")]

use super::bench::{OPERAND_GPA, cpu};
use super::control::full_tags;
use crate::cpu::Cpu;
use crate::decode::{Semantics, decode};
use crate::float::F80;
use crate::float::random::Random;
use crate::op::reg;
use crate::state::bits;
use std::arch::asm;

/// States tried per instruction.
const TRIES: u64 = 300;
/// Bytes of memory operand compared; FNSAVE writes 108.
const MEMORY_BYTES: usize = 112;

/// What an instruction reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Image {
    control: u16,
    status: u16,
    tags: u16,
    /// ST(0) to ST(7).
    stack: [F80; 8],
    memory: [u8; MEMORY_BYTES],
    ax: u16,
    /// RFLAGS' arithmetic bits.
    flags: u64,
}

impl Image {
    fn random(random: &mut Random) -> Image {
        let control = random.control();
        // No unmasked exception may be pending, or the instruction would not run.
        let status = random.next() as u16 & 0x7f00 | control & random.next() as u16 & 0x3f;
        let tags = (0..8).filter(|_| random.below(8) == 0).map(|i| 3 << (2 * i)).sum();
        let mut stack = [F80::ZERO; 8];
        for value in &mut stack {
            *value = random.f80();
        }
        if random.below(4) == 0 {
            stack[1] = stack[0];
        }
        let mut memory = [0; MEMORY_BYTES];
        for chunk in memory.chunks_exact_mut(8) {
            chunk.copy_from_slice(&random.next().to_le_bytes());
        }
        match random.below(4) {
            0 => memory[..4].copy_from_slice(&random.f32().to_le_bytes()),
            1 => memory[..8].copy_from_slice(&random.f64().to_le_bytes()),
            2 => memory[..10].copy_from_slice(&random.f80().to_bytes()),
            _ => {}
        }
        // Decimal digits above 9 are undefined.
        if random.below(2) == 0 {
            memory[..9].iter_mut().for_each(|byte| *byte &= 0x77);
        }
        let flags = random.next() & (bits::RFLAGS_CF | bits::RFLAGS_PF | bits::RFLAGS_ZF);
        Image { control, status, tags, stack, memory, ax: 0, flags }
    }

    /// FRSTOR's 32-bit image.
    fn to_bytes(self) -> [u8; 108] {
        let mut bytes = [0; 108];
        for (i, word) in [self.control, self.status, self.tags].into_iter().enumerate() {
            bytes[4 * i..][..2].copy_from_slice(&word.to_le_bytes());
        }
        for (chunk, value) in bytes[28..].chunks_exact_mut(10).zip(self.stack) {
            chunk.copy_from_slice(&value.to_bytes());
        }
        bytes
    }

    /// What FNSAVE stored, with `memory`, `ax` and `flags`.
    fn take_bytes(&mut self, bytes: &[u8; 108]) {
        let word = |i: usize| u16::from_le_bytes([bytes[4 * i], bytes[4 * i + 1]]);
        (self.control, self.status, self.tags) = (word(0), word(1), word(2));
        for (chunk, value) in bytes[28..].chunks_exact(10).zip(&mut self.stack) {
            let mut ten = [0; 10];
            ten.copy_from_slice(chunk);
            *value = F80::from_bytes(ten);
        }
    }
}

/// Runs one instruction on the host; its memory operand is at RDI.
fn run_on_host<const FIRST: u8, const SECOND: u8>(image: &mut Image) {
    let mut bytes = image.to_bytes();
    let mut host_control = 0u16;
    let mut ax = u64::from(image.ax);
    let mut flags = image.flags | 0x202;
    // SAFETY: the register stack is declared clobbered and left empty; the instruction touches no more than
    // MEMORY_BYTES at RDI, the x87, AX and the arithmetic flags; the host's control word is put back.
    unsafe {
        asm!(
            "fnstcw word ptr [{host}]",
            "frstor [{bytes}]",
            "push {flags}",
            "popfq",
            ".byte {first}, {second}",
            "fnsave [{bytes}]",
            "pushfq",
            "pop {flags}",
            "fldcw word ptr [{host}]",
            host = in(reg) &raw mut host_control,
            bytes = in(reg) bytes.as_mut_ptr(),
            flags = inout(reg) flags,
            first = const FIRST,
            second = const SECOND,
            in("rdi") image.memory.as_mut_ptr(),
            inout("rax") ax,
            out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
            out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
        );
    }
    image.take_bytes(&bytes);
    image.ax = ax as u16;
    image.flags = flags & bits::RFLAGS_ARITH;
}

type OnHost = fn(&mut Image);

macro_rules! instructions {
    ($($first:literal)+) => {
        [$(instructions!(@row $first
            0x07 0x0f 0x17 0x1f 0x27 0x2f 0x37 0x3f 0xc0 0xc1 0xc2 0xc3 0xc4 0xc5 0xc6 0xc7 0xc8 0xc9
            0xca 0xcb 0xcc 0xcd 0xce 0xcf 0xd0 0xd1 0xd2 0xd3 0xd4 0xd5 0xd6 0xd7 0xd8 0xd9 0xda 0xdb
            0xdc 0xdd 0xde 0xdf 0xe0 0xe1 0xe2 0xe3 0xe4 0xe5 0xe6 0xe7 0xe8 0xe9 0xea 0xeb 0xec 0xed
            0xee 0xef 0xf0 0xf1 0xf2 0xf3 0xf4 0xf5 0xf6 0xf7 0xf8 0xf9 0xfa 0xfb 0xfc 0xfd 0xfe 0xff
        )),+]
    };
    (@row $first:literal $($second:literal)+) => {
        [$(([$first, $second], run_on_host::<$first, $second> as OnHost)),+]
    };
}

/// Runs one instruction on the guest; `false` if it is not valid.
fn run_on_guest(cpu: &mut Cpu, code: [u8; 2], image: &mut Image) -> bool {
    let Ok(decoded) = decode::<Cpu>(&code, cpu.mode(), &cpu.model) else { return false };
    let state = &mut cpu.state;
    state.x87.control = image.control | 0x40;
    state.x87.status = image.status;
    state.x87.tags = image.tags;
    for (i, &value) in (0u8..8).zip(&image.stack) {
        let physical = ((image.status >> 11) as u8 + i) & 7;
        state.x87.regs[usize::from(physical)] = value;
    }
    state.regs[usize::from(reg::RAX)] = u64::from(image.ax);
    state.flags.set(image.flags);
    cpu.mmu.memory().write(OPERAND_GPA, &image.memory).expect("RAM");
    let meaning = match decoded.semantics {
        Semantics::Inline(meaning) => meaning,
        Semantics::Hard(meaning) => meaning,
    };
    if meaning(cpu, &decoded.op).is_err() {
        return false;
    }
    let state = &cpu.state;
    (image.control, image.status, image.tags) = (state.x87.control, state.x87.status, full_tags(&state.x87));
    for (i, value) in (0u8..8).zip(&mut image.stack) {
        *value = state.x87.st(i);
    }
    image.ax = state.regs[usize::from(reg::RAX)] as u16;
    image.flags = state.flags.arith.to_rflags();
    cpu.mmu.memory().read(OPERAND_GPA, &mut image.memory).expect("RAM");
    true
}

/// Whether the instruction is FNSTENV or FNSAVE.
fn stores_pointers(code: [u8; 2]) -> bool {
    matches!(code, [0xd9 | 0xdd, 0x37])
}

#[test]
fn every_instruction_leaves_what_silicon_leaves() {
    let mut cpu = cpu();
    let (mut valid, mut failures) = (0, Vec::new());
    let rows = instructions!(0xd8 0xd9 0xda 0xdb 0xdc 0xdd 0xde 0xdf);
    for (code, run_on_host) in rows.into_iter().flatten() {
        for n in 1..=TRIES {
            let seed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(u16::from_le_bytes(code));
            let before = Image::random(&mut Random(seed));
            let (mut got, mut expected) = (before, before);
            if !run_on_guest(&mut cpu, code, &mut got) {
                break;
            }
            valid += 1;
            run_on_host(&mut expected);
            if stores_pointers(code) {
                got.memory[12..28].fill(0);
                expected.memory[12..28].fill(0);
            }
            if got != expected {
                failures.push(format!("{code:02x?} seed {seed:#x}\n{before:x?}\n{got:x?}\n{expected:x?}"));
                break;
            }
        }
    }
    assert!(failures.is_empty(), "before, here, on the host:\n{}", failures.join("\n"));
    assert!(valid > 400 * TRIES, "only {valid} runs");
}
