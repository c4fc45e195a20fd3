//! What users are told when the GPU is missing, foreign, too small or goes away: one line that says what to
//! do, an exit code, and nothing half-done. The emulated driver plays these parts by environment variables.

mod common;

use common::{Folder, Ran, program};
use quant::Format;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

const QUESTION: [&str; 6] = ["-p", "What is 2+2?", "-n", "3", "--temp", "0"];

/// The emulated driver under variables that make it fail.
struct Machine {
    library: PathBuf,
    variables: Vec<(&'static str, &'static str)>,
}

impl Machine {
    /// `None`, with a line that says so, without a C++ compiler.
    fn with(variables: &[(&'static str, &'static str)]) -> Option<Machine> {
        Some(Machine { library: cuda::lab::emulated_library()?, variables: variables.to_vec() })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program(arguments);
        command.env("JETSON_LLM_CUDA_LIBRARY", &self.library).envs(self.variables.iter().copied());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.command(arguments).output().expect("the program starts").into()
    }

    fn ask(&self, more: &[&str]) -> Ran {
        self.run(&[&QUESTION, more].concat())
    }

    /// What `--device cuda` is told, with this exit code; nothing else is said or answered.
    #[track_caller]
    fn refuses(&self, code: i32, more: &[&str]) -> String {
        only_error(&self.ask(&[&["--device", "cuda"], more].concat()), code)
    }

    /// What is noted when the cores answer instead.
    #[track_caller]
    fn falls_back(&self, more: &[&str]) -> String {
        let ran = self.ask(more);
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        assert_eq!(ran.out, on_cores());
        let notes: Vec<&str> = ran.err.lines().filter(|line| line.starts_with("note: ")).collect();
        // The other line is the summary.
        assert!(notes.len() == 1 && ran.err.lines().count() == 2, "{}", ran.err);
        assert!(notes[0].starts_with("note: the GPU is not used: "), "{}", ran.err);
        notes[0].to_owned()
    }
}

/// The one line of a run that answered nothing.
#[track_caller]
fn only_error(ran: &Ran, code: i32) -> String {
    assert_eq!((ran.code, ran.out.as_str()), (Some(code), ""), "{}", ran.err);
    assert!(ran.err.starts_with("error: ") && ran.err.ends_with('\n'), "{}", ran.err);
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    ran.err.clone()
}

fn on_cores() -> String {
    common::run(&[&QUESTION[..], &["--device", "cpu"]].concat()).ok()
}

#[test]
fn no_driver() {
    let ran = |library: &str| {
        common::run(&[&QUESTION[..], &["--device", "cuda", "--cuda-library", library]].concat())
    };
    let err = only_error(&ran("/nowhere/libcuda.so.1"), 2);
    assert!(err.contains("no CUDA driver: /nowhere/libcuda.so.1 cannot be opened"), "{err}");
    assert!(err.contains("install the NVIDIA driver") && err.contains("--device cpu"), "{err}");
    // What a careless script may name.
    let folder = Folder::new();
    let text = folder.write("text.so", b"not a library");
    let odd = folder.write("two\nlines\x1b[2J.so", b"");
    let here = folder.arg("");
    for library in [text.as_str(), odd.as_str(), here.as_str(), "/dev/null"] {
        let err = only_error(&ran(library), 2);
        assert!(err.contains("no CUDA driver: ") && !err.contains('\x1b'), "{err}");
    }
}

/// Where there is no driver at all, nobody who asks for nothing is bothered with it.
#[test]
fn no_driver_is_nothing_to_tell_those_who_did_not_ask() {
    if !matches!(cuda::driver::Driver::open(None), Err(cuda::driver::Error::NoDriver { .. })) {
        return eprintln!("skipped: this machine has a CUDA driver");
    }
    let ran = common::run(&QUESTION);
    assert!(!ran.err.contains("GPU") && !ran.err.contains("CUDA"), "{}", ran.err);
    assert_eq!(ran.ok(), on_cores());
    let err = only_error(&common::run(&[&QUESTION[..], &["--device", "cuda"]].concat()), 2);
    assert!(err.contains("no CUDA driver: libcuda.so.1"), "{err}");
}

#[test]
fn an_old_driver() {
    let Some(machine) = Machine::with(&[("EMULATED_DRIVER", "11040")]) else { return };
    let err = machine.refuses(2, &[]);
    assert!(err.contains("version 11.4, at least 12.2 is needed: update to JetPack 6"), "{err}");
    assert!(machine.falls_back(&[]).contains("version 11.4"));
}

