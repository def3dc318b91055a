//! The local APIC's cases.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rx86_softmmu::Attention;

use super::{
    ApicOut, CpuEvents, DeliveryMode, Destination, InterruptMessage, InvalidMsr, LocalApic, TscClock,
};
use crate::device::Clock;
use crate::pit::manual_clock::ManualClock;

/// A time-stamp counter of 2 GHz, with an offset as a guest's write of its TSC makes it.
struct TestTsc(Arc<ManualClock>, AtomicU64);

impl TscClock for TestTsc {
    fn tsc(&self) -> u64 {
        (self.0.now_ns() * 2).wrapping_sub(self.1.load(Ordering::Relaxed))
    }

    fn ns_until(&self, tsc: u64) -> u64 {
        tsc.saturating_sub(self.tsc()).div_ceil(2)
    }
}

struct Bench {
    clock: Arc<ManualClock>,
    tsc: Arc<TestTsc>,
    attention: Attention,
    apic: LocalApic,
}

impl Bench {
    /// An APIC with ID 5 after reset.
    fn new() -> Self {
        let clock = ManualClock::new();
        let tsc = Arc::new(TestTsc(clock.clone(), AtomicU64::new(0)));
        let attention = Attention::default();
        let apic = LocalApic::new(5, true, clock.clone(), tsc.clone(), attention.clone());
        Self { clock, tsc, attention, apic }
    }

    /// The same, enabled by software with spurious vector 0xff.
    fn enabled() -> Self {
        let mut bench = Self::new();
        bench.apic.mmio_write(0xf0, 0x1ff);
        bench
    }

    fn x2apic() -> Self {
        let mut bench = Self::enabled();
        bench.apic.write_msr(0x1b, 0xfee0_0d00).expect("x2APIC mode");
        bench
    }

    fn deliver(&mut self, vector: u8) {
        self.apic.deliver(&fixed(vector));
    }

    fn advance(&mut self, now_ns: u64) {
        self.clock.set_ns(now_ns);
        self.apic.advance(now_ns);
    }

    /// Whether the CPU is asked to look for an interrupt; the question is taken back.
    fn attention(&self) -> bool {
        let raised = self.attention.peek() & Attention::INTERRUPT != 0;
        self.attention.clear(Attention::INTERRUPT);
        raised
    }
}

fn fixed(vector: u8) -> InterruptMessage {
    InterruptMessage {
        destination: 5,
        logical: false,
        wide: false,
        delivery_mode: DeliveryMode::Fixed,
        vector,
        level: false,
    }
}

#[test]
fn registers_after_reset() {
    let mut bench = Bench::new();
    for (offset, expected) in [
        (0x20, 0x0500_0000),
        (0x30, 0x0105_0014),
        (0x80, 0),
        (0xa0, 0),
        (0xd0, 0),
        (0xe0, 0xffff_ffff),
        (0xf0, 0xff),
        (0x280, 0),
        (0x320, 0x1_0000),
        (0x330, 0x1_0000),
        (0x340, 0x1_0000),
        (0x350, 0x1_0000),
        (0x360, 0x1_0000),
        (0x370, 0x1_0000),
        (0x380, 0),
        (0x390, 0),
        (0x3e0, 0),
        (0x24, 0),
    ] {
        assert_eq!(bench.apic.mmio_read(offset), expected, "{offset:#x}");
    }
    assert_eq!(bench.apic.read_msr(0x1b), Ok(0xfee0_0900));
    assert_eq!(bench.apic.base_address(), Some(0xfee0_0000));
}

