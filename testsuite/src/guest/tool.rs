//! A static Linux program that does what busybox's applets do not: it maps, shares and protects memory.

use super::program::executable;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// Linux system call numbers (arch/x86/entry/syscalls/syscall_64.tbl).
mod call {
    pub(super) const MMAP: u32 = 9;
    pub(super) const MPROTECT: u32 = 10;
    pub(super) const MUNMAP: u32 = 11;
    pub(super) const FORK: u32 = 57;
    pub(super) const EXIT: u32 = 60;
    pub(super) const WAIT4: u32 = 61;
}

const PROT_READ: u32 = 1;
const PROT_READ_WRITE: u32 = 3;
const MAP_SHARED_ANONYMOUS: u32 = 0x21;
const MAP_PRIVATE_ANONYMOUS: u32 = 0x22;
/// Bytes of the private map: more than one page table's reach.
const MAP_BYTES: u32 = 4 << 20;
/// What ends a process that wrote to a page which it may only read: SIGSEGV, in wait4's status.
const KILLED_BY_SEGV: u32 = 11;

/// A program that maps private and shared memory, fills it page by page, forks, and looks at who sees whose
/// writes; then writes to a page made read-only. It exits with 0, or with the number of the step that went wrong.
pub fn memory_maps() -> Vec<u8> {
    assemble_memory_maps().expect("this assembles")
}

fn exit(a: &mut CodeAssembler, status: u32) -> Result<(), IcedError> {
    a.mov(edi, status)?;
    a.mov(eax, call::EXIT)?;
    a.syscall()
}

/// Exits with `step` unless the flags say equal.
fn expect_equal(a: &mut CodeAssembler, step: u32) -> Result<(), IcedError> {
    let mut good = a.create_label();
    a.je(good)?;
    exit(a, step)?;
    a.set_label(&mut good)?;
    a.zero_bytes()
}

/// `mmap(0, bytes, READ | WRITE, flags, -1, 0)`; the address is in RAX.
fn map(a: &mut CodeAssembler, bytes: u32, flags: u32, step: u32) -> Result<(), IcedError> {
    a.xor(edi, edi)?;
    a.mov(esi, bytes)?;
    a.mov(edx, PROT_READ_WRITE)?;
    a.mov(r10d, flags)?;
    a.mov(r8, -1i64)?;
    a.xor(r9d, r9d)?;
    a.mov(eax, call::MMAP)?;
    a.syscall()?;
    // Errors are small negative numbers; addresses of a process have bit 63 clear.
    a.bt(rax, 63)?;
    a.sbb(ecx, ecx)?;
    a.test(ecx, ecx)?;
    expect_equal(a, step)
}

/// Waits for any child; its status is in EAX.
fn wait(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.push(0)?;
    a.mov(rdi, -1i64)?;
    a.mov(rsi, rsp)?;
    a.xor(edx, edx)?;
    a.xor(r10d, r10d)?;
    a.mov(eax, call::WAIT4)?;
    a.syscall()?;
    a.pop(rax)
}

/// Forks; the child goes on behind this, the parent at `parent`.
fn fork(a: &mut CodeAssembler, parent: CodeLabel) -> Result<(), IcedError> {
    a.mov(eax, call::FORK)?;
    a.syscall()?;
    a.test(eax, eax)?;
    a.jne(parent)
}

fn assemble_memory_maps() -> Result<Vec<u8>, IcedError> {
    let mut a = CodeAssembler::new(64)?;
    map(&mut a, MAP_BYTES, MAP_PRIVATE_ANONYMOUS, 1)?;
    a.mov(r12, rax)?;
    map(&mut a, 4096, MAP_SHARED_ANONYMOUS, 2)?;
    a.mov(r13, rax)?;
    sum_pages(&mut a, true)?;
    let mut parent = a.create_label();
    fork(&mut a, parent)?;
    a.mov(dword_ptr(r12), 77)?;
    a.mov(dword_ptr(r13), 88)?;
    exit(&mut a, 9)?;
    a.set_label(&mut parent)?;
    wait(&mut a)?;
    a.cmp(eax, 9 << 8)?;
    expect_equal(&mut a, 3)?;
    a.cmp(dword_ptr(r13), 88)?;
    expect_equal(&mut a, 4)?;
    sum_pages(&mut a, false)?;
    // Pages 0 to 1023 hold their numbers: the child's write to the private map must not show.
    let pages = MAP_BYTES / 4096;
    a.cmp(eax, (pages * (pages - 1) / 2) as i32)?;
    expect_equal(&mut a, 5)?;
    a.mov(rdi, r12)?;
    a.mov(esi, 4096)?;
    a.mov(edx, PROT_READ)?;
    a.mov(eax, call::MPROTECT)?;
    a.syscall()?;
    let mut parent = a.create_label();
    fork(&mut a, parent)?;
    a.mov(dword_ptr(r12), 1)?;
    exit(&mut a, 10)?;
    a.set_label(&mut parent)?;
    wait(&mut a)?;
    // Bit 7 says whether there is a core file.
    a.and(eax, 0x7f)?;
    a.cmp(eax, KILLED_BY_SEGV as i32)?;
    expect_equal(&mut a, 6)?;
    a.mov(rdi, r12)?;
    a.mov(esi, MAP_BYTES)?;
    a.mov(eax, call::MUNMAP)?;
    a.syscall()?;
    a.test(eax, eax)?;
    expect_equal(&mut a, 7)?;
    exit(&mut a, 0)?;
    executable(a)
}

/// Writes every page's number to its first word, or adds those words up in EAX. The map begins at R12.
fn sum_pages(a: &mut CodeAssembler, write: bool) -> Result<(), IcedError> {
    let mut page = a.create_label();
    a.xor(eax, eax)?;
    a.xor(ecx, ecx)?;
    a.mov(rdx, r12)?;
    a.set_label(&mut page)?;
    if write {
        a.mov(dword_ptr(rdx), ecx)?;
    } else {
        a.add(eax, dword_ptr(rdx))?;
    }
    a.add(rdx, 4096)?;
    a.inc(ecx)?;
    a.cmp(ecx, (MAP_BYTES / 4096) as i32)?;
    a.jne(page)
}
