//! Makes a failing case small: inputs that the failure does not need are put back to their defaults.

use crate::oracle::{PAGE, Program};

/// The smallest program that still `fails`, changing one input at a time.
pub fn shrink(program: &Program, fails: &mut dyn FnMut(&Program) -> bool) -> Program {
    let plain = Program::new(Vec::new());
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
