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
    /// The file ends early.
    #[error("the file is truncated: {part} needs {needed} bytes and {found} are there; copy it again")]
    Truncated {
        /// The part that is cut.
        part: &'static str,
        /// Bytes that the file must have.
        needed: u64,
        /// Bytes that it has.
        found: u64,
    },
    /// The kernel is older than Linux 2.6.20.
    #[error("the kernel speaks boot protocol {major}.{minor:02}; 2.06 or later is needed (Linux 2.6.22)")]
    ProtocolTooOld {
        /// Major version.
        major: u8,
        /// Minor version.
        minor: u8,
    },
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
    /// A part of an ELF file would be loaded where it cannot be.
    #[error(
        "the ELF file loads {bytes:#x} bytes at {address:#x}, where the guest has no free RAM; use a larger --memory"
    )]
    SegmentOutsideRam {
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
        /// Bytes of RAM below 3 GiB.
        available: u64,
    },
    /// The initrd does not fit beside the kernel.
    #[error("the initrd has {} MiB and only {} MiB are free beside the kernel; use a larger --memory or a smaller initrd", mib(*.bytes), .room >> 20)]
    InitrdTooLarge {
        /// The initrd's size.
        bytes: u64,
        /// Room that there is.
        room: u64,
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
}

/// Mebibytes, rounded up.
fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

/// What the first bytes of a file say that is not a kernel.
pub(crate) fn describe(file: &[u8]) -> &'static str {
    const KNOWN: [(usize, &[u8], &str); 15] = [
        (0, &[0x1f, 0x8b], "a gzip file (an initrd?)"),
        (0, b"PK\x03\x04", "a zip archive"),
        (0, &[0xfd, b'7', b'z', b'X', b'Z'], "an xz file"),
        (0, &[0x28, 0xb5, 0x2f, 0xfd], "a zstd file"),
        (0, b"070701", "a cpio archive (an initrd?)"),
        (0, b"!<arch>\n", "an ar archive or Debian package"),
        (0, b"#!", "a script"),
        (0, b"QFI\xfb", "a qcow2 disk image"),
        (0, &[0x04, 0x22, 0x4d, 0x18], "an lz4 file"),
        (0, b"BZh", "a bzip2 file"),
        (0x38, b"ARM\x64", "an arm64 kernel"),
        (0x38, b"RSC\x05", "a RISC-V kernel"),
        (0x8001, b"CD001", "an ISO image"),
        (0x1fe, &[0x55, 0xaa], "a boot sector or disk image"),
        (0, b"MZ", "a Windows or EFI executable"),
    ];
    let found = KNOWN.iter().find(|(at, magic, _)| file.get(*at..*at + magic.len()) == Some(*magic));
    found.map_or("data of an unknown kind", |(_, _, name)| name)
}