#[test]
fn priorities() {
    // TPR, vectors in service, vector requested, whether it is delivered and the PPR.
    for (tpr, in_service, requested, delivered, ppr) in [
        (0x00, None, 0x10, true, 0x00),
        (0x20, None, 0x2f, false, 0x20),
        (0x2f, None, 0x30, true, 0x2f),
        (0x00, Some(0x41), 0x4f, false, 0x40),
        (0x00, Some(0x41), 0x50, true, 0x40),
        (0x45, Some(0x41), 0x50, true, 0x45),
        (0x30, Some(0x41), 0x50, true, 0x40),
        (0xf0, None, 0xff, false, 0xf0),
    ] {
        let mut bench = Bench::enabled();
        if let Some(vector) = in_service {
            bench.deliver(vector);
            assert_eq!(bench.apic.acknowledge(), Some(vector));
        }
        bench.apic.set_tpr(tpr);
        bench.attention();
        bench.deliver(requested);
        assert_eq!(bench.apic.mmio_read(0xa0), ppr);
        assert_eq!(
            bench.apic.pending_vector(),
            delivered.then_some(requested),
            "TPR {tpr:#x}, {requested:#x}"
        );
        assert_eq!(bench.attention(), delivered);
        bench.apic.set_tpr(0);
        while bench.apic.highest_in_service().is_some() {
            bench.apic.eoi();
        }
        assert!(delivered || bench.attention(), "the vector that was held back is announced");
        assert_eq!(bench.apic.acknowledge(), Some(requested));
        assert_eq!(bench.apic.acknowledge(), None);
    }
}

#[test]
fn request_and_service_registers() {
    let mut bench = Bench::enabled();
    for vector in [0x31, 0x9f, 0x80] {
        bench.deliver(vector);
    }
    bench.apic.deliver(&InterruptMessage { level: true, ..fixed(0x9f) });
    assert_eq!((bench.apic.mmio_read(0x210), bench.apic.mmio_read(0x240)), (0x2_0000, 0x8000_0001));
    assert_eq!(bench.apic.mmio_read(0x1c0), 0x8000_0000);
    assert_eq!(bench.apic.acknowledge(), Some(0x9f));
    assert_eq!((bench.apic.mmio_read(0x140), bench.apic.mmio_read(0x240)), (0x8000_0000, 1));
    bench.deliver(0x9f);
    assert_eq!(bench.apic.mmio_read(0x1c0), 0, "an edge clears the TMR bit");
}

#[test]
fn ends_of_interrupts() {
    for (level, svr, expected) in
        [(false, 0x1ff, vec![]), (true, 0x1ff, vec![ApicOut::Eoi(0x61)]), (true, 0x11ff, vec![])]
    {
        let mut bench = Bench::enabled();
        bench.apic.mmio_write(0xf0, svr);
        bench.apic.deliver(&InterruptMessage { level, ..fixed(0x61) });
        assert!(!bench.apic.eoi_is_broadcast(), "nothing is in service");
        bench.apic.acknowledge();
        bench.deliver(0x71);
        bench.apic.acknowledge();
        bench.apic.mmio_write(0xb0, 0);
        assert_eq!((bench.apic.take_outbox(), bench.apic.highest_in_service()), (vec![], Some(0x61)));
        assert_eq!(bench.apic.eoi_is_broadcast(), !expected.is_empty());
        bench.apic.mmio_write(0xb0, 0);
        assert_eq!(bench.apic.take_outbox(), expected);
        bench.apic.mmio_write(0xb0, 0);
        assert_eq!(bench.apic.take_outbox(), vec![], "an EOI too many");
    }
}

#[test]
fn delivery_modes() {
    use DeliveryMode::*;
    let none = CpuEvents::default();
    for (delivery_mode, enabled, vector, events, flags) in [
        (Fixed, true, Some(0x99), none, Attention::INTERRUPT),
        (Fixed, false, None, none, 0),
        (LowestPriority, true, Some(0x99), none, Attention::INTERRUPT),
        (Smi, true, None, none, 0),
        (Nmi, false, None, CpuEvents { nmi: true, ..none }, Attention::NMI),
        (Init, false, None, CpuEvents { init: true, ..none }, Attention::INIT),
        (StartUp, false, None, CpuEvents { sipi: Some(0x99), ..none }, Attention::INIT),
        (ExtInt, false, None, none, Attention::INTERRUPT),
    ] {
        let mut bench = if enabled { Bench::enabled() } else { Bench::new() };
        bench.apic.deliver(&InterruptMessage { delivery_mode, ..fixed(0x99) });
        assert_eq!(bench.apic.acknowledge(), vector, "{delivery_mode:?}");
        assert_eq!(bench.apic.take_cpu_events(), events, "{delivery_mode:?}");
        assert_eq!(bench.apic.take_cpu_events(), none);
        assert_eq!(bench.attention.peek(), flags, "{delivery_mode:?}");
        assert_eq!(bench.apic.accepts_pic(), delivery_mode == ExtInt);
        bench.apic.pic_acknowledged();
        assert!(!bench.apic.accepts_pic());
    }
    let mut bench = Bench::new();
    bench.apic.deliver(&InterruptMessage { delivery_mode: StartUp, ..fixed(8) });
    bench.apic.deliver(&InterruptMessage { delivery_mode: Init, ..fixed(0) });
    assert_eq!(
        bench.apic.take_cpu_events(),
        CpuEvents { init: true, ..none },
        "INIT forgets an earlier SIPI"
    );
}

