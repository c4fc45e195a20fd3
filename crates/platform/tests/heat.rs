//! The governors on a simulated board: cooler than nobody, faster than on and off.
#![allow(missing_docs)]

mod simulation;

use std::fmt::Write;

use simulation::{Board, NANO, Outcome, Policy, run, same};

fn governor() -> Policy {
    Policy::governor(None)
}

#[test]
fn governed_is_cooler_than_nobody_and_faster_than_on_off() {
    let mut table = String::from("room °C  policy     hottest °C  speed  standstill s  jolts\n");
    for room in [30.0, 35.0, 45.0, 55.0] {
        let board = Board { room, ..NANO };
        let nobody = run(board, Policy::Nobody, 30, 500, same);
        let on_off = run(board, Policy::OnOff, 30, 500, same);
        let governed = run(board, governor(), 30, 500, same);
        let knowing = run(board, Policy::Knowing(85.0), 30, 500, same);
        let all = [("nobody", &nobody), ("on/off", &on_off), ("governor", &governed), ("knowing", &knowing)];
        for (name, outcome) in all {
            let Outcome { hottest, speed, standstill, jolts, .. } = outcome;
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
        // Nobody can be faster without being warmer, and this much is the price of sensors and margins.
        assert!(governed.speed > knowing.speed - 0.035 && governed.speed < knowing.speed, "{table}");
        assert!(on_off.standstill > 5.0 && governed.standstill < 0.1, "{table}");
        assert!(governed.jolts * 10 < on_off.jolts, "{table}");
    }
    eprintln!("{table}");
}

#[test]
fn the_simulation_comes_to_rest_where_arithmetic_says() {
    for celsius in [75.0, 82.5, 85.0] {
        let outcome = run(NANO, Policy::Knowing(celsius), 60, 500, same);
        let last = outcome.moments.last().expect("an hour has moments");
        assert!((last.chip - celsius).abs() < 0.05, "{last:?}");
        assert!((last.speed - NANO.steady_pace(celsius)).abs() < 0.005, "{last:?}");
    }
}

#[test]
fn what_stays_cool_is_not_slowed() {
    let outcome = run(Board { room: 15.0, sink_resistance: 2.5, ..NANO }, governor(), 30, 500, same);
    assert!(outcome.hottest < 79.0, "{}", outcome.hottest);
    assert!((outcome.speed - 1.0).abs() < 1e-9, "{}", outcome.speed);
}

#[test]
fn boards_of_many_kinds_stay_below_85() {
    let (mut cases, mut hottest) = (0, 0.0f64);
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
                        let outcome = run(board, governor(), 15, step_ms, same);
                        hottest = hottest.max(outcome.hottest);
                        assert!(
                            outcome.hottest < 85.0,
                            "room {room}, sink {sink_resistance} K/W, chip {chip_store} J/K, {full} W, each \
                             {step_ms} ms: {}",
                            outcome.hottest
                        );
                    }
                }
            }
        }
    }
    assert!(cases > 150, "{cases}");
    eprintln!("the hottest of {cases}: {hottest:.2} °C");
}

#[test]
fn a_fan_that_fails_does_not_reach_the_boards_own_limit() {
    let fails = |seconds: f64, board: &mut Board| {
        if seconds > 600.0 {
            board.sink_resistance = 5.0;
        }
    };
    let outcome = run(Board { room: 25.0, sink_resistance: 2.0, ..NANO }, governor(), 40, 500, fails);
    assert!(outcome.hottest < 85.0, "{}", outcome.hottest);
    assert!(outcome.speed > 0.4, "{}", outcome.speed);
}

#[test]
fn what_the_least_pace_cannot_keep_cool_is_stopped_and_goes_on() {
    let board = Board { room: 55.0, sink_resistance: 4.2, ..NANO };
    let outcome = run(board, governor(), 60, 500, same);
    assert!((85.0..88.0).contains(&outcome.hottest), "{}", outcome.hottest);
    assert!(outcome.speed > 0.02 && outcome.standstill > 10.0, "{} {}", outcome.speed, outcome.standstill);
}

#[test]
fn a_power_budget_is_kept_and_used_where_heat_is_no_matter() {
    let board = Board { room: 15.0, sink_resistance: 2.0, ..NANO };
    for budget in [8.0, 12.0, 16.0] {
        let outcome = run(board, Policy::governor(Some(budget)), 15, 500, same);
        let later: Vec<f64> =
            outcome.moments.iter().filter(|at| at.seconds > 60.0).map(|at| at.watts).collect();
        let mean = later.iter().sum::<f64>() / later.len() as f64;
        let most = later.iter().copied().fold(0.0, f64::max);
        let budget = f64::from(budget);
        assert!(most < 1.02 * budget, "{budget} W: {most}");
        assert!(mean > 0.95 * budget, "{budget} W: {mean}");
        // What remains after the idle board and its leakage is work.
        let last = outcome.moments.last().expect("it ran");
        let work = (0.97 * budget - board.idle - board.leakage * (last.chip - 50.0).max(0.0)) / 15.0;
        assert!((last.speed - work).abs() < 0.03, "{budget} W: {} of {work}", last.speed);
    }
}

#[test]
fn heat_and_a_budget_together_keep_the_stricter() {
    // 16 W is more than this room takes away at 85 °C, 10 W less.
    let heat = run(NANO, governor(), 30, 500, same);
    let both = run(NANO, Policy::governor(Some(16.0)), 30, 500, same);
    assert!(both.hottest < 85.0, "{}", both.hottest);
    let end = |outcome: &Outcome| {
        let last = &outcome.moments[outcome.moments.len() - 600..];
        last.iter().map(|at| at.speed).sum::<f64>() / 600.0
    };
    assert!((end(&both) - end(&heat)).abs() < 0.02, "{} {}", end(&both), end(&heat));
    let small = run(NANO, Policy::governor(Some(10.0)), 30, 500, same);
    assert!(small.hottest < 79.0, "{}", small.hottest);
    assert!(end(&small) < end(&heat) - 0.1, "{} {}", end(&small), end(&heat));
}
