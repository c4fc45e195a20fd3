//! How much of the time this program's threads wanted a core and had none: other programs ran, or the
//! machine that pretends to be this one did something else.

use std::fs;
use std::time::Instant;

/// Ticks of `/proc/stat` a second: `USER_HZ`, the same on every Linux of today.
const TICKS: f64 = 100.0;

/// Waiting so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waits {
    at: Instant,
    /// Of all threads, seconds.
    queued: f64,
    /// Of all cores, seconds.
    stolen: f64,
}

impl Waits {
    /// What was waited for until now.
    pub(super) fn now() -> Waits {
        Waits { at: Instant::now(), queued: queued(), stolen: stolen() }
    }

    /// Waiting since the last time, as a share of the time, of one thread or core; 0 where the system does not
    /// say. From here on it is counted anew.
    pub(super) fn share(&mut self) -> f64 {
        let now = Waits::now();
        let waited = (now.queued - self.queued) + (now.stolen - self.stolen);
        let share = waited.max(0.0) / now.at.duration_since(self.at).as_secs_f64().max(1e-9);
        *self = now;
        share
    }
}

/// Seconds that all threads waited in queues: the second number of their `schedstat`, nanoseconds.
fn queued() -> f64 {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let of = |text: String| text.split_whitespace().nth(1)?.parse::<f64>().ok();
    threads.filter_map(|thread| of(fs::read_to_string(thread.path().join("schedstat")).ok()?)).sum::<f64>()
        / 1e9
}

/// Seconds of all cores that went to other machines on the same one.
fn stolen() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    stolen_of(&stat).unwrap_or(0.0)
}

/// The eighth number of the first line.
fn stolen_of(stat: &str) -> Option<f64> {
    let ticks: f64 = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().nth(7)?.parse().ok()?;
    Some(ticks / TICKS)
}

#[cfg(test)]
mod tests {
    use super::{Waits, stolen_of};

    #[test]
    fn stolen_time_is_the_eighth_number() {
        assert_eq!(stolen_of("cpu  1 2 3 4 5 6 7 850 9 10\ncpu0 1 1 1 1 1 1 1 1\n"), Some(8.5));
        assert_eq!(stolen_of("cpu0 1\n"), None);
    }

    #[test]
    fn more_threads_than_cores_wait() {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut waits = Waits::now();
        std::thread::scope(|scope| {
            for _ in 0..4 * cores {
                scope.spawn(|| {
                    let began = std::time::Instant::now();
                    while began.elapsed().as_millis() < 200 {
                        std::hint::spin_loop();
                    }
                });
            }
            std::thread::sleep(std::time::Duration::from_millis(150));
            // Threads that have ended are not counted any more, so it is asked before.
            let share = waits.share();
            let told = std::fs::metadata("/proc/self/schedstat").is_ok();
            assert!(share > 0.5 || !told, "{share}");
        });
    }
}
