//! ELF kernels through PVH: 32-bit protected mode with `hvm_start_info` (Xen, docs/misc/pvh.pandoc).

use crate::BootRequest;
use crate::bytes::Fields;
use crate::bzimage::{place_initrd, too_little, write_command_line};
use crate::e820::{low_ram_end, memory_map};
use crate::entry::{Entry, EntryMode};
use crate::error::LoadError;
use crate::layout::{ACPI_TABLES, COMMAND_LINE, EXTENDED, PVH_START_INFO};
use rx86_softmmu::GuestMemory;
use rx86_softmmu::memory::LOW_RAM_LIMIT;

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const EM_X86_64: u16 = 62;
const EM_386: u16 = 3;
/// XEN_ELFNOTE_PHYS32_ENTRY.
const PHYS32_ENTRY: u32 = 18;
const START_MAGIC: u32 = 0x336e_c578;
/// A kernel with more program headers than this is damaged.
const MAX_HEADERS: u16 = 512;

/// Linux's COMMAND_LINE_SIZE on x86 without the final zero: PVH has no field for it, and Linux cuts what is longer.
const COMMAND_LINE_LIMIT: u64 = 2047;

/// Whether `file` is an ELF file.
pub(crate) fn is_elf(file: &[u8]) -> bool {
    file.starts_with(b"\x7fELF")
}

/// A program header, 32-bit and 64-bit files alike.
struct ProgramHeader {
    kind: u32,
    offset: u64,
    physical: u64,
    file_bytes: u64,
    memory_bytes: u64,
    alignment: u64,
}

fn program_headers(file: &[u8]) -> Result<Vec<ProgramHeader>, LoadError> {
    let fields = Fields(file);
    let short =
        |needed: u64| LoadError::Truncated { part: "the ELF header", needed, found: file.len() as u64 };
    let wide = match fields.u8(4) {
        Some(2) => true,
        Some(1) => false,
        None => return Err(short(64)),
        Some(_) => return Err(LoadError::ForeignElf("its class is unknown")),
    };
    if fields.u8(5).ok_or_else(|| short(64))? != 1 {
        return Err(LoadError::ForeignElf("it is big-endian"));
    }
    match fields.u16(18).ok_or_else(|| short(64))? {
        EM_X86_64 | EM_386 => {}
        183 => return Err(LoadError::ForeignElf("it is for arm64")),
        _ => return Err(LoadError::ForeignElf("it is for another machine")),
    }
    let table = if wide { fields.u64(32) } else { fields.u32(28).map(u64::from) }.ok_or_else(|| short(64))?;
    let (size_at, count_at) = if wide { (54, 56) } else { (42, 44) };
    let size = fields.u16(size_at).ok_or_else(|| short(64))?;
    let count = fields.u16(count_at).ok_or_else(|| short(64))?;
    if count == 0 || count > MAX_HEADERS || size < if wide { 56 } else { 32 } {
        return Err(LoadError::ForeignElf("it has no program headers; is it an object file?"));
    }
    (0..u64::from(count))
        .map(|i| {
            let at = table.saturating_add(i * u64::from(size));
            let end = at.saturating_add(u64::from(size));
            let bytes = usize::try_from(at).ok().and_then(|from| file.get(from..usize::try_from(end).ok()?));
            program_header(Fields(bytes.ok_or_else(|| short(end))?), wide).ok_or_else(|| short(end))
        })
        .collect()
}

fn program_header(fields: Fields<'_>, wide: bool) -> Option<ProgramHeader> {
    let word = |at: usize| fields.u32(at).map(u64::from);
    let kind = fields.u32(0)?;
    Some(if wide {
        ProgramHeader {
            kind,
            offset: fields.u64(8)?,
            physical: fields.u64(24)?,
            file_bytes: fields.u64(32)?,
            memory_bytes: fields.u64(40)?,
            alignment: fields.u64(48)?,
        }
    } else {
        ProgramHeader {
            kind,
            offset: word(4)?,
            physical: word(12)?,
            file_bytes: word(16)?,
            memory_bytes: word(20)?,
            alignment: word(28)?,
        }
    })
}

fn contents<'a>(file: &'a [u8], header: &ProgramHeader) -> Result<&'a [u8], LoadError> {
    let needed = header.offset.saturating_add(header.file_bytes);
    let range = usize::try_from(header.offset).ok().zip(usize::try_from(needed).ok());
    range.and_then(|(from, to)| file.get(from..to)).ok_or(LoadError::Truncated {
        part: "an ELF segment",
        needed,
        found: file.len() as u64,
    })
}

/// The entry address in a note segment, if it has Xen's note.
fn pvh_entry(notes: &[u8], alignment: u64) -> Option<u64> {
    let pad = if alignment == 8 { 8 } else { 4 };
    let mut at = 0usize;
    loop {
        let fields = Fields(notes.get(at..)?);
        let (name_bytes, value_bytes) = (fields.u32(0)? as usize, fields.u32(4)? as usize);
        let value_at = 12usize.checked_add(name_bytes)?.checked_next_multiple_of(pad)?;
        if fields.u32(8)? == PHYS32_ENTRY && fields.0.get(12..15) == Some(b"Xen") {
            return if value_bytes >= 8 { fields.u64(value_at) } else { fields.u32(value_at).map(u64::from) };
        }
        at = at.checked_add(value_at.checked_add(value_bytes)?.checked_next_multiple_of(pad)?)?;
    }
}

