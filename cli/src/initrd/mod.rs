//! Builds initial RAM disks: a "newc" cpio archive, gzipped (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).

pub mod inspect;

use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{self, Write};

const TYPE_DIRECTORY: u32 = 0o040_000;
const TYPE_CHARACTER: u32 = 0o020_000;
const TYPE_FILE: u32 = 0o100_000;
const TYPE_LINK: u32 = 0o120_000;

/// An archive that grows entry by entry. Folders come before what is in them.
#[derive(Debug, Default)]
pub struct Builder {
    bytes: Vec<u8>,
    entries: u32,
}

impl Builder {
    /// An archive with no entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a folder.
    pub fn directory(&mut self, path: &str) -> &mut Self {
        self.entry(path, TYPE_DIRECTORY | 0o755, &[], (0, 0))
    }

    /// Adds a file with its permission bits.
    pub fn file(&mut self, path: &str, mode: u32, contents: &[u8]) -> &mut Self {
        self.entry(path, TYPE_FILE | mode & 0o7777, contents, (0, 0))
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) -> &mut Self {
        self.entry(path, TYPE_LINK | 0o777, target.as_bytes(), (0, 0))
    }

    /// Adds a character device.
    pub fn character_device(&mut self, path: &str, mode: u32, major: u32, minor: u32) -> &mut Self {
        self.entry(path, TYPE_CHARACTER | mode & 0o7777, &[], (major, minor))
    }

    fn entry(&mut self, path: &str, mode: u32, contents: &[u8], device: (u32, u32)) -> &mut Self {
        self.entries += 1;
        let name_bytes = path.len() as u32 + 1;
        let fields =
            [self.entries, mode, 0, 0, 1, 0, contents.len() as u32, 0, 0, device.0, device.1, name_bytes, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(contents);
        self.pad();
        self
    }

    fn pad(&mut self) {
        let padded = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(padded, 0);
    }

    /// The finished archive, not compressed.
    pub fn archive(&mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[], (0, 0));
        std::mem::take(&mut self.bytes)
    }

    /// The finished archive, gzipped.
    pub fn gzip(&mut self) -> io::Result<Vec<u8>> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&self.archive())?;
        encoder.finish()
    }
}

/// A disk around busybox: `/init` is `script`; the applets that scripts use are links in `/bin`.
pub fn busybox(busybox: &[u8], script: &str) -> Builder {
    let mut builder = Builder::new();
    for folder in ["bin", "dev", "proc", "sys", "tmp", "root", "etc"] {
        builder.directory(folder);
    }
    builder
        .character_device("dev/console", 0o600, 5, 1)
        .character_device("dev/null", 0o666, 1, 3)
        .file("bin/busybox", 0o755, busybox)
        .link("bin/sh", "busybox")
        .file("init", 0o755, script.as_bytes());
    builder
}

/// What every `/init` begins with: the applets and the usual file systems.
pub const INIT_PROLOGUE: &str = "\
#!/bin/sh
export PATH=/bin HOME=/root TERM=linux
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_newc_with_padding() {
        let archive = Builder::new().file("a", 0o644, b"xyz").archive();
        assert_eq!(&archive[..14], b"07070100000001");
        assert_eq!(&archive[14..22], b"000081a4");
        assert_eq!(&archive[110..112], b"a\0");
        assert_eq!(&archive[112..116], b"xyz\0");
        assert_eq!(&archive[116..122], b"070701");
        assert!(archive.ends_with(b"TRAILER!!!\0\0\0\0") && archive.len().is_multiple_of(4));
    }
}
