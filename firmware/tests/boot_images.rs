//! Loading synthetic kernels: what lands where, every error, and no panic on damaged files.

use rx86_firmware::{BootProtocol, BootRequest, EntryMode, LoadError, layout, load};
use rx86_softmmu::GuestMemory;
use std::sync::Arc;

const PREFERRED: u64 = 0x100_0000;

fn memory(mib: u64) -> Arc<GuestMemory> {
    GuestMemory::new(mib << 20).expect("the host has this much address space")
}

/// A bzImage of protocol 2.15 with one setup sector and a small payload.
fn bzimage() -> Vec<u8> {
    let mut image = vec![0u8; 1024 + 0x1000];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x1f1, &[1]);
    put(0x1f4, &0x100u32.to_le_bytes());
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
    put(0x258, &PREFERRED.to_le_bytes());
    put(0x260, &0x80_0000u32.to_le_bytes());
    put(1024, b"payload");
    image
}

/// An ELF64 file with a PVH note and one segment.
fn elf() -> Vec<u8> {
    let mut file = vec![0u8; 0x200];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &[0x7f, b'E', b'L', b'F', 2, 1, 1]);
    put(16, &2u16.to_le_bytes());
    put(18, &62u16.to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(54, &56u16.to_le_bytes());
    put(56, &2u16.to_le_bytes());
    put(64, &1u32.to_le_bytes());
    for (i, value) in [0x180u64, 0, 0x100_0000, 0x20, 0x2000, 0x1000].iter().enumerate() {
        put(64 + 8 + i * 8, &value.to_le_bytes());
    }
    put(120, &4u32.to_le_bytes());
    for (i, value) in [0x140u64, 0, 0, 0x18, 0x18, 4].iter().enumerate() {
        put(120 + 8 + i * 8, &value.to_le_bytes());
    }
    put(0x140, &[4, 0, 0, 0, 8, 0, 0, 0, 18, 0, 0, 0]);
    put(0x14c, b"Xen\0");
    put(0x150, &0x100_0040u64.to_le_bytes());
    put(0x180, b"segment");
    file
}

fn request<'a>(kernel: &'a [u8], initrd: Option<&'a [u8]>, cmdline: &'a str) -> BootRequest<'a> {
    BootRequest { kernel, initrd, cmdline, cpus: 1, rng_seed: [7; 32], protocol: BootProtocol::Auto }
}

fn read<const N: usize>(memory: &GuestMemory, gpa: u64) -> [u8; N] {
    let mut data = [0; N];
    memory.read(gpa, &mut data).expect("the address is RAM");
    data
}

#[test]
fn a_bzimage_lands_with_its_initrd_and_command_line() {
    let memory = memory(128);
    let image = bzimage();
    let entry = load(&memory, &request(&image, Some(b"initrd"), "console=ttyS0")).unwrap();
    assert_eq!(entry.rip, PREFERRED + 0x200);
    assert_eq!(entry.rsi, layout::BOOT_PARAMS);
    assert!(matches!(entry.mode, EntryMode::Long64 { .. }));
    assert_eq!(&read::<7>(&memory, PREFERRED), b"payload");
    assert_eq!(&read::<14>(&memory, layout::COMMAND_LINE), b"console=ttyS0\0");
    let initrd = u32::from_le_bytes(read(&memory, layout::BOOT_PARAMS + 0x218));
    assert_eq!(u64::from(initrd), (128 << 20) - 0x1000);
    assert_eq!(&read::<6>(&memory, u64::from(initrd)), b"initrd");
    assert_eq!(&read::<8>(&memory, layout::ACPI_TABLES), b"RSD PTR ");
}

#[test]
fn the_32_bit_protocol_enters_at_the_payload() {
    let memory = memory(64);
    let image = bzimage();
    let request = BootRequest { protocol: BootProtocol::Bits32, ..request(&image, None, "") };
    let entry = load(&memory, &request).unwrap();
    assert_eq!((entry.mode, entry.rip), (EntryMode::Protected32, PREFERRED));
}

#[test]
fn an_elf_kernel_is_entered_through_its_note() {
    let memory = memory(64);
    let file = elf();
    let entry = load(&memory, &request(&file, Some(b"module"), "quiet")).unwrap();
    assert_eq!((entry.mode, entry.rip), (EntryMode::Protected32, 0x100_0040));
    assert_eq!(u32::from_le_bytes(read(&memory, entry.rbx)), 0x336e_c578);
    assert_eq!(&read::<7>(&memory, 0x100_0000), b"segment");
}

