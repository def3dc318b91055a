//! The 8259A's cases: scripts of port accesses, line changes and INTA cycles.

use super::PicPair;
use Step::{Ack, Idle, Line, Read, Write};

#[derive(Clone, Copy, Debug)]
enum Step {
    Write(u16, u8),
    /// A read and its value.
    Read(u16, u8),
    Line(u8, bool),
    /// INTR is high, and the INTA cycle gives this vector.
    Ack(u8),
    /// INTR is low.
    Idle,
}

const MASTER: u8 = 0x20;
const SLAVE: u8 = 0x28;

/// The initialization of a PC's operating system; all inputs are unmasked.
fn initialized(master_icw4: u8) -> PicPair {
    let mut pic = PicPair::new();
    for (port, value) in [
        (0x20, 0x11),
        (0x21, MASTER),
        (0x21, 0x04),
        (0x21, master_icw4),
        (0xa0, 0x11),
        (0xa1, SLAVE),
        (0xa1, 0x02),
        (0xa1, 0x01),
    ] {
        pic.write_port(port, value);
    }
    pic
}

fn run(name: &str, mut pic: PicPair, steps: &[Step]) {
    for (number, &step) in steps.iter().enumerate() {
        match step {
            Write(port, value) => pic.write_port(port, value),
            Read(port, value) => assert_eq!(pic.read_port(port), value, "{name}: step {number}, {step:x?}"),
            Line(irq, high) => pic.set_irq(irq, high),
            Ack(vector) => {
                assert!(pic.output(), "{name}: step {number}, {step:x?}: no interrupt");
                assert_eq!(pic.acknowledge(), vector, "{name}: step {number}, {step:x?}");
            }
            Idle => assert!(!pic.output(), "{name}: step {number}: an interrupt"),
        }
    }
}

#[test]
fn scripts() {
    let cases: &[(&str, &[Step])] = &[
        (
            "an edge is one interrupt",
            &[Line(4, true), Ack(0x24), Idle, Write(0x20, 0x20), Idle, Line(4, false), Idle],
        ),
        ("a pulse is remembered", &[Line(4, true), Line(4, false), Ack(0x24), Idle]),
        (
            "the lower number goes first and blocks the others until its EOI",
            &[
                Line(6, true),
                Line(1, true),
                Ack(0x21),
                Idle,
                Write(0x20, 0x20),
                Ack(0x26),
                Line(3, true),
                Ack(0x23),
            ],
        ),
        (
            "a slave's interrupt needs two EOIs",
            &[
                Line(12, true),
                Ack(0x2c),
                Line(8, true),
                Idle,
                Write(0xa0, 0x20),
                Idle,
                Write(0x20, 0x20),
                Ack(0x28),
            ],
        ),
        (
            "IRR and ISR are read at the even port",
            &[
                Line(3, true),
                Line(5, true),
                Read(0x20, 0x28),
                Ack(0x23),
                Read(0x20, 0x20),
                Write(0x20, 0x0b),
                Read(0x20, 0x08),
                Write(0x20, 0x0a),
                Read(0x20, 0x20),
            ],
        ),
        (
            "a masked request waits",
            &[Write(0x21, 0x10), Line(4, true), Idle, Read(0x21, 0x10), Write(0x21, 0), Ack(0x24)],
        ),
        (
            "a level request repeats until its line falls",
            &[
                Write(0x4d1, 0xff),
                Read(0x4d1, 0xde),
                Write(0x4d0, 0xff),
                Read(0x4d0, 0xf8),
                Line(11, true),
                Ack(0x2b),
                Write(0xa0, 0x20),
                Write(0x20, 0x20),
                Ack(0x2b),
                Line(11, false),
                Write(0xa0, 0x20),
                Write(0x20, 0x20),
                Idle,
            ],
        ),
        ("a specific EOI", &[Line(1, true), Ack(0x21), Line(5, true), Write(0x20, 0x61), Ack(0x25)]),
        (
            "a nonspecific EOI with rotation",
            &[
                Line(4, true),
                Ack(0x24),
                Write(0x20, 0xa0),
                Line(3, true),
                Line(5, true),
                Ack(0x25),
                Write(0x20, 0x20),
                Ack(0x23),
            ],
        ),
        (
            "set priority",
            &[
                Write(0x20, 0xc4),
                Line(0, true),
                Line(5, true),
                Line(4, true),
                Ack(0x25),
                Write(0x20, 0x20),
                Ack(0x20),
            ],
        ),
        (
            "special mask mode lets lower priorities pass a masked input in service",
            &[
                Line(1, true),
                Ack(0x21),
                Line(6, true),
                Idle,
                Write(0x21, 0x02),
                Idle,
                Write(0x20, 0x68),
                Ack(0x26),
                Write(0x20, 0x20),
                Write(0x20, 0x0b),
                Read(0x20, 0x02),
                Write(0x20, 0x48),
                Write(0x20, 0x20),
                Read(0x20, 0x00),
            ],
        ),
        (
            "a poll acknowledges",
            &[
                Write(0x20, 0x0c),
                Read(0x20, 0x00),
                Line(3, true),
                Write(0x20, 0x0c),
                Read(0x20, 0x83),
                Idle,
                Write(0x20, 0x0b),
                Read(0x20, 0x08),
            ],
        ),
        (
            "ICW1 clears the mask and forgets edges",
            &[
                Write(0x21, 0xff),
                Line(4, true),
                Write(0x20, 0x11),
                Write(0x21, 0x50),
                Write(0x21, 0x04),
                Write(0x21, 0x01),
                Read(0x21, 0x00),
                Idle,
                Line(4, false),
                Line(4, true),
                Ack(0x54),
            ],
        ),
        ("IRQ 2 has no line", &[Line(2, true), Idle]),
        ("ports that are not there", &[Write(0x30, 1), Read(0x30, 0xff), Line(200, true), Idle]),
    ];
    for (name, steps) in cases {
        run(name, initialized(0x01), steps);
    }
}

