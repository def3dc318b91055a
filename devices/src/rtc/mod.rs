//! The MC146818A real-time clock with 128 bytes of CMOS RAM (Motorola MC146818A datasheet; 82371AB for the PC).

mod calendar;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::device::{Clock, Device};
use crate::wire::Wire;

use calendar::{DateTime, SECONDS_PER_DAY};

const SECONDS: usize = 0x00;
const SECONDS_ALARM: usize = 0x01;
const MINUTES: usize = 0x02;
const MINUTES_ALARM: usize = 0x03;
const HOURS: usize = 0x04;
const HOURS_ALARM: usize = 0x05;
const DAY_OF_WEEK: usize = 0x06;
const DAY_OF_MONTH: usize = 0x07;
const MONTH: usize = 0x08;
const YEAR: usize = 0x09;
const REGISTER_A: usize = 0x0a;
const REGISTER_B: usize = 0x0b;
const REGISTER_C: usize = 0x0c;
const REGISTER_D: usize = 0x0d;
/// Where the PC keeps the century; the FADT names this byte to the guest.
const CENTURY: usize = 0x32;

const A_UIP: u8 = 1 << 7;
const A_DIVIDER: u8 = 0x70;
const A_RATE: u8 = 0x0f;
/// The 32.768 kHz time base runs; other settings stop or reset the chain.
const A_RUNNING: u8 = 0x20;
const B_SET: u8 = 1 << 7;
const B_PIE: u8 = 1 << 6;
const B_AIE: u8 = 1 << 5;
const B_UIE: u8 = 1 << 4;
const B_SQWE: u8 = 1 << 3;
const B_BINARY: u8 = 1 << 2;
const B_24_HOURS: u8 = 1 << 1;
const C_IRQF: u8 = 1 << 7;
const C_PF: u8 = 1 << 6;
const C_AF: u8 = 1 << 5;
const C_UF: u8 = 1 << 4;
const D_VRT: u8 = 1 << 7;

/// The end of the year 9999, after which four BCD digits of a year do not suffice.
const LAST_SECOND: i64 = 253_402_300_799;
const NS_PER_SECOND: i128 = 1_000_000_000;
/// UIP is set 244 us before an update, which takes 1984 us; the new time shows at its end.
const UPDATE_NS: i128 = (244 + 1984) * 1000;
const TIME_BASE_HZ: i128 = 32_768;

/// The clock and its CMOS RAM at an index and a data port.
pub struct Rtc {
    clock: Arc<dyn Clock>,
    irq: Wire,
    index: u8,
    /// All bytes. Those of the time are brought up to date before they are read.
    cmos: [u8; 128],
    /// What to add to the clock to get the nanoseconds since 1970 that the divider chain and the time count.
    offset_ns: i128,
    /// Days by which the guest's day of the week is ahead of the calendar's.
    weekday_shift: u8,
    /// The chain's time up to which flags were raised.
    served_ns: i128,
}

impl Rtc {
    /// A clock that showed `unix_seconds_at_boot` when `clock` was 0, in 24-hour BCD. `irq` is the line of IRQ 8.
    pub fn new(clock: Arc<dyn Clock>, unix_seconds_at_boot: i64, irq: Wire) -> Self {
        let mut cmos = [0; 128];
        cmos[REGISTER_A] = A_RUNNING | 6;
        cmos[REGISTER_B] = B_24_HOURS;
        cmos[REGISTER_D] = D_VRT;
        let mut rtc = Self {
            clock,
            irq,
            index: 0,
            cmos,
            offset_ns: i128::from(unix_seconds_at_boot.clamp(0, LAST_SECOND)) * NS_PER_SECOND,
            weekday_shift: 0,
            served_ns: 0,
        };
        rtc.served_ns = rtc.chain_ns();
        rtc.show_time();
        rtc
    }

    /// Sets a byte of the CMOS RAM, as firmware does for memory sizes. The clock's 14 registers are not RAM.
    pub fn set_cmos(&mut self, index: u8, value: u8) {
        if let Some(byte) = self.cmos.get_mut(usize::from(index)).filter(|_| index as usize > REGISTER_D) {
            *byte = value;
        }
    }

    fn read_data(&mut self) -> u8 {
        let index = usize::from(self.index);
        self.serve(self.chain_ns());
        match index {
            REGISTER_A => {
                let updating =
                    self.counts() && self.chain_ns().rem_euclid(NS_PER_SECOND) >= NS_PER_SECOND - UPDATE_NS;
                self.cmos[REGISTER_A] | if updating { A_UIP } else { 0 }
            }
            REGISTER_C => {
                let flags = std::mem::take(&mut self.cmos[REGISTER_C]);
                self.drive_irq();
                flags
            }
            _ => self.cmos[index],
        }
    }

