//! STMXCSR where the guest's MXCSR is the host's (SDM vol. 1, 10.2.3): libraries save it around much of their arithmetic.

use super::{HOST_FLOATING_POINT, Vectors};
use crate::access::Kind;
use crate::context::JitContext;
use crate::translator::Translator;
use cranelift_codegen::ir::InstBuilder;
use cranelift_codegen::ir::types::I64;
use iced_x86::Code;
use rx86_cpu::op::Op;
use rx86_cpu::width::W32;
use std::mem::offset_of;

/// The host code of a function that stores the host's MXCSR in the `JitContext` that it is given, and changes no register; none
/// for hosts that have no MXCSR.
pub(crate) fn store_mxcsr_code() -> Vec<u8> {
    if !HOST_FLOATING_POINT {
        return Vec::new();
    }
    let offset = offset_of!(JitContext, mxcsr) as u32;
    // stmxcsr [rdi + offset]; ret
    [&[0x0f, 0xae, 0x9f], &offset.to_le_bytes()[..], &[0xc3]].concat()
}

impl Vectors {
    /// Whether the host's MXCSR is the guest's in all of the region.
    fn mxcsr_is_loaded(&self) -> bool {
        self.plan.arithmetic && HOST_FLOATING_POINT
    }
}

impl Translator<'_> {
    /// Emits the instruction, if it is STMXCSR and the host's MXCSR is the guest's.
    pub(crate) fn stmxcsr(&mut self, op: &Op) -> bool {
        let is_stmxcsr = matches!(op.iced_code(), Code::Stmxcsr_m32 | Code::VEX_Vstmxcsr_m32);
        if !is_stmxcsr || !self.vectors.mxcsr_is_loaded() {
            return false;
        }
        self.begin_instruction(op);
        let host = self.operand_host::<W32>(op, Kind::Write);
        let offset = offset_of!(JitContext, store_mxcsr) as i32;
        let function = self.builder.ins().load(I64, self.regions.context, self.context, offset);
        let call = self.builder.ins().call_indirect(self.signatures.preserving, function, &[self.context]);
        self.vectors.barriers.push(call);
        let offset = offset_of!(JitContext, mxcsr) as i32;
        let value = self.builder.ins().load(I64, self.regions.exchange, self.context, offset);
        self.store_host::<W32>(host, value);
        self.end_instruction();
        true
    }
}
