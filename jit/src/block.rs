//! `Compiler` and `CompiledBlock`: from guest bytes to a host function.

use crate::code::HostCode;
use crate::dead_code;
use crate::translator::Translator;
use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::types::I64;
use cranelift_codegen::ir::{AbiParam, Signature};
use cranelift_codegen::isa::{CallConv, OwnedTargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use rx86_cpu::cpu::Cpu;
use rx86_cpu::decode::{DecodeFailure, Semantics, decode};
use rx86_cpu::features::CpuModel;
use rx86_cpu::mode::ModeKey;

/// The longest block; bounds how long an interrupt waits.
const MAX_BLOCK_INSTRUCTIONS: u32 = 64;

/// Why there is no code for a block.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// Only 64-bit code without alignment checks is translated.
    #[error("code of mode {0:?} is not translated: only 64-bit code without alignment checks is")]
    Mode(ModeKey),
    /// The first instruction is one that only the interpreter executes.
    #[error("the first instruction is not translated: the interpreter executes it")]
    Interpret,
    /// The first instruction cannot be decoded.
    #[error("the first instruction cannot be decoded: {0:?}")]
    Decode(DecodeFailure),
    /// There is no code generator for this host.
    #[error("no code generator for this host ({0}): use the interpreter")]
    Host(String),
    /// The code generator failed.
    #[error("the code generator failed on a block of {instructions} instructions: {why}")]
    Codegen {
        /// Guest instructions in the block.
        instructions: u32,
        /// What it said.
        why: String,
    },
    /// The host refused executable memory.
    #[error("the host gives no executable memory: {0}; use the interpreter")]
    Map(#[from] std::io::Error),
}

/// Who goes on after a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitKind {
    /// Any engine, at the new RIP.
    Next,
    /// The interpreter, for at least the instruction at RIP: it may fault, or there is no code for it.
    Interpret,
}

impl ExitKind {
    /// What the host function returns.
    pub(crate) fn code(self, retired: u32) -> u64 {
        u64::from(retired) << 1 | u64::from(self == Self::Interpret)
    }
}

/// How a block was left. The `Cpu` holds the whole state then, RIP included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockExit {
    /// Instructions that were executed to their end.
    pub retired: u32,
    /// Who goes on.
    pub kind: ExitKind,
}

/// A block of guest instructions as a host function. It may run at any linear address.
#[derive(Debug)]
pub struct CompiledBlock {
    code: HostCode,
    mode: ModeKey,
    instructions: u32,
    length_bytes: u64,
}

impl CompiledBlock {
    /// Executes the block; RIP must be that of its first instruction and the mode the one it was translated for.
    ///
    /// What happens between instructions is the caller's: while a trap flag, a breakpoint or an interrupt shadow must be
    /// looked at, it does not run blocks. Counters in `Cpu::stats` are not touched.
    pub fn run(&self, cpu: &mut Cpu) -> BlockExit {
        assert_eq!(cpu.mode(), self.mode, "a block runs in the mode it was translated for");
        let code = self.code.enter(cpu);
        let kind = if code & 1 != 0 { ExitKind::Interpret } else { ExitKind::Next };
        BlockExit { retired: (code >> 1) as u32, kind }
    }

    /// Guest instructions in the block.
    pub fn instructions(&self) -> u32 {
        self.instructions
    }

    /// Bytes of guest code that were translated.
    pub fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    /// The host instructions, and constants behind them.
    pub fn host_code(&self) -> &[u8] {
        self.code.bytes()
    }
}

/// Translates blocks. It keeps buffers between them; one for each thread that compiles.
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

    /// Translates the instructions at the start of `bytes` to the first that may continue elsewhere, the first without
    /// translation, or the end of `bytes` (which must not go beyond the page).
    pub fn translate_block(
        &mut self,
        bytes: &[u8],
        mode: ModeKey,
        model: &CpuModel,
    ) -> Result<CompiledBlock, CompileError> {
        if !mode.has(ModeKey::LONG64) || mode.has(ModeKey::ALIGNMENT) {
            return Err(CompileError::Mode(mode));
        }
        self.context.clear();
        let mut signature = Signature::new(CallConv::triple_default(self.isa.triple()));
        signature.params.push(AbiParam::new(I64));
        signature.returns.push(AbiParam::new(I64));
        self.context.func.signature = signature;
        let builder = FunctionBuilder::new(&mut self.context.func, &mut self.builder);
        let mut translator = Translator::new(builder);
        let end = translate_instructions(&mut translator, bytes, mode, model);
        let (instructions, length_bytes) = (translator.retired(), translator.length());
        let kind = if matches!(end, BlockEnd::Untranslated) { ExitKind::Interpret } else { ExitKind::Next };
        translator.finish(kind).finalize(self.isa.frontend_config());
        if instructions == 0 {
            return Err(match end {
                BlockEnd::Undecoded(failure) => CompileError::Decode(failure),
                _ => CompileError::Interpret,
            });
        }
        dead_code::remove(&mut self.context.func);
        let compiled = self
            .context
            .compile(&*self.isa, &mut ControlPlane::default())
            .map_err(|error| CompileError::Codegen { instructions, why: format!("{:?}", error.inner) })?;
        let relocations = compiled.buffer.relocs().len();
        assert_eq!(relocations, 0, "translated code refers to nothing outside itself");
        let code = HostCode::new(compiled.code_buffer())?;
        Ok(CompiledBlock { code, mode, instructions, length_bytes })
    }
}

/// Why a block ends where it does.
enum BlockEnd {
    /// Its last instruction may continue elsewhere, or it is long enough.
    Complete,
    /// The next instruction has no translation.
    Untranslated,
    /// The next instruction cannot be decoded from the bytes there are.
    Undecoded(DecodeFailure),
}

fn translate_instructions(
    translator: &mut Translator<'_>,
    bytes: &[u8],
    mode: ModeKey,
    model: &CpuModel,
) -> BlockEnd {
    while translator.retired() < MAX_BLOCK_INSTRUCTIONS {
        let rest = &bytes[translator.length() as usize..];
        let decoded = match decode::<Translator<'_>>(rest, mode, model) {
            Ok(decoded) => decoded,
            Err(failure) => return BlockEnd::Undecoded(failure),
        };
        let Semantics::Inline(meaning) = decoded.semantics else { return BlockEnd::Untranslated };
        if translator.instruction(&decoded.op, meaning).is_err() {
            return BlockEnd::Untranslated;
        }
        if decoded.ends_block {
            break;
        }
    }
    BlockEnd::Complete
}
