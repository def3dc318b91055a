//! The `rx86` command.

use anyhow::Result;
use clap::Parser;
use rx86::args::{BootArgs, Cli, Command};
use rx86::session::{self, Images};
use rx86::{demo, exit_status, files};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let status = match &cli.command {
        Some(Command::Demo(args)) => demo::run(args),
        None => boot(&cli.boot),
    };
    match status {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("rx86: {error:#}");
            ExitCode::from(exit_status::HOST_ERROR)
        }
    }
}

fn boot(args: &BootArgs) -> Result<u8> {
    let kernel = args.kernel()?;
    let images = Images {
        kernel: files::read("kernel", kernel)?,
        kernel_name: kernel.display().to_string(),
        initrd: args.initrd.as_deref().map(|initrd| files::read("initrd", initrd)).transpose()?,
        append: args.append.clone(),
        protocol: args.boot_protocol,
    };
    session::run(images, &args.machine)
}
