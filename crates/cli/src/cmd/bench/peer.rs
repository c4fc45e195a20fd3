//! Another program's llama-bench, one run at a time.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::Test;
use crate::failure::bad_input;
use crate::screen::printable;

/// How the peer is called.
pub(super) struct Peer {
    program: PathBuf,
    model: PathBuf,
    threads: usize,
    batch: usize,
}

/// Times of a test's runs.
pub(super) struct Samples(pub(super) Vec<Duration>);

impl Samples {
    /// Tokens a second of each run.
    pub(super) fn rates(&self, test: Test) -> Vec<f64> {
        self.0.iter().map(|time| test.tokens() as f64 / time.as_secs_f64()).collect()
    }
}

impl Peer {
    pub(super) fn new(program: &Path, model: &Path, threads: usize, batch: usize) -> Peer {
        Peer { program: program.to_owned(), model: model.to_owned(), threads, batch }
    }

    /// Runs a test once; the peer warms up by itself.
    pub(super) fn run(&mut self, test: Test) -> anyhow::Result<Duration> {
        let mut command = Command::new(&self.program);
        command.arg("-m").arg(&self.model).args(["-o", "json", "-r", "1", "-ngl", "0"]);
        let numbers = [
            ("-t", self.threads),
            ("-p", test.prompt),
            ("-n", test.generate),
            ("-d", test.depth),
            ("-ub", self.batch),
        ];
        for (flag, number) in numbers {
            command.arg(flag).arg(number.to_string());
        }
        let name = printable(&self.program.to_string_lossy());
        let output = command.stdin(Stdio::null()).output().map_err(|error| {
            bad_input(format!("cannot run {name}: {error}; give the path of llama-bench"))
        })?;
        let time = || -> Option<Duration> {
            let rows: Value = serde_json::from_slice(&output.stdout).ok()?;
            let nanos = rows.get(0)?.get("samples_ns")?.get(0)?.as_u64()?;
            Some(Duration::from_nanos(nanos)).filter(|time| !time.is_zero())
        };
        time().filter(|_| output.status.success()).ok_or_else(|| {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing");
            anyhow::anyhow!("{name} gave no result ({}); it said: {}", output.status, printable(last))
        })
    }
}
