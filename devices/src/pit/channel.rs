//! One counter of the 8254, computed from the tick at which it was loaded instead of being counted down.

/// The six modes (8254 datasheet, "Mode Definitions").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    InterruptOnTerminalCount,
    OneShot,
    RateGenerator,
    SquareWave,
    SoftwareStrobe,
    HardwareStrobe,
}

impl Mode {
    fn from_bits(bits: u8) -> Self {
        match bits & 7 {
            0 => Self::InterruptOnTerminalCount,
            1 => Self::OneShot,
            2 | 6 => Self::RateGenerator,
            3 | 7 => Self::SquareWave,
            4 => Self::SoftwareStrobe,
            _ => Self::HardwareStrobe,
        }
    }

    fn is_periodic(self) -> bool {
        matches!(self, Self::RateGenerator | Self::SquareWave)
    }

    /// The gate's rising edge starts the counting.
    fn is_triggered(self) -> bool {
        matches!(self, Self::OneShot | Self::HardwareStrobe)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counting {
    /// No count was written since the control word, or the trigger has not come.
    Waiting,
    /// The count was loaded at this tick. It is one tick after the write or the trigger.
    Since(i64),
    /// The gate stopped the counting this many ticks after the load.
    Stopped(i64),
}

/// A count that does not take effect as soon as it is written.
#[derive(Clone, Copy, Debug)]
struct Next {
    count: i64,
    /// The tick at which the running period, or half of it in mode 3, ends; never, if a trigger is to load the count.
    boundary: i64,
    /// The origin of the counting from the boundary on.
    origin: i64,
}

#[derive(Debug)]
pub(super) struct Channel {
    mode: Mode,
    bcd: bool,
    /// Bits 5:4 of the control word: 1 low byte, 2 high byte, 3 low then high.
    access: u8,
    gate: bool,
    /// 1 to 65536.
    count: i64,
    next: Option<Next>,
    counting: Counting,
    /// The first byte of a two-byte write.
    low_byte: Option<u8>,
    high_byte_is_next: bool,
    latched_count: Option<u16>,
    latched_status: Option<u8>,
}

impl Channel {
    pub(super) fn new(gate: bool) -> Self {
        Self {
            mode: Mode::SquareWave,
            bcd: false,
            access: 3,
            gate,
            count: 0x1_0000,
            next: None,
            counting: Counting::Waiting,
            low_byte: None,
            high_byte_is_next: false,
            latched_count: None,
            latched_status: None,
        }
    }

    /// A control word for this counter; with access 0 it is the latch command.
    pub(super) fn write_control(&mut self, value: u8, tick: i64) {
        let access = value >> 4 & 3;
        if access == 0 {
            self.latch_count(tick);
            return;
        }
        *self = Self {
            mode: Mode::from_bits(value >> 1),
            bcd: value & 1 != 0,
            access,
            count: self.count,
            ..Self::new(self.gate)
        };
    }

    /// One byte of a count.
    pub(super) fn write(&mut self, value: u8, tick: i64) {
        let count = match self.access {
            1 => u16::from(value),
            2 => u16::from(value) << 8,
            _ => {
                let Some(low) = self.low_byte.take() else {
                    self.low_byte = Some(value);
                    // The first byte stops mode 0 at once (datasheet, mode 0).
                    if self.mode == Mode::InterruptOnTerminalCount {
                        self.counting = Counting::Waiting;
                    }
                    return;
                };
                u16::from_le_bytes([low, value])
            }
        };
        self.load(self.decode(count), tick);
    }

    /// One byte of the latched status, the latched count or the running count.
    pub(super) fn read(&mut self, tick: i64) -> u8 {
        if let Some(status) = self.latched_status.take() {
            return status;
        }
        let value = self.latched_count.unwrap_or_else(|| self.current(tick));
        let [low, high] = value.to_le_bytes();
        let (byte, is_last) = match self.access {
            1 => (low, true),
            2 => (high, true),
            _ => {
                let is_high = self.high_byte_is_next;
                self.high_byte_is_next = !is_high;
                (if is_high { high } else { low }, is_high)
            }
        };
        if is_last {
            self.latched_count = None;
        }
        byte
    }

    /// Latches the count until it is read; a second latch changes nothing.
    pub(super) fn latch_count(&mut self, tick: i64) {
        if self.latched_count.is_none() {
            self.latched_count = Some(self.current(tick));
        }
    }

    /// Latches the status byte: output, null count, and the control word.
    pub(super) fn latch_status(&mut self, tick: i64) {
        if self.latched_status.is_some() {
            return;
        }
        let null_count = self.next.is_some()
            || match self.counting {
                Counting::Waiting => true,
                Counting::Since(origin) => tick < origin,
                Counting::Stopped(elapsed) => elapsed < 0,
            };
        let status = u8::from(self.output(tick)) << 7
            | u8::from(null_count) << 6
            | self.access << 4
            | (self.mode as u8) << 1
            | u8::from(self.bcd);
        self.latched_status = Some(status);
    }

    pub(super) fn set_gate(&mut self, gate: bool, tick: i64) {
        let rose = gate && !self.gate;
        let fell = !gate && self.gate;
        self.gate = gate;
        let stoppable = matches!(self.mode, Mode::InterruptOnTerminalCount | Mode::SoftwareStrobe);
        match self.counting {
            Counting::Since(origin) if fell && stoppable => self.counting = Counting::Stopped(tick - origin),
            Counting::Stopped(elapsed) if rose && stoppable => {
                self.counting = Counting::Since(tick - elapsed)
            }
            Counting::Since(_) if fell && self.mode.is_periodic() => self.counting = Counting::Stopped(0),
            Counting::Stopped(_) if rose && self.mode.is_periodic() => self.trigger(tick),
            // Without a count ever written there is nothing to start.
            _ if rose
                && self.mode.is_triggered()
                && (self.counting != Counting::Waiting || self.next.is_some()) =>
            {
                self.trigger(tick);
            }
            _ => {}
        }
    }

    /// Puts a waiting count into effect if the running period has ended by `tick`.
    pub(super) fn synchronize(&mut self, tick: i64) {
        if let Some(next) = self.next.filter(|next| tick >= next.boundary) {
            self.count = next.count;
            self.counting = Counting::Since(next.origin);
            self.next = None;
        }
    }

    /// The level of OUT. The channel must be synchronized, here and below.
    pub(super) fn output(&self, tick: i64) -> bool {
        let (running, elapsed) = match self.counting {
            Counting::Waiting => return self.mode != Mode::InterruptOnTerminalCount,
            Counting::Since(origin) => (true, tick - origin),
            Counting::Stopped(elapsed) => (false, elapsed),
        };
        match self.mode {
            Mode::InterruptOnTerminalCount => elapsed >= self.count,
            Mode::OneShot => elapsed < 0 || elapsed >= self.count,
            // A low gate forces the output high.
            Mode::RateGenerator | Mode::SquareWave if !running || elapsed < 0 => true,
            Mode::RateGenerator => elapsed % period(self.count) != period(self.count) - 1,
            Mode::SquareWave => elapsed % period(self.count) < high_ticks(self.count),
            Mode::SoftwareStrobe | Mode::HardwareStrobe => elapsed != self.count,
        }
    }

    /// The first tick after `tick` at which OUT rises, for a channel synchronized at `tick` or before.
    pub(super) fn next_rise(&self, tick: i64) -> Option<i64> {
        let Counting::Since(origin) = self.counting else { return None };
        let rise = match self.mode {
            Mode::InterruptOnTerminalCount | Mode::OneShot => origin + self.count,
            Mode::SoftwareStrobe | Mode::HardwareStrobe => origin + self.count + 1,
            Mode::RateGenerator | Mode::SquareWave => {
                let rise = periodic_rise(origin, self.count, tick);
                match self.next {
                    Some(next) if rise > next.boundary => {
                        periodic_rise(next.origin, next.count, tick.max(next.boundary))
                    }
                    _ => rise,
                }
            }
        };
        (rise > tick).then_some(rise)
    }

    /// A whole count has been written.
    fn load(&mut self, count: i64, tick: i64) {
        match self.counting {
            _ if self.mode.is_triggered() => self.next = Some(Next { count, boundary: i64::MAX, origin: 0 }),
            Counting::Since(origin) if self.mode.is_periodic() && tick >= origin => {
                self.next = Some(self.at_end_of_period(count, tick - origin, tick));
            }
            Counting::Stopped(_) if self.mode.is_periodic() => self.count = count,
            _ => {
                self.count = count;
                self.next = None;
                // The count is loaded by the clock pulse after the write, with or without the gate.
                self.counting = if self.gate { Counting::Since(tick + 1) } else { Counting::Stopped(-1) };
            }
        }
    }

    fn at_end_of_period(&self, count: i64, elapsed: i64, tick: i64) -> Next {
        let position = elapsed % period(self.count);
        if self.mode == Mode::SquareWave && position < high_ticks(self.count) {
            let boundary = tick - position + high_ticks(self.count);
            return Next { count, boundary, origin: boundary - high_ticks(count) };
        }
        let boundary = tick - position + period(self.count);
        Next { count, boundary, origin: boundary }
    }

    /// Loads the counter by the gate's rising edge.
    fn trigger(&mut self, tick: i64) {
        if let Some(next) = self.next.take() {
            self.count = next.count;
        }
        self.counting = Counting::Since(tick + 1);
    }

    /// What the counting element holds, as a guest reads it.
    fn current(&self, tick: i64) -> u16 {
        let elapsed = match self.counting {
            Counting::Waiting => 0,
            Counting::Since(origin) => (tick - origin).max(0),
            Counting::Stopped(elapsed) => elapsed.max(0),
        };
        let value = match self.mode {
            Mode::RateGenerator => period(self.count) - elapsed % period(self.count),
            Mode::SquareWave => {
                // It counts by two, through once for each half.
                let position = elapsed % period(self.count);
                let high = high_ticks(self.count);
                (self.count & !1) - 2 * if position < high { position } else { position - high }
            }
            _ => self.count - elapsed,
        };
        self.encode(value)
    }

    fn decode(&self, written: u16) -> i64 {
        let digits = [written >> 12, written >> 8 & 15, written >> 4 & 15, written & 15];
        match written {
            0 if self.bcd => 10_000,
            0 => 0x1_0000,
            _ if self.bcd => digits.iter().fold(0, |value, &digit| value * 10 + i64::from(digit)),
            _ => i64::from(written),
        }
    }

    fn encode(&self, value: i64) -> u16 {
        if !self.bcd {
            return value as u16;
        }
        let value = value.rem_euclid(10_000) as u16;
        [1000, 100, 10, 1].iter().fold(0, |digits, power| (digits << 4) | ((value / power) % 10))
    }
}

/// Ticks from one rise to the next. A count of 1 is illegal in the periodic modes; it is taken for 2.
fn period(count: i64) -> i64 {
    count.max(2)
}

/// The first half of a square wave has the odd tick.
fn high_ticks(count: i64) -> i64 {
    (period(count) + 1) / 2
}

/// The first rise after `tick` of periods that began at `origin`.
fn periodic_rise(origin: i64, count: i64, tick: i64) -> i64 {
    let period = period(count);
    origin + period * ((tick - origin).div_euclid(period) + 1).max(1)
}
