//! Kernels of a few bytes: a code fragment inside the smallest bzImage or PVH ELF file that loads.
//! (Linux, Documentation/arch/x86/boot.rst; Xen, docs/misc/pvh.pandoc.)

use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// Where the kernels are loaded.
const LOAD_ADDRESS: u32 = 0x100_0000;
/// The first byte behind bzImage's boot sector and one setup sector.
const PAYLOAD: usize = 1024;
/// The 64-bit entry point's distance from the payload's start.
const ENTRY_64: u32 = 0x200;
/// ACPI PM1a_CNT, and SLP_EN with the SLP_TYP of S5 that the DSDT names.
const PM1A_CONTROL: u32 = 0x604;
const POWER_OFF: u32 = 1 << 13 | 5 << 10;
/// The 8254's rate in the idle kernel: 1193182 Hz / 11932 is 100 ticks a second.
const TICK_COUNT: u32 = 11932;

/// An ELF file that is entered through its PVH note, in 32-bit protected mode without paging.
pub fn pvh(code: &[u8]) -> Vec<u8> {
    let mut file = vec![0u8; 0x200];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &[0x7f, b'E', b'L', b'F', 2, 1, 1]);
    put(16, &[2, 0, 62, 0, 1]);
    put(32, &64u64.to_le_bytes());
    put(54, &[56, 0, 2, 0]);
    let size = code.len() as u64;
    let load = [1 | 7 << 32, 0x200, 0, u64::from(LOAD_ADDRESS), size, size, 0x1000];
    let note = [4 | 4 << 32, 0x140, 0, 0, 0x18, 0x18, 4];
    for (i, field) in load.iter().chain(&note).enumerate() {
        put(64 + i * 8, &field.to_le_bytes());
    }
    // XEN_ELFNOTE_PHYS32_ENTRY: name size, description size, type, name, entry.
    put(0x140, &[4, 0, 0, 0, 8, 0, 0, 0, 18, 0, 0, 0]);
    put(0x14c, b"Xen\0");
    put(0x150, &u64::from(LOAD_ADDRESS).to_le_bytes());
    file.extend_from_slice(code);
    file
}

/// A bzImage that is entered in 64-bit mode with paging on.
pub fn bzimage(code: &[u8]) -> Vec<u8> {
    let mut image = vec![0u8; PAYLOAD + ENTRY_64 as usize];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x1f1, &[1]);
    put(0x1fe, &[0x55, 0xaa]);
    put(0x200, &[0xeb, 0x66]);
    put(0x202, b"HdrS");
    put(0x206, &0x20fu16.to_le_bytes());
    put(0x211, &[1]);
    put(0x22c, &0x7fff_ffffu32.to_le_bytes());
    put(0x230, &0x20_0000u32.to_le_bytes());
    put(0x234, &[1]);
    put(0x236, &1u16.to_le_bytes());
    put(0x238, &2047u32.to_le_bytes());
    put(0x258, &u64::from(LOAD_ADDRESS).to_le_bytes());
    put(0x260, &0x80_0000u32.to_le_bytes());
    image.extend_from_slice(code);
    image.resize(image.len().next_multiple_of(16), 0);
    let paragraphs = ((image.len() - PAYLOAD) / 16) as u32;
    image[0x1f4..0x1f8].copy_from_slice(&paragraphs.to_le_bytes());
    image
}

/// A PVH kernel that writes `text` to the first serial port and powers off.
pub fn says_and_powers_off(text: &str) -> Vec<u8> {
    let assemble = || -> Result<Vec<u8>, IcedError> {
        let mut a = CodeAssembler::new(32)?;
        for byte in text.bytes() {
            a.mov(edx, 0x3f8)?;
            a.mov(eax, u32::from(byte))?;
            a.out(dx, al)?;
        }
        power_off(&mut a)?;
        a.assemble(LOAD_ADDRESS.into())
    };
    pvh(&assemble().expect("this assembles"))
}

