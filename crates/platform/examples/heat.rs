//! What governing is worth: the simulated board of the tests, half an hour, four who set the pace.
//!
//! `cargo run -p platform --example heat` writes `bench/results/heat.md` and `heat.svg`.
#![allow(missing_docs)]

#[path = "../tests/simulation/mod.rs"]
mod simulation;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use simulation::{Board, Moment, NANO, Outcome, Policy, run, same};

const MINUTES: u32 = 30;
/// The room of the picture, °C.
const PICTURED: f64 = 35.0;
const NAMES: [&str; 4] = ["nobody", "on/off", "governor", "knowing"];
const WORDS: [&str; 4] = [
    "the board's own trip point: half the clock from 99 °C until 96 °C",
    "stop at 84 °C, go at 75 °C",
    "this program",
    "one who knows every heat store and holds 85.0 °C: the bound",
];

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bench/results");
    fs::write(folder.join("heat.md"), report())?;
    fs::write(folder.join("heat.svg"), picture(&outcomes(PICTURED)))
}

fn outcomes(room: f64) -> [Outcome; 4] {
    let board = Board { room, ..NANO };
    let policies = [Policy::Nobody, Policy::OnOff, Policy::governor(None), Policy::Knowing(85.0)];
    policies.map(|policy| run(board, policy, MINUTES, 500, same))
}

fn report() -> String {
    let mut text = format!(
        "# Heat: what governing is worth\n\nMade by `cargo run -p platform --example heat`; a simulation, no \
         board. A chip and a heat sink between a heater and a room ({} W idle, {} W at full speed, {} and {} \
         J/K, {} and {} K/W), a sensor of a quarter of a degree with noise read twice a second, {MINUTES} \
         minutes from cool. Speed is the mean share of full speed; jolts are changes of speed by more than a \
         tenth. Who sets the pace:\n\n",
        NANO.idle, NANO.full, NANO.chip_store, NANO.sink_store, NANO.chip_resistance, NANO.sink_resistance
    );
    for (name, words) in NAMES.iter().zip(WORDS) {
        let _ = writeln!(text, "- {name}: {words}");
    }
    text.push_str(
        "\n| room | who | hottest | speed | of the bound | longest standstill | jolts |\n\
         | ---: | --- | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for room in [25.0, 30.0, 35.0, 45.0, 55.0] {
        let all = outcomes(room);
        let bound = all[3].speed;
        for (name, outcome) in NAMES.iter().zip(&all) {
            let Outcome { hottest, speed, standstill, jolts, .. } = outcome;
            let _ = writeln!(
                text,
                "| {room} °C | {name} | {hottest:.1} °C | {:.1} % | {:.0} % | {standstill:.0} s | {jolts} |",
                speed * 100.0,
                speed / bound * 100.0
            );
        }
    }
    text.push_str(
        "\nFaster than the bound is only the board that is left to itself, by working at 96 to 99 °C all the \
         time, in jolts of half its clock; in the warmest room that does not hold it either, and at 104.5 °C it \
         would switch itself off. Of those who stay below 85 °C the governor is within 2.5 to 3 points of the \
         bound, without ever standing still.\n\n\
         # Power: what a budget costs\n\nThe same board in a cool room (15 °C, 2 K/W), a budget kept by \
         pacing; work per joule is the share of full speed times seconds, over joules, times 20 W (1 is a \
         board that draws 20 W at full speed).\n\n| budget | mean after a minute | most after a minute | speed | \
         work per joule |\n| ---: | ---: | ---: | ---: | ---: |\n",
    );
    let board = Board { room: 15.0, sink_resistance: 2.0, ..NANO };
    for budget in [None, Some(16.0), Some(12.0), Some(8.0)] {
        let outcome = run(board, Policy::governor(budget), MINUTES, 500, same);
        let later = || outcome.moments.iter().filter(|at| at.seconds > 60.0).map(|at| at.watts);
        let mean = later().sum::<f64>() / later().count() as f64;
        let most = later().fold(0.0, f64::max);
        let seconds = f64::from(MINUTES) * 60.0;
        let name = budget.map_or("none".to_owned(), |watts| format!("{watts} W"));
        let _ = writeln!(
            text,
            "| {name} | {mean:.2} W | {most:.2} W | {:.1} % | {:.2} |",
            outcome.speed * 100.0,
            outcome.speed * seconds / outcome.joules * NANO.full
        );
    }
    text.push_str(
        "\nPacing saves power, not energy: what the board draws idle is spread over fewer tokens. A lower power \
         mode, which lowers clocks and voltage, does both; a budget is for supplies that would give way.\n",
    );
    text
}