#[test]
fn destinations() {
    // x2APIC mode, LDR, DFR; then logical, wide, destination; and whether it matches ID 5.
    for (x2apic, ldr, dfr, logical, wide, destination, expected) in [
        (false, 0, 0xf, false, false, 5, true),
        (false, 0, 0xf, false, false, 6, false),
        (false, 0, 0xf, false, false, 0xff, true),
        (false, 0, 0xf, false, true, 0xff, false),
        (false, 0, 0xf, false, true, 0xffff_ffff, true),
        (false, 0x20, 0xf, true, false, 0x30, true),
        (false, 0x20, 0xf, true, false, 0x10, false),
        (false, 0x20, 0xf, true, false, 0xff, true),
        (false, 0x32, 0x0, true, false, 0x36, true),
        (false, 0x32, 0x0, true, false, 0x34, false),
        (false, 0x32, 0x0, true, false, 0x22, false),
        (false, 0x32, 0x7, true, false, 0x32, false),
        (false, 0x20, 0xf, true, true, 0x1_0020, false),
        (true, 0, 0xf, false, true, 5, true),
        (true, 0, 0xf, false, true, 0x105, false),
        (true, 0, 0xf, false, false, 0xff, true),
        (true, 0, 0xf, false, true, 0xff, false),
        (true, 0, 0xf, true, true, 0x20, true),
        (true, 0, 0xf, true, true, 0x0f, false),
        (true, 0, 0xf, true, true, 0x1_0020, false),
        (true, 0, 0xf, true, true, 0xffff_ffff, true),
        (true, 0, 0xf, true, false, 0x20, true),
    ] {
        let mut bench = Bench::enabled();
        bench.apic.mmio_write(0xd0, ldr << 24);
        bench.apic.mmio_write(0xe0, dfr << 28);
        if x2apic {
            bench.apic.write_msr(0x1b, 0xfee0_0d00).expect("x2APIC mode");
            assert_eq!(bench.apic.read_msr(0x80d), Ok(0x20));
        }
        let message = InterruptMessage { destination, logical, wide, ..fixed(0x40) };
        assert_eq!(bench.apic.matches(&message), expected, "x2APIC {x2apic}, LDR {ldr:#x}, {message:x?}");
        bench.apic.write_msr(0x1b, 0xfee0_0000).expect("disabled");
        assert!(!bench.apic.matches(&message));
    }
}

