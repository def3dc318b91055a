//! Cases as text, one a line: `code | mnemonic | inputs => outputs`. `mode=20` and `mode=10` are 32-bit and 16-bit code.
//!
//! Code is in hexadecimal, and the mnemonic is for readers. Inputs are what differs from `Program::new`, outputs what
//! differs from the inputs; all values are hexadecimal. `mOFFSET=` gives bytes of the data pages in order of address,
//! `ymmhN=` the upper half of a YMM register.

use super::compare::GPR_NAMES;
use super::known::{instruction_of, instructions_of, is_sequence};
use crate::oracle::{BREAKPOINT, CODE_MAX, Ending, Mode, Outcome, PAGE, Program, State};
use iced_x86::{Formatter, IntelFormatter};
use std::fmt::Write;

/// A case with what it must lead to.
#[derive(Clone, Debug)]
pub struct Case {
    /// Instruction and inputs.
    pub program: Program,
    /// Registers, memory and exception afterwards.
    pub expected: Outcome,
}

/// The instructions in Intel's syntax.
pub fn mnemonic(program: &Program) -> String {
    let mut instructions = instructions_of(program);
    if !is_sequence(&instructions) {
        instructions = vec![instruction_of(program)];
    }
    let mut text = String::new();
    for (i, instruction) in instructions.iter().enumerate() {
        text.push_str(if i == 0 { "" } else { "; " });
        IntelFormatter::new().format(instruction, &mut text);
    }
    text
}

/// The program as the part of a line before the arrow.
pub fn print_program(program: &Program) -> String {
    let mut line = hex(&program.code);
    let _ = write!(line, " | {} |", mnemonic(program));
    if program.mode != Mode::Bits64 {
        let _ = write!(line, " mode={:x}", program.mode.bits());
    }
    if program.at != PAGE / 2 {
        let _ = write!(line, " at={:x}", program.at);
    }
    let start = Program::in_mode(program.mode, Vec::new());
    print_state(&mut line, &start.state, &program.state);
    print_memory(&mut line, &start.memory, &program.memory);
    line
}

/// A whole line.
pub fn print_case(program: &Program, outcome: &Outcome) -> String {
    let mut line = print_program(program);
    line.push_str(" =>");
    let usual = usual_ending(program);
    if outcome.ending != usual.ending {
        let ending = outcome.ending;
        let _ = write!(line, " vector={:x}", ending.vector);
        if ending.error_code != 0 || ending.address != 0 {
            let _ = write!(line, " error={:x} address={:x}", ending.error_code, ending.address);
        }
    }
    if outcome.state.rip != usual.state.rip {
        let _ = write!(line, " rip={:x}", outcome.state.rip);
    }
    print_state(&mut line, &program.state, &outcome.state);
    print_memory(&mut line, &program.memory, &outcome.memory);
    line
}

