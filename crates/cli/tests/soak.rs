//! `soak`: a short run has every phase, its report says what was found, and what is wrong with it fails.

mod common;

use std::thread;
use std::time::{Duration, Instant};

use common::{Folder, program, run};
use serde_json::Value;

const FILES: [&str; 7] =
    ["clocks.svg", "memory.svg", "power.svg", "report.json", "report.md", "speed.svg", "temperature.svg"];

fn report(folder: &Folder) -> Value {
    serde_json::from_slice(&folder.read("r/report.json")).expect("the report is JSON")
}

fn phases(report: &Value) -> Vec<&str> {
    report["phases"].as_array().expect("phases").iter().filter_map(|phase| phase["name"].as_str()).collect()
}

fn names(folder: &Folder) -> Vec<String> {
    let entries = std::fs::read_dir(folder.path("r")).expect("the folder was made").flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_short_run_has_every_phase() {
    let folder = Folder::new();
    let out = folder.arg("r");
    let ran = run(&["soak", "--for", "8s", "--out", &out, "--json", "--device", "cpu", "-t", "1"]);
    let printed: Value = serde_json::from_str(&ran.out).expect("the answer is JSON");
    let report = report(&folder);
    assert_eq!(printed, report);
    assert_eq!(names(&folder), FILES);
    assert_eq!(phases(&report), ["long", "steady", "sliding", "starts"]);
    // How fast it was is the machine's business; everything else must hold.
    for phase in report["phases"].as_array().expect("phases") {
        assert!(phase["tokens"].as_u64() > Some(0), "{phase}");
        for check in phase["checks"].as_array().expect("checks") {
            let timing = check["criterion"].as_str().is_some_and(|words| words.starts_with("speed "));
            assert!(timing || check["status"] != "fail", "{check}");
        }
    }
    let failed = report["status"] == "fail";
    assert_eq!(ran.code, Some(i32::from(failed)), "{}", ran.err);

    // The samples agree with the phases.
    let samples = &report["samples"];
    let place = |name: &str| {
        let columns = samples["columns"].as_array().expect("columns");
        columns.iter().position(|column| column == name).expect("a column of that name")
    };
    let rows = samples["rows"].as_array().expect("rows");
    let column = |name: &str| rows.iter().map(|row| &row[place(name)]).collect::<Vec<_>>();
    let (seconds, tokens) = (column("seconds"), column("tokens"));
    assert!(rows.len() > 30, "{}", rows.len());
    assert!(seconds.windows(2).all(|two| two[0].as_f64() < two[1].as_f64()));
    let in_process: u64 = report["phases"].as_array().expect("phases")[..3]
        .iter()
        .filter_map(|phase| phase["tokens"].as_u64())
        .sum();
    // An answer that its time cut off is watched, and not counted.
    let watched = tokens.last().and_then(|tokens| tokens.as_u64()).expect("a number");
    assert!(watched >= in_process && watched < in_process + 2048, "{watched} of {in_process}");
    assert!(column("resident_bytes").iter().all(|bytes| bytes.as_u64() > Some(1 << 20)));

    let text = String::from_utf8(folder.read("r/report.md")).expect("UTF-8");
    for part in ["# Soak test", " · long: ", " · sliding: ", "![memory](memory.svg)", "no start fails"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    for file in FILES.iter().filter(|file| file.contains(".svg")) {
        let picture = String::from_utf8(folder.read(&format!("r/{file}"))).expect("UTF-8");
        assert!(picture.starts_with("<svg xmlns=") && picture.ends_with("</svg>\n"), "{file}");
        assert!(
            !picture.contains("NaN") && !picture.contains("inf") && !picture.contains("<script"),
            "{file}"
        );
        assert_eq!(picture.matches("<text ").count(), picture.matches("</text>").count(), "{file}");
    }
}

/// A phase that fails is in the report, and in the exit code.
#[test]
fn a_start_that_fails_fails_the_run() {
    let folder = Folder::new();
    let model = folder.arg("m.gguf");
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/chat-7m.gguf"), &model).expect("a copy");
    let out = folder.arg("r");
    let mut command = program(&["soak", "--for", "6s", "--out", &out, "-m", &model, "-t", "1", "--quiet"]);
    let child = command
        .args(["--device", "cpu"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    // Once it is open, this run does not need its name any more, and its starts do.
    let open = || {
        let files = std::fs::read_dir(format!("/proc/{}/fd", child.id())).into_iter().flatten().flatten();
        files.filter_map(|file| std::fs::read_link(file.path()).ok()).any(|path| path.ends_with("m.gguf"))
    };
    let began = Instant::now();
    while !open() && began.elapsed() < Duration::from_secs(60) {
        thread::sleep(Duration::from_millis(1));
    }
    std::fs::remove_file(&model).expect("it is there");
    let ran = common::Ran::from(child.wait_with_output().expect("it ends"));
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert!(ran.err.contains("failed; see "), "{}", ran.err);
    let report = report(&folder);
    assert_eq!(report["status"], "fail");
    let text = report.to_string();
    assert!(text.contains("is not there"), "{text}");
    assert_eq!(names(&folder), FILES);
}

#[test]
fn ctrl_c_writes_the_report_so_far() {
    let folder = Folder::new();
    let out = folder.arg("r");
    let mut child = program(&["soak", "--for", "10m", "--out", &out, "--device", "cpu", "-t", "1"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    thread::sleep(Duration::from_secs(3));
    let began = Instant::now();
    let pid = child.id().to_string();
    std::process::Command::new("kill").args(["-INT", &pid]).status().expect("there is a kill");
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    assert!(began.elapsed() < Duration::from_secs(10));
    let report = report(&folder);
    assert_eq!((&report["interrupted"], &report["error"]), (&Value::Bool(true), &Value::Null));
    assert!(!phases(&report).is_empty() && !phases(&report).contains(&"starts"), "{report}");
    assert_eq!(names(&folder), FILES);
}

#[test]
fn what_makes_no_sense_is_refused() {
    assert!(run(&["soak", "--out", "x", "--for", "10"]).refused().contains("write it as 30s"));
    assert!(run(&["soak", "--for", "10s"]).refused().contains("--out"));
    let folder = Folder::new();
    let file = folder.write("file", b"");
    assert!(run(&["soak", "--for", "2s", "--out", &file]).refused().contains("give another --out"));
}
