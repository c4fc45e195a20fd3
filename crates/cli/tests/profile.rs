//! `profile`: the sums hold, on the cores and on the emulated GPU, in every output.

mod common;

use common::{Folder, program, run};
use serde_json::Value;

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("{key} in {value}"))
}

fn sum(rows: &Value, key: &str) -> f64 {
    rows.as_array().expect("rows").iter().map(|row| number(row, key)).sum()
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

/// What holds of every test of every profile.
fn check(profile: &Value) {
    let roof = number(&profile["roof"], "bytes_per_second");
    assert!(roof > 1e6 && number(&profile["roof"], "median_bytes_per_second") <= roof);
    for test in profile["tests"].as_array().expect("tests") {
        let (untraced, traced) = (number(test, "untraced_seconds"), number(test, "traced_seconds"));
        let parts = number(test, "sum_of_parts_seconds");
        assert!(untraced > 0.0 && parts > 0.0 && parts <= traced * 1.001, "{parts} of {traced}");
        // One step has no room for much more than its operations, however busy the machine is.
        assert!(parts > 0.3 * traced, "{parts} of {traced}");
        for key in ["seconds", "bytes", "operations", "launches"] {
            assert!(near(sum(&test["ops"], key), sum(&test["layers"], key)), "{key} of {test}");
        }
        assert!(near(sum(&test["ops"], "seconds"), parts));
        assert!(near(sum(&test["layers"], "bytes"), number(test, "bytes")));
        assert!(near(number(test, "share_of_roof"), number(test, "bytes") / untraced / roof));
        assert_eq!(test["bottlenecks"].as_array().map(Vec::len), Some(3));
        let tokens = if test["unit"] == "prompt" { number(test, "n_prompt") } else { 1.0 };
        assert!(near(number(test, "tokens_per_second"), tokens / untraced));
        for op in test["ops"].as_array().expect("ops") {
            let share = number(op, "bytes") / number(op, "seconds") / roof;
            assert!(near(number(op, "share_of_roof"), share), "{op}");
        }
    }
}

fn op<'a>(test: &'a Value, name: &str) -> &'a Value {
    let found = test["ops"].as_array().expect("ops").iter().find(|op| op["name"] == name);
    found.unwrap_or_else(|| panic!("{name} in {test}"))
}

#[test]
fn the_cores_are_profiled() {
    let folder = Folder::new();
    let (svg, md) = (folder.arg("p.svg"), folder.arg("p.md"));
    let args = ["profile", "--device", "cpu", "-p", "20", "-n", "3", "-d", "0,40", "-r", "2", "--layers"];
    let profile = run(&[&args[..], &["--json", "--svg", &svg, "-o", &md]].concat()).json();
    check(&profile);
    let tests = profile["tests"].as_array().expect("tests");
    let names: Vec<&str> = tests.iter().filter_map(|test| test["name"].as_str()).collect();
    assert_eq!(names, ["pp20", "tg3", "pp20 @ d40", "tg3 @ d40"]);
    assert!(tests.iter().all(|test| test["energy"].is_null()) && profile["power"].is_null());

    // A token's weights are the plan's own sum; the cache at depths 0, 1, 2 is
    // read for 2 positions and written for 1 on average, at 40, 41, 42 for 42 and 1.
    let inspect = run(&["inspect", "--json"]).json();
    let plan = number(&inspect, "bytes_per_token");
    let token = &tests[1];
    let weights: f64 = ["q k v Q6_K", "attention out Q6_K", "gate, up Q6_K", "down Q6_K", "logits Q6_K"]
        .iter()
        .map(|name| number(op(token, name), "bytes"))
        .sum();
    let attend = |test| number(op(test, "attend"), "bytes");
    let position = attend(token) / 3.0;
    assert!(near(weights + position, plan), "{weights} and {position} of {plan}");
    assert!(near(attend(&tests[3]) / position, 43.0));
    assert!(near(number(op(token, "logits Q6_K"), "operations"), 2.0 * 8192.0 * 256.0), "{token}");

    let text = String::from_utf8(folder.read("p.md")).expect("UTF-8");
    for part in
        ["# Profile of llama 6.82 M", "\n## pp20:", "\n## tg3 @ d40:", "What takes longest:", "| layer "]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    let picture = String::from_utf8(folder.read("p.svg")).expect("UTF-8");
    assert!(picture.starts_with("<svg xmlns=") && picture.ends_with("</svg>\n"));
    assert!(picture.contains("prefers-color-scheme: dark") && !picture.contains("<script"));
    assert!(!picture.contains("NaN") && !picture.contains("inf\""), "{picture}");
    for element in ["text", "title", "style"] {
        let opened = picture.matches(&format!("<{element}>")).count()
            + picture.matches(&format!("<{element} ")).count();
        assert_eq!(opened, picture.matches(&format!("</{element}>")).count(), "{element}");
    }
}

