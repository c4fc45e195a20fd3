//! The power governor: `--power-budget W` kept by pacing.
//!
//! Power follows the pace at once, so an integral controller is enough: each second the pace grows or
//! shrinks by half of what is left or over, as a share of the budget. As a share of the pace, too: then the
//! loop is as quick for a small budget as for a large one, and stable for readings up to 2 seconds apart. What is read is averaged over a second, since
//! monitors answer for an instant and a paced run is busy and idle by turns. Far over the budget the pace
//! is cut to what the reading asks for at once.

use super::{Limits, Reason};

/// Least pace: a budget below what the board draws idle cannot be kept, and a run that stands still looks
/// broken.
pub const FLOOR: f32 = 0.05;
/// Share of the budget aimed for, so that small waves stay below it.
const AIM: f32 = 0.97;
/// Share of the pace per share of the budget and second.
const INTEGRAL: f32 = 0.5;
/// Seconds of averaging.
const OVER: f32 = 1.0;
/// Over this share of the budget the pace is cut at once.
const FAR: f32 = 1.15;
/// Longest step of time taken at its word, seconds.
const LONGEST: f32 = 2.0;

/// Keeps a budget.
#[derive(Clone, Debug)]
pub struct Power {
    budget: f32,
    pace: f32,
    watts: Option<(f32, u64)>,
    /// When the pace was last cut at once: the average needs its time to see that.
    cut: Option<u64>,
}

impl Power {
    /// A budget in watts.
    pub fn new(budget: f32) -> Power {
        Power { budget: budget.max(0.1), pace: 1.0, watts: None, cut: None }
    }

    /// The pace that keeps it, so far.
    pub fn pace(&self) -> f32 {
        self.pace
    }

    /// The limits after the board was found to draw `watts`. Without a reading the pace stays as it is;
    /// while not `busy` too. `other` is the pace that others allow: above it the pace does not rise, since
    /// the power that is saved there is not this one's doing.
    pub fn update(&mut self, at_ms: u64, watts: Option<f32>, busy: bool, other: f32) -> Limits {
        let Some(read) = watts.filter(|watts| watts.is_finite() && *watts >= 0.0) else {
            return self.limits();
        };
        let (average, then) = self.watts.unwrap_or((read, at_ms));
        if at_ms < then || at_ms == then && self.watts.is_some() {
            return self.limits();
        }
        let seconds = ((at_ms - then) as f32 / 1000.0).min(LONGEST);
        let average = average + (read - average) * (seconds / OVER).min(1.0);
        self.watts = Some((average, at_ms));
        if !busy {
            return self.limits();
        }
        let settled = self.cut.is_none_or(|cut| at_ms.saturating_sub(cut) >= (3.0 * OVER * 1000.0) as u64);
        if average > FAR * self.budget && settled {
            self.pace *= self.budget / average;
            self.cut = Some(at_ms);
        } else {
            let change = INTEGRAL * self.pace * (AIM - average / self.budget) * seconds;
            if change < 0.0 || self.pace <= other {
                self.pace += change;
            }
        }
        self.pace = self.pace.clamp(FLOOR, 1.0);
        self.limits()
    }

    fn limits(&self) -> Limits {
        match self.watts {
            Some((watts, _)) if self.pace < 1.0 => {
                Limits { pace: self.pace, reason: Reason::Power { watts, budget: self.budget } }
            }
            _ => Limits::FREE,
        }
    }
}

/// Energy, summed from power readings by the trapezium rule: with a count of tokens, tokens a joule.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Energy {
    joules: f64,
    last: Option<(f32, u64)>,
}

impl Energy {
    /// Takes a reading. A gap in the readings is bridged by its two ends.
    pub fn add(&mut self, at_ms: u64, watts: Option<f32>) {
        let Some(watts) = watts else { return };
        if let Some((before, then)) = self.last {
            let seconds = at_ms.saturating_sub(then) as f64 / 1000.0;
            self.joules += f64::from(before + watts) / 2.0 * seconds;
        }
        self.last = Some((watts, at_ms));
    }

