//! Which changes of a limit are worth a line on stderr.

use platform::governor::{Limits, Reason};

/// Whether this is no limit that anybody would notice.
pub(super) fn is_full(limits: Limits) -> bool {
    limits.pace >= 0.995
}

/// Decides what is worth a line: a limit that begins, that changes by a fifth or for another reason, or that
/// ends, one line in five seconds, full stops and their ends at once.
#[derive(Default)]
pub(super) struct Teller {
    /// What was told last and when; nothing while there is no limit.
    told: Option<Limits>,
    at: Option<u64>,
}

impl Teller {
    /// Least time between two lines, ms.
    const RARELY: u64 = 5_000;
    /// A change of pace that is noticed.
    const STEP: f32 = 0.2;

    /// The line to say at `at_ms`, if `now` is worth one.
    pub(super) fn line(&mut self, at_ms: u64, now: Limits) -> Option<String> {
        let stopped = |limits: Limits| limits.pace <= 0.0;
        let (worth, at_once) = match self.told {
            None => (!is_full(now), stopped(now)),
            Some(told) => {
                let kind = std::mem::discriminant(&told.reason) != std::mem::discriminant(&now.reason);
                let step = (told.pace - now.pace).abs() >= Teller::STEP;
                (kind || step || is_full(now), stopped(told) != stopped(now))
            }
        };
        let soon = self.at.is_some_and(|at| at_ms.saturating_sub(at) < Teller::RARELY);
        if !worth || soon && !at_once {
            return None;
        }
        let topic = |limits: Limits| {
            if matches!(limits.reason, Reason::Power { .. }) { "power" } else { "thermal" }
        };
        let line = match self.told {
            Some(told) if is_full(now) => format!("[{}] full speed again", topic(told)),
            _ => format!("[{}] {now}", topic(now)),
        };
        self.told = (!is_full(now)).then_some(now);
        self.at = Some(at_ms);
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use platform::governor::{Limits, Reason};

    use super::Teller;

    fn warm(celsius: f32, pace: f32) -> Limits {
        Limits { pace, reason: Reason::Warm { celsius } }
    }

    #[test]
    fn a_limits_begin_steps_and_end_are_told_and_nothing_between() {
        let mut teller = Teller::default();
        let hot = Limits { pace: 0.0, reason: Reason::Hot { celsius: 87.5, resume: 80.0 } };
        let told: Vec<String> = [
            (0, Limits::FREE),
            (500, warm(80.5, 0.9)),
            // Too soon, though a fifth.
            (1_000, warm(82.0, 0.6)),
            (5_000, warm(82.0, 0.75)),
            (6_000, warm(83.0, 0.65)),
            (7_000, warm(83.0, 0.6)),
            // A full stop is told at once, and so is its end.
            (7_500, hot),
            (8_000, hot),
            (8_500, warm(79.5, 0.1)),
            (9_000, Limits::FREE),
            (14_000, Limits::FREE),
            (30_000, Limits::FREE),
            (30_500, Limits { pace: 0.5, reason: Reason::Power { watts: 21.0, budget: 15.0 } }),
            (36_000, Limits { pace: 0.999, reason: Reason::Power { watts: 14.0, budget: 15.0 } }),
        ]
        .into_iter()
        .filter_map(|(at, limits)| Some(format!("{at} {}", teller.line(at, limits)?)))
        .collect();
        assert_eq!(
            told,
            [
                "500 [thermal] 80.5 °C: at 90 % of full speed",
                "6000 [thermal] 83.0 °C: at 65 % of full speed",
                "7500 [thermal] 87.5 °C: paused until it is 80 °C",
                "8500 [thermal] 79.5 °C: at 10 % of full speed",
                "14000 [thermal] full speed again",
                "30500 [power] 21.0 W of 15.0 W: at 50 % of full speed",
                "36000 [power] full speed again",
            ]
        );
    }

    #[test]
    fn a_limit_that_comes_and_goes_is_told_rarely() {
        let mut teller = Teller::default();
        let flips =
            (0..240).map(|half| (half * 500, if half % 2 == 0 { Limits::FREE } else { warm(80.0, 0.9) }));
        let lines = flips.filter(|&(at, limits)| teller.line(at, limits).is_some()).count();
        assert!((2..=25).contains(&lines), "{lines} in two minutes");
    }
}
