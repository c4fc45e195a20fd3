//! What passes: pure functions from what was measured to a verdict with its reason.

use platform::governor::{Governor, Limits, Settings};

use super::watch::Sample;

/// Most that memory may grow over a phase, bytes.
pub(super) const MOST_GROWTH: f64 = 1e6;
/// Most that speed may fall, a share, unless something says why.
pub(super) const MOST_FALL: f64 = 0.20;
/// A program whose threads wait for cores for a larger share of the time than this is not alone.
const DISTURBED: f64 = 0.05;
/// Fewest measurements that a line is drawn through.
const FEWEST: usize = 10;

/// How something ended, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Status {
    /// Good.
    Pass,
    /// Good as far as it could be looked at.
    Short,
    /// Not good.
    Fail,
}

impl Status {
    /// For people.
    pub(super) fn word(self) -> &'static str {
        match self {
            Status::Pass => "PASS",
            Status::Short => "SHORT",
            Status::Fail => "FAIL",
        }
    }

    /// For programs.
    pub(super) fn name(self) -> &'static str {
        match self {
            Status::Pass => "pass",
            Status::Short => "short",
            Status::Fail => "fail",
        }
    }

    fn of(passes: bool) -> Status {
        if passes { Status::Pass } else { Status::Fail }
    }
}

/// One thing that must hold.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Check {
    /// What must hold.
    pub(super) criterion: String,
    /// Whether it does.
    pub(super) status: Status,
    /// What was found.
    pub(super) found: String,
}

impl Check {
    /// A check that holds or does not.
    pub(super) fn new(criterion: impl Into<String>, passes: bool, found: impl Into<String>) -> Check {
        Check { criterion: criterion.into(), status: Status::of(passes), found: found.into() }
    }

    /// A check that could not be made in full.
    pub(super) fn short(criterion: impl Into<String>, found: impl Into<String>) -> Check {
        Check { criterion: criterion.into(), status: Status::Short, found: found.into() }
    }
}

/// The slope of the line of least squares; `None` of fewer than two different places.
pub(super) fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let (mut x, mut y) = (0.0, 0.0);
    for point in points {
        x += point.0 / count;
        y += point.1 / count;
    }
    let (mut products, mut squares) = (0.0, 0.0);
    for point in points {
        products += (point.0 - x) * (point.1 - y);
        squares += (point.0 - x) * (point.0 - x);
    }
    (squares > 0.0).then(|| products / squares)
}

/// How much the line through a phase's memory rises over it, in bytes and seconds. The first fifth is left
/// out, and all before `warm`, seconds: there pages are used for the first time.
fn growth(samples: &[Sample], phase: usize, warm: f64) -> Option<(f64, f64)> {
    let of_phase: Vec<&Sample> = samples.iter().filter(|sample| usize::from(sample.phase) == phase).collect();
    let from = of_phase.partition_point(|sample| sample.at < warm).max(of_phase.len() / 5);
    let warm = &of_phase[from..];
    if warm.len() < FEWEST {
        return None;
    }
    let points: Vec<(f64, f64)> = warm.iter().map(|sample| (sample.at, sample.resident as f64)).collect();
    let seconds = points[points.len() - 1].0 - points[0].0;
    Some((slope(&points)? * seconds, seconds))
}

/// Whether the memory of a phase stayed flat.
pub(super) fn memory(samples: &[Sample], phase: usize, warm: f64) -> Check {
    let criterion = "memory of the process rises by less than 1 MB over the phase (least squares)";
    match growth(samples, phase, warm) {
        None => Check::short(criterion, "too short to draw a line"),
        Some((bytes, seconds)) => {
            let found = format!("{:+.3} MB in {seconds:.0} s", bytes / 1e6);
            Check::new(criterion, bytes < MOST_GROWTH, found)
        }
    }
}

/// Some answers in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Stretch {
    /// Tokens after each answer's first.
    pub(super) tokens: u64,
    /// Seconds they took.
    pub(super) seconds: f64,
    /// Share of the time that this program's threads waited for a core.
    pub(super) waited: f64,
}

impl Stretch {
    /// Tokens a second.
    pub(super) fn rate(&self) -> f64 {
        self.tokens as f64 / self.seconds.max(1e-9)
    }
}

/// Whether the last quarter was as fast as the first. Stretches during which other programs had the cores
/// say nothing about that.
pub(super) fn speed(stretches: &[Stretch], why: Option<&str>) -> Check {
    let percent = MOST_FALL * 100.0;
    let criterion = format!("speed does not fall by more than {percent:.0} % unless the governor says why");
    let quarter = stretches.len() / 4;
    if quarter < 2 {
        return Check::short(criterion, "too short to compare the beginning with the end");
    }
    let median = |part: &[Stretch]| {
        let mut rates: Vec<f64> =
            part.iter().filter(|stretch| stretch.waited <= DISTURBED).map(Stretch::rate).collect();
        rates.sort_by(f64::total_cmp);
        (rates.len() * 2 >= part.len()).then(|| rates[rates.len() / 2])
    };
    let (first, last) = (&stretches[..quarter], &stretches[stretches.len() - quarter..]);
    let (Some(first), Some(last)) = (median(first), median(last)) else {
        return Check::short(criterion, "not judged: other programs had the cores most of the time");
    };
    let found = format!("{first:.1} tok/s in the first quarter, {last:.1} in the last");
    let fell = last < first * (1.0 - MOST_FALL);
    match why.filter(|_| fell) {
        Some(why) => Check::new(criterion, true, format!("{found}; {why}")),
        None => Check::new(criterion, !fell, found),
    }
}

