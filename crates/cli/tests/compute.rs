//! `logits`, `perplexity`, `bench`: numbers for programs.

mod common;

use std::os::unix::fs::PermissionsExt;

use common::{Folder, run};

/// Rows of a numpy file written by `logits`.
fn npy(bytes: &[u8], cols: usize) -> Vec<Vec<f32>> {
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let header = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let values: Vec<f32> = bytes[10 + header..]
        .chunks_exact(4)
        .map(|four| f32::from_le_bytes(four.try_into().expect("four bytes")))
        .collect();
    values.chunks_exact(cols).map(<[f32]>::to_vec).collect()
}

const IDS: &str = "8176,8178,383,8179,305,506,315,220,17,10,17,30,8180,8178,387,8179,305";

#[test]
fn logits_do_not_depend_on_the_chunk() {
    let folder = Folder::new();
    let out = folder.arg("x.npy");
    let logits = |more: &[&str]| {
        run(&[&["logits", "--ids", IDS, "--out", &out], more].concat()).ok();
        npy(&folder.read("x.npy"), 8192)
    };
    let whole = logits(&[]);
    assert_eq!(whole.len(), 17);
    for chunk in ["1", "5", "16"] {
        assert!(logits(&["--chunk", chunk]) == whole, "chunk {chunk}");
    }
    assert!(logits(&["-t", "1"]) == whole, "one thread");
    let last = whole.last().expect("17 rows");
    assert_eq!(testkit::golden::argmax(last), 17, "the answer begins with 2");

    let slow = logits(&["--reference"]);
    for (fast, slow) in whole.iter().zip(&slow) {
        // The cores round activations to integers for quantized weights.
        assert!(testkit::golden::relative_error(fast, slow) < 0.05);
    }
}

#[test]
fn logits_agree_with_transformers() {
    for golden in testkit::golden::goldens() {
        let folder = Folder::new();
        let ids: Vec<String> = golden.ids.iter().map(ToString::to_string).collect();
        let model = golden.model.to_str().expect("the path is UTF-8");
        run(&["logits", "-m", model, "--ids", &ids.join(","), "--out", &folder.arg("x.npy")]).ok();
        let rows = npy(&folder.read("x.npy"), 512).concat();
        let error = testkit::golden::relative_error(&rows, &golden.logits);
        assert!(error < 1e-4, "{model}: {error:e}");
    }
}

#[test]
fn ids_are_checked() {
    let out = Folder::new();
    let out = out.arg("x.npy");
    let logits = |ids: &str| run(&["logits", "--ids", ids, "--out", &out]).refused();
    assert!(logits("1,9000").contains("--ids holds 9000; the model's tokens go from 0 to 8191"));
    assert!(logits("1,x").contains("invalid value 'x'"));
    let full = run(&["logits", "--ids", "1", "--out", "/dev/full"]);
    assert_eq!(full.code, Some(1));
    assert!(full.err.contains("cannot write /dev/full"), "{}", full.err);
}

#[test]
fn perplexity_scores_the_second_half_of_windows() {
    let folder = Folder::new();
    let text = "Once upon a time there was a little fox who lived near the old castle. ".repeat(30);
    let file = folder.write("text.txt", text.as_bytes());
    let score = run(&["perplexity", "-f", &file, "-c", "64", "--json"]).json();
    let windows = score["windows"].as_u64().expect("a number");
    assert!(windows >= 4);
    assert_eq!(score["tokens"], windows * 31);
    let perplexity = score["perplexity"].as_f64().expect("a number");
    assert!(perplexity > 1.0 && perplexity < 100.0, "{perplexity}");
    assert!(score["standard_error"].as_f64().is_some_and(|error| error > 0.0));
    let plain = run(&["perplexity", "-f", &file, "-c", "64"]).ok();
    assert!(plain.starts_with(&format!("perplexity {perplexity:.4} ± ")), "{plain}");
    let short = folder.write("short.txt", b"Once upon a time");
    assert!(run(&["perplexity", "-f", &short]).refused().contains("two windows of 512 are needed"));
}

#[test]
fn perplexity_is_that_of_llama_cpp() {
    let (Some(model), Some(text)) =
        (testkit::shared("models/chat-42m-f16.gguf"), testkit::shared("fixtures/text/wiki.test.raw"))
    else {
        return;
    };
    let (model, text) = (model.to_str().expect("UTF-8"), text.to_str().expect("UTF-8"));
    let score = run(&["perplexity", "-m", model, "-f", text, "--chunks", "4", "--json"]).json();
    let perplexity = score["perplexity"].as_f64().expect("a number");
    // llama-perplexity after four windows of 512, on the same files.
    assert!((perplexity / 99.1026 - 1.0).abs() < 1e-3, "{perplexity}");
}

