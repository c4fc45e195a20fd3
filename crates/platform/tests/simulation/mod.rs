//! A board that warms up: two heat stores (chip, sink) between a heater and a room.
//!
//! C_chip · dT/dt = P − (T − S)/R_chip, C_sink · dS/dt = (T − S)/R_chip − (S − A)/R_sink, with
//! P = idle + pace · (full − idle) + leakage · (T − 50 °C). Figures are chosen so that a small board in a
//! warm box overheats within minutes, as users report. Its own protection is a Jetson's: a trip point of
//! 99 °C that halves the clocks until 96 °C.
#![allow(dead_code, reason = "each user takes its part")]

use platform::Sample;
use platform::governor::{Governor, Settings};

/// A board in a room; SI units and °C.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Board {
    pub(crate) idle: f64,
    pub(crate) full: f64,
    pub(crate) leakage: f64,
    pub(crate) chip_store: f64,
    pub(crate) sink_store: f64,
    pub(crate) chip_resistance: f64,
    pub(crate) sink_resistance: f64,
    pub(crate) room: f64,
}

pub(crate) const NANO: Board = Board {
    idle: 5.0,
    full: 20.0,
    leakage: 0.03,
    chip_store: 10.0,
    sink_store: 80.0,
    chip_resistance: 0.5,
    sink_resistance: 3.0,
    room: 35.0,
};

impl Board {
    fn leaks(&self, chip: f64) -> f64 {
        self.leakage * (chip - 50.0).max(0.0)
    }

    /// The pace at which the chip comes to rest at `celsius`: all heat leaves through both resistances.
    pub(crate) fn steady_pace(&self, celsius: f64) -> f64 {
        let power = (celsius - self.room) / (self.chip_resistance + self.sink_resistance);
        (power - self.idle - self.leaks(celsius)) / (self.full - self.idle)
    }
}

/// Who sets the pace.
pub(crate) enum Policy {
    /// Nobody: only the board protects itself.
    Nobody,
    /// Stop at 84 °C, go at 75 °C.
    OnOff,
    /// The governors, as the program runs them.
    Governor(Box<Governor>),
    /// One who sees every heat store exactly and a hundred times a second, and holds this many °C: as fast
    /// as can be without ever being warmer.
    Knowing(f64),
}

impl Policy {
    /// The governors for a board that trips at 99 °C.
    pub(crate) fn governor(power_budget: Option<f32>) -> Policy {
        Policy::Governor(Box::new(Governor::new(Settings { throttle: Some(99.0), power_budget })))
    }
}

/// One moment, twice a second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) seconds: f64,
    pub(crate) chip: f64,
    /// Share of full speed, the board's own throttling included.
    pub(crate) speed: f64,
    pub(crate) watts: f64,
}

#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) hottest: f64,
    /// Mean pace: tokens as a share of full speed.
    pub(crate) speed: f64,
    /// Seconds of the longest standstill.
    pub(crate) standstill: f64,
    /// Changes of speed by more than a tenth from one reading to the next.
    pub(crate) jolts: u32,
    pub(crate) joules: f64,
    pub(crate) moments: Vec<Moment>,
}

/// Runs for some minutes, reading each `step_ms`; `later` may change the board on the way.
pub(crate) fn run(
    mut board: Board,
    mut policy: Policy,
    minutes: u32,
    step_ms: u64,
    later: impl Fn(f64, &mut Board),
) -> Outcome {
    const DT: f64 = 0.01;
    let (mut chip, mut sink) = (board.room + 10.0, board.room + 5.0);
    let (mut outcome, mut pace, mut still, mut hot) = (Outcome::default(), 1.0, 0.0, false);
    let (mut power, mut done, mut before) = (board.idle, 1.0, 1.0);
    let steps = (f64::from(minutes) * 60.0 / DT) as u64;
    let each = (step_ms as f64 / 1000.0 / DT) as u64;
    let mut noise: u32 = 1;
    for step in 0..steps {
        let seconds = step as f64 * DT;
        if step % each == 0 {
            // A sensor of a quarter of a degree, give or take as much.
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let read = ((chip + f64::from(noise >> 16) / 65_536.0 * 0.5 - 0.25) * 4.0).round() / 4.0;
            pace = match &mut policy {
                Policy::Nobody => 1.0,
                Policy::OnOff if read >= 84.0 => 0.0,
                Policy::OnOff if read <= 75.0 => 1.0,
                Policy::OnOff | Policy::Knowing(_) => pace,
                Policy::Governor(governor) => {
                    let mut sample = Sample { watts: Some(power as f32), ..Sample::default() };
                    sample.zones[0] = Some(read as f32);
                    f64::from(governor.update((seconds * 1000.0).round() as u64, &sample, true).pace)
                }
            };
            outcome.jolts += u32::from(f64::abs(done - before) > 0.1);
            before = done;
            later(seconds, &mut board);
        }
        let through = (chip - sink) / board.chip_resistance;
        if let Policy::Knowing(celsius) = policy {
            let wanted = through + board.chip_store * (celsius - chip) / (10.0 * DT);
            pace = ((wanted - board.idle - board.leaks(chip)) / (board.full - board.idle)).clamp(0.0, 1.0);
        }
        hot = chip >= if hot { 96.0 } else { 99.0 };
        done = if hot { pace * 0.5 } else { pace };
        power = board.idle + done * (board.full - board.idle) + board.leaks(chip);
        chip += (power - through) * DT / board.chip_store;
        sink += (through - (sink - board.room) / board.sink_resistance) * DT / board.sink_store;
        outcome.hottest = outcome.hottest.max(chip);
        outcome.speed += done / steps as f64;
        outcome.joules += power * DT;
        still = if done < 0.05 { still + DT } else { 0.0 };
        outcome.standstill = outcome.standstill.max(still);
        if step % 50 == 0 {
            outcome.moments.push(Moment { seconds, chip, speed: done, watts: power });
        }
    }
    outcome
}

/// A board that stays as it is.
pub(crate) fn same(_: f64, _: &mut Board) {}