#[test]
fn auto_eoi() {
    let steps = [Line(4, true), Ack(0x24), Write(0x20, 0x0b), Read(0x20, 0), Line(5, true), Ack(0x25)];
    run("nothing stays in service", initialized(0x03), &steps);
    let steps = [
        Write(0x20, 0x80),
        Line(4, true),
        Ack(0x24),
        Line(3, true),
        Line(5, true),
        Ack(0x25),
        Ack(0x23),
        Write(0x20, 0x00),
    ];
    run("each served input becomes the least urgent", initialized(0x03), &steps);
}

#[test]
fn special_fully_nested() {
    let steps = [Line(12, true), Ack(0x2c), Line(8, true), Ack(0x28)];
    run("the slave's more urgent input interrupts", initialized(0x11), &steps);
}

#[test]
fn spurious() {
    let mut pic = initialized(0x01);
    assert_eq!(pic.acknowledge(), 0x27, "the master's");
    pic.write_port(0x20, 0x0b);
    assert_eq!(pic.read_port(0x20), 0, "a spurious interrupt is not in service");
    run("the line of a level request fell", pic, &[Write(0x4d0, 0x20), Line(5, true), Line(5, false), Idle]);

    // The slave masks its request between the master's two INTA pulses: nobody does, but the vector is IRQ 15's.
    let mut pic = initialized(0x01);
    pic.set_irq(12, true);
    assert!(pic.output());
    pic.slave.write_data(0xff);
    assert_eq!(pic.acknowledge(), 0x2f);
    pic.write_port(0x20, 0x0b);
    assert_eq!(pic.read_port(0x20), 0x04, "the master serves the cascade");
}

#[test]
fn reset_keeps_the_lines() {
    let mut pic = initialized(0x01);
    pic.set_irq(4, true);
    pic.reset();
    assert!(!pic.output());
    pic.set_irq(4, true);
    assert!(!pic.output(), "no edge");
}
