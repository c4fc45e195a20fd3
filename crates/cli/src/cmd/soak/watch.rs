//! The machine and this process looked at all the while, by a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use cuda::nvml::Nvml;
use platform::{Root, Sensors, clocks};

/// What was read at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sample {
    /// Seconds since the beginning.
    pub(super) at: f64,
    /// Number of the phase that ran.
    pub(super) phase: u8,
    /// Tokens chosen since the beginning.
    pub(super) tokens: u64,
    /// Memory of this process, bytes.
    pub(super) resident: u64,
    /// Memory that could be taken, bytes.
    pub(super) available: Option<u64>,
    /// Of the hottest zone of the chip.
    pub(super) celsius: Option<f32>,
    /// What the board draws, or the GPU's board.
    pub(super) watts: Option<f32>,
    /// The GPU's clock.
    pub(super) gpu_hz: Option<u64>,
    /// The fastest core's clock.
    pub(super) core_hz: Option<u64>,
}

/// What the one who works tells the one who watches.
#[derive(Default)]
struct Shared {
    phase: AtomicU8,
    tokens: AtomicU64,
    ended: AtomicBool,
}

/// A watch under way.
pub(super) struct Watch {
    shared: Arc<Shared>,
    thread: JoinHandle<Vec<Sample>>,
}

impl Watch {
    /// Watches from `start` on, for `length` or longer.
    pub(super) fn begin(root: Root, power: Option<Nvml>, start: Instant, length: Duration) -> Watch {
        let every = interval(length);
        // Held and touched beforehand: what watches memory must not be what grows.
        let most = (length.as_secs_f64() / every.as_secs_f64() * 1.5) as usize + 256;
        let mut samples = vec![Sample { at: -1.0, ..Sample::default() }; most];
        samples.clear();
        let shared = Arc::new(Shared::default());
        let told = shared.clone();
        let thread = thread::spawn(move || {
            let mut sensors = Sensors::open(&root);
            let mut next = Instant::now();
            loop {
                let ended = told.ended.load(Ordering::Acquire);
                samples.push(take(&root, &mut sensors, power.as_ref(), &told, start));
                if ended {
                    return samples;
                }
                next = (next + every).max(Instant::now());
                while !told.ended.load(Ordering::Acquire) {
                    let left = next.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    thread::park_timeout(left);
                }
            }
        });
        Watch { shared, thread }
    }

    /// A phase begins.
    pub(super) fn phase(&self, number: usize) {
        self.shared.phase.store(number as u8, Ordering::Relaxed);
    }

    /// A token was chosen.
    pub(super) fn token(&self) {
        self.shared.tokens.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes a last sample and gives all of them.
    pub(super) fn end(self) -> Vec<Sample> {
        self.shared.ended.store(true, Ordering::Release);
        self.thread.thread().unpark();
        self.thread.join().expect("looking at sensors does not panic")
    }
}

/// Between two samples: some 1,200 of a run of ten minutes to a hundred, never less than a tenth of a second,
/// because a sensor's file may take milliseconds.
fn interval(length: Duration) -> Duration {
    (length / 1200).clamp(Duration::from_millis(100), Duration::from_secs(5))
}

fn take(root: &Root, sensors: &mut Sensors, power: Option<&Nvml>, told: &Shared, start: Instant) -> Sample {
    let read = sensors.sample();
    let cores = clocks::cores(root);
    Sample {
        at: start.elapsed().as_secs_f64(),
        phase: told.phase.load(Ordering::Relaxed),
        tokens: told.tokens.load(Ordering::Relaxed),
        resident: resident().unwrap_or(0),
        available: sensors.available(),
        celsius: read.zones.into_iter().flatten().max_by(f32::total_cmp),
        watts: read.watts.or_else(|| power.and_then(Nvml::power_watts).map(|watts| watts as f32)),
        gpu_hz: read.gpu_hz,
        core_hz: cores.into_iter().filter(|core| core.online).filter_map(|core| core.hz).max(),
    }
}

/// Memory of this process in bytes.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    kib(&status, "VmRSS:")
}

/// The number of a line such as `VmRSS:     5732 kB`, in bytes.
pub(super) fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::{Watch, interval};
    use platform::Root;
    use std::time::{Duration, Instant};

    #[test]
    fn what_is_told_is_in_the_samples() {
        let start = Instant::now();
        let watch = Watch::begin(Root::real(), None, start, Duration::from_secs(1));
        std::thread::sleep(Duration::from_millis(250));
        watch.phase(2);
        watch.token();
        watch.token();
        let samples = watch.end();
        assert!(samples.len() >= 3, "{}", samples.len());
        assert!(samples.windows(2).all(|two| two[0].at < two[1].at));
        let (first, last) = (samples[0], samples[samples.len() - 1]);
        assert_eq!((first.phase, first.tokens, last.phase, last.tokens), (0, 0, 2, 2));
        assert!(last.resident > 1 << 20 && last.available.is_some_and(|bytes| bytes > 1 << 20));
    }

    #[test]
    fn the_interval_follows_the_length() {
        let seconds = |length| interval(Duration::from_secs(length)).as_secs_f64();
        assert!((seconds(30) - 0.1).abs() < 1e-9 && (seconds(1800) - 1.5).abs() < 1e-9);
        assert!((seconds(1 << 20) - 5.0).abs() < 1e-9);
    }
}
