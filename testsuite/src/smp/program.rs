//! The program for guests with several processors, compiled when it is wanted.

use crate::kernels::program;
use anyhow::Result;
use std::path::{Path, PathBuf};

/// Where its C sources are.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/smp");
/// Where it is in a guest.
pub const IN_GUEST: &str = "bin/smp";

/// Compiles it into `folder`, for which gcc and a static C library are needed.
pub fn compile(folder: &Path) -> Result<PathBuf> {
    let path = folder.join("smp");
    program::compile(Path::new(SOURCES), &path)?;
    Ok(path)
}

/// What a kernel says when something is wrong with its processors, for `grep -E`.
pub const COMPLAINTS: &str = "BUG:|WARNING:|Oops|soft lockup|hard LOCKUP|rcu.*(stall|kthread starved)|hung task|blocked for more than|unchecked MSR|skewed|\
     unstable|timekeeping watchdog|Marking clocksource|Call Trace";

/// What it says besides when it has waited too long for its own timer's interrupt to end. On a host that gives its vCPUs too
/// little time that may be so.
pub const TIMER_COMPLAINTS: &str = "hrtimer: interrupt took";
