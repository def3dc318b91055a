//! Dumps of regions: guest code, CLIF and host code, a file for each translation.

use crate::listing::Listing;
use crate::region::Region;
use rx86_cpu::mode::ModeKey;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;

/// Which regions are dumped, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpConfig {
    /// Which.
    pub regions: DumpedRegions,
    /// The folder of the files; it is made if it is not there.
    pub folder: PathBuf,
}

/// A choice of regions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DumpedRegions {
    /// All.
    All,
    /// Those that hold the instruction at this linear address.
    Holding(u64),
}

impl DumpedRegions {
    /// Whether `region` is among them.
    pub(crate) fn contains(self, region: &Region) -> bool {
        match self {
            Self::All => true,
            Self::Holding(linear) => region.nodes.iter().any(|node| {
                let start = region.entry.wrapping_add(node.offset as u64);
                linear.wrapping_sub(start) < node.bytes.len() as u64
            }),
        }
    }
}

/// A translation, when it is installed.
pub(crate) struct Installation<'a> {
    /// The physical address of the entry.
    pub(crate) gpa: u64,
    pub(crate) mode: ModeKey,
    /// Whether it was translated quickly.
    pub(crate) is_quick: bool,
    pub(crate) region: &'a Region,
    /// The function in Cranelift's language, if it was kept.
    pub(crate) clif: Option<&'a str>,
    /// Where the host code has been put.
    pub(crate) address: u64,
    pub(crate) host: &'a [u8],
}

/// Writes the files.
#[derive(Debug)]
pub(crate) struct Dump {
    config: DumpConfig,
}

impl Dump {
    pub(crate) fn new(config: DumpConfig) -> io::Result<Self> {
        std::fs::create_dir_all(&config.folder)?;
        Ok(Self { config })
    }

    /// Writes the file of a translation, if it is wanted. The name begins with the entry's linear address; a number tells
    /// translations of one address apart, also those of several vCPUs.
    pub(crate) fn write(&self, installation: &Installation<'_>) -> io::Result<()> {
        if !self.config.regions.contains(installation.region) {
            return Ok(());
        }
        let mut number = 0;
        let mut file = loop {
            let name = format!("{:016x}-{number}.txt", installation.region.entry);
            match File::create_new(self.config.folder.join(name)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                file => break file?,
            }
        };
        file.write_all(text(installation).as_bytes())
    }
}

fn text(installation: &Installation<'_>) -> String {
    let Installation { gpa, mode, is_quick, region, clif, address, host } = installation;
    let mut text = format!(
        "{}region at linear {:#x}, physical {gpa:#x}, {mode:x?}: {} nodes, {} bytes of host code at {address:#x}\n",
        if *is_quick { "quick " } else { "" },
        region.entry,
        region.nodes.len(),
        host.len()
    );
    for (number, node) in region.nodes.iter().enumerate() {
        let start = region.entry.wrapping_add(node.offset as u64);
        let _ = writeln!(text, "\nnode {number}:");
        for line in Listing::straight(&node.bytes, start).lines(0) {
            let _ = writeln!(text, "{line}");
        }
        let successors = &node.successors;
        for (way, node) in
            [("next", successors.next), ("target", successors.target), ("return", successors.return_to)]
        {
            if let Some(node) = node {
                let _ = writeln!(text, "{way}: node {node}");
            }
        }
    }
    if let Some(clif) = clif {
        let _ = write!(text, "\nCLIF:\n{clif}");
    }
    text += "\nhost:\n";
    host_lines(host).iter().for_each(|line| text = std::mem::take(&mut text) + line + "\n");
    text
}

/// The host code as instructions where we can read them, else as bytes.
fn host_lines(host: &[u8]) -> Vec<String> {
    if cfg!(target_arch = "x86_64") {
        return Listing::reachable(host).lines(0);
    }
    let word = |(number, bytes): (usize, &[u8])| format!("{:4x}  {bytes:02x?}", 4 * number);
    host.chunks(4).enumerate().map(word).collect()
}
