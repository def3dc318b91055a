//! What translated code is given, and the functions that it calls.

#![expect(
    unsafe_code,
    reason = "turns the pointers that translated code is given back into what they point to"
)]

use crate::mxcsr;
use rx86_cpu::cpu::Cpu;
use rx86_cpu::exception::Exception;
use rx86_cpu::op::{Op, reg};
use rx86_cpu::ops::Hard;
use rx86_cpu::state::Vcpu;
use rx86_softmmu::{Access, Mmu, TlbEntry};

/// Why translated code returned: its return value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum LeaveKind {
    /// Any engine goes on at RIP.
    Next = 0,
    /// The interpreter executes the instruction at RIP.
    Interpret = 1,
    /// A called function raised `JitContext::exception`; RIP is that of its instruction.
    Exception = 2,
}

/// A function that translated code calls for one instruction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) run: Hard,
    pub(crate) op: Op,
    /// It may look at MXCSR, or compute in floating point.
    pub(crate) floating: bool,
}

/// What translated code is given.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct JitContext {
    /// The processor's state.
    pub(crate) state: *mut Vcpu,
    /// The `tlb::SETS` entries in use.
    pub(crate) tlb: *const TlbEntry,
    /// Calls `slow_access` with all registers preserved.
    pub(crate) slow_access: *const u8,
    /// `call`.
    pub(crate) call: extern "C" fn(*mut JitContext, u64, u64) -> u64,
    /// What the thunk at `slow_access` calls.
    pub(crate) slow_function: extern "C" fn(*mut JitContext),
    /// Instructions that may still be executed; translated code counts it down and may go below zero.
    pub(crate) remaining: i64,
    /// Arguments of `slow_access`: the linear address; the size in bytes, plus 256 for a write.
    pub(crate) linear: u64,
    pub(crate) access: u64,
    /// Its result: the host address, or zero.
    pub(crate) host: u64,
    /// One while the host's MXCSR is the guest's.
    pub(crate) mxcsr_loaded: u64,
    /// Makes it so.
    pub(crate) load_mxcsr: extern "C" fn(*mut JitContext) -> u64,
    /// A signalling NaN.
    pub(crate) signalling_nan: u64,
    /// Where results go that are computed only for their flags.
    pub(crate) scratch: [u64; 2],
    host_mxcsr: u32,
    cpu: *mut Cpu,
    calls: *const Call,
    call_count: usize,
    exception: Option<Exception>,
}

/// `call`'s answer: the instruction is done.
const DONE: u64 = 0;
/// It raised an exception.
pub(crate) const RAISED: u64 = 1;
/// It is done, or has come as far as it could, and wants the block to end; RIP is right.
const ENDED: u64 = 2;

impl JitContext {
    /// The context for executing on `cpu` a translation that makes `calls`. It must not outlive either.
    pub(crate) fn new(cpu: &mut Cpu, calls: &[Call], slow_access: *const u8, budget: u64) -> Self {
        let cpu: *mut Cpu = cpu;
        // SAFETY: `cpu` is valid, and at TLB_OFFSET its MMU holds the pointer to the entries in use.
        let (state, tlb) = unsafe {
            let mmu = &raw const (*cpu).mmu;
            (&raw mut (*cpu).state, mmu.byte_add(Mmu::TLB_OFFSET).cast::<*const TlbEntry>().read())
        };
        Self {
            state,
            tlb,
            slow_access,
            call,
            slow_function: slow_access_function,
            remaining: i64::try_from(budget).unwrap_or(i64::MAX),
            linear: 0,
            access: 0,
            host: 0,
            mxcsr_loaded: 0,
            load_mxcsr,
            signalling_nan: 0x7ff0_0000_0000_0001,
            scratch: [0; 2],
            host_mxcsr: 0,
            cpu,
            calls: calls.as_ptr(),
            call_count: calls.len(),
            exception: None,
        }
    }

    /// The exception that a function raised.
    pub(crate) fn take_exception(&mut self) -> Option<Exception> {
        self.exception.take()
    }

    /// Gives the host its MXCSR back, if translated code has loaded the guest's; tells whether it had.
    pub(crate) fn unload_mxcsr(&mut self) -> bool {
        if self.mxcsr_loaded == 0 {
            return false;
        }
        self.mxcsr_loaded = 0;
        let guest = mxcsr::exchange(self.host_mxcsr);
        // SAFETY: `cpu` is valid, and nobody else uses it meanwhile.
        unsafe { (*self.cpu).state.mxcsr = guest };
        true
    }
}

/// Loads the guest's MXCSR; zero if that must not be, because an exception is not masked.
extern "C" fn load_mxcsr(context: *mut JitContext) -> u64 {
    // SAFETY: as in `slow_access_function`.
    let (context, guest) = unsafe { (&mut *context, (*(*context).cpu).state.mxcsr) };
    if !mxcsr::is_masked(guest) {
        return 0;
    }
    context.host_mxcsr = mxcsr::exchange(guest);
    context.mxcsr_loaded = 1;
    1
}

/// Finds the host address of an access that the TLB did not know. Zero if the interpreter has to make it: it faults,
/// crosses a page, or is not plain RAM.
extern "C" fn slow_access_function(context: *mut JitContext) {
    // SAFETY: translated code passes on the context that it was given, whose `cpu` nobody else uses meanwhile.
    let (context, cpu) = unsafe { (&mut *context, &mut *(*context).cpu) };
    let (linear, bytes) = (context.linear, context.access & 0xff);
    let write = context.access & 0x100 != 0;
    context.host = 0;
    if (linear & 0xfff) + bytes > 0x1000 || !cpu.is_canonical(linear) {
        return;
    }
    cpu.stats.slow_accesses += 1;
    let access = if write { Access::Write } else { Access::Read };
    if cpu.mmu.translate(linear, access).is_err() {
        return;
    }
    let host = if write {
        cpu.mmu.host_for_write(linear, bytes).map(<*mut u8>::cast_const)
    } else {
        cpu.mmu.host_for_read(linear, bytes)
    };
    context.host = host.map_or(0, |host| host.expose_provenance() as u64);
}

/// Executes call number `index` of the translation; `next` is RIP behind the instruction.
extern "C" fn call(context: *mut JitContext, index: u64, next: u64) -> u64 {
    // SAFETY: as in `slow_access_function`; `calls` is the translation's, which outlives its execution.
    let (context, cpu, calls) = unsafe {
        let calls = std::slice::from_raw_parts((*context).calls, (*context).call_count);
        (&mut *context, &mut *(*context).cpu, calls)
    };
    let Some(Call { run, op, floating }) = calls.get(index as usize) else { return RAISED };
    let unloaded = *floating && context.unload_mxcsr();
    let mxcsr = cpu.state.mxcsr;
    let entry = cpu.state.rip();
    cpu.state.set_rip(next);
    if let Err(exception) = run(cpu, op) {
        let start = cpu.state.rip().wrapping_sub(u64::from(op.length));
        cpu.state.set_rip(start);
        context.exception = Some(exception);
        return RAISED;
    }
    if cpu.block_limit == 0 || cpu.state.regs[usize::from(reg::RIP)] != next {
        return ENDED;
    }
    if unloaded && (!mxcsr::only_adds_flags(mxcsr, cpu.state.mxcsr) || load_mxcsr(context) == 0) {
        return ENDED;
    }
    cpu.state.set_rip(entry);
    DONE
}
