//! How fast this machine's memory can be read by its cores.

use std::sync::Barrier;
use std::time::{Duration, Instant};

/// Bytes read a pass: larger than the caches of most processors.
const MOST: usize = 256 << 20;
/// Passes; the first warms up.
const PASSES: usize = 8;

/// What reading gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Roof {
    /// Bytes a second of the fastest pass.
    pub(super) best: f64,
    /// Bytes a second of the median pass.
    pub(super) median: f64,
    /// Bytes read a pass.
    pub(super) bytes: usize,
}

impl From<cuda::roof::Roof> for Roof {
    fn from(roof: cuda::roof::Roof) -> Roof {
        Roof { best: roof.bytes_per_second, median: roof.median, bytes: roof.bytes }
    }
}

/// Reads memory with `threads` threads, each its own part, at the same time.
///
/// Plain loads that add up: what the compiler makes of them, with the processor's own prefetching. Kernels
/// that prefetch themselves may read a few per cent faster.
pub(super) fn of_cores(threads: usize, free: Option<u64>) -> Roof {
    let bytes = free.map_or(MOST, |free| MOST.min(free as usize / 4)).max(1 << 20);
    // Different everywhere and written once, so that every page is there.
    let words: Vec<u64> = (0..bytes as u64 / 8).collect();
    let part = words.len().div_ceil(threads);
    let meeting = Barrier::new(threads);
    let mut passes = vec![Duration::ZERO; PASSES];
    std::thread::scope(|scope| {
        let read = |part: &[u64]| {
            let mut times = [Duration::ZERO; PASSES];
            for time in &mut times {
                meeting.wait();
                let start = Instant::now();
                std::hint::black_box(sum(std::hint::black_box(part)));
                *time = start.elapsed();
            }
            times
        };
        let parts: Vec<&[u64]> = (0..threads).map(|i| words.get(i * part..).unwrap_or(&[])).collect();
        let parts = parts.into_iter().map(|rest| &rest[..part.min(rest.len())]);
        let running: Vec<_> = parts.map(|part| scope.spawn(move || read(part))).collect();
        for thread in running {
            let times = thread.join().expect("reading does not panic");
            for (slowest, time) in passes.iter_mut().zip(times) {
                *slowest = time.max(*slowest);
            }
        }
    });
    passes.remove(0);
    passes.sort();
    let rate = |time: Duration| bytes as f64 / time.as_secs_f64().max(1e-9);
    Roof { best: rate(passes[0]), median: rate(passes[passes.len() / 2]), bytes }
}

/// The words' sum, by eight sums that do not wait for each other.
fn sum(words: &[u64]) -> u64 {
    let mut sums = [0_u64; 8];
    let chunks = words.chunks_exact(8);
    let rest = chunks.remainder().iter().fold(0_u64, |sum, &word| sum.wrapping_add(word));
    for chunk in chunks {
        for (sum, &word) in sums.iter_mut().zip(chunk) {
            *sum = sum.wrapping_add(word);
        }
    }
    sums.iter().fold(rest, |sum, &word| sum.wrapping_add(word))
}

#[cfg(test)]
mod tests {
    use super::{of_cores, sum};

    #[test]
    fn sums_are_sums() {
        let words: Vec<u64> = (0..1003).collect();
        assert_eq!(sum(&words), 1002 * 1003 / 2);
    }

    #[test]
    fn reading_has_a_speed() {
        for threads in [1, 3] {
            let roof = of_cores(threads, Some(8 << 20));
            assert_eq!(roof.bytes, 2 << 20);
            assert!(roof.best >= roof.median && roof.median > 1e6, "{roof:?}");
        }
    }
}
