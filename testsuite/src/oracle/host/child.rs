//! The child process: maps the programs' address space at its fixed place and enters programs one by one.
//!
//! Every program ends in a signal: a fault, or the INT3 that lies behind it. The handler takes the registers from the
//! signal frame, and then sends the thread back to where the program was entered.
#![expect(unsafe_code, reason = "enters machine code and handles its faults")]

use super::{Exchange, Slot};
use crate::oracle::state::FLAGS;
use crate::oracle::{CODE, CODE_BYTES, DATA, DATA_BYTES, Ending, GS_BASE, Mode, PAGE, PRIVATE};
use std::mem::{offset_of, size_of, zeroed};
use std::ptr;
use std::sync::atomic::Ordering;

use crate::oracle::State;

/// Linux's selectors of 64-bit user code and of user data.
const USER_CODE: u16 = 0x33;
const USER_DATA: u16 = 0x2b;
/// A batch that takes longer than this is stuck.
const BATCH_SECONDS: u32 = 20;
const SIGNAL_STACK_BYTES: usize = 64 << 10;
const PRIVATE_BYTES: usize = PAGE + SIGNAL_STACK_BYTES;

/// The first page at `PRIVATE`: what the entry code and the handler must find without a register.
#[repr(C)]
struct Control {
    /// The far pointer to the program.
    entry: u32,
    code_selector: u16,
    /// What DS, ES and SS are loaded with.
    data_selector: u16,
    host_rsp: u64,
    host_mxcsr: u32,
    /// Whether there are YMM registers.
    avx: u32,
    slot: *mut Slot,
}

std::arch::global_asm!(
    // rdi: the program's State.
    "rx86_oracle_enter:",
    "push rbx", "push rbp", "push r12", "push r13", "push r14", "push r15",
    "mov rax, {control}",
    "mov [rax + {host_rsp}], rsp",
    "stmxcsr [rax + {host_mxcsr}]",
    "mov ecx, [rax + {data_selector}]",
    "mov ds, ecx",
    "mov es, ecx",
    "mov ss, ecx",
    "fxrstor64 [rdi + {fx}]",
    "cmp dword ptr [rax + {avx}], 0",
    "je 2f",
    ".irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
    "vinsertf128 ymm\\i, ymm\\i, [rdi + {ymm_high} + 16 * \\i], 1",
    ".endr",
    "2:",
    "push qword ptr [rdi + {rflags}]",
    "popfq",
    "mov rax, [rdi]",
    "mov rcx, [rdi + 8]",
    "mov rdx, [rdi + 16]",
    "mov rbx, [rdi + 24]",
    "mov rsp, [rdi + 32]",
    "mov rbp, [rdi + 40]",
    "mov rsi, [rdi + 48]",
    "mov r8, [rdi + 64]",
    "mov r9, [rdi + 72]",
    "mov r10, [rdi + 80]",
    "mov r11, [rdi + 88]",
    "mov r12, [rdi + 96]",
    "mov r13, [rdi + 104]",
    "mov r14, [rdi + 112]",
    "mov r15, [rdi + 120]",
    "mov rdi, [rdi + 56]",
    // A far pointer of 16 and 32 bits is the only one that every vendor has.
    "jmp fword ptr [{control}]",
    // rsp: as at the entry.
    "rx86_oracle_leave:",
    "fninit",
    "mov rax, {control}",
    "ldmxcsr [rax + {host_mxcsr}]",
    "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx",
    "ret",
    control = const PRIVATE,
    host_rsp = const offset_of!(Control, host_rsp),
    host_mxcsr = const offset_of!(Control, host_mxcsr),
    data_selector = const offset_of!(Control, data_selector),
    avx = const offset_of!(Control, avx),
    fx = const offset_of!(State, fx),
    ymm_high = const offset_of!(State, ymm_high),
    rflags = const offset_of!(State, rflags),
);

unsafe extern "C" {
    fn rx86_oracle_enter(state: *const State);
    fn rx86_oracle_leave();
}

fn control() -> *mut Control {
    ptr::with_exposed_provenance_mut(PRIVATE as usize)
}

fn die(status: i32) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(status) }
}

fn map(address: u64, bytes: usize, protection: i32) -> *mut u8 {
    map_file(address, bytes, protection, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE, -1)
}

