//! Where QEMU's TCG is known to differ in ways that a whole boot comes across. A comparison goes on past them: QEMU is given
//! what the left side has, each time is counted, and the counts are printed at the end.

use super::qemu::Qemu;
use anyhow::Result;
use iced_x86::{Instruction, InstructionInfoFactory, OpAccess};

/// W of #PF's error code (SDM vol. 3, 4.7).
const WRITE: u8 = 1 << 1;

/// A known difference.
#[derive(Debug, PartialEq, Eq)]
pub struct Known {
    /// What differs.
    pub name: &'static str,
    /// Who is right, and why.
    pub reason: &'static str,
}

/// #PF's error code at a read-modify-write.
pub const READ_MODIFY_WRITE: Known = Known {
    name: "W of #PF's error code at a read-modify-write",
    reason: "rx86 is right: W says whether the access was a write, and an instruction that writes what it has read needs the \
             right to write for its read already (SDM vol. 3, 4.7 and 6.15, #PF), as Intel's and AMD's processors report; \
             QEMU reads first and reports the read",
};

/// The low byte of an error code that the left side has pushed, where QEMU's may be another one.
#[derive(Clone, Copy, Debug)]
pub(super) struct PushedCode {
    /// Where it lies.
    pub linear: u64,
    /// What the left side has pushed.
    pub code: u8,
}

/// Whether `instruction`, which has raised #PF with `error_code`, is one for which QEMU's error code may differ.
pub(super) fn may_differ(instruction: &Instruction, error_code: u32) -> bool {
    let modifies = |access| matches!(access, OpAccess::ReadWrite | OpAccess::ReadCondWrite);
    let mut factory = InstructionInfoFactory::new();
    error_code & u32::from(WRITE) != 0
        && factory.info(instruction).used_memory().iter().any(|memory| modifies(memory.access()))
}

/// Gives QEMU, whose handler is about to begin, the left side's error code if they differ as the list says. Returns whether
/// they did.
pub(super) fn put_right(qemu: &mut Qemu, pushed: &PushedCode) -> Result<bool> {
    let found = qemu.read_linear(pushed.linear, 1)?;
    let known = found.first().is_some_and(|found| found ^ pushed.code == WRITE);
    if known {
        qemu.write_linear(pushed.linear, &[pushed.code])?;
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Decoder, DecoderOptions};

    #[test]
    fn only_writes_of_what_was_read_may_differ() {
        let decode = |bytes: &[u8]| Decoder::new(64, bytes, DecoderOptions::NONE).decode();
        // INC, LOCK CMPXCHG and XADD; MOV, CMP, PUSH and a store.
        for bytes in [&[0xff, 0x00][..], &[0xf0, 0x0f, 0xb1, 0x08], &[0x0f, 0xc1, 0x08]] {
            assert!(may_differ(&decode(bytes), 2), "{bytes:x?}");
            assert!(!may_differ(&decode(bytes), 1), "{bytes:x?}: a read");
        }
        for bytes in [&[0x8b, 0x00][..], &[0x3b, 0x00], &[0xff, 0x30], &[0x89, 0x00]] {
            assert!(!may_differ(&decode(bytes), 2), "{bytes:x?}");
        }
    }
}
