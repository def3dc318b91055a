//! The host code of small guest programs, kept as text, so that a change of the translator shows what it does to the code:
//! `golden/counts.txt` in short, and a file for each program with one turn of its loop (all of the code, if there is none).
//!
//! `RX86_UPDATE=1 cargo test -p rx86-jit --test golden` writes the files anew; review them as code.

#![cfg(target_arch = "x86_64")]

mod loops;
mod world;

use iced_x86::code_asm::CodeAssembler;
use loops::{PROGRAMS, Program};
use rx86_cpu::cpu::Cpu;
use rx86_cpu::decode::decode;
use rx86_cpu::features::CpuModel;
use rx86_cpu::interp::tier::{CodeView, HotBlock};
use rx86_cpu::mode::ModeKey;
use rx86_cpu::state::bits;
use rx86_jit::Compiler;
use rx86_jit::listing::Listing;
use std::fmt::Write;
use std::path::Path;

const START: u64 = 0x40_0000;

/// Guest code at `START`, all of it hot.
struct HotCode {
    bytes: Vec<u8>,
    mode: ModeKey,
}

impl CodeView for HotCode {
    fn block(&mut self, linear: u64) -> Option<HotBlock> {
        let from = linear.checked_sub(START)? as usize;
        let (mut end, mut instructions) = (from, 0);
        let last = loop {
            let decoded = decode::<Cpu>(self.bytes.get(end..)?, self.mode, &CpuModel::max()).ok()?;
            end += usize::from(decoded.op.length);
            instructions += 1;
            if decoded.ends_block {
                break decoded.op;
            }
        };
        let bytes = self.bytes[from..end].to_vec();
        Some(HotBlock { gpa: linear, tail_page: None, bytes, instructions, last, heat: 1 << 20 })
    }
}

/// The mode of a Linux kernel, with AVX enabled.
fn mode() -> ModeKey {
    let mut cpu = world::cpu();
    cpu.state.cr4 |= bits::CR4_OSXSAVE;
    cpu.state.xcr0 = 7;
    cpu.mode_changed();
    cpu.mode()
}

/// What is kept of a program: the counts in one line, and the whole text.
fn translate(compiler: &mut Compiler, program: Program) -> (String, String) {
    let mut assembler = CodeAssembler::new(64).expect("64-bit code");
    program(&mut assembler).expect("instructions that exist");
    let bytes = assembler.assemble(START).expect("instructions that can be encoded");
    let guest = Listing::straight(&bytes, START);
    let mode = mode();
    let mut code = HotCode { bytes, mode };
    let region = compiler.translate_region(START, &mut code, mode, &CpuModel::max());
    let region = region.expect("there is code").expect("the code can be translated");
    let host = Listing::reachable(region.host_code());
    let in_loop = |listing: &Listing| match listing.one_turn() {
        Some(turn) => format!("{} ({} a turn)", listing.count(), turn.count()),
        None => listing.count().to_string(),
    };
    let counts = format!("guest {:12} host {}", in_loop(&guest), in_loop(&host));
    let shown = host.one_turn().map_or_else(|| host.lines(0), |turn| turn.lines_without_addresses());
    let text =
        [&[counts.clone(), "\nguest:".into()], &guest.lines(START)[..], &["\nhost:".into()], &shown[..]];
    (counts, text.concat().join("\n") + "\n")
}

/// Compares `text` with the file, or writes it. What differs, if anything does.
fn keep(name: &str, text: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.txt"));
    if std::env::var_os("RX86_UPDATE").is_some() {
        std::fs::write(&path, text).expect("the file can be written");
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    (golden != text).then(|| {
        let first = |text: &str| text.lines().next().unwrap_or("nothing").to_string();
        format!("{name}: it was {}; it is {}", first(&golden), first(text))
    })
}

#[test]
fn host_code() {
    let mut compiler = Compiler::for_comparison().expect("a code generator for this host");
    let mut counts = String::new();
    let mut differences = Vec::new();
    for (name, program) in PROGRAMS {
        let (count, text) = translate(&mut compiler, program);
        let _ = writeln!(counts, "{name:20} {count}");
        differences.extend(keep(name, &text));
    }
    differences.extend(keep("counts", &counts));
    assert!(differences.is_empty(), "RX86_UPDATE=1 writes these anew:\n{}", differences.join("\n"));
}
