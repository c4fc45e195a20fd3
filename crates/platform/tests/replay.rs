//! Recorded heat played back to the governor: what it allows, line by line.

use std::fmt::Write;

use platform::governor::{Governor, Limits, Reason, Settings};
use platform::record::{Recorder, Replayer};
use platform::thermal::Zone;
use platform::{Readings, Sample};

type Temperature = fn(f32) -> Option<f32>;

/// Records zones for some seconds, twice a second, and plays that back through the JSON lines.
fn replay(seconds: u32, zones: &[(&str, Temperature)]) -> Vec<(f32, Limits)> {
    let mut recorder = Recorder::new(Vec::new());
    for half in 0..seconds * 2 {
        let at = half as f32 / 2.0;
        let zone = |(name, celsius): &(&str, Temperature)| Zone {
            name: (*name).to_owned(),
            celsius: celsius(at),
            throttle: Some(99.0),
            critical: Some(104.5),
        };
        let readings = Readings { zones: zones.iter().map(zone).collect(), ..Readings::default() };
        recorder.record(u64::from(half) * 500, &readings).expect("memory takes it");
    }
    let lines = recorder.finish().expect("memory takes it");
    let replayer = Replayer::read(&*lines).expect("what was just written");
    let throttle = replayer.frames()[0].readings.throttle();
    let mut governor = Governor::new(Settings { throttle, power_budget: None });
    let update = |frame: &platform::record::Frame| {
        let limits = governor.update(frame.at_ms, &Sample::from(&frame.readings), true);
        (frame.at_ms as f32 / 1000.0, limits)
    };
    replayer.frames().iter().map(update).collect()
}

/// The limits at every so many seconds.
fn told(limits: &[(f32, Limits)], every: usize) -> String {
    limits.iter().step_by(every * 2).fold(String::new(), |mut text, (at, limits)| {
        let _ = writeln!(text, "{at:3} s  {limits}");
        text
    })
}

fn at(limits: &[(f32, Limits)], second: u32) -> Limits {
    limits[second as usize * 2].1
}

/// Up by a degree a second from 70 °C, five seconds at 90 °C, and down again.
fn ramp(at: f32) -> f32 {
    match at {
        ..20.0 => 70.0 + at,
        20.0..25.0 => 90.0,
        _ => (115.0 - at).max(60.0),
    }
}

#[test]
fn a_ramp_past_80_and_past_the_limit() {
    let limits = replay(60, &[("tj-thermal", |at| Some(ramp(at)))]);
    assert_eq!(
        told(&limits, 2),
        "  0 s  full speed
  2 s  full speed
  4 s  full speed
  6 s  full speed
  8 s  78.0 °C: at 92 % of full speed
 10 s  80.0 °C: at 74 % of full speed
 12 s  82.0 °C: at 54 % of full speed
 14 s  84.0 °C: at 33 % of full speed
 16 s  86.0 °C: at 10 % of full speed
 18 s  88.0 °C: paused until it is 80 °C
 20 s  90.0 °C: paused until it is 80 °C
 22 s  90.0 °C: paused until it is 80 °C
 24 s  90.0 °C: paused until it is 80 °C
 26 s  89.0 °C: paused until it is 80 °C
 28 s  87.0 °C: paused until it is 80 °C
 30 s  85.0 °C: paused until it is 80 °C
 32 s  83.0 °C: paused until it is 80 °C
 34 s  81.0 °C: paused until it is 80 °C
 36 s  79.0 °C: at 15 % of full speed
 38 s  77.0 °C: at 25 % of full speed
 40 s  75.0 °C: at 35 % of full speed
 42 s  73.0 °C: at 45 % of full speed
 44 s  71.0 °C: at 55 % of full speed
 46 s  69.0 °C: at 65 % of full speed
 48 s  67.0 °C: at 75 % of full speed
 50 s  65.0 °C: at 85 % of full speed
 52 s  63.0 °C: at 95 % of full speed
 54 s  full speed
 56 s  full speed
 58 s  full speed
"
    );
}

#[test]
fn steady_84_degrees_slow_more_and_more_and_a_slope_slows_at_once() {
    let limits = replay(90, &[("cpu-thermal", |at| Some(if at < 10.0 { 75.0 } else { 84.0 }))]);
    assert_eq!(at(&limits, 9), Limits::FREE);
    let paces = [11, 30, 50, 80].map(|second| at(&limits, second).pace);
    assert!(paces[1..].windows(2).all(|pair| pair[1] < pair[0] - 0.05), "{paces:?}");
    assert!(paces[0] < paces[1] && paces.iter().all(|pace| (0.1..0.7).contains(pace)), "{paces:?}");
}

