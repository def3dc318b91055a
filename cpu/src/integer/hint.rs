//! NOPs and hints that do nothing here: multi-byte NOPs, ENDBR, prefetches (SDM vol. 2).

use crate::op::Op;
use crate::ops::{Meaning, MicroOps};
use iced_x86::{Instruction, Mnemonic};

fn nothing<M: MicroOps>(_: &mut M, _: &Op) -> Result<(), M::Fault> {
    Ok(())
}

/// The meaning of an instruction of this family.
pub(super) fn select<M: MicroOps>(instruction: &Instruction) -> Option<Meaning<M>> {
    use Mnemonic::*;
    match instruction.mnemonic() {
        Nop | Reservednop | Endbr32 | Endbr64 | Rdsspd | Rdsspq | Cldemote | Prefetch | Prefetchw
        | Prefetchwt1 | Prefetchnta | Prefetcht0 | Prefetcht1 | Prefetcht2 | Prefetchit0 | Prefetchit1 => {
            Some(nothing::<M>)
        }
        _ => None,
    }
}
