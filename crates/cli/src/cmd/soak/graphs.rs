//! What was watched, as pictures: lines over time, the phases behind them.

use std::fmt::Write as _;

use super::phases::Phase;
use super::watch::Sample;
use crate::svg::{colour, document, escaped, text};

const WIDTH: f64 = 920.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 24.0;
/// Of one panel's field.
const HIGH: f64 = 190.0;
/// Of a panel with its head and its foot.
const PANEL: f64 = HIGH + 84.0;

/// A line: its name and its points, seconds and values.
struct Line {
    name: &'static str,
    points: Vec<(f64, f64)>,
}

/// A field with lines.
struct Panel {
    title: &'static str,
    unit: &'static str,
    lines: Vec<Line>,
    /// What is said where there is nothing to draw.
    absent: &'static str,
}

/// A picture and the name of its file.
pub(super) struct Picture {
    pub(super) file: &'static str,
    pub(super) what: &'static str,
    pub(super) svg: String,
}

/// All pictures.
pub(super) fn all(samples: &[Sample], phases: &[Phase]) -> Vec<Picture> {
    let line = |name, of: &dyn Fn(&Sample) -> Option<f64>| Line {
        name,
        points: samples.iter().filter_map(|sample| Some((sample.at, of(sample)?))).collect(),
    };
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let mhz = |hz: u64| hz as f64 / 1e6;
    let panel = |title, unit, lines, absent| Panel { title, unit, lines, absent };
    let pictures = [
        (
            "memory.svg",
            "memory",
            vec![
                panel(
                    "memory of the process",
                    "MiB",
                    vec![line("resident", &|sample| Some(mib(sample.resident)))],
                    "the system does not say",
                ),
                panel(
                    "memory that could be taken",
                    "MiB",
                    vec![line("available", &|sample| sample.available.map(mib))],
                    "the system does not say",
                ),
            ],
        ),
        (
            "temperature.svg",
            "temperature",
            vec![panel(
                "the chip's hottest zone",
                "°C",
                vec![line("hottest", &|sample| sample.celsius.map(f64::from))],
                "no zone of a chip is known here",
            )],
        ),
        (
            "power.svg",
            "power",
            vec![panel(
                "power",
                "W",
                vec![line("power", &|sample| sample.watts.map(f64::from))],
                "nothing here measures power",
            )],
        ),
        (
            "speed.svg",
            "speed",
            vec![panel(
                "tokens chosen a second, reading prompts included",
                "tok/s",
                vec![Line { name: "speed", points: speed(samples) }],
                "no token was chosen",
            )],
        ),
        (
            "clocks.svg",
            "clocks",
            vec![panel(
                "clocks",
                "MHz",
                vec![
                    line("GPU", &|sample| sample.gpu_hz.map(mhz)),
                    line("fastest core", &|sample| sample.core_hz.map(mhz)),
                ],
                "the system does not say",
            )],
        ),
    ];
    let draw =
        |(file, what, panels): (_, _, Vec<Panel>)| Picture { file, what, svg: draw(what, &panels, phases) };
    pictures.into_iter().map(draw).collect()
}

/// Tokens a second between samples, of phases that are measured in this process.
fn speed(samples: &[Sample]) -> Vec<(f64, f64)> {
    let between = |two: &[Sample]| {
        let (seconds, tokens) = (two[1].at - two[0].at, two[1].tokens - two[0].tokens);
        (seconds > 0.0).then(|| (two[1].at, tokens as f64 / seconds))
    };
    samples.windows(2).filter_map(between).collect()
}

fn draw(what: &str, panels: &[Panel], phases: &[Phase]) -> String {
    let mut body = String::new();
    let end = phases.last().map_or(1.0, |phase| phase.ended).max(1e-3);
    for (i, panel) in panels.iter().enumerate() {
        field(&mut body, PANEL * i as f64, panel, phases, end);
    }
    document(WIDTH, PANEL * panels.len() as f64, &format!("{what} over time"), &body)
}

