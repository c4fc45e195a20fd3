//! The thermal governor.
//!
//! A board left alone runs to its trip point (99 °C on Orin) and then has its clocks cut in coarse steps.
//! This keeps it below 85 °C instead, and smoothly:
//!
//! - below 80 °C nothing happens; *backoff* begins when the hottest zone, moved on by its slope over the
//!   next seconds, reaches 80 °C, and ends only below 76 °C (hysteresis);
//! - in between a proportional-integral controller holds the chip at 83.5 °C: pace = I + 0.1/°C · (83.5 −
//!   predicted), and I rises by 0.005/°C/s and falls by 0.02/°C/s: too warm has to end sooner than too slow,
//!   and that is what lets the target be so near to 85 °C. It starts where pace is 1, so that nothing jumps.
//!   The integral finds the pace the room's temperature allows, which no table could;
//! - at 87 °C, or 3 °C below the board's own trip point if that is lower, there is a full stop until 80 °C.
//!
//! Sensors lie. A zone that fails is left out; one that jumps by more than 20 °C at once is believed at
//! the second reading; one that has not changed by a millidegree for a minute while others moved is stuck
//! and is left out until it changes. If all that ever answered fail for 5 seconds, pace is halved.

use super::{Limits, Reason, ZONES};

/// Temperatures in °C.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Backoff begins.
    pub backoff: f32,
    /// What backoff holds.
    pub target: f32,
    /// Backoff ends below.
    pub release: f32,
    /// Full stop.
    pub hard: f32,
    /// Least pace short of a full stop: a run that stands still looks broken.
    pub floor: f32,
}

impl Settings {
    /// For a board that itself begins to slow down at `throttle` °C; what is not between 70 and 110 is no
    /// such point.
    pub fn for_board(throttle: Option<f32>) -> Settings {
        const HARD: f32 = 87.0;
        const MARGIN: f32 = 3.0;
        let throttle = throttle.filter(|throttle| (70.0..=110.0).contains(throttle));
        let hard = throttle.map_or(HARD, |throttle| (throttle - MARGIN).min(HARD));
        let backoff = hard - 7.0;
        Settings { backoff, target: backoff + 3.5, release: backoff - 4.0, hard, floor: 0.1 }
    }
}

/// Seconds that the slope looks ahead, and the most it adds, °C.
const AHEAD: (f32, f32) = (4.0, 4.0);
/// Seconds over which the slope is averaged.
const SLOPE_OVER: f32 = 5.0;
/// Pace per °C, and per °C and second.
const PROPORTIONAL: f32 = 0.1;
const INTEGRAL: f32 = 0.005;
/// How much faster the integral falls than it rises.
const FALL: f32 = 4.0;
/// Most the pace rises in a second.
const RISE: f32 = 0.05;
/// Longest step of time the controller integrates over, seconds: after a longer gap the past says little.
const LONGEST: f32 = 2.0;
/// Milliseconds that all sensors may be silent before that counts.
const SILENCE_MS: u64 = 5_000;
/// Pace when they are.
const BLIND: f32 = 0.5;
/// A jump that is believed only at the second reading: °C, within this many milliseconds.
const JUMP: (f32, u64) = (20.0, 2_000);
/// Milliseconds without any change, and moves of 5 °C of other zones in that time, that make a zone stuck.
const STUCK: (u64, u32) = (60_000, 3);
const MOVE: f32 = 5.0;

/// What is known of one zone.
#[derive(Clone, Copy, Debug, Default)]
struct Zone {
    /// Last value that was believed, and when.
    value: Option<(f32, u64)>,
    /// A jump that waits to be read a second time.
    jump: Option<f32>,
    /// When the reading last changed, and the moves of all zones until then.
    changed: (u64, u32),
    /// Moves are counted from here.
    anchor: f32,
}

/// The thermal governor.
#[derive(Clone, Debug)]
pub struct Thermal {
    settings: Settings,
    zones: [Zone; ZONES],
    /// Moves of 5 °C by any zone so far.
    moves: u32,
    /// The hottest zone that is believed, and when that was.
    last: Option<(f32, u64)>,
    /// °C a second.
    slope: f32,
    /// Backoff is on.
    active: bool,
    /// A full stop is on.
    stopped: bool,
    integral: f32,
    limits: Limits,
}

impl Thermal {
    /// Starts with nothing known.
    pub fn new(settings: Settings) -> Thermal {
        Thermal {
            settings,
            zones: [Zone::default(); ZONES],
            moves: 0,
            last: None,
            slope: 0.0,
            active: false,
            stopped: false,
            integral: 1.0,
            limits: Limits::FREE,
        }
    }

