//! `Compiler`: from a region of guest code to a host function.

use crate::calls::is_floating;
use crate::context::{Call, LeaveKind};
use crate::dead_code;
use crate::divide::take_remainders;
use crate::dump::DumpedRegions;
use crate::groups::{Groups, Reach};
use crate::links::Slots;
use crate::order::MemoryOrder;
use crate::region::{Node, Region};
use crate::rewritten::ReadAnew;
use crate::steady::steady_sites;
use crate::symbols::Accesses;
use crate::system::system_instruction;
use crate::thunks::{preserving_signature, signature, translation_signature};
use crate::translator::{MemoryPlan, Signatures, Translator};
use crate::vector::HostVectors;
use crate::vector::plan::Plan;
use crate::window::StackWindow;
use crate::x87::run::Run;
use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::isa::{self, CallConv, OwnedTargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use rx86_cpu::cpu::Cpu;
use rx86_cpu::decode::{DecodeFailure, Semantics, decode};
use rx86_cpu::features::CpuModel;
use rx86_cpu::mode::ModeKey;

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
    /// What was to be written of the JIT's work cannot be.
    #[error("cannot write '{}': {_1}", _0.display())]
    Watch(std::path::PathBuf, std::io::Error),
}

/// The host code of a region, not yet in executable memory. It refers to nothing outside itself.
#[derive(Clone, Debug)]
pub(crate) struct Translation {
    pub(crate) code: Vec<u8>,
    pub(crate) calls: Box<[Call]>,
    /// It has a stack window.
    pub(crate) windowed: bool,
    /// Physical addresses of the instructions whose looks into the TLB are for others, too.
    pub(crate) shared_looks: Vec<u64>,
    /// The least and the greatest offset from the entry that the code jumps to unchecked.
    pub(crate) extent: (i64, i64),
    /// Guest instructions that were translated.
    pub(crate) instructions: u32,
    /// Constants in its code that it reads anew at each execution.
    pub(crate) read_anew: Vec<ReadAnew>,
    /// The function in Cranelift's language, optimized, if it was asked for.
    pub(crate) clif: Option<String>,
    /// The slots that its code uses.
    pub(crate) slots: Slots,
}

/// Translates regions. It keeps buffers between them; one for each thread that compiles.
pub struct Compiler {
    pub(crate) isa: OwnedTargetIsa,
    pub(crate) context: Context,
    pub(crate) builder: FunctionBuilderContext,
    keep_clif: Option<DumpedRegions>,
    order: MemoryOrder,
}

impl Compiler {
    /// A compiler that uses what this host's processor has.
    pub fn for_host() -> Result<Self, CompileError> {
        Self::new(isa_of_host(true)?)
    }

    /// A compiler whose code is the same on every host of this architecture, to be looked at rather than run: on x86-64 for
    /// a processor of level x86-64-v3.
    pub fn for_comparison() -> Result<Self, CompileError> {
        let mut isa = isa_of_host(false)?;
        if cfg!(target_arch = "x86_64") {
            isa.enable("x86-64-v3").map_err(|error| CompileError::Host(error.to_string()))?;
        }
        Self::new(isa)
    }

    fn new(isa: isa::Builder) -> Result<Self, CompileError> {
        let host = |why: String| CompileError::Host(why);
        let mut flags = settings::builder();
        let verifier = if cfg!(debug_assertions) { "true" } else { "false" };
        for (name, value) in [
            ("opt_level", "speed"),
            ("enable_verifier", verifier),
            ("unwind_info", "false"),
            ("is_pic", "false"),
            // The tail calling convention wants them.
            ("preserve_frame_pointers", "true"),
        ] {
            flags.set(name, value).map_err(|error| host(error.to_string()))?;
        }
        let isa = isa.finish(settings::Flags::new(flags)).map_err(|error| host(error.to_string()))?;
        Ok(Self {
            isa,
            context: Context::new(),
            builder: FunctionBuilderContext::new(),
            keep_clif: None,
            order: MemoryOrder::Free,
        })
    }

    fn host_vectors(&self) -> HostVectors {
        let has = |name: &str| {
            self.isa.isa_flags().iter().any(|flag| flag.name == name && flag.as_bool() == Some(true))
        };
        HostVectors { fused: has("has_fma") && has("has_avx") }
    }

    /// Makes translations of these regions carry their CLIF.
    pub(crate) fn keep_clif(&mut self, of: Option<DumpedRegions>) {
        self.keep_clif = of;
    }

