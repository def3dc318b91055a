//! Reading kernel and initrd files, with errors that name the file.

use anyhow::{Context, Result, bail};
use std::path::Path;

/// No image is larger; a device file that never ends would be.
const LIMIT_BYTES: u64 = 4 << 30;

/// Reads all of `path`. `what` is "kernel" or "initrd".
pub fn read(what: &str, path: &Path) -> Result<Vec<u8>> {
    let metadata =
        std::fs::metadata(path).with_context(|| format!("cannot read the {what} '{}'", path.display()))?;
    if metadata.is_dir() {
        bail!("cannot read the {what} '{}': it is a directory; name a file", path.display());
    }
    if !metadata.is_file() {
        bail!("cannot read the {what} '{}': it is not a regular file; copy it to one", path.display());
    }
    if metadata.len() > LIMIT_BYTES {
        bail!(
            "cannot use the {what} '{}': it has {} GiB and the limit is {}; is it a disk image?",
            path.display(),
            metadata.len() >> 30,
            LIMIT_BYTES >> 30
        );
    }
    std::fs::read(path).with_context(|| format!("cannot read the {what} '{}'", path.display()))
}
