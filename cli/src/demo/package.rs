//! Files out of a Debian package: an ar archive with a compressed tar archive in it (deb(5)).

use anyhow::{Context, Result, bail};
use std::io::{Cursor, Read};
use std::path::Path;

const AR_MAGIC: &[u8] = b"!<arch>\n";
const AR_HEADER_BYTES: usize = 60;

/// The contents of the first regular file in the package whose path `wanted` accepts.
pub(super) fn extract(package: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<u8>> {
    let bytes = std::fs::read(package).with_context(|| format!("cannot read '{}'", package.display()))?;
    extract_from(&bytes, wanted).with_context(|| format!("cannot unpack '{}'", package.display()))
}

fn extract_from(package: &[u8], wanted: impl Fn(&str) -> bool) -> Result<Vec<u8>> {
    let (name, data) = data_member(package)?;
    let tar = decompress(&name, data)?;
    for entry in tar::Archive::new(Cursor::new(tar)).entries().context("the package's archive is damaged")? {
        let mut entry = entry.context("the package's archive is damaged")?;
        let path = entry.path().context("the package's archive is damaged")?.to_string_lossy().into_owned();
        if entry.header().entry_type().is_file() && wanted(&path) {
            let mut contents = Vec::new();
            entry.read_to_end(&mut contents).context("the package's archive is damaged")?;
            return Ok(contents);
        }
    }
    bail!("the package does not hold the file that was looked for")
}

/// The member `data.tar.*` of the ar archive.
fn data_member(package: &[u8]) -> Result<(String, &[u8])> {
    if !package.starts_with(AR_MAGIC) {
        bail!("this is not a Debian package");
    }
    let mut at = AR_MAGIC.len();
    while let Some(header) = package.get(at..at + AR_HEADER_BYTES) {
        let name = String::from_utf8_lossy(&header[..16]).trim().trim_end_matches('/').to_string();
        let size: usize =
            String::from_utf8_lossy(&header[48..58]).trim().parse().context("its header is damaged")?;
        let start = at + AR_HEADER_BYTES;
        let end = start.checked_add(size).context("its header is damaged")?;
        let data = package.get(start..end).context("it is truncated")?;
        if name.starts_with("data.tar") {
            return Ok((name, data));
        }
        at = end + (size & 1);
    }
    bail!("it has no data.tar member")
}

fn decompress(name: &str, data: &[u8]) -> Result<Vec<u8>> {
    let mut tar = Vec::new();
    match name.rsplit('.').next() {
        Some("xz") => {
            lzma_rs::xz_decompress(&mut Cursor::new(data), &mut tar)
                .map_err(|e| anyhow::anyhow!("xz: {e:?}"))?;
        }
        Some("gz") => {
            flate2::read::GzDecoder::new(data).read_to_end(&mut tar).context("gzip")?;
        }
        Some("zst") => {
            ruzstd::decoding::StreamingDecoder::new(data)
                .context("zstd")?
                .read_to_end(&mut tar)
                .context("zstd")?;
        }
        Some("tar") => tar.extend_from_slice(data),
        _ => bail!("'{name}' is compressed in an unknown way"),
    }
    Ok(tar)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// A package with one file, gzipped.
    fn package() -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(5);
        header.set_mode(0o755);
        header.set_cksum();
        tar.append_data(&mut header, "./bin/busybox", &b"hello"[..]).unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&tar.into_inner().unwrap()).unwrap();
        let data = gzip.finish().unwrap();
        let mut package = AR_MAGIC.to_vec();
        for (name, contents) in [("debian-binary", &b"2.0\n"[..]), ("data.tar.gz", &data)] {
            writeln!(package, "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`", 0, 0, 0, 100644, contents.len())
                .unwrap();
            package.extend_from_slice(contents);
            if contents.len() % 2 == 1 {
                package.push(b'\n');
            }
        }
        package
    }

    #[test]
    fn a_file_comes_out() {
        let package = package();
        assert_eq!(extract_from(&package, |path| path.ends_with("bin/busybox")).unwrap(), b"hello");
        assert!(extract_from(&package, |path| path == "nothing").is_err());
    }

    #[test]
    fn damaged_packages_are_errors() {
        let package = package();
        for length in 0..package.len() {
            let _ = extract_from(&package[..length], |_| true);
        }
        assert!(extract_from(b"PK", |_| true).is_err());
    }
}