#[test]
fn every_acpi_table_sums_to_zero() {
    let memory = memory(64);
    rx86_firmware::acpi::write_tables(&memory, 300).unwrap();
    let rsdp: [u8; 36] = read(&memory, layout::ACPI_TABLES);
    let sum = |bytes: &[u8]| bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    assert_eq!((sum(&rsdp[..20]), sum(&rsdp)), (0, 0));
    let table = |address: u64| {
        let length = u32::from_le_bytes(read(&memory, address + 4)) as usize;
        let mut bytes = vec![0; length];
        memory.read(address, &mut bytes).unwrap();
        assert_eq!(sum(&bytes), 0, "{}", String::from_utf8_lossy(&bytes[..4]));
        bytes
    };
    let xsdt = table(u64::from_le_bytes(rsdp[24..32].try_into().unwrap()));
    let mut names = Vec::new();
    for entry in xsdt[36..].chunks(8) {
        let bytes = table(u64::from_le_bytes(entry.try_into().unwrap()));
        if &bytes[..4] == b"FACP" {
            let dsdt = table(u64::from_le_bytes(bytes[140..148].try_into().unwrap()));
            assert_eq!(&dsdt[..4], b"DSDT");
        }
        names.push(String::from_utf8_lossy(&bytes[..4]).into_owned());
    }
    assert_eq!(names, ["FACP", "APIC"]);
}

#[test]
fn each_bad_input_has_its_own_error() {
    let small = memory(64);
    let fails = |kernel: &[u8], initrd: Option<&[u8]>, cmdline: &str| {
        load(&small, &request(kernel, initrd, cmdline)).expect_err("this must not load")
    };
    assert_eq!(fails(b"", None, ""), LoadError::Empty);
    assert!(matches!(fails(b"#!/bin/sh\n", None, ""), LoadError::NotAKernel { found: "a script" }));
    assert!(matches!(fails(&[0x1f, 0x8b, 8, 0], None, ""), LoadError::NotAKernel { .. }));
    let image = bzimage();
    assert!(matches!(fails(&image[..2000], None, ""), LoadError::Truncated { .. }));
    assert!(matches!(fails(&image[..0x220], None, ""), LoadError::Truncated { .. }));
    assert_eq!(fails(&image, Some(b""), ""), LoadError::InitrdEmpty);
    let huge = vec![0; 60 << 20];
    assert!(matches!(fails(&image, Some(&huge), ""), LoadError::InitrdTooLarge { .. }));
    let long = "x".repeat(2048);
    assert_eq!(fails(&image, None, &long), LoadError::CommandLineTooLong { length: 2048, limit: 2047 });
    assert_eq!(fails(&image, None, "a\0b"), LoadError::CommandLineZeroByte);
    let mut old = image.clone();
    old[0x206..0x208].copy_from_slice(&0x205u16.to_le_bytes());
    assert_eq!(fails(&old, None, ""), LoadError::ProtocolTooOld { major: 2, minor: 5 });
    let mut large = image.clone();
    large[0x260..0x264].copy_from_slice(&0x1000_0000u32.to_le_bytes());
    assert!(matches!(fails(&large, None, ""), LoadError::TooLittleMemory { .. }));
    let mut no_note = elf();
    no_note[0x14c] = b'Y';
    assert_eq!(fails(&no_note, None, ""), LoadError::NoPvhEntry);
    let mut arm = elf();
    arm[18] = 183;
    assert!(matches!(fails(&arm, None, ""), LoadError::ForeignElf(_)));
}

/// A small generator, so that a failure can be repeated from the printed seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[test]
fn damaged_images_never_panic() {
    let seed = 0x5eed_0001;
    println!("seed {seed:#x}");
    let mut random = Random(seed);
    let memory = memory(64);
    for original in [bzimage(), elf()] {
        for _ in 0..4000 {
            let mut image = original.clone();
            for _ in 0..1 + random.next() % 6 {
                let at = random.next() as usize % image.len().min(0x300);
                image[at] = random.next() as u8;
            }
            image.truncate(1 + random.next() as usize % image.len());
            let _ = load(&memory, &request(&image, Some(b"initrd"), "quiet"));
        }
    }
    for _ in 0..1000 {
        let noise: Vec<u8> = (0..random.next() % 4096).map(|_| random.next() as u8).collect();
        assert!(load(&memory, &request(&noise, None, "")).is_err());
    }
}
