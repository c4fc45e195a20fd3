//! The program on the emulated GPU.

mod common;

use common::{Ran, program};
use std::path::Path;

const QUESTION: [&str; 7] = ["-p", "What is 2+2?", "-n", "4", "--temp", "0", "--quiet"];

#[test]
fn the_gpu_answers_as_the_cores_do() {
    let Some(library) = cuda::lab::emulated_library() else { return };
    let cores = ran(&library, &["--device", "cpu"]).ok();
    for more in [&["--device", "cuda"][..], &["--no-fuse", "--no-graph"]] {
        assert_eq!(ran(&library, more).ok(), cores, "{more:?}");
    }
}

/// Tokens chosen there are generated, with and without feedback.
#[test]
fn bench_generates_on_the_gpu() {
    let Some(library) = cuda::lab::emulated_library() else { return };
    for more in [&[][..], &["--no-feedback"], &["--trace"]] {
        let command = ["bench", "-p", "0", "-n", "3", "-d", "2", "-r", "1", "--device", "cuda"];
        let mut command = program(&[&command[..], more].concat());
        let ran: Ran = command.env("JETSON_LLM_CUDA_LIBRARY", &library).output().expect("it starts").into();
        let table = ran.ok();
        assert!(table.contains("tg3 @ d2") && table.contains("cuda (emulated board"), "{table}");
        assert_eq!(table.contains("attend"), more == ["--trace"], "{table}");
    }
}

fn ran(library: &Path, more: &[&str]) -> Ran {
    let mut command = program(&[&QUESTION, more].concat());
    command.env("JETSON_LLM_CUDA_LIBRARY", library).output().expect("the program starts").into()
}