#[test]
fn no_device() {
    let Some(machine) = Machine::with(&[("EMULATED_DEVICES", "0")]) else { return };
    let err = machine.refuses(2, &[]);
    assert!(err.contains("finds no GPU") && err.contains("CUDA_VISIBLE_DEVICES"), "{err}");
    assert!(machine.falls_back(&[]).contains("finds no GPU"));
}

#[test]
fn a_device_number_that_is_not_there() {
    let Some(machine) = Machine::with(&[]) else { return };
    let err = machine.refuses(2, &["--gpu", "3"]);
    assert!(err.contains("there is no GPU 3: the driver finds 1"), "{err}");
    assert!(machine.falls_back(&["--gpu", "18446744073709551615"]).contains("there is no GPU 184467"));
}

#[test]
fn a_device_without_code() {
    let Some(machine) = Machine::with(&[("EMULATED_CAPABILITY", "7.2")]) else { return };
    let err = machine.refuses(2, &[]);
    assert!(err.contains("(compute capability 7.2): this program contains sm_87 and sm_90"), "{err}");
    assert!(machine.falls_back(&[]).contains("compute capability 7.2"));
}

#[test]
fn cubins_that_the_driver_refuses() {
    for code in ["200", "209", "222"] {
        let Some(machine) = Machine::with(&[("EMULATED_REFUSE", code)]) else { return };
        let err = machine.refuses(2, &[]);
        assert!(err.contains("refuses the kernels of ") && err.contains("build with NVRTC"), "{err}");
    }
}

/// A driver that does not say it is emulated gets the program's own cubins: a program without any says how to
/// build one with them; otherwise the emulator cannot read them, as a driver too old for them cannot.
#[test]
fn what_this_build_contains() {
    let Some(machine) = Machine::with(&[("EMULATED_HIDDEN", "1")]) else { return };
    let err = machine.refuses(2, &[]);
    let note = machine.falls_back(&[]);
    for told in [err, note] {
        if let Some(compiler) = cuda::driver::compiler() {
            assert!(told.contains("refuses the kernels of ") && told.contains(compiler), "{told}");
        } else {
            assert!(told.contains("built without GPU kernels; build it again with NVRTC_LIB"), "{told}");
        }
    }
}

#[test]
fn too_small_for_the_weights() {
    let Some(machine) = Machine::with(&[("EMULATED_MEMORY", "4000000")]) else { return };
    for more in [&[][..], &["--ctx-size", "64"], &["--no-fuse"]] {
        let err = machine.refuses(1, more);
        assert!(
            err.contains("positions on the GPU needs ") && err.contains(" and 3.8 MiB is free; "),
            "{err}"
        );
        assert!(err.contains("use a smaller model, one quantized to fewer bits, or --device cpu"), "{err}");
    }
    assert!(machine.falls_back(&[]).contains("and 3.8 MiB is free; use a smaller model"));
}

/// What is said to fit does, each by itself; one page more of context does not.
#[test]
fn too_small_for_the_context() {
    let cores = on_cores();
    // Down to where only less of both fits.
    for memory in ["25400000", "22600000", "20500000"] {
        let Some(machine) = Machine::with(&[("EMULATED_MEMORY", memory)]) else { return };
        let err = machine.refuses(1, &[]);
        assert!(err.contains("with 1024 positions on the GPU needs "), "{err}");
        let offers = offers(&err);
        assert!(!offers.is_empty(), "{err}");
        for offer in offers {
            let ran = machine.ask(&[&["--device", "cuda"], &offer[..]].concat());
            assert_eq!((ran.code, ran.out.as_str()), (Some(0), cores.as_str()), "{err}{}", ran.err);
            let Some(at) = offer.iter().position(|word| *word == "-c") else { continue };
            let positions: usize = offer[at + 1].parse().expect("a number of positions");
            let more = (positions + 32).to_string();
            let mut beyond = offer.clone();
            beyond[at + 1] = &more;
            machine.refuses(1, &beyond);
        }
    }
}

/// The options that a refusal names: `--a 1 --b 2 or --c 3 fits`.
fn offers(err: &str) -> Vec<Vec<&str>> {
    let (_, remedy) = err.split_once("is free; ").unwrap_or_else(|| panic!("{err}"));
    let Some(options) = remedy.trim_end().strip_suffix(" fits") else { return vec![] };
    options.split(" or ").map(|offer| offer.split(' ').collect()).collect()
}

