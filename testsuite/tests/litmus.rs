//! Memory order and atomicity between vCPUs (SDM volume 3, 9.2 and 9.1): outcomes that x86 forbids never come, the one that
//! it allows beyond all orders of the instructions does, locked instructions lose nothing, and modified code is seen.
//! `RX86_LITMUS_ROUNDS` sets how often every test is done.

use iced_x86::IcedError;
use iced_x86::code_asm::*;
use rx86_testsuite::guest::rounds::{
    self, Counts, Part, Test, count, in_cell, increment_under_lock, note, nothing, repeat, variable,
};
use rx86_testsuite::guest::runner::{Emulator, Guest};
use rx86_testsuite::smp::overlap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const X: u32 = 0;
const Y: u32 = 1;
/// A dword at the end of a cache line, and one at the end of a page, both of which reach into the next.
const LINE_SPLIT: u32 = rounds::DATA + 0x800 + 62;
const PAGE_SPLIT: u32 = rounds::DATA + 0x3000 - 2;
/// Functions that one processor writes and the other calls: one a page.
const CODE: u32 = 0x40_0000;
const CODE_PAGES: u32 = 64;
/// A test of order has so many cells between two barriers: behind those the processors are rarely as close together as a store
/// and a load that passes it.
const CELLS: u32 = 32;
/// In one round of the counting tests, each processor counts so often.
const TIMES: u32 = 10;