/// What the governor says of the last quarter of a phase, if it held the run back there. It is a function of
/// time and readings, so the samples can be played back to it.
pub(super) fn why(samples: &[Sample], phase: usize, settings: Settings) -> Option<String> {
    let mut governor = Governor::new(settings);
    let of_phase: Vec<&Sample> = samples.iter().filter(|sample| usize::from(sample.phase) == phase).collect();
    let quarter = of_phase.len() - of_phase.len() / 4;
    let mut least = Limits::FREE;
    for (i, sample) in of_phase.into_iter().enumerate() {
        let mut read = platform::Sample { watts: sample.watts, ..platform::Sample::default() };
        read.zones[0] = sample.celsius;
        let limits = governor.update((sample.at * 1e3) as u64, &read, true);
        if i >= quarter {
            least = least.min(limits);
        }
    }
    (least.pace < 1.0).then(|| least.to_string())
}

#[cfg(test)]
mod tests {
    use platform::governor::Settings;

    use super::why;
    use super::{Sample, Status, Stretch, memory, slope, speed};

    #[test]
    fn the_line_is_that_of_least_squares() {
        // By hand: means 1.5 and 2.5; products 5.5 (0 and 1, 1 and 2, 2 and 2, 3 and 5 give 6); squares 5.
        let slope_of = slope(&[(0.0, 1.0), (1.0, 2.0), (2.0, 2.0), (3.0, 5.0)]);
        assert!(slope_of.is_some_and(|slope| (slope - 1.2).abs() < 1e-12), "{slope_of:?}");
        assert_eq!(slope(&[(1.0, 1.0)]), None);
        assert_eq!(slope(&[(1.0, 1.0), (1.0, 3.0)]), None);
    }

    fn samples(resident: impl Fn(usize) -> u64) -> Vec<Sample> {
        (0..100)
            .map(|i| Sample { at: i as f64, phase: 1, resident: resident(i), ..Sample::default() })
            .collect()
    }

    #[test]
    fn memory_that_creeps_fails_and_memory_that_warms_up_does_not() {
        let creeps = memory(&samples(|i| 50_000_000 + 15_000 * i as u64), 1, 0.0);
        assert_eq!((creeps.status, creeps.found.as_str()), (Status::Fail, "+1.185 MB in 79 s"));
        let slower = memory(&samples(|i| 50_000_000 + 12_000 * i as u64), 1, 0.0);
        assert_eq!((slower.status, slower.found.as_str()), (Status::Pass, "+0.948 MB in 79 s"));
        let warms = memory(&samples(|i| if i < 19 { 20_000_000 } else { 90_000_000 }), 1, 0.0);
        assert_eq!(warms.status, Status::Pass, "{}", warms.found);
        let later = |warm| memory(&samples(|i| if i < 50 { 20_000_000 } else { 90_000_000 }), 1, warm).status;
        assert_eq!((later(0.0), later(49.5)), (Status::Fail, Status::Pass));
        assert_eq!(memory(&samples(|_| 1)[..11], 1, 0.0).status, Status::Short);
        assert_eq!(memory(&samples(|_| 1), 1, 95.0).status, Status::Short);
        assert_eq!(memory(&samples(|_| 1), 2, 0.0).status, Status::Short);
    }

    #[test]
    fn heat_explains_and_its_absence_does_not() {
        let hot = |celsius: f32| {
            let sample =
                |i| Sample { at: i as f64 * 0.5, phase: 1, celsius: Some(celsius), ..Sample::default() };
            (0..400).map(sample).collect::<Vec<_>>()
        };
        let settings = Settings { throttle: Some(99.0), power_budget: None };
        assert_eq!(why(&hot(60.0), 1, settings), None);
        assert_eq!(why(&hot(90.0), 0, settings), None);
        let told = why(&hot(90.0), 1, settings).expect("it is hot");
        assert!(told.starts_with("90.0 °C"), "{told}");
    }

    fn stretches(rate: impl Fn(usize) -> f64, waited: impl Fn(usize) -> f64) -> Vec<Stretch> {
        (0..40).map(|i| Stretch { tokens: 1000, seconds: 1000.0 / rate(i), waited: waited(i) }).collect()
    }

    #[test]
    fn speed_that_falls_must_be_explained() {
        let falls = stretches(|i| if i < 25 { 100.0 } else { 79.0 }, |_| 0.0);
        assert_eq!(speed(&falls, None).status, Status::Fail);
        let told = speed(&falls, Some("83.0 °C: at 60 % of full speed"));
        assert!(
            told.status == Status::Pass && told.found.ends_with("at 60 % of full speed"),
            "{}",
            told.found
        );
        let holds = speed(&stretches(|i| if i < 25 { 100.0 } else { 81.0 }, |_| 0.0), Some("never said"));
        assert_eq!((holds.status, holds.found.contains("never said")), (Status::Pass, false));
    }

    #[test]
    fn stretches_that_others_disturbed_are_no_evidence() {
        let fall = |i| if i < 25 { 100.0 } else { 50.0 };
        assert_eq!(speed(&stretches(fall, |i| if i < 25 { 0.0 } else { 0.4 }), None).status, Status::Short);
        // One in two is enough.
        assert_eq!(speed(&stretches(fall, |i| 0.4 * (i % 2) as f64), None).status, Status::Fail);
        assert_eq!(speed(&stretches(fall, |_| 0.0)[..7], None).status, Status::Short);
    }
}
