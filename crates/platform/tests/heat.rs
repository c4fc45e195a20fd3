//! The thermal governor on a simulated board: two heat stores (chip, sink) between a heater and a room.
//!
//! C_chip · dT/dt = P − (T − S)/R_chip, C_sink · dS/dt = (T − S)/R_chip − (S − A)/R_sink, with
//! P = idle + pace · (full − idle) + leakage · (T − 50 °C). Figures are chosen so that a small board in a
//! warm box overheats within minutes, as users report.

use std::fmt::Write;

use platform::governor::thermal::{Settings, Thermal};

/// A board in a room; SI units and °C.
#[derive(Clone, Copy)]
struct Board {
    idle: f64,
    full: f64,
    leakage: f64,
    chip_store: f64,
    sink_store: f64,
    chip_resistance: f64,
    sink_resistance: f64,
    room: f64,
}

const NANO: Board = Board {
    idle: 5.0,
    full: 20.0,
    leakage: 0.03,
    chip_store: 10.0,
    sink_store: 80.0,
    chip_resistance: 0.5,
    sink_resistance: 3.0,
    room: 35.0,
};

/// Who sets the pace.
enum Policy {
    /// Nobody: the board itself halves its clocks at 99 °C until 96 °C.
    Nobody,
    /// Stop at 84 °C, go at 75 °C.
    OnOff,
    Governor(Box<Thermal>),
}

#[derive(Debug, Default)]
struct Outcome {
    hottest: f64,
    /// Mean pace: tokens as a share of full speed.
    speed: f64,
    /// Seconds of the longest standstill.
    standstill: f64,
    /// Changes of pace by more than a tenth from one reading to the next.
    jolts: u32,
}

/// Runs for some minutes, reading each `step_ms`; `later` may change the board on the way.
fn run(
    mut board: Board,
    mut policy: Policy,
    minutes: u32,
    step_ms: u64,
    later: impl Fn(f64, &mut Board),
) -> Outcome {
    const DT: f64 = 0.01;
    let (mut chip, mut sink) = (board.room + 10.0, board.room + 5.0);
    let (mut outcome, mut pace, mut still, mut hot) = (Outcome::default(), 1.0, 0.0, false);
    let steps = (f64::from(minutes) * 60.0 / DT) as u64;
    let each = (step_ms as f64 / 1000.0 / DT) as u64;
    let mut noise: u32 = 1;
    for step in 0..steps {
        if step % each == 0 {
            let before = pace;
            // A sensor of a quarter of a degree, give or take as much.
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let read = ((chip + f64::from(noise >> 16) / 65_536.0 * 0.5 - 0.25) * 4.0).round() / 4.0;
            pace = match &mut policy {
                Policy::Nobody => 1.0,
                Policy::OnOff if read >= 84.0 => 0.0,
                Policy::OnOff if read <= 75.0 => 1.0,
                Policy::OnOff => pace,
                Policy::Governor(thermal) => {
                    let at_ms = (step as f64 * DT * 1000.0).round() as u64;
                    f64::from(thermal.update(at_ms, &[Some(read as f32)]).pace)
                }
            };
            outcome.jolts += u32::from((pace - before).abs() > 0.1);
            later(step as f64 * DT, &mut board);
        }
        hot = chip >= if hot { 96.0 } else { 99.0 };
        let done = if hot { pace * 0.5 } else { pace };
        let power = board.idle + done * (board.full - board.idle) + board.leakage * (chip - 50.0).max(0.0);
        let through = (chip - sink) / board.chip_resistance;
        chip += (power - through) * DT / board.chip_store;
        sink += (through - (sink - board.room) / board.sink_resistance) * DT / board.sink_store;
        outcome.hottest = outcome.hottest.max(chip);
        outcome.speed += done / steps as f64;
        still = if done < 0.05 { still + DT } else { 0.0 };
        outcome.standstill = outcome.standstill.max(still);
    }
    outcome
}

