//! Linux bzImage by the 64-bit and the 32-bit boot protocol (Linux, Documentation/arch/x86/boot.rst).

use crate::BootRequest;
use crate::bytes::Fields;
use crate::e820::{Range, below_4g, low_ram_end, memory_map};
use crate::entry::{Entry, EntryMode, identity_page_tables};
use crate::error::LoadError;
use crate::layout::{ACPI_TABLES, BOOT_PARAMS, COMMAND_LINE, COMMAND_LINE_BYTES, EXTENDED, SETUP_DATA};
use rx86_softmmu::GuestMemory;
use rx86_softmmu::memory::LOW_RAM_LIMIT;

/// Offsets in the image, which are also offsets in `boot_params`.
mod field {
    pub(super) const ACPI_RSDP: usize = 0x070;
    pub(super) const EXT_RAMDISK_IMAGE: usize = 0x0c0;
    pub(super) const EXT_RAMDISK_SIZE: usize = 0x0c4;
    pub(super) const ALT_MEM_K: usize = 0x1e0;
    pub(super) const E820_ENTRIES: usize = 0x1e8;
    pub(super) const SETUP_SECTS: usize = 0x1f1;
    pub(super) const SYSSIZE: usize = 0x1f4;
    pub(super) const VID_MODE: usize = 0x1fa;
    pub(super) const BOOT_FLAG: usize = 0x1fe;
    pub(super) const JUMP: usize = 0x201;
    pub(super) const HEADER_MAGIC: usize = 0x202;
    pub(super) const VERSION: usize = 0x206;
    pub(super) const TYPE_OF_LOADER: usize = 0x210;
    pub(super) const LOADFLAGS: usize = 0x211;
    pub(super) const RAMDISK_IMAGE: usize = 0x218;
    pub(super) const RAMDISK_SIZE: usize = 0x21c;
    pub(super) const HEAP_END: usize = 0x224;
    pub(super) const CMD_LINE_PTR: usize = 0x228;
    pub(super) const INITRD_ADDR_MAX: usize = 0x22c;
    pub(super) const KERNEL_ALIGNMENT: usize = 0x230;
    pub(super) const RELOCATABLE: usize = 0x234;
    pub(super) const XLOADFLAGS: usize = 0x236;
    pub(super) const CMDLINE_SIZE: usize = 0x238;
    pub(super) const SETUP_DATA: usize = 0x250;
    pub(super) const PREF_ADDRESS: usize = 0x258;
    pub(super) const INIT_SIZE: usize = 0x260;
    pub(super) const E820_TABLE: usize = 0x2d0;
}

/// Bytes of a file up to the end of the header fields that are read here.
pub(crate) const HEADER_BYTES: usize = field::INIT_SIZE + 4;
/// Entries that `boot_params` has room for.
const E820_MAX: usize = 128;
/// `setup_data` type SETUP_RNG_SEED.
const SETUP_RNG_SEED: u32 = 9;
/// loadflags: the protected-mode code loads high.
const LOADED_HIGH: u8 = 1;
/// loadflags: `heap_end_ptr` is valid.
const CAN_USE_HEAP: u8 = 0x80;
/// xloadflags: there is a 64-bit entry at 0x200.
const XLF_KERNEL_64: u16 = 1;
/// Where the 64-bit entry is, from the start of the protected-mode code.
const ENTRY_64: u64 = 0x200;

/// Which boot protocol enters a bzImage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BootProtocol {
    /// 64-bit if the kernel has that entry, else 32-bit.
    #[default]
    Auto,
    /// The 64-bit protocol.
    Bits64,
    /// The 32-bit protocol.
    Bits32,
}

/// What the header says.
struct Header {
    setup_bytes: usize,
    payload_bytes: u64,
    has_64bit_entry: bool,
    /// Where the decompressed kernel wants to run, and the bytes it needs there.
    preferred: u64,
    init_bytes: u64,
    alignment: u64,
    relocatable: bool,
    initrd_max: u64,
    cmdline_limit: u64,
}

/// Whether `file` carries the boot protocol's magic number.
pub(crate) fn is_bzimage(file: &[u8]) -> bool {
    file.get(field::HEADER_MAGIC..field::HEADER_MAGIC + 4) == Some(b"HdrS")
}