#[test]
fn bench_speaks_llama_benchs_json() {
    let rows = run(&["bench", "-p", "16", "-n", "4", "-d", "0,32", "-r", "3", "--json"]).json();
    let rows = rows.as_array().expect("an array");
    let tests: Vec<[u64; 3]> = rows
        .iter()
        .map(|row| ["n_prompt", "n_gen", "n_depth"].map(|key| row[key].as_u64().expect("a number")))
        .collect();
    assert_eq!(tests, [[16, 0, 0], [0, 4, 0], [16, 0, 32], [0, 4, 32]]);
    for row in rows {
        assert_eq!(row["samples_ns"].as_array().map(Vec::len), Some(3));
        let (ns, ts) = (row["avg_ns"].as_f64(), row["avg_ts"].as_f64());
        assert!(ns.is_some_and(|ns| ns > 0.0) && ts.is_some_and(|ts| ts > 0.0), "{row}");
        for key in
            ["build_commit", "cpu_info", "model_type", "test_time", "stddev_ns", "stddev_ts", "n_threads"]
        {
            assert!(!row[key].is_null(), "{key}");
        }
        assert_eq!(row["model_n_params"], 6_819_072);
    }
}

#[test]
fn bench_prints_a_table_and_a_trace() {
    let table = run(&["bench", "-p", "8", "-n", "2", "-r", "1", "--trace"]).ok();
    assert!(table.contains(" pp8 |") && table.contains(" tg2 |"), "{table}");
    assert!(table.contains("logits Q6_K") && table.contains("attend"), "{table}");
    assert!(run(&["bench", "-p", "0", "-n", "0"]).refused().contains("nothing to measure"));
}

#[test]
fn bench_takes_turns_with_a_peer() {
    let folder = Folder::new();
    let log = folder.arg("log");
    let script = format!("#!/bin/sh\necho \"$@\" >> {log}\necho '[{{\"samples_ns\": [ 1000000000 ]}}]'\n");
    let peer = folder.write("llama-bench", script.as_bytes());
    std::fs::set_permissions(&peer, std::fs::Permissions::from_mode(0o755)).expect("our file");
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/chat-7m.gguf");
    let args = ["bench", "-m", model, "-p", "8", "-n", "0", "-r", "3", "-t", "1", "--peer", &peer, "--json"];
    let rows = run(&args).json();
    assert_eq!(rows[0]["peer"]["avg_ts"], 8.0);
    let ours = rows[0]["samples_ts"].as_array().expect("an array").len();
    assert_eq!(ours, 3);
    assert!(rows[0]["ratio"].as_f64().is_some_and(|ratio| ratio > 0.0));
    let calls = String::from_utf8(folder.read("log")).expect("text");
    assert_eq!(calls.lines().count(), 3);
    assert!(calls.contains("-r 1") && calls.contains("-t 1 -p 8 -n 0 -d 0"), "{calls}");
    let err = run(&["bench", "-m", model, "-p", "8", "-n", "0", "-r", "1", "--peer", "/no/such"]).refused();
    assert!(err.contains("--peer /no/such is no program"), "{err}");
}

#[test]
fn ids_that_are_none_leave_the_file_to_write_as_it_was() {
    let folder = Folder::new();
    let out = folder.write("kept.npy", b"kept");
    for (ids, said) in [
        ("1,8192", "--ids holds 8192; the model's tokens go from 0 to 8191"),
        ("1,-1", "not a token id"),
        ("-1", "not a token id"),
        ("", "not a token id"),
        ("1,,2", "not a token id"),
    ] {
        let err = run(&["logits", "--ids", ids, "--out", &out]).refused();
        assert!(err.contains(said), "{ids}: {err}");
    }
    let err = run(&["logits", "--ids", "1,2", "-c", "1", "--out", &out]).refused();
    assert!(err.contains("--ids holds 2 tokens and --ctx-size is 1"), "{err}");
    assert_eq!(folder.read("kept.npy"), b"kept");
}

#[test]
fn sizes_that_overflow_the_sums_are_refused() {
    for command in ["inspect", "plan"] {
        let err = run(&[command, "-c", "1000000000000000000"]).refused();
        assert!(err.contains("give a number from 0 to 16777216"), "{command}: {err}");
    }
}

#[test]
fn ctrl_c_ends_a_measurement_at_once() {
    use std::time::{Duration, Instant};
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    if ignored >> 1 & 1 == 1 {
        // As shells start what is to run in the background; its children inherit it.
        return eprintln!("skipped: SIGINT is ignored here");
    }
    let mut child =
        common::program(&["bench", "-p", "0", "-n", "60000", "-r", "9"]).spawn().expect("it starts");
    std::thread::sleep(Duration::from_millis(1500));
    let asked = Instant::now();
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.expect("there is kill").success());
    let status = child.wait().expect("it ends");
    assert!(asked.elapsed() < Duration::from_secs(5) && !status.success(), "{status}");
}