/// Maps the code pages twice: for programs to execute, and for us to write. Returns where we write them.
fn map_code() -> *mut u8 {
    // SAFETY: makes a file without a name; the descriptor is kept until the process ends.
    let file = unsafe { libc::memfd_create(c"code".as_ptr(), libc::MFD_CLOEXEC) };
    // SAFETY: the file is ours.
    if file < 0 || unsafe { libc::ftruncate(file, CODE_BYTES as libc::off_t) } != 0 {
        die(4);
    }
    map_file(CODE, CODE_BYTES, libc::PROT_READ | libc::PROT_EXEC, libc::MAP_SHARED, file);
    let alias = PRIVATE + PRIVATE_BYTES as u64;
    map_file(alias, CODE_BYTES, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, file)
}

fn map_file(address: u64, bytes: usize, protection: i32, kind: i32, file: i32) -> *mut u8 {
    // SAFETY: the kernel refuses if anything is there already.
    let mapped = unsafe {
        libc::mmap(
            ptr::without_provenance_mut(address as usize),
            bytes,
            protection,
            kind | libc::MAP_FIXED_NOREPLACE,
            file,
            0,
        )
    };
    if mapped.addr() as u64 != address {
        die(2);
    }
    mapped.expose_provenance();
    mapped.cast()
}

/// Serves batches until the parent closes its pipe. Runs in the child process.
pub(super) fn serve(exchange: *mut Exchange, from: i32, to: i32) -> ! {
    let rw = libc::PROT_READ | libc::PROT_WRITE;
    let private = map(PRIVATE, PRIVATE_BYTES, rw);
    let data = map(DATA, DATA_BYTES, rw);
    map(DATA + DATA_BYTES as u64, PAGE, libc::PROT_READ);
    let code = map_code();
    // SAFETY: the code pages have just been mapped; the signal stack is the second part of the private pages.
    unsafe {
        ptr::write_bytes(code, 0xcc, CODE_BYTES);
        catch_signals(private.add(PAGE));
        const ARCH_SET_GS: i32 = 0x1001;
        libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, GS_BASE);
        make_16bit_segments();
    }
    let mut byte = [0u8];
    loop {
        // SAFETY: the buffer is one byte; the exchange is the parent's mapping, and it is our turn.
        unsafe {
            if libc::read(from, byte.as_mut_ptr().cast(), 1) != 1 {
                die(0);
            }
            libc::alarm(BATCH_SECONDS);
            let count = (*exchange).count.load(Ordering::SeqCst) as usize;
            for index in 0..count {
                execute(&raw mut (*exchange).slots[index], data, code);
                (*exchange).done.store(index as u32 + 1, Ordering::SeqCst);
            }
            libc::alarm(0);
            if libc::write(to, byte.as_ptr().cast(), 1) != 1 {
                die(0);
            }
        }
    }
}

/// Runs one program and leaves its outcome in its slot.
///
/// # Safety
/// `slot` is valid and nobody else uses it; `data` and `code` are the mapped pages.
unsafe fn execute(slot: *mut Slot, data: *mut u8, code: *mut u8) {
    // SAFETY: all copies stay within the slot and the pages, whose sizes the slot's arrays have. The entry code leaves by
    // way of the handler with all registers that a function must keep.
    unsafe {
        let memory = (&raw mut (*slot).memory).cast::<u8>();
        ptr::copy_nonoverlapping(memory, data, DATA_BYTES);
        let entry = code.add((*slot).at);
        ptr::copy_nonoverlapping((&raw const (*slot).code).cast(), entry, (*slot).code_len);
        let mode = (*slot).mode;
        let (code_selector, data_selector) = selectors(mode);
        control().write(Control {
            entry: (CODE - mode.code_base()) as u32 + (*slot).at as u32,
            code_selector,
            data_selector,
            host_rsp: 0,
            host_mxcsr: 0,
            avx: u32::from(is_x86_feature_detected!("avx")),
            slot,
        });
        rx86_oracle_enter(&raw const (*slot).state);
        ptr::write_bytes(entry, 0xcc, (*slot).code_len);
        ptr::copy_nonoverlapping(data, memory, DATA_BYTES);
    }
}

/// Linux's selectors of user code and data, and those of our own local descriptor table.
fn selectors(mode: Mode) -> (u16, u16) {
    match mode {
        Mode::Bits64 => (USER_CODE, USER_DATA),
        Mode::Bits32 => (0x23, USER_DATA),
        Mode::Bits16 => (0x07, 0x0f),
    }
}

