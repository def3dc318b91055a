//! `CompiledBlock`: a few guest instructions as a host function, for tests and for looking at code.

use crate::code::{CodeArena, DENSE, HostCode};
use crate::compiler::{CompileError, Compiler, Translation, is_extent_canonical, leave_kind};
use crate::context::{Call, JitContext, LeaveKind, place_calls};
use crate::heat::Heat;
use crate::jumps::JumpCache;
use crate::links::Links;
use crate::quick::QuickCompiler;
use crate::region::{Limits, Region};
use crate::thunks::Thunks;
use rx86_cpu::cpu::Cpu;
use rx86_cpu::exception::Exception;
use rx86_cpu::features::CpuModel;
use rx86_cpu::interp::tier::{CodeView, TranslationId};
use rx86_cpu::mode::ModeKey;

/// Who goes on after a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitKind {
    /// Any engine, at the new RIP.
    Next,
    /// The interpreter, for at least the instruction at RIP: it may fault, or there is no code for it.
    Interpret,
    /// The instruction at RIP raised this.
    Exception(Exception),
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
    memory: CodeArena,
    code: HostCode,
    thunks: Thunks,
    /// Empty: what follows the block is the caller's.
    jumps: JumpCache,
    links: Links,
    calls: Box<[Call]>,
    mode: ModeKey,
    instructions: u32,
    extent: (i64, i64),
}

impl Compiler {
    /// Translates the instructions of `bytes` up to the first without translation.
    pub fn translate_block(
        &mut self,
        bytes: &[u8],
        mode: ModeKey,
        model: &CpuModel,
    ) -> Result<CompiledBlock, CompileError> {
        self.compiled(&Region::of_bytes(bytes), mode, model)
    }

    /// Translates the region that begins at `entry`, as the engine would if all its blocks were hot. None if there is no code.
    pub fn translate_region(
        &mut self,
        entry: u64,
        code: &mut dyn CodeView,
        mode: ModeKey,
        model: &CpuModel,
    ) -> Option<Result<CompiledBlock, CompileError>> {
        Some(self.compiled(&Region::grow(entry, code, Limits::FULL)?, mode, model))
    }

    fn compiled(
        &mut self,
        region: &Region,
        mode: ModeKey,
        model: &CpuModel,
    ) -> Result<CompiledBlock, CompileError> {
        let translation = self.translate(region, mode, model)?;
        let thunks = Thunks::new(self)?;
        let links = Links::of(&thunks);
        enterable(translation, mode, thunks, links)
    }

    /// As `translate_block`, by the quick tier; None if this host has none.
    pub fn translate_block_quickly(
        &mut self,
        bytes: &[u8],
        mode: ModeKey,
        model: &CpuModel,
    ) -> Option<Result<CompiledBlock, CompileError>> {
        let mut quick = QuickCompiler::for_host()?;
        let mut compiled = || {
            let thunks = Thunks::new(self)?;
            let mut links = Links::of(&thunks);
            let translation = quick.translate(&Region::of_bytes(bytes), &[0], mode, model, &mut links)?;
            enterable(translation, mode, thunks, links)
        };
        Some(compiled())
    }
}

fn enterable(
    mut translation: Translation,
    mode: ModeKey,
    thunks: Thunks,
    mut links: Links,
) -> Result<CompiledBlock, CompileError> {
    let mut memory = CodeArena::new(0, DENSE)?;
    let code = memory.add(&translation.code)?.ok_or(std::io::Error::from(std::io::ErrorKind::OutOfMemory))?;
    place_calls(&mut translation.calls, code.start);
    links.open(&translation.slots, TranslationId::MIN, &translation.calls);
    Ok(CompiledBlock {
        memory,
        code,
        thunks,
        jumps: JumpCache::new(),
        links,
        calls: translation.calls,
        mode,
        instructions: translation.instructions,
        extent: translation.extent,
    })
}

impl CompiledBlock {
    /// Executes the block; RIP must be that of its first instruction and the mode the one it was translated for.
    ///
    /// What happens between instructions is the caller's: while a trap flag, a breakpoint or an interrupt shadow must be
    /// looked at, it does not run blocks. `Cpu::stats` does not count the instructions.
    pub fn run(&self, cpu: &mut Cpu) -> BlockExit {
        assert_eq!(cpu.mode(), self.mode, "a block runs in the mode it was translated for");
        const BUDGET: u64 = 1 << 20;
        if !is_extent_canonical(cpu, self.extent) {
            return BlockExit { retired: 0, kind: ExitKind::Interpret };
        }
        cpu.block_limit = usize::MAX;
        // The one of a quick block.
        let mut heat = Heat::new(u32::MAX);
        heat.number(0, self.mode);
        let heats = heat.as_mut_ptr();
        let mut context = JitContext::new(cpu, &self.thunks, self.jumps.as_ptr(), heats, BUDGET, false);
        context.links = self.links.as_ptr();
        let kind = match leave_kind(self.thunks.enter(&mut context, self.code.start, self.calls.as_ptr())) {
            LeaveKind::Next | LeaveKind::Engine | LeaveKind::Hot => ExitKind::Next,
            LeaveKind::Interpret => ExitKind::Interpret,
            LeaveKind::Exception => context.take_exception().map_or(ExitKind::Interpret, ExitKind::Exception),
        };
        BlockExit { retired: (BUDGET as i64 - context.remaining) as u32, kind }
    }

    /// Guest instructions in the block.
    pub fn instructions(&self) -> u32 {
        self.instructions
    }

    /// The host instructions, and constants behind them.
    pub fn host_code(&self) -> &[u8] {
        self.memory.bytes(&self.code)
    }
}
