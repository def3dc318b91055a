//! The 8254's cases, counted in ticks of a clock set by hand.

use std::sync::Arc;

use super::manual_clock::ManualClock;
use super::{FREQUENCY_HZ, Pit, ns_at, tick_at};
use crate::device::{Clock, Device};
use crate::wire::{Wire, WireHarness};

const CONTROL: u64 = 3;

struct Bench {
    clock: Arc<ManualClock>,
    harness: WireHarness,
    pit: Pit,
}

impl Bench {
    fn new() -> Self {
        let (clock, harness) = (ManualClock::new(), WireHarness::default());
        let pit = Pit::new(clock.clone(), harness.wire(0));
        harness.take_changes();
        Self { clock, harness, pit }
    }

    fn at(&mut self, tick: i64) -> &mut Self {
        self.clock.set_ns(ns_at(tick));
        self
    }

    fn write(&mut self, offset: u64, value: u8) -> &mut Self {
        self.pit.write(offset, &[value]);
        self
    }

    fn read(&mut self, offset: u64) -> u8 {
        let mut data = [0];
        self.pit.read(offset, &mut data);
        data[0]
    }

    fn read_count(&mut self, channel: u64) -> u16 {
        u16::from_le_bytes([self.read(channel), self.read(channel)])
    }

    fn out2(&mut self) -> bool {
        self.pit.read_port61() & 0x20 != 0
    }

    /// OUT of counter 2 at each of the ticks in `ticks`, as `-` and `_`.
    fn draw_out2(&mut self, ticks: std::ops::Range<i64>) -> String {
        ticks.map(|tick| if self.at(tick).out2() { '-' } else { '_' }).collect()
    }
}

#[test]
fn ticks_and_nanoseconds_do_not_drift() {
    for tick in [0, 1, 2, 1000, FREQUENCY_HZ as i64, 10_000_000_019, 1 << 50] {
        assert_eq!(tick_at(ns_at(tick)), tick);
        assert!(tick == 0 || tick_at(ns_at(tick) - 1) == tick - 1);
    }
    assert_eq!(tick_at(1_000_000_000), 1_193_182);
    assert_eq!(tick_at(365 * 86_400 * 1_000_000_000), 1_193_182 * 365 * 86_400);
}

/// Counter 2 is written at tick 0, so that its count is loaded at tick 1.
#[test]
fn outputs_of_the_six_modes() {
    for (mode, count, gate_rises_at, expected) in [
        (0, 4, None, "_____-------"),
        (2, 4, None, "----_---_---"),
        (3, 4, None, "---__--__--_"),
        (3, 5, None, "----__---__-"),
        (4, 4, None, "-----_------"),
        (1, 4, Some(2), "---____-----"),
        (5, 4, Some(2), "-------_----"),
        (1, 4, None, "------------"),
        (5, 4, None, "------------"),
        // The alias encodings of modes 2 and 3.
        (6, 4, None, "----_---_---"),
        (7, 4, None, "---__--__--_"),
    ] {
        let mut bench = Bench::new();
        let triggered = mode == 1 || mode == 5;
        bench.pit.write_port61(u8::from(!triggered));
        bench.write(CONTROL, 0x90 | mode << 1).write(2, count);
        let mut drawn = String::new();
        for tick in 0..12 {
            drawn += &bench.draw_out2(tick..tick + 1);
            if gate_rises_at == Some(tick) {
                bench.pit.write_port61(1);
            }
        }
        assert_eq!(drawn, expected, "mode {mode}, count {count}");
    }
}

#[test]
fn the_gate() {
    for (mode, expected) in [
        // The gate is low from tick 3 to tick 6.
        (0, "________----"),
        (4, "--------_---"),
        (2, "----------_-"),
        (3, "---_-----__-"),
    ] {
        let mut bench = Bench::new();
        bench.pit.write_port61(1);
        bench.write(CONTROL, 0x90 | mode << 1).write(2, 4);
        let mut drawn = String::new();
        for tick in 0..12 {
            drawn += &bench.draw_out2(tick..tick + 1);
            match tick {
                3 => bench.pit.write_port61(0),
                6 => bench.pit.write_port61(1),
                _ => {}
            }
        }
        assert_eq!(drawn, expected, "mode {mode}");
    }
}

#[test]
fn a_new_count_waits_for_the_end_of_the_period() {
    for (mode, written_at, expected) in
        [(2, 2, "----_--_--_--"), (3, 1, "---_-_-_-_-_-"), (3, 3, "---__-_-_-_-_"), (0, 2, "______-------")]
    {
        let mut bench = Bench::new();
        bench.pit.write_port61(1);
        bench.write(CONTROL, 0x90 | mode << 1).write(2, 4);
        let mut drawn = String::new();
        for tick in 0..13 {
            drawn += &bench.draw_out2(tick..tick + 1);
            if tick == written_at {
                bench.write(2, if mode == 3 { 2 } else { 3 });
            }
        }
        assert_eq!(drawn, expected, "mode {mode}, written at {written_at}");
    }
}

