//! Messages between local APICs in every mode: who gets them, and what they do there.

use std::sync::Arc;

use rx86_softmmu::Attention;

use super::bus::{LocalApics, lock};
use super::{ApicOut, CpuEvents, Destination, InterruptMessage, LocalApic, TscClock};
use crate::device::Clock;
use crate::pit::manual_clock::ManualClock;

impl TscClock for ManualClock {
    fn tsc(&self) -> u64 {
        self.now_ns()
    }

    fn ns_until(&self, tsc: u64) -> u64 {
        tsc.saturating_sub(self.now_ns())
    }
}

/// How the APICs are addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// xAPIC, one bit of eight each.
    Flat,
    /// xAPIC, four to a cluster.
    Cluster,
    /// x2APIC, sixteen to a cluster.
    X2Apic,
}
use Mode::*;

struct Bus {
    lapics: LocalApics,
    attentions: Vec<Attention>,
    mode: Mode,
}

impl Bus {
    /// APICs from ID 0 on, enabled by software, with logical IDs as operating systems give them.
    fn new(count: u32, mode: Mode) -> Self {
        let attentions: Vec<_> = (0..count).map(|_| Attention::default()).collect();
        let clock = ManualClock::new();
        let lapics = (0..).zip(&attentions).map(|(id, attention)| {
            let mut apic = LocalApic::new(id, id == 0, clock.clone(), clock.clone(), attention.clone());
            apic.mmio_write(0xf0, 0x1ff);
            let (ldr, dfr) = match mode {
                Flat => (1 << (id & 7), 0xf),
                Cluster => ((id / 4) << 4 | 1 << (id % 4), 0),
                X2Apic => (0, 0xf),
            };
            apic.mmio_write(0xd0, ldr << 24);
            apic.mmio_write(0xe0, dfr << 28);
            if mode == X2Apic {
                let base = apic.read_msr(0x1b).expect("IA32_APIC_BASE");
                apic.write_msr(0x1b, base | 1 << 10).expect("x2APIC mode");
            }
            apic
        });
        Self { lapics: lapics.collect(), attentions, mode }
    }

    /// APIC 0 sends.
    fn send(&self, destination: u32, command: u32) {
        let mut sender = lock(&self.lapics[0]);
        if self.mode == X2Apic {
            sender.write_msr(0x830, u64::from(destination) << 32 | u64::from(command)).expect("ICR");
        } else {
            sender.mmio_write(0x310, destination << 24);
            sender.mmio_write(0x300, command);
        }
        let outbox = sender.take_outbox();
        drop(sender);
        for out in outbox {
            match out {
                ApicOut::Ipi(message, destination) => self.lapics.send(&message, destination),
                ApicOut::Eoi(vector) => panic!("nobody has ended {vector:#x}"),
            }
        }
    }

    /// Who has got the vector; it is taken from them.
    fn takers(&self, vector: u8) -> Vec<usize> {
        let takes = |lapic: &Arc<_>| lock(lapic).acknowledge() == Some(vector);
        let takers: Vec<usize> = (0..self.lapics.len()).filter(|&id| takes(&self.lapics[id])).collect();
        for &id in &takers {
            assert_ne!(self.attentions[id].peek() & Attention::INTERRUPT, 0, "{id} is told");
            lock(&self.lapics[id]).eoi();
        }
        takers
    }
}

const LOGICAL: u32 = 1 << 11;
const SELF: u32 = 1 << 18;
const ALL: u32 = 2 << 18;
const ALL_BUT_SELF: u32 = 3 << 18;

#[test]
fn every_way_to_address_reaches_those_who_are_meant() {
    let all = |count: usize| (0..count).collect::<Vec<_>>();
    let cases = [
        (Flat, 8, 3, 0, vec![3]),
        (Flat, 8, 9, 0, vec![]),
        (Flat, 8, 0xff, 0, all(8)),
        (Flat, 8, 0x12, LOGICAL, vec![1, 4]),
        (Flat, 8, 0xff, LOGICAL, all(8)),
        (Flat, 8, 0, SELF, vec![0]),
        (Flat, 8, 0, ALL, all(8)),
        (Flat, 8, 0, ALL_BUT_SELF, (1..8).collect()),
        (Cluster, 20, 17, 0, vec![17]),
        (Cluster, 20, 0x21, LOGICAL, vec![8]),
        (Cluster, 20, 0x2f, LOGICAL, vec![8, 9, 10, 11]),
        (Cluster, 20, 0x4c, LOGICAL, vec![18, 19]),
        (Cluster, 20, 0x51, LOGICAL, vec![]),
        (Cluster, 20, 0xff, LOGICAL, all(20)),
        (X2Apic, 40, 33, 0, vec![33]),
        (X2Apic, 40, 0xff, 0, vec![]),
        (X2Apic, 40, u32::MAX, 0, all(40)),
        (X2Apic, 40, 0x6, LOGICAL, vec![1, 2]),
        (X2Apic, 40, 0x1_8001, LOGICAL, vec![16, 31]),
        (X2Apic, 40, 0x2_ffff, LOGICAL, (32..40).collect()),
        (X2Apic, 40, 0x3_0001, LOGICAL, vec![]),
        (X2Apic, 40, u32::MAX, LOGICAL, all(40)),
        (X2Apic, 40, 0, SELF, vec![0]),
        (X2Apic, 40, 0, ALL, all(40)),
        (X2Apic, 40, 0, ALL_BUT_SELF, (1..40).collect()),
    ];
    for (mode, count, destination, command, expected) in cases {
        let bus = Bus::new(count, mode);
        bus.send(destination, command | 0x40);
        assert_eq!(bus.takers(0x40), expected, "{mode:?}, to {destination:#x} by {command:#x}");
    }
}

