//! Another program's llama-bench, one run at a time.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::anyhow;
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
    /// Whether all layers are to be on a CUDA GPU, as here; else none are.
    gpu: bool,
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
    pub(super) fn new(program: &Path, model: &Path, threads: usize, batch: usize, gpu: bool) -> Peer {
        Peer { program: program.to_owned(), model: model.to_owned(), threads, batch, gpu }
    }

    /// The arguments for one run of a test. On a GPU fused attention is asked for, the peer's fastest.
    fn arguments(&self, test: Test) -> Vec<OsString> {
        let mut arguments = vec![OsString::from("-m"), self.model.clone().into_os_string()];
        arguments.extend(["-o", "json", "-r", "1", "-ngl"].map(OsString::from));
        let place: &[&str] = if self.gpu { &["99", "-fa", "1"] } else { &["0"] };
        arguments.extend(place.iter().map(OsString::from));
        let numbers = [
            ("-t", self.threads),
            ("-p", test.prompt),
            ("-n", test.generate),
            ("-d", test.depth),
            ("-ub", self.batch),
        ];
        for (flag, number) in numbers {
            arguments.extend([OsString::from(flag), OsString::from(number.to_string())]);
        }
        arguments
    }

    /// Runs a test once; the peer warms up by itself.
    pub(super) fn run(&mut self, test: Test) -> anyhow::Result<Duration> {
        let name = printable(&self.program.to_string_lossy());
        let mut command = Command::new(&self.program);
        let output = command.args(self.arguments(test)).stdin(Stdio::null()).output().map_err(|error| {
            bad_input(format!("cannot run {name}: {error}; give the path of llama-bench"))
        })?;
        let result = result(&output.stdout).filter(|_| output.status.success()).ok_or_else(|| {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing");
            anyhow!("{name} gave no result ({}); it said: {}", output.status, printable(last))
        })?;
        if self.gpu && !result.backends.contains("CUDA") {
            let backends = printable(&result.backends);
            return Err(bad_input(format!(
                "{name} computes on {backends}, not on the GPU; give one that was built with CUDA"
            )));
        }
        Ok(result.time)
    }
}

/// What the peer says of one run.
#[derive(Debug, PartialEq)]
struct RunResult {
    time: Duration,
    /// Where it computed, as `CUDA` or `CPU`; several with commas.
    backends: String,
}

/// The first test's first run of llama-bench's JSON.
fn result(stdout: &[u8]) -> Option<RunResult> {
    let rows: Value = serde_json::from_slice(stdout).ok()?;
    let row = rows.get(0)?;
    let nanos = row.get("samples_ns")?.get(0)?.as_u64().filter(|&nanos| nanos > 0)?;
    let backends = row.get("backends").and_then(Value::as_str).unwrap_or("an unnamed backend").to_owned();
    Some(RunResult { time: Duration::from_nanos(nanos), backends })
}

#[cfg(test)]
mod tests {
    use super::{Peer, RunResult, Test, result};
    use std::path::Path;
    use std::time::Duration;

    const TEST: Test = Test { prompt: 512, generate: 0, depth: 64 };

    fn arguments(gpu: bool) -> String {
        let peer = Peer::new(Path::new("llama-bench"), Path::new("m.gguf"), 3, 256, gpu);
        let words = peer.arguments(TEST);
        words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_peer_computes_where_we_do() {
        let rest = "-t 3 -p 512 -n 0 -d 64 -ub 256";
        assert_eq!(arguments(false), format!("-m m.gguf -o json -r 1 -ngl 0 {rest}"));
        assert_eq!(arguments(true), format!("-m m.gguf -o json -r 1 -ngl 99 -fa 1 {rest}"));
    }

    #[test]
    fn a_result_names_its_backend() {
        let read = result(br#"[{"backends": "CUDA", "samples_ns": [ 1500 ]}]"#);
        let expected = RunResult { time: Duration::from_nanos(1500), backends: "CUDA".to_owned() };
        assert_eq!(read, Some(expected));
        assert_eq!(result(br#"[{"samples_ns": [ 0 ]}]"#), None);
        assert_eq!(result(b""), None);
    }

    #[cfg(unix)]
    #[test]
    fn a_peer_without_a_gpu_is_no_peer_of_one() {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("jetson-llm-peer-{}", std::process::id()));
        let script = "#!/bin/sh\necho '[{\"backends\": \"CPU\", \"samples_ns\": [ 7 ]}]'\n";
        std::fs::write(&path, script).expect("a temporary file");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&path, mode).expect("our file");
        let run = |gpu| Peer::new(&path, Path::new("m.gguf"), 1, 512, gpu).run(TEST);
        let (on_cpu, on_gpu) = (run(false), run(true));
        std::fs::remove_file(&path).expect("our file");
        assert_eq!(on_cpu.expect("a result"), Duration::from_nanos(7));
        let said = on_gpu.expect_err("no CUDA").to_string();
        assert!(said.contains("computes on CPU, not on the GPU"), "{said}");
    }
}
