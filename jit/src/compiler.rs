//! `Compiler`: from a region of guest code to a host function.

use crate::calls::is_floating;
use crate::context::{Call, LeaveKind};
use crate::dead_code;
use crate::region::{Node, Region};
use crate::translator::{Signatures, Translator};
use crate::vector::HostVectors;
use crate::vector::plan::Plan;
use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::types::I64;
use cranelift_codegen::ir::{AbiParam, InstBuilder, MemFlagsData, Signature};
use cranelift_codegen::isa::{CallConv, OwnedTargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use rx86_cpu::cpu::Cpu;
use rx86_cpu::decode::{DecodeFailure, Semantics, decode};
use rx86_cpu::features::CpuModel;
use rx86_cpu::mode::ModeKey;
use std::mem::offset_of;

/// Why there is no code for a region.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// Only 64-bit code without alignment checks is translated.
    #[error("code of mode {0:?} is not translated: only 64-bit code without alignment checks is")]
    Mode(ModeKey),
    /// The first instruction cannot be decoded.
    #[error("the first instruction cannot be decoded: {0:?}")]
    Decode(DecodeFailure),
    /// There is no code generator for this host.
    #[error("no code generator for this host ({0}): use the interpreter")]
    Host(String),
    /// The code generator failed.
    #[error("the code generator failed on a region of {instructions} instructions: {why}")]
    Codegen {
        /// Guest instructions in the region.
        instructions: usize,
        /// What it said.
        why: String,
    },
    /// The host refused executable memory.
    #[error("the host gives no executable memory: {0}; use the interpreter")]
    Map(#[from] std::io::Error),
}

/// The host code of a region, not yet in executable memory. It refers to nothing outside itself.
#[derive(Debug)]
pub(crate) struct Translation {
    pub(crate) code: Vec<u8>,
    pub(crate) calls: Box<[Call]>,
    /// The least and the greatest offset from the entry that the code jumps to unchecked.
    pub(crate) extent: (i64, i64),
    /// Guest instructions that were translated.
    pub(crate) instructions: u32,
}

/// Translates regions. It keeps buffers between them; one for each thread that compiles.
pub struct Compiler {
    isa: OwnedTargetIsa,
    context: Context,
    builder: FunctionBuilderContext,
}

impl Compiler {
    /// A compiler that uses what this host's processor has.
    pub fn for_host() -> Result<Self, CompileError> {
        Self::new(true)
    }

    /// A compiler whose code is the same on every host of this architecture.
    pub fn for_baseline() -> Result<Self, CompileError> {
        Self::new(false)
    }

    fn new(native: bool) -> Result<Self, CompileError> {
        let host = |why: String| CompileError::Host(why);
        let mut flags = settings::builder();
        let verifier = if cfg!(debug_assertions) { "true" } else { "false" };
        for (name, value) in [
            ("opt_level", "speed"),
            ("enable_verifier", verifier),
            ("unwind_info", "false"),
            ("is_pic", "false"),
        ] {
            flags.set(name, value).map_err(|error| host(error.to_string()))?;
        }
        let isa = cranelift_native::builder_with_options(native)
            .map_err(|why| host(why.to_owned()))?
            .finish(settings::Flags::new(flags))
            .map_err(|error| host(error.to_string()))?;
        Ok(Self { isa, context: Context::new(), builder: FunctionBuilderContext::new() })
    }

    fn host_vectors(&self) -> HostVectors {
        let has = |name: &str| {
            self.isa.isa_flags().iter().any(|flag| flag.name == name && flag.as_bool() == Some(true))
        };
        HostVectors { fused: has("has_fma") && has("has_avx") }
    }

    fn host_convention(&self) -> CallConv {
        CallConv::triple_default(self.isa.triple())
    }

    /// The thunk behind `JitContext::slow_access`: calls `JitContext::slow_function` and preserves all registers.
    pub(crate) fn slow_access_thunk(&mut self) -> Result<Vec<u8>, CompileError> {
        let convention = self.host_convention();
        self.context.clear();
        self.context.func.signature = slow_access_signature();
        let mut builder = FunctionBuilder::new(&mut self.context.func, &mut self.builder);
        let mut callee = Signature::new(convention);
        callee.params.push(AbiParam::new(I64));
        let callee = builder.import_signature(callee);
        let entry = builder.create_block();
        builder.append_block_params_for_function_params(entry);
        builder.switch_to_block(entry);
        let context = builder.block_params(entry)[0];
        let offset = offset_of!(crate::context::JitContext, slow_function) as i32;
        let function = builder.ins().load(I64, MemFlagsData::trusted(), context, offset);
        builder.ins().call_indirect(callee, function, &[context]);
        builder.ins().return_(&[]);
        builder.seal_all_blocks();
        builder.finalize(self.isa.frontend_config());
        self.code(1)
    }

    /// Translates a region.
    pub(crate) fn translate(
        &mut self,
        region: &Region,
        mode: ModeKey,
        model: &CpuModel,
    ) -> Result<Translation, CompileError> {
        if !mode.has(ModeKey::LONG64) || mode.has(ModeKey::ALIGNMENT) {
            return Err(CompileError::Mode(mode));
        }
        let order = region.order();
        let convention = self.host_convention();
        self.context.clear();
        let mut signature = Signature::new(convention);
        signature.params.push(AbiParam::new(I64));
        signature.returns.push(AbiParam::new(I64));
        self.context.func.signature = signature;
        let host = self.host_vectors();
        let mut builder = FunctionBuilder::new(&mut self.context.func, &mut self.builder);
        let mut call = Signature::new(convention);
        call.params.extend([AbiParam::new(I64); 3]);
        call.returns.push(AbiParam::new(I64));
        let mut load_mxcsr = Signature::new(convention);
        load_mxcsr.params.push(AbiParam::new(I64));
        load_mxcsr.returns.push(AbiParam::new(I64));
        let signatures = Signatures {
            slow_access: builder.import_signature(slow_access_signature()),
            call: builder.import_signature(call),
            load_mxcsr: builder.import_signature(load_mxcsr),
        };
        let plan = Plan::of(region.nodes.iter().map(|node| &node.bytes[..]));
        let translator = Translator::new(builder, signatures, region.predecessors(), plan, host);
        let mut work = Work { translator, mode, model, calls: Vec::new(), instructions: 0 };
        // A node that its turn finds unreached may be reached from a later one.
        while let Some(&node) = order.iter().find(|&&node| work.translator.is_due(node)) {
            let failure = work.node(node, &region.nodes[node]);
            if node == 0 && work.instructions == 0 {
                // What has been begun is thrown away.
                work.translator.end_node(&Default::default(), |_| 0);
                work.translator.finish().finalize(self.isa.frontend_config());
                return Err(CompileError::Decode(failure.unwrap_or(DecodeFailure::NeedMoreBytes)));
            }
            work.translator.end_node(&region.nodes[node].successors, |other| region.nodes[other].offset);
        }
        let Work { translator, calls, instructions, .. } = work;
        let extent = translator.extent();
        translator.finish().finalize(self.isa.frontend_config());
        dead_code::remove(&mut self.context.func);
        let code = self.code(instructions as usize)?;
        Ok(Translation { code, calls: calls.into(), extent, instructions })
    }

    /// The host code of the function that has been built.
    fn code(&mut self, instructions: usize) -> Result<Vec<u8>, CompileError> {
        let compiled = self
            .context
            .compile(&*self.isa, &mut ControlPlane::default())
            .map_err(|error| CompileError::Codegen { instructions, why: format!("{:?}", error.inner) })?;
        let relocations = compiled.buffer.relocs().len();
        assert_eq!(relocations, 0, "translated code refers to nothing outside itself");
        Ok(compiled.code_buffer().to_vec())
    }
}

fn slow_access_signature() -> Signature {
    let mut signature = Signature::new(CallConv::PreserveAll);
    signature.params.push(AbiParam::new(I64));
    signature
}

/// A translation under way.
struct Work<'a> {
    translator: Translator<'a>,
    mode: ModeKey,
    model: &'a CpuModel,
    calls: Vec<Call>,
    instructions: u32,
}

