//! Small guest programs, mostly loops, whose host code is kept.

use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// Emits a program.
pub(crate) type Program = fn(&mut CodeAssembler) -> Result<(), IcedError>;

/// Name and guest code.
pub(crate) const PROGRAMS: [(&str, Program); 15] = [
    ("count_down", count_down),
    ("sum_quads", sum_quads),
    ("copy_bytes", copy_bytes),
    ("string_length", string_length),
    ("chase", chase),
    ("crc_step", crc_step),
    ("big_add", big_add),
    ("maximum", maximum),
    ("call_return", call_return),
    ("jump_table", jump_table),
    ("dot_product", dot_product),
    ("saxpy", saxpy),
    ("find_byte", find_byte),
    ("avx2_add", avx2_add),
    ("locked_add", locked_add),
];

/// A loop in registers: `body`, then DEC ECX and a branch back.
fn counted(
    a: &mut CodeAssembler,
    body: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>,
) -> Result<(), IcedError> {
    let mut top = a.create_label();
    a.set_label(&mut top)?;
    body(a)?;
    a.dec(ecx)?;
    a.jne(top)?;
    a.ret()
}

fn count_down(a: &mut CodeAssembler) -> Result<(), IcedError> {
    counted(a, |a| {
        a.add(rax, rbx)?;
        a.mov(rdx, rax)?;
        a.shr(rdx, 7)?;
        a.xor(rax, rdx)
    })
}

fn sum_quads(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut top = a.create_label();
    a.set_label(&mut top)?;
    a.add(rax, qword_ptr(rdi + rcx * 8))?;
    a.inc(rcx)?;
    a.cmp(rcx, rdx)?;
    a.jb(top)?;
    a.ret()
}

fn copy_bytes(a: &mut CodeAssembler) -> Result<(), IcedError> {
    counted(a, |a| {
        a.movzx(eax, byte_ptr(rsi))?;
        a.mov(byte_ptr(rdi), al)?;
        a.inc(rsi)?;
        a.inc(rdi)
    })
}

fn string_length(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut top = a.create_label();
    a.set_label(&mut top)?;
    a.inc(rax)?;
    a.cmp(byte_ptr(rdi + rax), 0)?;
    a.jne(top)?;
    a.ret()
}

fn chase(a: &mut CodeAssembler) -> Result<(), IcedError> {
    counted(a, |a| a.mov(rax, qword_ptr(rdi + rax * 8)))
}

fn crc_step(a: &mut CodeAssembler) -> Result<(), IcedError> {
    counted(a, |a| {
        a.movzx(edx, byte_ptr(rsi))?;
        a.inc(rsi)?;
        a.xor(edx, eax)?;
        a.movzx(edx, dl)?;
        a.shr(eax, 8)?;
        a.xor(eax, dword_ptr(rdi + rdx * 4))
    })
}

/// The carry goes from one iteration to the next.
fn big_add(a: &mut CodeAssembler) -> Result<(), IcedError> {
    counted(a, |a| {
        a.mov(rax, qword_ptr(rsi + rdx))?;
        a.adc(qword_ptr(rdi + rdx), rax)?;
        a.lea(rdx, qword_ptr(rdx + 8))
    })
}

fn maximum(a: &mut CodeAssembler) -> Result<(), IcedError> {
    counted(a, |a| {
        a.mov(edx, dword_ptr(rsi))?;
        a.add(rsi, 4)?;
        a.cmp(edx, eax)?;
        a.cmovg(eax, edx)
    })
}

fn call_return(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut function = a.create_label();
    counted(a, |a| a.call(function))?;
    a.set_label(&mut function)?;
    a.push(rbx)?;
    a.lea(rbx, qword_ptr(rcx + rcx * 4))?;
    a.add(rax, rbx)?;
    a.pop(rbx)?;
    a.ret()
}

fn jump_table(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.movzx(eax, byte_ptr(rsi))?;
    a.inc(rsi)?;
    a.jmp(qword_ptr(rdi + rax * 8))
}

fn dot_product(a: &mut CodeAssembler) -> Result<(), IcedError> {
    counted(a, |a| {
        a.movsd_2(xmm1, qword_ptr(rsi))?;
        a.mulsd(xmm1, qword_ptr(rdi))?;
        a.addsd(xmm0, xmm1)?;
        a.add(rsi, 8)?;
        a.add(rdi, 8)
    })
}

fn saxpy(a: &mut CodeAssembler) -> Result<(), IcedError> {
    counted(a, |a| {
        a.movaps(xmm0, xmmword_ptr(rdi))?;
        a.mulps(xmm0, xmm1)?;
        a.addps(xmm0, xmmword_ptr(rsi))?;
        a.movaps(xmmword_ptr(rdi), xmm0)?;
        a.add(rsi, 16)?;
        a.add(rdi, 16)
    })
}

fn find_byte(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut top = a.create_label();
    a.set_label(&mut top)?;
    a.add(rdi, 16)?;
    a.movdqu(xmm0, xmmword_ptr(rdi))?;
    a.pcmpeqb(xmm0, xmm1)?;
    a.pmovmskb(eax, xmm0)?;
    a.test(eax, eax)?;
    a.je(top)?;
    a.ret()
}

fn avx2_add(a: &mut CodeAssembler) -> Result<(), IcedError> {
    counted(a, |a| {
        a.vmovdqu(ymm0, ymmword_ptr(rsi))?;
        a.vpaddd(ymm0, ymm0, ymm1)?;
        a.vmovdqu(ymmword_ptr(rdi), ymm0)?;
        a.add(rsi, 32)?;
        a.add(rdi, 32)
    })
}

fn locked_add(a: &mut CodeAssembler) -> Result<(), IcedError> {
    counted(a, |a| a.lock().add(dword_ptr(rdi), 1))
}
