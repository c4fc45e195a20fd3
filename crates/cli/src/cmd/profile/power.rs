//! What a run takes from the socket, where a sensor tells.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cuda::nvml::Nvml;

use crate::target::Target;

/// How long is measured at least: sensors give means of up to a second.
pub(super) const LEAST: Duration = Duration::from_secs(2);
/// Between two looks at a sensor of power.
const EVERY: Duration = Duration::from_millis(25);

/// A sensor. A board's own (INA3221) becomes another variant.
pub(super) enum Sensor {
    /// Of an NVIDIA GPU: the GPU's board, not the machine around it.
    Nvml(Nvml),
}

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Energy {
    pub(super) joules: f64,
    pub(super) seconds: f64,
    pub(super) tokens: usize,
}

impl Energy {
    pub(super) fn tokens_per_joule(self) -> f64 {
        self.tokens as f64 / self.joules.max(1e-9)
    }

    pub(super) fn watts(self) -> f64 {
        self.joules / self.seconds.max(1e-9)
    }
}

impl Sensor {
    /// The sensor of what computes, if it has one.
    pub(super) fn of(target: &Target, emulator: Option<&Path>) -> Option<Sensor> {
        let Target::Gpu { cuda, .. } = target else { return None };
        let index = cuda.options().device;
        let nvml = match emulator.filter(|_| cuda.device().emulated()) {
            Some(library) => Nvml::open_at(library, library, index),
            None if cuda.device().emulated() => None,
            None => Nvml::open(index),
        };
        nvml.map(Sensor::Nvml)
    }

    /// What it measures.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Sensor::Nvml(_) => "NVML, the GPU's board",
        }
    }

    fn watts(&self) -> Option<f64> {
        match self {
            Sensor::Nvml(nvml) => nvml.power_watts(),
        }
    }

    fn joules(&self) -> Option<f64> {
        match self {
            Sensor::Nvml(nvml) => nvml.energy_joules(),
        }
    }

    /// Runs `work`, which says how many tokens it made, again and again for [`LEAST`]; `None` if the sensor
    /// fails meanwhile. Energy is the counter's where there is one, else power looked at every 25 ms.
    pub(super) fn measure(
        &self,
        mut work: impl FnMut() -> anyhow::Result<usize>,
    ) -> anyhow::Result<Option<Energy>> {
        let done = AtomicBool::new(false);
        let counted = self.joules();
        std::thread::scope(|scope| {
            let sampler = counted.is_none().then(|| {
                scope.spawn(|| {
                    let mut samples = Vec::new();
                    while !done.load(Ordering::Relaxed) {
                        samples.extend(self.watts());
                        std::thread::sleep(EVERY);
                    }
                    samples
                })
            });
            let (start, mut tokens, mut result) = (Instant::now(), 0, Ok(()));
            while start.elapsed() < LEAST && result.is_ok() {
                result = work().map(|more| tokens += more);
            }
            let seconds = start.elapsed().as_secs_f64();
            let after = self.joules();
            done.store(true, Ordering::Relaxed);
            let samples = sampler.map(|sampler| sampler.join().expect("looking at a sensor does not panic"));
            result?;
            let joules = match (counted, after, samples) {
                (Some(before), Some(after), _) => Some(after - before),
                (_, _, Some(samples)) if !samples.is_empty() => {
                    Some(samples.iter().sum::<f64>() / samples.len() as f64 * seconds)
                }
                _ => None,
            };
            Ok(joules.filter(|&joules| joules > 0.0).map(|joules| Energy { joules, seconds, tokens }))
        })
    }
}
