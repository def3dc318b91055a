//! Why a kernel cannot be loaded: what was found, and what to do. The caller names the file.

use thiserror::Error;

/// A kernel or initrd that cannot be loaded.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LoadError {
    /// The file has no bytes.
    #[error("the file is empty; pass a Linux bzImage or an ELF vmlinux with a PVH entry")]
    Empty,
    /// The file is something else.
    #[error("this is not an x86 kernel but {found}; pass a Linux bzImage or an ELF vmlinux with a PVH entry")]
    NotAKernel {
        /// What the file looks like.
        found: &'static str,
    },
    /// The file is shorter than a kernel's header, and does not say what else it is.
    #[error(
        "the file has only {found} bytes and a kernel's header alone needs {needed}; copy it again, or pass another file"
    )]
    TooShort {
        /// Bytes that it has.
        found: u64,
        /// Bytes up to the end of the header.
        needed: u64,
    },
    /// The file ends early.
    #[error("the file is truncated at byte {found}: {part} reaches to byte {needed}; copy it again")]
    Truncated {
        /// The part that is cut.
        part: &'static str,
        /// Bytes that the file must have at the least.
        needed: u64,
        /// Bytes that it has.
        found: u64,
    },
    /// The kernel is older than Linux 2.6.22.
    #[error(
        "the kernel speaks boot protocol {major}.{minor:02}; pass one with 2.06 or later (Linux 2.6.22 and newer)"
    )]
    ProtocolTooOld {
        /// Major version.
        major: u8,
        /// Minor version.
        minor: u8,
    },
    /// The kernel loads below 640 KiB.
    #[error("the kernel is a zImage, which loads low; build it as a bzImage (make bzImage)")]
    LoadsLow,
    /// The header contradicts itself.
    #[error("the kernel's header is damaged: {0}; copy it again")]
    DamagedHeader(&'static str),
    /// The 64-bit entry was asked for and there is none.
    #[error("the kernel has no 64-bit entry point (it is a 32-bit kernel); use the 32-bit boot protocol")]
    No64BitEntry,
    /// An ELF file without the note.
    #[error("the ELF file has no PVH entry note; build with CONFIG_PVH=y, or pass the bzImage")]
    NoPvhEntry,
    /// An ELF file for another machine or of a kind that is not executable.
    #[error("the ELF file is not an x86 executable ({0}); pass an x86 kernel")]
    ForeignElf(&'static str),
    /// A part of an ELF file would be loaded over the boot tables.
    #[error(
        "the ELF file loads {bytes:#x} bytes at {address:#x}, and below 1 MiB the boot tables lie; pass the bzImage"
    )]
    SegmentTooLow {
        /// Physical address.
        address: u64,
        /// Length.
        bytes: u64,
    },
    /// The kernel does not fit.
    #[error("the kernel needs {} MiB of memory and the guest has {}; use --memory {}M or more", mib(*.needed), mib(*.available), mib(*.needed))]
    TooLittleMemory {
        /// Bytes from address zero to the end of the running kernel.
        needed: u64,
        /// Bytes of RAM below 4 GiB.
        available: u64,
    },
    /// The initrd does not fit beside the kernel.
    #[error("the initrd has {} MiB and only {} MiB are free beside the kernel; {}", mib(*.bytes), .room >> 20, initrd_advice(*.needed))]
    InitrdTooLarge {
        /// The initrd's size.
        bytes: u64,
        /// Room that there is.
        room: u64,
        /// The guest memory that would hold both; None where the kernel's own limit is in the way.
        needed: Option<u64>,
    },
    /// The initrd has no bytes.
    #[error("the initrd is empty; leave --initrd out if there is none")]
    InitrdEmpty,
    /// The command line is longer than the kernel takes.
    #[error("the command line has {length} bytes and the kernel takes {limit}; shorten --append")]
    CommandLineTooLong {
        /// Its length.
        length: u64,
        /// The kernel's limit.
        limit: u64,
    },
    /// The command line holds a zero byte.
    #[error("the command line holds a zero byte, where the kernel would cut it; remove it from --append")]
    CommandLineZeroByte,
    /// The guest has less memory than the loader's own tables need.
    #[error("the guest's memory is too small for the boot tables; use --memory 64M or more")]
    NoRoomForTables,
    /// The ACPI tables have no room for so many processors, or there is none.
    #[error("the guest cannot have {cpus} processors; choose from 1 to {limit}")]
    CpuCount {
        /// The wanted number.
        cpus: u32,
        /// The largest number.
        limit: u32,
    },
}

