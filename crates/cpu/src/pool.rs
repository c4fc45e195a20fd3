//! Threads that walk a step together.
//!
//! A step is one job: every thread walks all operations, taking shares of each by number and meeting
//! at a [`Meeting`] in between. That costs one wake-up a step and about a microsecond a meeting, where
//! a task queue pays its price two hundred times a token. Waiting spins briefly, because the next
//! operation is microseconds away, then yields and finally sleeps, because the core may be shared.

use model::Error;
use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::thread::{JoinHandle, Thread};

/// Spins before a waiting thread yields its core.
const SPINS: u32 = 4_000;
/// Yields before a waiting worker sleeps until it is woken.
const YIELDS: u32 = 200;

/// Where the threads of a step wait for each other.
pub(crate) struct Meeting {
    threads: usize,
    arrived: AtomicUsize,
    round: AtomicU32,
}

impl Meeting {
    /// Returns when all threads have called it once more.
    pub(crate) fn wait(&self) {
        if self.threads == 1 {
            return;
        }
        let round = self.round.load(Ordering::Acquire);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.threads {
            self.arrived.store(0, Ordering::Relaxed);
            self.round.store(round.wrapping_add(1), Ordering::Release);
            return;
        }
        let mut spins = 0;
        while self.round.load(Ordering::Acquire) == round {
            spins += 1;
            if spins < SPINS { spin_loop() } else { std::thread::yield_now() }
        }
    }
}

/// What a job is: called once by every thread with its number.
type Job = *const (dyn Fn(usize) + Sync);

struct Shared {
    meeting: Meeting,
    /// Rises with every job.
    epoch: AtomicU32,
    running: AtomicUsize,
    stop: AtomicBool,
    job: std::cell::UnsafeCell<Option<Job>>,
}

// SAFETY: `job` is written only while no worker runs (`running` is 0) and published by `epoch`; the
// pointer is valid until `run` returns, which waits for all workers.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

/// A fixed set of threads; the caller's own is number 0.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<(Thread, Option<JoinHandle<()>>)>,
}

impl Pool {
    /// Starts `threads − 1` workers.
    pub(crate) fn new(threads: usize) -> Result<Pool, Error> {
        let threads = threads.max(1);
        let meeting = Meeting { threads, arrived: AtomicUsize::new(0), round: AtomicU32::new(0) };
        let shared = Arc::new(Shared {
            meeting,
            epoch: AtomicU32::new(0),
            running: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            job: std::cell::UnsafeCell::new(None),
        });
        let mut pool = Pool { shared, workers: vec![] };
        for number in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let spawned = std::thread::Builder::new()
                .name(format!("cpu-{number}"))
                .spawn(move || work(&shared, number));
            match spawned {
                Ok(handle) => pool.workers.push((handle.thread().clone(), Some(handle))),
                Err(error) => {
                    return Err(Error::Machine {
                        what: format!("thread {number} of {threads}"),
                        cause: error.to_string(),
                    });
                }
            }
        }
        Ok(pool)
    }

    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// The meeting place of this pool's threads.
    pub(crate) fn meeting(&self) -> &Meeting {
        &self.shared.meeting
    }

    /// Runs `job(number)` on every thread; returns when all are done.
    pub(crate) fn run(&mut self, job: &(dyn Fn(usize) + Sync)) {
        if self.workers.is_empty() {
            job(0);
            return;
        }
        #[allow(clippy::transmute_ptr_to_ptr, reason = "only the lifetime is widened, which a cast may not")]
        // SAFETY: no worker looks at the job after `running` is 0, and that is waited for below.
        let job_pointer: Job = unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), Job>(job) };
        // SAFETY: no worker runs between jobs, so nobody reads the cell now.
        unsafe { *self.shared.job.get() = Some(job_pointer) };
        self.shared.running.store(self.workers.len(), Ordering::Relaxed);
        self.shared.epoch.fetch_add(1, Ordering::Release);
        for (thread, _) in &self.workers {
            thread.unpark();
        }
        job(0);
        let mut spins = 0;
        while self.shared.running.load(Ordering::Acquire) != 0 {
            spins += 1;
            if spins < SPINS { spin_loop() } else { std::thread::yield_now() }
        }
    }
}

fn work(shared: &Shared, number: usize) {
    let mut seen = 0;
    loop {
        let mut waits = 0;
        while shared.epoch.load(Ordering::Acquire) == seen {
            waits += 1;
            if waits < SPINS {
                spin_loop();
            } else if waits < SPINS + YIELDS {
                std::thread::yield_now();
            } else {
                std::thread::park();
            }
        }
        seen = shared.epoch.load(Ordering::Acquire);
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        // SAFETY: published by the epoch; `run` waits for this thread before the job ends.
        let job = unsafe { (*shared.job.get()).expect("an epoch has a job") };
        // SAFETY: as above.
        unsafe { (*job)(number) };
        shared.running.fetch_sub(1, Ordering::Release);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.epoch.fetch_add(1, Ordering::Release);
        for (thread, handle) in &mut self.workers {
            thread.unpark();
            if let Some(handle) = handle.take() {
                // A worker that panicked has nothing left to say here.
                let _ = handle.join();
            }
        }
    }
}

/// Hands out the numbers below `count`, each once, to whoever asks.
pub(crate) struct Shares<'a> {
    pub(crate) next: &'a AtomicUsize,
    pub(crate) count: usize,
    pub(crate) run: Run,
}

/// How many numbers are handed out at once.
#[derive(Clone, Copy)]
pub(crate) enum Run {
    /// Always as many.
    Of(usize),
    /// A part of what is left, for this many threads: long stretches of memory first, then ever
    /// shorter ones so that all threads end together (Polychronopoulos and Kuck 1987).
    Guided(usize),
}

impl Iterator for Shares<'_> {
    type Item = std::ops::Range<usize>;

    fn next(&mut self) -> Option<Self::Item> {
        let run = |from: usize| match self.run {
            Run::Of(run) => run,
            Run::Guided(threads) => ((self.count - from) / (2 * threads)).max(1),
        };
        let mut from = self.next.load(Ordering::Relaxed);
        while from < self.count {
            let to = self.count.min(from + run(from));
            match self.next.compare_exchange_weak(from, to, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(from..to),
                Err(now) => from = now,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{Pool, Run, Shares};
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn every_share_is_taken_once_and_meetings_hold() {
        for threads in [1, 2, 5] {
            let mut pool = Pool::new(threads).expect("threads");
            for round in 0..200 {
                let run = if round % 2 == 0 { Run::Guided(threads) } else { Run::Of(1 + round % 5) };
                let counters: Vec<AtomicUsize> = (0..3).map(|_| AtomicUsize::new(0)).collect();
                let done: Vec<AtomicUsize> = (0..3 * 37).map(|_| AtomicUsize::new(0)).collect();
                let shared = std::sync::Arc::clone(&pool.shared);
                pool.run(&|_| {
                    for phase in 0..3 {
                        for range in (Shares { next: &counters[phase], count: 37, run }) {
                            for i in range {
                                done[phase * 37 + i].fetch_add(1, Ordering::Relaxed);
                            }
                        }
                        shared.meeting.wait();
                        let finished = |i: usize| done[phase * 37 + i].load(Ordering::Relaxed) == 1;
                        assert!((0..37).all(finished), "a meeting ended before phase {phase} did");
                    }
                });
            }
        }
    }
}
