//! System instructions of 64-bit supervisor code that need no function: SWAPGS, CLI, STI.
//!
//! STI's shadow is kept as the interpreter keeps it: interrupts are not looked at before the instruction behind it is done,
//! whoever executes that one, and are looked at then.

use crate::context::{JitContext, LeaveKind};
use crate::translator::Translator;
use cranelift_codegen::ir::types::{I8, I32, I64};
use cranelift_codegen::ir::{InstBuilder, Value};
use iced_x86::{Code, Decoder, DecoderOptions, FlowControl};
use rx86_cpu::mode::ModeKey;
use rx86_cpu::op::Op;
use rx86_cpu::ops::MicroOps;
use rx86_cpu::state::{Flags, Msrs, Segment, SegmentIndex, Vcpu, bits};
use std::mem::offset_of;

/// What of the state these instructions use.
#[derive(Clone, Copy)]
pub(crate) enum SystemField {
    /// `Flags::system`.
    Flags,
    GsBase,
    /// The MSR that SWAPGS exchanges with it.
    KernelGsBase,
}

impl SystemField {
    /// Where it is in `Vcpu`.
    pub(crate) fn offset(self) -> usize {
        match self {
            Self::Flags => offset_of!(Vcpu, flags) + offset_of!(Flags, system),
            Self::GsBase => {
                let segment = SegmentIndex::GS * size_of::<Segment>() + offset_of!(Segment, base);
                offset_of!(Vcpu, segments) + segment
            }
            Self::KernelGsBase => offset_of!(Vcpu, msrs) + offset_of!(Msrs, kernel_gs_base),
        }
    }
}

/// A translator of these instructions.
pub(crate) trait SystemOps: MicroOps {
    fn begin_system_instruction(&mut self, op: &Op);
    /// `shadows`: it was an STI.
    fn end_system_instruction(&mut self, shadows: bool);
    fn system_field(&mut self, field: SystemField) -> Self::Int;
    fn set_system_field(&mut self, field: SystemField, value: Self::Int);
    /// STI's shadow is on if a value is one, and off if it is zero.
    fn set_shadow(&mut self, is_on: Self::Int);
}

/// Translates a system instruction, if it is one of those and may be executed in `mode`. `behind`: the code that follows it in
/// its node.
pub(crate) fn system_instruction<M: SystemOps>(m: &mut M, op: &Op, mode: ModeKey, behind: &[u8]) -> bool {
    let meaning: fn(&mut M) = match op.iced_code() {
        _ if mode.has(ModeKey::USER) => return false,
        Code::Swapgs => swapgs,
        Code::Cli => cli,
        Code::Sti if is_straight(behind) => sti,
        _ => return false,
    };
    m.begin_system_instruction(op);
    meaning(m);
    m.end_system_instruction(op.iced_code() == Code::Sti);
    true
}

fn swapgs<M: SystemOps>(m: &mut M) {
    let (base, kernel) = (m.system_field(SystemField::GsBase), m.system_field(SystemField::KernelGsBase));
    m.set_system_field(SystemField::GsBase, kernel);
    m.set_system_field(SystemField::KernelGsBase, base);
}

fn cli<M: SystemOps>(m: &mut M) {
    let flags = m.system_field(SystemField::Flags);
    let kept = m.constant(!bits::RFLAGS_IF);
    let flags = m.and(flags, kept);
    m.set_system_field(SystemField::Flags, flags);
}

fn sti<M: SystemOps>(m: &mut M) {
    let flags = m.system_field(SystemField::Flags);
    let open = m.constant(bits::RFLAGS_IF);
    let opened = m.or(flags, open);
    m.set_system_field(SystemField::Flags, opened);
    // One if they were off: what the two differ in.
    let differs = m.xor(flags, opened);
    let place = m.constant(u64::from(bits::RFLAGS_IF.trailing_zeros()));
    let were_off = m.shr(differs, place);
    m.set_shadow(were_off);
}

impl SystemOps for Translator<'_> {
    fn begin_system_instruction(&mut self, op: &Op) {
        self.begin_instruction(op);
    }

    fn end_system_instruction(&mut self, shadows: bool) {
        self.end_instruction();
        self.in_sti_shadow = shadows;
    }

    fn system_field(&mut self, field: SystemField) -> Value {
        self.load_state(field.offset())
    }

    fn set_system_field(&mut self, field: SystemField, value: Value) {
        self.store_state(value, field.offset());
    }

    fn set_shadow(&mut self, is_on: Value) {
        let is_on = self.low_bits(is_on, I8);
        self.store_state(is_on, offset_of!(Vcpu, sti_shadow));
    }
}

impl Translator<'_> {
    /// The instruction behind an STI is done: ends the shadow, and leaves if somebody wants the engine to look up.
    pub(crate) fn end_sti_shadow(&mut self) {
        let off = self.builder.ins().iconst(I8, 0);
        self.store_state(off, offset_of!(Vcpu, sti_shadow));
        let attention = self.attention();
        let (held, place) = self.now();
        let retired = i64::from(self.retired());
        let leave = self.leave_block(held, place, retired, LeaveKind::Engine);
        let next = self.builder.create_block();
        self.builder.ins().brif(attention, leave, &[], next, &[]);
        self.builder.switch_to_block(next);
    }

    /// The attention flags.
    fn attention(&mut self) -> Value {
        let offset = offset_of!(JitContext, attention) as i32;
        let flags = self.builder.ins().load(I64, self.regions.context, self.context, offset);
        self.builder.ins().atomic_load(I32, self.regions.exchange, flags)
    }
}

/// Whether the first instruction of `code` only goes on to the next.
fn is_straight(code: &[u8]) -> bool {
    let instruction = Decoder::with_ip(64, code, 0, DecoderOptions::NONE).decode();
    !instruction.is_invalid()
        && instruction.flow_control() == FlowControl::Next
        && instruction.code() != Code::Sti
}
