//! Interrupt wires: what a chip drives in place of calling an interrupt controller.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Up to 64 level wires between chips and the board, which routes them to the interrupt controllers.
#[derive(Clone, Debug, Default)]
pub struct WireHarness(Arc<Levels>);

#[derive(Debug, Default)]
struct Levels {
    level: AtomicU64,
    rose: AtomicU64,
    fell: AtomicU64,
}

/// What has happened on all wires since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireChanges {
    /// The present level of each wire.
    pub level: u64,
    /// Wires with a rising edge since the last look, even if they are low again.
    pub rose: u64,
    /// Wires with a falling edge since the last look, even if they are high again.
    pub fell: u64,
}

impl WireHarness {
    /// The end of wire `line` (0 to 63) that a chip holds.
    pub fn wire(&self, line: u8) -> Wire {
        assert!(line < 64, "a harness has 64 wires");
        Wire { harness: self.clone(), bit: 1 << line }
    }

    /// Takes the edges since the last call and the present levels.
    pub fn take_changes(&self) -> WireChanges {
        WireChanges {
            rose: self.0.rose.swap(0, Ordering::AcqRel),
            fell: self.0.fell.swap(0, Ordering::AcqRel),
            level: self.0.level.load(Ordering::Acquire),
        }
    }
}

/// One chip's output wire.
#[derive(Clone, Debug)]
pub struct Wire {
    harness: WireHarness,
    bit: u64,
}

impl Wire {
    /// A wire that leads nowhere, for a chip on its own.
    pub fn unconnected() -> Self {
        WireHarness::default().wire(0)
    }

    /// Drives the wire high or low; only a change is an edge.
    pub fn set(&self, high: bool) {
        let levels = &self.harness.0;
        if high {
            if levels.level.fetch_or(self.bit, Ordering::AcqRel) & self.bit == 0 {
                levels.rose.fetch_or(self.bit, Ordering::AcqRel);
            }
        } else if levels.level.fetch_and(!self.bit, Ordering::AcqRel) & self.bit != 0 {
            levels.fell.fetch_or(self.bit, Ordering::AcqRel);
        }
    }

    /// The level now driven.
    pub fn is_high(&self) -> bool {
        self.harness.0.level.load(Ordering::Acquire) & self.bit != 0
    }
}
