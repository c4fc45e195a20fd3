//! Heat, power and a full context, as users meet them: runs on fake boards.

mod common;

use std::io::Read;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::{Ran, program, run, run_with};
use testkit::board::{JetPack, Model, Tree, board, pc};

const ZONE: &str = "/sys/devices/virtual/thermal/thermal_zone8/temp";

fn folder(tree: &Tree) -> &str {
    tree.path().to_str().expect("temporary paths are UTF-8")
}

/// A board in its fastest mode at its full clock, whose memory is this test's to set.
fn nano() -> Tree {
    let tree = board(Model::OrinNanoSuper, JetPack::Six);
    tree.write("/var/lib/nvpmodel/status", "pmode:0002\n");
    tree.write("/sys/class/devfreq/17000000.gpu/max_freq", "1020000000\n");
    tree
}

/// `--device cpu`, since a GPU of the machine that runs the tests is none of the fake board's.
fn arguments<'a>(tree: &'a Tree, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["run", "-p", "Hi!", "--device", "cpu", "--ignore-eos", "--sysroot", folder(tree)];
    args.extend(more);
    args
}

fn on(tree: &Tree, more: &[&str]) -> Ran {
    run(&arguments(tree, more))
}

fn begin(tree: &Tree, more: &[&str]) -> Child {
    let mut command = program(&arguments(tree, more));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
}

/// Reads what a program says until it has said `what`.
#[track_caller]
fn said(child: &mut Child, what: &str) -> String {
    let (start, mut text, mut byte) = (Instant::now(), Vec::new(), [0]);
    let stderr = child.stderr.as_mut().expect("it is a pipe");
    while start.elapsed() < Duration::from_secs(60) && stderr.read(&mut byte).expect("a pipe is read") == 1 {
        text.push(byte[0]);
        if byte[0] == b'\n' && String::from_utf8_lossy(&text).contains(what) {
            return String::from_utf8_lossy(&text).into_owned();
        }
    }
    panic!("{what} was not said: {}", String::from_utf8_lossy(&text));
}

/// What a running program says of itself.
fn told(file: &Path) -> Option<serde_json::Value> {
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

#[test]
fn a_cool_board_is_not_slowed_and_says_nothing() {
    let ran = on(&nano(), &["-n", "40"]);
    assert!(!ran.err.contains('[') && !ran.err.contains("warning"), "{}", ran.err);
    ran.ok();
}

#[test]
fn a_hot_board_stops_and_goes_on_when_it_is_cool() {
    let tree = nano();
    tree.write(ZONE, "90000\n");
    let mut child = begin(&tree, &["-n", "60"]);
    let line = said(&mut child, "[thermal]");
    assert!(line.contains("[thermal] 90.0 °C: paused until it is 80 °C"), "{line}");
    std::thread::sleep(Duration::from_millis(400));
    assert!(child.try_wait().expect("a child can be asked").is_none(), "it waits");
    tree.write(ZONE, "50000\n");
    let ran: Ran = child.wait_with_output().expect("it ends").into();
    assert!(!ran.ok().is_empty());
}

#[test]
fn a_full_stop_is_no_obstacle_to_ctrl_c() {
    let tree = nano();
    tree.write(ZONE, "90000\n");
    let mut child = begin(&tree, &["-n", "60"]);
    said(&mut child, "[thermal]");
    let asked = Instant::now();
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.is_ok_and(|status| status.success()));
    let status = child.wait().expect("it ends");
    assert_eq!(status.code(), Some(130));
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
}