#[test]
fn counts_read_back() {
    for (control, low, high, elapsed, expected) in [
        (0xb0, 0x00, 0x10, 0x10, 0x0ff0),
        (0xb0, 0x00, 0x00, 1, 0xffff),
        (0xb0, 0x10, 0x00, 0x11, 0xffff),
        (0xb1, 0x00, 0x10, 1, 0x0999),
        (0xb1, 0x00, 0x00, 1, 0x9999),
        (0xb4, 0x00, 0x10, 0x1001, 0x0fff),
        (0xb5, 0x50, 0x01, 151, 0x0149),
        (0xb6, 0x00, 0x10, 3, 0x0ffa),
        (0xb6, 0x00, 0x10, 0x800, 0x1000),
        (0xb8, 0x05, 0x00, 7, 0xfffe),
    ] {
        let mut bench = Bench::new();
        bench.pit.write_port61(1);
        bench.write(CONTROL, control).write(2, low).write(2, high);
        let count = bench.at(1 + elapsed).read_count(2);
        assert_eq!(count, expected, "control {control:#x}, {elapsed} ticks after {high:02x}{low:02x}");
    }
}

#[test]
fn latches_hold() {
    let mut bench = Bench::new();
    bench.write(CONTROL, 0x34).write(0, 0x00).write(0, 0x10);
    bench.at(1 + 0x100).write(CONTROL, 0x00);
    bench.at(1 + 0x200).write(CONTROL, 0x00);
    assert_eq!(bench.read_count(0), 0x0f00, "the first latch holds until read");
    assert_eq!(bench.read_count(0), 0x0e00);
    // Read-back of status and count: the status comes first.
    bench.write(CONTROL, 0xc2);
    assert_eq!(bench.at(1 + 0x300).read(0), 0xb4);
    assert_eq!(bench.read_count(0), 0x0e00);
    // One byte only.
    bench.write(CONTROL, 0x20 | 0x04).write(0, 0x10);
    assert_eq!(bench.at(1 + 0x300 + 0x101).read(0), 0x0f);
    // Before the count is written it is null, and in mode 0 OUT is low.
    bench.write(CONTROL, 0x30).write(CONTROL, 0xe2);
    assert_eq!(bench.read(0), 0x70);
    assert_eq!(bench.read(CONTROL), 0xff);
}

#[test]
fn rising_edges_are_deadlines() {
    for (mode, count, expected) in [
        (0, 100, vec![101]),
        (2, 100, vec![101, 201, 301, 401]),
        (3, 101, vec![102, 203, 304, 405]),
        (4, 100, vec![102]),
        (1, 100, vec![]),
        (5, 100, vec![]),
    ] {
        let mut bench = Bench::new();
        bench.write(CONTROL, 0x10 | mode << 1).write(0, count);
        bench.harness.take_changes();
        for &tick in expected.iter().take(4) {
            let deadline_ns = bench.pit.next_deadline_ns().expect("an edge is due");
            assert_eq!(deadline_ns, ns_at(tick), "mode {mode}");
            bench.clock.set_ns(deadline_ns - 1);
            bench.pit.advance(deadline_ns - 1);
            assert_eq!(bench.harness.take_changes().rose, 0, "mode {mode}: early");
            bench.clock.set_ns(deadline_ns);
            bench.pit.advance(deadline_ns);
            assert_eq!(bench.harness.take_changes().rose, 1, "mode {mode}");
        }
        assert_eq!(bench.pit.next_deadline_ns().is_some(), mode == 2 || mode == 3, "mode {mode}");
    }
}

#[test]
fn a_late_tick_coalesces_and_stays_in_phase() {
    let mut bench = Bench::new();
    bench.write(CONTROL, 0x34).write(0, 0xa9).write(0, 0x04);
    bench.harness.take_changes();
    let now_ns = bench.at(1 + 1193 * 50 + 7).clock.now_ns();
    bench.pit.advance(now_ns);
    assert_eq!(bench.harness.take_changes().rose, 1);
    assert_eq!(bench.pit.next_deadline_ns(), Some(ns_at(1 + 1193 * 51)));
}

#[test]
fn port_61() {
    let mut bench = Bench::new();
    bench.pit.write_port61(0xff);
    assert_eq!(bench.pit.read_port61() & 0xcf, 0x0f);
    bench.clock.set_ns(15_085);
    assert_eq!(bench.pit.read_port61() & 0x10, 0x10);
    bench.clock.set_ns(30_170);
    assert_eq!(bench.pit.read_port61() & 0x10, 0);
}

#[test]
fn random_accesses_do_no_harm() {
    let mut bench = Bench::new();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for step in 0..50_000 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bench.at(step * 3 + (state >> 60) as i64);
        match state & 7 {
            0 => bench.pit.write_port61(state as u8 >> 3),
            1 => drop(bench.pit.read_port61()),
            2..=4 => drop(bench.read(state >> 8 & 3)),
            _ => drop(bench.write(state >> 8 & 3, (state >> 16) as u8)),
        }
        if let Some(deadline_ns) = bench.pit.next_deadline_ns() {
            assert!(tick_at(deadline_ns) > bench.pit.served_tick);
        }
    }
    drop(Pit::new(bench.clock.clone(), Wire::unconnected()));
}
