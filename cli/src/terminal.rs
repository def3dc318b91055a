//! The terminal in raw mode, restored on every way out.

use anyhow::{Context, Result};
use crossterm::terminal::{disable_raw_mode, enable_raw_mode};
use std::io::IsTerminal;

/// Raw mode while it lives; nothing if standard input is no terminal.
#[derive(Debug)]
pub struct RawTerminal {
    active: bool,
}

/// Whether standard input is a terminal, which a run puts into raw mode.
pub fn is_interactive() -> bool {
    std::io::stdin().is_terminal()
}

/// Puts the terminal back as it was before raw mode; does nothing if it never was in it.
pub fn restore() {
    // There is nobody left to tell if even this fails.
    let _ = disable_raw_mode();
}

impl RawTerminal {
    /// Puts the terminal into raw mode if standard input is one. A panic restores it before its message is printed.
    pub fn enter() -> Result<Self> {
        if !is_interactive() {
            return Ok(Self { active: false });
        }
        enable_raw_mode()
            .context("cannot put the terminal into raw mode; run with standard input from /dev/null")?;
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            restore();
            previous(info);
        }));
        Ok(Self { active: true })
    }

    /// Whether standard input is a terminal.
    pub fn is_active(&self) -> bool {
        self.active
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if self.active {
            restore();
        }
    }
}
