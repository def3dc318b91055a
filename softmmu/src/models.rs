//! Models of what vCPUs do without locks, for loom: every order of their steps, and every value that a load may see by the
//! memory model, is tried.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release -p rx86-softmmu --lib models`

use crate::attention::Attention;
use crate::code::{CodeTracking, CodeWatcher};
use crate::sequenced::Sequenced;
use crate::sync::{Arc, AtomicU32, AtomicU64, Ordering, thread};
use std::time::Duration;

/// A RAM page with code.
const PAGE: u64 = 0x5000;
const PAGE_NUMBER: usize = 0;

fn model(body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    // More changes of thread against one's will than that have never been needed to find a fault.
    builder.preemption_bound = Some(3);
    builder.check(body);
}

/// Sleeps as a halted vCPU does, until one of `bits` is up.
fn halt(attention: &Attention, bits: u32) {
    while attention.peek() & bits == 0 {
        attention.sleep(bits, Duration::MAX);
    }
}

// The threads that sleep join no other: to loom an `unpark` would end that too.

#[test]
fn a_halted_vcpu_is_woken() {
    model(|| {
        let attention = Attention::default();
        let own = attention.clone();
        let halted = thread::spawn(move || halt(&own, Attention::INTERRUPT | Attention::NMI));
        attention.raise(Attention::INTERRUPT);
        halted.join().unwrap();
    });
}

#[test]
fn a_vcpu_that_halts_twice_is_woken_twice() {
    model(|| {
        let attention = Attention::default();
        let own = attention.clone();
        let halted = thread::spawn(move || {
            halt(&own, Attention::INTERRUPT);
            own.clear(Attention::INTERRUPT);
            halt(&own, Attention::NMI);
        });
        let other = attention.clone();
        let waker = thread::spawn(move || other.raise(Attention::NMI));
        attention.raise(Attention::INTERRUPT);
        waker.join().unwrap();
        halted.join().unwrap();
    });
}

/// A halted vCPU that looks for its wake-up a few times before it sleeps.
#[test]
fn a_halted_vcpu_that_looks_first_is_woken() {
    model(|| {
        let attention = Attention::default();
        let own = attention.clone();
        let halted = thread::spawn(move || {
            let mut looks = 0..2;
            if !own.comes_up(Attention::NMI, || looks.next().is_some()) {
                halt(&own, Attention::NMI);
            }
            own.clear(Attention::NMI);
            // It has not taken what the next sleep is ended by.
            halt(&own, Attention::INTERRUPT);
        });
        let other = attention.clone();
        let waker = thread::spawn(move || other.raise(Attention::INTERRUPT));
        attention.raise(Attention::NMI);
        waker.join().unwrap();
        halted.join().unwrap();
    });
}

/// What comes before `raise` is seen by the vCPU behind the flag.
#[test]
fn what_was_sent_is_there_when_the_flag_is() {
    model(|| {
        let attention = Attention::default();
        let request = Arc::new(AtomicU32::new(0));
        let (other, sent) = (attention.clone(), request.clone());
        let sender = thread::spawn(move || {
            sent.store(7, Ordering::Relaxed);
            other.raise(Attention::INTERRUPT);
        });
        if attention.peek() & Attention::INTERRUPT != 0 {
            attention.clear(Attention::INTERRUPT);
            assert_eq!(request.load(Ordering::Relaxed), 7);
        }
        sender.join().unwrap();
    });
}

/// A vCPU that stores to the page: unnoticed as long as its TLB entry is open.
struct Writer {
    tracking: Arc<CodeTracking>,
    watcher: CodeWatcher,
    attention: Attention,
    byte: Arc<AtomicU64>,
    open: bool,
}

impl Writer {
    /// A run of one block with a store, as the interpreter does it.
    fn run(&mut self, value: u64) {
        self.tracking.enter_guest(&self.watcher);
        if self.attention.peek() & Attention::CODE_WRITTEN != 0 {
            self.attention.clear(Attention::CODE_WRITTEN);
            let news = self.watcher.take();
            self.open &= !news.closed_pages().contains(&PAGE);
            self.watcher.acknowledge(&news);
        }
        self.byte.store(value, Ordering::Relaxed);
        if !self.open {
            self.tracking.note_write(Some(&self.watcher), PAGE_NUMBER, PAGE, 1);
        }
        self.watcher.leave_guest();
    }
}

/// One vCPU decodes a page while another one stores to it. In the end the first has seen the last value, or was told that
/// it changed, or still knows that the page is unsettled.
fn decoded_while_written(open: bool, stores: &'static [u64]) {
    model(move || {
        let tracking = Arc::new(CodeTracking::new(1));
        let byte = Arc::new(AtomicU64::new(0));
        let attentions = [Attention::default(), Attention::default()];
        let own = tracking.watch(attentions[0].clone());
        let mut writer = Writer {
            watcher: tracking.watch(attentions[1].clone()),
            tracking: tracking.clone(),
            attention: attentions[1].clone(),
            byte: byte.clone(),
            open,
        };
        tracking.enter_guest(&own);
        let writing = thread::spawn(move || stores.iter().for_each(|&value| writer.run(value)));

        let mut unsettled = tracking.mark(&own, PAGE_NUMBER, PAGE);
        let mut decoded = byte.load(Ordering::Relaxed);
        let closed = tracking.closed_up_to(&own);
        if let Some(sequence) = unsettled {
            decoded = byte.load(Ordering::Relaxed);
            unsettled = (sequence > closed).then_some(sequence);
        }
        writing.join().unwrap();
        let is_told = own.take().writes().count() > 0;
        let last = byte.load(Ordering::Relaxed);
        assert!(decoded == last || is_told || unsettled.is_some(), "{decoded}, not {last}");
    });
}

