//! Two vCPUs on two threads with one memory: locked instructions, split locks, and code that each rewrites for the other.
//!
//! The guest's accesses to what both use are locked, so that a thread sanitizer finds only the engine's own races
//! (docs/testing.md tells how to run this under it).

use rx86_cpu::backend::{Exit, X86Ops};
use rx86_cpu::bare_board::BareBoard;
use rx86_cpu::cpu::Cpu;
use rx86_cpu::features::CpuModel;
use rx86_cpu::interp::Interpreter;
use rx86_cpu::op::reg;
use rx86_cpu::state::SegmentIndex;
use rx86_softmmu::{Attention, GuestMemory};
use std::sync::Arc;

const ROUNDS: u16 = 500;
/// Each processor's code, function and stack end.
const CODE: [u16; 2] = [0x1000, 0x2000];
const FUNCTION: [u16; 2] = [0x3000, 0x4000];
const STACK: [u16; 2] = [0x5800, 0x6800];
const COUNTER: u16 = 0x8000;
/// A word in two cache lines.
const SPLIT: u16 = 0x803f;

/// Real-address mode's code of processor `own`: counts, counts by a split lock, rewrites the other one's function, and calls
/// its own, `ROUNDS` times.
fn code(own: usize) -> Vec<u8> {
    let word = u16::to_le_bytes;
    let target = word(FUNCTION[1 - own] + 1);
    let mut code = vec![0xb9];
    code.extend(word(ROUNDS));
    let again = code.len();
    // LOCK INC DWORD PTR, LOCK INC WORD PTR.
    code.extend([0xf0, 0x66, 0xff, 0x06]);
    code.extend(word(COUNTER));
    code.extend([0xf0, 0xff, 0x06]);
    code.extend(word(SPLIT));
    // MOV AL, CL; XCHG [target], AL.
    code.extend([0x88, 0xc8, 0x86, 0x06]);
    code.extend(target);
    // CALL the function.
    let next = CODE[own] + code.len() as u16 + 3;
    code.push(0xe8);
    code.extend(word(FUNCTION[own].wrapping_sub(next)));
    // LOOP; HLT.
    let back = again as i32 - (code.len() as i32 + 2);
    code.extend([0xe2, back as u8, 0xf4]);
    code
}

fn engine(memory: &Arc<GuestMemory>, own: usize) -> Interpreter {
    memory.write(CODE[own].into(), &code(own)).expect("RAM");
    // MOV BL, 0; RET.
    memory.write(FUNCTION[own].into(), &[0xb3, 0, 0xc3]).expect("RAM");
    let board = Box::new(BareBoard { cpus: 2, ..BareBoard::default() });
    let mut cpu = Cpu::new(memory.clone(), board, CpuModel::max(), Attention::default());
    cpu.state.segments[SegmentIndex::CS].base = 0;
    cpu.state.regs[usize::from(reg::RSP)] = STACK[own].into();
    cpu.state.set_rip(CODE[own].into());
    Interpreter::new(cpu)
}

#[test]
fn two_vcpus_share_memory_and_code() {
    let memory = GuestMemory::new(1 << 20).expect("1 MiB");
    let mut engines = [0, 1].map(|own| engine(&memory, own));
    // The decoder makes its tables at its first use, in a way that a sanitizer without a standard library of its own cannot see.
    engines[0].run(1);
    std::thread::scope(|scope| {
        let threads = engines.each_mut().map(|engine| {
            scope.spawn(|| {
                while engine.run(1000) != Exit::Halt {
                    assert_eq!(engine.failure(), None);
                }
            })
        });
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    });
    let mut counted = [0; 4];
    memory.read(COUNTER.into(), &mut counted).expect("RAM");
    assert_eq!(u32::from_le_bytes(counted), 2 * u32::from(ROUNDS));
    let mut counted = [0; 2];
    memory.read(SPLIT.into(), &mut counted).expect("RAM");
    assert_eq!(u16::from_le_bytes(counted), 2 * ROUNDS, "by split locks");
    for engine in &mut engines {
        assert_eq!(engine.state().regs[usize::from(reg::RCX)] & 0xffff, 0);
    }
}
