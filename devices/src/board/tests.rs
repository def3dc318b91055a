//! The board as a guest sees it: interrupts from chip to vector, requests to the machine, odd and random accesses.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::layout::{
    ACPI_ENABLE, GPE0, I8042_COMMAND, IOAPIC_BASE, IOAPIC_PIN_PIT, PCI_CONFIG_ADDRESS, PCI_CONFIG_DATA,
    PIC_MASTER, PIC_SLAVE, PIT, PM_BASE, PM_TIMER, PM1A_CONTROL, PM1A_EVENT, PORT_92, RESET_CONTROL,
    RESET_VALUE, RTC, SERIAL, SLP_TYP_S5, SMI_COMMAND,
};

/// Guest time and a time-stamp counter of 1 GHz.
#[derive(Default)]
struct Time(AtomicU64);

impl Clock for Time {
    fn now_ns(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl TscClock for Time {
    fn tsc(&self) -> u64 {
        self.now_ns()
    }

    fn ns_until(&self, tsc: u64) -> u64 {
        tsc.saturating_sub(self.now_ns())
    }
}

#[derive(Clone, Default)]
struct Line(Arc<Mutex<Vec<u8>>>);

impl SerialSink for Line {
    fn transmit(&mut self, byte: u8) {
        self.0.lock().unwrap().push(byte);
    }
}

struct Pc {
    board: Board,
    attentions: Vec<Attention>,
    time: Arc<Time>,
    line: Line,
}

impl Pc {
    fn new(cpus: u32) -> Self {
        let (time, line) = (Arc::new(Time::default()), Line::default());
        let attentions: Vec<_> = (0..cpus).map(|_| Attention::default()).collect();
        let config = BoardConfig {
            cpus,
            debug_exit: Some(0xf4),
            serial: Box::new(line.clone()),
            unix_seconds_at_boot: 1_700_000_000,
            clock: time.clone(),
            tsc: time.clone(),
            ram_low_bytes: 512 << 20,
            ram_high_bytes: 4 << 30,
        };
        Self { board: Board::new(config, attentions.clone()), attentions, time, line }
    }

    fn out(&mut self, writes: &[(u16, u8)]) {
        for &(port, value) in writes {
            self.board.port_write(port, 1, u32::from(value));
        }
    }

    /// Vectors from 0x30 on, everything masked but `unmasked`.
    fn program_pics(&mut self, unmasked: u16) {
        let [master, slave] = (!unmasked).to_le_bytes();
        self.out(&[
            (PIC_MASTER, 0x11),
            (PIC_MASTER + 1, 0x30),
            (PIC_MASTER + 1, 0x04),
            (PIC_MASTER + 1, 0x01),
            (PIC_SLAVE, 0x11),
            (PIC_SLAVE + 1, 0x38),
            (PIC_SLAVE + 1, 0x02),
            (PIC_SLAVE + 1, 0x01),
            (PIC_MASTER + 1, master),
            (PIC_SLAVE + 1, slave),
        ]);
    }

    fn program_ioapic(&mut self, pin: u8, entry: u64) {
        for (half, value) in [(1, (entry >> 32) as u32), (0, entry as u32)] {
            self.board.mmio_write(IOAPIC_BASE, &u32::from(0x10 + 2 * pin + half).to_le_bytes());
            self.board.mmio_write(IOAPIC_BASE + 0x10, &value.to_le_bytes());
        }
    }

    /// Counter 0 as a rate generator with a period of a millisecond.
    fn program_pit(&mut self) {
        self.out(&[(PIT + 3, 0x34), (PIT, 0xa9), (PIT, 0x04)]);
    }

    fn run_to_deadline(&mut self) {
        let deadline_ns = self.board.next_deadline_ns().expect("a timer is running");
        self.time.0.store(deadline_ns, Ordering::Relaxed);
        self.board.advance(deadline_ns);
    }

    fn take_attention(&self, cpu: usize) -> bool {
        let raised = self.attentions[cpu].peek() & Attention::INTERRUPT != 0;
        self.attentions[cpu].clear(Attention::INTERRUPT);
        raised
    }

    fn lapic_write(&mut self, cpu: usize, offset: u64, value: u32) {
        self.board.lapic(cpu).lock().unwrap().mmio_write(offset, value);
        self.board.after_lapic_access(cpu);
    }
}

const LAPIC_EOI: u64 = 0xb0;
const LAPIC_SVR: u64 = 0xf0;
const LAPIC_ICR_LOW: u64 = 0x300;
const LAPIC_ICR_HIGH: u64 = 0x310;
const LAPIC_LVT_TIMER: u64 = 0x320;
const LAPIC_LVT_LINT0: u64 = 0x350;
const LAPIC_INITIAL_COUNT: u64 = 0x380;
const MASKED: u32 = 1 << 16;

#[test]
fn a_pit_tick_goes_through_the_pic() {
    let mut pc = Pc::new(1);
    pc.program_pics(1 << 0);
    pc.program_pit();
    pc.take_attention(0);
    assert!(!pc.board.pending(0));
    for tick in 0..3 {
        while !pc.board.pending(0) {
            pc.run_to_deadline();
        }
        assert!(pc.take_attention(0), "tick {tick}");
        assert_eq!(pc.board.acknowledge(0), Some(0x30), "tick {tick}");
        assert_eq!(pc.board.acknowledge(0), None);
        pc.out(&[(PIC_MASTER, 0x20)]);
        assert!(pc.time.now_ns().abs_diff((tick + 1) * 1_000_000) < 10_000, "at {} ns", pc.time.now_ns());
    }
}

#[test]
fn a_pit_tick_goes_through_the_ioapic() {
    let mut pc = Pc::new(1);
    pc.program_ioapic(IOAPIC_PIN_PIT, 0x41);
    pc.program_pit();
    for _ in 0..3 {
        while !pc.board.pending(0) {
            pc.run_to_deadline();
        }
        assert!(pc.take_attention(0));
        assert_eq!(pc.board.acknowledge(0), Some(0x41));
        assert!(!pc.board.pending(0));
        pc.lapic_write(0, LAPIC_EOI, 0);
    }
}

#[test]
fn the_pic_is_shut_out_by_lint0_and_let_in_again() {
    let mut pc = Pc::new(1);
    pc.lapic_write(0, LAPIC_LVT_LINT0, MASKED);
    pc.program_pics(1 << 4);
    pc.out(&[(SERIAL + 4, 0x0b), (SERIAL + 1, 0x02)]);
    assert!(!pc.board.pending(0) && !pc.take_attention(0));
    pc.lapic_write(0, LAPIC_LVT_LINT0, 0x700);
    assert!(pc.board.pending(0) && pc.take_attention(0));
    assert_eq!(pc.board.acknowledge(0), Some(0x34));
}

#[test]
fn serial_thre_interrupts_once_for_each_byte() {
    let mut pc = Pc::new(1);
    pc.program_pics(1 << 4);
    pc.out(&[(SERIAL + 4, 0x0b), (SERIAL + 1, 0x02)]);
    for byte in *b"abc" {
        assert_eq!(pc.board.acknowledge(0), Some(0x34));
        assert_eq!(pc.board.port_read(SERIAL + 2, 1), 0x02);
        pc.out(&[(PIC_MASTER, 0x20)]);
        assert!(!pc.board.pending(0));
        pc.out(&[(SERIAL, byte)]);
    }
    assert_eq!(*pc.line.0.lock().unwrap(), b"abc");
    // With the interrupt off, bytes still go out.
    pc.out(&[(SERIAL + 1, 0x00), (SERIAL, b'd')]);
    assert_eq!(pc.line.0.lock().unwrap().len(), 4);
}

#[test]
fn serial_input_waits_in_the_queue() {
    let mut pc = Pc::new(1);
    let typed: Vec<u8> = (0..SERIAL_QUEUE_LEN + 100).map(|index| index as u8).collect();
    let taken = pc.board.serial_input(&typed);
    assert_eq!(taken, SERIAL_QUEUE_LEN);
    assert_eq!(pc.board.serial_input(&typed[taken..]), 0);
    assert_eq!(pc.board.port_read(SERIAL + 5, 1), 0x60, "RTS is low");
    pc.program_pics(1 << 4);
    pc.out(&[(SERIAL + 3, 0x03), (SERIAL + 2, 0xc1), (SERIAL + 1, 0x01), (SERIAL + 4, 0x0b)]);
    assert_eq!(pc.board.acknowledge(0), Some(0x34));
    let mut got = Vec::new();
    while pc.board.port_read(SERIAL + 5, 1) & 1 != 0 {
        got.push(pc.board.port_read(SERIAL, 1) as u8);
    }
    assert_eq!(got, typed[..taken]);
}

#[test]
fn sci_is_level_triggered_until_its_cause_is_cleared() {
    let mut pc = Pc::new(1);
    pc.program_ioapic(9, 0x8052);
    pc.out(&[(SMI_COMMAND, ACPI_ENABLE)]);
    pc.board.port_write(PM1A_EVENT + 2, 2, 0x100);
    pc.board.press_power_button();
    for _ in 0..2 {
        assert_eq!(pc.board.acknowledge(0), Some(0x52));
        assert!(!pc.board.pending(0));
        pc.lapic_write(0, LAPIC_EOI, 0);
    }
    assert_eq!(pc.board.acknowledge(0), Some(0x52));
    assert_eq!(pc.board.port_read(PM1A_EVENT, 2), 0x100);
    pc.board.port_write(PM1A_EVENT, 2, 0x100);
    pc.lapic_write(0, LAPIC_EOI, 0);
    assert!(!pc.board.pending(0));
}

#[test]
fn ipis_reach_the_other_processors() {
    let mut pc = Pc::new(3);
    for cpu in 0..3 {
        pc.lapic_write(cpu, LAPIC_SVR, 0x1ff);
        pc.take_attention(cpu);
    }
    pc.lapic_write(0, LAPIC_ICR_HIGH, 2 << 24);
    pc.lapic_write(0, LAPIC_ICR_LOW, 0x4061);
    assert_eq!([0, 1, 2].map(|cpu| pc.take_attention(cpu)), [false, false, true]);
    assert_eq!(pc.board.acknowledge(2), Some(0x61));
    pc.lapic_write(2, LAPIC_EOI, 0);
    pc.lapic_write(1, LAPIC_ICR_LOW, 0xc_4062);
    assert_eq!([0, 1, 2].map(|cpu| pc.board.acknowledge(cpu)), [Some(0x62), None, Some(0x62)]);
    pc.lapic_write(0, LAPIC_ICR_LOW, 0xc_4500);
    assert!(pc.board.lapic(1).lock().unwrap().take_cpu_events().init);
}

#[test]
fn a_lowest_priority_message_reaches_one_processor() {
    let mut pc = Pc::new(2);
    for cpu in 0..2 {
        pc.lapic_write(cpu, LAPIC_SVR, 0x1ff);
    }
    pc.board.lapic(0).lock().unwrap().set_tpr(0x20);
    pc.program_ioapic(4, 0xff << 56 | 0x0144);
    pc.out(&[(SERIAL + 4, 0x0b), (SERIAL + 1, 0x02)]);
    assert_eq!([0, 1].map(|cpu| pc.board.acknowledge(cpu)), [None, Some(0x44)]);
}

#[test]
fn local_apic_timers_are_part_of_the_deadline() {
    let mut pc = Pc::new(2);
    pc.lapic_write(1, LAPIC_SVR, 0x1ff);
    pc.lapic_write(1, LAPIC_LVT_TIMER, 0x70);
    pc.lapic_write(1, LAPIC_INITIAL_COUNT, 1000);
    let mut looks = 0;
    while !pc.board.pending(1) {
        pc.run_to_deadline();
        looks += 1;
        assert!(looks < 10, "the timer does not expire");
    }
    assert_eq!(pc.board.acknowledge(1), Some(0x70));
}

#[test]
fn requests_reach_the_machine() {
    let power_off = u32::from(SLP_TYP_S5 << 10 | 1 << 13);
    type Write = (u16, u8, u32);
    let cases: &[(&str, &[Write], Option<BoardRequest>)] = &[
        ("S5", &[(PM1A_CONTROL, 2, power_off)], Some(BoardRequest::PowerOff)),
        ("S5 by bytes", &[(PM1A_CONTROL + 1, 1, power_off >> 8)], Some(BoardRequest::PowerOff)),
        ("reset register", &[(RESET_CONTROL, 1, u32::from(RESET_VALUE))], Some(BoardRequest::Reset)),
        ("configuration address", &[(PCI_CONFIG_ADDRESS, 4, 0x8000_0600)], None),
        ("keyboard reset", &[(I8042_COMMAND, 1, 0xfe)], Some(BoardRequest::Reset)),
        ("fast reset", &[(PORT_92, 1, 1)], Some(BoardRequest::Reset)),
        ("debug exit", &[(0xf4, 1, 3)], Some(BoardRequest::DebugExit(3))),
        ("debug exit, wide", &[(0xf4, 4, 0x1234_5678)], Some(BoardRequest::DebugExit(0x1234_5678))),
        ("the first counts", &[(PORT_92, 1, 1), (0xf4, 1, 3)], Some(BoardRequest::Reset)),
    ];
    for (name, writes, expected) in cases {
        let mut pc = Pc::new(1);
        for &(port, bytes, value) in *writes {
            pc.board.port_write(port, bytes, value);
        }
        assert_eq!(pc.board.take_request(), *expected, "{name}");
        assert_eq!(pc.board.take_request(), None, "{name}");
    }
}

#[test]
fn wide_accesses_to_byte_wide_chips_are_split() {
    let mut pc = Pc::new(1);
    pc.board.port_write(RTC, 2, 0x5a40);
    assert_eq!(pc.board.port_read(RTC + 1, 1), 0x5a);
    // The divisor latch by one word, then scratch next to MSR.
    pc.out(&[(SERIAL + 3, 0x80)]);
    pc.board.port_write(SERIAL, 2, 0x0102);
    assert_eq!(pc.board.port_read(SERIAL, 2), 0x0102);
    pc.out(&[(SERIAL + 7, 0x77)]);
    assert_eq!(pc.board.port_read(SERIAL + 6, 4), 0xffff_77b0);
    assert_eq!(pc.board.port_read(0x1234, 4), u32::MAX);
    assert_eq!(pc.board.port_read(0xffff, 4) & 0xff, 0xff);
}

#[test]
fn a_reset_leaves_a_board_that_works() {
    let mut pc = Pc::new(2);
    pc.program_pics(1 << 4);
    pc.program_pit();
    pc.out(&[(SERIAL + 4, 0x0b), (SERIAL + 1, 0x02), (I8042_COMMAND, 0xdd), (PORT_92, 1)]);
    assert!(pc.board.pending(0) && !pc.board.a20());
    pc.board.reset();
    assert!(!pc.board.pending(0) && pc.board.a20());
    assert_eq!(pc.board.take_request(), None);
    pc.program_pics(1 << 4);
    pc.out(&[(SERIAL + 4, 0x0b), (SERIAL + 1, 0x02)]);
    assert_eq!(pc.board.acknowledge(0), Some(0x34));
}

#[test]
fn cmos_tells_the_memory_sizes() {
    let mut pc = Pc::new(1);
    for (index, expected) in
        [(0x15, 640), (0x17, 63 * 1024), (0x30, 63 * 1024), (0x34, (512 - 16) * 16), (0x5b, 0), (0x5d, 1)]
    {
        let bytes = [index, index + 1].map(|index| {
            pc.board.port_write(RTC, 1, index);
            pc.board.port_read(RTC + 1, 1) as u8
        });
        assert_eq!(u16::from_le_bytes(bytes), expected, "CMOS {index:#x}");
    }
}

#[test]
fn a_board_can_be_shared_between_threads() {
    fn is_send<T: Send>(_: &T) {}
    is_send(&Pc::new(1).board);
}

#[test]
fn accesses_are_counted_by_device() {
    let mut pc = Pc::new(1);
    pc.out(&[(SERIAL, b'x'), (SERIAL, b'y')]);
    pc.board.port_read(PM_TIMER, 4);
    let counts: Vec<_> = pc.board.io_counts().filter(|(_, count)| *count != IoCount::default()).collect();
    let expected = [("power", IoCount { reads: 1, writes: 0 }), ("serial", IoCount { reads: 0, writes: 2 })];
    assert_eq!(counts, expected);
}

const YEAR_NS: u64 = 365 * 86_400 * 1_000_000_000;

/// xorshift64: a fixed sequence of numbers without a pattern.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[test]
fn random_accesses_never_panic() {
    let bases = [
        PIC_MASTER,
        PIC_SLAVE,
        0x4d0,
        PIT,
        0x60,
        RTC,
        PORT_92,
        SMI_COMMAND,
        0xf4,
        SERIAL,
        PM_BASE,
        GPE0,
        PCI_CONFIG_ADDRESS,
        PCI_CONFIG_DATA,
        0xfffc,
    ];
    for seed in 1..=8 {
        let mut random = Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let mut pc = Pc::new(2);
        let mut now_ns = 0_u64;
        for step in 0..20_000 {
            let (choice, number) = (random.next(), random.next());
            let port = bases[choice as usize % bases.len()].wrapping_add((choice >> 8) as u16 & 7);
            let bytes = [1, 1, 1, 2, 4][(choice >> 16) as usize % 5];
            let cpu = (choice >> 24) as usize & 1;
            match (choice >> 32) % 12 {
                0..4 => pc.board.port_write(port, bytes, number as u32),
                4..7 => {
                    pc.board.port_read(port, bytes);
                }
                7 => pc.board.mmio_write(
                    IOAPIC_BASE + (choice >> 40 & 0x1f),
                    &number.to_le_bytes()[..1 << (choice >> 48 & 3)],
                ),
                8 => pc.board.mmio_read(IOAPIC_BASE + (choice >> 40 & 0xfff), &mut [0; 8]),
                9 => pc.lapic_write(cpu, choice >> 40 & 0xff0, number as u32),
                10 => {
                    pc.board.acknowledge(cpu);
                    pc.board.serial_input(&number.to_le_bytes());
                    let lapic = pc.board.lapic(cpu);
                    lapic.lock().unwrap().mmio_read(choice >> 40 & 0xfff);
                }
                _ => {
                    // No machine runs longer than a century.
                    now_ns = now_ns.saturating_add(number >> (choice >> 40 & 63)).min(100 * YEAR_NS);
                    pc.time.0.store(now_ns, Ordering::Relaxed);
                    pc.board.advance(now_ns);
                    if let Some(deadline_ns) = pc.board.next_deadline_ns() {
                        assert!(deadline_ns > 0, "seed {seed}, step {step}");
                    }
                }
            }
            if choice >> 52 == 0 {
                pc.board.reset();
            }
        }
    }
}
