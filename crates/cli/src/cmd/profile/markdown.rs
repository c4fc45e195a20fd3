//! The report for people.

use std::fmt::Write as _;

use super::report::{Profile, Row, micros, si};
use super::roof::Roof;
use super::{About, power};
use crate::screen::{printable, size};

/// The whole report.
pub(super) fn report(about: &About, profiles: &[Profile], layers: bool) -> String {
    let mut text = String::new();
    let mut line = |words: &str| {
        text.push_str(words);
        text.push('\n');
    };
    line(&format!("# Profile of {}", printable(&about.model)));
    line("");
    line(&format!("- file: {}", printable(&about.file)));
    line(&format!("- device: {}", printable(&about.device)));
    if let Some(threads) = about.threads {
        line(&format!("- threads: {threads}"));
    }
    let memory = &about.memory;
    line(&format!(
        "- memory: weights {}, cache {}, buffers {}",
        size(memory.weights),
        size(memory.kv),
        size(memory.buffers)
    ));
    let Roof { best, median, bytes } = about.roof;
    line(&format!(
        "- memory can be read at {}B/s (measured now: {} a pass, the fastest; the median pass {}B/s)",
        si(best),
        size(bytes as u64),
        si(median)
    ));
    line(&format!("- power: {}", about.power.unwrap_or("no sensor")));
    line(&format!("- {}", about.tracing()));
    line("- bytes are weights as the device holds them, and cache; activations are not counted");
    for profile in profiles {
        text.push_str(&section(profile, &about.roof, layers));
    }
    text
}

fn section(profile: &Profile, roof: &Roof, layers: bool) -> String {
    let unit = profile.unit();
    let mut text = format!(
        "\n## {}: {} a {unit}, {:.2} tokens/s\n\n",
        profile.test.name(),
        micros(profile.untraced),
        profile.tokens_per_second()
    );
    let facts = [
        (format!("a {unit}, untraced"), micros(profile.untraced)),
        (format!("a {unit}, traced"), micros(profile.traced)),
        ("sum of its operations".to_owned(), micros(profile.parts())),
        (runs(profile).to_owned(), format!("{:.0}", profile.launches())),
        ("bytes to move".to_owned(), size(profile.bytes() as u64)),
        ("of what memory gives, untraced".to_owned(), percent(profile.share(roof))),
    ];
    let facts = facts.into_iter().map(|(name, value)| vec![name, value]).collect();
    text.push_str(&table(&["", "value"], facts, 1));
    let _ = writeln!(text, "\n{}.", profile.gap());
    if let Some(energy) = profile.energy {
        let _ = writeln!(
            text,
            "\n{:.2} tokens a joule: {:.1} W on average over {:.1} s untraced (at least {} s are measured).",
            energy.tokens_per_joule(),
            energy.watts(),
            energy.seconds,
            power::LEAST.as_secs()
        );
    }
    text.push('\n');
    text.push_str(&operations("operation", profile, &profile.kinds, roof));
    text.push_str("\nWhat takes longest:\n\n");
    for (i, words) in profile.bottlenecks(roof).iter().enumerate() {
        let _ = writeln!(text, "{}. {words}", i + 1);
    }
    if layers {
        text.push('\n');
        text.push_str(&operations("layer", profile, &profile.layers, roof));
    }
    text
}

/// Rows with everything known of them.
fn operations(what: &str, profile: &Profile, rows: &[Row], roof: &Roof) -> String {
    let cells = |row: &Row| {
        let moved = row.work.bytes >= 1.0;
        let or_none = |cell: String, there: bool| if there { cell } else { "-".to_owned() };
        vec![
            row.name.clone(),
            micros(row.seconds),
            percent(profile.part(row)),
            format!("{:.0}", row.launches),
            or_none(size(row.work.bytes as u64), moved),
            or_none(format!("{}B/s", si(row.rate())), moved),
            or_none(percent(row.share(roof)), moved),
            or_none(format!("{}op/s", si(row.operations())), row.work.operations >= 1.0),
        ]
    };
    let heads = [what, "time", "share", runs(profile), "bytes", "rate", "of roof", "arithmetic"];
    table(&heads, rows.iter().map(cells).collect(), 1)
}

/// What runs of operations are called, several of them.
fn runs(profile: &Profile) -> &'static str {
    if profile.run == "launch" { "launches" } else { "runs" }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// A table whose columns are aligned in the source too; the first `left` to the left.
fn table(heads: &[&str], rows: Vec<Vec<String>>, left: usize) -> String {
    let mut all = vec![heads.iter().map(|&head| head.to_owned()).collect::<Vec<_>>()];
    all.extend(rows);
    let widest = |col: usize| all.iter().map(|row| row[col].chars().count()).max().unwrap_or(0).max(2);
    let widths: Vec<usize> = (0..heads.len()).map(widest).collect();
    let mut text = String::new();
    for (i, row) in all.iter().enumerate() {
        for (col, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            let _ = if col < left {
                write!(text, "| {cell:<width$} ")
            } else {
                write!(text, "| {cell:>width$} ")
            };
        }
        text.push_str("|\n");
        if i == 0 {
            for (col, &width) in widths.iter().enumerate() {
                let dashes = "-".repeat(width - 1);
                let _ = if col < left { write!(text, "| {dashes}- ") } else { write!(text, "| {dashes}: ") };
            }
            text.push_str("|\n");
        }
    }
    text
}
