//! The `rx86` command.

use anyhow::Result;
use clap::Parser;
use rx86::args::{self, BootArgs, Cli, Command};
use rx86::image::Image;
use rx86::session::{self, Images};
use rx86::{demo, diff, exit_status, heap};
use std::process::ExitCode;

fn main() -> ExitCode {
    heap::keep_what_is_freed();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            eprintln!("rx86: {}", args::one_line(&error));
            return ExitCode::from(exit_status::HOST_ERROR);
        }
        // Help and the version come as errors too.
        Err(text) => {
            let _ = text.print();
            return ExitCode::SUCCESS;
        }
    };
    let machine =
        if let Some(Command::Demo(args)) = &cli.command { &args.machine } else { &cli.boot.machine };
    if let Some(text) = machine.cpu_help() {
        print!("{text}");
        return ExitCode::SUCCESS;
    }
    let status = match &cli.command {
        Some(Command::Demo(args)) => demo::run(args),
        Some(Command::Diff(args)) => diff::command::run(args),
        None => boot(&cli.boot),
    };
    match status {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            // A file's name may hold anything, but an error is one line.
            let line = format!("{error:#}").replace(char::is_control, "?");
            eprintln!("rx86: {line}");
            ExitCode::from(exit_status::HOST_ERROR)
        }
    }
}

fn boot(args: &BootArgs) -> Result<u8> {
    let images = Images {
        kernel: Image::File(args.kernel()?.clone()),
        initrd: args.initrd.clone().map(Image::File),
        append: args.append.clone(),
        protocol: args.boot_protocol,
    };
    session::run(images, &args.machine)
}
