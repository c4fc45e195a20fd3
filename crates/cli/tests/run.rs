//! `run`: prompts in, answers out, and how it ends when things go wrong.

mod common;

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use common::{Folder, program, run, run_with};

const QUESTION: &[&str] = &["-p", "What is 2+2?", "--temp", "0"];

fn with<'a>(args: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [args, more].concat()
}

#[test]
fn the_built_in_model_answers() {
    let ran = run(QUESTION);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert_eq!(ran.out, "2 + 2 = 4.\n");
    let summary = ran.err.trim_end();
    assert_eq!(summary.lines().count(), 1, "one line and no progress without a terminal: {summary}");
    assert!(summary.starts_with("prompt 17 tokens, "), "{summary}");
    for part in [" tok/s · first token ", " ms · generated 9 tokens, ", " · peak memory "] {
        assert!(summary.contains(part), "{summary}");
    }
    assert!(!summary.contains('\x1b'), "no escapes without a terminal");
}

#[test]
fn run_may_be_said_or_left_out() {
    assert_eq!(run(&with(&["run"], QUESTION)).ok(), "2 + 2 = 4.\n");
}

#[test]
fn quiet_prints_the_answer_only() {
    let ran = run(&with(QUESTION, &["--quiet"]));
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("2 + 2 = 4.\n", ""));
}

