//! Guests from Debian's and Ubuntu's packages, through apt. No root is needed and the system's own state stays as it is.

use super::package;
use anyhow::{Context, Result, anyhow, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const BY_HAND: &str = "get a kernel and a static busybox by other means and run \
    `rx86 demo --kernel FILE --busybox FILE`";

/// Which of the distribution's kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// The kernel for virtual machines: few drivers, quick to boot.
    Cloud,
    /// The full kernel.
    Full,
}

impl Flavour {
    /// The packages that depend on the newest kernel package: Debian's, then Ubuntu's.
    fn meta_packages(self) -> [&'static str; 2] {
        match self {
            Self::Cloud => ["linux-image-cloud-amd64", "linux-image-virtual"],
            Self::Full => ["linux-image-amd64", "linux-image-generic"],
        }
    }

    fn file_name(self) -> &'static str {
        match self {
            Self::Cloud => "vmlinuz-cloud",
            Self::Full => "vmlinuz-full",
        }
    }
}

/// The files of a guest.
#[derive(Clone, Debug)]
pub struct Guest {
    /// The kernel.
    pub kernel: PathBuf,
    /// busybox, statically linked.
    pub busybox: PathBuf,
}

/// Both files, from `cache` or from the distribution.
pub fn fetch(cache: &Path, flavour: Flavour) -> Result<Guest> {
    Ok(Guest { busybox: busybox(cache)?, kernel: kernel(cache, flavour)? })
}

/// The kernel of this flavour, from `cache` or from the distribution.
pub fn kernel(cache: &Path, flavour: Flavour) -> Result<PathBuf> {
    let is_kernel = |path: &str| path.trim_start_matches("./").starts_with("boot/vmlinuz-");
    cached(&cache.join(flavour.file_name()), |work| {
        let (apt, name) = Apt::with_package(work, |apt| newest_kernel(apt, flavour))?;
        package::extract(&apt.download(work, &name)?, is_kernel)
    })
}

/// A statically linked busybox, from `cache` or from the distribution.
pub fn busybox(cache: &Path) -> Result<PathBuf> {
    const NAME: &str = "busybox-static";
    cached(&cache.join("busybox"), |work| {
        let known = |apt: &Apt| Ok(apt.knows(NAME)?.then(|| NAME.to_string()));
        let (apt, name) = Apt::with_package(work, known)?;
        package::extract(&apt.download(work, &name)?, |path| path.ends_with("bin/busybox"))
    })
}

/// `file`, made by `fetch` in a work folder beside it if it is not there.
fn cached(file: &Path, fetch: impl FnOnce(&Path) -> Result<Vec<u8>>) -> Result<PathBuf> {
    if file.is_file() {
        return Ok(file.to_path_buf());
    }
    // Absolute, for apt gets it and runs in that folder.
    let file = std::path::absolute(file).with_context(|| format!("cannot use '{}'", file.display()))?;
    let work = file.with_extension(format!("work-{}", std::process::id()));
    std::fs::create_dir_all(&work)
        .with_context(|| format!("cannot create '{}'; pass --cache FOLDER", work.display()))?;
    let outcome = fetch(&work).and_then(|bytes| save(&file, &work, &bytes));
    // Packages and lists are not needed any more, whether that worked or not.
    let _ = std::fs::remove_dir_all(&work);
    outcome.map(|()| file)
}

/// Writes a file so that another process never sees half of it.
fn save(file: &Path, work: &Path, bytes: &[u8]) -> Result<()> {
    let partial = work.join("file");
    std::fs::write(&partial, bytes).with_context(|| format!("cannot write '{}'", partial.display()))?;
    std::fs::rename(&partial, file).with_context(|| format!("cannot write '{}'", file.display()))
}

