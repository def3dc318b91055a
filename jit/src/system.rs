//! System instructions of 64-bit supervisor code that need no function: SWAPGS, CLI, STI.
//!
//! STI's shadow is kept as the interpreter keeps it: interrupts are not looked at before the instruction behind it is done,
//! whoever executes that one, and are looked at then.

use crate::context::{JitContext, LeaveKind};
use crate::translator::Translator;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I8, I32, I64};
use cranelift_codegen::ir::{InstBuilder, Value};
use iced_x86::{Code, Decoder, DecoderOptions, FlowControl};
use rx86_cpu::mode::ModeKey;
use rx86_cpu::op::Op;
use rx86_cpu::state::{Flags, Msrs, Segment, SegmentIndex, Vcpu, bits};
use std::mem::offset_of;

pub(crate) const SYSTEM_FLAGS: usize = offset_of!(Vcpu, flags) + offset_of!(Flags, system);
const GS_BASE: usize =
    offset_of!(Vcpu, segments) + SegmentIndex::GS * size_of::<Segment>() + offset_of!(Segment, base);
pub(crate) const KERNEL_GS_BASE: usize = offset_of!(Vcpu, msrs) + offset_of!(Msrs, kernel_gs_base);

impl Translator<'_> {
    /// Emits a system instruction, if it is one of those and may be executed in `mode`. `behind`: the code that follows it in
    /// its node.
    pub(crate) fn system_instruction(&mut self, op: &Op, mode: ModeKey, behind: &[u8]) -> bool {
        if mode.has(ModeKey::USER) {
            return false;
        }
        match op.iced_code() {
            Code::Swapgs => {
                self.begin_instruction(op);
                let (base, kernel) = (self.load_state(GS_BASE), self.load_state(KERNEL_GS_BASE));
                self.store_state(kernel, GS_BASE);
                self.store_state(base, KERNEL_GS_BASE);
            }
            Code::Cli => {
                self.begin_instruction(op);
                let flags = self.load_state(SYSTEM_FLAGS);
                let flags = self.builder.ins().band_imm_s(flags, !(bits::RFLAGS_IF as i64));
                self.store_state(flags, SYSTEM_FLAGS);
            }
            Code::Sti if is_straight(behind) => {
                self.begin_instruction(op);
                self.sti();
                self.end_instruction();
                self.in_sti_shadow = true;
                return true;
            }
            _ => return false,
        }
        self.end_instruction();
        true
    }

    fn sti(&mut self) {
        let flags = self.load_state(SYSTEM_FLAGS);
        let interrupts = self.builder.ins().band_imm_u(flags, bits::RFLAGS_IF as i64);
        let were_off = self.builder.ins().icmp_imm_u(IntCC::Equal, interrupts, 0);
        let flags = self.builder.ins().bor_imm_u(flags, bits::RFLAGS_IF as i64);
        self.store_state(flags, SYSTEM_FLAGS);
        self.store_state(were_off, offset_of!(Vcpu, sti_shadow));
    }

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
pub(crate) fn is_straight(code: &[u8]) -> bool {
    let instruction = Decoder::with_ip(64, code, 0, DecoderOptions::NONE).decode();
    !instruction.is_invalid()
        && instruction.flow_control() == FlowControl::Next
        && instruction.code() != Code::Sti
}
