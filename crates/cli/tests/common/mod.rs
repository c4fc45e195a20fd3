//! Running the program, and files to run it on.
#![allow(dead_code, reason = "each test file uses its part")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use quant::Format;

/// What a run printed and how it ended.
pub(crate) struct Ran {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) code: Option<i32>,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        Ran {
            out: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
            err: String::from_utf8(output.stderr).expect("stderr is UTF-8"),
            code: output.status.code(),
        }
    }
}

impl Ran {
    /// The answer of a run that went well.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "stderr: {}", self.err);
        self.out
    }

    /// The complaint of a run that was refused.
    #[track_caller]
    pub(crate) fn refused(self) -> String {
        assert_eq!(self.code, Some(2), "stdout: {} stderr: {}", self.out, self.err);
        self.err
    }

    /// Its answer as JSON.
    #[track_caller]
    pub(crate) fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.ok()).expect("the answer is JSON")
    }
}

/// The program, in an environment of its own.
pub(crate) fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jetson-llm"));
    command.args(args).stdin(Stdio::null());
    let ours = ["JETSON_LLM_MODEL", "JETSON_LLM_THREADS", "JETSON_LLM_CUDA_LIBRARY"];
    for name in ours.into_iter().chain(["NO_COLOR", "XDG_STATE_HOME", "HOME"]) {
        command.env_remove(name);
    }
    command
}

/// Runs the program with nothing on stdin.
pub(crate) fn run(args: &[&str]) -> Ran {
    program(args).output().expect("the program starts").into()
}

/// Runs the program with text on stdin.
pub(crate) fn run_with(args: &[&str], stdin: &[u8]) -> Ran {
    let mut child = program(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // It may end before it has read all.
    let _ = child.stdin.take().expect("stdin is a pipe").write_all(stdin);
    child.wait_with_output().expect("the program ends").into()
}

/// A folder that goes away with the test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("jetson-llm-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("the folder for temporary files can be written");
        Folder(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The path as an argument.
    pub(crate) fn arg(&self, name: &str) -> String {
        self.path(name).to_str().expect("temporary paths are UTF-8").to_owned()
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> String {
        std::fs::write(self.path(name), bytes).expect("the folder can be written");
        self.arg(name)
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).expect("the file is there")
    }

    /// Names in the folder, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).expect("the folder is there").flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Writes a llama of random weights without a vocabulary; `set` may add or change keys.
pub(crate) fn write_model(path: &Path, dim: u64, weights: Format, set: &dyn Fn(&mut gguf::Writer)) {
    let mut writer = gguf::Writer::new();
    let keys = [
        ("context_length", 64),
        ("embedding_length", dim as u32),
        ("block_count", 2),
        ("feed_forward_length", 2 * dim as u32),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
    ];
    let done = "the writer takes what a reader takes";
    writer.set("general.architecture", "llama").expect(done);
    for (key, value) in keys {
        writer.set(&format!("llama.{key}"), value).expect(done);
    }
    writer.set("llama.attention.layer_norm_rms_epsilon", 1e-5f32).expect(done);
    set(&mut writer);
    let mut tensors = vec![("token_embd".to_owned(), weights, vec![dim, 96])];
    tensors.push(("output_norm".to_owned(), Format::F32, vec![dim]));
    for layer in 0..2 {
        let mut tensor = |name: &str, shape: &[u64]| {
            let format = if shape.len() == 1 { Format::F32 } else { weights };
            tensors.push((format!("blk.{layer}.{name}"), format, shape.to_vec()));
        };
        tensor("attn_norm", &[dim]);
        tensor("attn_q", &[dim, dim]);
        tensor("attn_k", &[dim, dim / 2]);
        tensor("attn_v", &[dim, dim / 2]);
        tensor("attn_output", &[dim, dim]);
        tensor("ffn_norm", &[dim]);
        tensor("ffn_gate", &[dim, 2 * dim]);
        tensor("ffn_up", &[dim, 2 * dim]);
        tensor("ffn_down", &[2 * dim, dim]);
    }
    for (name, format, shape) in &tensors {
        writer.tensor(&format!("{name}.weight"), *format, shape).expect(done);
    }
    let mut body = writer.create(path).expect("the folder can be written");
    let mut state = 7u64;
    for (_, format, shape) in &tensors {
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        let values: Vec<f32> = (0..shape.iter().product::<u64>()).map(|_| next()).collect();
        let row = shape[0] as usize;
        let size = format.row_bytes(row).expect("whole blocks") * (values.len() / row);
        let mut bytes = vec![0; size];
        format.encode(&values, &mut bytes).expect("the tests use formats with encoders");
        body.write(&bytes).expect(done);
    }
    body.commit().expect("the folder can be written");
}