#[test]
fn interprocessor_interrupts() {
    let ipi = |delivery_mode, vector, logical, destination| InterruptMessage {
        destination,
        logical,
        delivery_mode,
        vector,
        ..fixed(0)
    };
    use DeliveryMode::*;
    for (high, low, expected) in [
        (3, 0x0040, Some((ipi(Fixed, 0x40, false, 3), Destination::Field))),
        (3, 0x8940, Some((ipi(LowestPriority, 0x40, true, 3), Destination::Field))),
        (3, 0x4500, Some((ipi(Init, 0, false, 3), Destination::Field))),
        (3, 0x8500, None),
        (3, 0x0609, Some((ipi(StartUp, 9, false, 3), Destination::Field))),
        (0, 0x8_0440, Some((ipi(Nmi, 0x40, false, 0), Destination::All))),
        (0, 0xc_00fd, Some((ipi(Fixed, 0xfd, false, 0), Destination::AllBut(5)))),
        (0, 0x4_0440, None),
        (0, 0x0340, None),
        (3, 0x000f, None),
    ] {
        let mut bench = Bench::enabled();
        bench.apic.mmio_write(0x310, high << 24);
        bench.apic.mmio_write(0x300, low);
        let expected = expected.map(|(message, destination)| ApicOut::Ipi(message, destination));
        assert_eq!(bench.apic.take_outbox(), Vec::from_iter(expected), "{low:#x}");
        assert_eq!((bench.apic.mmio_read(0x300), bench.apic.mmio_read(0x310)), (low, high << 24));
    }
    let mut bench = Bench::enabled();
    bench.apic.mmio_write(0x300, 0x4_0040);
    assert_eq!((bench.apic.take_outbox(), bench.apic.acknowledge()), (vec![], Some(0x40)), "self");
    let message = fixed(0x40);
    for (destination, expected) in [
        (Destination::All, true),
        (Destination::AllBut(5), false),
        (Destination::AllBut(4), true),
        (Destination::Only(5), true),
        (Destination::Only(4), false),
        (Destination::Field, true),
    ] {
        assert_eq!(bench.apic.is_addressed(&message, destination), expected);
    }
}

#[test]
fn errors() {
    for (name, provoke, expected) in [
        ("send illegal vector", (|apic| apic.mmio_write(0x300, 0x0f)) as fn(&mut LocalApic), 0x20),
        ("receive illegal vector", |apic| apic.deliver(&fixed(0x0f)), 0x40),
        ("illegal register read", |apic| assert_eq!(apic.mmio_read(0x3f0), 0), 0x80),
        ("illegal register write", |apic| apic.mmio_write(0x2f0, 0), 0x80),
    ] {
        let mut bench = Bench::enabled();
        bench.apic.mmio_write(0x370, 0xfe);
        provoke(&mut bench.apic);
        assert_eq!(bench.apic.mmio_read(0x280), 0, "{name}: read before the write");
        bench.apic.mmio_write(0x280, 0);
        assert_eq!(bench.apic.mmio_read(0x280), expected, "{name}");
        assert_eq!(bench.apic.acknowledge(), Some(0xfe), "{name}");
        bench.apic.mmio_write(0x280, 0);
        assert_eq!(bench.apic.mmio_read(0x280), 0, "{name}");
    }
    let mut bench = Bench::enabled();
    bench.apic.mmio_write(0x370, 0x05);
    bench.apic.deliver(&fixed(1));
    assert_eq!(bench.apic.acknowledge(), None, "an error entry with an illegal vector");
}

#[test]
fn countdown_timer() {
    for (divide, divisor) in [(0, 2), (1, 4), (2, 8), (3, 16), (8, 32), (9, 64), (10, 128), (11, 1)] {
        for periodic in [false, true] {
            let mut bench = Bench::enabled();
            bench.clock.set_ns(1000);
            bench.apic.mmio_write(0x320, 0x40 | u32::from(periodic) << 17);
            bench.apic.mmio_write(0x3e0, divide);
            bench.apic.mmio_write(0x380, 100);
            assert_eq!(bench.apic.next_deadline_ns(), Some(1000 + 100 * divisor));
            bench.clock.set_ns(1000 + 30 * divisor);
            assert_eq!((bench.apic.mmio_read(0x380), bench.apic.mmio_read(0x390)), (100, 70));
            bench.advance(1000 + 100 * divisor - 1);
            assert_eq!((bench.apic.pending_vector(), bench.apic.mmio_read(0x390)), (None, 1));
            // Late by two periods and a bit: one interrupt, and the phase is kept.
            bench.advance(1000 + 330 * divisor);
            assert_eq!(bench.apic.acknowledge(), Some(0x40), "divide {divide:#x}");
            let next = periodic.then_some(1000 + 400 * divisor);
            assert_eq!(bench.apic.next_deadline_ns(), next);
            assert_eq!(bench.apic.mmio_read(0x390), if periodic { 70 } else { 0 });
            bench.apic.mmio_write(0x380, 0);
            assert_eq!(bench.apic.next_deadline_ns(), None);
        }
    }
}