    /// Makes translations fit for vCPUs that run at the same time.
    pub(crate) fn keep_order(&mut self) {
        self.order = MemoryOrder::PARALLEL;
    }

    /// What the engine's functions are called with.
    pub(crate) fn host_convention(&self) -> CallConv {
        CallConv::triple_default(self.isa.triple())
    }

    /// Translates a region.
    pub(crate) fn translate(
        &mut self,
        region: &Region,
        mode: ModeKey,
        model: &CpuModel,
    ) -> Result<Translation, CompileError> {
        let accesses = Accesses::of(region);
        let reach = match region.grouped {
            false => Reach::Alone,
            true if accesses.may_change_mapping => Reach::Node,
            true => Reach::Region,
        };
        let window = if region.windowed { StackWindow::of(&accesses) } else { None };
        let groups = Groups::of(region, accesses.clone(), window.as_ref(), reach);
        let trusting = MemoryPlan { window, sites: steady_sites(region), groups };
        if let Some(translation) = self.translate_with(region, mode, model, trusting)? {
            return Ok(translation);
        }
        let groups = Groups::of(region, accesses, None, reach.min(Reach::Node));
        let careful = MemoryPlan { window: None, sites: Vec::new(), groups };
        let translation = self.translate_with(region, mode, model, careful)?;
        Ok(translation.expect("nothing in it rests on a mapping that may change"))
    }

    /// Translates a region. None if something in it may change the mapping, which what was planned rests on.
    fn translate_with(
        &mut self,
        region: &Region,
        mode: ModeKey,
        model: &CpuModel,
        plan: MemoryPlan,
    ) -> Result<Option<Translation>, CompileError> {
        check_mode(mode)?;
        let convention = self.host_convention();
        self.context.clear();
        self.context.func.signature = translation_signature();
        let host = self.host_vectors();
        let mut builder = FunctionBuilder::new(&mut self.context.func, &mut self.builder);
        let signatures = Signatures::import(&mut builder, convention);
        let vectors = Plan::of(region.nodes.iter().map(|node| &node.bytes[..]));
        let (predecessors, memory) = (region.predecessors(), self.order);
        let mut translator = Translator::new(builder, signatures, predecessors, vectors, host, memory);
        let windowed = plan.window.is_some();
        translator.begin(plan);
        let (calls, runs) = (Vec::new(), Vec::new());
        let mut work = Work { translator, mode, model, calls, runs, instructions: 0 };
        let outcome = work.nodes(region);
        let Work { mut translator, mut calls, runs, instructions, .. } = work;
        let divisions = std::mem::take(&mut translator.divisions);
        let extent = translator.extent();
        let is_lost = translator.trusts_too_much();
        let gpa_of = |(node, at): (usize, i64)| {
            let Node { gpa, offset, .. } = region.nodes[node];
            gpa.wrapping_add(at.wrapping_sub(offset) as u64)
        };
        let shared_looks = translator.lookups.shared.iter().map(|&look| gpa_of(look)).collect();
        translator.finish().finalize(self.isa.frontend_config());
        outcome.map_err(CompileError::Decode)?;
        if is_lost {
            return Ok(None);
        }
        dead_code::remove(&mut self.context.func);
        take_remainders(&mut self.context.func, &divisions);
        let mut code = self.code(instructions as usize)?;
        append_runs(&mut code, &runs, &mut calls);
        let is_kept = self.keep_clif.is_some_and(|regions| regions.contains(region));
        let clif = is_kept.then(|| self.context.func.display().to_string());
        Ok(Some(Translation {
            read_anew: Vec::new(),
            code,
            calls: calls.into(),
            windowed,
            shared_looks,
            extent,
            instructions,
            clif,
            slots: Slots::default(),
        }))
    }

    /// The host code of the function that has been built.
    pub(crate) fn code(&mut self, instructions: usize) -> Result<Vec<u8>, CompileError> {
        let compiled = self
            .context
            .compile(&*self.isa, &mut ControlPlane::default())
            .map_err(|error| CompileError::Codegen { instructions, why: format!("{:?}", error.inner) })?;
        let relocations = compiled.buffer.relocs().len();
        assert_eq!(relocations, 0, "translated code refers to nothing outside itself");
        Ok(compiled.code_buffer().to_vec())
    }
}

