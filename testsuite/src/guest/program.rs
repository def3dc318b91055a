//! Static Linux programs assembled here with iced-x86: known work, a known number of instructions, a checksum.
//!
//! Each program prints `start NAME`, works, and prints `end NAME CHECKSUM`, so that a host can time the interval
//! between the two lines whatever the guest's clock says. The same file runs natively.

use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// Where the program is loaded.
const LOAD_ADDRESS: u64 = 0x40_0000;
/// Where its zeroed data begins.
const DATA_ADDRESS: u64 = 0x80_0000;
/// Bytes of zeroed data.
const DATA_BYTES: u64 = 1 << 20;
/// Bytes of ELF header and two program headers.
const HEADER_BYTES: u64 = 64 + 2 * 56;

/// A program's body: emits its loop, leaves a checksum in RAX. R15 belongs to the frame around it.
type Body = fn(&mut CodeAssembler, iterations: u32) -> Result<(), IcedError>;

/// One benchmark program.
#[derive(Clone, Copy)]
pub struct Program {
    /// Its name, as it is printed.
    pub name: &'static str,
    /// Instructions of one iteration.
    pub instructions_per_iteration: u64,
    /// Iterations for about a second of interpretation.
    pub iterations: u32,
    body: Body,
}

impl Program {
    /// Instructions of the whole loop.
    pub fn instructions(&self) -> u64 {
        self.instructions_per_iteration * u64::from(self.iterations)
    }

    /// The program as a static ELF file.
    pub fn elf(&self) -> Vec<u8> {
        assemble(self).expect("the bodies below assemble")
    }
}

/// The integer programs.
pub const INTEGER: [Program; 4] = [
    Program { name: "alu", instructions_per_iteration: 10, iterations: 20_000_000, body: alu },
    Program { name: "sieve", instructions_per_iteration: 6, iterations: 20_000_000, body: sieve },
    Program { name: "calls", instructions_per_iteration: 8, iterations: 12_000_000, body: calls },
    Program { name: "memory", instructions_per_iteration: 8, iterations: 20_000_000, body: memory },
];

/// Additions, shifts and a conditional move in registers.
fn alu(a: &mut CodeAssembler, iterations: u32) -> Result<(), IcedError> {
    let mut top = a.create_label();
    a.mov(ecx, iterations)?;
    a.mov(rax, 0x1234_5678_9abc_def0u64)?;
    a.mov(ebx, 1)?;
    a.set_label(&mut top)?;
    a.add(rax, rbx)?;
    a.mov(rdx, rax)?;
    a.shr(rdx, 7)?;
    a.xor(rax, rdx)?;
    a.lea(rbx, qword_ptr(rbx + rax * 2 + 3))?;
    a.rol(rbx, 11)?;
    a.cmp(rax, rbx)?;
    a.cmovb(rax, rbx)?;
    a.dec(ecx)?;
    a.jne(top)
}

/// Byte stores at a stride over 64 KiB, with a wrap.
fn sieve(a: &mut CodeAssembler, iterations: u32) -> Result<(), IcedError> {
    let mut top = a.create_label();
    a.mov(ecx, iterations)?;
    a.mov(esi, DATA_ADDRESS as u32)?;
    a.xor(eax, eax)?;
    a.set_label(&mut top)?;
    a.add(eax, 7)?;
    a.movzx(edx, ax)?;
    a.add(byte_ptr(rsi + rdx), 1)?;
    a.add(eax, edx)?;
    a.dec(ecx)?;
    a.jne(top)
}

/// A call and return around a little work.
fn calls(a: &mut CodeAssembler, iterations: u32) -> Result<(), IcedError> {
    let (mut top, mut function, mut done) = (a.create_label(), a.create_label(), a.create_label());
    a.mov(ecx, iterations)?;
    a.xor(eax, eax)?;
    a.set_label(&mut top)?;
    a.call(function)?;
    a.dec(ecx)?;
    a.jne(top)?;
    a.jmp(done)?;
    a.set_label(&mut function)?;
    a.push(rcx)?;
    a.lea(rax, qword_ptr(rax + rcx * 4 + 1))?;
    a.xor(rax, rcx)?;
    a.pop(rcx)?;
    a.ret()?;
    a.set_label(&mut done)?;
    a.nop()
}

/// A running sum over 1 MiB of words, written back.
fn memory(a: &mut CodeAssembler, iterations: u32) -> Result<(), IcedError> {
    let mut top = a.create_label();
    a.mov(ecx, iterations)?;
    a.mov(esi, DATA_ADDRESS as u32)?;
    a.xor(eax, eax)?;
    a.xor(edx, edx)?;
    a.set_label(&mut top)?;
    a.add(rax, qword_ptr(rsi + rdx))?;
    a.add(rax, rcx)?;
    a.mov(qword_ptr(rsi + rdx), rax)?;
    a.add(edx, 8)?;
    a.and(edx, (DATA_BYTES - 8) as u32)?;
    a.ror(rax, 3)?;
    a.dec(ecx)?;
    a.jne(top)
}

