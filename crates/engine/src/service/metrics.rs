//! What a service counts. Reading never waits for writing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that goes up, or up and down.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    pub(super) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }
}

/// Upper bounds of a histogram's buckets, seconds; one bucket more takes the rest. From a token of a small model
/// on a large GPU to a prompt of many thousand tokens on a small board.
pub const BOUNDS: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// Durations by size.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

impl Histogram {
    pub(super) fn record(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let bucket = BOUNDS.iter().position(|&bound| seconds <= bound).unwrap_or(BOUNDS.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }

    /// For each bound, how many were at most that long; then how many there are.
    pub fn cumulative(&self) -> [u64; BOUNDS.len() + 1] {
        let mut sum = 0;
        std::array::from_fn(|i| {
            sum += self.buckets[i].load(Ordering::Relaxed);
            sum
        })
    }

    /// Seconds in all.
    pub fn sum(&self) -> f64 {
        self.nanos.load(Ordering::Relaxed) as f64 * 1e-9
    }

    /// Seconds on average; 0 without any.
    pub fn mean(&self) -> f64 {
        let count = self.cumulative()[BOUNDS.len()];
        if count == 0 { 0.0 } else { self.sum() / count as f64 }
    }
}

/// Counters since the start, except where it says now.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Requests queued.
    pub requests: Count,
    /// Requests refused because the queue was full.
    pub refused: Count,
    /// Answers that ended by themselves.
    pub completed: Count,
    /// Answers nobody wanted any more.
    pub cancelled: Count,
    /// Answers whose time was up.
    pub timed_out: Count,
    /// Answers that could not be run, or whose service ended.
    pub failed: Count,
    /// Tokens of prompts that were computed.
    pub prompt_tokens: Count,
    /// Tokens of prompts that were found in the cache.
    pub cached_tokens: Count,
    /// Tokens chosen.
    pub generated_tokens: Count,
    /// Idle sequences given up to make room.
    pub evicted: Count,
    /// Steps of the engine.
    pub steps: Count,
    /// Nanoseconds of steps in which tokens were chosen.
    pub decode_nanos: Count,
    /// Requests waiting now.
    pub queued: Count,
    /// Answers being generated now.
    pub running: Count,
    /// Sequences idle now.
    pub idle: Count,
    /// Tokens whose keys and values are cached now; shared ones count for each sequence.
    pub cache_tokens: Count,
    /// From submission to a place.
    pub queue_seconds: Histogram,
    /// From submission to the first token.
    pub first_token_seconds: Histogram,
    /// From a token to the next of the same answer.
    pub between_tokens_seconds: Histogram,
    /// From submission to the end.
    pub answer_seconds: Histogram,
}

impl Metrics {
    /// Tokens a second, all answers together, while any were chosen; 0 before the first.
    pub fn tokens_per_second(&self) -> f64 {
        let seconds = self.decode_nanos.get() as f64 * 1e-9;
        if seconds == 0.0 { 0.0 } else { self.generated_tokens.get() as f64 / seconds }
    }
}

#[cfg(test)]
mod tests {
    use super::{BOUNDS, Histogram};
    use std::time::Duration;

    #[test]
    fn buckets_add_up() {
        let histogram = Histogram::default();
        for millis in [1, 2, 3, 700, 1_000_000] {
            histogram.record(Duration::from_millis(millis));
        }
        let counts = histogram.cumulative();
        let at = |bound: f64| counts[BOUNDS.iter().position(|&b| b >= bound).expect("a bound")];
        assert_eq!((at(0.001), at(0.0025), at(0.005), at(0.5), at(1.0), at(300.0)), (1, 2, 3, 3, 4, 4));
        assert_eq!(counts[BOUNDS.len()], 5);
        assert!((histogram.mean() - 1000.706 / 5.0).abs() < 1e-6);
    }
}