#[test]
fn a_store_to_new_code_is_told_or_seen() {
    decoded_while_written(false, &[1]);
}

#[test]
fn an_unnoticed_store_to_new_code_is_seen_or_known_to_be_possible() {
    decoded_while_written(true, &[1, 2]);
}

/// A device's write, which no vCPU's run contains, to a page that is being decoded.
#[test]
fn a_write_of_a_device_to_new_code_is_told_or_seen() {
    model(|| {
        let tracking = Arc::new(CodeTracking::new(1));
        let byte = Arc::new(AtomicU64::new(0));
        let own = tracking.watch(Attention::default());
        let (their_tracking, their_byte) = (tracking.clone(), byte.clone());
        let device = thread::spawn(move || {
            their_byte.store(1, Ordering::Relaxed);
            their_tracking.note_write(None, PAGE_NUMBER, PAGE, 1);
        });
        tracking.enter_guest(&own);
        tracking.mark(&own, PAGE_NUMBER, PAGE);
        let decoded = byte.load(Ordering::Relaxed);
        device.join().unwrap();
        assert!(decoded == 1 || own.take().writes().count() > 0);
    });
}

/// Not atomic: what another one adds between the two steps, or has added unseen, is lost.
fn add_one(memory: &AtomicU64) {
    let value = memory.load(Ordering::Relaxed);
    memory.store(value + 1, Ordering::Relaxed);
}

/// A vCPU that executes guest code and one that runs alone never touch memory at the same time.
#[test]
fn nobody_runs_beside_a_split_lock() {
    model(|| {
        let tracking = Arc::new(CodeTracking::new(1));
        let memory = Arc::new(AtomicU64::new(0));
        let own = tracking.watch(Attention::default());
        let other = tracking.watch(Attention::default());
        let (their_tracking, their_memory) = (tracking.clone(), memory.clone());
        let running = thread::spawn(move || {
            their_tracking.enter_guest(&other);
            add_one(&their_memory);
            other.leave_guest();
        });
        tracking.enter_guest(&own);
        tracking.alone(&own, || add_one(&memory));
        own.leave_guest();
        running.join().unwrap();
        assert_eq!(memory.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn split_locks_take_turns() {
    model(|| {
        let tracking = Arc::new(CodeTracking::new(1));
        let memory = Arc::new(AtomicU64::new(0));
        let watchers = [tracking.watch(Attention::default()), tracking.watch(Attention::default())];
        let threads = watchers.map(|own| {
            let (tracking, memory) = (tracking.clone(), memory.clone());
            thread::spawn(move || {
                tracking.enter_guest(&own);
                tracking.alone(&own, || add_one(&memory));
                own.leave_guest();
            })
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(memory.load(Ordering::Relaxed), 2);
    });
}

/// A clock that two words set back: it stands at the first one, and is behind a count of all looks by the second one.
#[derive(Default)]
struct LateClock {
    words: Sequenced<2>,
    looks: AtomicU64,
}

impl LateClock {
    /// A later time at each look. The threads' looks have an order, but order nothing else.
    fn source(&self) -> u64 {
        self.looks.fetch_add(1, Ordering::Relaxed)
    }

    fn at(source: u64, [stands_at, behind]: [u64; 2]) -> u64 {
        source.saturating_sub(behind).max(stands_at)
    }

    fn now(&self) -> u64 {
        self.words.look(|words| Self::at(self.source(), words))
    }

    fn stand_still(&self, looks: u64) {
        self.words.change(|words| [Self::at(self.source(), words), words[1] + looks]);
    }
}

#[test]
fn a_look_finds_the_words_of_one_moment() {
    model(|| {
        let words = Arc::new(Sequenced::<2>::default());
        let theirs = words.clone();
        let changing = thread::spawn(move || {
            (0..2).for_each(|_| theirs.change(|[first, second]| [first + 1, second + 1]));
        });
        words.change(|[first, second]| [first + 1, second + 1]);
        let [first, second] = words.look(|words| words);
        assert_eq!(first, second);
        assert!(first >= 1, "the own change");
        changing.join().unwrap();
        assert_eq!(words.look(|words| words), [3, 3]);
    });
}

/// No thread sees a time before one that was seen before, however the clock is set back meanwhile.
#[test]
fn a_clock_that_stands_still_never_goes_back() {
    model(|| {
        let clock = Arc::new(LateClock::default());
        let seen = Arc::new(AtomicU64::new(0));
        let (their_clock, their_seen) = (clock.clone(), seen.clone());
        let looking = thread::spawn(move || {
            let now = their_clock.now();
            their_seen.store(now, Ordering::Release);
            assert!(their_clock.now() >= now);
        });
        clock.stand_still(2);
        let before = seen.load(Ordering::Acquire);
        assert!(clock.now() >= before);
        looking.join().unwrap();
    });
}