/// As many rounds as `RX86_LITMUS_ROUNDS` says, else `quick` ones.
fn rounds_or(quick: u32) -> u32 {
    std::env::var("RX86_LITMUS_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(quick)
}

fn store(a: &mut CodeAssembler, number: u32) -> Result<(), IcedError> {
    a.mov(in_cell(number), 1)
}

fn load(a: &mut CodeAssembler, number: u32) -> Result<(), IcedError> {
    a.mov(eax, in_cell(number))
}

/// Stores one variable and loads the other, with `fence` between.
fn store_load<const CPU: u32>(a: &mut CodeAssembler, fence: Part) -> Result<(), IcedError> {
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

/// Loads a variable and notes it as a word of the processor.
fn load_and_note(a: &mut CodeAssembler, number: u32, cpu: u32, word: u32) -> Result<(), IcedError> {
    load(a, number)?;
    note(a, cpu, word, eax)
}

/// Stores one variable, loads it, and loads the other one.
fn store_load_both<const CPU: u32>(a: &mut CodeAssembler) -> Result<(), IcedError> {
    store(a, CPU)?;
    load_and_note(a, CPU, CPU, 0)?;
    load_and_note(a, 1 - CPU, CPU, 1)
}

/// Stores 1 by XCHG.
fn exchange<const NUMBER: u32>(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.mov(eax, 1)?;
    a.xchg(in_cell(NUMBER), eax)
}

fn exchange_load<const CPU: u32>(a: &mut CodeAssembler) -> Result<(), IcedError> {
    exchange::<CPU>(a)?;
    load_and_note(a, 1 - CPU, CPU, 0)
}

/// Loads `FIRST`, then the other variable.
fn load_both<const CPU: u32, const FIRST: u32>(a: &mut CodeAssembler) -> Result<(), IcedError> {
    load_and_note(a, FIRST, CPU, 0)?;
    load_and_note(a, 1 - FIRST, CPU, 1)
}

fn load_store<const CPU: u32>(a: &mut CodeAssembler) -> Result<(), IcedError> {
    load(a, CPU)?;
    store(a, 1 - CPU)?;
    note(a, CPU, 0, eax)
}

fn store_two<const CPU: u32>(a: &mut CodeAssembler) -> Result<(), IcedError> {
    store(a, CPU)?;
    a.mov(in_cell(1 - CPU), 2)
}

fn clear<const NUMBER: u32>(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.mov(in_cell(NUMBER), 0)
}

fn count_loads(a: &mut CodeAssembler) -> Result<(), IcedError> {
    count(a, &[(0, 0), (1, 0)])
}

fn count_second(a: &mut CodeAssembler) -> Result<(), IcedError> {
    count(a, &[(1, 0), (1, 1)])
}

fn count_both(a: &mut CodeAssembler) -> Result<(), IcedError> {
    count(a, &[(0, 0), (0, 1), (1, 0), (1, 1)])
}

/// Counts what the two variables hold at the end, 1 as 0 and 2 as 1.
fn count_stores(a: &mut CodeAssembler) -> Result<(), IcedError> {
    for number in [X, Y] {
        load(a, number)?;
        a.dec(eax)?;
        note(a, 0, number, eax)?;
    }
    count(a, &[(0, 0), (0, 1)])
}

/// An outcome that x86 forbids, or all that it allows.
enum Law {
    Forbids(usize),
    Allows(&'static [usize]),
}

/// Store buffering: each processor stores one variable and loads the other. Outcome 0 is that neither sees the other's store,
/// which x86 allows though no order of the instructions has it.
fn store_buffering() -> Test {
    let parts: Vec<Part> = vec![|a| store_load::<0>(a, nothing), |a| store_load::<1>(a, nothing)];
    // Each variable is cleared by the processor that is going to load it: it has the line then, and the store must wait.
    Test { name: "sb", cells: CELLS, parts, before: vec![clear::<Y>, clear::<X>], after: count_loads }
}

/// The tests of order between two processors, with their laws (SDM volume 3, 9.2.3).
fn order() -> Vec<(Test, Law)> {
    use Law::*;
    let test = |name, first: Part, second: Part, after: Part, law| {
        (Test { name, parts: vec![first, second], after, ..store_buffering() }, law)
    };
    let mut tests = vec![
        (store_buffering(), Allows(&[0, 1, 2, 3])),
        test(
            "sb-mfence",
            |a| store_load::<0>(a, mfence),
            |a| store_load::<1>(a, mfence),
            count_loads,
            Forbids(0),
        ),
        test(
            "sb-locked",
            |a| store_load::<0>(a, locked),
            |a| store_load::<1>(a, locked),
            count_loads,
            Forbids(0),
        ),
        test(
            "sb-cpuid",
            |a| store_load::<0>(a, cpuid),
            |a| store_load::<1>(a, cpuid),
            count_loads,
            Forbids(0),
        ),
        test("sb-xchg", exchange_load::<0>, exchange_load::<1>, count_loads, Forbids(0)),
        // A processor sees its own store at once, the other's whenever it comes.
        test("sb-own", store_load_both::<0>, store_load_both::<1>, count_both, Allows(&[10, 11, 14, 15])),
    ];
    tests.extend([
        test("mp", |a| store(a, X).and_then(|()| store(a, Y)), load_both::<1, Y>, count_second, Forbids(2)),
        test(
            "mp-xchg",
            |a| exchange::<X>(a).and_then(|()| store(a, Y)),
            load_both::<1, Y>,
            count_second,
            Forbids(2),
        ),
        test("lb", load_store::<0>, load_store::<1>, count_loads, Forbids(3)),
        test(
            "coherence",
            |a| store(a, X),
            |a| load_and_note(a, X, 1, 0).and_then(|()| load_and_note(a, X, 1, 1)),
            count_second,
            Forbids(2),
        ),
        test("2+2w", store_two::<0>, store_two::<1>, count_stores, Forbids(0)),
    ]);
    tests
}

/// The tests of order between more processors: all see stores in one order, and what they cause behind them.
fn order_of_many() -> Vec<(Test, Law)> {
    let readers = |a: &mut CodeAssembler| count(a, &[(2, 0), (2, 1), (3, 0), (3, 1)]);
    let before: Vec<Part> = vec![nothing, nothing, clear::<Y>, clear::<X>];
    let test = |name, parts: [Part; 4], after: Part, forbidden| {
        let test = Test { name, cells: CELLS, parts: parts.to_vec(), after, before: before.clone() };
        (test, Law::Forbids(forbidden))
    };
    let store_x: Part = |a| store(a, X);
    vec![
        test("iriw", [store_x, |a| store(a, Y), load_both::<2, X>, load_both::<3, Y>], readers, 10),
        test("iriw-xchg", [exchange::<X>, exchange::<Y>, load_both::<2, X>, load_both::<3, Y>], readers, 10),
        test(
            "transitivity",
            [
                store_x,
                |a| {
                    load(a, X)?;
                    a.mov(in_cell(Y), eax)?;
                    note(a, 1, 0, eax)
                },
                load_both::<2, Y>,
                nothing,
            ],
            |a| count(a, &[(1, 0), (2, 0), (2, 1)]),
            6,
        ),
    ]
}

fn increment(a: &mut CodeAssembler) -> Result<(), IcedError> {
    repeat(a, TIMES, |a| a.lock().inc(dword_ptr(variable(X))))
}

fn plain_increment(a: &mut CodeAssembler) -> Result<(), IcedError> {
    repeat(a, TIMES, |a| a.inc(dword_ptr(variable(X))))
}

fn exchange_add(a: &mut CodeAssembler) -> Result<(), IcedError> {
    repeat(a, TIMES, |a| {
        a.mov(eax, 1)?;
        a.lock().xadd(qword_ptr(variable(X)), rax)
    })
}

/// Increments a plain variable under a lock of XCHG.
fn spin_lock(a: &mut CodeAssembler) -> Result<(), IcedError> {
    repeat(a, TIMES, |a| increment_under_lock(a, X, Y))
}

/// Adds one to the low and three to the high quadword of 16 bytes.
fn exchange_16(a: &mut CodeAssembler) -> Result<(), IcedError> {
    repeat(a, TIMES, |a| {
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

fn pair(name: &'static str, first: Part, second: Part, after: Part) -> Test {
    Test { name, cells: 1, parts: vec![first, second], before: Vec::new(), after }
}

/// The tests of atomicity.
fn atomicity() -> Vec<Test> {
    let both = |name, part: Part| pair(name, part, part, nothing);
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
        pair(
            "split-line",
            |a| add_split(a, LINE_SPLIT, 1 << 16),
            |a| a.lock().inc(word_ptr(LINE_SPLIT + 2)),
            |a| show_split(a, LINE_SPLIT),
        ),
        pair(
            "split-page",
            |a| add_split(a, PAGE_SPLIT, 1 << 16),
            |a| a.lock().inc(word_ptr(PAGE_SPLIT + 2)),
            |a| show_split(a, PAGE_SPLIT),
        ),
        pair(
            "split-both",
            |a| add_split(a, PAGE_SPLIT, 1),
            |a| add_split(a, PAGE_SPLIT, 1),
            |a| show_split(a, PAGE_SPLIT),
        ),
    ]
}

/// The page tables of a linear address that only `walked_flags` uses, from the page-directory-pointer table down, and its page.
const TABLES: [u32; 4] = [0x40_0000, 0x40_1000, 0x40_2000, 0x40_3000];
const LINEAR: u64 = 1 << 39;
/// A bit of a page-table entry that processors ignore, and the flags that they set.
const IGNORED: i32 = 52;
const DIRTY: i32 = 6;
const ACCESSED: i32 = 5;

/// Maps the page, present and writable; the tables stay as they are from the second round on.
fn map_page(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut done = a.create_label();
    a.cmp(r14d, 1)?;
    a.jne(done)?;
    a.mov(rax, cr3)?;
    a.mov(qword_ptr(rax + 8), TABLES[0] as i32 | 3)?;
    for (table, next) in TABLES.into_iter().zip(&TABLES[1..]) {
        a.mov(qword_ptr(table), *next as i32 | 3)?;
    }
    a.set_label(&mut done)?;
    a.zero_bytes()
}

/// One processor flips an ignored bit of a page-table entry while the other's page walks set accessed and dirty flags there, which it
/// clears again (SDM volume 3, 4.8). Variable 0 is what the bit should be, 1 and 2 count the flips and flags that were lost,
/// and 3 the stores.
fn walked_flags() -> Test {
    let flip: Part = |a| {
        repeat(a, TIMES, |a| {
            let mut good = a.create_label();
            a.xor(eax, eax)?;
            a.lock().btc(qword_ptr(TABLES[2]), IGNORED)?;
            a.setc(al)?;
            a.cmp(eax, dword_ptr(variable(X)))?;
            a.je(good)?;
            a.inc(dword_ptr(variable(Y)))?;
            a.set_label(&mut good)?;
            a.xor(eax, 1)?;
            a.mov(dword_ptr(variable(X)), eax)
        })
    };
    let touch: Part = |a| {
        repeat(a, TIMES, |a| {
            let mut good = a.create_label();
            a.lock().btr(qword_ptr(TABLES[2]), DIRTY)?;
            a.lock().btr(qword_ptr(TABLES[2]), ACCESSED)?;
            a.mov(rdi, LINEAR)?;
            a.invlpg(byte_ptr(rdi))?;
            a.inc(dword_ptr(rdi))?;
            a.inc(dword_ptr(variable(3)))?;
            a.mov(eax, dword_ptr(TABLES[2]))?;
            a.and(eax, 1 << DIRTY | 1 << ACCESSED)?;
            a.cmp(eax, 1 << DIRTY | 1 << ACCESSED)?;
            a.je(good)?;
            a.inc(dword_ptr(variable(2)))?;
            a.set_label(&mut good)?;
            a.zero_bytes()
        })
    };
    Test { name: "walked-flags", cells: 1, parts: vec![flip, touch], before: vec![map_page], after: nothing }
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
    pair(
        "modified-code",
        |a| {
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
        |a| {
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
        nothing,
    )
}

/// Does tests so often each, rounded up to whole rounds, and gives their counts by name.
fn run(name: &str, engine: &str, times: u32, tests: Vec<Test>) -> impl Fn(&str) -> Counts + use<> {
    let kernel = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("litmus-{name}-{engine}"));
    let cpus = tests.iter().map(|test| test.parts.len()).max().unwrap_or(1).to_string();
    let with_rounds = |test: Test| {
        let rounds = times.div_ceil(test.cells);
        (test, rounds)
    };
    let tests: Vec<(Test, u32)> = tests.into_iter().map(with_rounds).collect();
    std::fs::write(&kernel, rounds::guest(&tests)).expect("the target folder can be written");
    let rx86_args = ["--cpus", &cpus, "--engine", engine, "--no-reboot"].map(Into::into).to_vec();
    let guest = Guest { kernel, initrd: None, append: String::new(), memory_mib: 64, rx86_args };
    let run = guest.run(Emulator::Rx86, Duration::from_secs(3600)).expect("rx86 starts");
    assert_eq!((run.status, run.after("done")), (Some(0), Some("")), "{engine}: {}", run.tail());
    println!("{engine}, {times} times, {:.1} s:\n{}", run.elapsed.as_secs_f64(), run.console());
    let console = run.console();
    move |test| {
        let line = console.lines().find_map(|line| line.strip_prefix(&format!("{test} ")));
        line.and_then(Counts::parse).unwrap_or_else(|| panic!("no counts of {test} in:\n{console}"))
    }
}

const ENGINES: [&str; 2] = ["interp", "jit"];
const MANY: u32 = 1_000_000;

/// What needs two vCPUs that run at the same time is tried so often, and missing if it did not come in so many tries before
/// and behind each of which two threads of the host did run at the same time.
const TRIES: u32 = 10;
const FAIR_TRIES: u32 = 3;
/// Whether two threads of the host run at the same time is tried so often, and so many rounds of a thousand must show it; on an
/// idle host 20 to 50 do.
const HOST_TRIES: u32 = 5;
const OVERLAPPING_ROUNDS: usize = 10;

/// The tests take turns: the vCPUs of two on a host with two processors would not run at the same time.
fn turn() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Demands that something comes which two vCPUs show only when the host runs both at the same time. A host that did not is
/// named, and the demand is dropped.
fn demand(what: &str, mut comes: impl FnMut() -> bool) {
    let is_parallel = || (0..HOST_TRIES).any(|_| overlap::overlapping_rounds() >= OVERLAPPING_ROUNDS);
    let mut fair_tries = 0;
    let mut was_parallel = is_parallel();
    for _ in 0..TRIES {
        if comes() {
            return;
        }
        let before = std::mem::replace(&mut was_parallel, is_parallel());
        fair_tries += u32::from(before && was_parallel);
    }
    let told = format!(
        "{what}: not in {TRIES} tries; in {fair_tries} the host did run two threads at the same time"
    );
    assert!(fair_tries < FAIR_TRIES, "{told}");
    // The test harness keeps what `println!` prints to itself; a demand that is dropped must be seen.
    let _ = writeln!(std::io::stderr(), "not demanded: {told}");
}

fn keep_the_law(name: &str, times: u32, tests: fn() -> Vec<(Test, Law)>) {
    for engine in ENGINES {
        let counts = run(name, engine, times, tests().into_iter().map(|(test, _)| test).collect());
        for (test, law) in tests() {
            let outcomes = counts(test.name).outcomes;
            let came: Vec<(usize, u64)> = outcomes.into_iter().enumerate().filter(|(_, n)| *n > 0).collect();
            let told = match law {
                Law::Forbids(outcome) => format!("{outcome} is forbidden, came {} times", outcomes[outcome]),
                Law::Allows(allowed) => format!("{allowed:?} are allowed"),
            };
            let told = format!("{engine} {}: {told}; (outcome, times): {came:?}", test.name);
            println!("{told}");
            assert_eq!(outcomes.iter().sum::<u64>(), u64::from(times.next_multiple_of(CELLS)), "{told}");
            assert_eq!(outcomes[rounds::OUTCOME_COUNT - 1], 0, "a value that nobody stored: {told}");
            match law {
                Law::Forbids(outcome) => assert_eq!(outcomes[outcome], 0, "{told}"),
                Law::Allows(allowed) => {
                    assert!(came.iter().all(|(outcome, _)| allowed.contains(outcome)), "{told}");
                }
            }
        }
    }
}

#[test]
fn forbidden_outcomes_never_come() {
    let _turn = turn();
    keep_the_law("order", rounds_or(MANY), order);
}

#[test]
fn all_processors_see_stores_in_one_order() {
    let _turn = turn();
    keep_the_law("many", rounds_or(MANY), order_of_many);
}

/// The order of stores and loads is the host's: nothing is done for a stronger one that x86 does not ask for.
#[test]
fn loads_pass_stores_to_other_variables() {
    const TIMES: u32 = 100_000;
    let _turn = turn();
    for engine in ENGINES {
        demand(&format!("{engine}, both loads 0 in store buffering"), || {
            run("passing", engine, TIMES, vec![store_buffering()])("sb").outcomes[0] > 0
        });
    }
}

/// An increment is lost without LOCK: the vCPUs do run at the same time.
#[test]
fn plain_increments_are_lost() {
    const ROUNDS: u32 = 50_000;
    let _turn = turn();
    let all = u64::from(ROUNDS) * 2 * u64::from(TIMES);
    for engine in ENGINES {
        demand(&format!("{engine}, lost increments"), || {
            let plain = pair("inc-plain", plain_increment, plain_increment, nothing);
            let counted = run("parallel", engine, ROUNDS, vec![plain])("inc-plain").variables[0];
            println!("{} of {all} increments were lost", all - counted);
            counted < all
        });
    }
}

#[test]
fn locked_instructions_lose_nothing() {
    let _turn = turn();
    let rounds = rounds_or(10_000);
    for engine in ENGINES {
        let counts = run("atomic", engine, rounds, atomicity());
        let all = u64::from(rounds) * u64::from(TIMES) * 2;
        for test in ["inc", "xadd", "xchg", "cmpxchg16b"] {
            assert_eq!(counts(test).variables[0], all, "{engine} {test}");
        }
        assert_eq!(counts("cmpxchg16b").variables[1], 3 * all, "{engine}: the upper half");
    }
}

#[test]
fn split_locks_are_respected_by_other_locks() {
    let _turn = turn();
    let rounds = rounds_or(1000);
    for engine in ENGINES {
        let counts = run("split", engine, rounds, split_locks());
        let both_halves = u64::from((2 * rounds) << 16);
        for test in ["split-line", "split-page"] {
            let counted = counts(test).variables[0];
            assert_eq!(counted, both_halves, "{engine} {test}: {counted:#x}");
        }
        assert_eq!(counts("split-both").variables[0], u64::from(2 * rounds), "{engine}");
    }
}

#[test]
fn page_walks_set_flags_and_lose_nothing() {
    let _turn = turn();
    let rounds = rounds_or(10_000);
    for engine in ENGINES {
        let counts = run("walks", engine, rounds, vec![walked_flags()])("walked-flags");
        let stores = u64::from(rounds) * u64::from(TIMES);
        assert_eq!(counts.variables[1..], [0, 0, stores], "{engine}: lost flips, lost flags, stores");
    }
}

#[test]
fn modified_code_is_seen_behind_a_serializing_instruction() {
    let _turn = turn();
    let rounds = rounds_or(10_000);
    for engine in ENGINES {
        let counts = run("code", engine, rounds, vec![modified_code()])("modified-code");
        assert_eq!(counts.variables[..2], [u64::from(rounds), 0], "{engine}: calls of old code");
    }
}

#[test]
fn sixty_four_processors_start_and_count() {
    let _turn = turn();
    const CPUS: usize = 64;
    const ROUNDS: u32 = 50;
    for engine in ENGINES {
        let all =
            Test { name: "inc", cells: 1, parts: vec![increment; CPUS], before: Vec::new(), after: nothing };
        let counts = run("sixty-four", engine, ROUNDS, vec![all])("inc");
        assert_eq!(counts.variables[0], u64::from(ROUNDS) * u64::from(TIMES) * CPUS as u64, "{engine}");
    }
}