    /// All of it, J; `None` before two readings.
    pub fn joules(&self) -> Option<f64> {
        (self.joules > 0.0).then_some(self.joules)
    }
}

#[cfg(test)]
mod tests {
    use super::{Energy, FLOOR, Power};
    use crate::governor::{Limits, Reason};

    /// A board of 6 W idle and 19 W more at full speed.
    fn draws(pace: f32) -> f32 {
        6.0 + 19.0 * pace
    }

    fn run(budget: f32, step_ms: u64, seconds: u64) -> (Vec<f32>, Limits) {
        let (mut power, mut limits, mut watts) = (Power::new(budget), Limits::FREE, Vec::new());
        for at in (0..seconds * 1000).step_by(step_ms as usize) {
            watts.push(draws(limits.pace));
            limits = power.update(at, Some(draws(limits.pace)), true, 1.0);
        }
        (watts, limits)
    }

    #[test]
    fn budgets_are_kept_and_used() {
        for budget in [8.0, 10.0, 15.0, 20.0, 24.0] {
            for step in [100, 250, 500, 1000, 2000] {
                let (watts, limits) = run(budget, step, 120);
                let settled = &watts[watts.len() / 4..];
                let mean = settled.iter().sum::<f32>() / settled.len() as f32;
                let most = settled.iter().copied().fold(0.0, f32::max);
                assert!(most <= budget * 1.02, "{budget} W each {step} ms: {most}");
                assert!(mean >= budget * 0.95, "{budget} W each {step} ms: {mean}");
                assert!(matches!(limits.reason, Reason::Power { .. }));
                // The first ten seconds, full speed included.
                let first = &watts[..(10_000 / step) as usize];
                let mean = first.iter().sum::<f32>() / first.len() as f32;
                assert!(mean < budget * 1.25 + 3.0, "{budget} W each {step} ms: {mean} at first");
            }
        }
    }

    #[test]
    fn what_fits_is_not_slowed() {
        let (_, limits) = run(30.0, 500, 60);
        assert_eq!(limits, Limits::FREE);
    }

    #[test]
    fn a_budget_below_idle_leaves_the_least_pace() {
        let (_, limits) = run(4.0, 500, 60);
        assert!((limits.pace - FLOOR).abs() < 1e-6, "{limits:?}");
    }

    #[test]
    fn no_monitor_and_no_work_change_nothing() {
        let mut power = Power::new(10.0);
        for at in 0..100 {
            assert_eq!(power.update(at * 500, None, true, 1.0), Limits::FREE);
        }
        for at in 100..200 {
            power.update(at * 500, Some(25.0), true, 1.0);
        }
        let held = power.pace();
        assert!(held < 0.5);
        for at in 200..400 {
            power.update(at * 500, Some(6.0), false, 1.0);
            power.update(at * 500, Some(f32::NAN), true, 1.0);
        }
        assert!((power.pace() - held).abs() < 1e-6);
    }

    #[test]
    fn heat_that_slows_a_run_does_not_raise_the_budgets_pace() {
        let mut power = Power::new(15.0);
        for at in 0..200 {
            // Heat allows 0.2: far below the budget.
            power.update(at * 500, Some(draws(0.2)), true, 0.2);
            assert!((power.pace() - 1.0).abs() < 1e-6);
        }
        // Over the budget although heat slows the run: the budget's pace falls.
        for at in 200..300 {
            power.update(at * 500, Some(20.0), true, 0.2);
        }
        let low = power.pace();
        assert!(low < 0.2, "{low}");
        // Below the budget, but heat's pace is lower still: no rise above it.
        for at in 300..400 {
            power.update(at * 500, Some(8.0), true, 0.2);
        }
        assert!((0.2..0.6).contains(&power.pace()), "{}", power.pace());
    }

    #[test]
    fn energy_is_power_times_time() {
        let mut energy = Energy::default();
        energy.add(0, Some(10.0));
        assert_eq!(energy.joules(), None);
        energy.add(1000, None);
        energy.add(2000, Some(20.0));
        energy.add(3000, Some(20.0));
        // 15 W for two seconds, 20 W for one.
        assert_eq!(energy.joules(), Some(50.0));
    }
}
