//! The program on the emulated GPU.

mod common;

use common::program;
use std::path::Path;

const QUESTION: [&str; 7] = ["-p", "What is 2+2?", "-n", "4", "--temp", "0", "--quiet"];

/// Exit code, stdout, stderr of the program with these arguments and variables.
fn ran(library: &Path, more: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let arguments: Vec<&str> = QUESTION.iter().chain(more).copied().collect();
    let mut command = program(&arguments);
    command.env("JETSON_LLM_CUDA_LIBRARY", library).envs(variables.iter().copied());
    let output = command.output().expect("it starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_gpu_answers_as_the_cores_do() {
    let Some(library) = cuda::lab::emulated_library() else { return };
    let (code, cores, _) = ran(&library, &["--device", "cpu"], &[]);
    assert_eq!(code, Some(0));
    for more in [&["--device", "cuda"][..], &["--no-fuse", "--no-graph"]] {
        let (code, answer, err) = ran(&library, more, &[]);
        assert_eq!((code, answer.as_str()), (Some(0), cores.as_str()), "{more:?}: {err}");
    }
}

/// Asked for, a GPU that is too small is an error in one line; not asked for, the cores answer and a line
/// says why.
#[test]
fn a_gpu_too_small_is_explained() {
    let Some(library) = cuda::lab::emulated_library() else { return };
    let small = [("EMULATED_MEMORY", "4000000")];
    let (code, answer, err) = ran(&library, &["--device", "cuda"], &small);
    assert_eq!((code, answer.as_str()), (Some(1), ""));
    assert!(err.starts_with("error: ") && err.trim_end().lines().count() == 1, "{err}");
    assert!(err.contains("positions on the GPU needs ") && err.contains(" are free; "), "{err}");
    let arguments = ["-p", "Hi", "-n", "1", "--temp", "0"];
    let output = program(&arguments).env("JETSON_LLM_CUDA_LIBRARY", &library).envs(small).output();
    let output = output.expect("it starts");
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{err}");
    assert!(err.contains("note: the GPU is not used: ") && err.contains(" are free; "), "{err}");
}