#[test]
fn the_report_goes_to_stdout() {
    let text = run(&["profile", "--device", "cpu", "-p", "0", "-n", "2", "-r", "1"]).ok();
    assert!(text.contains("power: no sensor") && text.contains("\n## tg2: "), "{text}");
    assert!(!text.contains("pp") && !text.contains("| layer "), "{text}");
    assert!(run(&["profile", "-p", "0", "-n", "0"]).refused().contains("nothing to measure"));
    assert!(run(&["profile", "-r", "0"]).refused().contains("--repetitions must be"));
    let nowhere =
        run(&["profile", "--device", "cpu", "-p", "0", "-n", "1", "-r", "1", "-o", "/nowhere/x.md"]);
    assert_eq!(nowhere.code, Some(1));
    assert!(nowhere.err.contains("cannot write /nowhere/x.md"), "{}", nowhere.err);
}

#[test]
fn the_gpu_is_profiled() {
    let Some(library) = cuda::lab::emulated_library() else { return };
    let profile = |args: &[&str], power: &[(&str, &str)]| -> Value {
        let mut command =
            program(&[&["profile", "--device", "cuda", "-r", "1", "--layers", "--json"], args].concat());
        command.env("JETSON_LLM_CUDA_LIBRARY", &library).envs(power.iter().copied());
        common::Ran::from(command.output().expect("it starts")).json()
    };
    let with_power = profile(&["-p", "12", "-n", "2", "-d", "5"], &[("EMULATED_POWER", "15000")]);
    check(&with_power);
    assert_eq!(with_power["power"], "NVML, the GPU's board");
    assert!(with_power["tracing"].as_str().is_some_and(|words| words.contains("traced: no graphs")));
    let tests = with_power["tests"].as_array().expect("tests");
    for test in tests {
        let energy = &test["energy"];
        let (joules, seconds) = (number(energy, "joules"), number(energy, "seconds"));
        assert!(seconds >= 2.0 && (joules / seconds / 15.0 - 1.0).abs() < 0.05, "{energy}");
        assert!(near(number(energy, "tokens_per_joule"), number(energy, "tokens") / joules));
    }
    // A decoded token is the table and the rotations, five launches a layer, and the logits.
    assert!(near(number(&tests[1], "launches"), 1.0 + 5.0 * 6.0 + 1.0), "{}", tests[1]);
    let plain = profile(&["-p", "0", "-n", "1", "--no-fuse"], &[]);
    check(&plain);
    assert!(plain["power"].is_null() && plain["tests"][0]["energy"].is_null());
    // Each operation by itself, and the gate behind its products.
    assert!(number(&plain["tests"][0], "launches") >= 9.0 * 6.0, "{plain}");
}

/// What is told before loading is what is held after it.
#[test]
fn the_gpus_memory_is_told() {
    let Some(library) = cuda::lab::emulated_library() else { return };
    let ran = |args: &[&str]| {
        let output = program(args).env("JETSON_LLM_CUDA_LIBRARY", &library).output().expect("it starts");
        common::Ran::from(output)
    };
    let part = |text: &str, name: &str| -> String {
        let rest = text.split_once(name).unwrap_or_else(|| panic!("{name} in {text}")).1;
        rest.trim_start().split_inclusive("iB").next().expect("a size").to_owned()
    };
    let answer = ran(&["-p", "Hi", "-n", "1", "--temp", "0", "-c", "64", "-v", "--device", "cuda"]);
    assert_eq!(answer.code, Some(0), "{}", answer.err);
    let line = |start: &str| {
        let found = answer.err.lines().find(|line| line.starts_with(start));
        found.unwrap_or_else(|| panic!("{start} in {}", answer.err)).to_owned()
    };
    let (before, after) = (line("GPU memory: "), line("GPU loaded: "));
    assert!(after.contains(" in 1 chunk, ") && after.contains("; free after "), "{after}");
    for name in ["weights", "cache", "buffers"] {
        assert_eq!(part(&before, name), part(&after, name), "{name}");
    }
    for command in ["plan", "inspect"] {
        let text = ran(&[command, "-c", "64", "--device", "cuda"]).ok();
        let told = text.lines().find(|line| line.starts_with("GPU")).expect("a line about the GPU");
        assert_eq!(part(told, "buffers"), part(&before, "buffers"), "{command}");
        assert!(!ran(&[command, "-c", "64"]).ok().contains("GPU"), "{command}");
    }
    let quiet = ran(&["-p", "Hi", "-n", "1", "--temp", "0", "--device", "cuda"]).err;
    assert!(!quiet.contains("GPU memory"), "{quiet}");
}