/// A kernel whose interrupt table is empty when it executes INT3: `bits` 32 is a PVH kernel, 64 a bzImage.
pub fn triple_faults(bits: u32) -> Vec<u8> {
    let assemble = |entry: u32| -> Result<Vec<u8>, IcedError> {
        let mut a = CodeAssembler::new(bits)?;
        let mut empty = a.create_label();
        a.mov(ebx, 0x1234_5678)?;
        if bits == 64 {
            a.lea(rax, qword_ptr(empty))?;
            a.lidt(ptr(rax))?;
        } else {
            a.lea(eax, dword_ptr(empty))?;
            a.lidt(ptr(eax))?;
        }
        a.int3()?;
        a.set_label(&mut empty)?;
        a.db(&[0; 10])?;
        a.assemble(entry.into())
    };
    match bits {
        64 => bzimage(&assemble(LOAD_ADDRESS + ENTRY_64).expect("this assembles")),
        _ => pvh(&assemble(LOAD_ADDRESS).expect("this assembles")),
    }
}

/// A PVH kernel that executes HLT until `ticks` interrupts of a 100 Hz timer have come, then powers off.
pub fn idles(ticks: u32) -> Vec<u8> {
    pvh(&assemble_idle(ticks).expect("this assembles"))
}

fn power_off(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut end = a.create_label();
    a.mov(edx, PM1A_CONTROL)?;
    a.mov(eax, POWER_OFF)?;
    a.out(dx, ax)?;
    a.set_label(&mut end)?;
    a.hlt()?;
    a.jmp(end)
}

fn out(a: &mut CodeAssembler, writes: &[(u32, u32)]) -> Result<(), IcedError> {
    for (port, value) in writes {
        a.mov(eax, *value)?;
        a.out(*port, al)?;
    }
    Ok(())
}

fn assemble_idle(ticks: u32) -> Result<Vec<u8>, IcedError> {
    const INTERRUPT_TABLE: u32 = LOAD_ADDRESS + 0x1000;
    const STACK: u32 = LOAD_ADDRESS + 0x4000;
    const VECTOR: u32 = 0x20;
    let mut a = CodeAssembler::new(32)?;
    let (mut gdt, mut gdt_register, mut idt_register) = (a.create_label(), a.create_label(), a.create_label());
    let (mut handler, mut wait) = (a.create_label(), a.create_label());
    a.mov(esp, STACK)?;
    a.lea(eax, dword_ptr(gdt))?;
    a.mov(dword_ptr(gdt_register) + 2, eax)?;
    a.lgdt(ptr(gdt_register))?;
    a.push(8)?;
    a.lea(eax, dword_ptr(wait))?;
    a.push(eax)?;
    // The gate: offset, selector 8, present 32-bit interrupt gate.
    a.lea(eax, dword_ptr(handler))?;
    a.mov(edi, INTERRUPT_TABLE + VECTOR * 8)?;
    a.mov(word_ptr(edi), ax)?;
    a.mov(word_ptr(edi + 2), 8)?;
    a.mov(word_ptr(edi + 4), 0x8e00)?;
    a.shr(eax, 16)?;
    a.mov(word_ptr(edi + 6), ax)?;
    a.lidt(ptr(idt_register))?;
    // The first 8259 at VECTOR with only IRQ 0 open, the second closed; the 8254's channel 0 in mode 2.
    out(&mut a, &[(0x20, 0x11), (0x21, VECTOR), (0x21, 4), (0x21, 1), (0x21, 0xfe), (0xa1, 0xff)])?;
    out(&mut a, &[(0x43, 0x34), (0x40, TICK_COUNT & 0xff), (0x40, TICK_COUNT >> 8)])?;
    a.xor(ebx, ebx)?;
    a.retf()?;
    a.set_label(&mut wait)?;
    a.sti()?;
    a.hlt()?;
    a.cmp(ebx, ticks as i32)?;
    a.jb(wait)?;
    power_off(&mut a)?;
    a.set_label(&mut handler)?;
    a.inc(ebx)?;
    a.mov(eax, 0x20)?;
    a.out(0x20, al)?;
    a.iretd()?;
    a.set_label(&mut gdt)?;
    a.dq(&[0, 0x00cf_9b00_0000_ffff, 0x00cf_9300_0000_ffff])?;
    a.set_label(&mut gdt_register)?;
    a.dw(&[23])?;
    a.dd(&[0])?;
    a.set_label(&mut idt_register)?;
    a.dw(&[0x7ff])?;
    a.dd(&[INTERRUPT_TABLE])?;
    a.assemble(LOAD_ADDRESS.into())
}
