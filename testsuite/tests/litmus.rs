//! Memory order and atomicity between two vCPUs (SDM volume 3, 9.2 and 9.1): outcomes that x86 forbids never come, locked
//! instructions lose nothing, and modified code is seen. `RX86_LITMUS_ROUNDS` sets the rounds.

use iced_x86::IcedError;
use iced_x86::code_asm::*;
use rx86_testsuite::guest::pair::{self, Counts, Part, Test, count_pair, note, nothing, variable};
use rx86_testsuite::guest::runner::{Emulator, Guest};
use std::path::PathBuf;
use std::time::Duration;

const X: u32 = 0;
const Y: u32 = 1;
/// A dword at the end of a cache line, and one at the end of a page, both of which reach into the next.
const LINE_SPLIT: u32 = pair::DATA + 0x800 + 62;
const PAGE_SPLIT: u32 = pair::DATA + 0x3000 - 2;
/// Functions that one processor writes and the other calls: one a page.
const CODE: u32 = 0x40_0000;
const CODE_PAGES: u32 = 64;
/// Memory that is touched now and then: so much for each processor.
const COLD: u32 = 0x180_0000;
const COLD_BYTES: i32 = 16 << 20;
/// In one round of the counting tests, each processor counts so often.
const TIMES: u32 = 10;