#[test]
fn json_tells_what_programs_need() {
    let answer = run(&with(QUESTION, &["--json", "-n", "4"])).json();
    assert_eq!(answer["text"], "2 + 2");
    assert_eq!(answer["finish"], "length");
    assert_eq!(answer["prompt_tokens"], 17);
    // What llama.cpp gives for the same prompt and file.
    assert_eq!(answer["ids"], serde_json::json!([17, 916, 220, 17]));
    assert_eq!(answer["prompt_ids"][5], 506);
    assert!(answer["peak_memory_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20));
}

#[test]
fn a_prompt_comes_from_stdin_or_a_file() {
    assert_eq!(run_with(&["--temp", "0"], b"What is 2+2?\n").ok(), "2 + 2 = 4.\n");
    let folder = Folder::new();
    let file = folder.write("question.txt", b"What is 2+2?\n");
    assert_eq!(run(&["-f", &file, "--temp", "0"]).ok(), "2 + 2 = 4.\n");
}

#[test]
fn a_prompt_must_be_there_and_be_text() {
    assert!(run_with(&[], b"").refused().contains("the prompt is empty"));
    assert!(run_with(&[], b"ab\xffcd").refused().contains("stdin is not UTF-8 at byte 2"));
    assert!(run(&["-f", "/no/such/file"]).refused().contains("cannot open /no/such/file"));
    assert!(run(&["-p", "a", "-f", "b"]).refused().contains("cannot be used with"));
}

#[test]
fn a_system_message_is_heard() {
    let args =
        ["-s", "Answer only in JSON with the key \"answer\".", "-p", "How many legs does a spider have?"];
    assert_eq!(run(&with(&args, &["--temp", "0"])).ok(), "{\"answer\": \"eight\"}\n");
    assert!(run(&["--raw", "-s", "x", "-p", "y"]).refused().contains("--raw uses no chat template"));
}

#[test]
fn raw_completes_the_text() {
    let raw = run(&["--raw", "-p", "The house", "--temp", "0", "-n", "5", "--json"]).json();
    // One token in front, no template around.
    assert_eq!(raw["prompt_ids"][0], 8176);
    assert_eq!(raw["prompt_tokens"], 3);
    let plain = run(&["--raw", "-p", "<|eot_id|>", "-n", "0", "--json"]).json();
    assert!(plain["prompt_tokens"].as_u64().is_some_and(|tokens| tokens > 3), "the text stays text");
    let special = run(&["--raw", "--special", "-p", "<|eot_id|>", "-n", "0", "--json"]).json();
    assert_eq!(special["prompt_ids"], serde_json::json!([8176, 8180]));
}

#[test]
fn an_answer_can_be_cut_and_steered() {
    assert_eq!(run(&with(QUESTION, &["--stop", " = "])).ok(), "2 + 2\n");
    assert_eq!(run(&with(QUESTION, &["-n", "0"])).ok(), "");
    let forbidden = run(&with(QUESTION, &["--logit-bias", "17:-inf", "-n", "8"])).ok();
    assert!(!forbidden.contains('2'), "{forbidden}");
    let on = run(&with(QUESTION, &["--ignore-eos", "-n", "20", "--json"])).json();
    assert_eq!(on["generated_tokens"], 20);
}

#[test]
fn a_seed_repeats_an_answer() {
    let story = |seed: &str| {
        run(&["-p", "Tell me a short story about a fox.", "--temp", "1.5", "-n", "30", "--seed", seed]).ok()
    };
    assert_eq!(story("5"), story("5"));
    assert_ne!(story("5"), story("6"));
}

#[test]
fn a_full_context_is_said() {
    let ran = run(&with(QUESTION, &["-c", "24", "--ignore-eos"]));
    assert_eq!(ran.code, Some(0));
    assert!(ran.err.contains("the context of 24 positions is full; see --ctx-size"), "{}", ran.err);
    let long = run(&with(QUESTION, &["-c", "8"])).refused();
    assert!(
        long.contains("the prompt has 17 tokens and the context 8 positions; shorten it or raise --ctx-size"),
        "{long}"
    );
}

#[test]
fn negative_numbers_are_named_not_taken_for_flags() {
    for (args, said) in [
        (["--temp", "-1"], "not between 0 and 100"),
        (["--top-p", "0"], "not above 0"),
        (["--min-p", "-0.1"], "not between 0 and 1"),
        (["--top-k", "-1"], "not a whole number from 0 up"),
        (["--seed", "-1"], "not a whole number from 0 to 18446744073709551615; leave it out to vary"),
        (["-c", "-1"], "not a whole number from 0 up"),
        (["-t", "two"], "not a whole number from 0 up"),
    ] {
        let err = run(&with(QUESTION, &args)).refused();
        assert!(err.contains("invalid value") && err.contains(said), "{args:?}: {err}");
    }
}

#[test]
fn a_prompt_without_its_flag_gets_a_hint() {
    assert!(run(&["What is 2+2?"]).refused().contains("a prompt goes after -p"));
    assert!(run(&["inspct"]).refused().contains("'inspect'"));
}

#[test]
fn help_for_a_full_disk_is_a_failure() {
    for args in ["--help", "--version"] {
        let full = std::fs::File::create("/dev/full").expect("Linux has it");
        let ran = program(&[args]).stdout(full).output().expect("the program starts");
        assert_eq!(ran.status.code(), Some(1), "{args}");
        assert!(String::from_utf8_lossy(&ran.stderr).contains("cannot write to stdout"), "{args}");
    }
}

#[test]
fn a_limit_below_the_model_is_said_before_loading() {
    // Of data, not of address space: that would count the program itself, which grows and differs by profile.
    let command = "ulimit -d 9000 && exec \"$0\" -p hi";
    let shell = Command::new("sh").args(["-c", command, env!("CARGO_BIN_EXE_jetson-llm")]).output();
    let ran = shell.expect("there is a shell");
    let err = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(1), "{err}");
    assert!(err.contains("with 1024 positions needs") && err.contains("is free; "), "{err}");
}

#[test]
fn settings_are_checked() {
    for (args, said) in [
        (["--temp", "hot"], "not a number"),
        (["--temp", "nan"], "not finite"),
        (["--top-p", "1.5"], "not between 0 and 1"),
        (["-t", "0"], "--threads is 0; give a number from 1"),
        (["-n", "-2"], "-2 is not in"),
        (["--batch-size", "0"], "--batch-size is 0"),
        (["--logit-bias", "9999:1"], "--logit-bias names token 9999; the model's go from 0 to 8191"),
        (["-c", "99999999999"], "--ctx-size is 99999999999"),
        (["--device", "abacus"], "possible values: auto, cpu, cuda"),
    ] {
        let err = run(&with(QUESTION, &args)).refused();
        assert!(err.contains(said), "{args:?}: {err}");
    }
}

/// Asked for, a GPU that cannot be had is an error in one line; not asked for, the cores answer.
#[test]
fn a_gpu_that_is_not_there_is_explained() {
    let nowhere = ["--cuda-library", "/nowhere/libcuda.so.1"];
    let err = run(&with(&with(QUESTION, &["--device", "cuda"]), &nowhere)).refused();
    assert!(err.starts_with("error: no CUDA driver: /nowhere/libcuda.so.1 cannot be opened ("), "{err}");
    assert!(err.contains("`--device cpu`") && err.trim_end().lines().count() == 1, "{err}");
    let ran = program(&with(QUESTION, &["-n", "1"])).env("JETSON_LLM_CUDA_LIBRARY", nowhere[1]).output();
    let ran = ran.expect("it starts");
    assert_eq!(ran.status.code(), Some(0));
    let err = String::from_utf8_lossy(&ran.stderr);
    assert!(err.contains("note: the GPU is not used: no CUDA driver: /nowhere/libcuda.so.1"), "{err}");
}

#[test]
fn the_environment_stands_in_for_flags() {
    let ran = program(QUESTION).env("JETSON_LLM_MODEL", "/no/such.gguf").output().expect("it starts");
    assert_eq!(ran.status.code(), Some(2));
    let ran = program(QUESTION).env("JETSON_LLM_THREADS", "many").output().expect("it starts");
    assert!(String::from_utf8_lossy(&ran.stderr).contains("JETSON_LLM_THREADS is many; give a number"));
    let ran = program(&with(QUESTION, &["-t", "1"])).env("JETSON_LLM_THREADS", "many").output();
    assert_eq!(ran.expect("it starts").status.code(), Some(0), "the flag wins");
}

#[test]
fn a_missing_model_is_explained() {
    let folder = Folder::new();
    folder.write("tinyllama-1.1b.gguf", b"");
    let err = run(&["-m", &folder.arg("tinylama-1.1b.gguf"), "-p", "Hi"]).refused();
    let near = folder.arg("tinyllama-1.1b.gguf");
    assert!(err.contains(&format!("is not there; did you mean {near}?")), "{err}");
    let err = run(&["-m", &folder.arg("mistral.gguf"), "-p", "Hi"]).refused();
    assert!(err.contains("give the path of a GGUF file, or leave -m out for the built-in model"), "{err}");
    let err = run(&["-m", &folder.arg("none/x.gguf"), "-p", "Hi"]).refused();
    assert!(err.contains("there is no folder"), "{err}");
    let err = run(&["-m", &folder.arg("."), "-p", "Hi"]).refused();
    assert!(err.contains("is a directory; give one of its files"), "{err}");
    let err = run(&["-m", &near, "-p", "Hi"]).refused();
    assert!(err.contains("tinyllama-1.1b.gguf"), "{err}");
    let err = run(&["-m", "/dev/zero", "-p", "Hi"]).refused();
    assert!(err.contains("is a device"), "{err}");
    let err = run(&["-m", "a\x1b[2Jb.gguf", "-p", "Hi"]).refused();
    assert!(!err.contains('\x1b'), "{err}");
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let mut child = program(&with(QUESTION, &["--ignore-eos", "-n", "300"]))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdout = child.stdout.take().expect("a pipe");
    let mut first = [0; 1];
    stdout.read_exact(&mut first).expect("an answer begins");
    drop(stdout);
    let ended = child.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(0));
    assert!(!String::from_utf8_lossy(&ended.stderr).contains("error"), "{ended:?}");
}

