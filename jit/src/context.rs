//! What translated code is given, and the functions that it calls.

#![expect(
    unsafe_code,
    reason = "turns the pointers that translated code is given back into what they point to"
)]

use crate::access::{Kind, Request};
use crate::exits::Refusal;
use crate::installed::Directory;
use crate::jumps::{JumpEntry, NO_TAG};
use crate::links::SlotNumber;
use crate::mxcsr;
use crate::shape::{Shape, settle};
use crate::thunks::Thunks;
use crate::x87::host as x87;
use rx86_cpu::cpu::Cpu;
use rx86_cpu::exception::Exception;
use rx86_cpu::op::{Op, reg};
use rx86_cpu::ops::Hard;
use rx86_cpu::state::Vcpu;
use rx86_softmmu::{Access, Mmu, Target, TlbEntry};

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
    /// As `Next`, but the engine has to look at what has happened before.
    Engine = 3,
    /// As `Next`; the counter `JitContext::hot` has run down.
    Hot = 4,
}

/// A function that translated code calls for one instruction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) run: Hard,
    pub(crate) op: Op,
    /// It may look at MXCSR or the x87, or compute in floating point.
    pub(crate) floating: bool,
    /// Where there is host code that is called instead: its offset in the translation, and once that is in the arena its
    /// address. Else zero.
    pub(crate) host: u64,
}

/// Makes the offsets of host code addresses.
pub(crate) fn place_calls(calls: &mut [Call], code: *const u8) {
    for call in calls.iter_mut().filter(|call| call.host != 0) {
        call.host += code.expose_provenance() as u64;
    }
}

/// What translated code is given.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct JitContext {
    /// The counters of `Heat`. The first field: `Translator::load_cold` needs an offset of the others.
    pub(crate) heats: *mut i32,
    /// The `tlb::SETS` entries in use.
    pub(crate) tlb: *const TlbEntry,
    /// The processor's state.
    pub(crate) state: *mut Vcpu,
    /// Calls `slow_function` with all registers preserved.
    pub(crate) slow_access: *const u8,
    /// Calls `load_mxcsr_function` with all registers preserved.
    pub(crate) load_mxcsr: *const u8,
    /// Sets `mxcsr` to the host's, with all registers preserved.
    pub(crate) store_mxcsr: *const u8,
    /// `call`.
    pub(crate) call: extern "C" fn(*mut JitContext, *const Call, u64) -> u64,
    /// Goes on at RIP in another translation, or returns.
    pub(crate) dispatch: *const u8,
    /// The same from a quick translation with its registers, and RIP in one of them.
    pub(crate) quick_dispatch: *const u8,
    /// The processor's `Attention` flags.
    pub(crate) attention: *const u32,
    /// The jump cache.
    pub(crate) jumps: *const JumpEntry,
    /// The mapping and mode, as the jump cache's entries have them, of the lower and of the upper half of the address space;
    /// `NO_TAG` if the engine has to look first.
    pub(crate) tags: [u64; 2],
    /// The encoded `Shape` of the flags that translated code has left behind, and `left` unless they are two values.
    /// What is `result` and `right` is in `Vcpu`. It is `Shape::VALUES` wherever anybody else looks.
    pub(crate) flags_shape: u64,
    pub(crate) flags_left: u64,
    /// Instructions that may still be executed; translated code counts it down and may go below zero.
    pub(crate) remaining: i64,
    /// What the thunk at `slow_access` calls.
    pub(crate) slow_function: extern "C" fn(*mut JitContext),
    /// Makes the host's x87 the guest's, unless an exception is not masked.
    pub(crate) load_x87_function: extern "C" fn(*mut JitContext),
    /// Calls `load_x87_function` with all registers preserved.
    pub(crate) load_x87: *const u8,
    /// What the thunk at `settle` calls.
    pub(crate) settle_function: extern "C" fn(*mut JitContext),
    /// Calls `settle_function` with all registers preserved.
    pub(crate) settle: *const u8,
    /// Arguments of `slow_access`: the linear address; a `Request`.
    pub(crate) linear: u64,
    pub(crate) access: u64,
    /// Its result: the host address, or zero.
    pub(crate) host: u64,
    /// The `Call`s of what `look_up_function` has found.
    pub(crate) calls: *const Call,
    /// The counter that has run down.
    pub(crate) hot: u64,
    /// One while the host's MXCSR is the guest's.
    pub(crate) mxcsr_loaded: u64,
    /// Makes it so, unless an exception is not masked: the same one as a result.
    pub(crate) load_mxcsr_function: extern "C" fn(*mut JitContext) -> u64,
    /// What `store_mxcsr` has stored, in the low half.
    pub(crate) mxcsr: u64,
    /// One while the host's x87 is the guest's.
    pub(crate) x87_loaded: u64,
    /// What FLDCW loads.
    pub(crate) control_word: u64,
    /// A signalling NaN.
    pub(crate) signalling_nan: u64,
    /// Where results go that are computed only for their flags.
    pub(crate) scratch: [u64; 2],
    /// What `dispatch` goes on through when the jump cache does not know RIP.
    pub(crate) look_up: *const u8,
    /// What the thunk at `look_up` calls: the host code that goes on at RIP, or zero. Its `Call`s are at `calls`.
    pub(crate) look_up_function: extern "C" fn(*mut JitContext) -> u64,
    /// The slots of `Links`.
    pub(crate) links: *const u64,
    /// Where the way out leads whose slot this is: the host address to go on at, with the registers of a quick translation, or
    /// zero.
    pub(crate) link_function: extern "C" fn(*mut JitContext, *const u64) -> u64,
    host_mxcsr: u32,
    cpu: *mut Cpu,
    /// Where translations are looked up; may be null.
    directory: *mut Directory,
    /// An instruction that changes the mode need not lead back to the engine.
    chains: bool,
    exception: Option<Exception>,
    /// Accesses of a group were left to the interpreter, which may not need it for one of them alone.
    pub(crate) group_missed: bool,
    /// What was read across a page's end.
    gathered: [u8; 32],
    /// Why the last access that came to `slow_access` was refused, if it was.
    pub(crate) refusal: Option<Refusal>,
}