fn rounds() -> u32 {
    std::env::var("RX86_LITMUS_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000)
}

fn store(a: &mut CodeAssembler, number: u32) -> Result<(), IcedError> {
    a.mov(dword_ptr(variable(number)), 1)
}

fn load(a: &mut CodeAssembler, number: u32) -> Result<(), IcedError> {
    a.mov(eax, dword_ptr(variable(number)))
}

/// Stores one variable and loads the other, with `fence` between. Stores to lines that no cache has go before, so that the
/// store waits for a while even where the host's two threads share a core.
fn store_load<const CPU: u32>(a: &mut CodeAssembler, fence: Part) -> Result<(), IcedError> {
    a.imul_3(ebx, r14d, 4096 + 64)?;
    a.and(ebx, COLD_BYTES - 1)?;
    for line in 0..3 {
        a.mov(dword_ptr(rbx + (COLD + CPU * COLD_BYTES as u32 + 64 * line)), r14d)?;
    }
    store(a, CPU)?;
    fence(a)?;
    load(a, 1 - CPU)?;
    note(a, CPU, 0, eax)
}

fn mfence(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.mfence()
}

fn locked(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.lock().add(dword_ptr(rsp - 64), 0)
}

fn cpuid(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.xor(eax, eax)?;
    a.cpuid()
}

fn count_loads(a: &mut CodeAssembler) -> Result<(), IcedError> {
    count_pair(a, (0, 0), (1, 0))
}

fn count_second(a: &mut CodeAssembler) -> Result<(), IcedError> {
    count_pair(a, (1, 0), (1, 1))
}

/// The tests of order.
fn order() -> Vec<Test> {
    // Each variable is cleared by the processor that is going to load it: it has the line then, and the store must wait.
    let before: [Part; 2] = [|a| a.mov(dword_ptr(variable(Y)), 0), |a| a.mov(dword_ptr(variable(X)), 0)];
    let test = |name, first: Part, second: Part, after: Part| Test { name, first, second, after, before };
    vec![
        test("sb", |a| store_load::<0>(a, nothing), |a| store_load::<1>(a, nothing), count_loads),
        test("sb-mfence", |a| store_load::<0>(a, mfence), |a| store_load::<1>(a, mfence), count_loads),
        test("sb-locked", |a| store_load::<0>(a, locked), |a| store_load::<1>(a, locked), count_loads),
        test("sb-cpuid", |a| store_load::<0>(a, cpuid), |a| store_load::<1>(a, cpuid), count_loads),
        test(
            "mp",
            |a| {
                store(a, X)?;
                store(a, Y)
            },
            |a| {
                load(a, Y)?;
                note(a, 1, 0, eax)?;
                load(a, X)?;
                note(a, 1, 1, eax)
            },
            count_second,
        ),
        test(
            "lb",
            |a| {
                load(a, X)?;
                store(a, Y)?;
                note(a, 0, 0, eax)
            },
            |a| {
                load(a, Y)?;
                store(a, X)?;
                note(a, 1, 0, eax)
            },
            count_loads,
        ),
        test(
            "coherence",
            |a| store(a, X),
            |a| {
                load(a, X)?;
                note(a, 1, 0, eax)?;
                load(a, X)?;
                note(a, 1, 1, eax)
            },
            count_second,
        ),
    ]
}

/// Executes `body` a few times.
fn repeat(
    a: &mut CodeAssembler,
    body: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>,
) -> Result<(), IcedError> {
    let mut again = a.create_label();
    a.mov(esi, TIMES)?;
    a.set_label(&mut again)?;
    body(a)?;
    a.dec(esi)?;
    a.jne(again)
}

fn increment(a: &mut CodeAssembler) -> Result<(), IcedError> {
    repeat(a, |a| a.lock().inc(dword_ptr(variable(X))))
}

fn plain_increment(a: &mut CodeAssembler) -> Result<(), IcedError> {
    repeat(a, |a| a.inc(dword_ptr(variable(X))))
}

fn exchange_add(a: &mut CodeAssembler) -> Result<(), IcedError> {
    repeat(a, |a| {
        a.mov(eax, 1)?;
        a.lock().xadd(qword_ptr(variable(X)), rax)
    })
}

/// Increments a plain variable under a lock of XCHG.
fn spin_lock(a: &mut CodeAssembler) -> Result<(), IcedError> {
    repeat(a, |a| {
        let mut taken = a.create_label();
        let mut wait = a.create_label();
        a.mov(eax, 1)?;
        a.set_label(&mut wait)?;
        a.xchg(dword_ptr(variable(Y)), eax)?;
        a.test(eax, eax)?;
        a.je(taken)?;
        a.pause()?;
        a.jmp(wait)?;
        a.set_label(&mut taken)?;
        a.inc(dword_ptr(variable(X)))?;
        a.mov(dword_ptr(variable(Y)), 0)
    })
}

/// Adds one to the low and three to the high quadword of 16 bytes.
fn exchange_16(a: &mut CodeAssembler) -> Result<(), IcedError> {
    repeat(a, |a| {
        let mut again = a.create_label();
        a.mov(rax, qword_ptr(variable(X)))?;
        a.mov(rdx, qword_ptr(variable(X) + 8))?;
        a.set_label(&mut again)?;
        a.lea(rbx, ptr(rax + 1))?;
        a.lea(rcx, ptr(rdx + 3))?;
        a.lock().cmpxchg16b(xmmword_ptr(variable(X)))?;
        a.jne(again)
    })?;
    // For the count that is printed.
    a.mov(rax, qword_ptr(variable(X) + 8))?;
    a.mov(qword_ptr(variable(Y)), rax)
}

/// Adds to the dword `at`, of which the upper half is beyond a border.
fn add_split(a: &mut CodeAssembler, at: u32, value: i32) -> Result<(), IcedError> {
    a.lock().add(dword_ptr(at), value)
}

/// Puts the two halves of a split dword where they are printed.
fn show_split(a: &mut CodeAssembler, at: u32) -> Result<(), IcedError> {
    a.mov(eax, dword_ptr(at))?;
    a.mov(dword_ptr(variable(X)), eax)
}

/// The tests of atomicity.
fn atomicity() -> Vec<Test> {
    let both =
        |name, part: Part| Test { name, first: part, second: part, after: nothing, before: [nothing; 2] };
    vec![
        both("inc", increment),
        both("xadd", exchange_add),
        both("xchg", spin_lock),
        both("cmpxchg16b", exchange_16),
    ]
}

/// Tests of split locks, which stop the other processor and so take longer.
fn split_locks() -> Vec<Test> {
    vec![
        // One adds to the upper half through the split dword, the other to the same half by itself.
        Test {
            name: "split-line",
            first: |a| add_split(a, LINE_SPLIT, 1 << 16),
            second: |a| a.lock().inc(word_ptr(LINE_SPLIT + 2)),
            before: [nothing; 2],
            after: |a| show_split(a, LINE_SPLIT),
        },
        Test {
            name: "split-page",
            first: |a| add_split(a, PAGE_SPLIT, 1 << 16),
            second: |a| a.lock().inc(word_ptr(PAGE_SPLIT + 2)),
            before: [nothing; 2],
            after: |a| show_split(a, PAGE_SPLIT),
        },
        Test {
            name: "split-both",
            first: |a| add_split(a, PAGE_SPLIT, 1),
            second: |a| add_split(a, PAGE_SPLIT, 1),
            before: [nothing; 2],
            after: |a| show_split(a, PAGE_SPLIT),
        },
    ]
}

/// The function of this round's page, in RDI.
fn function(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.mov(edi, r14d)?;
    a.and(edi, (CODE_PAGES - 1) as i32)?;
    a.shl(edi, 12)?;
    a.add(edi, CODE as i32)
}

/// One processor rewrites a function that the other may be executing; behind the flag and a serializing instruction that
/// must see the new one (SDM volume 3, 9.1.3). Variable 0 is the flag, variable 1 counts calls of old code.
fn modified_code() -> Test {
    Test {
        name: "modified-code",
        first: |a| {
            function(a)?;
            // MOV EAX, the round's number; RET. It is whole when its last byte is there.
            a.mov(byte_ptr(rdi), 0xb8)?;
            // The other one may decode the old function now, while this one has the page at hand.
            let mut wait = a.create_label();
            a.mov(ecx, r14d)?;
            a.shl(ecx, 2)?;
            a.and(ecx, 31 << 8)?;
            a.inc(ecx)?;
            a.set_label(&mut wait)?;
            a.dec(ecx)?;
            a.jne(wait)?;
            a.mov(dword_ptr(rdi + 1), r14d)?;
            a.mov(byte_ptr(rdi + 5), 0xc3)?;
            a.mov(dword_ptr(variable(X)), r14d)
        },
        second: |a| {
            let mut wait = a.create_label();
            let mut seen = a.create_label();
            let mut good = a.create_label();
            function(a)?;
            a.cmp(byte_ptr(rdi + 5), 0xc3)?;
            a.jne(wait)?;
            a.call(rdi)?;
            a.set_label(&mut wait)?;
            a.cmp(dword_ptr(variable(X)), r14d)?;
            a.je(seen)?;
            a.pause()?;
            a.jmp(wait)?;
            a.set_label(&mut seen)?;
            cpuid(a)?;
            a.call(rdi)?;
            a.cmp(eax, r14d)?;
            a.je(good)?;
            a.inc(dword_ptr(variable(Y)))?;
            a.set_label(&mut good)?;
            a.zero_bytes()
        },
        after: nothing,
        before: [nothing; 2],
    }
}

/// Runs tests, each with its rounds, and gives their counts by name.
fn run(name: &str, engine: &str, tests: &[(Test, u32)]) -> impl Fn(&str) -> Counts + use<> {
    let kernel = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("litmus-{name}-{engine}"));
    std::fs::write(&kernel, pair::guest(tests)).expect("the target folder can be written");
    let rx86_args = ["--cpus", "2", "--engine", engine, "--no-reboot"].map(Into::into).to_vec();
    let guest = Guest { kernel, initrd: None, append: String::new(), memory_mib: 64, rx86_args };
    let run = guest.run(Emulator::Rx86, Duration::from_secs(900)).expect("rx86 starts");
    assert_eq!((run.status, run.after("done")), (Some(0), Some("")), "{engine}: {}", run.tail());
    println!("{engine}, {:.1} s:\n{}", run.elapsed.as_secs_f64(), run.console());
    let console = run.console();
    move |test| {
        let line = console.lines().find_map(|line| line.strip_prefix(&format!("{test} ")));
        line.and_then(Counts::parse).unwrap_or_else(|| panic!("no counts of {test} in:\n{console}"))
    }
}