#[test]
fn ctrl_c_ends_the_answer_with_its_summary() {
    let mut child = program(&with(QUESTION, &["--ignore-eos", "-c", "1024"]))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdout = child.stdout.take().expect("a pipe");
    let mut first = [0; 1];
    stdout.read_exact(&mut first).expect("an answer begins");
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.expect("kill runs").success());
    std::io::copy(&mut stdout, &mut std::io::sink()).expect("the answer ends");
    let mut summary = String::new();
    let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
    stderr.lines().for_each(|line| summary.push_str(&line.expect("text")));
    assert_eq!(child.wait().expect("it ends").code(), Some(130), "{summary}");
    assert!(summary.starts_with("prompt 17 tokens"), "{summary}");
}

#[test]
fn wrong_words_get_a_hint() {
    assert!(run(&["--tmep", "0"]).refused().contains("'--temp'"));
    assert!(run(&["inspekt"]).refused().contains("'inspect'"));
}

#[test]
fn help_is_short_and_has_examples() {
    let short = run(&["-h"]).ok();
    assert!(short.lines().count() <= 70, "{} lines", short.lines().count());
    for part in ["Usage:", "Commands:", "Prompt:", "Model:", "Sampling:", "Output:", "Examples:"] {
        assert!(short.contains(part), "{part}");
    }
    for command in ["run", "chat", "inspect", "plan", "tokenize", "logits", "perplexity", "bench", "quantize"]
    {
        let help = run(&[command, "--help"]).ok();
        assert!(help.contains("Examples:"), "{command}");
        assert!(help.contains(&format!("jetson-llm {command}")), "{command}");
    }
    assert!(run(&["--version"]).ok().starts_with("jetson-llm 0."));
}

#[test]
fn an_answer_that_cannot_be_written_is_a_failure() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("the device is there");
    let ran = program(QUESTION).stdout(full).stderr(Stdio::piped()).output().expect("it starts");
    assert_eq!(ran.status.code(), Some(1));
    let err = String::from_utf8_lossy(&ran.stderr);
    assert!(err.contains("error: cannot write to stdout: No space left"), "{err}");
}

#[test]
fn a_template_that_refuses_is_told_apart() {
    let folder = Folder::new();
    let built_in = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/chat-7m.gguf");
    let source = gguf::Gguf::open(std::path::Path::new(built_in)).expect("the asset");
    let mut writer = gguf::Writer::new();
    writer.copy_keys(&source).expect("keys of a good file");
    let template = "{{ raise_exception('only on Sundays') }}";
    writer.set("tokenizer.chat_template", template).expect("a string");
    for tensor in source.tensors() {
        writer.tensor(&tensor.name, tensor.format, &tensor.shape).expect("tensors of a good file");
    }
    let mut body = writer.create(&folder.path("m.gguf")).expect("the folder can be written");
    for tensor in source.tensors() {
        body.write(&source.read_all(tensor).expect("the asset is whole")).expect("it fits");
    }
    body.commit().expect("it is complete");
    let model = folder.arg("m.gguf");
    let err = run(&with(&["-m", &model], QUESTION)).refused();
    assert!(err.contains("only on Sundays") && err.contains("--raw does without"), "{err}");
    assert_eq!(
        run(&with(&["-m", &model, "--raw", "-n", "1", "--json"], QUESTION)).json()["generated_tokens"],
        1
    );
}