/// Loads an ELF kernel.
pub(crate) fn load(memory: &GuestMemory, request: &BootRequest<'_>) -> Result<Entry, LoadError> {
    let headers = program_headers(request.kernel)?;
    let mut entry = None;
    for header in headers.iter().filter(|header| header.kind == PT_NOTE) {
        entry = entry.or(pvh_entry(contents(request.kernel, header)?, header.alignment));
    }
    let entry = entry.filter(|&entry| entry < 1 << 32).ok_or(LoadError::NoPvhEntry)?;
    let mut segments = Vec::new();
    for header in headers.iter().filter(|header| header.kind == PT_LOAD && header.memory_bytes > 0) {
        segments.push(segment(memory, request.kernel, header)?);
    }
    if !segments.iter().any(|segment| (segment.start..segment.end).contains(&entry)) {
        return Err(LoadError::DamagedHeader("its entry point is outside of what it loads"));
    }
    let kernel_end = segments.iter().map(|segment| segment.end).max().unwrap_or(EXTENDED);
    // Hundreds of headers, each for all of memory, would be filled for hours.
    if segments.iter().map(|segment| segment.end - segment.start).sum::<u64>() > kernel_end {
        return Err(LoadError::DamagedHeader("its segments overlap"));
    }
    segments.iter().try_for_each(|segment| segment.load(memory))?;
    let initrd = place_initrd(memory, request, kernel_end, u64::from(u32::MAX))?;
    write_command_line(memory, request.cmdline, COMMAND_LINE_LIMIT)?;
    write_start_info(memory, initrd)?;
    let entry = Entry::new(memory, EntryMode::Protected32, entry)?;
    Ok(Entry { rbx: PVH_START_INFO, ..entry })
}

/// A checked part of the kernel: `data`, then zeros up to `end`.
struct Segment<'a> {
    start: u64,
    end: u64,
    data: &'a [u8],
}

fn segment<'a>(
    memory: &GuestMemory,
    file: &'a [u8],
    header: &ProgramHeader,
) -> Result<Segment<'a>, LoadError> {
    let data = contents(file, header)?;
    let (start, bytes) = (header.physical, header.memory_bytes);
    if header.file_bytes > bytes {
        return Err(LoadError::DamagedHeader("a segment is larger in the file than in memory"));
    }
    if start < EXTENDED {
        return Err(LoadError::SegmentTooLow { address: start, bytes });
    }
    let end = start.checked_add(bytes).filter(|&end| end <= LOW_RAM_LIMIT);
    let end = end.ok_or(LoadError::DamagedHeader("a segment reaches above 3 GiB"))?;
    if end > low_ram_end(memory) {
        return Err(too_little(memory, end));
    }
    Ok(Segment { start, end, data })
}

impl Segment<'_> {
    fn load(&self, memory: &GuestMemory) -> Result<(), LoadError> {
        let write = |at, bytes: &[u8]| memory.write(at, bytes).map_err(|_| too_little(memory, self.end));
        write(self.start, self.data)?;
        // Guest RAM begins as zeros, but a reboot loads over what was there.
        let zeros = [0u8; 4096];
        let mut at = self.start + self.data.len() as u64;
        while at < self.end {
            let chunk = (self.end - at).min(zeros.len() as u64);
            write(at, &zeros[..chunk as usize])?;
            at += chunk;
        }
        Ok(())
    }
}

fn write_start_info(memory: &GuestMemory, initrd: Option<(u64, u64)>) -> Result<(), LoadError> {
    let module_list = PVH_START_INFO + 0x40;
    let map_address = PVH_START_INFO + 0x80;
    let map = memory_map(memory);
    let mut info = Vec::new();
    let quads = |info: &mut Vec<u8>, values: &[u64]| values.iter().for_each(|v| info.extend(v.to_le_bytes()));
    for word in [START_MAGIC, 1, 0, u32::from(initrd.is_some())] {
        info.extend(word.to_le_bytes());
    }
    quads(&mut info, &[module_list, COMMAND_LINE, ACPI_TABLES, map_address]);
    info.extend((map.len() as u32).to_le_bytes());
    info.resize((module_list - PVH_START_INFO) as usize, 0);
    let (address, bytes) = initrd.unwrap_or((0, 0));
    quads(&mut info, &[address, bytes, 0, 0]);
    info.resize((map_address - PVH_START_INFO) as usize, 0);
    for range in map {
        quads(&mut info, &[range.start, range.bytes, u64::from(range.kind as u32)]);
    }
    memory.write(PVH_START_INFO, &info).map_err(|_| LoadError::NoRoomForTables)
}
