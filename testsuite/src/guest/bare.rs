//! Guests without an operating system: a few instructions in an ELF file with a PVH entry (32-bit protected mode, flat),
//! or in a bzImage that is entered in 64-bit mode.

use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// Where the code is loaded and entered.
const LOAD_ADDRESS: u64 = 0x10_0000;
/// Offset of the code in the file.
const CODE_OFFSET: u64 = 0x1000;
const NOTE_OFFSET: u64 = 0x200;
/// The first serial port's data register.
const SERIAL: i32 = 0x3f8;
/// PM1a control: SLP_TYP 5 and SLP_EN power the board off.
const PM1A_CONTROL: i32 = 0x604;
const POWER_OFF: i32 = 5 << 10 | 1 << 13;

/// An ELF file that is entered at the first byte of what `body` emits.
pub fn guest(body: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>) -> Vec<u8> {
    let mut a = CodeAssembler::new(32).expect("32-bit code can be assembled");
    body(&mut a).expect("the body assembles");
    elf(&a.assemble(LOAD_ADDRESS).expect("the body assembles"))
}

/// Writes `text` to the serial port.
pub fn print(a: &mut CodeAssembler, text: &str) -> Result<(), IcedError> {
    a.mov(edx, SERIAL)?;
    for byte in text.bytes() {
        a.mov(al, i32::from(byte))?;
        a.out(dx, al)?;
    }
    Ok(())
}

/// Powers the board off, and halts should it not.
pub fn power_off(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.mov(edx, PM1A_CONTROL)?;
    a.mov(eax, POWER_OFF)?;
    a.out(dx, ax)?;
    a.cli()?;
    a.hlt()
}

/// A bzImage of protocol 2.15 that is entered, in 64-bit mode with paging on, at the first byte of what `body` emits.
pub fn long_mode_guest(body: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>) -> Vec<u8> {
    const KERNEL: u64 = 0x100_0000;
    /// The 64-bit entry point's distance from the kernel's start (Linux, Documentation/arch/x86/boot.rst).
    const ENTRY: u64 = 0x200;
    /// A boot sector and one setup sector.
    const SETUP_BYTES: usize = 1024;
    let mut a = CodeAssembler::new(64).expect("64-bit code can be assembled");
    body(&mut a).expect("the body assembles");
    let code = a.assemble(KERNEL + ENTRY).expect("the body assembles");
    let payload_bytes = (ENTRY as usize + code.len()).next_multiple_of(16);
    let mut image = vec![0u8; SETUP_BYTES + payload_bytes];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x1f1, &[1]);
    put(0x1f4, &(payload_bytes as u32 / 16).to_le_bytes());
    put(0x1fe, &[0x55, 0xaa]);
    put(0x200, &[0xeb, 0x66]);
    put(0x202, b"HdrS");
    put(0x206, &0x20fu16.to_le_bytes());
    // loadflags: LOADED_HIGH.
    put(0x211, &[1]);
    put(0x22c, &0x7fff_ffffu32.to_le_bytes());
    put(0x230, &0x20_0000u32.to_le_bytes());
    // relocatable_kernel, and XLF_KERNEL_64.
    put(0x234, &[1]);
    put(0x236, &[1]);
    put(0x238, &2047u32.to_le_bytes());
    put(0x258, &KERNEL.to_le_bytes());
    put(0x260, &0x10_0000u32.to_le_bytes());
    put(SETUP_BYTES + ENTRY as usize, &code);
    image
}

/// ELF64 with a load segment and Xen's PHYS32_ENTRY note.
fn elf(code: &[u8]) -> Vec<u8> {
    let mut file = vec![0u8; CODE_OFFSET as usize];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &[0x7f, b'E', b'L', b'F', 2, 1, 1]);
    put(16, &[2, 0, 62, 0, 1]);
    put(24, &LOAD_ADDRESS.to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(52, &[64, 0, 56, 0, 2, 0]);
    let size = code.len() as u64;
    put(64, &[1, 0, 0, 0, 5]);
    for (i, value) in [CODE_OFFSET, LOAD_ADDRESS, LOAD_ADDRESS, size, size, 0x1000].iter().enumerate() {
        put(72 + i * 8, &value.to_le_bytes());
    }
    put(120, &[4, 0, 0, 0, 4]);
    for (i, value) in [NOTE_OFFSET, 0, 0, 24, 24, 4].iter().enumerate() {
        put(128 + i * 8, &value.to_le_bytes());
    }
    let note = NOTE_OFFSET as usize;
    put(note, &[4, 0, 0, 0, 8, 0, 0, 0, 18, 0, 0, 0, b'X', b'e', b'n', 0]);
    put(note + 16, &LOAD_ADDRESS.to_le_bytes());
    file.extend_from_slice(code);
    file
}
