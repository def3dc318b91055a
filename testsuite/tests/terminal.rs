//! A person at a terminal: rx86 on a pseudo-terminal of its own, typed at and looked at from the other side.
#![cfg(unix)]
#![expect(unsafe_code, reason = "a child gets its controlling terminal between fork and exec")]

use iced_x86::code_asm::*;
use rustix::process::{Pid, Signal};
use rustix::pty::OpenptFlags;
use rustix::termios::{LocalModes, Termios};
use rx86::demo::debian::Flavour;
use rx86_testsuite::guest::bare;
use rx86_testsuite::guest::debian;
use rx86_testsuite::guest::runner::{Emulator, Guest};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Child;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

const TMP: &str = env!("CARGO_TARGET_TMPDIR");
/// Only ends what hangs.
const LIMIT: Duration = Duration::from_secs(300);
const CTRL_C: &str = "\x03";
const BACKSPACE: &str = "\x7f";
const LEFT: &str = "\x1b[D";
const HOME: &str = "\x01\x01";

/// A pseudo-terminal with rx86 as the leader of its session.
struct Terminal {
    keyboard: File,
    /// Held open, so that the settings outlive the child.
    line: File,
    /// The settings before rx86 was started.
    before: Termios,
    child: Child,
    screen: Receiver<Vec<u8>>,
    /// What came and was not yet waited for.
    unread: String,
}

impl Terminal {
    /// Starts rx86 with `guest` on a terminal of its own.
    fn start(guest: &Guest) -> Self {
        let controller =
            rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("there are ptys");
        rustix::pty::grantpt(&controller).expect("the pty is ours");
        rustix::pty::unlockpt(&controller).expect("the pty is ours");
        let name = rustix::pty::ptsname(&controller, Vec::new()).expect("the pty has a name");
        let name = name.into_string().expect("names of ptys are ASCII");
        let line = File::options().read(true).write(true).open(name).expect("the pty opens");
        let before = rustix::termios::tcgetattr(&line).expect("it is a terminal");
        let mut command = guest.command(Emulator::Rx86).expect("rx86 is built");
        let copy = || line.try_clone().expect("descriptors are left");
        command.stdin(copy()).stdout(copy()).stderr(copy());
        // SAFETY: between fork and exec this makes two system calls and touches no memory of the parent's threads.
        unsafe {
            command.pre_exec(|| {
                rustix::process::setsid()?;
                rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
                Ok(())
            });
        }
        let child = command.spawn().expect("rx86 starts");
        let keyboard = File::from(controller);
        let mut reader = keyboard.try_clone().expect("descriptors are left");
        let (sender, screen) = mpsc::channel();
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut chunk) {
                if sender.send(chunk[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { keyboard, line, before, child, screen, unread: String::new() }
    }

    fn type_keys(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// Waits until `text` is on the screen, behind what was waited for before.
    fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(at) = self.unread.find(text) {
                self.unread.drain(..at + text.len());
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(left) {
                Ok(bytes) => self.unread.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("'{text}' did not come; the screen shows: {:?}", self.unread),
            }
        }
    }

    /// Types a command line and waits for its output, which must not be in the line itself.
    fn command(&mut self, keys: &str, output: &str) {
        assert!(!keys.contains(output), "the echo of {keys:?} would pass for its output");
        self.type_keys(keys);
        self.type_keys("\r");
        self.wait_for(&format!("{output}\r\n"));
    }

    fn settings(&self) -> Termios {
        rustix::termios::tcgetattr(&self.line).expect("it is a terminal")
    }

    /// Asserts that keys go to the guest as they are: no echo, no line editing, no signals by the host.
    fn assert_raw(&self) {
        let cooked = LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        assert!(self.before.local_modes.contains(cooked), "{:?}", self.before);
        assert!(!self.settings().local_modes.intersects(cooked), "{:?}", self.settings());
    }

    fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).expect("rx86 still runs");
    }