fn governor() -> Policy {
    Policy::Governor(Box::new(Thermal::new(Settings::for_board(Some(99.0)))))
}

fn still(_: f64, _: &mut Board) {}

#[test]
fn governed_is_cooler_than_nobody_and_faster_than_on_off() {
    let mut table = String::from("room °C  policy     hottest °C  speed  standstill s  jolts\n");
    for room in [30.0, 35.0, 45.0, 55.0] {
        let board = Board { room, ..NANO };
        let nobody = run(board, Policy::Nobody, 30, 500, still);
        let on_off = run(board, Policy::OnOff, 30, 500, still);
        let governed = run(board, governor(), 30, 500, still);
        for (name, outcome) in [("nobody", &nobody), ("on/off", &on_off), ("governor", &governed)] {
            let Outcome { hottest, speed, standstill, jolts } = outcome;
            let _ = writeln!(
                table,
                "{room:7}  {name:<9} {hottest:11.1} {:5.1} % {standstill:13.1} {jolts:6}",
                speed * 100.0
            );
        }
        assert!(nobody.hottest > 95.0, "{table}");
        assert!(on_off.hottest < 85.5 && governed.hottest < 85.0, "{table}");
        // What heat can leave the room is the same for both: the governor uses more of it.
        assert!(governed.speed > 1.03 * on_off.speed, "{table}");
        assert!(on_off.standstill > 5.0 && governed.standstill < 0.1, "{table}");
        assert!(governed.jolts * 10 < on_off.jolts, "{table}");
    }
    eprintln!("{table}");
}

#[test]
fn what_stays_cool_is_not_slowed() {
    let outcome = run(Board { room: 15.0, sink_resistance: 2.5, ..NANO }, governor(), 30, 500, still);
    assert!(outcome.hottest < 79.0, "{outcome:?}");
    assert!((outcome.speed - 1.0).abs() < 1e-9, "{outcome:?}");
}

#[test]
fn boards_of_many_kinds_stay_below_85() {
    let mut cases = 0;
    for room in [20.0, 35.0, 50.0] {
        for sink_resistance in [1.5, 3.0, 4.5] {
            for chip_store in [4.0, 10.0, 30.0] {
                for full in [12.0, 20.0, 30.0] {
                    for step_ms in [250, 500, 1000] {
                        let board = Board { full, chip_store, sink_resistance, room, ..NANO };
                        // What the least pace cannot keep cool is the full stop's business.
                        let least = board.idle + 0.1 * (full - board.idle) + 1.0;
                        if room + least * (sink_resistance + board.chip_resistance) > 80.0 {
                            continue;
                        }
                        cases += 1;
                        let outcome = run(board, governor(), 15, step_ms, still);
                        assert!(
                            outcome.hottest < 85.0,
                            "room {room}, sink {sink_resistance} K/W, chip {chip_store} J/K, {full} W, each \
                             {step_ms} ms: {outcome:?}"
                        );
                    }
                }
            }
        }
    }
    assert!(cases > 150, "{cases}");
}

#[test]
fn a_fan_that_fails_does_not_reach_the_boards_own_limit() {
    let fails = |seconds: f64, board: &mut Board| {
        if seconds > 600.0 {
            board.sink_resistance = 5.0;
        }
    };
    let outcome = run(Board { room: 25.0, sink_resistance: 2.0, ..NANO }, governor(), 40, 500, fails);
    assert!(outcome.hottest < 85.0, "{outcome:?}");
    assert!(outcome.speed > 0.4, "{outcome:?}");
}

#[test]
fn what_the_least_pace_cannot_keep_cool_is_stopped_and_goes_on() {
    let board = Board { room: 55.0, sink_resistance: 4.2, ..NANO };
    let outcome = run(board, governor(), 60, 500, still);
    assert!((85.0..88.0).contains(&outcome.hottest), "{outcome:?}");
    assert!(outcome.speed > 0.02 && outcome.standstill > 10.0, "{outcome:?}");
}
