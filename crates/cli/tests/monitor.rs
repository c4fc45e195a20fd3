//! `monitor` on fake boards, with a program that runs beside it, and on a terminal.

mod common;

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Folder, Ran, program};
use serde_json::Value;
use testkit::board::{JetPack, Model, Tree, board, pc};

fn monitor(tree: &Tree, runtime: &Folder, more: &[&str]) -> Ran {
    let folder = tree.path().to_str().expect("temporary paths are UTF-8");
    let args = [&["monitor", "--sysroot", folder], more].concat();
    program(&args).env("XDG_RUNTIME_DIR", runtime.arg("")).output().expect("the program starts").into()
}

#[test]
fn without_a_terminal_it_is_one_picture_without_escapes() {
    let (tree, runtime) = (board(Model::AgxOrin, JetPack::Seven), Folder::new());
    let shown = monitor(&tree, &runtime, &[]).ok();
    assert_eq!(shown, monitor(&tree, &runtime, &["--once"]).ok());
    for what in ["AGX Orin", "MAXN", "W in all", "GPU clock", "temperature cpu 47.1"] {
        assert!(shown.contains(what), "{what}: {shown}");
    }
    assert!(!shown.contains('\x1b'));
    assert!(!monitor(&pc(), &runtime, &[]).ok().contains("power"));
}

#[test]
fn json_has_readings_and_the_program_that_runs() {
    let (tree, runtime) = (board(Model::OrinNanoSuper, JetPack::Six), Folder::new());
    let run =
        ["run", "-p", "Hi!", "-n", "1000000", "-c", "128", "--ignore-eos", "--device", "cpu", "--quiet"];
    let mut command = program(&run);
    command.env("XDG_RUNTIME_DIR", runtime.arg("")).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("the program starts");
    let (pid, start) = (child.id(), Instant::now());
    let mine = |told: &Value| {
        let programs = told["programs"].as_array().expect("a list").iter();
        let mut mine = programs.filter(|program| program["pid"] == pid);
        mine.find(|program| program["tokens_per_second"].as_f64() > Some(1.0)).cloned()
    };
    let (told, program) = loop {
        let told = monitor(&tree, &runtime, &["--json"]).json();
        if let Some(program) = mine(&told) {
            break (told, program);
        }
        assert!(start.elapsed() < Duration::from_secs(60), "the program does not show: {told}");
        std::thread::sleep(Duration::from_millis(100));
    };
    assert_eq!((&told["jetson"], &told["power_mode"]), (&true.into(), &"25W".into()));
    assert_eq!(told["readings"]["fan"]["rpm"], 1636);
    assert_eq!((&program["phase"], &program["kv"]["pages_total"]), (&"decode".into(), &4.into()));
    assert_eq!(program["limit"]["reason"], Value::Null);
    let shown = monitor(&tree, &runtime, &["--once"]).ok();
    let line = shown.lines().find(|line| line.trim_start().starts_with(&pid.to_string()));
    assert!(line.is_some_and(|line| line.contains("run") && line.contains("decode")), "{shown}");
    // Killed, it leaves its file, which nobody believes.
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    let left = std::fs::read_dir(runtime.path("jetson-llm")).expect("the folder is there").count();
    assert_eq!(left, 1);
    assert!(mine(&monitor(&tree, &runtime, &["--json"]).json()).is_none());
}

/// util-linux' `script` gives a terminal; without it there is nothing to test on.
#[test]
fn on_a_terminal_it_draws_in_place_until_q() {
    if Command::new("script").arg("--version").output().is_err() {
        eprintln!("skipped: there is no `script`");
        return;
    }
    let (tree, runtime, folder) = (board(Model::OrinNx16, JetPack::Six), Folder::new(), Folder::new());
    let line = format!(
        "stty rows 24 cols 80; {} monitor --sysroot {}",
        env!("CARGO_BIN_EXE_jetson-llm"),
        tree.path().display()
    );
    let mut command = Command::new("script");
    command.args(["-qec", &line]).arg(folder.path("typescript")).env("XDG_RUNTIME_DIR", runtime.arg(""));
    command.env("TERM", "xterm").env("NO_COLOR", "1");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("script starts");
    std::thread::sleep(Duration::from_millis(2500));
    let pressed = Instant::now();
    child.stdin.as_mut().expect("it is a pipe").write_all(b"q").expect("it reads");
    let ran: Ran = child.wait_with_output().expect("it ends").into();
    assert!(pressed.elapsed() < Duration::from_secs(5));
    let shown = ran.ok();
    assert!(shown.matches("\x1b[H").count() >= 2, "drawn again each second: {shown:?}");
    assert!(shown.contains("\x1b[?1049h") && shown.trim_end().ends_with("\x1b[?1049l"), "{shown:?}");
    assert!(shown.contains("Orin NX") && !shown.contains("\x1b[1m"), "{shown:?}");
}
