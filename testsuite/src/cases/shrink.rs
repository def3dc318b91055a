//! Makes a failing case small: inputs that the failure does not need are put back to their defaults.

use super::known::instructions_of;
use crate::oracle::{PAGE, Program};
use iced_x86::{Encoder, Instruction};

/// The shortest program that still `fails`, leaving out one instruction after the other.
pub fn shrink_code(program: &Program, fails: &mut dyn FnMut(&Program) -> bool) -> Program {
    let mut best = program.clone();
    let mut place = 0;
    loop {
        let mut instructions = instructions_of(&best);
        if instructions.len() < 2 || place >= instructions.len() {
            return best;
        }
        instructions.remove(place);
        match encoded(&best, &instructions) {
            Some(shorter) if fails(&shorter) => {
                best = shorter;
                place = 0;
            }
            _ => place += 1,
        }
    }
}

/// `program` with other instructions; their targets stay where they are.
fn encoded(program: &Program, instructions: &[Instruction]) -> Option<Program> {
    let mut encoder = Encoder::new(program.mode.bits());
    let mut at = program.ip();
    for instruction in instructions {
        at += encoder.encode(instruction, at).ok()? as u64;
    }
    Some(Program { code: encoder.take_buffer(), ..program.clone() })
}

/// The smallest program that still `fails`, changing one input at a time.
pub fn shrink(program: &Program, fails: &mut dyn FnMut(&Program) -> bool) -> Program {
    let plain = Program::in_mode(program.mode, Vec::new());
    let mut best = program.clone();
    let mut attempt = |change: &dyn Fn(&mut Program)| {
        let mut smaller = best.clone();
        change(&mut smaller);
        if smaller != best && fails(&smaller) {
            best = smaller;
        }
    };
    attempt(&|p| p.at = PAGE / 2);
    attempt(&|p| p.memory.fill(0));
    attempt(&|p| p.state.fx = plain.state.fx);
    for i in 0..16 {
        attempt(&|p| p.state.gpr[i] = plain.state.gpr[i]);
        attempt(&|p| p.state.set_xmm(i, 0));
        attempt(&|p| p.state.ymm_high[i] = 0);
    }
    for i in 0..8 {
        attempt(&|p| p.state.set_st(i, 0));
    }
    attempt(&|p| p.state.rflags = 0);
    attempt(&|p| p.state.set_mxcsr(plain.state.mxcsr()));
    attempt(&|p| p.state.set_mxcsr(p.state.mxcsr() & !0x3f));
    attempt(&|p| p.state.set_fcw(plain.state.fcw()));
    attempt(&|p| p.state.set_fsw(0));
    attempt(&|p| p.state.set_fsw(p.state.fsw() & 0x3800));
    attempt(&|p| p.state.set_ftw(0));
    attempt(&|p| p.state.set_ftw(if p.state.ftw() == 0 { 0 } else { 0xff }));
    let mut bytes = program.memory.len() / 2;
    while bytes >= 4 {
        for at in (0..program.memory.len()).step_by(bytes) {
            attempt(&|p| p.memory[at..at + bytes].fill(0));
        }
        bytes /= 2;
    }
    best
}
