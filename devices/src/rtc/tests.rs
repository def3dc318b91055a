//! The real-time clock's cases.

use std::sync::Arc;

use super::{REGISTER_A, REGISTER_B, REGISTER_C, REGISTER_D, Rtc};
use crate::device::{Clock, Device};
use crate::pit::manual_clock::ManualClock;
use crate::wire::WireHarness;

/// Tuesday, 2023-11-14 22:13:20.
const BOOT: i64 = 1_700_000_000;
const SECOND: u64 = 1_000_000_000;

struct Bench {
    clock: Arc<ManualClock>,
    harness: WireHarness,
    rtc: Rtc,
}

impl Bench {
    fn new(unix_seconds: i64) -> Self {
        let (clock, harness) = (ManualClock::new(), WireHarness::default());
        let rtc = Rtc::new(clock.clone(), unix_seconds, harness.wire(8));
        Self { clock, harness, rtc }
    }

    fn read(&mut self, index: usize) -> u8 {
        self.rtc.write(0, &[index as u8]);
        let mut data = [0];
        self.rtc.read(1, &mut data);
        data[0]
    }

    fn write(&mut self, index: usize, value: u8) -> &mut Self {
        self.rtc.write(0, &[index as u8]);
        self.rtc.write(1, &[value]);
        self
    }

    fn time(&mut self) -> [u8; 8] {
        [0x32, 9, 8, 7, 6, 4, 2, 0].map(|index| self.read(index))
    }

    fn set_time(&mut self, time: [u8; 8]) {
        for (index, value) in [0x32, 9, 8, 7, 6, 4, 2, 0].into_iter().zip(time) {
            self.write(index, value);
        }
    }

    fn irq(&self) -> bool {
        self.harness.take_changes().level & 1 << 8 != 0
    }

    /// Moves on to the next deadline, which must be `expected_ns`.
    fn go_to_deadline(&mut self, expected_ns: u64) {
        assert_eq!(self.rtc.next_deadline_ns(), Some(expected_ns));
        self.clock.set_ns(expected_ns - 1);
        self.rtc.advance(expected_ns - 1);
        assert!(!self.irq(), "early");
        self.clock.set_ns(expected_ns);
        self.rtc.advance(expected_ns);
        assert!(self.irq());
        assert_eq!(self.rtc.next_deadline_ns(), None, "nothing more to do until register C is read");
    }
}

#[test]
fn shows_the_time_in_all_formats() {
    for (unix_seconds, register_b, expected) in [
        (BOOT, 0x02, [0x20, 0x23, 0x11, 0x14, 0x03, 0x22, 0x13, 0x20]),
        (BOOT, 0x00, [0x20, 0x23, 0x11, 0x14, 0x03, 0x90, 0x13, 0x20]),
        (BOOT, 0x06, [20, 23, 11, 14, 3, 22, 13, 20]),
        (BOOT, 0x04, [20, 23, 11, 14, 3, 0x8a, 13, 20]),
        (0, 0x00, [0x19, 0x70, 0x01, 0x01, 0x05, 0x12, 0x00, 0x00]),
        (43_200, 0x00, [0x19, 0x70, 0x01, 0x01, 0x05, 0x92, 0x00, 0x00]),
        (i64::MIN, 0x02, [0x19, 0x70, 0x01, 0x01, 0x05, 0x00, 0x00, 0x00]),
        (i64::MAX, 0x02, [0x99, 0x99, 0x12, 0x31, 0x06, 0x23, 0x59, 0x59]),
    ] {
        let mut bench = Bench::new(unix_seconds);
        bench.rtc.cmos[REGISTER_B] = register_b;
        bench.rtc.show_time();
        assert_eq!(bench.time(), expected, "{unix_seconds} with B={register_b:#x}");
    }
}

#[test]
fn keeps_the_time_that_the_guest_sets() {
    for (register_b, time, later) in [
        (
            0x02,
            [0x19, 0x99, 0x12, 0x31, 0x06, 0x23, 0x59, 0x58],
            [0x20, 0x00, 0x01, 0x01, 0x07, 0x00, 0x00, 0x01],
        ),
        (0x06, [20, 24, 2, 28, 4, 23, 59, 59], [20, 24, 2, 29, 5, 0, 0, 2]),
        (
            0x00,
            [0x20, 0x25, 0x02, 0x28, 0x06, 0x91, 0x59, 0x59],
            [0x20, 0x25, 0x03, 0x01, 0x07, 0x12, 0x00, 0x02],
        ),
        // A day of the week of the guest's own.
        (0x06, [20, 24, 2, 28, 1, 12, 0, 0], [20, 24, 2, 28, 1, 12, 0, 3]),
        // Nonsense is taken as it carries over.
        (0x06, [20, 24, 13, 1, 4, 0, 0, 0], [20, 25, 1, 1, 4, 0, 0, 3]),
    ] {
        let mut bench = Bench::new(BOOT);
        bench.clock.set_ns(SECOND / 4);
        bench.write(REGISTER_B, 0x80 | register_b);
        bench.set_time(time);
        bench.clock.set_ns(100 * SECOND + SECOND / 4);
        assert_eq!(bench.time(), time, "SET holds the time");
        bench.write(REGISTER_B, register_b);
        bench.clock.set_ns(103 * SECOND + SECOND / 4);
        assert_eq!(bench.time(), later);
    }
}

#[test]
fn a_byte_set_without_stopping_the_clock() {
    let mut bench = Bench::new(BOOT);
    bench.write(4, 0x05);
    bench.clock.set_ns(40 * SECOND);
    assert_eq!(bench.time()[5..], [0x05, 0x14, 0x00]);
}