#[test]
fn a_masked_timer_counts_silently() {
    let mut bench = Bench::enabled();
    bench.apic.mmio_write(0x320, 0x3_0040);
    bench.apic.mmio_write(0x3e0, 0xb);
    bench.apic.mmio_write(0x380, 100);
    assert_eq!(bench.apic.next_deadline_ns(), None, "nobody need wake for it");
    bench.clock.set_ns(230);
    assert_eq!(bench.apic.mmio_read(0x390), 70);
    bench.clock.set_ns(350);
    bench.apic.mmio_write(0x320, 0x2_0040);
    assert_eq!((bench.apic.pending_vector(), bench.apic.next_deadline_ns()), (None, Some(400)));
    bench.advance(400);
    assert_eq!(bench.apic.acknowledge(), Some(0x40));
}

#[test]
fn tsc_deadline() {
    let mut bench = Bench::enabled();
    bench.apic.write_msr(0x6e0, 1000).expect("ignored in other modes");
    assert_eq!((bench.apic.read_msr(0x6e0), bench.apic.next_deadline_ns()), (Ok(0), None));
    bench.apic.mmio_write(0x320, 0x4_0040);
    bench.apic.mmio_write(0x380, 100);
    assert_eq!((bench.apic.mmio_read(0x380), bench.apic.next_deadline_ns()), (0, None));

    bench.apic.write_msr(0x6e0, 1001).expect("armed");
    assert_eq!((bench.apic.read_msr(0x6e0), bench.apic.next_deadline_ns()), (Ok(1001), Some(501)));
    bench.advance(500);
    assert_eq!(bench.apic.pending_vector(), None);
    bench.advance(501);
    assert_eq!((bench.apic.acknowledge(), bench.apic.read_msr(0x6e0)), (Some(0x40), Ok(0)));
    bench.apic.eoi();

    bench.apic.write_msr(0x6e0, 7).expect("in the past");
    assert_eq!((bench.apic.acknowledge(), bench.apic.next_deadline_ns()), (Some(0x40), None));
    bench.apic.eoi();

    bench.apic.write_msr(0x6e0, 2000).expect("armed");
    bench.tsc.1.store(200, Ordering::Relaxed);
    bench.advance(1000);
    assert_eq!(
        (bench.apic.pending_vector(), bench.apic.next_deadline_ns()),
        (None, Some(1100)),
        "the TSC was set back"
    );
    bench.apic.write_msr(0x6e0, 0).expect("disarmed");
    assert_eq!(bench.apic.next_deadline_ns(), None);
    bench.apic.write_msr(0x6e0, 9000).expect("armed");
    bench.apic.mmio_write(0x320, 0x40);
    assert_eq!(
        (bench.apic.read_msr(0x6e0), bench.apic.next_deadline_ns()),
        (Ok(0), None),
        "the mode was changed"
    );
}

#[test]
fn software_disabled() {
    let mut bench = Bench::enabled();
    bench.apic.mmio_write(0x350, 0x700);
    assert!(bench.apic.accepts_pic());
    bench.deliver(0x50);
    bench.apic.mmio_write(0xf0, 0xff);
    assert_eq!(bench.apic.pending_vector(), None);
    assert_eq!(bench.apic.mmio_read(0x350), 0x1_0700, "all entries are masked");
    bench.apic.mmio_write(0x320, 0x40);
    assert_eq!(bench.apic.mmio_read(0x320), 0x1_0040, "and stay so");
    bench.attention();
    bench.apic.mmio_write(0xf0, 0x1ff);
    assert!(bench.attention());
    assert_eq!(bench.apic.acknowledge(), Some(0x50), "requests are kept");
}