/// 16-bit segments in the local descriptor table. A kernel that has none refuses, and so does the far jump then.
fn make_16bit_segments() {
    const WRITE: i32 = 1;
    const CODE_CONTENTS: u32 = 2 << 1;
    const USEABLE: u32 = 1 << 6;
    for (entry, base, flags) in [(0, CODE as u32, CODE_CONTENTS | USEABLE), (1, DATA as u32, USEABLE)] {
        // Linux's `struct user_desc`.
        let descriptor: [u32; 4] = [entry, base, 0xffff, flags];
        // SAFETY: the kernel reads the structure.
        unsafe {
            libc::syscall(libc::SYS_modify_ldt, WRITE, descriptor.as_ptr(), size_of_val(&descriptor));
        }
    }
}

/// # Safety
/// `stack` begins `SIGNAL_STACK_BYTES` bytes that are used for nothing else.
unsafe fn catch_signals(stack: *mut u8) {
    // SAFETY: all-zero is a valid value of both C structures; the handler has the three-argument form.
    unsafe {
        let mut alternate: libc::stack_t = zeroed();
        alternate.ss_sp = stack.cast();
        alternate.ss_size = SIGNAL_STACK_BYTES;
        libc::sigaltstack(&alternate, ptr::null_mut());
        let mut action: libc::sigaction = zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP] {
            libc::sigaction(signal, &action, ptr::null_mut());
        }
    }
}

/// Where the kernel's signal frame has each general register, in encoding order.
const FRAME: [libc::c_int; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

/// The upper halves of the YMM registers in the XSAVE area of a signal frame, which has the standard format.
///
/// # Safety
/// `area` is that of a kernel that saves AVX state.
unsafe fn ymm_high(area: *const u8) -> [u128; 16] {
    const XSTATE_BV: usize = 512;
    const AVX: u64 = 1 << 2;
    const AVX_STATE: usize = 576;
    // SAFETY: the area reaches to the end of the AVX state at least.
    unsafe {
        // What is in its initial configuration may not have been written.
        if area.add(XSTATE_BV).cast::<u64>().read_unaligned() & AVX == 0 {
            return [0; 16];
        }
        area.add(AVX_STATE).cast::<[u128; 16]>().read_unaligned()
    }
}

extern "C" fn handler(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    const PAGE_FAULT: u32 = 14;
    // SAFETY: the kernel passes a valid frame; the control page was filled in before the program was entered.
    unsafe {
        let frame = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext;
        let control = &mut *control();
        if control.host_rsp == 0 {
            die(3);
        }
        let slot = &mut *control.slot;
        let get = |index: libc::c_int| frame.gregs[index as usize] as u64;
        slot.state.gpr = FRAME.map(get);
        slot.state.rip = get(libc::REG_RIP);
        slot.state.rflags = get(libc::REG_EFL) & FLAGS;
        let fx = (&raw mut slot.state.fx).cast::<u8>();
        ptr::copy_nonoverlapping(frame.fpregs.cast_const().cast::<u8>(), fx, size_of_val(&slot.state.fx));
        if control.avx != 0 {
            slot.state.ymm_high = ymm_high(frame.fpregs.cast_const().cast());
        }
        let vector = get(libc::REG_TRAPNO) as u32;
        let page_fault = vector == PAGE_FAULT;
        slot.ending = Ending {
            vector,
            error_code: if page_fault { get(libc::REG_ERR) as u32 } else { 0 },
            address: if page_fault { get(libc::REG_CR2) } else { 0 },
        };
        frame.gregs[libc::REG_RIP as usize] = rx86_oracle_leave as *const () as usize as i64;
        frame.gregs[libc::REG_RSP as usize] = control.host_rsp as i64;
        frame.gregs[libc::REG_EFL as usize] = 0x202;
        // CS in the lowest 16 bits, SS in the highest.
        let others = frame.gregs[libc::REG_CSGSFS as usize] as u64 & 0x0000_ffff_ffff_0000;
        let selectors = others | u64::from(USER_CODE) | u64::from(USER_DATA) << 48;
        frame.gregs[libc::REG_CSGSFS as usize] = selectors as i64;
        control.host_rsp = 0;
    }
}

const _: () = assert!(size_of::<Control>() <= PAGE && offset_of!(Control, entry) == 0);
const _: () = assert!(offset_of!(Control, code_selector) == 4);