#[test]
fn minutes_just_below_the_target_are_not_saved_up() {
    let long: Temperature = |at| {
        Some(match at {
            ..5.0 => 80.5,
            5.0..205.0 => 78.0,
            _ => 84.5,
        })
    };
    let limits = replay(230, &[("tj-thermal", long)]);
    assert!(at(&limits, 200).pace > 0.99, "{}", told(&limits, 10));
    assert!(at(&limits, 220).pace < 0.6, "{}", told(&limits, 2));
}

#[test]
fn a_zone_that_fails_leaves_the_others_in_charge() {
    let failing: Temperature = |at| if at < 20.0 { Some(84.0) } else { None };
    let limits = replay(60, &[("gpu-thermal", failing), ("cpu-thermal", |_| Some(81.5))]);
    assert!(at(&limits, 19).pace < 0.9, "{}", told(&limits, 1));
    let after = at(&limits, 40);
    assert!(matches!(after.reason, Reason::Warm { celsius: 81.5 }), "{}", told(&limits, 1));
    assert!(after.pace > at(&limits, 19).pace, "{}", told(&limits, 1));
}

#[test]
fn all_sensors_gone_is_half_speed_and_an_end_of_it() {
    let limits =
        replay(60, &[("tj-thermal", |at| if (10.0..40.0).contains(&at) { None } else { Some(60.0) })]);
    // Silence shorter than five seconds changes nothing.
    assert_eq!(at(&limits, 14), Limits::FREE);
    assert_eq!(at(&limits, 16), Limits { pace: 0.5, reason: Reason::Blind });
    assert_eq!(at(&limits, 39), Limits { pace: 0.5, reason: Reason::Blind });
    assert_eq!(at(&limits, 59), Limits::FREE);
    // A full stop must not last for ever because nobody can say that it is cooler.
    let limits = replay(40, &[("tj-thermal", |at| if at < 10.0 { Some(90.0) } else { None })]);
    assert!(at(&limits, 9).pace == 0.0 && at(&limits, 13).pace == 0.0, "{}", told(&limits, 1));
    assert_eq!(at(&limits, 16), Limits { pace: 0.25, reason: Reason::Blind });
}

/// A chip that warms and cools by twenty degrees.
fn breathing(at: f32) -> f32 {
    60.0 + 10.0 * (at / 8.0).sin()
}

#[test]
fn a_sensor_stuck_high_does_not_slow_for_ever() {
    let stuck: Temperature = |at| Some(if at < 5.0 { 70.0 } else { 88.0 });
    let limits = replay(
        180,
        &[
            ("soc0-thermal", stuck),
            ("cpu-thermal", |at| Some(breathing(at))),
            ("gpu-thermal", |at| Some(breathing(at))),
        ],
    );
    assert!(at(&limits, 10).pace == 0.0, "{}", told(&limits, 5));
    assert!(at(&limits, 60).pace == 0.0, "{}", told(&limits, 5));
    assert_eq!(at(&limits, 120), Limits::FREE, "{}", told(&limits, 5));
    // Alone it is believed: nothing says that it is wrong.
    let limits = replay(180, &[("soc0-thermal", stuck)]);
    assert!(at(&limits, 179).pace == 0.0);
    // Beside others that do not move either, too.
    let limits = replay(180, &[("soc0-thermal", stuck), ("cpu-thermal", |_| Some(80.0))]);
    assert!(at(&limits, 179).pace == 0.0);
    // One that moves by a little is alive.
    let alive: Temperature = |at| Some(88.0 + (at % 3.0) / 10.0);
    let limits = replay(180, &[("soc0-thermal", alive), ("cpu-thermal", |at| Some(breathing(at)))]);
    assert!(at(&limits, 179).pace == 0.0);
}

#[test]
fn a_sensor_stuck_low_hides_nothing() {
    let limits = replay(60, &[("cpu-thermal", |_| Some(45.0)), ("tj-thermal", |at| Some(ramp(at)))]);
    assert_eq!(limits, replay(60, &[("tj-thermal", |at| Some(ramp(at)))]));
}

#[test]
fn missing_zones_and_those_of_other_things_limit_nothing() {
    for zones in [&[][..], &[("cv0-thermal", (|_| None) as Temperature)], &[("x86_pkg_temp", |_| Some(99.0))]]
    {
        let limits = replay(30, zones);
        assert!(limits.iter().all(|(_, limits)| *limits == Limits::FREE));
    }
}