#[test]
fn a_budget_below_what_is_drawn_slows_and_one_above_does_not() {
    let tree = nano();
    // The fake rail says 5.04 W whatever is done.
    let free = on(&tree, &["-n", "150", "--json", "--power-budget", "6"]);
    assert!(!free.err.contains("[power]"), "{}", free.err);
    let rate = |ran: Ran| ran.json()["generated_tokens_per_second"].as_f64().expect("a rate");
    let free = rate(free);
    let runtime = common::Folder::new();
    let mut command = program(&arguments(&tree, &["-n", "10000000", "-c", "128", "--power-budget", "3"]));
    command.env("XDG_RUNTIME_DIR", runtime.arg("")).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let line = said(&mut child, "[power]");
    assert!(line.contains("[power] 5.0 W of 3.0 W: at "), "{line}");
    // What slides says so on stderr, and nobody reads that any more.
    drop(child.stderr.take());
    let file = runtime.path("jetson-llm").join(format!("{}.json", child.id()));
    let start = Instant::now();
    loop {
        std::thread::sleep(Duration::from_millis(200));
        let told = told(&file).expect("it was told before");
        let pace = told["limit"]["pace"].as_f64().expect("a share");
        // The fake rail never falls, so the pace does until it cannot.
        if pace < 0.5 && told["tokens_per_second"].as_f64() < Some(0.6 * free) {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{told}");
    }
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}

#[test]
fn a_budget_nobody_can_measure_is_refused() {
    let said = on(&pc(), &["-n", "4", "--power-budget", "10"]).refused();
    assert!(said.contains("--power-budget cannot be kept: no sensor here tells what is drawn"), "{said}");
    for wrong in ["0", "-3", "x", "NaN", "1e9"] {
        assert!(!on(&nano(), &["--power-budget", wrong]).refused().is_empty());
    }
}

#[test]
fn what_costs_a_board_its_speed_is_said_once_at_the_start() {
    let tree = nano();
    tree.write("/sys/class/devfreq/17000000.gpu/max_freq", "624750000\n");
    tree.write("/sys/class/hwmon/hwmon7/oc1_event_cnt", "3\n");
    let err = on(&tree, &["-n", "4"]).err;
    let warnings: Vec<&str> = err.lines().filter(|line| line.starts_with("warning: ")).collect();
    assert_eq!(
        warnings,
        [
            "warning: the GPU stops at 624 MHz; mode MAXN_SUPER allows 1020 MHz; sudo nvpmodel -m 2 && sudo \
             jetson_clocks",
            "warning: under-voltage cut the clocks 3 times; use the supply that came with the board, or a lower \
             power mode (sudo nvpmodel -m 0)",
        ]
    );
    assert_eq!(on(&tree, &["-n", "4", "--quiet"]).err, "");
}

#[test]
fn more_tokens_than_positions_slide_and_without_a_number_the_full_context_ends() {
    let args = ["run", "-p", "Hi!", "-c", "64", "--ignore-eos", "--json", "--temp", "0", "--device", "cpu"];
    let slid = run(&[&args[..], &["-n", "200"]].concat());
    assert!(slid.err.is_empty(), "--json is quiet: {}", slid.err);
    let slid = slid.json();
    assert_eq!((&slid["generated_tokens"], &slid["stopped"]), (&200.into(), &"tokens".into()));
    assert_eq!((&slid["finish"], &slid["n_ctx"]), (&"length".into(), &64.into()));
    let full = run(&args).json();
    assert_eq!((&full["finish"], &full["stopped"]), (&"length".into(), &"context".into()));
    let told = run(&[&args[..6], &["--device", "cpu", "-n", "200"]].concat());
    assert!(told.err.contains("[kv] evicted "), "{}", told.err);
    let ended = run(&["run", "-p", "Hi!", "--json"]).json();
    assert_eq!((&ended["finish"], &ended["stopped"]), (&"stop".into(), &serde_json::Value::Null));
}

#[test]
fn a_conversation_that_is_too_long_loses_whole_turns_but_not_its_system_prompt() {
    let args = ["chat", "--temp", "0", "-c", "160", "-s", "Answer only in JSON with the key \"answer\"."];
    let lines = "How many legs does a spider have?\n".repeat(8);
    let ran = run_with(&args, lines.as_bytes());
    assert!(ran.err.contains("[kv] evicted the oldest 2 messages ("), "{}", ran.err);
    // The system prompt stays, so that the last answer is what the first was.
    let said = ran.ok();
    let answers: Vec<&str> = said.lines().collect();
    assert_eq!(answers.len(), 8, "{said}");
    assert_eq!(answers[7], answers[0], "{said}");
}

#[test]
fn nothing_is_left_of_a_run_that_was_watched() {
    let runtime = common::Folder::new();
    let place = runtime.path("jetson-llm");
    let mut command =
        program(&["run", "-p", "Hi!", "-n", "100000", "-c", "128", "--ignore-eos", "--device", "cpu"]);
    let child = command.env("XDG_RUNTIME_DIR", Path::new(&runtime.arg(""))).stdout(Stdio::null());
    let mut child = child.stderr(Stdio::null()).spawn().expect("the program starts");
    let file = place.join(format!("{}.json", child.id()));
    let start = Instant::now();
    let told = loop {
        match told(&file).filter(|told| told["tokens_per_second"].as_f64() > Some(0.0)) {
            Some(told) => break told,
            None => assert!(start.elapsed() < Duration::from_secs(60), "nothing was told"),
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(
        (&told["command"], &told["phase"], &told["context"]),
        (&"run".into(), &"decode".into(), &128.into())
    );
    assert_eq!(told["kv"]["pages_total"], 4);
    assert!(told["kv"]["pages_used"].as_u64().is_some_and(|pages| (1..=4).contains(&pages)), "{told}");
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.is_ok_and(|status| status.success()));
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    assert_eq!(std::fs::read_dir(&place).expect("the folder is there").count(), 0);
}