/// `write(1, label, length)`.
fn print(a: &mut CodeAssembler, label: CodeLabel, length: usize) -> Result<(), IcedError> {
    a.mov(eax, 1)?;
    a.mov(edi, 1)?;
    a.lea(rsi, qword_ptr(label))?;
    a.mov(edx, length as u32)?;
    a.syscall()
}

/// Writes RAX as sixteen hexadecimal digits and a line end.
fn print_checksum(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let (mut digit, mut decimal) = (a.create_label(), a.create_label());
    a.sub(rsp, 32)?;
    a.mov(byte_ptr(rsp + 16), 10)?;
    a.mov(ecx, 15)?;
    a.set_label(&mut digit)?;
    a.mov(edx, eax)?;
    a.and(edx, 15)?;
    a.add(edx, i32::from(b'0'))?;
    a.cmp(edx, i32::from(b'9'))?;
    a.jbe(decimal)?;
    a.add(edx, 39)?;
    a.set_label(&mut decimal)?;
    a.mov(byte_ptr(rsp + rcx), dl)?;
    a.shr(rax, 4)?;
    a.dec(ecx)?;
    a.jns(digit)?;
    a.mov(eax, 1)?;
    a.mov(edi, 1)?;
    a.mov(rsi, rsp)?;
    a.mov(edx, 17)?;
    a.syscall()?;
    a.add(rsp, 32)
}

fn assemble(program: &Program) -> Result<Vec<u8>, IcedError> {
    let mut a = CodeAssembler::new(64)?;
    let (mut start, mut end) = (a.create_label(), a.create_label());
    let start_line = format!("start {}\n", program.name);
    let end_line = format!("end {} ", program.name);
    print(&mut a, start, start_line.len())?;
    (program.body)(&mut a, program.iterations)?;
    a.mov(r15, rax)?;
    print(&mut a, end, end_line.len())?;
    a.mov(rax, r15)?;
    print_checksum(&mut a)?;
    a.mov(eax, 60)?;
    a.xor(edi, edi)?;
    a.syscall()?;
    a.set_label(&mut start)?;
    a.db(start_line.as_bytes())?;
    a.set_label(&mut end)?;
    a.db(end_line.as_bytes())?;
    executable(a)
}

/// What was assembled, as a static ELF file that starts with its first instruction.
pub(super) fn executable(mut a: CodeAssembler) -> Result<Vec<u8>, IcedError> {
    let code = a.assemble(LOAD_ADDRESS + HEADER_BYTES)?;
    Ok(elf(&code))
}

/// A program that gets access to all ports and writes `value` to `port`; needs root.
pub fn debug_exit_program(port: u16, value: u32) -> Vec<u8> {
    const IOPL: u32 = 172;
    let body = || -> Result<Vec<u8>, IcedError> {
        let mut a = CodeAssembler::new(64)?;
        a.mov(eax, IOPL)?;
        a.mov(edi, 3)?;
        a.syscall()?;
        a.mov(edx, u32::from(port))?;
        a.mov(eax, value)?;
        a.out(dx, eax)?;
        a.mov(eax, 60)?;
        a.mov(edi, 1)?;
        a.syscall()?;
        a.assemble(LOAD_ADDRESS + HEADER_BYTES)
    };
    elf(&body().expect("the program assembles"))
}

/// A static ELF64 executable: one segment of code, one of zeroed data.
fn elf(code: &[u8]) -> Vec<u8> {
    let size = HEADER_BYTES + code.len() as u64;
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let half = |file: &mut Vec<u8>, values: &[u16]| values.iter().for_each(|v| file.extend(v.to_le_bytes()));
    let word = |file: &mut Vec<u8>, values: &[u32]| values.iter().for_each(|v| file.extend(v.to_le_bytes()));
    let quad = |file: &mut Vec<u8>, values: &[u64]| values.iter().for_each(|v| file.extend(v.to_le_bytes()));
    half(&mut file, &[2, 62]);
    word(&mut file, &[1]);
    quad(&mut file, &[LOAD_ADDRESS + HEADER_BYTES, 64, 0]);
    word(&mut file, &[0]);
    half(&mut file, &[64, 56, 2, 64, 0, 0]);
    word(&mut file, &[1, 5]);
    quad(&mut file, &[0, LOAD_ADDRESS, LOAD_ADDRESS, size, size, 0x1000]);
    word(&mut file, &[1, 6]);
    quad(&mut file, &[0, DATA_ADDRESS, DATA_ADDRESS, 0, DATA_BYTES, 0x1000]);
    file.extend_from_slice(code);
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_complete_elf_files() {
        for program in INTEGER {
            let file = program.elf();
            assert_eq!(&file[..4], b"\x7fELF");
            let size = u64::from_le_bytes(file[64 + 32..64 + 40].try_into().unwrap());
            assert_eq!(size, file.len() as u64, "{}", program.name);
        }
    }
}