    /// The limits after zones (°C, the same order each time; more than [`ZONES`] are not looked at) were
    /// read at `at_ms` of the caller's time. Time that stands still or runs backwards changes nothing.
    pub fn update(&mut self, at_ms: u64, zones: &[Option<f32>]) -> Limits {
        let hottest = self.hottest(at_ms, zones);
        let Some((before, then)) = self.last else {
            if let Some(celsius) = hottest {
                self.last = Some((celsius, at_ms));
                self.control(celsius, 0.0);
            }
            return self.limits;
        };
        if at_ms <= then {
            return self.limits;
        }
        let Some(celsius) = hottest else {
            if at_ms - then >= SILENCE_MS {
                // Never a full stop, which nothing would end, and never faster than it was.
                let pace = self.limits.pace.clamp(BLIND / 2.0, BLIND);
                (self.stopped, self.active, self.slope) = (false, true, 0.0);
                self.integral = self.integral.min(pace);
                self.limits = Limits { pace, reason: Reason::Blind };
            }
            return self.limits;
        };
        let seconds = (at_ms - then) as f32 / 1000.0;
        if seconds > LONGEST * 5.0 {
            self.slope = 0.0;
        } else {
            let slope = (celsius - before) / seconds;
            self.slope += (slope - self.slope) * (seconds / SLOPE_OVER).min(1.0);
        }
        self.last = Some((celsius, at_ms));
        self.control(celsius, seconds.min(LONGEST));
        self.limits
    }

    fn control(&mut self, celsius: f32, seconds: f32) {
        let Settings { backoff, target, release, hard, floor } = self.settings;
        let predicted = celsius + (self.slope * AHEAD.0).clamp(0.0, AHEAD.1);
        if celsius >= hard {
            self.stopped = true;
        } else if celsius <= backoff {
            self.stopped = false;
        }
        if !self.active && (predicted >= backoff || self.stopped) {
            self.active = true;
            // Pace is 1 where backoff begins.
            self.integral = 1.0 - PROPORTIONAL * (target - backoff);
        }
        if self.stopped {
            self.limits = Limits { pace: 0.0, reason: Reason::Hot { celsius, resume: backoff } };
            return;
        }
        if !self.active {
            self.limits = Limits::FREE;
            return;
        }
        let proportional = PROPORTIONAL * (target - predicted);
        let wanted = self.integral + proportional;
        let error = target - celsius;
        // An integral that moves on while the pace cannot would have to come all the way back.
        if !(wanted > 1.0 && error > 0.0 || wanted < floor && error < 0.0) {
            let rate = if error < 0.0 { FALL * INTEGRAL } else { INTEGRAL };
            self.integral = (self.integral + rate * error * seconds).clamp(0.0, 1.0 + PROPORTIONAL * AHEAD.1);
        }
        let most = self.limits.pace + RISE * seconds;
        let pace = (self.integral + proportional).min(most).clamp(floor, 1.0);
        if celsius < release && pace >= 1.0 {
            self.active = false;
            self.limits = Limits::FREE;
        } else {
            self.limits = Limits { pace, reason: Reason::Warm { celsius } };
        }
    }

    /// The hottest zone that is believed.
    fn hottest(&mut self, at_ms: u64, zones: &[Option<f32>]) -> Option<f32> {
        for (zone, read) in self.zones.iter_mut().zip(zones) {
            self.moves += zone.read(at_ms, *read, self.moves);
        }
        let answered = self.zones.iter().zip(zones).filter(|(_, read)| read.is_some());
        let believed = answered.filter(|(zone, _)| !zone.is_stuck(at_ms, self.moves));
        believed.filter_map(|(zone, _)| zone.value).map(|(value, _)| value).max_by(f32::total_cmp)
    }
}

impl Zone {
    /// Takes a reading; 1 if the zone has moved since the last time it said so.
    fn read(&mut self, at_ms: u64, read: Option<f32>, moves: u32) -> u32 {
        let Some(read) = read.filter(|read| read.is_finite()) else { return 0 };
        let Some((value, then)) = self.value else {
            (self.value, self.changed, self.anchor) = (Some((read, at_ms)), (at_ms, moves), read);
            return 0;
        };
        let sudden = (read - value).abs() > JUMP.0 && at_ms.saturating_sub(then) < JUMP.1;
        let confirmed = self.jump.is_some_and(|jump| (read - jump).abs() <= JUMP.0);
        if sudden && !confirmed {
            // The old value goes on for now.
            self.jump = Some(read);
            self.value = Some((value, at_ms));
            return 0;
        }
        self.jump = None;
        self.value = Some((read, at_ms));
        #[expect(clippy::float_cmp, reason = "a sensor that works changes by something")]
        if read != value {
            self.changed = (at_ms, moves);
        }
        if (read - self.anchor).abs() < MOVE {
            return 0;
        }
        self.anchor = read;
        1
    }

    fn is_stuck(&self, at_ms: u64, moves: u32) -> bool {
        at_ms.saturating_sub(self.changed.0) >= STUCK.0 && moves - self.changed.1 >= STUCK.1
    }
}
