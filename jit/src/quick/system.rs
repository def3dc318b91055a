//! What of the state system instructions use, in the quick tier.

use super::ir::{NONE, Opcode, Value, slot};
use super::micro::Recorder;
use crate::system::{SystemField, SystemOps};
use rx86_cpu::op::Op;

fn slot_of(field: SystemField) -> u8 {
    match field {
        SystemField::Flags => slot::SYSTEM_FLAGS,
        SystemField::GsBase => slot::GS_BASE,
        SystemField::KernelGsBase => slot::KERNEL_GS_BASE,
    }
}

impl SystemOps for Recorder {
    fn begin_system_instruction(&mut self, op: &Op) {
        self.begin_instruction(op);
    }

    fn end_system_instruction(&mut self, shadows: bool) {
        self.end_instruction();
        self.in_sti_shadow = shadows;
    }

    fn system_field(&mut self, field: SystemField) -> Value {
        self.slot(slot_of(field))
    }

    fn set_system_field(&mut self, field: SystemField, value: Value) {
        self.set_slot(slot_of(field), value);
    }

    fn set_shadow(&mut self, is_on: Value) {
        self.list(Opcode::SetShadow, [is_on, NONE, NONE], 64, 0);
    }
}
