//! Governors: from readings and time to what a run may do. They are pure: readings and time come in as
//! arguments, nothing is looked up, nothing sleeps, nothing allocates.
//!
//! A limit is a *pace*, the share of full speed. Whoever makes tokens keeps it by pausing after each token
//! ([`Limits::pause`]), since pausing is the one thing that works on every board without root: clocks are
//! left alone.
//!
//! ```
//! use std::time::Duration;
//! use platform::governor::{Governor, Settings};
//! use platform::{Root, Sensors};
//!
//! let mut sensors = Sensors::open(&Root::real());
//! let settings = Settings { throttle: sensors.throttle(), power_budget: Some(15.0) };
//! let mut governor = Governor::new(settings);
//! // Twice a second while tokens are made, with the caller's own clock:
//! let limits = governor.update(500, &sensors.sample(), true);
//! // After each token, with the time it took:
//! let pause = limits.pause(Duration::from_millis(40));
//! # let _ = pause;
//! ```
//!
//! At pace 0 no token may be made: wait [`Limits::RECHECK`], sample and update again.

pub mod power;
pub mod thermal;

use std::fmt;
use std::time::Duration;

use crate::Sample;
use power::Power;
use thermal::Thermal;

/// Most thermal zones looked at.
pub const ZONES: usize = 16;

/// What a run may do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Share of full speed, 0 to 1; 0 is a full stop until it is cooler.
    pub pace: f32,
    /// What sets it.
    pub reason: Reason,
}

/// What sets a limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reason {
    /// Nothing does.
    Free,
    /// The chip is warm: slower, so that it does not get hot.
    Warm {
        /// Its hottest zone, °C.
        celsius: f32,
    },
    /// The chip is close to where the board cuts its clocks: a full stop.
    Hot {
        /// Its hottest zone, °C.
        celsius: f32,
        /// Where the run goes on, °C.
        resume: f32,
    },
    /// Every sensor stopped answering: slower, to be safe.
    Blind,
    /// The power budget.
    Power {
        /// What the board draws, W, averaged over about a second.
        watts: f32,
        /// What it may draw, W.
        budget: f32,
    },
}

impl Limits {
    /// No limit.
    pub const FREE: Limits = Limits { pace: 1.0, reason: Reason::Free };

    /// How long to wait at pace 0 before asking again.
    pub const RECHECK: Duration = Duration::from_millis(500);

    /// The pause after work of this length that makes the pace; [`Limits::RECHECK`] at pace 0.
    pub fn pause(self, busy: Duration) -> Duration {
        if self.pace >= 1.0 {
            Duration::ZERO
        } else if self.pace <= 0.0 {
            Limits::RECHECK
        } else {
            busy.mul_f64(f64::from((1.0 - self.pace) / self.pace))
        }
    }

    /// The stricter of two.
    #[must_use]
    pub fn min(self, other: Limits) -> Limits {
        if other.pace < self.pace { other } else { self }
    }
}

impl fmt::Display for Limits {
    /// For the line after `[thermal]` or `[power]`: `84.2 °C: at 61 % of full speed`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = self.pace * 100.0;
        match self.reason {
            Reason::Free => write!(f, "full speed"),
            Reason::Warm { celsius } => write!(f, "{celsius:.1} °C: at {percent:.0} % of full speed"),
            Reason::Hot { celsius, resume } => {
                write!(f, "{celsius:.1} °C: paused until it is {resume:.0} °C")
            }
            Reason::Blind => write!(f, "no sensor answers: at {percent:.0} % of full speed"),
            Reason::Power { watts, budget } => {
                write!(f, "{watts:.1} W of {budget:.1} W: at {percent:.0} % of full speed")
            }
        }
    }
}

/// What the governors need to know of a board and its user.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Settings {
    /// Where the board itself begins to slow down, °C, if it says.
    pub throttle: Option<f32>,
    /// `--power-budget`, W.
    pub power_budget: Option<f32>,
}

/// Both governors: the stricter limit holds.
#[derive(Clone, Debug)]
pub struct Governor {
    thermal: Thermal,
    power: Option<Power>,
}

impl Governor {
    /// For a board.
    pub fn new(settings: Settings) -> Governor {
        let thermal = Thermal::new(thermal::Settings::for_board(settings.throttle));
        Governor { thermal, power: settings.power_budget.map(Power::new) }
    }

    /// The limits from now on. `at_ms` is the caller's time, `busy` whether tokens are being made (an idle
    /// board's power says nothing about the pace that keeps a budget).
    pub fn update(&mut self, at_ms: u64, sample: &Sample, busy: bool) -> Limits {
        let thermal = self.thermal.update(at_ms, &sample.zones);
        match &mut self.power {
            Some(power) => thermal.min(power.update(at_ms, sample.watts, busy, thermal.pace)),
            None => thermal,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Governor, Limits, Reason, Settings};
    use crate::Sample;

    #[test]
    fn pauses_make_the_pace() {
        let limits = |pace| Limits { pace, reason: Reason::Blind };
        let busy = Duration::from_millis(40);
        assert_eq!(limits(1.0).pause(busy), Duration::ZERO);
        assert_eq!(limits(0.5).pause(busy), busy);
        assert_eq!(limits(0.25).pause(busy), 3 * busy);
        assert_eq!(limits(0.0).pause(busy), Limits::RECHECK);
    }

    #[test]
    fn the_stricter_governor_holds() {
        let mut governor = Governor::new(Settings { throttle: Some(99.0), power_budget: Some(10.0) });
        let sample = |celsius, watts| {
            let mut sample = Sample { watts: Some(watts), ..Sample::default() };
            sample.zones[0] = Some(celsius);
            sample
        };
        assert_eq!(governor.update(0, &sample(50.0, 5.0), true), Limits::FREE);
        for at in 1..20 {
            governor.update(at * 500, &sample(50.0, 20.0), true);
        }
        let limits = governor.update(10_000, &sample(50.0, 20.0), true);
        assert!(matches!(limits.reason, Reason::Power { .. }), "{limits:?}");
        let said = limits.to_string();
        assert!(said.starts_with("20.0 W of 10.0 W: at "), "{said}");
        let limits = governor.update(10_500, &sample(60.0, 20.0), true);
        assert!(matches!(limits.reason, Reason::Power { .. }), "{limits:?}");
        // Twice, since one sudden jump is not believed.
        governor.update(11_000, &sample(90.0, 20.0), true);
        let limits = governor.update(11_500, &sample(90.0, 20.0), true);
        assert_eq!(limits, Limits { pace: 0.0, reason: Reason::Hot { celsius: 90.0, resume: 80.0 } });
        assert_eq!(limits.to_string(), "90.0 °C: paused until it is 80 °C");
    }

    #[test]
    fn without_sensors_or_budget_nothing_is_limited() {
        let mut governor = Governor::new(Settings::default());
        for at in 0..100 {
            assert_eq!(governor.update(at * 500, &Sample::default(), true), Limits::FREE);
        }
    }
}