/// The name of the kernel package that a meta package depends on.
fn newest_kernel(apt: &Apt, flavour: Flavour) -> Result<Option<String>> {
    for meta in flavour.meta_packages() {
        let text = apt.run(apt.command("apt-cache").args(["depends", meta]))?;
        if let Some(name) = kernel_dependency(&String::from_utf8_lossy(&text.stdout)) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// The kernel package among the dependencies that `apt-cache depends` lists.
fn kernel_dependency(listing: &str) -> Option<String> {
    let mut names = listing.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    names.find(|name| name.starts_with("linux-image-")).map(str::to_string)
}

/// apt with the system's package lists, or with lists of our own in a folder.
struct Apt {
    own_lists: Option<PathBuf>,
}

impl Apt {
    /// An apt whose lists have the package that `find` looks for, and its name: with the system's lists if they have it
    /// and it can still be downloaded, else with new ones.
    fn with_package(work: &Path, find: impl Fn(&Self) -> Result<Option<String>>) -> Result<(Self, String)> {
        let system = Self { own_lists: None };
        if let Some(name) = find(&system)?
            && system.is_downloadable(&name)?
        {
            return Ok((system, name));
        }
        eprintln!("rx86: getting the distribution's package lists");
        let own = Self { own_lists: Some(work.join("apt")) };
        let update = own.update()?;
        match find(&own)? {
            Some(name) => Ok((own, name)),
            None => bail!("apt does not offer the package ({}); {BY_HAND}", reason(&update)),
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        // The output is parsed.
        command.env("LC_ALL", "C");
        if let Some(folder) = &self.own_lists {
            let state = folder.join("state").display().to_string();
            let cache = folder.join("cache").display().to_string();
            for option in [
                format!("Dir::State={state}"),
                format!("Dir::Cache={cache}"),
                "Dir::State::status=/var/lib/dpkg/status".to_string(),
                "APT::Architecture=amd64".to_string(),
                "APT::Sandbox::User=root".to_string(),
            ] {
                command.arg("-o").arg(option);
            }
        }
        command
    }

    fn run(&self, command: &mut Command) -> Result<Output> {
        let program = command.get_program().to_string_lossy().into_owned();
        command.output().map_err(|error| anyhow!("cannot run {program} ({error}); {BY_HAND}"))
    }

    /// Fetches the lists anew; that some source fails is seen when a package is missing.
    fn update(&self) -> Result<Output> {
        if let Some(folder) = &self.own_lists {
            for part in ["state/lists/partial", "cache/archives/partial"] {
                let part = folder.join(part);
                std::fs::create_dir_all(&part)
                    .with_context(|| format!("cannot create '{}'", part.display()))?;
            }
        }
        self.run(self.command("apt-get").args(["update", "-q"]))
    }

    fn knows(&self, name: &str) -> Result<bool> {
        let output = self.run(self.command("apt-cache").args(["show", "--no-all-versions", name]))?;
        Ok(output.status.success() && !output.stdout.is_empty())
    }

    /// Whether apt can say where the package comes from: one that is only installed has no address.
    fn is_downloadable(&self, name: &str) -> Result<bool> {
        let output = self.run(self.command("apt-get").args(["download", "--print-uris", name]))?;
        Ok(output.status.success() && !output.stdout.is_empty())
    }

    /// Downloads a package into `work`, with new lists if those at hand name a file that is gone; returns its file.
    fn download(&self, work: &Path, name: &str) -> Result<PathBuf> {
        eprintln!("rx86: getting {name} from the distribution's packages");
        let output = self.run(self.command("apt-get").args(["download", "-q", name]).current_dir(work))?;
        if output.status.success() {
            return find_package(work, name);
        }
        if self.own_lists.is_none() {
            let own = Self { own_lists: Some(work.join("apt")) };
            own.update()?;
            return own.download(work, name);
        }
        bail!("cannot download {name} ({}); {BY_HAND}", reason(&output))
    }
}

/// apt's first error.
fn reason(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    let first = errors.lines().find(|line| line.starts_with("E:")).or(errors.lines().next());
    first.unwrap_or("it gives no reason").to_string()
}

fn find_package(work: &Path, name: &str) -> Result<PathBuf> {
    let prefix = format!("{name}_");
    let entries = std::fs::read_dir(work).with_context(|| format!("cannot read '{}'", work.display()))?;
    let found = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&prefix)));
    found.with_context(|| format!("apt-get downloaded no package file for {name}; {BY_HAND}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_found_among_the_dependencies() {
        for (listing, name) in [
            (
                "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-9-cloud-amd64\n",
                Some("linux-image-6.1.0-9-cloud-amd64"),
            ),
            (
                "linux-image-virtual\n  Depends: linux-modules-6.8.0-1-generic\n  Depends: linux-image-6.8.0-1-generic\n",
                Some("linux-image-6.8.0-1-generic"),
            ),
            ("linux-image-amd64\n  Suggests: linux-image-old\n", None),
            ("", None),
        ] {
            assert_eq!(kernel_dependency(listing).as_deref(), name);
        }
    }
}