/// `call`'s answer: the instruction is done.
const DONE: u64 = 0;
/// It raised an exception.
pub(crate) const RAISED: u64 = 1;
/// It is done, or has come as far as it could, and wants the block to end; RIP is right.
const ENDED: u64 = 2;

impl JitContext {
    /// The context for executing translations on `cpu`, from one to the next if `jumps` knows it. It must outlive none of
    /// these.
    pub(crate) fn new(
        cpu: &mut Cpu,
        thunks: &Thunks,
        jumps: *const JumpEntry,
        heats: *mut i32,
        budget: u64,
        chains: bool,
    ) -> Self {
        let tags = tags_of(cpu);
        let tlb = tlb_of(cpu);
        let attention = cpu.attention.as_ptr();
        let cpu: *mut Cpu = cpu;
        // SAFETY: `cpu` is valid.
        let state = unsafe { &raw mut (*cpu).state };
        Self {
            state,
            heats,
            tlb,
            slow_access: thunks.slow_access(),
            load_x87: thunks.load_x87(),
            load_mxcsr: thunks.load_mxcsr(),
            store_mxcsr: thunks.store_mxcsr(),
            dispatch: thunks.dispatch(),
            quick_dispatch: thunks.quick_dispatch(),
            look_up: thunks.look_up(),
            look_up_function,
            attention,
            jumps,
            tags,
            chains,
            call,
            slow_function: slow_access_function,
            load_x87_function,
            settle_function,
            settle: thunks.settle(),
            links: std::ptr::null(),
            link_function,
            remaining: i64::try_from(budget).unwrap_or(i64::MAX),
            linear: 0,
            access: 0,
            host: 0,
            calls: std::ptr::null(),
            hot: 0,
            mxcsr_loaded: 0,
            load_mxcsr_function,
            mxcsr: 0,
            x87_loaded: 0,
            control_word: 0,
            signalling_nan: 0x7ff0_0000_0000_0001,
            scratch: [0; 2],
            flags_shape: u64::from(Shape::VALUES.encode()),
            flags_left: 0,
            host_mxcsr: 0,
            cpu,
            directory: std::ptr::null_mut(),
            exception: None,
            group_missed: false,
            gathered: [0; 32],
            refusal: None,
        }
    }