#[test]
fn one_wild_reading_is_not_believed() {
    let wild: Temperature = |at| Some(if (at - 10.0).abs() < 0.1 { 127.0 } else { 60.0 });
    let limits = replay(30, &[("gpu-thermal", wild)]);
    assert!(limits.iter().all(|(_, limits)| *limits == Limits::FREE), "{}", told(&limits, 1));
    // Two in a row are.
    let hot: Temperature = |at| Some(if at < 10.0 { 60.0 } else { 95.0 });
    let limits = replay(30, &[("gpu-thermal", hot)]);
    assert_eq!(limits[20].1, Limits::FREE);
    assert!(limits[21].1.pace == 0.0);
}

#[test]
fn a_board_that_throttles_early_is_stopped_earlier() {
    use platform::governor::thermal;
    let settings = thermal::Settings::for_board(Some(85.0));
    assert_eq!((settings.hard, settings.backoff, settings.release), (82.0, 75.0, 71.0));
    let usual = thermal::Settings::for_board(Some(99.0));
    assert_eq!((usual.hard, usual.backoff, usual.target, usual.release), (87.0, 80.0, 83.5, 76.0));
    // A fan's trip point is none of it.
    assert_eq!(thermal::Settings::for_board(Some(51.0)), usual);
    assert_eq!(thermal::Settings::for_board(None), usual);
}

#[test]
fn time_that_stands_still_or_jumps_is_survived() {
    let mut governor = Governor::new(Settings::default());
    let mut sample = Sample::default();
    sample.zones[0] = Some(84.0);
    let first = governor.update(1000, &sample, true);
    sample.zones[0] = Some(120.0);
    assert_eq!(governor.update(1000, &sample, true), first);
    assert_eq!(governor.update(0, &sample, true), first);
    // An hour later it is believed at once: nothing is known of the time between.
    assert!(governor.update(3_600_000, &sample, true).pace == 0.0);
    sample.zones[0] = Some(f32::NAN);
    let limits = governor.update(3_600_500, &sample, true);
    assert!(limits.pace.is_finite());
}

/// What goes wrong with sensors, one fault after the other, as it is told every five seconds.
#[test]
fn faults_of_sensors_as_they_are_told() {
    let fails: Temperature = |at| (at < 15.0).then_some(84.0);
    let failing = replay(50, &[("gpu-thermal", fails), ("cpu-thermal", |_| Some(81.5))]);
    assert_eq!(
        told(&failing, 5),
        "  0 s  84.0 °C: at 60 % of full speed
  5 s  84.0 °C: at 55 % of full speed
 10 s  84.0 °C: at 50 % of full speed
 15 s  81.5 °C: at 48 % of full speed
 20 s  81.5 °C: at 73 % of full speed
 25 s  81.5 °C: at 81 % of full speed
 30 s  81.5 °C: at 86 % of full speed
 35 s  81.5 °C: at 91 % of full speed
 40 s  81.5 °C: at 96 % of full speed
 45 s  81.5 °C: at 100 % of full speed
"
    );
    let silent: Temperature = |at| (!(10.0..30.0).contains(&at)).then_some(81.0);
    assert_eq!(
        told(&replay(50, &[("tj-thermal", silent)]), 5),
        "  0 s  81.0 °C: at 90 % of full speed
  5 s  81.0 °C: at 96 % of full speed
 10 s  81.0 °C: at 100 % of full speed
 15 s  no sensor answers: at 50 % of full speed
 20 s  no sensor answers: at 50 % of full speed
 25 s  no sensor answers: at 50 % of full speed
 30 s  81.0 °C: at 60 % of full speed
 35 s  81.0 °C: at 84 % of full speed
 40 s  81.0 °C: at 90 % of full speed
 45 s  81.0 °C: at 96 % of full speed
"
    );
    let stuck: Temperature = |at| Some(if at < 5.0 { 70.0 } else { 84.0 });
    let zones: [(&str, Temperature); 2] =
        [("soc0-thermal", stuck), ("cpu-thermal", |at| Some(breathing(at)))];
    assert_eq!(
        told(&replay(160, &zones), 20),
        "  0 s  full speed
 20 s  84.0 °C: at 40 % of full speed
 40 s  84.0 °C: at 24 % of full speed
 60 s  84.0 °C: at 10 % of full speed
 80 s  54.6 °C: at 87 % of full speed
100 s  full speed
120 s  full speed
140 s  full speed
"
    );
    assert_eq!(
        told(&replay(20, &[]), 5),
        "  0 s  full speed
  5 s  full speed
 10 s  full speed
 15 s  full speed
"
    );
}