#[test]
fn local_pins() {
    let mut bench = Bench::enabled();
    bench.apic.mmio_write(0x360, 0x400);
    bench.apic.set_lint(1, true);
    assert!(bench.apic.take_cpu_events().nmi);
    bench.apic.set_lint(1, true);
    assert!(!bench.apic.take_cpu_events().nmi, "an edge only");
    bench.apic.mmio_write(0x350, 0x8041);
    bench.apic.set_lint(0, true);
    assert_eq!((bench.apic.acknowledge(), bench.apic.mmio_read(0x350)), (Some(0x41), 0xc041));
    bench.apic.eoi();
    assert_eq!(bench.apic.acknowledge(), Some(0x41), "still high");
    bench.apic.set_lint(0, false);
    bench.apic.eoi();
    assert_eq!((bench.apic.acknowledge(), bench.apic.mmio_read(0x350)), (None, 0x8041));
    bench.apic.set_lint(2, true);
}

#[test]
fn the_way_from_the_8259a() {
    let mut bench = Bench::new();
    assert!(!bench.apic.accepts_pic());
    bench.apic.set_virtual_wire();
    assert!(bench.apic.accepts_pic());
    bench.apic.mmio_write(0x350, 0x1_0700);
    assert!(!bench.apic.accepts_pic());
    bench.attention();
    bench.apic.mmio_write(0x350, 0x700);
    assert!(bench.apic.accepts_pic() && bench.attention());
    bench.apic.write_msr(0x1b, 0xfee0_0100).expect("disabled");
    assert!(bench.apic.accepts_pic(), "the pins are the CPU's own again");
    assert_eq!(bench.apic.base_address(), None);
}

#[test]
fn modes_by_apic_base() {
    const OFF: u64 = 0xfee0_0100;
    const XAPIC: u64 = 0xfee0_0900;
    const X2APIC: u64 = 0xfee0_0d00;
    for (path, refused) in [
        (&[OFF, XAPIC, X2APIC, OFF][..], false),
        (&[X2APIC, X2APIC], false),
        (&[X2APIC, XAPIC], true),
        (&[OFF, X2APIC], true),
        (&[0xfee0_0500], true),
        (&[XAPIC | 1], true),
        (&[XAPIC | 1 << 9], true),
        (&[XAPIC | 1 << 52], true),
        (&[0xfe00_0900], false),
    ] {
        let mut bench = Bench::new();
        let (&last, before) = path.split_last().expect("a path has an end");
        for &value in before {
            assert_eq!(bench.apic.write_msr(0x1b, value), Ok(()), "{path:x?}");
        }
        assert_eq!(bench.apic.write_msr(0x1b, last).is_err(), refused, "{path:x?}");
    }
    let mut bench = Bench::enabled();
    bench.apic.write_msr(0x1b, 0xfe00_0900).expect("moved");
    assert_eq!(bench.apic.base_address(), Some(0xfe00_0000));
    bench.apic.reset(true);
    assert_eq!((bench.apic.base_address(), bench.apic.mmio_read(0xf0)), (Some(0xfe00_0000), 0xff), "INIT");
    bench.apic.reset(false);
    assert_eq!(bench.apic.base_address(), Some(0xfee0_0000));
}

#[test]
fn x2apic_reads() {
    for (msr, expected) in [
        (0x802, Some(5)),
        (0x803, Some(0x0105_0014)),
        (0x808, Some(0)),
        (0x809, None),
        (0x80a, Some(0)),
        (0x80b, None),
        (0x80c, None),
        (0x80d, Some(0x20)),
        (0x80e, None),
        (0x80f, Some(0x1ff)),
        (0x810, Some(0)),
        (0x827, Some(0)),
        (0x828, Some(0)),
        (0x82f, None),
        (0x830, Some(0)),
        (0x831, None),
        (0x832, Some(0x1_0000)),
        (0x837, Some(0x1_0000)),
        (0x839, Some(0)),
        (0x83e, Some(0)),
        (0x83f, None),
        (0x800, None),
        (0x8ff, None),
    ] {
        assert_eq!(Bench::x2apic().apic.read_msr(msr), expected.ok_or(InvalidMsr), "{msr:#x}");
        assert_eq!(Bench::enabled().apic.read_msr(msr), Err(InvalidMsr), "{msr:#x} in xAPIC mode");
    }
}