const STYLE: &str = "\
svg { color-scheme: light dark; background: #ffffff; font: 13px system-ui, sans-serif }\n\
text { fill: #1f2328 } .soft { fill: #59636e } .rule { stroke: #59636e; stroke-opacity: .3 }\n\
.title { font-size: 17px; font-weight: 600 } path { fill: none; stroke-width: 1.6 }\n\
@media (prefers-color-scheme: dark) { svg { background: #0d1117 } text { fill: #e6edf3 }\n\
.soft { fill: #9198a1 } .rule { stroke: #9198a1 } }";
const COLOURS: [&str; 4] = ["#e8743b", "#9d8df1", "#2fb58d", "#9a9a9a"];
const WIDTH: f64 = 920.0;
const LEFT: f64 = 56.0;
const HIGH: f64 = 220.0;

/// Temperatures above, paces below.
fn picture(all: &[Outcome; 4]) -> String {
    let mut body = format!(
        "<text x=\"{LEFT}\" y=\"30\" class=\"title\">A simulated board in a room of {PICTURED} °C</text>\n"
    );
    for (at, ((name, words), colour)) in NAMES.iter().zip(WORDS).zip(COLOURS).enumerate() {
        let y = 54.0 + at as f64 * 18.0;
        let _ = writeln!(
            body,
            "<rect x=\"{LEFT}\" y=\"{:.0}\" width=\"14\" height=\"4\" fill=\"{colour}\"/><text x=\"{:.0}\" \
             y=\"{y:.0}\">{name}: {words}; {:.1} % of full speed</text>",
            y - 7.0,
            LEFT + 22.0,
            all[at].speed * 100.0
        );
    }
    plot(&mut body, 140.0, "°C", (40.0, 100.0, 10.0), all, |at| at.chip);
    plot(&mut body, 140.0 + HIGH + 46.0, "%", (0.0, 100.0, 20.0), all, |at| at.speed * 100.0);
    let height = 140.0 + 2.0 * HIGH + 46.0 + 44.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\" aria-label=\"temperature and pace over half an hour\">\n\
         <style>{STYLE}</style>\n{body}</svg>\n"
    )
}

/// One diagram with its top at `top`; `scale` is the least and most of its axis and the distance of rules.
fn plot(
    body: &mut String,
    top: f64,
    unit: &str,
    scale: (f64, f64, f64),
    all: &[Outcome; 4],
    of: impl Fn(&Moment) -> f64,
) {
    let (least, most, rule) = scale;
    let across = |seconds: f64| LEFT + seconds / (f64::from(MINUTES) * 60.0) * (WIDTH - LEFT - 24.0);
    let down = |value: f64| top + HIGH * (most - value.clamp(least, most)) / (most - least);
    let mut value = least;
    while value <= most {
        let y = down(value);
        let _ = writeln!(
            body,
            "<line x1=\"{LEFT}\" x2=\"{:.0}\" y1=\"{y:.1}\" y2=\"{y:.1}\" class=\"rule\"/><text x=\"{:.0}\" \
             y=\"{:.1}\" text-anchor=\"end\" class=\"soft\">{value} {unit}</text>",
            WIDTH - 24.0,
            LEFT - 6.0,
            y + 4.0
        );
        value += rule;
    }
    for minute in (0..=MINUTES).step_by(5) {
        let _ = writeln!(
            body,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" class=\"soft\">{minute} min</text>",
            across(f64::from(minute) * 60.0),
            top + HIGH + 18.0
        );
    }
    for (outcome, colour) in all.iter().zip(COLOURS) {
        // A point each three seconds: no line is wider than what happens in between.
        let points = outcome.moments.iter().step_by(6);
        let path = points.enumerate().fold(String::new(), |mut path, (at, moment)| {
            let _ = write!(
                path,
                "{}{:.1} {:.1}",
                if at == 0 { "M" } else { "L" },
                across(moment.seconds),
                down(of(moment))
            );
            path
        });
        let _ = writeln!(body, "<path d=\"{path}\" stroke=\"{colour}\"/>");
    }
}