    fn write_data(&mut self, value: u8) {
        let index = usize::from(self.index);
        self.serve(self.chain_ns());
        match index {
            REGISTER_A => self.write_register_a(value),
            REGISTER_B => self.write_register_b(value),
            REGISTER_C | REGISTER_D => {}
            SECONDS | MINUTES | HOURS | DAY_OF_WEEK | DAY_OF_MONTH | MONTH | YEAR | CENTURY => {
                self.cmos[index] = value;
                if self.counts() {
                    self.take_time();
                }
            }
            _ => self.cmos[index] = value,
        }
    }

    fn write_register_a(&mut self, value: u8) {
        let was_running = self.is_running();
        self.cmos[REGISTER_A] = value & !A_UIP;
        if was_running == self.is_running() {
            return;
        }
        if was_running {
            // `serve` has brought the bytes of the time up to date, and there they stay.
            return;
        }
        // The first update comes half a second after the chain is let go.
        self.offset_ns = NS_PER_SECOND / 2 - i128::from(self.clock.now_ns());
        self.take_time();
    }

    fn write_register_b(&mut self, value: u8) {
        let was_counting = self.counts();
        // SET also clears the update-ended interrupt's enable.
        self.cmos[REGISTER_B] = if value & B_SET != 0 { value & !B_UIE } else { value };
        if !was_counting && self.counts() {
            self.take_time();
        }
        self.drive_irq();
    }

    /// Raises the flags of what happened up to `now_ns` of the chain's time, and shows the time.
    fn serve(&mut self, now_ns: i128) {
        if !self.is_running() {
            return;
        }
        let now_ns = now_ns.max(self.served_ns);
        let before_ns = std::mem::replace(&mut self.served_ns, now_ns);
        if let Some(rate) = self.rate()
            && periods(before_ns, rate) != periods(now_ns, rate)
        {
            self.cmos[REGISTER_C] |= C_PF;
        }
        if self.counts() {
            let (before, now) = (seconds(before_ns), seconds(now_ns));
            if now != before {
                self.cmos[REGISTER_C] |= C_UF;
                // In a day every alarm has rung.
                let first = (before + 1).max(now - SECONDS_PER_DAY);
                if self.cmos[REGISTER_C] & C_AF == 0 && (first..=now).any(|second| self.alarm_matches(second))
                {
                    self.cmos[REGISTER_C] |= C_AF;
                }
                self.show_time();
            }
        }
        self.drive_irq();
    }

    fn drive_irq(&mut self) {
        let enabled = self.cmos[REGISTER_B] & (B_PIE | B_AIE | B_UIE);
        let flags = self.cmos[REGISTER_C] & (C_PF | C_AF | C_UF);
        // Flags and enables are at the same bits.
        let interrupts = flags & enabled != 0;
        self.cmos[REGISTER_C] = if interrupts { flags | C_IRQF } else { flags };
        self.irq.set(interrupts);
    }

    /// An alarm byte of 0xc0 and above matches anything.
    fn alarm_matches(&self, unix_seconds: i64) -> bool {
        let time = DateTime::from_unix(unix_seconds);
        let matches = |index: usize, shown: u8| self.cmos[index] >= 0xc0 || self.cmos[index] == shown;
        matches(SECONDS_ALARM, self.encode(time.second))
            && matches(MINUTES_ALARM, self.encode(time.minute))
            && matches(HOURS_ALARM, self.encode_hour(time.hour))
    }

    /// Brings the bytes of the time up to date.
    fn show_time(&mut self) {
        let time = DateTime::from_unix(seconds(self.served_ns));
        let weekday = (time.weekday - 1 + self.weekday_shift) % 7 + 1;
        self.cmos[SECONDS] = self.encode(time.second);
        self.cmos[MINUTES] = self.encode(time.minute);
        self.cmos[HOURS] = self.encode_hour(time.hour);
        self.cmos[DAY_OF_WEEK] = self.encode(weekday);
        self.cmos[DAY_OF_MONTH] = self.encode(time.day);
        self.cmos[MONTH] = self.encode(time.month);
        self.cmos[YEAR] = self.encode(time.year.rem_euclid(100) as u8);
        self.cmos[CENTURY] = self.encode(time.year.div_euclid(100).rem_euclid(100) as u8);
    }

    /// Takes the bytes of the time as the guest has set them; the phase within the second is the chain's and stays.
    fn take_time(&mut self) {
        let year = i64::from(self.decode(self.cmos[CENTURY])) * 100 + i64::from(self.decode(self.cmos[YEAR]));
        let time = DateTime {
            year,
            month: self.decode(self.cmos[MONTH]),
            day: self.decode(self.cmos[DAY_OF_MONTH]),
            weekday: 0,
            hour: self.decode_hour(self.cmos[HOURS]),
            minute: self.decode(self.cmos[MINUTES]),
            second: self.decode(self.cmos[SECONDS]),
        };
        let set_seconds = time.to_unix();
        let written_weekday = self.decode(self.cmos[DAY_OF_WEEK]);
        let weekday = DateTime::from_unix(set_seconds).weekday;
        self.weekday_shift = (written_weekday % 7 + 7 - weekday % 7) % 7;
        let counted_seconds = seconds(self.chain_ns());
        self.offset_ns += i128::from(set_seconds - counted_seconds) * NS_PER_SECOND;
        self.served_ns = self.chain_ns();
    }