/// Translated is only 64-bit code without alignment checks.
pub(crate) fn check_mode(mode: ModeKey) -> Result<(), CompileError> {
    let known = mode.has(ModeKey::LONG64) && !mode.has(ModeKey::ALIGNMENT);
    if known { Ok(()) } else { Err(CompileError::Mode(mode)) }
}

impl Signatures {
    fn import(builder: &mut FunctionBuilder<'_>, convention: CallConv) -> Self {
        Self {
            preserving: builder.import_signature(preserving_signature()),
            call: builder.import_signature(signature(convention, 3, 1)),
            dispatch: builder.import_signature(translation_signature()),
        }
    }
}

/// Puts the host code of runs behind the translation's own, where their calls find it.
fn append_runs(code: &mut Vec<u8>, runs: &[(usize, Run)], calls: &mut [Call]) {
    for (call, run) in runs {
        code.resize(code.len().next_multiple_of(16), 0);
        calls[*call].host = code.len() as u64;
        code.extend(run.host_code());
    }
}

/// A code generator for this architecture, with the features of this processor or the least that there is.
fn isa_of_host(native: bool) -> Result<isa::Builder, CompileError> {
    cranelift_native::builder_with_options(native).map_err(|why| CompileError::Host(why.to_owned()))
}

/// A translation under way.
struct Work<'a> {
    translator: Translator<'a>,
    mode: ModeKey,
    model: &'a CpuModel,
    calls: Vec<Call>,
    /// The runs of x87 instructions, each with the number of its call.
    runs: Vec<(usize, Run)>,
    instructions: u32,
}

impl Work<'_> {
    /// Translates a region's nodes. If already the first instruction cannot be decoded, says why.
    fn nodes(&mut self, region: &Region) -> Result<(), DecodeFailure> {
        let order = region.order();
        let offset_of_node = |node: usize| region.nodes[node].offset;
        // A node that its turn finds unreached may be reached from a later one.
        while let Some(&node) = order.iter().find(|&&node| self.translator.is_due(node)) {
            let Node { successors, likely, targets, .. } = &region.nodes[node];
            if !targets.is_empty() {
                self.translator.hub(node, targets, offset_of_node);
                continue;
            }
            let failure = self.node(node, &region.nodes[node]);
            if node == 0 && self.instructions == 0 {
                // What has been begun is thrown away.
                self.translator.end_node(&Default::default(), &[], |_| 0);
                return Err(failure.unwrap_or(DecodeFailure::NeedMoreBytes));
            }
            self.translator.end_node(successors, likely, offset_of_node);
        }
        Ok(())
    }

    /// Translates a node up to the first instruction that cannot be decoded, and says why.
    fn node(&mut self, number: usize, node: &Node) -> Option<DecodeFailure> {
        self.translator.begin_node(number, node.offset);
        let mut done = 0;
        while done < node.bytes.len() {
            if let Some((length, count)) = self.x87_run(&node.bytes[done..]) {
                done += length;
                self.instructions += count;
                continue;
            }
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

    /// Translates the run of x87 instructions that comes next, if there is one; returns its length and how many they are.
    fn x87_run(&mut self, bytes: &[u8]) -> Option<(usize, u32)> {
        if self.translator.in_sti_shadow {
            return None;
        }
        let run = Run::begin(bytes, self.mode, self.model)?;
        let interpreted = decode::<Cpu>(bytes, self.mode, self.model).ok()?;
        let (Semantics::Inline(first) | Semantics::Hard(first)) = interpreted.semantics;
        let index = self.calls.len();
        self.calls.push(Call { run: first, op: interpreted.op, floating: true, host: 0 });
        self.translator.x87_run(&run, index);
        let done = (run.bytes(), run.instructions() as u32);
        self.runs.push((index, run));
        Some(done)
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
        if self.translator.division(&decoded.op) || self.translator.stmxcsr(&decoded.op) {
            return Ok(length);
        }
        if system_instruction(&mut self.translator, &decoded.op, self.mode, &bytes[length..]) {
            return Ok(length);
        }
        let interpreted = decode::<Cpu>(bytes, self.mode, self.model)?;
        let (Semantics::Inline(run) | Semantics::Hard(run)) = interpreted.semantics;
        let floating = is_floating(&bytes[..length], decoded.contained);
        let call = Call { run, op: interpreted.op, floating, host: 0 };
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
        3 => LeaveKind::Engine,
        4 => LeaveKind::Hot,
        _ => LeaveKind::Interpret,
    }
}
