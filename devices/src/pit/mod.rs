//! The 8254 interval timer and the part of port 0x61 that belongs to it (Intel 8254 datasheet; 82371AB for NMISC).

mod channel;

#[cfg(test)]
pub(crate) mod manual_clock;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::device::{Clock, Device};
use crate::wire::Wire;

use channel::Channel;

/// The frequency that all three counters count, in Hz.
pub const FREQUENCY_HZ: u64 = 1_193_182;

const NS_PER_SECOND: u128 = 1_000_000_000;
/// DRAM refresh toggles bit 4 of port 0x61 this often.
const REFRESH_NS: u64 = 15_085;

/// Bits of port 0x61.
mod port61 {
    pub(super) const GATE2: u8 = 1 << 0;
    pub(super) const WRITABLE: u8 = 0x0f;
    pub(super) const REFRESH: u8 = 1 << 4;
    pub(super) const OUT2: u8 = 1 << 5;
}

/// The 8254 with counter 0 on an interrupt wire, counter 1 unconnected, and counter 2 behind port 0x61.
pub struct Pit {
    channels: [Channel; 3],
    port61: u8,
    clock: Arc<dyn Clock>,
    out0: Wire,
    /// Edges of counter 0 up to this tick are delivered.
    served_tick: i64,
}

impl Pit {
    /// An 8254 whose counters have not been programmed yet. `out0` follows counter 0's output.
    pub fn new(clock: Arc<dyn Clock>, out0: Wire) -> Self {
        let mut pit = Self {
            channels: [Channel::new(true), Channel::new(true), Channel::new(false)],
            port61: 0,
            clock,
            out0,
            served_tick: 0,
        };
        pit.reset();
        pit
    }

    /// Reads port 0x61: the gate and the speaker as written, the refresh toggle and counter 2's output.
    pub fn read_port61(&mut self) -> u8 {
        let now_ns = self.clock.now_ns();
        let tick = tick_at(now_ns);
        self.channels[2].synchronize(tick);
        let mut value = self.port61;
        if (now_ns / REFRESH_NS) & 1 != 0 {
            value |= port61::REFRESH;
        }
        if self.channels[2].output(tick) {
            value |= port61::OUT2;
        }
        value
    }

    /// Writes port 0x61: bit 0 is counter 2's gate, bit 1 lets its output to the speaker.
    pub fn write_port61(&mut self, value: u8) {
        let tick = tick_at(self.clock.now_ns());
        self.port61 = value & port61::WRITABLE;
        self.channels[2].synchronize(tick);
        self.channels[2].set_gate(value & port61::GATE2 != 0, tick);
    }

    fn read_register(&mut self, offset: u64, tick: i64) -> u8 {
        match self.channels.get_mut(offset as usize) {
            Some(channel) => channel.read(tick),
            // The control word cannot be read.
            None => 0xff,
        }
    }

    fn write_register(&mut self, offset: u64, value: u8, tick: i64) {
        match self.channels.get_mut(offset as usize) {
            Some(channel) => channel.write(value, tick),
            None => self.write_control(value, tick),
        }
    }

    fn write_control(&mut self, value: u8, tick: i64) {
        let select = usize::from(value >> 6);
        if let Some(channel) = self.channels.get_mut(select) {
            channel.write_control(value, tick);
            return;
        }
        // Read-back: a zero in bit 5 latches counts, a zero in bit 4 latches statuses.
        for (index, channel) in self.channels.iter_mut().enumerate() {
            if value & 2 << index != 0 {
                if value & 1 << 5 == 0 {
                    channel.latch_count(tick);
                }
                if value & 1 << 4 == 0 {
                    channel.latch_status(tick);
                }
            }
        }
    }

    /// Delivers counter 0's edges up to `tick`. Several are one pulse: an 8259A could not tell them apart either.
    fn serve(&mut self, tick: i64) {
        let tick = tick.max(self.served_tick);
        let rises = self.channels[0].next_rise(self.served_tick).is_some_and(|rise| rise <= tick);
        for channel in &mut self.channels {
            channel.synchronize(tick);
        }
        self.served_tick = tick;
        if rises {
            self.out0.set(false);
            self.out0.set(true);
        }
        self.out0.set(self.channels[0].output(tick));
    }
}

impl Device for Pit {
    fn name(&self) -> &'static str {
        "pit"
    }

    fn read(&mut self, offset: u64, data: &mut [u8]) {
        let tick = tick_at(self.clock.now_ns());
        self.serve(tick);
        for (byte, offset) in data.iter_mut().zip(offset..) {
            *byte = self.read_register(offset, tick);
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let tick = tick_at(self.clock.now_ns());
        self.serve(tick);
        for (&byte, offset) in data.iter().zip(offset..) {
            self.write_register(offset, byte, tick);
        }
        self.out0.set(self.channels[0].output(tick));
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        self.channels[0].next_rise(self.served_tick).map(ns_at)
    }

    fn advance(&mut self, now_ns: u64) {
        self.serve(tick_at(now_ns));
    }

    fn reset(&mut self) {
        self.channels = [Channel::new(true), Channel::new(true), Channel::new(false)];
        self.port61 = 0;
        self.served_tick = tick_at(self.clock.now_ns());
        self.out0.set(self.channels[0].output(self.served_tick));
    }
}

/// Whole ticks since power-on.
fn tick_at(now_ns: u64) -> i64 {
    (u128::from(now_ns) * u128::from(FREQUENCY_HZ) / NS_PER_SECOND) as i64
}

/// The first nanosecond at which `tick_at` is `tick` or more.
fn ns_at(tick: i64) -> u64 {
    (u128::from(tick.max(0) as u64) * NS_PER_SECOND).div_ceil(u128::from(FREQUENCY_HZ)) as u64
}