/// Mebibytes, rounded up.
fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

fn initrd_advice(needed: Option<u64>) -> String {
    match needed {
        Some(needed) => format!("use --memory {}M or more, or a smaller initrd", mib(needed)),
        None => "no --memory is enough, use a smaller initrd".into(),
    }
}

/// What a file is that is not a kernel, or why it cannot be told.
pub(crate) fn not_a_kernel(file: &[u8], header_bytes: usize) -> LoadError {
    let found = describe(file);
    // The first bytes of every bzImage are those of a boot sector and, with the EFI stub, of an EFI executable.
    let could_be_cut = [UNKNOWN, ZEROS, BOOT_SECTOR, EXECUTABLE].contains(&found);
    if file.len() < header_bytes && could_be_cut {
        return LoadError::TooShort { found: file.len() as u64, needed: header_bytes as u64 };
    }
    LoadError::NotAKernel { found }
}

const UNKNOWN: &str = "data of an unknown kind";
const ZEROS: &str = "a file that begins with zeros (a failed download?)";
const BOOT_SECTOR: &str = "a boot sector or disk image";
const EXECUTABLE: &str = "a Windows or EFI executable";

/// What the first bytes of a file say that is not a kernel.
fn describe(file: &[u8]) -> &'static str {
    const KNOWN: &[(usize, &[u8], &str)] = &[
        (0, &[0x1f, 0x8b], "a gzip file (an initrd, or a kernel to unpack first?)"),
        (0, b"PK\x03\x04", "a zip archive"),
        (0, &[0xfd, b'7', b'z', b'X', b'Z'], "an xz file"),
        (0, &[0x28, 0xb5, 0x2f, 0xfd], "a zstd file"),
        (0, &[0x04, 0x22, 0x4d, 0x18], "an lz4 file"),
        (0, &[0x02, 0x21, 0x4c, 0x18], "an lz4 file (an initrd?)"),
        (0, b"BZh", "a bzip2 file"),
        (0, b"07070", "a cpio archive (an initrd?)"),
        (0, &[0xc7, 0x71], "a cpio archive (an initrd?)"),
        (0x101, b"ustar", "a tar archive"),
        (0, b"!<arch>\n", "an ar archive or Debian package"),
        (0, &[0xed, 0xab, 0xee, 0xdb], "an RPM package"),
        (0, b"#!", "a script"),
        (0, b"<!", "a web page (a failed download?)"),
        (0, b"<html", "a web page (a failed download?)"),
        (0, b"QFI\xfb", "a qcow2 disk image"),
        (0, b"KDMV", "a VMDK disk image"),
        (0, b"hsqs", "a squashfs image"),
        (0, &[0xd0, 0x0d, 0xfe, 0xed], "a device tree or FIT image"),
        (0, &[0x27, 0x05, 0x19, 0x56], "a U-Boot image"),
        (0x24, &[0x18, 0x28, 0x6f, 0x01], "a 32-bit arm kernel"),
        (0x38, b"ARM\x64", "an arm64 kernel"),
        (0x38, b"RSC\x05", "a RISC-V kernel"),
        (0x8001, b"CD001", "an ISO image"),
        (0x438, &[0x53, 0xef], "an ext2, ext3 or ext4 file system"),
        (0x1fe, &[0x55, 0xaa], BOOT_SECTOR),
        (0, b"MZ", EXECUTABLE),
    ];
    let is = |at: usize, magic: &[u8]| file.get(at..).is_some_and(|rest| rest.starts_with(magic));
    if let Some((_, _, name)) = KNOWN.iter().find(|(at, magic, _)| is(*at, magic)) {
        return name;
    }
    let start = &file[..file.len().min(512)];
    if start.iter().all(|&byte| byte == 0) {
        ZEROS
    } else if start.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
        "a text file"
    } else {
        UNKNOWN
    }
}