const ENGINES: [&str; 2] = ["interp", "jit"];

#[test]
fn forbidden_outcomes_never_come() {
    let rounds = rounds();
    for engine in ENGINES {
        let counts =
            run("order", engine, &order().into_iter().map(|test| (test, rounds)).collect::<Vec<_>>());
        for test in order() {
            let outcomes = counts(test.name).outcomes;
            assert_eq!(outcomes.iter().sum::<u64>(), u64::from(rounds), "{engine} {}", test.name);
            assert_eq!(outcomes[4], 0, "{engine} {}: a value that nobody stored", test.name);
        }
        for (test, forbidden) in
            [("sb-mfence", 0), ("sb-locked", 0), ("sb-cpuid", 0), ("mp", 2), ("lb", 3), ("coherence", 2)]
        {
            assert_eq!(counts(test).outcomes[forbidden], 0, "{engine} {test}: {:?}", counts(test).outcomes);
        }
    }
}

/// An increment is lost without LOCK: the vCPUs do run at the same time. How often a load passes a store depends on the
/// host, on a busy one it is rarely or never, and is only printed.
#[test]
fn plain_increments_are_lost() {
    const TRIES: u32 = 60;
    const ROUNDS: u32 = 50_000;
    if std::thread::available_parallelism().map_or(1, |cores| cores.get()) < 2 {
        println!("skipped: this host runs one thread at a time");
        return;
    }
    let plain = Test {
        name: "inc-plain",
        first: plain_increment,
        second: plain_increment,
        after: nothing,
        before: [nothing; 2],
    };
    let tests = [(plain, ROUNDS)];
    let all = u64::from(ROUNDS) * 2 * u64::from(TIMES);
    for engine in ENGINES {
        let is_lost = |_| run("parallel", engine, &tests)("inc-plain").variables[0] < all;
        assert!((0..TRIES).any(is_lost), "{engine}: all of {TRIES} runs");
    }
}