#[test]
fn the_divider_starts_half_a_second_before_the_update() {
    let mut bench = Bench::new(BOOT);
    bench.write(REGISTER_A, 0x70);
    bench.clock.set_ns(10 * SECOND);
    assert_eq!(bench.read(0), 0x20, "stopped");
    bench.write(REGISTER_A, 0x26);
    bench.clock.set_ns(10 * SECOND + SECOND / 2 - 1);
    assert_eq!(bench.read(0), 0x20);
    bench.clock.set_ns(10 * SECOND + SECOND / 2);
    assert_eq!(bench.read(0), 0x21);
}

#[test]
fn update_in_progress_precedes_the_update() {
    let mut bench = Bench::new(BOOT);
    for (now_ns, expected) in [
        (0, false),
        (SECOND - 2_228_001, false),
        (SECOND - 2_228_000, true),
        (SECOND - 1, true),
        (SECOND, false),
    ] {
        bench.clock.set_ns(now_ns);
        assert_eq!(bench.read(REGISTER_A) & 0x80 != 0, expected, "{now_ns}");
    }
    bench.write(REGISTER_B, 0x82);
    bench.clock.set_ns(2 * SECOND - 1);
    assert_eq!(bench.read(REGISTER_A), 0x26, "SET stops updates");
}

#[test]
fn periodic_interrupt() {
    for (rate, hz) in [(1, 256), (2, 128), (3, 8192), (6, 1024), (10, 64), (15, 2)] {
        let mut bench = Bench::new(BOOT);
        bench.write(REGISTER_A, 0x20 | rate).write(REGISTER_B, 0x42);
        for number in 1..6u64 {
            bench.go_to_deadline((number * SECOND).div_ceil(hz));
            assert_eq!(bench.read(REGISTER_C) & 0xe0, 0xc0);
            assert!(!bench.irq());
        }
    }
    let mut bench = Bench::new(BOOT);
    bench.write(REGISTER_A, 0x20).write(REGISTER_B, 0x42);
    assert_eq!(bench.rtc.next_deadline_ns(), None, "rate 0 is off");
}

#[test]
fn update_ended_interrupt() {
    let mut bench = Bench::new(BOOT);
    bench.write(REGISTER_A, 0x20).write(REGISTER_B, 0x12);
    bench.go_to_deadline(SECOND);
    assert_eq!(bench.read(REGISTER_C), 0x90);
    assert_eq!(bench.read(REGISTER_C), 0);
    bench.go_to_deadline(2 * SECOND);
    bench.write(REGISTER_B, 0x92);
    assert!(!bench.irq(), "SET clears UIE");
    assert_eq!(bench.read(REGISTER_B), 0x82);
}

#[test]
fn alarm() {
    for (alarm, seconds) in [
        ([0x22, 0x13, 0x25], 5),
        ([0xff, 0xff, 0x19], 59),
        ([0xc0, 0x14, 0x00], 40),
        ([0xff, 0xff, 0xff], 1),
        ([0x22, 0x13, 0x20], 86_400),
    ] {
        let mut bench = Bench::new(BOOT);
        bench.write(5, alarm[0]).write(3, alarm[1]).write(1, alarm[2]);
        bench.write(REGISTER_A, 0x20).write(REGISTER_B, 0x22);
        for second in 1..seconds {
            bench.clock.set_ns(second * SECOND);
            bench.rtc.advance(second * SECOND);
        }
        bench.go_to_deadline(seconds * SECOND);
        assert_eq!(bench.read(REGISTER_C) & 0xa0, 0xa0, "{alarm:x?}");

        // The same in one late step.
        let mut bench = Bench::new(BOOT);
        bench.write(5, alarm[0]).write(3, alarm[1]).write(1, alarm[2]).write(REGISTER_B, 0x22);
        bench.rtc.advance(1_000_000 * SECOND);
        assert!(bench.irq());
    }
}

#[test]
fn registers_and_ram() {
    let mut bench = Bench::new(BOOT);
    assert_eq!((bench.read(REGISTER_A), bench.read(REGISTER_B), bench.read(REGISTER_D)), (0x26, 0x02, 0x80));
    bench.write(REGISTER_D, 0).write(REGISTER_C, 0xff);
    assert_eq!((bench.read(REGISTER_C), bench.read(REGISTER_D)), (0, 0x80));
    bench.rtc.set_cmos(0x34, 0x5a);
    bench.rtc.set_cmos(0x0b, 0xff);
    bench.rtc.set_cmos(0xff, 0xff);
    assert_eq!((bench.read(0x34), bench.read(REGISTER_B)), (0x5a, 0x02));
    bench.write(0x80 | 0x7f, 0x77);
    assert_eq!(bench.read(0x7f), 0x77, "bit 7 of the index is the NMI mask");
    let mut index = [0];
    bench.rtc.read(0, &mut index);
    assert_eq!(index, [0xff]);
    bench.write(REGISTER_B, 0x7a).rtc.reset();
    assert_eq!(bench.read(REGISTER_B), 0x02);
}

#[test]
fn random_accesses_do_no_harm() {
    let mut bench = Bench::new(BOOT);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut now_ns = 0;
    for _ in 0..20_000 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        now_ns += state >> 33;
        bench.clock.set_ns(now_ns);
        let index = (state & 0x0f) as usize;
        if state & 0x10 == 0 {
            bench.write(if index == 15 { 0x32 } else { index }, (state >> 8) as u8);
        } else {
            bench.read(index);
        }
        if let Some(deadline_ns) = bench.rtc.next_deadline_ns() {
            assert!(deadline_ns > bench.clock.now_ns(), "a deadline is ahead");
        }
    }
}
