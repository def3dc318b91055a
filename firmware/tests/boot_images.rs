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

/// A damaged copy of `original`: some bytes or words overwritten, with extreme values too, and half of them cut.
fn damage(original: &[u8], random: &mut Random) -> Vec<u8> {
    let mut image = original.to_vec();
    for _ in 0..1 + random.next() % 6 {
        let at = random.next() as usize % image.len().min(0x300);
        let value = match random.next() % 4 {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << (random.next() % 64),
            _ => random.next(),
        };
        let width = [1, 2, 4, 8][random.next() as usize % 4].min(image.len() - at);
        image[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
    }
    if random.next().is_multiple_of(2) {
        image.truncate(1 + random.next() as usize % image.len());
    }
    image
}

#[test]
fn damaged_images_never_panic() {
    let seed = 0x5eed_0001;
    println!("seed {seed:#x}");
    let mut random = Random(seed);
    let memory = memory(64);
    let protocols = [BootProtocol::Auto, BootProtocol::Bits64, BootProtocol::Bits32];
    for original in [bzimage(), elf()] {
        let mut loaded = 0;
        for case in 0..4000 {
            let image = damage(&original, &mut random);
            let request = request(&image, Some(b"initrd"), "quiet");
            match load(&memory, &BootRequest { protocol: protocols[case % 3], ..request }) {
                Ok(entry) => {
                    loaded += 1;
                    assert!((layout::EXTENDED..64 << 20).contains(&entry.rip), "case {case}: {entry:x?}");
                }
                Err(error) => assert!(!error.to_string().contains('\n'), "case {case}: {error}"),
            }
        }
        // The damage must leave some images whole enough to reach the loader's last steps.
        assert!(loaded > 100 && loaded < 3900, "{loaded} of 4000 loaded");
    }
    for _ in 0..1000 {
        let noise: Vec<u8> = (0..random.next() % 4096).map(|_| random.next() as u8).collect();
        assert!(load(&memory, &request(&noise, None, "")).is_err());
    }
}

#[test]
fn every_cut_of_an_image_is_an_error_that_says_so() {
    let memory = memory(64);
    for original in [bzimage(), elf()] {
        // The last paragraph of a bzImage and what follows an ELF file's last segment may be missing.
        for length in 0..original.len() - 0x70 {
            let error = load(&memory, &request(&original[..length], None, "")).expect_err("it is cut");
            let said = match error {
                LoadError::Empty => length == 0,
                LoadError::TooShort { found, needed } | LoadError::Truncated { found, needed, .. } => {
                    found == length as u64 && needed > found
                }
                _ => false,
            };
            assert!(said, "{length} bytes: {error}");
        }
    }
}

/// Overwrites bytes of an image.
fn with(mut image: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    image[at..at + bytes.len()].copy_from_slice(bytes);
    image
}

#[test]
fn foreign_files_are_named() {
    let memory = memory(64);
    let cases: &[(usize, &[u8], &str)] = &[
        (0, &[0x1f, 0x8b], "gzip"),
        (0, b"PK\x03\x04", "zip"),
        (0, b"070701", "cpio"),
        (0, b"#!/bin/sh", "script"),
        (0, b"<!DOCTYPE html>", "web page"),
        (0x38, b"ARM\x64", "arm64 kernel"),
        (0x8001, b"CD001", "ISO"),
        (0x1fe, &[0x55, 0xaa], "boot sector"),
        (0, b"MZ", "EFI executable"),
        (0, &[0], "zeros"),
        (0, &[0xfe], "unknown"),
    ];
    for (at, magic, name) in cases {
        let file = with(vec![0; 0x9000], *at, magic);
        let said = load(&memory, &request(&file, None, "")).expect_err("it is no kernel").to_string();
        assert!(said.contains(name), "{name}: {said}");
    }
    let said = load(&memory, &request(&b"words ".repeat(200), None, "")).unwrap_err().to_string();
    assert!(said.contains("a text file"), "{said}");
}

#[test]
fn damaged_fields_have_their_own_errors() {
    let memory = memory(64);
    let error = |kernel: &[u8]| load(&memory, &request(kernel, None, "")).expect_err("it is damaged");
    assert_eq!(error(&with(bzimage(), 0x211, &[0])), LoadError::LoadsLow);
    let damaged = [
        ("boot signature", with(bzimage(), 0x1fe, &[0, 0])),
        ("syssize", with(bzimage(), 0x1f4, &1u32.to_le_bytes())),
        ("pref_address below 1 MiB", with(bzimage(), 0x258, &0x1000u64.to_le_bytes())),
        ("pref_address above 2 GiB", with(bzimage(), 0x258, &u64::MAX.to_le_bytes())),
        ("init_size", with(bzimage(), 0x260, &u32::MAX.to_le_bytes())),
        ("entry outside", with(elf(), 0x150, &0x200_0000u64.to_le_bytes())),
        ("file larger than memory", with(elf(), 64 + 40, &8u64.to_le_bytes())),
        ("segment above 3 GiB", with(elf(), 64 + 24, &(u64::MAX - 8).to_le_bytes())),
    ];
    for (name, kernel) in damaged {
        assert!(matches!(error(&kernel), LoadError::DamagedHeader(_)), "{name}: {}", error(&kernel));
    }
    let low = with(elf(), 64 + 24, &0x8000u64.to_le_bytes());
    // Its entry is judged with its segments, so the segment's own fault comes first.
    assert!(matches!(error(&low), LoadError::SegmentTooLow { address: 0x8000, bytes: 0x2000 }));
    let no_64bit = with(bzimage(), 0x236, &[0]);
    let bits64 = BootRequest { protocol: BootProtocol::Bits64, ..request(&no_64bit, None, "") };
    assert_eq!(load(&memory, &bits64), Err(LoadError::No64BitEntry));
    assert_eq!(load(&memory, &request(&no_64bit, None, "")).unwrap().mode, EntryMode::Protected32);
}

#[test]
fn an_elf_file_cannot_fill_memory_again_and_again() {
    let mut file = with(elf(), 56, &500u16.to_le_bytes());
    file.resize(64 + 500 * 56 + 0x20, 0);
    let note: Vec<u8> = file[0x140..0x158].to_vec();
    let end = file.len() - 0x20;
    file[end..end + 24].copy_from_slice(&note);
    file[128..136].copy_from_slice(&(end as u64).to_le_bytes());
    let segment: Vec<u8> =
        [0u64, 0, 0x10_0000, 0, 62 << 20, 0].iter().flat_map(|v| v.to_le_bytes()).collect();
    for header in file[64..end].chunks_mut(56).filter(|header| header[0] != 4) {
        header[..8].copy_from_slice(&1u64.to_le_bytes());
        header[8..].copy_from_slice(&segment);
    }
    let error = load(&memory(64), &request(&file, None, "")).unwrap_err();
    assert_eq!(error, LoadError::DamagedHeader("its segments overlap"));
}

#[test]
fn advice_about_memory_is_enough() {
    let image = bzimage();
    let initrd = vec![1; (48 << 20) + 5];
    let error = load(&memory(64), &request(&image, Some(&initrd), "")).unwrap_err();
    let LoadError::InitrdTooLarge { needed: Some(needed), .. } = error else { panic!("{error}") };
    let mib = needed.div_ceil(1 << 20);
    assert!(error.to_string().contains(&format!("--memory {mib}M")), "{error}");
    load(&memory(mib), &request(&image, Some(&initrd), "")).expect("the advice was followed");
    // The kernel's own limit: memory cannot help.
    let limited = with(image, 0x22c, &0x1ff_ffffu32.to_le_bytes());
    let error = load(&memory(512), &request(&limited, Some(&initrd), "")).unwrap_err();
    assert!(matches!(error, LoadError::InitrdTooLarge { needed: None, .. }), "{error}");
    let large = with(bzimage(), 0x260, &(80u32 << 20).to_le_bytes());
    let error = load(&memory(64), &request(&large, None, "")).unwrap_err();
    assert_eq!(error, LoadError::TooLittleMemory { needed: 96 << 20, available: 64 << 20 });
    load(&memory(96), &request(&large, None, "")).expect("the advice was followed");
}

#[test]
fn the_zero_page_says_where_everything_is() {
    let memory = memory(5120);
    let image = with(bzimage(), 0x22c, &0x2fff_ffffu32.to_le_bytes());
    load(&memory, &request(&image, Some(&[1; 5000]), "quiet")).unwrap();
    let page: [u8; 4096] = read(&memory, layout::BOOT_PARAMS);
    let word = |at: usize| u32::from_le_bytes(page[at..at + 4].try_into().unwrap());
    assert_eq!(&page[0x202..0x206], b"HdrS");
    assert_eq!((page[0x210], page[0x211] & 1, page[0x0f]), (0xff, 1, 0), "loader, LOADED_HIGH, no VGA");
    assert_eq!((word(0x218), word(0x21c)), (0x2fff_e000, 5000), "the highest page below initrd_addr_max");
    assert_eq!(u64::from(word(0x228)), layout::COMMAND_LINE);
    assert_eq!(u64::from(word(0x070)), layout::ACPI_TABLES);
    let node: [u8; 48] = read(&memory, u64::from(word(0x250)));
    assert_eq!(node[..16], [0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 32, 0, 0, 0]);
    assert_eq!(node[16..], [7; 32]);
    let ranges = usize::from(page[0x1e8]);
    let range = |i: usize| -> (u64, u64, u32) {
        let at = 0x2d0 + i * 20;
        let quad = |at: usize| u64::from_le_bytes(page[at..at + 8].try_into().unwrap());
        (quad(at), quad(at + 8), word(at + 16))
    };
    let map: Vec<_> = (0..ranges).map(range).collect();
    let expected = [
        (0, 0x9_fc00, 1),
        (0x9_fc00, 0x400, 2),
        (0xe_0000, 0x2_0000, 2),
        (0x10_0000, 0xbff0_0000, 1),
        (1 << 32, 2 << 30, 1),
    ];
    assert_eq!(map, expected);
}

#[test]
fn pvh_start_info_says_where_everything_is() {
    let memory = memory(128);
    let entry = load(&memory, &request(&elf(), Some(b"module"), "quiet")).unwrap();
    let info: [u8; 0x60] = read(&memory, entry.rbx);
    let word = |at: usize| u32::from_le_bytes(info[at..at + 4].try_into().unwrap());
    let quad = |at: usize| u64::from_le_bytes(info[at..at + 8].try_into().unwrap());
    assert_eq!((word(4), word(8), word(12)), (1, 0, 1), "version, flags, modules");
    assert_eq!(read::<6>(&memory, quad(24)), *b"quiet\0");
    assert_eq!(quad(32), layout::ACPI_TABLES);
    let module: [u8; 32] = read(&memory, quad(16));
    let (at, bytes) = module.split_at(8);
    assert_eq!(bytes[..8], 6u64.to_le_bytes());
    assert_eq!(read::<6>(&memory, u64::from_le_bytes(at.try_into().unwrap())), *b"module");
    assert_eq!(word(48), 4);
    let last: [u8; 24] = read(&memory, quad(40) + 3 * 24);
    let expected: Vec<u8> = [0x10_0000u64, 127 << 20, 1].iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(last[..], expected);
    let long = "x".repeat(2048);
    let error = load(&memory, &request(&elf(), None, &long)).unwrap_err();
    assert_eq!(error, LoadError::CommandLineTooLong { length: 2048, limit: 2047 });
}

#[test]
fn the_entry_state_follows_the_protocol() {
    let memory = memory(64);
    let image = bzimage();
    let long = load(&memory, &request(&image, None, "")).unwrap();
    assert_eq!((long.cr0, long.cr4, long.efer, long.rflags), (0x8000_0011, 0x20, 0x500, 2));
    let flat = load(&memory, &BootRequest { protocol: BootProtocol::Bits32, ..request(&image, None, "") });
    let flat = flat.unwrap();
    assert_eq!((flat.cr0, flat.cr4, flat.efer, flat.rflags), (0x11, 0, 0, 2));
    assert_eq!((long.code.selector, long.data.selector, long.gdt_limit), (0x10, 0x18, 47));
    assert_eq!((long.code.access, flat.code.access, flat.data.access), (0xa09b, 0xc09b, 0xc093));
    // The last load wrote the 32-bit descriptors: base 0, limit 4 GiB.
    let gdt: [u8; 32] = read(&memory, flat.gdt_base);
    assert_eq!(u64::from_le_bytes(gdt[16..24].try_into().unwrap()), 0x00cf_9b00_0000_ffff);
    assert_eq!(u64::from_le_bytes(gdt[24..].try_into().unwrap()), 0x00cf_9300_0000_ffff);
    // A walk of the tables for the last 2 MiB below 4 GiB.
    let EntryMode::Long64 { cr3 } = long.mode else { panic!("{long:?}") };
    let entry = |table: u64, index: u64| u64::from_le_bytes(read(&memory, (table & !0xfff) + index * 8));
    assert_eq!(entry(entry(entry(cr3, 0), 3), 511), 0xffe0_0083);
}

#[test]
fn the_madt_names_every_processor() {
    let memory = memory(64);
    for (cpus, expected) in [(1, [1, 0, 1, 0]), (255, [255, 0, 1, 0]), (300, [255, 45, 1, 1])] {
        rx86_firmware::acpi::write_tables(&memory, cpus).unwrap();
        let area: Vec<u8> = read::<0x2_0000>(&memory, layout::ACPI_TABLES).to_vec();
        let at = (0..area.len()).step_by(16).find(|&at| area[at..].starts_with(b"APIC")).expect("a MADT");
        let bytes = u32::from_le_bytes(area[at + 4..at + 8].try_into().unwrap()) as usize;
        let mut entries = &area[at + 44..at + bytes];
        let mut counts = [0u32; 256];
        while let [kind, length, ..] = *entries {
            counts[usize::from(kind)] += 1;
            entries = &entries[usize::from(length)..];
        }
        assert_eq!([counts[0], counts[9], counts[4], counts[10]], expected, "{cpus} processors");
        assert_eq!((counts[1], counts[2]), (1, 2), "an I/O APIC and two overrides");
    }
    let limit = rx86_firmware::acpi::MAX_CPUS;
    rx86_firmware::acpi::write_tables(&memory, limit).expect("there is room for the limit");
    for cpus in [0, limit + 1, u32::MAX] {
        let error = rx86_firmware::acpi::write_tables(&memory, cpus);
        assert_eq!(error, Err(LoadError::CpuCount { cpus, limit }));
    }
}
