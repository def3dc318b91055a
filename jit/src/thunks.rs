//! The few functions that all translations share: the way into translated code, from one translation to the next, and to
//! the functions of the engine with all registers preserved.
//!
//! Translations go on to each other by jumps, so that the stack does not grow.

#![expect(unsafe_code, reason = "enters host code")]

use crate::code::{CodeArena, DENSE, HostCode};
use crate::compiler::{CompileError, Compiler};
use crate::context::{Call, JitContext, LeaveKind};
use crate::jumps::{ENTRIES, JumpEntry, SHIFT};
use crate::quick::QuickCompiler;
use crate::quick::ways::{dispatch_code, link_code, quick_dispatch_code};
use crate::translator::register_offset;
use crate::vector::control::store_mxcsr_code;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I32, I64};
use cranelift_codegen::ir::{AbiParam, InstBuilder, MemFlagsData, Signature, Value};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::FunctionBuilder;
use rx86_cpu::op::reg;
use std::mem::offset_of;

/// The shared functions, and the memory they are in.
#[derive(Debug)]
pub(crate) struct Thunks {
    _memory: CodeArena,
    enter: HostCode,
    dispatch: HostCode,
    quick_dispatch: Option<HostCode>,
    link: Option<HostCode>,
    look_up: HostCode,
    slow_access: HostCode,
    settle: HostCode,
    load_x87: HostCode,
    load_mxcsr: HostCode,
    store_mxcsr: HostCode,
}

/// The convention of translations, which only `enter` calls: none of their registers need be preserved. That of Winch
/// preserves none; that it can do the jumps between functions that are needed here, too, Cranelift's verifier does not
/// know, which debug builds run.
const CONVENTION: CallConv =
    if cfg!(all(target_arch = "x86_64", not(debug_assertions))) { CallConv::Winch } else { CallConv::Tail };

/// Parameters: the `JitContext`, and the translation's `Call`s. Result: a `LeaveKind`.
pub(crate) fn translation_signature() -> Signature {
    signature(CONVENTION, 2, 1)
}

/// Parameter: the `JitContext`. All registers are preserved.
pub(crate) fn preserving_signature() -> Signature {
    signature(CallConv::PreserveAll, 1, 0)
}

/// A signature of so many 64-bit integers.
pub(crate) fn signature(convention: CallConv, parameters: usize, results: usize) -> Signature {
    let mut signature = Signature::new(convention);
    signature.params.resize(parameters, AbiParam::new(I64));
    signature.returns.resize(results, AbiParam::new(I64));
    signature
}

impl Thunks {
    pub(crate) fn new(compiler: &mut Compiler) -> Result<Self, CompileError> {
        let mut memory = CodeArena::new(0, DENSE)?;
        let mut add = |code: Vec<u8>| {
            let added = memory.add(&code)?;
            added.ok_or_else(|| CompileError::Map(std::io::ErrorKind::OutOfMemory.into()))
        };
        let enter = add(compiler.enter_thunk()?)?;
        let is_quick = QuickCompiler::is_host_known();
        let dispatch = add(if is_quick { dispatch_code() } else { compiler.dispatch_thunk()? })?;
        let quick_dispatch = is_quick.then(|| add(quick_dispatch_code())).transpose()?;
        let link = is_quick.then(|| add(link_code())).transpose()?;
        let look_up = add(compiler.look_up_thunk()?)?;
        let slow_access = add(compiler.preserving_thunk(offset_of!(JitContext, slow_function))?)?;
        let settle = add(compiler.preserving_thunk(offset_of!(JitContext, settle_function))?)?;
        let load_x87 = add(compiler.preserving_thunk(offset_of!(JitContext, load_x87_function))?)?;
        let load_mxcsr = add(compiler.preserving_thunk(offset_of!(JitContext, load_mxcsr_function))?)?;
        let store_mxcsr = add(store_mxcsr_code())?;
        Ok(Self {
            _memory: memory,
            enter,
            dispatch,
            quick_dispatch,
            link,
            look_up,
            slow_access,
            settle,
            load_x87,
            load_mxcsr,
            store_mxcsr,
        })
    }

    /// What translations go on through when they have stored an RIP.
    pub(crate) fn dispatch(&self) -> *const u8 {
        self.dispatch.start
    }