    /// What the jump cache does not know may be found in `directory`, which nobody else uses while translations execute.
    pub(crate) fn look_up_in(&mut self, directory: &mut Directory) {
        self.links = directory.links.as_ptr();
        directory.links.settle(self.tags[1] >> 16);
        self.directory = directory;
    }

    /// The exception that a function raised.
    pub(crate) fn take_exception(&mut self) -> Option<Exception> {
        self.exception.take()
    }

    /// Makes the flags that translated code has left as parts what `Vcpu` holds otherwise.
    pub(crate) fn settle_flags(&mut self) {
        let shape = std::mem::replace(&mut self.flags_shape, u64::from(Shape::VALUES.encode()));
        if shape != u64::from(Shape::VALUES.encode()) {
            // SAFETY: `state` is valid, and nobody else uses it meanwhile.
            let arith = unsafe { &mut (*self.state).flags.arith };
            *arith = settle(shape, arith.result, self.flags_left, arith.aux);
        }
    }

    /// Gives the host its x87 back, if translated code has loaded the guest's.
    pub(crate) fn unload_x87(&mut self) {
        if self.x87_loaded != 0 {
            self.x87_loaded = 0;
            // SAFETY: `cpu` is valid, and nobody else uses it meanwhile.
            x87::store(unsafe { &mut (*self.cpu).state.x87 });
        }
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

/// Makes the flags two values, for quick translations.
extern "C" fn settle_function(context: *mut JitContext) {
    // SAFETY: as in `slow_access_function`.
    unsafe { &mut *context }.settle_flags();
}

/// Makes the host's x87 the guest's; if that must not be, because an exception is not masked, `x87_loaded` stays zero.
extern "C" fn load_x87_function(context: *mut JitContext) {
    // SAFETY: as in `slow_access_function`.
    let (context, guest) = unsafe { (&mut *context, &(*(*context).cpu).state.x87) };
    if x87::is_masked(guest.control) {
        x87::load(guest);
        context.x87_loaded = 1;
    }
}

/// Loads the guest's MXCSR; zero if that must not be, because an exception is not masked.
extern "C" fn load_mxcsr_function(context: *mut JitContext) -> u64 {
    // SAFETY: as in `slow_access_function`.
    let (context, guest) = unsafe { (&mut *context, (*(*context).cpu).state.mxcsr) };
    if !mxcsr::is_masked(guest) {
        return 0;
    }
    context.host_mxcsr = mxcsr::exchange(guest);
    context.mxcsr_loaded = 1;
    1
}

/// Looks for the translation that goes on at RIP, which the jump cache does not know: the host address of its code, or zero.
extern "C" fn look_up_function(context: *mut JitContext) -> u64 {
    // SAFETY: as in `slow_access_function`.
    let (context, cpu) = unsafe { (&mut *context, &mut *(*context).cpu) };
    // SAFETY: `look_up_in` was given it, and nobody else uses it meanwhile.
    let Some(directory) = (unsafe { context.directory.as_mut() }) else { return 0 };
    let Some(gpa) = context.code_at_rip(cpu) else { return 0 };
    let rip = cpu.state.rip();
    let found = directory.jumps.retag(rip, context.tags[(rip >> 63) as usize], gpa).or_else(|| {
        let entry = directory.find(gpa, cpu.mode()).and_then(|id| directory.enter(id, cpu).ok());
        context.renew_tags(cpu);
        entry
    });
    let Some((code, calls)) = found else { return 0 };
    context.calls = calls;
    code.expose_provenance() as u64
}

/// Looks where the way out leads whose slot this is, and to where RIP is.
extern "C" fn link_function(context: *mut JitContext, slot: *const u64) -> u64 {
    // SAFETY: as in `slow_access_function`.
    let (context, cpu) = unsafe { (&mut *context, &mut *(*context).cpu) };
    // SAFETY: as in `look_up_function`.
    let Some(directory) = (unsafe { context.directory.as_mut() }) else { return 0 };
    let Some(gpa) = context.code_at_rip(cpu) else { return 0 };
    let number = (slot.addr() - context.links.addr()) / size_of::<u64>();
    let code = directory.connect(number as SlotNumber, gpa, cpu);
    context.renew_tags(cpu);
    code.unwrap_or(0)
}

impl JitContext {
    /// The physical address of the code at RIP, if translations may go on there.
    fn code_at_rip(&mut self, cpu: &mut Cpu) -> Option<u64> {
        let rip = cpu.state.rip();
        if self.tags[(rip >> 63) as usize] == NO_TAG || !cpu.is_canonical(rip) {
            return None;
        }
        let known = cpu.mmu.gpa_for_fetch(rip);
        let gpa = known.or_else(|| Some(cpu.mmu.translate(rip, Access::Fetch).ok()?.gpa));
        // Fetching may have changed them.
        self.renew_tags(cpu);
        gpa
    }

    /// Takes notice of a new mapping or mode.
    fn renew_tags(&mut self, cpu: &Cpu) {
        self.tags = tags_of(cpu);
        // SAFETY: as in `look_up_function`.
        if let Some(directory) = unsafe { self.directory.as_mut() } {
            directory.links.settle(self.tags[1] >> 16);
        }
    }
}

/// The mapping and mode of `cpu`, as the jump cache's entries have them.
fn tags_of(cpu: &Cpu) -> [u64; 2] {
    [0, u64::MAX].map(|linear| tag_of(cpu, linear))
}

/// That at a linear address.
pub(crate) fn tag_of(cpu: &Cpu, linear: u64) -> u64 {
    cpu.mmu.generation(linear) << 16 | u64::from(cpu.mode().0)
}

/// The TLB's entries in use.
fn tlb_of(cpu: &Cpu) -> *const TlbEntry {
    // SAFETY: at TLB_OFFSET an MMU holds the pointer to them.
    unsafe { (&raw const cpu.mmu).byte_add(Mmu::TLB_OFFSET).cast::<*const TlbEntry>().read() }
}

/// Finds the host address of an access that the TLB did not know. Zero if the interpreter has to make it: it faults,
/// crosses a page, or is not plain RAM.
extern "C" fn slow_access_function(context: *mut JitContext) {
    // SAFETY: translated code passes on the context that it was given, whose `cpu` nobody else uses meanwhile.
    let (context, cpu) = unsafe { (&mut *context, &mut *(*context).cpu) };
    let request = Request::decode(context.access);
    let found = find(cpu, context.linear, request, &mut context.gathered);
    // The page may do for the instruction alone.
    context.group_missed |= request.grouped && !matches!(found, Ok(_) | Err(Refusal::Faults));
    context.refusal = found.err();
    context.host = found.map_or(0, |host| host.expose_provenance() as u64);
}

/// The host address of RAM, if it is there and may be accessed so. What is read from two pages is copied to `gathered`.
fn find(cpu: &mut Cpu, linear: u64, request: Request, gathered: &mut [u8; 32]) -> Result<*const u8, Refusal> {
    let Request { bytes, kind, for_writes, grouped } = request;
    if (linear & 0xfff) + bytes > 0x1000 {
        let is_read = kind == Kind::Read && !for_writes && !grouped;
        let copy = gathered.get_mut(..bytes as usize).filter(|_| is_read).ok_or(Refusal::CrossesPage)?;
        gather(cpu, linear, copy)?;
        return Ok(copy.as_ptr());
    }
    if !cpu.is_canonical(linear) {
        return Err(Refusal::Faults);
    }
    cpu.stats.slow_accesses += 1;
    let access = if kind == Kind::Write { Access::Write } else { Access::Read };
    let target = cpu.mmu.translate(linear, access).map_err(|_| Refusal::Faults)?;
    let host = if for_writes {
        cpu.mmu.host_for_write(linear, bytes).map(<*mut u8>::cast_const)
    } else {
        cpu.mmu.host_for_read(linear, bytes)
    };
    match host {
        Some(host) => Ok(host),
        None if target.has_code && kind == Kind::Write => {
            let beside = target.host.filter(|_| is_beside_code(cpu, &target, linear, bytes));
            beside.map(<*mut u8>::cast_const).ok_or(Refusal::WritesCodePage)
        }
        None => Err(if target.has_code { Refusal::WritesCodePage } else { Refusal::NotRam }),
    }
}

/// Copies RAM at `linear`, from where it crosses into another page.
fn gather(cpu: &mut Cpu, linear: u64, copy: &mut [u8]) -> Result<(), Refusal> {
    let (head, tail) = copy.split_at_mut((0x1000 - (linear & 0xfff)) as usize);
    let behind = linear.wrapping_add(head.len() as u64);
    for (linear, part) in [(linear, head), (behind, tail)] {
        if !cpu.is_canonical(linear) {
            return Err(Refusal::Faults);
        }
        cpu.stats.slow_accesses += 1;
        cpu.mmu.translate(linear, Access::Read).map_err(|_| Refusal::Faults)?;
        let host = cpu.mmu.host_for_read(linear, part.len() as u64).ok_or(Refusal::NotRam)?;
        // SAFETY: `host` is guest RAM with this many bytes left in its page, which no Rust reference points to.
        unsafe { std::ptr::copy_nonoverlapping(host, part.as_mut_ptr(), part.len()) };
    }
    Ok(())
}

/// Whether a write of `bytes` at `linear`, to a page with code, changes no code. Another vCPU might decode some while the address is
/// in use, and would not be told.
fn is_beside_code(cpu: &Cpu, target: &Target, linear: u64, bytes: u64) -> bool {
    target.writable
        && !cpu.mmu.is_watched(linear)
        && !cpu.code_map.has_code(target.gpa, bytes)
        && cpu.mmu.memory().has_one_watcher()
}

/// Executes the instruction of `call`, one of the translation's; `next` is RIP behind it.
extern "C" fn call(context: *mut JitContext, call: *const Call, next: u64) -> u64 {
    // SAFETY: as in `slow_access_function`; the translation's calls outlive its execution.
    let (context, cpu, Call { run, op, floating, .. }) =
        unsafe { (&mut *context, &mut *(*context).cpu, &*call) };
    context.settle_flags();
    if *floating {
        context.unload_x87();
    }
    let unloaded = *floating && context.unload_mxcsr();
    let mxcsr = cpu.state.mxcsr;
    let entry = cpu.state.rip();
    let shadowed = cpu.state.sti_shadow;
    cpu.state.set_rip(next);
    if let Err(exception) = run(cpu, op) {
        let start = cpu.state.rip().wrapping_sub(u64::from(op.length));
        cpu.state.set_rip(start);
        context.exception = Some(exception);
        return RAISED;
    }
    cpu.state.sti_shadow &= !shadowed;
    if cpu.block_limit == 0 || cpu.state.regs[usize::from(reg::RIP)] != next {
        context.after_block(cpu);
        return ENDED;
    }
    if unloaded && (!mxcsr::only_adds_flags(mxcsr, cpu.state.mxcsr) || load_mxcsr_function(context) == 0) {
        return ENDED;
    }
    cpu.state.set_rip(entry);
    DONE
}

impl JitContext {
    /// An instruction has ended its block: if nothing waits to be done at its border, another translation may go on, in what
    /// may be a new mode and mapping.
    fn after_block(&mut self, cpu: &mut Cpu) {
        self.tags = [NO_TAG; 2];
        if self.chains && cpu.is_undisturbed() {
            cpu.block_limit = usize::MAX;
            self.renew_tags(cpu);
            self.tlb = tlb_of(cpu);
        }
    }
}
