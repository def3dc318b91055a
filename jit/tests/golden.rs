//! The host code of a few blocks, kept as text, so that a change of the translator shows what it does to the code.
//!
//! `RX86_UPDATE=1 cargo test -p rx86-jit --test golden` writes the files anew; review them as code.

#![cfg(target_arch = "x86_64")]

mod world;

use iced_x86::code_asm::*;
use iced_x86::{Decoder, DecoderOptions, Formatter, IcedError, Instruction, IntelFormatter};
use rx86_cpu::features::CpuModel;
use rx86_jit::Compiler;
use std::fmt::Write;
use std::path::Path;

const START: u64 = 0x40_0000;

type Program = fn(&mut CodeAssembler) -> Result<(), IcedError>;

/// Name and guest code.
const BLOCKS: [(&str, Program); 3] = [
    ("registers", |a| {
        a.mov(eax, edi)?;
        a.add(eax, esi)?;
        a.shl(rax, 3)?;
        a.xor(edx, edx)?;
        a.ret()
    }),
    ("compare_and_branch", |a| {
        a.add(rcx, 1)?;
        a.cmp(rcx, rdx)?;
        a.jb(START)
    }),
    ("memory", |a| {
        a.push(rbp)?;
        a.mov(rbp, rsp)?;
        a.movzx(eax, byte_ptr(rdi + rcx * 4 + 16))?;
        a.add(dword_ptr(rsi), eax)?;
        a.test(eax, eax)?;
        a.je(START + 0x40)
    }),
];

fn disassemble(code: &[u8], ip: u64) -> Vec<String> {
    let mut formatter = IntelFormatter::new();
    formatter.options_mut().set_branch_leading_zeros(false);
    let format = |instruction: Instruction| {
        let mut text = String::new();
        formatter.format(&instruction, &mut text);
        format!("{:4x}  {text}", instruction.ip() - ip)
    };
    Decoder::with_ip(64, code, ip, DecoderOptions::NONE).into_iter().map(format).collect()
}

#[test]
fn host_code() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let update = std::env::var_os("RX86_UPDATE").is_some();
    let mode = world::cpu().mode();
    let mut compiler = Compiler::for_baseline().expect("a code generator for this host");
    for (name, program) in BLOCKS {
        let mut assembler = CodeAssembler::new(64).expect("64-bit code");
        program(&mut assembler).expect("instructions that exist");
        let guest = assembler.assemble(START).expect("instructions that can be encoded");
        let block = compiler.translate_block(&guest, mode, &CpuModel::max()).expect("a block");
        let mut host = disassemble(block.host_code(), 0);
        // Behind the last instruction there are constants.
        let is_end = |line: &String| line.ends_with("  ret") || line.contains("  jmp r");
        let last = host.iter().rposition(is_end);
        host.truncate(last.map_or(0, |index| index + 1));
        let guest = disassemble(&guest, START);
        let mut text = String::new();
        let bytes = block.host_code().len();
        let _ = writeln!(
            text,
            "{} guest instructions: {} host instructions, {bytes} bytes\n",
            guest.len(),
            host.len()
        );
        let _ = writeln!(text, "guest:\n{}\n\nhost:\n{}", guest.join("\n"), host.join("\n"));
        let path = directory.join(format!("{name}.txt"));
        if update {
            std::fs::create_dir_all(&directory).expect("the folder can be made");
            std::fs::write(&path, &text).expect("the file can be written");
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(golden, text, "{} differs; RX86_UPDATE=1 writes it anew", path.display());
    }
}
