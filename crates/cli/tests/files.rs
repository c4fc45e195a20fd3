//! `inspect`, `plan`, `tokenize`, `quantize`: what is said and written about files.

mod common;

use common::{Folder, run, run_with, write_model};
use quant::Format;

#[test]
fn inspect_describes_the_built_in_model() {
    let about = run(&["inspect", "--json"]).json();
    assert_eq!(about["family"], "llama");
    assert_eq!(about["mix"], "Q6_K");
    assert_eq!(about["parameters"], 6_819_072);
    assert_eq!(about["supported"], true);
    assert_eq!(about["keys"]["llama.block_count"], 6);
    assert_eq!(about["keys"]["tokenizer.ggml.tokens"]["length"], 8192);
    assert_eq!(about["formats"]["Q6_K"]["tensors"], 43);
    let tensors = about["tensors"].as_array().expect("a list");
    let table = tensors.iter().find(|tensor| tensor["name"] == "token_embd.weight").expect("it is there");
    assert_eq!(table["shape"], serde_json::json!([256, 8192]));
    let memory = |of: &str| about["memory"][of].as_u64().expect("a number");
    assert_eq!(memory("total"), memory("weights") + memory("kv") + memory("buffers"));
    // Two of 6 layers × 2 heads × 64 × 1024 positions in half floats.
    assert_eq!(memory("kv"), 2 * 6 * 2 * 64 * 1024 * 2);
    let text = run(&["inspect", "--tensors"]).ok();
    assert!(text.contains("supported    yes") && text.contains("blk.5.ffn_down.weight"), "{text}");
}

#[test]
fn inspect_says_why_a_file_does_not_run() {
    let folder = Folder::new();
    write_model(&folder.path("m.gguf"), 256, Format::F16, &|writer| {
        writer.set("general.architecture", "mamba").expect("a string");
        writer.set("general.name", "a\x1b[2J\u{202e}b").expect("a string");
    });
    let ran = run(&["inspect", &folder.arg("m.gguf")]);
    assert!(ran.out.contains("no: m.gguf: architecture \"mamba\" is not supported"), "{}", ran.out);
    assert!(!ran.out.contains('\x1b') && !ran.out.contains('\u{202e}'), "escapes are not passed on");
    let about = run(&["inspect", &folder.arg("m.gguf"), "--json"]).json();
    assert_eq!(about["supported"], false);
    assert_eq!(about["name"], "a\u{1b}[2J\u{202e}b");
    let err = run(&["-m", &folder.arg("m.gguf"), "-p", "Hi"]).refused();
    assert!(err.contains("this build runs llama, qwen2"), "{err}");
}

#[test]
fn a_damaged_file_is_refused_by_every_command() {
    let folder = Folder::new();
    let whole =
        std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/chat-7m.gguf")).expect("the asset");
    let file = folder.write("cut.gguf", &whole[..200_000]);
    let out = folder.arg("out");
    for args in [
        vec!["inspect", &file],
        vec!["plan", &file],
        vec!["tokenize", "-m", &file, "-p", "x"],
        vec!["logits", "-m", &file, "--ids", "1", "--out", &out],
        vec!["quantize", &file, &out, "Q8_0"],
        vec!["-m", &file, "-p", "x"],
    ] {
        let err = run(&args).refused();
        assert!(err.contains("cut.gguf"), "{args:?}: {err}");
    }
    assert_eq!(folder.names(), ["cut.gguf"], "nothing was written");
}

#[test]
fn plan_prints_the_forward_pass() {
    let plan = run(&["plan"]).ok();
    assert!(plan.starts_with("dim 256 · heads 4/2 of 64"), "{plan}");
    assert!(plan.contains("attend(Q, cache 5)") && plan.contains("Logits = H · token_embd.weight"), "{plan}");
}

#[test]
fn tokens_are_those_of_llama_cpp() {
    let ids = run(&["tokenize", "-p", "What is 2+2?", "--json"]).ok();
    assert_eq!(ids, "[506,315,220,17,10,17,30]\n");
    assert_eq!(run_with(&["tokenize", "--bos", "--json"], b"What is").ok(), "[8176,506,315]\n");
    assert_eq!(run(&["tokenize", "--special", "-p", "<|eot_id|>", "--json"]).ok(), "[8180]\n");
    assert!(!run(&["tokenize", "-p", "<|eot_id|>", "--json"]).ok().contains("8180"));
    assert_eq!(run(&["tokenize", "-p", "", "--json"]).ok(), "[]\n");
    let lines = run(&["tokenize", "-p", "a b\n"]).ok();
    assert!(lines.ends_with("\\n\n") && lines.lines().all(|line| line.contains('\t')), "{lines:?}");
}