fn parse(file: &[u8]) -> Result<Header, LoadError> {
    let fields = Fields(file);
    let truncated =
        |needed: u64| LoadError::Truncated { part: "the setup header", needed, found: file.len() as u64 };
    let short = || truncated(HEADER_BYTES as u64);
    let version = fields.u16(field::VERSION).ok_or_else(short)?;
    if version < 0x206 {
        return Err(LoadError::ProtocolTooOld { major: (version >> 8) as u8, minor: version as u8 });
    }
    if fields.u16(field::BOOT_FLAG) != Some(0xaa55) {
        return Err(LoadError::DamagedHeader("the boot sector's signature is missing"));
    }
    if fields.u8(field::LOADFLAGS).ok_or_else(short)? & LOADED_HIGH == 0 {
        return Err(LoadError::LoadsLow);
    }
    let sectors = match fields.u8(field::SETUP_SECTS).ok_or_else(short)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let setup_bytes = (sectors + 1) * 512;
    let payload_bytes = u64::from(fields.u32(field::SYSSIZE).ok_or_else(short)?) * 16;
    let needed = setup_bytes as u64 + payload_bytes;
    // `syssize` counts paragraphs, rounded up: the last one may be short.
    if (file.len() as u64) + 15 < needed {
        let part = "the compressed kernel";
        return Err(LoadError::Truncated { part, needed, found: file.len() as u64 });
    }
    if payload_bytes <= ENTRY_64 {
        return Err(LoadError::DamagedHeader("its syssize leaves no room for a kernel"));
    }
    // Fields newer than the header's version read as what follows it, so they are used only where they exist.
    let since = |minimum: u16, value: u64, default: u64| if version >= minimum { value } else { default };
    let alignment = u64::from(fields.u32(field::KERNEL_ALIGNMENT).ok_or_else(short)?);
    let preferred = since(0x20a, fields.u64(field::PREF_ADDRESS).ok_or_else(short)?, EXTENDED);
    let init_bytes =
        since(0x20a, u64::from(fields.u32(field::INIT_SIZE).ok_or_else(short)?), payload_bytes * 4);
    if !(EXTENDED..1 << 31).contains(&preferred) || init_bytes < payload_bytes {
        return Err(LoadError::DamagedHeader("its load address or size is out of range"));
    }
    Ok(Header {
        setup_bytes,
        payload_bytes,
        has_64bit_entry: version >= 0x20c
            && fields.u16(field::XLOADFLAGS).ok_or_else(short)? & XLF_KERNEL_64 != 0,
        preferred,
        init_bytes,
        alignment: alignment.clamp(0x1000, 1 << 24).next_power_of_two(),
        relocatable: fields.u8(field::RELOCATABLE).ok_or_else(short)? != 0,
        initrd_max: u64::from(fields.u32(field::INITRD_ADDR_MAX).ok_or_else(short)?),
        cmdline_limit: u64::from(fields.u32(field::CMDLINE_SIZE).ok_or_else(short)?),
    })
}

/// Loads a bzImage.
pub(crate) fn load(memory: &GuestMemory, request: &BootRequest<'_>) -> Result<Entry, LoadError> {
    let header = parse(request.kernel)?;
    let long = match request.protocol {
        BootProtocol::Bits64 if !header.has_64bit_entry => return Err(LoadError::No64BitEntry),
        BootProtocol::Auto | BootProtocol::Bits64 => header.has_64bit_entry,
        BootProtocol::Bits32 => false,
    };
    let load_address = place_kernel(memory, &header)?;
    let end = (header.setup_bytes as u64 + header.payload_bytes).min(request.kernel.len() as u64);
    let payload = &request.kernel[header.setup_bytes..end as usize];
    memory.write(load_address, payload).map_err(|_| too_little(memory, load_address + header.init_bytes))?;

    let kernel_end = header.preferred.max(load_address) + header.init_bytes;
    let initrd = place_initrd(memory, request, kernel_end, header.initrd_max)?;
    write_command_line(memory, request.cmdline, header.cmdline_limit.min(COMMAND_LINE_BYTES - 1))?;
    write_setup_data(memory, request)?;
    let params = boot_params(request.kernel, &memory_map(memory), initrd, low_ram_end(memory));
    memory.write(BOOT_PARAMS, &params).map_err(|_| LoadError::NoRoomForTables)?;

    let entry = if long {
        let mode = EntryMode::Long64 { cr3: identity_page_tables(memory)? };
        Entry::new(memory, mode, load_address + ENTRY_64)?
    } else {
        Entry::new(memory, EntryMode::Protected32, load_address)?
    };
    Ok(Entry { rsi: BOOT_PARAMS, ..entry })
}

pub(crate) fn too_little(memory: &GuestMemory, needed: u64) -> LoadError {
    LoadError::TooLittleMemory { needed, available: below_4g(memory) }
}

/// The kernel goes to its preferred address; it would move itself there anyway.
fn place_kernel(memory: &GuestMemory, header: &Header) -> Result<u64, LoadError> {
    let address = if header.relocatable {
        header.preferred.next_multiple_of(header.alignment)
    } else {
        header.preferred
    };
    let end = address + header.init_bytes;
    if end > LOW_RAM_LIMIT {
        return Err(LoadError::DamagedHeader("its init_size reaches above 3 GiB"));
    }
    if end > low_ram_end(memory) {
        return Err(too_little(memory, end));
    }
    Ok(address)
}

