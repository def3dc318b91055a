//! What is written out of the JIT's work for people to look at, as translations are installed.

use crate::compiler::CompileError;
use crate::dump::{Dump, DumpConfig, Installation};
use crate::perf_map::PerfMap;
use std::io;

/// What is to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchConfig {
    /// Regions as text.
    pub dump: Option<DumpConfig>,
    /// Names of host code for Linux's `perf`.
    pub perf_map: bool,
}

/// Writes it.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    dump: Option<Dump>,
    perf_map: Option<PerfMap>,
}

impl Watch {
    pub(crate) fn new(config: &WatchConfig) -> Result<Self, CompileError> {
        let dump = |dump: &DumpConfig| {
            let failed = |error| CompileError::Watch(dump.folder.clone(), error);
            Dump::new(dump.clone()).map_err(failed)
        };
        let path = PerfMap::path();
        let map = config.perf_map.then(|| PerfMap::new(&path));
        Ok(Self {
            dump: config.dump.as_ref().map(dump).transpose()?,
            perf_map: map.transpose().map_err(|error| CompileError::Watch(path, error))?,
        })
    }

    /// A translation has been installed.
    pub(crate) fn installed(&mut self, installation: &Installation<'_>) {
        if let Err(error) = self.write(installation) {
            // Once is enough: the disk is full, or somebody has removed the folder.
            tracing::error!(target: "rx86::jit", "no more dumps and perf map: {error}");
            *self = Self::default();
        }
    }

    fn write(&mut self, installation: &Installation<'_>) -> io::Result<()> {
        if let Some(dump) = &self.dump {
            dump.write(installation)?;
        }
        if let Some(map) = &mut self.perf_map {
            let tier = if installation.is_quick { "quick" } else { "guest" };
            let name = format!("{tier} {:x}", installation.region.entry);
            map.name(installation.address, installation.host.len(), &name)?;
        }
        Ok(())
    }
}