/// A board that refuses large pieces though it has the room, as Jetsons do: the weights take several. Where
/// not even a matrix is granted, that is told.
#[test]
fn large_allocations_that_fail() {
    let Some(machine) = Machine::with(&[("EMULATED_FAIL_ALLOC_OVER", "3000000")]) else { return };
    let err = machine.refuses(1, &[]);
    assert!(err.contains("on the GPU needs ") && err.contains("the GPU has no such piece"), "{err}");
    assert!(machine.falls_back(&[]).contains("the GPU has no such piece"));

    // Pieces are not made smaller than 16 MiB, so that takes a larger model.
    let folder = Folder::new();
    let path = folder.path("model.gguf");
    common::write_model(&path, 1024, Format::F16, &|_| {});
    let model = path.to_str().expect("temporary paths are UTF-8");
    let scores = |name: &str, variables: &[(&'static str, &'static str)]| {
        let machine = Machine::with(variables).expect("built above");
        let out = folder.arg(name);
        let ran = machine.run(&["logits", "-m", model, "--ids", "1,2,3", "--out", &out, "--device", "cuda"]);
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        folder.read(name)
    };
    let whole = scores("whole.npy", &[]);
    assert_eq!(scores("pieces.npy", &[("EMULATED_FAIL_ALLOC_OVER", "20000000")]), whole);
}

#[test]
fn a_device_lost_in_the_middle_of_an_answer() {
    let Some(machine) = Machine::with(&[("EMULATED_LOSE_AFTER", "300")]) else { return };
    let story = ["-p", "Tell me a short story about a fox.", "-n", "12", "--temp", "0", "--device"];
    let whole = Machine::with(&[]).expect("built above").run(&[&story[..], &["cuda"]].concat()).ok();
    let ran = machine.run(&[&story[..], &["cuda"]].concat());
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    // What came before stands, on a line of its own.
    let said = ran.out.strip_suffix('\n').expect("the line is ended");
    assert!(!said.is_empty() && whole.starts_with(said) && said.len() + 1 < whole.len(), "{}", ran.out);
    assert!(
        ran.err.starts_with("error: cuda (emulated board, ") && ran.err.lines().count() == 1,
        "{}",
        ran.err
    );
    assert!(ran.err.contains("stopped answering: ") && ran.err.contains("start again"), "{}", ran.err);
    // Half an answer is no JSON; and being lost while it works is no reason for the cores to start over.
    only_error(&machine.run(&[&story[..], &["cuda", "--json"]].concat()), 1);
    assert_eq!(machine.run(&[&story[..], &["auto"]].concat()).code, Some(1));
}

#[test]
fn a_device_lost_while_its_first_token_is_computed() {
    for after in ["0", "7"] {
        let Some(machine) = Machine::with(&[("EMULATED_LOSE_AFTER", after)]) else { return };
        let err = machine.refuses(1, &[]);
        assert!(err.contains("stopped answering: "), "{err}");
    }
}

/// Scores are written whole or not at all, and an older file of that name stays as it was.
#[test]
fn a_device_lost_while_scores_are_written() {
    let Some(machine) = Machine::with(&[("EMULATED_LOSE_AFTER", "7")]) else { return };
    let folder = Folder::new();
    let (fresh, old) = (folder.arg("fresh.npy"), folder.arg("old.npy"));
    std::fs::write(&old, "kept").expect("a small file");
    for out in [&fresh, &old] {
        let ran = machine.run(&["logits", "--ids", "1,2,3", "--device", "cuda", "--out", out]);
        assert_eq!(ran.code, Some(1), "{}", ran.err);
    }
    assert!(!std::path::Path::new(&fresh).exists());
    assert_eq!(std::fs::read_to_string(&old).expect("still there"), "kept");
}

/// A script that talks line by line gets the answers so far, the reason, and no more.
#[test]
fn a_device_lost_in_a_conversation() {
    let Some(machine) = Machine::with(&[("EMULATED_LOSE_AFTER", "600")]) else { return };
    let mut command = machine.command(&["chat", "--temp", "0", "-n", "12", "--device", "cuda", "--quiet"]);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("the program starts");
    let lines = "Tell me a short story about a fox.\n".repeat(4);
    child.stdin.take().expect("stdin is a pipe").write_all(lines.as_bytes()).expect("four lines fit a pipe");
    let ran: Ran = child.wait_with_output().expect("the program ends").into();
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert!(ran.err.starts_with("error: cuda (emulated ") && ran.err.lines().count() == 1, "{}", ran.err);
    assert!(ran.out.ends_with('\n') && ran.out.lines().count() < 4, "{}", ran.out);
}

/// What the GPU cannot run is told before anything is loaded.
#[test]
fn options_that_the_gpu_lacks() {
    let Some(machine) = Machine::with(&[]) else { return };
    let err = machine.refuses(2, &["--kv", "f32"]);
    assert!(err.contains("cuda cannot run a cache in f32"), "{err}");
    assert!(machine.falls_back(&["--kv", "f32"]).contains("a cache in f32"));
}