#[test]
fn locked_instructions_lose_nothing() {
    let rounds = rounds() / 10;
    for engine in ENGINES {
        let counts =
            run("atomic", engine, &atomicity().into_iter().map(|test| (test, rounds)).collect::<Vec<_>>());
        let all = u64::from(rounds) * u64::from(TIMES) * 2;
        for test in ["inc", "xadd", "xchg", "cmpxchg16b"] {
            assert_eq!(counts(test).variables[0], all, "{engine} {test}");
        }
        assert_eq!(counts("cmpxchg16b").variables[1], 3 * all, "{engine}: the upper half");
    }
}

#[test]
fn split_locks_are_respected_by_other_locks() {
    let rounds = (rounds() / 100).min(30_000);
    for engine in ENGINES {
        let tests: Vec<_> = split_locks().into_iter().map(|test| (test, rounds)).collect();
        let counts = run("split", engine, &tests);
        for test in ["split-line", "split-page"] {
            let both_halves = counts(test).variables[0];
            assert_eq!(both_halves, u64::from(2 * rounds) << 16, "{engine} {test}: {both_halves:#x}");
        }
        assert_eq!(counts("split-both").variables[0], u64::from(2 * rounds), "{engine}");
    }
}

#[test]
fn modified_code_is_seen_behind_a_serializing_instruction() {
    let rounds = rounds() / 10;
    for engine in ENGINES {
        let counts = run("code", engine, &[(modified_code(), rounds)])("modified-code");
        assert_eq!(counts.variables[..2], [u64::from(rounds), 0], "{engine}: calls of old code");
    }
}
