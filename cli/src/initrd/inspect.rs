//! Whether a file is an initrd that Linux will unpack: the format by its first bytes, and whole to its end where that can be
//! told (Linux, Documentation/driver-api/early-userspace/buffer-format.rst). The kernel would only panic, minutes later.

use flate2::bufread::GzDecoder;
use std::io;

const HEADER_BYTES: usize = 110;
/// The places of c_filesize and c_namesize in a newc header.
const FILE_SIZE_AT: usize = 54;
const NAME_SIZE_AT: usize = 94;

/// What is wrong with an initrd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It begins like nothing that Linux unpacks.
    #[error("it is no initrd; pass a cpio archive, as it is or compressed")]
    Foreign,
    /// It ends before its format does.
    #[error("it is truncated; copy it again")]
    Truncated,
    /// Its bytes contradict themselves.
    #[error("it is damaged; copy it again")]
    Damaged,
}

/// Goes through the archives that an initrd is made of, one behind the other with zeros between.
pub fn inspect(bytes: &[u8]) -> Result<(), Unusable> {
    let mut rest = skip_zeros(bytes);
    if rest.is_empty() {
        return Err(Unusable::Foreign);
    }
    let mut first = true;
    while !rest.is_empty() {
        match archive(rest) {
            // Behind an archive there may be what others put there, such as a boot configuration.
            Err(Unusable::Foreign) if !first => return Ok(()),
            outcome => rest = skip_zeros(outcome?),
        }
        first = false;
    }
    Ok(())
}

fn skip_zeros(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.iter().position(|&byte| byte != 0).unwrap_or(bytes.len())..]
}

/// What is behind the archive at the front of `bytes`; nothing, if only unpacking would tell.
fn archive(bytes: &[u8]) -> Result<&[u8], Unusable> {
    /// Compressed archives and file system images, each by a place and the bytes there.
    const OTHERS: [(usize, &[u8]); 9] = [
        (0, b"BZh"),
        (0, &[0x5d, 0, 0]),
        (0, &[0x89, b'L', b'Z', b'O']),
        (0, &[0x02, 0x21, 0x4c, 0x18]),
        (0, &[0x28, 0xb5, 0x2f, 0xfd]),
        (0, b"hsqs"),
        (0, b"-rom1fs-"),
        (0, &[0x45, 0x3d, 0xcd, 0x28]),
        (0x438, &[0x53, 0xef]),
    ];
    if is_cpio(bytes) {
        cpio(bytes)
    } else if bytes.starts_with(&[0x1f, 0x8b]) {
        gzip(bytes)
    } else if bytes.starts_with(&[0xfd, b'7', b'z', b'X', b'Z', 0]) {
        let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        if bytes[..end].ends_with(b"YZ") { Ok(&[]) } else { Err(Unusable::Truncated) }
    } else if OTHERS.iter().any(|(at, magic)| bytes.get(*at..).is_some_and(|part| part.starts_with(magic))) {
        Ok(&[])
    } else {
        Err(Unusable::Foreign)
    }
}

fn is_cpio(bytes: &[u8]) -> bool {
    bytes.starts_with(b"070701") || bytes.starts_with(b"070702")
}

/// Goes from header to header up to the trailer.
fn cpio(archive: &[u8]) -> Result<&[u8], Unusable> {
    let mut at = 0;
    loop {
        let header = archive.get(at..at + HEADER_BYTES).ok_or(Unusable::Truncated)?;
        if !is_cpio(header) {
            return Err(Unusable::Damaged);
        }
        let field = |from: usize| {
            let digits = std::str::from_utf8(&header[from..from + 8]).map_err(|_| Unusable::Damaged)?;
            usize::from_str_radix(digits, 16).map_err(|_| Unusable::Damaged)
        };
        let name_at = at + HEADER_BYTES;
        let name_end = name_at + field(NAME_SIZE_AT)?;
        let name = archive.get(name_at..name_end).ok_or(Unusable::Truncated)?;
        at = (name_end.next_multiple_of(4) + field(FILE_SIZE_AT)?).next_multiple_of(4);
        if name == b"TRAILER!!!\0" {
            return Ok(archive.get(at..).unwrap_or_default());
        }
    }
}

/// Unpacks to nowhere, which checks the length and the checksum.
fn gzip(mut archive: &[u8]) -> Result<&[u8], Unusable> {
    match io::copy(&mut GzDecoder::new(&mut archive), &mut io::sink()) {
        Ok(_) => Ok(archive),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Unusable::Truncated),
        Err(_) => Err(Unusable::Damaged),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Builder;
    use super::*;

    #[test]
    fn whole_initrds_pass_and_no_cut_does() {
        let cpio = Builder::new().directory("bin").file("init", 0o755, b"#!/bin/sh\n").archive();
        let gzip = Builder::new().file("init", 0o755, b"#!/bin/sh\n").gzip().unwrap();
        let early_and_main = [&cpio[..], &[0; 100], &gzip].concat();
        let with_trailer = [&gzip[..], b"#BOOTCONFIG\n"].concat();
        for whole in [&cpio, &gzip, &early_and_main, &with_trailer] {
            assert_eq!(inspect(whole), Ok(()));
        }
        for whole in [&cpio, &gzip] {
            // The last bytes of the archive are padding that nobody misses.
            for length in 6..whole.len() - 3 {
                assert!(inspect(&whole[..length]).is_err(), "{length} of {} bytes", whole.len());
            }
        }
        assert_eq!(inspect(&early_and_main[..early_and_main.len() - 4]), Err(Unusable::Truncated));
    }

    #[test]
    fn formats_are_known_by_their_first_bytes() {
        let mut damaged = Builder::new().file("init", 0o755, &[7; 500]).gzip().unwrap();
        let crc = damaged.len() - 8;
        damaged[crc] ^= 1;
        let mut ext2 = vec![1; 0x1000];
        ext2[0x438..0x43a].copy_from_slice(&[0x53, 0xef]);
        let cases: [(&[u8], Result<(), Unusable>); 9] = [
            (b"hello", Err(Unusable::Foreign)),
            (&[0; 512], Err(Unusable::Foreign)),
            (b"", Err(Unusable::Foreign)),
            (b"\x7fELF\x02\x01\x01", Err(Unusable::Foreign)),
            (b"070701not a number", Err(Unusable::Truncated)),
            (&[b'0'; 200], Err(Unusable::Foreign)),
            (&damaged, Err(Unusable::Damaged)),
            (&[0x28, 0xb5, 0x2f, 0xfd, 0], Ok(())),
            (&ext2, Ok(())),
        ];
        for (bytes, outcome) in cases {
            assert_eq!(inspect(bytes), outcome, "{:x?}", &bytes[..bytes.len().min(8)]);
        }
    }
}