#[test]
fn x2apic_writes() {
    for (msr, value, allowed) in [
        (0x802, 0, false),
        (0x803, 0, false),
        (0x808, 0xff, true),
        (0x808, 0x100, false),
        (0x808, 1 << 32, false),
        (0x80a, 0, false),
        (0x80b, 0, true),
        (0x80b, 1, false),
        (0x80d, 0, false),
        (0x80e, 0, false),
        (0x80f, 0x11ff, true),
        (0x80f, 0x200, false),
        (0x810, 0, false),
        (0x820, 0, false),
        (0x828, 0, true),
        (0x828, 1, false),
        (0x830, 0x0000_0003_0000_0040, true),
        (0x830, 0x0010_0040, false),
        (0x830, 0x2040, false),
        (0x831, 0, false),
        (0x832, 0x7_10ff, true),
        (0x832, 0x8_0000, false),
        (0x832, 0x700, false),
        (0x835, 0x1_f7ff, true),
        (0x838, 0xffff_ffff, true),
        (0x838, 1 << 32, false),
        (0x839, 0, false),
        (0x83e, 0xb, true),
        (0x83e, 0x4, false),
        (0x83f, 0xff, true),
        (0x83f, 0x100, false),
    ] {
        assert_eq!(Bench::x2apic().apic.write_msr(msr, value).is_ok(), allowed, "{msr:#x} <- {value:#x}");
        assert!(Bench::enabled().apic.write_msr(msr, value).is_err(), "{msr:#x} in xAPIC mode");
    }
}

#[test]
fn x2apic_sends_wide_messages() {
    let mut bench = Bench::x2apic();
    bench.apic.write_msr(0x830, 0x0012_3456_0000_0840).expect("an IPI");
    let message =
        InterruptMessage { destination: 0x0012_3456, logical: true, wide: true, vector: 0x40, ..fixed(0) };
    assert_eq!(bench.apic.take_outbox(), vec![ApicOut::Ipi(message, Destination::Field)]);
    assert_eq!(bench.apic.read_msr(0x830), Ok(0x0012_3456_0000_0840));
    bench.apic.write_msr(0x83f, 0x77).expect("a self IPI");
    assert_eq!((bench.apic.take_outbox(), bench.apic.acknowledge()), (vec![], Some(0x77)));
    bench.apic.write_msr(0x80b, 0).expect("an EOI");
    assert_eq!(bench.apic.highest_in_service(), None);
}

#[test]
fn message_signalled_interrupts() {
    for (address, data, expected) in [
        (0xfee0_5000, 0x0041, Some(fixed(0x41))),
        (0xfee0_5004, 0x0041, Some(InterruptMessage { logical: true, ..fixed(0x41) })),
        (
            0xfee0_500c,
            0x0041,
            Some(InterruptMessage {
                logical: true,
                delivery_mode: DeliveryMode::LowestPriority,
                ..fixed(0x41)
            }),
        ),
        (
            0xfeef_f000,
            0xc441,
            Some(InterruptMessage {
                destination: 0xff,
                delivery_mode: DeliveryMode::Nmi,
                level: true,
                ..fixed(0x41)
            }),
        ),
        (0xfee0_5000, 0x0341, None),
        (0xfed0_5000, 0x0041, None),
        (0x1_fee0_5000, 0x0041, None),
    ] {
        assert_eq!(InterruptMessage::from_msi(address, data), expected, "{address:#x}, {data:#x}");
    }
}

#[test]
fn random_accesses_do_no_harm() {
    for mut bench in [Bench::enabled(), Bench::x2apic()] {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        for step in 0..50_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let value = state.rotate_left(23);
            match state & 3 {
                0 => _ = bench.apic.mmio_read(state >> 8 & 0xff0),
                1 => bench.apic.mmio_write(state >> 8 & 0xff0, value as u32),
                2 => drop(bench.apic.write_msr(0x800 + (state >> 8 & 0x3f) as u32, value & 0xffff)),
                _ => drop(bench.apic.write_msr(0x6e0, value)),
            }
            bench.advance(step * 50);
            bench.apic.acknowledge();
            bench.apic.take_outbox();
        }
    }
}