    /// Waits for the end of rx86; asserts its status and that the terminal is as it was.
    fn assert_ends(mut self, name: &str, status: i32) {
        let deadline = Instant::now() + LIMIT;
        let ended = loop {
            if let Some(ended) = self.child.try_wait().expect("it is our child") {
                break ended;
            }
            assert!(Instant::now() < deadline, "{name}: rx86 does not end");
            std::thread::park_timeout(Duration::from_millis(5));
        };
        assert_eq!(ended.code(), Some(status), "{name}: {:?}", self.unread);
        assert_eq!(format!("{:?}", self.settings()), format!("{:?}", self.before), "{name}: settings");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A failed test leaves no emulator behind; one that has ended cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_person_uses_the_shell() {
    let script = "echo welcome\nsetsid cttyhack sh\npoweroff -f\n";
    let Some(guest) = debian::guest(TMP, "terminal", Flavour::Cloud, script, &[]) else { return };
    let mut terminal = Terminal::start(&guest);
    terminal.wait_for("welcome");
    terminal.wait_for("# ");
    terminal.assert_raw();
    terminal.command("echo sum-$((6 * 7))", "sum-42");
    terminal.command(&format!("echo hexx{}llo-$((1 + 1))", BACKSPACE.repeat(2)), "hello-2");
    // The cursor goes back over `d-$((1+2))`.
    terminal.command(&format!("echo held-$((1+2)){}lo worl", LEFT.repeat(10)), "hello world-3");
    // Ctrl-A Ctrl-A is Ctrl-A to the guest: the line's beginning.
    terminal.command(&format!(" begins-$((2 + 2)){HOME}echo"), "begins-4");
    // Ctrl-C is the guest's, and ends the guest's program with SIGINT.
    terminal.command("sh -c 'echo started-$((5 * 5)); exec sleep 1000'", "started-25");
    terminal.type_keys(CTRL_C);
    terminal.command("echo ended-$?", "ended-130");
    terminal.type_keys("\x01h");
    terminal.wait_for("Ctrl-A X ");
    terminal.command("echo still-$((8 * 8))", "still-64");
    terminal.type_keys("\x01x");
    terminal.assert_ends("Ctrl-A X", 8);
}

#[test]
fn a_shell_that_is_left_powers_off() {
    let script = "setsid cttyhack sh\npoweroff -f\n";
    let Some(guest) = debian::guest(TMP, "terminal-exit", Flavour::Cloud, script, &[]) else { return };
    let mut terminal = Terminal::start(&guest);
    terminal.wait_for("# ");
    // Ctrl-D.
    terminal.type_keys("\x04");
    terminal.assert_ends("Ctrl-D", 0);
}

#[test]
fn a_machine_is_paused_and_shows_its_state() {
    let image = bare::guest(|a| {
        let (mut wait, mut ready) = (a.create_label(), a.create_label());
        bare::print(a, "ready\n")?;
        a.mov(ebx, 0x600d_cafe)?;
        // DTR and RTS: the guest listens.
        a.mov(edx, 0x3fc)?;
        a.mov(al, 3)?;
        a.out(dx, al)?;
        a.set_label(&mut wait)?;
        a.mov(edx, 0x3fd)?;
        a.in_(al, dx)?;
        a.test(al, 1)?;
        a.jne(ready)?;
        a.jmp(wait)?;
        a.set_label(&mut ready)?;
        bare::print(a, "went on\n")?;
        bare::power_off(a)
    });
    for mode in [None, Some("--record")] {
        let kernel = PathBuf::from(TMP).join("terminal-pause.elf");
        std::fs::write(&kernel, &image).expect("the target folder can be written");
        let record = PathBuf::from(TMP).join("terminal-pause.recording").into_os_string();
        let rx86_args = mode.into_iter().flat_map(|mode| [mode.into(), record.clone()]).collect();
        let guest = Guest { kernel, initrd: None, append: String::new(), memory_mib: 64, rx86_args };
        let mut terminal = Terminal::start(&guest);
        terminal.wait_for("ready");
        terminal.type_keys("\x01p");
        terminal.wait_for("paused");
        for _ in 0..2 {
            terminal.type_keys("\x01s");
            terminal.wait_for("processor 0 executes at 0x10");
            terminal.wait_for("RBX=00000000600dcafe");
        }
        terminal.type_keys("x\x01p");
        terminal.wait_for("went on");
        terminal.assert_ends("power-off", 0);
    }
}

/// What ends a run from outside.
enum Ending {
    /// The guest itself.
    Guest,
    Keys(&'static str),
    Signal(Signal),
}

#[test]
fn the_terminal_is_restored_on_every_way_out() {
    let ready = |rest: fn(&mut CodeAssembler) -> Result<(), iced_x86::IcedError>| {
        bare::guest(|a| {
            bare::print(a, "ready\n")?;
            rest(a)
        })
    };
    let power_off = ready(bare::power_off);
    let triple_fault = ready(CodeAssembler::ud2);
    let runs = ready(|a| {
        let mut top = a.create_label();
        a.set_label(&mut top)?;
        a.jmp(top)
    });
    let cases: [(&str, &[u8], Ending, i32); 7] = [
        ("power-off", &power_off, Ending::Guest, 0),
        ("triple-fault", &triple_fault, Ending::Guest, 6),
        ("quit", &runs, Ending::Keys("\x01x"), 8),
        ("quit-capital", &runs, Ending::Keys("lost\x01X"), 8),
        ("interrupt", &runs, Ending::Signal(Signal::INT), 8),
        ("terminate", &runs, Ending::Signal(Signal::TERM), 8),
        ("hang-up", &runs, Ending::Signal(Signal::HUP), 8),
    ];
    for (name, image, ending, status) in cases {
        let kernel = PathBuf::from(TMP).join(format!("terminal-{name}.elf"));
        std::fs::write(&kernel, image).expect("the target folder can be written");
        let guest =
            Guest { kernel, initrd: None, append: String::new(), memory_mib: 64, rx86_args: Vec::new() };
        let mut terminal = Terminal::start(&guest);
        terminal.wait_for("ready");
        if !matches!(ending, Ending::Guest) {
            terminal.assert_raw();
        }
        match ending {
            Ending::Guest => {}
            Ending::Keys(keys) => terminal.type_keys(keys),
            Ending::Signal(signal) => terminal.signal(signal),
        }
        terminal.assert_ends(name, status);
    }
}
