//! The thread that translates while the guest goes on; or the same work done at once.

use crate::compiler::{CompileError, Compiler, Translation};
use crate::region::Region;
use rx86_cpu::features::CpuModel;
use rx86_cpu::mode::ModeKey;
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A region to translate.
pub(crate) struct Job {
    pub(crate) number: u64,
    /// How often its entry has been executed: the greatest comes first.
    pub(crate) heat: u32,
    pub(crate) mode: ModeKey,
    pub(crate) region: Arc<Region>,
}

/// A job that is done.
pub(crate) struct Done {
    pub(crate) number: u64,
    pub(crate) outcome: Result<Translation, CompileError>,
    pub(crate) elapsed: Duration,
}

/// Jobs that wait for the thread.
#[derive(Default)]
struct Waiting {
    jobs: Mutex<Jobs>,
    changed: Condvar,
}

#[derive(Default)]
struct Jobs {
    list: Vec<Job>,
    /// Nobody wants them any more.
    over: bool,
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the most wanted job; None when it is all over.
    fn take(&self) -> Option<Job> {
        let mut jobs = self.lock();
        loop {
            if jobs.over {
                return None;
            }
            let hottest = jobs.list.iter().enumerate().max_by_key(|(_, job)| job.heat).map(|(at, _)| at);
            match hottest {
                Some(at) => return Some(jobs.list.swap_remove(at)),
                None => jobs = self.changed.wait(jobs).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// Who translates.
pub(crate) enum Worker {
    /// A thread of its own.
    Thread(Thread),
    /// The caller, at once.
    Here { compiler: Box<Compiler>, model: CpuModel, done: VecDeque<Done> },
}

/// The translating thread, as the engine sees it. It ends when this is dropped.
pub(crate) struct Thread {
    waiting: Arc<Waiting>,
    done: Receiver<Done>,
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.waiting.lock().over = true;
        self.waiting.changed.notify_one();
    }
}

fn translate(compiler: &mut Compiler, model: &CpuModel, job: &Job) -> Done {
    let start = Instant::now();
    let outcome = compiler.translate(&job.region, job.mode, model);
    Done { number: job.number, outcome, elapsed: start.elapsed() }
}

fn work(mut compiler: Compiler, model: &CpuModel, waiting: &Waiting, finished: &Sender<Done>) {
    while let Some(job) = waiting.take() {
        if finished.send(translate(&mut compiler, model, &job)).is_err() {
            return;
        }
    }
}

impl Worker {
    pub(crate) fn new(compiler: Compiler, model: CpuModel, background: bool) -> Result<Self, CompileError> {
        if !background {
            return Ok(Self::Here { compiler: Box::new(compiler), model, done: VecDeque::new() });
        }
        let waiting = Arc::new(Waiting::default());
        let (finished, done) = channel();
        let jobs = waiting.clone();
        std::thread::Builder::new()
            .name("translator".to_owned())
            .spawn(move || work(compiler, &model, &jobs, &finished))?;
        Ok(Self::Thread(Thread { waiting, done }))
    }

    /// Begins a job.
    pub(crate) fn begin(&mut self, job: Job) {
        match self {
            Self::Thread(thread) => {
                thread.waiting.lock().list.push(job);
                thread.waiting.changed.notify_one();
            }
            Self::Here { compiler, model, done } => done.push_back(translate(compiler, model, &job)),
        }
    }

    /// Tells how hot a job that may still wait has become.
    pub(crate) fn heat(&mut self, number: u64, heat: u32) {
        if let Self::Thread(thread) = self {
            let mut jobs = thread.waiting.lock();
            if let Some(job) = jobs.list.iter_mut().find(|job| job.number == number) {
                job.heat = heat;
            }
        }
    }

    /// Gives up a job, if it still waits.
    pub(crate) fn cancel(&mut self, number: u64) {
        if let Self::Thread(thread) = self {
            thread.waiting.lock().list.retain(|job| job.number != number);
        }
    }

    /// Takes a job that is done.
    pub(crate) fn take(&mut self) -> Option<Done> {
        match self {
            Self::Thread(thread) => thread.done.try_recv().ok(),
            Self::Here { done, .. } => done.pop_front(),
        }
    }
}
