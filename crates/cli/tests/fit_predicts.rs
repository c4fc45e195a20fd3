//! What `fit` predicts is what runs take: on cores the process's peak, within 2 %; on a GPU the driver's own
//! count, to the byte. `bench/fit_predicts.py` does the same over more and larger models.

mod common;

use common::{Folder, Ran, program, run};
use serde_json::Value;

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// What `fit` says of one context and type of cache; `None` if the device does not run it.
fn predicted(arguments: &[&str], context: usize) -> Option<Value> {
    let ran = run(&[&["fit", "--json"], arguments].concat());
    let about: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{}", ran.err));
    let table = about["table"].as_array().expect("a list");
    let cell = table.iter().find(|cell| cell["context"] == context).expect("what was asked for is there");
    (cell["runs"] == true).then(|| cell.clone())
}

/// Words of a story, about three for two tokens.
fn prompt(words: usize) -> String {
    let story =
        "the little fox went to the river and saw a big red boat with her friend while it was raining";
    story.split(' ').cycle().take(words).collect::<Vec<_>>().join(" ")
}

/// A file of the size that the base of a process does not hide, in several formats.
fn models(folder: &Folder) -> Option<Vec<String>> {
    let source = testkit::shared("models/chat-42m-f16.gguf")?;
    let source = source.to_str().expect("UTF-8").to_owned();
    let small = folder.arg("q8.gguf");
    run(&["quantize", &source, &small, "Q8_0"]).ok();
    Some(vec![source, small])
}

#[test]
fn the_peak_of_a_process_is_known_before() {
    let folder = Folder::new();
    let Some(models) = models(&folder) else { return };
    let cases = [
        &[(1024, "int4"), (2048, "int8"), (3072, "f16")][..],
        &[(1024, "f16"), (1024, "int8"), (1536, "f32")],
    ];
    for (model, cases) in models.iter().zip(cases) {
        for &(context, kv) in cases {
            let text = folder.write("prompt.txt", prompt(context * 15 / 16 - 32).as_bytes());
            let context_text = context.to_string();
            // Few rows: activations of formats that a model does not use are reserved and never touched, which
            // is little beside larger models.
            let sizes =
                ["-m", model, "-c", &context_text, "--kv", kv, "--device", "cpu", "--batch-size", "128"];
            let predicted = predicted(&sizes, context).expect("cores run everything");
            let filling = ["run", "--raw", "-f", &text, "--temp", "0", "--ignore-eos", "--json"];
            let ran = run(&[&filling[..], &sizes].concat()).json();
            let tokens = number(&ran["prompt_tokens"]) + number(&ran["generated_tokens"]);
            assert!(tokens >= context as u64, "the context is full: {tokens}");
            // The last token generated is not read any more.
            let (told, took) = (number(&predicted["peak"]) as f64, number(&ran["peak_memory_bytes"]) as f64);
            eprintln!("{model} {context} {kv}: {told} predicted, {took} taken");
            assert!(
                (told / took - 1.0).abs() <= 0.02,
                "{model} {context} {kv}: {told} predicted, {took} taken"
            );
        }
    }
}

#[test]
fn a_gpus_memory_is_known_to_the_byte() {
    let Some(library) = cuda::lab::emulated_library() else { return };
    let mut seen = 0;
    for (context, batch) in [("256", "16"), ("1024", "16"), ("1024", "512"), ("4096", "64")] {
        for kv in ["f16", "int8", "int4"] {
            let library = library.to_str().expect("UTF-8");
            let sizes =
                ["-c", context, "--kv", kv, "--batch-size", batch, "--device", "cuda", "--cuda-library"];
            let sizes = [&sizes[..], &[library]].concat();
            let Some(told) = predicted(&sizes, context.parse().expect("a number")) else { continue };
            let asked = ["run", "-p", "Hi", "-n", "1", "--temp", "0", "--json"];
            let ran: Ran = program(&[&asked[..], &sizes].concat()).output().expect("it starts").into();
            // The emulated board shares its memory: what is pinned is taken from the same.
            let parts = ["weights", "cache", "buffers", "pinned"];
            let sum: u64 = parts.iter().map(|part| number(&told[*part])).sum();
            assert_eq!(number(&ran.json()["device_memory_bytes"]), sum, "{context} {kv} {batch}");
            seen += 1;
        }
    }
    assert!(seen >= 4, "half floats at least");
}
