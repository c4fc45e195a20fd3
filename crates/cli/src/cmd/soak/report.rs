//! The report: for people, for programs, in files.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use gguf::AtomicFile;
use platform::Readings;
use serde_json::{Value, json};

use super::graphs;
use super::judge::Status;
use super::phases::Phase;
use super::watch::Sample;
use crate::screen::printable;

/// What does not change while it runs.
pub(super) struct About {
    pub(super) model: String,
    pub(super) device: String,
    pub(super) threads: Option<usize>,
    pub(super) context: usize,
    pub(super) kv: &'static str,
    pub(super) asked: Duration,
    /// Of the machine, at the beginning.
    pub(super) readings: Readings,
}

/// Everything that is reported.
pub(super) struct Report<'a> {
    pub(super) about: &'a About,
    pub(super) phases: &'a [Phase],
    pub(super) samples: &'a [Sample],
    /// Seconds it ran.
    pub(super) ran: f64,
    pub(super) interrupted: bool,
    /// What ended it early.
    pub(super) error: Option<&'a str>,
}

impl Report<'_> {
    /// Phases that failed.
    pub(super) fn failed(&self) -> usize {
        self.phases.iter().filter(|phase| phase.status() == Status::Fail).count()
            + usize::from(self.error.is_some())
    }

    /// Writes all files into `folder`, each whole or not at all.
    pub(super) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let pictures = graphs::all(self.samples, self.phases);
        for picture in &pictures {
            file(&folder.join(picture.file), &picture.svg)?;
        }
        let mut json = serde_json::to_string_pretty(&self.json())?;
        json.push('\n');
        file(&folder.join("report.json"), &json)?;
        file(&folder.join("report.md"), &self.markdown(&pictures))
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let about = self.about;
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "status": if self.failed() > 0 { "fail" } else { "pass" },
            "interrupted": self.interrupted,
            "error": self.error,
            "model": about.model,
            "device": about.device,
            "threads": about.threads,
            "context": about.context,
            "kv": about.kv,
            "board": about.readings.board.model,
            "power_mode": about.readings.power_mode.current().map(|mode| &mode.name),
            "asked_seconds": about.asked.as_secs_f64(),
            "ran_seconds": self.ran,
            "phases": self.phases.iter().map(phase_json).collect::<Vec<_>>(),
            "samples": {
                "columns": COLUMNS,
                "rows": self.samples.iter().map(row).collect::<Vec<_>>(),
            },
        })
    }

    /// A line for each phase, and for each of its checks that is not simply good.
    pub(super) fn lines(&self) -> String {
        let mut text = String::new();
        for phase in self.phases {
            let _ = writeln!(text, "{:<5} {:<8} {}", phase.status().word(), phase.name, phase.what);
            for check in &phase.checks {
                let mark = if check.status == Status::Pass { ' ' } else { '!' };
                let _ = writeln!(text, "  {mark} {}: {}", check.criterion, printable(&check.found));
            }
        }
        if let Some(error) = self.error {
            let _ = writeln!(text, "FAIL  it ended early: {}", printable(error));
        }
        text
    }

    fn markdown(&self, pictures: &[graphs::Picture]) -> String {
        let about = self.about;
        let mut text = String::from("# Soak test\n\n");
        let mut line = |words: &str| {
            text.push_str(words);
            text.push('\n');
        };
        let result = match (self.failed(), self.interrupted) {
            (0, false) => "passed".to_owned(),
            (0, true) => "interrupted; passed as far as it went".to_owned(),
            (failed, _) => format!("**failed**: {failed} of {} phases", self.phases.len()),
        };
        line(&format!("- result: {result}"));
        line(&format!("- model: {}", printable(&about.model)));
        line(&format!("- device: {}", printable(&about.device)));
        if let Some(threads) = about.threads {
            line(&format!("- threads: {threads}"));
        }
        if let Some(board) = &about.readings.board.model {
            line(&format!("- board: {}", printable(board)));
        }
        line(&format!("- context: {} positions, cache {}", about.context, about.kv));
        line(&format!("- time: {:.0} s of {:.0} s asked for", self.ran, about.asked.as_secs_f64()));
        line(&format!("- program: jetson-llm {}", env!("CARGO_PKG_VERSION")));
        if let Some(error) = self.error {
            line(&format!("- it ended early: {}", printable(error)));
        }
        for phase in self.phases {
            let seconds = phase.ended - phase.began;
            let (word, name) = (phase.status().word(), phase.name);
            line(&format!(
                "\n## {word} · {name}: {}\n\n{seconds:.1} s, {} tokens.\n",
                phase.what, phase.tokens
            ));
            line("| | what must hold | found |\n| --- | --- | --- |");
            for check in &phase.checks {
                let cell = |words: &str| printable(words).replace('|', "\\|");
                let (criterion, found) = (cell(&check.criterion), cell(&check.found));
                line(&format!("| {} | {criterion} | {found} |", check.status.word()));
            }
        }
        line("\n## Over time\n");
        for picture in pictures {
            line(&format!("![{}]({})\n", picture.what, picture.file));
        }
        text
    }
}

const COLUMNS: [&str; 9] = [
    "seconds",
    "phase",
    "tokens",
    "resident_bytes",
    "available_bytes",
    "celsius",
    "watts",
    "gpu_hz",
    "core_hz",
];

fn row(sample: &Sample) -> Value {
    json!([
        sample.at,
        sample.phase,
        sample.tokens,
        sample.resident,
        sample.available,
        sample.celsius,
        sample.watts,
        sample.gpu_hz,
        sample.core_hz,
    ])
}

fn phase_json(phase: &Phase) -> Value {
    let check = |check: &super::judge::Check| json!({ "criterion": check.criterion, "status": check.status.name(), "found": check.found });
    json!({
        "name": phase.name,
        "number": phase.number,
        "what": phase.what,
        "status": phase.status().name(),
        "began_seconds": phase.began,
        "ended_seconds": phase.ended,
        "tokens": phase.tokens,
        "facts": phase.facts,
        "checks": phase.checks.iter().map(check).collect::<Vec<_>>(),
    })
}

fn file(path: &Path, text: &str) -> anyhow::Result<()> {
    let write = || {
        let mut file = AtomicFile::create(path, text.len() as u64)?;
        file.write_all(text.as_bytes())?;
        file.commit()
    };
    write().map_err(|error: std::io::Error| {
        let name = path.to_string_lossy();
        anyhow::anyhow!("cannot write {}: {error}; give another --out", printable(&name))
    })
}