#[test]
fn the_lowest_priority_of_those_addressed_takes_it() {
    // Task priorities of the first four, whom it is addressed to, and who takes it.
    for (mode, priorities, destination, command, expected) in [
        (Flat, [0x50, 0x30, 0x20, 0x40], 0x0b, LOGICAL, Some(1)),
        (Flat, [0x50, 0x30, 0x20, 0x40], 0x0f, LOGICAL, Some(2)),
        (Flat, [0x50, 0x30, 0x20, 0x40], 3, 0, Some(3)),
        (Flat, [0x10, 0x30, 0x20, 0x40], 0, ALL_BUT_SELF, Some(2)),
        (Cluster, [0x50, 0x30, 0x20, 0x10], 0x07, LOGICAL, Some(2)),
        (Cluster, [0x50, 0x30, 0x20, 0x10], 0x1f, LOGICAL, None),
        (X2Apic, [0x50, 0x30, 0x20, 0x40], 0xb, LOGICAL, Some(1)),
        (X2Apic, [0x50, 0x30, 0x20, 0x40], u32::MAX, 0, Some(2)),
    ] {
        let bus = Bus::new(4, mode);
        for (lapic, priority) in bus.lapics.iter().zip(priorities) {
            lock(lapic).set_tpr(priority);
        }
        bus.send(destination, command | 0x100 | 0xf0);
        assert_eq!(
            bus.takers(0xf0),
            Vec::from_iter(expected),
            "{mode:?}, to {destination:#x} by {command:#x}"
        );
    }
    // An interrupt in service raises a processor's priority too.
    let bus = Bus::new(2, Flat);
    bus.send(0, 0x90);
    assert_eq!(lock(&bus.lapics[0]).acknowledge(), Some(0x90));
    lock(&bus.lapics[1]).set_tpr(0x80);
    bus.send(0x3, LOGICAL | 0x100 | 0xa0);
    assert_eq!(bus.takers(0xa0), [1]);
}

#[test]
fn every_delivery_mode_arrives_by_every_address() {
    const SIPI_VECTOR: u8 = 0x9a;
    let none = CpuEvents::default();
    for mode in [Flat, Cluster, X2Apic] {
        for (destination, addressing) in [(2, 0), (1 << 2, LOGICAL)] {
            for (command, vector, events, flag) in [
                (0x000, Some(SIPI_VECTOR), none, Attention::INTERRUPT),
                (0x100, Some(SIPI_VECTOR), none, Attention::INTERRUPT),
                (0x200, None, none, 0),
                (0x400, None, CpuEvents { nmi: true, ..none }, Attention::NMI),
                (0x500, None, CpuEvents { init: true, ..none }, Attention::INIT),
                (0x600, None, CpuEvents { sipi: Some(SIPI_VECTOR), ..none }, Attention::INIT),
            ] {
                let bus = Bus::new(4, mode);
                bus.send(destination, addressing | command | u32::from(SIPI_VECTOR));
                for (id, (lapic, attention)) in bus.lapics.iter().zip(&bus.attentions).enumerate() {
                    let mut lapic = lock(lapic);
                    let found = (attention.peek(), lapic.take_cpu_events(), lapic.acknowledge());
                    let expected = if id == 2 { (flag, events, vector) } else { (0, none, None) };
                    assert_eq!(found, expected, "{mode:?}, {command:#x} to {destination:#x}, at {id}");
                }
            }
        }
    }
}

/// The I/O APIC's messages have eight bits of destination also where the APICs are in x2APIC mode.
#[test]
fn narrow_messages_reach_x2apics() {
    let narrow = |destination, logical, delivery_mode| InterruptMessage {
        destination,
        logical,
        wide: false,
        delivery_mode,
        vector: 0x70,
        level: false,
    };
    use super::DeliveryMode::{Fixed, LowestPriority};
    for (message, expected) in [
        (narrow(3, false, Fixed), vec![3]),
        (narrow(0x0a, true, Fixed), vec![1, 3]),
        (narrow(0xff, false, Fixed), vec![0, 1, 2, 3]),
        (narrow(0x0a, true, LowestPriority), vec![3]),
        (narrow(0xff, true, LowestPriority), vec![3]),
    ] {
        let bus = Bus::new(4, X2Apic);
        for (id, lapic) in bus.lapics.iter().enumerate() {
            lock(lapic).set_tpr(0x60 - 0x10 * id as u8);
        }
        bus.lapics.send(&message, Destination::Field);
        assert_eq!(bus.takers(0x70), expected, "{message:?}");
    }
}