    /// What quick translations go on through with all their registers; null if there are none.
    pub(crate) fn quick_dispatch(&self) -> *const u8 {
        self.quick_dispatch.as_ref().map_or(std::ptr::null(), |code| code.start)
    }

    /// What the slots of links hold at first; null if there are none.
    pub(crate) fn link(&self) -> *const u8 {
        self.link.as_ref().map_or(std::ptr::null(), |code| code.start)
    }

    /// What `dispatch` goes on through when the jump cache does not know RIP.
    pub(crate) fn look_up(&self) -> *const u8 {
        self.look_up.start
    }

    pub(crate) fn slow_access(&self) -> *const u8 {
        self.slow_access.start
    }

    pub(crate) fn settle(&self) -> *const u8 {
        self.settle.start
    }

    pub(crate) fn load_x87(&self) -> *const u8 {
        self.load_x87.start
    }

    pub(crate) fn load_mxcsr(&self) -> *const u8 {
        self.load_mxcsr.start
    }

    pub(crate) fn store_mxcsr(&self) -> *const u8 {
        self.store_mxcsr.start
    }

    /// Executes the translation at `code`, and those that it leads to; returns why the last one left.
    pub(crate) fn enter(&self, context: &mut JitContext, code: *const u8, calls: *const Call) -> u64 {
        // SAFETY: `enter` is the function that `enter_thunk` makes, in the host's C calling convention.
        let enter: extern "C" fn(*mut JitContext, *const u8, *const Call) -> u64 =
            unsafe { std::mem::transmute(self.enter.start) };
        // Translations read and write `Vcpu` at the offsets of its fields, read the TLB within its SETS entries, access
        // guest RAM only through entries whose tag matches, and call the functions in the context.
        let kind = enter(&raw mut *context, code, calls);
        context.unload_x87();
        context.unload_mxcsr();
        context.settle_flags();
        kind
    }
}

