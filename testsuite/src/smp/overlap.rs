//! Whether the host runs two threads at the same time at present: the guests' test of store buffering, done by two threads of the
//! host.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicU32, compiler_fence};

const ROUNDS: u32 = 1000;
/// Pairs of variables between two barriers.
const CELLS: usize = 32;
/// A thread that waits gives its host CPU away after looking so often.
const PATIENCE: u32 = 4000;

/// A variable in a cache line of its own, also where lines are fetched in pairs.
#[derive(Default)]
#[repr(align(256))]
struct Variable(AtomicU32);

/// The variables of the two threads, one each in every cell, and how many barriers each has reached.
struct Shared {
    cells: Vec<[Variable; 2]>,
    arrived: [Variable; 2],
}

impl Shared {
    /// Waits until both threads have reached barrier `number`.
    fn barrier(&self, thread: usize, number: u32) {
        self.arrived[thread].0.store(number, Release);
        let mut looks = 0;
        while self.arrived[1 - thread].0.load(Acquire) < number {
            looks += 1;
            if looks % PATIENCE == 0 {
                std::thread::yield_now();
            }
            std::hint::spin_loop();
        }
    }

    /// What the thread loads in each cell of a round. It clears what it is going to load, as the guests do.
    fn round(&self, thread: usize, round: u32) -> Vec<u32> {
        let mut loaded = vec![0; CELLS];
        for cell in &self.cells {
            cell[1 - thread].0.store(0, Relaxed);
        }
        self.barrier(thread, 2 * round + 1);
        // Who comes last to a barrier leaves it first: the threads begin at every distance in turn.
        for turn in 0..if thread == 0 { round >> 5 } else { round } & 31 {
            std::hint::black_box(turn);
        }
        for (cell, loaded) in self.cells.iter().zip(&mut loaded) {
            cell[thread].0.store(1, Relaxed);
            // The processor may let the load pass the store, the compiler may not.
            compiler_fence(SeqCst);
            *loaded = cell[1 - thread].0.load(Relaxed);
        }
        self.barrier(thread, 2 * round + 2);
        loaded
    }
}

/// In how many of a thousand rounds two threads stored to a pair of variables before either saw the other's store, which needs
/// both to run at the same time.
pub fn overlapping_rounds() -> usize {
    let cells = std::iter::repeat_with(Default::default).take(CELLS).collect();
    let shared = Shared { cells, arrived: Default::default() };
    let rounds = |thread| -> Vec<Vec<u32>> { (0..ROUNDS).map(|round| shared.round(thread, round)).collect() };
    let (first, second) = std::thread::scope(|scope| {
        let other = scope.spawn(|| rounds(1));
        (rounds(0), other.join().expect("it only stores and loads"))
    });
    let is_overlapping = |(first, second): &(&Vec<u32>, &Vec<u32>)| {
        first.iter().zip(*second).any(|(&first, &second)| first | second == 0)
    };
    first.iter().zip(&second).filter(is_overlapping).count()
}
