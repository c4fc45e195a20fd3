//! Results for people: a Markdown table with llama-bench's columns.

use std::io::{self, Write};
use std::time::SystemTime;

use super::{About, Measured, deviation, mean};
use crate::screen::{count, printable, size};

/// Prints the table, and traces below it.
pub(super) fn print(about: &About, results: &[Measured]) -> anyhow::Result<()> {
    let with_peer = results.iter().any(|measured| measured.peer.is_some());
    let with_energy = results.iter().any(|measured| measured.joules.is_some());
    let mut rows = vec![heading(with_peer, with_energy)];
    rows.extend(results.iter().map(|measured| row(about, measured, with_energy)));
    let widths: Vec<usize> = (0..rows[0].len())
        .map(|col| rows.iter().map(|row| row[col].chars().count()).max().unwrap_or(0))
        .collect();
    let mut out = io::stdout().lock();
    for (i, row) in rows.iter().enumerate() {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:>width$}")).collect();
        writeln!(out, "| {} |", cells.join(" | "))?;
        if i == 0 {
            let rule: Vec<String> =
                widths.iter().map(|&width| format!("{}:", "-".repeat(width - 1))).collect();
            writeln!(out, "| {} |", rule.join(" | "))?;
        }
    }
    for measured in results {
        let Some(lines) = &measured.trace else { continue };
        let total: u64 = lines.iter().map(|line| line.nanos).sum();
        writeln!(out, "\n{}", measured.test.name())?;
        for line in lines {
            let share = 100.0 * line.nanos as f64 / total.max(1) as f64;
            let each = line.nanos as f64 / 1e3 / line.runs.max(1) as f64;
            writeln!(
                out,
                "  {:<20} {share:5.1} %  {:10.2} ms  {:8} runs of {each:.1} µs",
                line.kind,
                line.nanos as f64 / 1e6,
                line.runs
            )?;
        }
    }
    Ok(())
}

fn heading(with_peer: bool, with_energy: bool) -> Vec<String> {
    let mut cells = vec!["model", "size", "params", "backend", "threads", "test", "t/s"];
    if with_peer {
        cells.extend(["peer t/s", "ratio"]);
    }
    if with_energy {
        cells.extend(["mode", "tokens/J"]);
    }
    cells.into_iter().map(str::to_owned).collect()
}

fn row(about: &About, measured: &Measured, with_energy: bool) -> Vec<String> {
    let rates = |rates: &[f64]| format!("{:.2} ± {:.2}", mean(rates), deviation(rates));
    let mut cells = vec![
        printable(&about.model),
        size(about.bytes),
        count(about.parameters),
        about.backend.clone(),
        about.threads.to_string(),
        measured.test.name(),
        rates(&measured.rates()),
    ];
    if let (Some(peer), Some(ratio)) = (&measured.peer, measured.ratio()) {
        cells.push(rates(&peer.rates(measured.test)));
        cells.push(format!("{ratio:.2}"));
    }
    if with_energy {
        cells.push(about.mode.as_deref().map_or_else(String::new, printable));
        cells.push(measured.tokens_per_joule().map_or_else(String::new, |rate| format!("{rate:.3}")));
    }
    cells
}

/// A moment as `2026-11-22T11:58:04Z`.
pub(super) fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days to a date by Howard Hinnant's civil_from_days: years begin in March, eras have 400 years.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::utc;
    use std::time::{Duration, SystemTime};

    #[test]
    fn moments_have_their_dates() {
        let at = |seconds| utc(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_795_348_684), "2026-11-22T11:58:04Z");
    }
}