impl Compiler {
    /// A function with the body that `build` makes of its parameters.
    fn thunk(
        &mut self,
        signature: Signature,
        build: impl FnOnce(&mut FunctionBuilder<'_>, &[Value]),
    ) -> Result<Vec<u8>, CompileError> {
        self.context.clear();
        self.context.func.signature = signature;
        let mut builder = FunctionBuilder::new(&mut self.context.func, &mut self.builder);
        let entry = builder.create_block();
        builder.append_block_params_for_function_params(entry);
        builder.switch_to_block(entry);
        let parameters = builder.block_params(entry).to_vec();
        build(&mut builder, &parameters);
        builder.seal_all_blocks();
        builder.finalize(self.isa.frontend_config());
        self.code(1)
    }

    /// From the engine into a translation.
    fn enter_thunk(&mut self) -> Result<Vec<u8>, CompileError> {
        let convention = self.host_convention();
        self.thunk(signature(convention, 3, 1), |builder, parameters| {
            let callee = builder.import_signature(translation_signature());
            let [context, code, calls] = parameters else { unreachable!("three parameters were asked for") };
            let call = builder.ins().call_indirect(callee, *code, &[*context, *calls]);
            let kind = builder.inst_results(call)[0];
            builder.ins().return_(&[kind]);
        })
    }

    /// From one translation, which has stored the state, to the one that goes on at RIP: if the budget is not spent, nobody
    /// wants attention, and the jump cache knows it. If it does not, `look_up` may; else back to the engine.
    fn dispatch_thunk(&mut self) -> Result<Vec<u8>, CompileError> {
        self.thunk(translation_signature(), |builder, parameters| {
            let context = parameters[0];
            let flags = MemFlagsData::trusted();
            let load = |builder: &mut FunctionBuilder<'_>, base: Value, offset: usize| {
                builder.ins().load(I64, flags, base, offset as i32)
            };
            let blocks = [(); 4].map(|()| builder.create_block());
            let [undisturbed, look, check, go] = blocks;
            let back = builder.create_block();
            let unknown = builder.create_block();
            let remaining = load(builder, context, offset_of!(JitContext, remaining));
            let goes_on = builder.ins().icmp_imm_s(IntCC::SignedGreaterThan, remaining, 0);
            builder.ins().brif(goes_on, undisturbed, &[], back, &[]);

            builder.switch_to_block(undisturbed);
            let attention = load(builder, context, offset_of!(JitContext, attention));
            let attention = builder.ins().load(I32, flags, attention, 0);
            builder.ins().brif(attention, back, &[], look, &[]);

            builder.switch_to_block(look);
            let state = load(builder, context, offset_of!(JitContext, state));
            let rip = load(builder, state, register_offset(usize::from(reg::RIP)));
            let jumps = load(builder, context, offset_of!(JitContext, jumps));
            let upper = builder.ins().ushr_imm_u(rip, 63);
            let which = builder.ins().ishl_imm_u(upper, 3);
            let tags = builder.ins().iadd(context, which);
            let tag = load(builder, tags, offset_of!(JitContext, tags));
            let shifted = builder.ins().ushr_imm_u(rip, i64::from(SHIFT));
            let mixed = builder.ins().bxor(rip, shifted);
            let slot = builder.ins().band_imm_u(mixed, ENTRIES as i64 - 1);
            let offset = builder.ins().imul_imm_u(slot, size_of::<JumpEntry>() as i64);
            let entry = builder.ins().iadd(jumps, offset);
            let entry_rip = load(builder, entry, offset_of!(JumpEntry, rip));
            let same = builder.ins().icmp(IntCC::Equal, entry_rip, rip);
            builder.ins().brif(same, check, &[], unknown, &[]);

            builder.switch_to_block(check);
            let entry_tag = load(builder, entry, offset_of!(JumpEntry, tag));
            let same = builder.ins().icmp(IntCC::Equal, entry_tag, tag);
            builder.ins().brif(same, go, &[], unknown, &[]);

            builder.switch_to_block(go);
            let code = load(builder, entry, offset_of!(JumpEntry, code));
            let calls = load(builder, entry, offset_of!(JumpEntry, calls));
            let callee = builder.import_signature(translation_signature());
            builder.ins().return_call_indirect(callee, code, &[context, calls]);

            builder.switch_to_block(unknown);
            let look_up = load(builder, context, offset_of!(JitContext, look_up));
            builder.ins().return_call_indirect(callee, look_up, &[context, context]);

            builder.switch_to_block(back);
            let kind = builder.ins().iconst(I64, LeaveKind::Next as i64);
            builder.ins().return_(&[kind]);
        })
    }

    /// From one translation to the one that `JitContext::look_up_function` finds, or back to the engine.
    fn look_up_thunk(&mut self) -> Result<Vec<u8>, CompileError> {
        let convention = self.host_convention();
        self.thunk(translation_signature(), |builder, parameters| {
            let function = builder.import_signature(signature(convention, 1, 1));
            let context = parameters[0];
            let flags = MemFlagsData::trusted();
            let load = |builder: &mut FunctionBuilder<'_>, offset: usize| {
                builder.ins().load(I64, flags, context, offset as i32)
            };
            let [go, back] = [(); 2].map(|()| builder.create_block());
            let look_up = load(builder, offset_of!(JitContext, look_up_function));
            let call = builder.ins().call_indirect(function, look_up, &[context]);
            let code = builder.inst_results(call)[0];
            builder.ins().brif(code, go, &[], back, &[]);

            builder.switch_to_block(go);
            let calls = load(builder, offset_of!(JitContext, calls));
            let callee = builder.import_signature(translation_signature());
            builder.ins().return_call_indirect(callee, code, &[context, calls]);

            builder.switch_to_block(back);
            let kind = builder.ins().iconst(I64, LeaveKind::Next as i64);
            builder.ins().return_(&[kind]);
        })
    }

    /// A function that calls the one at `offset` of `JitContext` and preserves all registers.
    fn preserving_thunk(&mut self, offset: usize) -> Result<Vec<u8>, CompileError> {
        let convention = self.host_convention();
        self.thunk(preserving_signature(), |builder, parameters| {
            let callee = builder.import_signature(signature(convention, 1, 0));
            let context = parameters[0];
            let function = builder.ins().load(I64, MemFlagsData::trusted(), context, offset as i32);
            builder.ins().call_indirect(callee, function, &[context]);
            builder.ins().return_(&[]);
        })
    }
}
