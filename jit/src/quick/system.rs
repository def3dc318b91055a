//! System instructions of 64-bit supervisor code that need no function, as `crate::system` has them: SWAPGS, CLI, STI.

use super::ir::{NONE, Opcode, slot};
use super::micro::Recorder;
use crate::system::is_straight;
use iced_x86::Code;
use rx86_cpu::mode::ModeKey;
use rx86_cpu::op::Op;
use rx86_cpu::ops::MicroOps;
use rx86_cpu::state::bits;

impl Recorder {
    /// Lists a system instruction, if it is one of those and may be executed in `mode`. `behind`: the code that follows it in
    /// its node.
    pub(super) fn system_instruction(&mut self, op: &Op, mode: ModeKey, behind: &[u8]) -> bool {
        if mode.has(ModeKey::USER) {
            return false;
        }
        match op.iced_code() {
            Code::Swapgs => {
                self.begin_instruction(op);
                let (base, kernel) = (self.slot(slot::GS_BASE), self.slot(slot::KERNEL_GS_BASE));
                self.set_slot(slot::GS_BASE, kernel);
                self.set_slot(slot::KERNEL_GS_BASE, base);
                self.end_instruction();
            }
            Code::Cli => {
                self.begin_instruction(op);
                let flags = self.slot(slot::SYSTEM_FLAGS);
                let kept = self.constant(!bits::RFLAGS_IF);
                let flags = self.and(flags, kept);
                self.set_slot(slot::SYSTEM_FLAGS, flags);
                self.end_instruction();
            }
            Code::Sti if is_straight(behind) => {
                self.begin_instruction(op);
                self.sti();
                self.end_instruction();
                self.in_sti_shadow = true;
            }
            _ => return false,
        }
        true
    }

    fn sti(&mut self) {
        let flags = self.slot(slot::SYSTEM_FLAGS);
        let open = self.constant(bits::RFLAGS_IF);
        let opened = self.or(flags, open);
        self.set_slot(slot::SYSTEM_FLAGS, opened);
        // One if they were off: what the two differ in.
        let differs = self.xor(flags, opened);
        let place = self.constant(u64::from(bits::RFLAGS_IF.trailing_zeros()));
        let were_off = self.shr(differs, place);
        self.list(Opcode::BeginShadow, [were_off, NONE, NONE], 64, 0);
    }
}