    fn chain_ns(&self) -> i128 {
        self.offset_ns + i128::from(self.clock.now_ns())
    }

    fn is_running(&self) -> bool {
        self.cmos[REGISTER_A] & A_DIVIDER == A_RUNNING
    }

    /// Whether the time goes on: the chain runs and SET is clear.
    fn counts(&self) -> bool {
        self.is_running() && self.cmos[REGISTER_B] & B_SET == 0
    }

    /// The right shift that turns ticks of the time base into periodic interrupts; `None` if they are off.
    fn rate(&self) -> Option<u32> {
        match self.cmos[REGISTER_A] & A_RATE {
            0 => None,
            // At 32.768 kHz the two fastest settings wrap around to 256 and 128 Hz.
            rate @ 1..=2 => Some(u32::from(rate) + 6),
            rate => Some(u32::from(rate) - 1),
        }
    }

    fn encode(&self, value: u8) -> u8 {
        if self.cmos[REGISTER_B] & B_BINARY != 0 { value } else { (value / 10) << 4 | (value % 10) }
    }

    fn decode(&self, shown: u8) -> u8 {
        if self.cmos[REGISTER_B] & B_BINARY != 0 { shown } else { (shown >> 4) * 10 + (shown & 15) }
    }

    fn encode_hour(&self, hour: u8) -> u8 {
        if self.cmos[REGISTER_B] & B_24_HOURS != 0 {
            return self.encode(hour);
        }
        let pm = if hour >= 12 { 0x80 } else { 0 };
        self.encode((hour + 11) % 12 + 1) | pm
    }

    fn decode_hour(&self, shown: u8) -> u8 {
        if self.cmos[REGISTER_B] & B_24_HOURS != 0 {
            return self.decode(shown);
        }
        let pm = if shown & 0x80 != 0 { 12 } else { 0 };
        self.decode(shown & 0x7f) % 12 + pm
    }
}

impl Device for Rtc {
    fn name(&self) -> &'static str {
        "rtc"
    }

    fn read(&mut self, offset: u64, data: &mut [u8]) {
        for (byte, offset) in data.iter_mut().zip(offset..) {
            // The index port is write-only.
            *byte = if offset == 1 { self.read_data() } else { 0xff };
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        for (&byte, offset) in data.iter().zip(offset..) {
            match offset {
                // Bit 7 masks NMI on a PC; nothing on this board makes one through it.
                0 => self.index = byte & 0x7f,
                1 => self.write_data(byte),
                _ => {}
            }
        }
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        if !self.is_running() || self.cmos[REGISTER_C] & C_IRQF != 0 {
            // The wire is high already and stays so until the guest reads register C.
            return None;
        }
        let enabled = self.cmos[REGISTER_B];
        let second = (enabled & (B_AIE | B_UIE) != 0 && self.counts())
            .then(|| (self.served_ns.div_euclid(NS_PER_SECOND) + 1) * NS_PER_SECOND);
        let period = self
            .rate()
            .filter(|_| enabled & B_PIE != 0)
            .map(|rate| period_start_ns(periods(self.served_ns, rate) + 1, rate));
        let chain_ns = second.into_iter().chain(period).min()?;
        u64::try_from(chain_ns - self.offset_ns).ok()
    }

    fn advance(&mut self, now_ns: u64) {
        self.serve(self.offset_ns + i128::from(now_ns));
    }

    fn reset(&mut self) {
        self.serve(self.chain_ns());
        self.cmos[REGISTER_B] &= !(B_PIE | B_AIE | B_UIE | B_SQWE);
        self.cmos[REGISTER_C] = 0;
        self.index = 0;
        self.irq.set(false);
    }
}

/// Whole seconds since 1970.
fn seconds(chain_ns: i128) -> i64 {
    chain_ns.div_euclid(NS_PER_SECOND) as i64
}

/// Periodic interrupts up to `chain_ns`, each `1 << rate` ticks of the time base.
fn periods(chain_ns: i128, rate: u32) -> i128 {
    (chain_ns * TIME_BASE_HZ).div_euclid(NS_PER_SECOND) >> rate
}

/// The first nanosecond at which `periods` is `number`.
fn period_start_ns(number: i128, rate: u32) -> i128 {
    -(-(number << rate) * NS_PER_SECOND).div_euclid(TIME_BASE_HZ)
}
