//! The perf map: names for host code that Linux's `perf` cannot find in a file (tools/perf/Documentation/jit-interface.txt in
//! Linux's sources).

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// The file, with a line for each piece of host code; each vCPU's JIT adds its own. What was replaced stays in it, since nothing
/// can be taken back: names are right for what has not been evicted.
#[derive(Debug)]
pub(crate) struct PerfMap {
    file: BufWriter<File>,
}

impl PerfMap {
    /// Where `perf` looks for the map of this process.
    pub(crate) fn path() -> PathBuf {
        Path::new("/tmp").join(format!("perf-{}.map", std::process::id()))
    }

    /// Opens the file, or makes it.
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { file: BufWriter::new(File::options().create(true).append(true).open(path)?) })
    }

    /// Names `bytes` bytes of host code at `address`.
    pub(crate) fn name(&mut self, address: u64, bytes: usize, name: &str) -> io::Result<()> {
        writeln!(self.file, "{address:x} {bytes:x} {name}")?;
        // A process that is killed leaves a map, too.
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_perf_reads_them() {
        let path = std::env::temp_dir().join(format!("rx86-perf-map-{}", std::process::id()));
        let mut maps = [PerfMap::new(&path).unwrap(), PerfMap::new(&path).unwrap()];
        maps[0].name(0x7f00_0000_1000, 0x42, "guest ffffffff81000000").unwrap();
        maps[1].name(0x1000, 1, "guest 1").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(text, "7f0000001000 42 guest ffffffff81000000\n1000 1 guest 1\n");
    }
}