impl Work<'_> {
    /// Translates a node up to the first instruction that cannot be decoded, and says why.
    fn node(&mut self, number: usize, node: &Node) -> Option<DecodeFailure> {
        self.translator.begin_node(number, node.offset);
        let mut done = 0;
        while done < node.bytes.len() {
            match self.instruction(&node.bytes[done..]) {
                Ok(length) => done += length,
                Err(failure) => {
                    self.translator.stop_before_instruction();
                    return Some(failure);
                }
            }
            self.instructions += 1;
        }
        None
    }

    /// Translates one instruction; returns its length.
    fn instruction(&mut self, bytes: &[u8]) -> Result<usize, DecodeFailure> {
        let decoded = decode::<Translator<'_>>(bytes, self.mode, self.model)?;
        let length = usize::from(decoded.op.length);
        if let Semantics::Inline(meaning) = decoded.semantics
            && self.translator.instruction(&decoded.op, meaning).is_ok()
        {
            return Ok(length);
        }
        let interpreted = decode::<Cpu>(bytes, self.mode, self.model)?;
        let (Semantics::Inline(run) | Semantics::Hard(run)) = interpreted.semantics;
        let floating = is_floating(&bytes[..length], decoded.contained);
        let call = Call { run, op: interpreted.op, floating };
        self.translator.call_function(&call, self.calls.len(), &bytes[..length], decoded.contained);
        self.calls.push(call);
        Ok(length)
    }
}

/// Whether all that a translation jumps to unchecked (`Translation::extent`) is canonical when it begins at RIP.
pub(crate) fn is_extent_canonical(cpu: &Cpu, (least, greatest): (i64, i64)) -> bool {
    let rip = cpu.state.rip();
    [least, greatest].into_iter().all(|offset| cpu.is_canonical(rip.wrapping_add(offset as u64)))
}

/// What the return value of a translation says.
pub(crate) fn leave_kind(code: u64) -> LeaveKind {
    match code {
        0 => LeaveKind::Next,
        2 => LeaveKind::Exception,
        _ => LeaveKind::Interpret,
    }
}