/// Puts the initrd as high as the kernel allows; returns its address and length.
pub(crate) fn place_initrd(
    memory: &GuestMemory,
    request: &BootRequest<'_>,
    kernel_end: u64,
    highest: u64,
) -> Result<Option<(u64, u64)>, LoadError> {
    let Some(initrd) = request.initrd else { return Ok(None) };
    if initrd.is_empty() {
        return Err(LoadError::InitrdEmpty);
    }
    let bytes = initrd.len() as u64;
    let ceiling = low_ram_end(memory).min(highest.saturating_add(1));
    let room = ceiling.saturating_sub(kernel_end);
    let address = ceiling.saturating_sub(bytes) & !0xfff;
    let end = kernel_end.next_multiple_of(0x1000) + bytes.next_multiple_of(0x1000);
    let needed = (end <= LOW_RAM_LIMIT.min(highest.saturating_add(1))).then_some(end);
    let too_large = LoadError::InitrdTooLarge { bytes, room, needed };
    if bytes > room || address < kernel_end {
        return Err(too_large);
    }
    memory.write(address, initrd).map_err(|_| too_large)?;
    Ok(Some((address, bytes)))
}

/// Writes the command line with its final zero.
pub(crate) fn write_command_line(memory: &GuestMemory, cmdline: &str, limit: u64) -> Result<(), LoadError> {
    let length = cmdline.len() as u64;
    if length > limit {
        return Err(LoadError::CommandLineTooLong { length, limit });
    }
    if cmdline.bytes().any(|byte| byte == 0) {
        return Err(LoadError::CommandLineZeroByte);
    }
    let mut bytes = cmdline.as_bytes().to_vec();
    bytes.push(0);
    memory.write(COMMAND_LINE, &bytes).map_err(|_| LoadError::NoRoomForTables)
}

/// One `setup_data` node: the seed of the kernel's random number generator.
fn write_setup_data(memory: &GuestMemory, request: &BootRequest<'_>) -> Result<(), LoadError> {
    let mut node = vec![0; 8];
    node.extend(SETUP_RNG_SEED.to_le_bytes());
    node.extend((request.rng_seed.len() as u32).to_le_bytes());
    node.extend(request.rng_seed);
    memory.write(SETUP_DATA, &node).map_err(|_| LoadError::NoRoomForTables)
}

/// The zero page.
fn boot_params(kernel: &[u8], map: &[Range], initrd: Option<(u64, u64)>, low_end: u64) -> Vec<u8> {
    let mut page = vec![0u8; 4096];
    // The header is copied as far as its jump instruction says it reaches.
    let header_end = (field::HEADER_MAGIC + usize::from(kernel[field::JUMP])).min(kernel.len()).min(0x290);
    page[field::SETUP_SECTS..header_end].copy_from_slice(&kernel[field::SETUP_SECTS..header_end]);
    let mut put = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
    put(field::TYPE_OF_LOADER, &[0xff]);
    put(field::LOADFLAGS, &[kernel[field::LOADFLAGS] | CAN_USE_HEAP]);
    put(field::HEAP_END, &0xfe00u16.to_le_bytes());
    put(field::VID_MODE, &0xffffu16.to_le_bytes());
    put(field::CMD_LINE_PTR, &(COMMAND_LINE as u32).to_le_bytes());
    put(field::SETUP_DATA, &SETUP_DATA.to_le_bytes());
    put(field::ACPI_RSDP, &ACPI_TABLES.to_le_bytes());
    put(field::ALT_MEM_K, &((low_end.saturating_sub(EXTENDED) >> 10) as u32).to_le_bytes());
    let (address, bytes) = initrd.unwrap_or((0, 0));
    put(field::RAMDISK_IMAGE, &(address as u32).to_le_bytes());
    put(field::RAMDISK_SIZE, &(bytes as u32).to_le_bytes());
    put(field::EXT_RAMDISK_IMAGE, &((address >> 32) as u32).to_le_bytes());
    put(field::EXT_RAMDISK_SIZE, &((bytes >> 32) as u32).to_le_bytes());
    put(field::E820_ENTRIES, &[map.len().min(E820_MAX) as u8]);
    for (i, range) in map.iter().take(E820_MAX).enumerate() {
        let at = field::E820_TABLE + i * 20;
        put(at, &range.start.to_le_bytes());
        put(at + 8, &range.bytes.to_le_bytes());
        put(at + 16, &(range.kind as u32).to_le_bytes());
    }
    page
}