fn field(body: &mut String, top: f64, panel: &Panel, phases: &[Phase], end: f64) {
    let (high, low) = (top + 44.0, top + 44.0 + HIGH);
    let wide = WIDTH - LEFT - RIGHT;
    let x = |at: f64| LEFT + (at / end).clamp(0.0, 1.0) * wide;
    text(body, LEFT, top + 20.0, "head", &format!("{}, {}", panel.title, panel.unit));
    for (i, phase) in phases.iter().enumerate() {
        let (from, to) = (x(phase.began), x(phase.ended));
        if i % 2 == 0 {
            let _ = writeln!(
                body,
                "<rect class=\"back\" x=\"{from:.1}\" y=\"{high:.1}\" width=\"{:.1}\" height=\"{HIGH}\"/>",
                (to - from).max(0.0)
            );
        }
        // What fits: about seven units a letter.
        if to - from > 7.5 * phase.name.len() as f64 {
            text(body, from + 4.0, high - 6.0, "soft", phase.name);
        }
    }
    let values = || panel.lines.iter().flat_map(|line| &line.points).map(|point| point.1);
    let least = values().min_by(f64::total_cmp);
    let Some((least, most)) = least.zip(values().max_by(f64::total_cmp)) else {
        text(body, LEFT + 12.0, high + HIGH / 2.0, "soft", panel.absent);
        return;
    };
    let (bottom, step, ticks) = scale(least, most);
    let y = |value: f64| low - (value - bottom) / (step * ticks as f64) * HIGH;
    for tick in 0..=ticks {
        let value = bottom + step * tick as f64;
        let at = y(value);
        let _ = writeln!(
            body,
            "<line class=\"rule\" x1=\"{LEFT:.1}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\" opacity=\".3\"/>",
            LEFT + wide
        );
        text(body, 12.0, at + 4.0, "soft", &short(value, step));
    }
    for tick in 0..=4 {
        let at = end * f64::from(tick) / 4.0;
        text(body, x(at) - if tick == 4 { 40.0 } else { 0.0 }, low + 18.0, "soft", &time(at, end));
    }
    for (i, line) in panel.lines.iter().enumerate().filter(|(_, line)| !line.points.is_empty()) {
        let mut path = String::new();
        for (at, value) in &line.points {
            let _ = write!(path, "{:.1},{:.1} ", x(*at), y(*value));
        }
        let _ = writeln!(
            body,
            "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\" points=\"{}\"><title>{}</title></polyline>",
            colour(i),
            path.trim_end(),
            escaped(line.name)
        );
        if panel.lines.len() > 1 {
            let from = LEFT + wide - 220.0 + 110.0 * i as f64;
            let _ = writeln!(
                body,
                "<rect x=\"{from:.1}\" y=\"{:.1}\" width=\"12\" height=\"12\" fill=\"{}\"/>",
                top + 10.0,
                colour(i)
            );
            text(body, from + 17.0, top + 20.0, "", line.name);
        }
    }
}

/// A round value not above the least, the round step of a tick and how many steps reach the most.
fn scale(least: f64, most: f64) -> (f64, f64, usize) {
    // Noise of a thousandth is no mountain.
    let span = (most - least).max(most.abs() * 0.01).max(1e-9);
    let rough = span / 4.0;
    let decade = 10f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].into_iter().map(|unit| unit * decade).find(|&step| step >= rough * 0.999);
    let step = step.unwrap_or(10.0 * decade);
    let bottom = (least / step).floor() * step;
    let ticks = ((most - bottom) / step).ceil().max(1.0);
    (bottom, step, ticks as usize)
}

/// A value with the digits that its step has.
fn short(value: f64, step: f64) -> String {
    let digits = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{value:.digits$}")
}

/// A time in the unit of the whole.
fn time(at: f64, end: f64) -> String {
    match end {
        ..180.0 => format!("{at:.0} s"),
        180.0..10_800.0 => format!("{:.1} min", at / 60.0),
        _ => format!("{:.1} h", at / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::{scale, short, time};

    #[test]
    fn scales_are_round_and_hold_every_value() {
        assert_eq!(scale(0.0, 100.0), (0.0, 50.0, 2));
        assert_eq!(scale(21.3, 24.9), (21.0, 1.0, 4));
        for (least, most) in [(5.0, 5.0), (0.0, 0.0), (-3.0, 7.0), (1e9, 1e9 + 1.0), (0.1, 0.2)] {
            let (bottom, step, ticks) = scale(least, most);
            assert!(bottom <= least && bottom + step * ticks as f64 >= most * 0.999_999, "{least} {most}");
            assert!((1..=12).contains(&ticks), "{least} {most}: {ticks}");
        }
    }

    #[test]
    fn words_are_short() {
        assert_eq!((short(0.25, 0.05), short(1200.0, 200.0)), ("0.25".to_owned(), "1200".to_owned()));
        assert_eq!((time(30.0, 60.0), time(90.0, 600.0)), ("30 s".to_owned(), "1.5 min".to_owned()));
    }
}