#[test]
fn a_text_file_is_taken_whole_or_refused() {
    let folder = Folder::new();
    let text = folder.write("a.txt", b"What is 2+2?\n");
    let ids = run(&["tokenize", "--file", &text, "--json"]).json();
    assert_eq!(ids.as_array().map(Vec::len), Some(8), "the line feed is a token too: {ids}");
    let bad = folder.write("b.txt", b"abc\xe9def");
    let err = run(&["tokenize", "--file", &bad, "--json"]).refused();
    assert!(err.contains("b.txt is not UTF-8 at byte 3"), "{err}");
}

#[test]
fn vocabulary_only_files_tokenize() {
    let Some(file) = testkit::shared("fixtures/tokenizers") else { return };
    let file = file.join("ggml-vocab-llama-bpe.gguf");
    let Some(file) = file.to_str().filter(|_| file.exists()) else { return };
    assert_eq!(run(&["tokenize", "-m", file, "-p", "Hello world", "--json"]).ok(), "[9906,1917]\n");
    assert!(run(&["-m", file, "-p", "Hi"]).refused().contains("holds a vocabulary and no weights"));
}

#[test]
fn quantize_writes_what_the_mix_says() {
    let folder = Folder::new();
    write_model(&folder.path("in.gguf"), 256, Format::F16, &|_| {});
    let (input, output) = (folder.arg("in.gguf"), folder.arg("out.gguf"));
    for (mix, format, of) in
        [("Q4_K_M", "Q4_K", "attn_q"), ("q8_0", "Q8_0", "token_embd"), ("Q6_K", "Q6_K", "ffn_up")]
    {
        let ran = run(&["quantize", &input, &output, mix]);
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        assert!(ran.err.contains("in.gguf") && ran.err.contains(" in "), "{}", ran.err);
        let about = run(&["inspect", &output, "--json"]).json();
        assert_eq!(about["mix"], mix.to_uppercase());
        assert_eq!(about["keys"]["general.quantization_version"], 2);
        let tensors = about["tensors"].as_array().expect("a list");
        let name =
            |tensor: &&serde_json::Value| tensor["name"].as_str().is_some_and(|name| name.contains(of));
        assert!(tensors.iter().filter(name).all(|tensor| tensor["format"] == format), "{mix}");
        let norm = tensors.iter().find(|tensor| tensor["name"] == "output_norm.weight").expect("it stays");
        assert_eq!(norm["format"], "F32");
    }
}

#[test]
fn threads_and_strips_do_not_change_a_file() {
    let folder = Folder::new();
    write_model(&folder.path("in.gguf"), 256, Format::F32, &|_| {});
    let input = folder.arg("in.gguf");
    run(&["quantize", &input, &folder.arg("one.gguf"), "Q5_K_M", "-t", "1", "--quiet"]).ok();
    run(&["quantize", &input, &folder.arg("five.gguf"), "Q5_K_M", "-t", "5", "--quiet"]).ok();
    assert!(folder.read("one.gguf") == folder.read("five.gguf"));
}

#[test]
fn the_built_in_model_is_made_by_quantize() {
    let Some(source) = testkit::shared("models/chat-7m-f16.gguf") else { return };
    let folder = Folder::new();
    let source = source.to_str().expect("the path is UTF-8");
    run(&["quantize", source, &folder.arg("out.gguf"), "Q6_K"]).ok();
    let asset =
        std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/chat-7m.gguf")).expect("the asset");
    assert!(folder.read("out.gguf") == asset);
}