/// The outcome of a program that changes nothing and runs into the INT3 behind it.
fn usual_ending(program: &Program) -> Outcome {
    let mut state = program.state.clone();
    state.rip = program.ip() + program.code.len() as u64 + 1;
    Outcome {
        state,
        memory: program.memory.clone(),
        ending: Ending { vector: BREAKPOINT, ..Ending::default() },
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn print_state(line: &mut String, before: &State, after: &State) {
    let mut print = |name: &str, before: u128, after: u128| {
        if before != after {
            let _ = write!(line, " {name}={after:x}");
        }
    };
    for (i, name) in GPR_NAMES.iter().enumerate() {
        print(name, before.gpr[i].into(), after.gpr[i].into());
    }
    print("flags", before.rflags.into(), after.rflags.into());
    print("mxcsr", before.mxcsr().into(), after.mxcsr().into());
    print("fcw", before.fcw().into(), after.fcw().into());
    print("fsw", before.fsw().into(), after.fsw().into());
    print("ftw", before.ftw().into(), after.ftw().into());
    for i in 0..8 {
        print(&format!("st{i}"), before.st(i), after.st(i));
    }
    for i in 0..16 {
        print(&format!("xmm{i}"), before.xmm(i), after.xmm(i));
        print(&format!("ymmh{i}"), before.ymm_high[i], after.ymm_high[i]);
    }
}

fn print_memory(line: &mut String, before: &[u8], after: &[u8]) {
    let mut at = 0;
    while let Some(first) = (at..after.len()).find(|&i| before[i] != after[i]) {
        // A gap of a few equal bytes does not end a run.
        let mut end = first + 1;
        while let Some(next) = (end..after.len().min(end + 4)).find(|&i| before[i] != after[i]) {
            end = next + 1;
        }
        let _ = write!(line, " m{first:x}={}", hex(&after[first..end]));
        at = end;
    }
}

/// Parses one line; the error says what is wrong with it.
pub fn parse_case(line: &str) -> Result<Case, String> {
    let (program, outputs) = line.split_once("=>").ok_or("there is no `=>`")?;
    let program = parse_program(program)?;
    let mut expected = usual_ending(&program);
    for assignment in outputs.split_whitespace() {
        let (name, value) = split(assignment)?;
        match name {
            "vector" => expected.ending.vector = number(value)? as u32,
            "error" => expected.ending.error_code = number(value)? as u32,
            "address" => expected.ending.address = number(value)? as u64,
            "rip" => expected.state.rip = number(value)? as u64,
            _ => assign(&mut expected.state, &mut expected.memory, name, value)?,
        }
    }
    Ok(Case { program, expected })
}

/// Parses the part of a line before the arrow.
pub fn parse_program(text: &str) -> Result<Program, String> {
    let mut parts = text.split('|');
    let code = bytes(parts.next().unwrap_or_default().trim())?;
    let inputs = parts.nth(1).ok_or("there are no inputs: code | mnemonic | inputs")?;
    if code.is_empty() || code.len() > CODE_MAX {
        return Err(format!("code has 1 to {CODE_MAX} bytes"));
    }
    let mode =
        inputs.split_whitespace().find_map(|word| word.strip_prefix("mode=")).map_or(Ok(64), number)?;
    let mode = Mode::from_bits(mode as u64).ok_or("mode is 40, 20 or 10")?;
    let mut program = Program::in_mode(mode, code);
    for assignment in inputs.split_whitespace() {
        let (name, value) = split(assignment)?;
        if name == "mode" {
            continue;
        } else if name == "at" {
            program.at = number(value)? as usize;
        } else {
            assign(&mut program.state, &mut program.memory, name, value)?;
        }
    }
    if program.at + program.code.len() > 2 * PAGE {
        return Err("the code runs off its pages".into());
    }
    Ok(program)
}

fn split(assignment: &str) -> Result<(&str, &str), String> {
    assignment.split_once('=').ok_or_else(|| format!("`{assignment}` is not NAME=VALUE"))
}

fn number(text: &str) -> Result<u128, String> {
    u128::from_str_radix(text, 16).map_err(|error| format!("`{text}`: {error}"))
}

fn bytes(text: &str) -> Result<Vec<u8>, String> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return Err(format!("`{text}` is not pairs of hexadecimal digits"));
    }
    (0..text.len()).step_by(2).map(|i| Ok(number(&text[i..i + 2])? as u8)).collect()
}

fn assign(state: &mut State, memory: &mut [u8], name: &str, text: &str) -> Result<(), String> {
    if let Some(i) = GPR_NAMES.iter().position(|&register| register == name) {
        state.gpr[i] = number(text)? as u64;
        return Ok(());
    }
    let numbered = |prefix: &str, limit: usize| {
        name.strip_prefix(prefix).and_then(|i| i.parse().ok()).filter(|&i: &usize| i < limit)
    };
    if let Some(i) = numbered("xmm", 16) {
        state.set_xmm(i, number(text)?);
        return Ok(());
    }
    if let Some(i) = numbered("ymmh", 16) {
        state.ymm_high[i] = number(text)?;
        return Ok(());
    }
    if let Some(i) = numbered("st", 8) {
        state.set_st(i, number(text)?);
        return Ok(());
    }
    match name {
        "flags" => state.rflags = number(text)? as u64,
        "mxcsr" => state.set_mxcsr(number(text)? as u32),
        "fcw" => state.set_fcw(number(text)? as u16),
        "fsw" => state.set_fsw(number(text)? as u16),
        "ftw" => state.set_ftw(number(text)? as u8),
        _ => {
            let at = name.strip_prefix('m').and_then(|at| usize::from_str_radix(at, 16).ok());
            let data = bytes(text)?;
            let place = at.and_then(|at| memory.get_mut(at..at + data.len()));
            place
                .ok_or_else(|| format!("`{name}` is no register and no place in the data pages"))?
                .copy_from_slice(&data);
        }
    }
    Ok(())
}