#[test]
fn narrow_rows_fall_back_and_say_so() {
    let folder = Folder::new();
    write_model(&folder.path("in.gguf"), 32, Format::F32, &|_| {});
    let ran = run(&["quantize", &folder.arg("in.gguf"), &folder.arg("out.gguf"), "Q4_K_M"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let note = "blk.0.attn_q.weight becomes Q5_0: its rows of 32 are not whole blocks of Q4_K";
    assert!(ran.err.contains(note), "{}", ran.err);
}

#[test]
fn quantize_refuses_what_would_do_harm() {
    let folder = Folder::new();
    write_model(&folder.path("in.gguf"), 256, Format::F16, &|_| {});
    let (input, output) = (folder.arg("in.gguf"), folder.arg("out.gguf"));
    assert!(run(&["quantize", &input, &input, "Q8_0"]).refused().contains("OUT is the same file as IN"));
    let err = run(&["quantize", &input, &output, "Q3_X"]).refused();
    assert!(err.contains("there is no such mix") && err.contains("Q4_K_M  4.9 bits"), "{err}");
    run(&["quantize", &input, &output, "Q8_0"]).ok();
    let again = folder.arg("again.gguf");
    let err = run(&["quantize", &output, &again, "Q4_K_M"]).refused();
    assert!(err.contains("is Q8_0 already") && err.contains("--allow-requantize"), "{err}");
    run(&["quantize", &output, &again, "Q4_K_M", "--allow-requantize"]).ok();
    let missing = run(&["quantize", &folder.arg("im.gguf"), &output, "Q8_0"]).refused();
    assert!(missing.contains("did you mean"), "{missing}");
    let nowhere = run(&["quantize", &input, "/no/such/folder/x.gguf", "Q8_0"]);
    assert_eq!(nowhere.code, Some(1), "{}", nowhere.err);
    assert_eq!(folder.names(), ["again.gguf", "in.gguf", "out.gguf"], "no partial files stay");
}

/// G13 of the catalogue: float weights, and scales of quantized ones.
#[test]
fn inspect_finds_weights_that_are_not_finite_when_asked() {
    let folder = Folder::new();
    let cases = [
        (Format::F32, 4 * 1000, f32::NAN.to_le_bytes().to_vec(), "holds NaN"),
        (
            Format::F32,
            4,
            f32::INFINITY.to_le_bytes().to_vec(),
            "row 255 of tensor blk.1.ffn_down.weight holds inf",
        ),
        // The last block of Q8_0: an infinite scale before its 32 codes.
        (Format::Q8_0, 34, vec![0x00, 0x7c, 1], "row 255 of tensor blk.1.ffn_down.weight holds inf"),
    ];
    for (format, from_end, damage, said) in cases {
        write_model(&folder.path("in.gguf"), 256, format, &|_| {});
        let good = run(&["inspect", &folder.arg("in.gguf"), "--check"]);
        assert_eq!(good.code, Some(0), "{}", good.err);
        let mut bytes = folder.read("in.gguf");
        let at = bytes.len() - from_end;
        bytes[at..at + damage.len()].copy_from_slice(&damage);
        let input = folder.write("damaged.gguf", &bytes);
        let err = run(&["inspect", &input, "--check"]).refused();
        assert!(err.contains(said), "{err}");
        assert_eq!(run(&["inspect", &input]).code, Some(0), "only when asked");
    }
}

#[test]
fn weights_that_are_not_finite_are_found() {
    let folder = Folder::new();
    write_model(&folder.path("in.gguf"), 256, Format::F32, &|_| {});
    let mut bytes = folder.read("in.gguf");
    let at = bytes.len() - 4 * 1000;
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let input = folder.write("nan.gguf", &bytes);
    let err = run(&["quantize", &input, &folder.arg("out.gguf"), "Q4_0"]).refused();
    assert!(err.contains("tensor blk.1.ffn_down.weight holds a weight that is not finite"), "{err}");
    assert_eq!(folder.names(), ["in.gguf", "nan.gguf"]);
}

#[test]
fn threads_that_cannot_be_started_are_no_panic() {
    let folder = Folder::new();
    write_model(&folder.path("in.gguf"), 256, Format::F16, &|_| {});
    let command = "ulimit -v 200000 && exec \"$0\" quantize \"$1\" \"$2\" Q8_0 -t 1000";
    let (program, input, output) =
        (env!("CARGO_BIN_EXE_jetson-llm"), folder.arg("in.gguf"), folder.arg("out.gguf"));
    let shell = std::process::Command::new("sh").args(["-c", command, program, &input, &output]).output();
    let ran = shell.expect("there is a shell");
    let err = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(1), "{err}");
    assert!(err.contains("cannot start 1000 threads") && err.contains("lower --threads"), "{err}");
    assert_eq!(folder.names(), ["in.gguf"]);
}
