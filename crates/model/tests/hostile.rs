//! Models that are damaged, foreign or made to hurt: refused with a message that names the place, or run.

use gguf::{Gguf, Value};
use model::reference::Reference;
use model::{Batch, LoadOptions, Plan, Row, Runner};
use quant::Format;
use testkit::tiny::{FAMILIES, Parts, Tiny};

/// Reads the plan and, where it is accepted, runs two tokens of the slow interpreter.
fn accepted(parts: &Parts) -> Result<Plan, String> {
    let file = parts.gguf();
    let (spec, plan) = Plan::read(&file, Some(40)).map_err(|error| error.to_string())?;
    assert_eq!(spec.layers.len(), plan.shape.layers);
    assert!(!plan.to_string().is_empty());
    step(&file, &plan);
    Ok(plan)
}

fn step(file: &Gguf, plan: &Plan) {
    let options = LoadOptions::single(40, 1);
    let mut runner = Reference::load(file, plan, &options, &mut |_, _| ()).expect("an accepted model loads");
    (0..plan.kv.len()).for_each(|group| runner.map(0, group, 0, &[0, 1]));
    let row = |position| Row { slot: 0, position, token: 0, logits: position == 1 };
    runner.step(&Batch { rows: vec![row(0), row(1)] }).expect("the interpreter is never lost");
    assert_eq!(runner.logits().len(), plan.shape.vocab);
    assert!(runner.logits().iter().all(|logit| logit.is_finite()), "a logit is not a number");
}

/// Demands a refusal whose message names the file and `place`.
fn refused(parts: &Parts, place: &str, what: &str) {
    match accepted(parts) {
        Ok(_) => panic!("accepted: {what}"),
        Err(message) => {
            assert!(message.contains("tiny.gguf"), "{what}: {message}");
            assert!(message.contains(place), "{what}: {message}");
            assert!(message.len() < 1000, "{what}: {} bytes of message", message.len());
            assert!(!message.contains(char::is_control), "{what}: {message:?}");
        }
    }
}

fn llama() -> Parts {
    Tiny::new("llama", 1).parts()
}

#[test]
fn every_family_runs_as_made() {
    for family in FAMILIES {
        accepted(&Tiny::new(family, 1).parts()).unwrap();
    }
}

#[test]
fn architectures() {
    let mut parts = llama();
    parts.remove("general.architecture");
    refused(&parts, "general.architecture", "no architecture");
    let bad: [Value; 5] = [7u32.into(), true.into(), vec![1u32].into(), 1f32.into(), 1u64.into()];
    for value in bad {
        parts.set("general.architecture", value);
        refused(&parts, "general.architecture", "an architecture that is no string");
    }
    for name in ["", "Llama", "llama ", "mamba", "t5", "\u{1b}[31m", "bert\nnew line"] {
        parts.set("general.architecture", name);
        refused(&parts, "architecture", name);
    }
    parts.set("general.architecture", "x".repeat(1 << 20));
    refused(&parts, "xxx", "1 MiB of architecture");
    // Another family's keys are not looked at.
    parts.set("general.architecture", "qwen2");
    refused(&parts, "qwen2.", "a family without its keys");
}

/// Keys that must be there, and all of them as counts.
const COUNTS: [&str; 5] =
    ["block_count", "embedding_length", "attention.head_count", "feed_forward_length", "context_length"];

#[test]
fn required_keys() {
    for family in FAMILIES {
        let good = Tiny::new(family, 1).parts();
        for name in COUNTS.into_iter().chain(["attention.layer_norm_rms_epsilon"]) {
            let key = format!("{family}.{name}");
            let mut parts = good.clone();
            parts.remove(&key);
            refused(&parts, &key, "a required key is missing");
            for value in [Value::from("12"), true.into(), vec![1.5f32].into(), vec!["x".len() as f64].into()]
            {
                parts.set(&key, value);
                refused(&parts, &key, "a required key has another type");
            }
        }
    }
}

#[test]
fn counts_out_of_range() {
    let optional = ["attention.head_count_kv", "attention.key_length", "attention.value_length"];
    let values: [Value; 8] = [
        0u32.into(),
        u32::MAX.into(),
        u64::MAX.into(),
        (1u64 << 63).into(),
        i64::MIN.into(),
        (-1i32).into(),
        1_000_000_000u32.into(),
        f32::NAN.into(),
    ];
    for family in FAMILIES {
        let good = Tiny::new(family, 1).parts();
        for name in COUNTS.into_iter().chain(optional).chain(["rope.dimension_count"]) {
            let key = format!("{family}.{name}");
            for value in &values {
                let mut parts = good.clone();
                parts.set(&key, value.clone());
                refused(&parts, &key, &format!("{key} = {value}"));
            }
        }
    }
}

#[test]
fn numbers_that_do_not_go_together() {
    let cases: &[(&str, &str, Value)] = &[
        ("llama.attention.head_count_kv", "head_count_kv", 3u32.into()),
        ("llama.attention.head_count_kv", "head_count_kv", 8u32.into()),
        ("llama.attention.head_count_kv", "one a layer", vec![2u32; 3].into()),
        ("llama.attention.head_count_kv", "one a layer", Vec::<u32>::new().into()),
        ("llama.attention.head_count_kv", "in one layer", vec![2u32, 4].into()),
        ("llama.attention.head_count_kv", "head_count_kv", vec![-2i32, -2].into()),
        ("llama.feed_forward_length", "in one layer", vec![96u32, 97].into()),
        ("llama.block_count", "blk.2.attn_norm.weight", 3u32.into()),
        ("llama.block_count", "blk.2.attn_norm.weight", 1024u32.into()),
        ("llama.block_count", "blk.1.", 1u32.into()),
        ("llama.embedding_length", "token_embd.weight", 32u32.into()),
        ("llama.embedding_length", "token_embd.weight", 1u32.into()),
        ("llama.feed_forward_length", "ffn_gate.weight", 95u32.into()),
        ("llama.attention.head_count", "attn_q.weight", 8u32.into()),
        ("llama.attention.key_length", "key_length", 15u32.into()),
        ("llama.attention.key_length", "value_length", 32u32.into()),
        ("llama.attention.value_length", "value_length", 8u32.into()),
        ("llama.rope.dimension_count", "rope.dimension_count", 15u32.into()),
        ("llama.rope.dimension_count", "rope.dimension_count", 18u32.into()),
        ("llama.vocab_size", "vocab_size", 289u32.into()),
        ("llama.vocab_size", "vocab_size", u64::MAX.into()),
        ("llama.vocab_size", "vocab_size", "many".into()),
        ("llama.expert_count", "expert_count", 8u32.into()),
        ("llama.expert_used_count", "expert_used_count", 2u32.into()),
        ("llama.nextn_predict_layers", "nextn_predict_layers", 2u32.into()),
        ("llama.nextn_predict_layers", "nextn_predict_layers", "\u{1b}[2J".into()),
        ("llama.attention.causal", "attention.causal", false.into()),
        ("llama.attention.causal", "attention.causal", 1u32.into()),
        ("llama.attention.scale", "attention.scale", 0.5f32.into()),
        ("llama.logit_scale", "logit_scale", f32::NAN.into()),
        ("llama.rope.scaling.type", "rope.scaling.type", "su".into()),
        ("llama.rope.scaling.type", "rope.scaling.type", 1u32.into()),
        ("llama.rope.scaling.type", "rope.scaling.type", "x".repeat(1 << 20).into()),
        ("llama.rope.scaling.factor", "rope.scaling.factor", f32::NAN.into()),
        ("llama.rope.scaling.factor", "rope.scaling.factor", f32::INFINITY.into()),
        ("llama.rope.scaling.factor", "rope.scaling.factor", (-1f32).into()),
        ("llama.rope.scaling.factor", "rope.scaling.factor", 1e-40f32.into()),
        ("llama.rope.scaling.attn_factor", "attn_factor", 0f32.into()),
        ("llama.rope.scaling.attn_factor", "attn_factor", f32::NAN.into()),
    ];
    for (key, place, value) in cases {
        let mut parts = llama();
        parts.set(key, value.clone());
        refused(&parts, place, &format!("{key} = {value}"));
    }
    let mut parts = llama();
    parts.set("llama.rope.scaling.type", "yarn");
    refused(&parts, "rope.scaling.factor", "yarn without a factor");
    parts.set("llama.rope.scaling.factor", 4f32);
    for (original, good) in [(0u64, false), (1, true), (64, true), (1 << 26, true), (1 << 63, false)] {
        parts.set("llama.rope.scaling.original_context_length", original);
        if good {
            accepted(&parts).unwrap();
        } else {
            refused(&parts, "original_context_length", "yarn from nowhere");
        }
    }
}

#[test]
fn floats_out_of_range() {
    let floats: &[(&str, &str)] = &[
        ("llama", "attention.layer_norm_rms_epsilon"),
        ("llama", "rope.freq_base"),
        ("gemma3", "rope.freq_base_swa"),
        ("gemma3", "final_logit_softcapping"),
        ("gemma2", "attn_logit_softcapping"),
        ("gemma2", "final_logit_softcapping"),
    ];
    for (family, name) in floats {
        let key = format!("{family}.{name}");
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.0, 0.0] {
            let mut parts = Tiny::new(family, 1).parts();
            parts.set(&key, value);
            refused(&parts, &key, &format!("{key} = {value}"));
        }
        let mut parts = Tiny::new(family, 1).parts();
        parts.set(&key, f64::MAX);
        refused(&parts, &key, "infinite as f32");
    }
    for base in [1e-40f32, 0.5, 1.0] {
        let mut parts = llama();
        parts.set("llama.rope.freq_base", base);
        refused(&parts, "rope.freq_base", "wavelengths that do not grow");
    }
    for (key, value) in [
        ("llama.rope.freq_base", f32::MAX),
        ("llama.rope.freq_base", 1.000_001),
        ("llama.attention.layer_norm_rms_epsilon", f32::MIN_POSITIVE),
        ("llama.attention.layer_norm_rms_epsilon", 0.99),
        ("llama.rope.scaling.factor", 0.0),
        ("llama.rope.scaling.factor", 1000.0),
    ] {
        let mut parts = llama();
        parts.set(key, value);
        accepted(&parts).unwrap_or_else(|error| panic!("{key} = {value}: {error}"));
    }
}

#[test]
fn windows() {
    for family in ["gemma2", "gemma3", "phi3"] {
        let key = format!("{family}.attention.sliding_window");
        for window in [1u64, 39, 40, 1 << 31, u64::from(u32::MAX), 1 << 63, u64::MAX] {
            let mut parts = Tiny::new(family, 1).parts();
            parts.set(&key, window);
            accepted(&parts).unwrap_or_else(|error| panic!("{key} = {window}: {error}"));
        }
        for value in [Value::from(-1i32), "24".into(), 24f32.into()] {
            let mut parts = Tiny::new(family, 1).parts();
            parts.set(&key, value);
            refused(&parts, &key, "a window that is no count");
        }
    }
    let mut parts = Tiny::new("gemma2", 1).parts();
    parts.set("gemma2.attention.sliding_window", 0u32);
    refused(&parts, "sliding_window", "a window of nothing");
}

#[test]
fn harmless_oddities_are_accepted() {
    let cases: Vec<(&str, Value)> = vec![
        ("llama.attention.head_count_kv", vec![2u32, 2].into()),
        ("llama.attention.head_count_kv", vec![2i64, 2].into()),
        ("llama.attention.head_count", 4u64.into()),
        ("llama.block_count", 2u8.into()),
        ("llama.context_length", (1u32 << 26).into()),
        ("llama.context_length", 1u32.into()),
        ("llama.vocab_size", 1u32.into()),
        ("llama.expert_count", 0u32.into()),
        ("llama.nextn_predict_layers", 0u32.into()),
        ("llama.attention.clamp_kqv", 0f32.into()),
        ("llama.attention.causal", true.into()),
        ("llama.rope.scaling.type", "none".into()),
        ("llama.rope.dimension_count", 8u32.into()),
        ("general.type", "model".into()),
        ("general.file_type", "what".into()),
        ("llama.a.key.of.tomorrow", vec![0u8; 100].into()),
        ("mamba.block_count", 0u32.into()),
    ];
    for (key, value) in cases {
        let mut parts = llama();
        let what = format!("{key} = {value}");
        parts.set(key, value);
        accepted(&parts).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    for key in ["head_count_kv", "key_length", "value_length"] {
        let mut parts = Tiny { kv_heads: 4, ..Tiny::new("llama", 1) }.parts();
        parts.remove(&format!("llama.attention.{key}"));
        accepted(&parts).unwrap_or_else(|error| panic!("without {key}: {error}"));
    }
}

#[test]
fn vocabularies() {
    let mut parts = llama();
    let tokens = |count: usize| {
        let names: Vec<String> = (0..count).map(|id| format!("t{id}")).collect();
        Value::from(names.iter().collect::<gguf::StringList>())
    };
    parts.set("tokenizer.ggml.tokens", tokens(289));
    refused(&parts, "tokenizer.ggml.tokens", "more tokens than rows");
    parts.set("tokenizer.ggml.tokens", vec![1u32; 288]);
    refused(&parts, "tokenizer.ggml.tokens", "tokens that are numbers");
    parts.set("tokenizer.ggml.tokens", tokens(200));
    accepted(&parts).expect("a padded table is usual");
    parts.remove("tokenizer.ggml.tokens");
    accepted(&parts).expect("a model without vocabulary runs");
    parts.tensors.clear();
    refused(&parts, "vocabulary and no weights", "no tensors");
}

/// Every tensor of every family, damaged in every way a directory can tell.
#[test]
fn every_tensor_damaged() {
    for family in FAMILIES {
        let good = Tiny { layers: 2, ..Tiny::new(family, 1) }.parts();
        for at in 0..good.tensors.len() {
            let name = good.tensors[at].name.clone();
            let damaged = |edit: &dyn Fn(&mut Parts)| {
                let mut parts = good.clone();
                edit(&mut parts);
                parts
            };
            let parts = damaged(&|parts| drop(parts.tensors.remove(at)));
            match name.as_str() {
                // Without it the table takes its place; without factors nothing is divided.
                "output.weight" | "rope_freqs.weight" => drop(accepted(&parts).unwrap()),
                "rope_factors_long.weight" => refused(&parts, "rope_factors_short.weight", "one of two"),
                // What no other layer lacks may not lack in the first, whose absence means none.
                _ if name.starts_with("blk.0.") => assert_names(&parts, &name),
                _ => refused(&parts, &name, "a tensor is missing"),
            }
            let parts = damaged(&|parts| parts.tensors[at].name.insert(0, 'x'));
            assert!(accepted(&parts).is_err(), "{family}: {name} under another name");
            let shape = good.tensors[at].shape.clone();
            let (cols, rows) = (shape[0], shape[1..].iter().product::<u64>());
            let shapes: [&[u64]; 6] = [
                &[cols + 32, rows],
                &[cols, rows + 1],
                &[rows, cols + 1],
                &[cols, rows, 2],
                &[1],
                &[cols, 1, rows],
            ];
            for shape in shapes {
                let parts = damaged(&|parts| parts.tensors[at].reshape(shape));
                if name == "token_embd.weight" && shape == [cols, rows + 1] {
                    // The table says how many tokens there are; only another matrix can disagree.
                    let tied = !good.tensors.iter().any(|tensor| tensor.name == "output.weight");
                    assert_eq!(accepted(&parts).is_ok(), tied, "{family}: a longer table");
                    continue;
                }
                assert_names(&parts, &name);
            }
            if shape.len() == 1 {
                let parts = damaged(&|parts| {
                    parts.tensors[at].format = Format::Q8_0;
                    parts.tensors[at].reshape(&[cols.next_multiple_of(32)]);
                });
                refused(&parts, &name, "a vector in a block format");
            }
        }
        let mut parts = good.clone();
        parts.vector("blk.0.ssm_a", 3, &mut || 0.0);
        refused(&parts, "blk.0.ssm_a", "a tensor of another kind of model");
    }
}

/// Refused, naming the tensor or the same part of another layer.
fn assert_names(parts: &Parts, name: &str) {
    let part = name.strip_prefix("blk.").map_or(name, |rest| rest.split_once('.').expect("a layer").1);
    // The head norms go in pairs: without one the message is about the other or the lack of it.
    let part = part.replace("attn_k_norm", "norm").replace("attn_q_norm", "norm");
    // Without the fused matrix a layer counts as split, and a damaged one as a layer without its gate.
    let part = match part.as_str() {
        "attn_qkv.weight" => "attn_q",
        "ffn_up.weight" => "ffn_",
        part if part.ends_with("norm.weight") => "norm.weight",
        part => part,
    };
    refused(parts, part, name);
}

#[test]
fn rope_factors_that_are_no_divisors() {
    let cases = [("llama", "rope_freqs"), ("phi3", "rope_factors_short"), ("phi3", "rope_factors_long")];
    for (family, name) in cases {
        for bad in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            let mut tiny = Tiny::new(family, 1);
            if family == "llama" {
                tiny.factors = testkit::tiny::Factors::Llama;
            }
            let mut parts = tiny.parts();
            accepted(&parts).unwrap();
            let name = format!("{name}.weight");
            parts.tensor(&name).data[4..8].copy_from_slice(&bad.to_le_bytes());
            refused(&parts, &name, &format!("a divisor of {bad}"));
        }
    }
}

#[test]
fn files_that_only_go_with_a_model() {
    let mut lora = llama();
    lora.set("general.type", "adapter");
    lora.set("adapter.type", "lora");
    lora.set("adapter.lora.alpha", 0f32);
    lora.tensors.clear();
    lora.vector("blk.0.attn_q.weight.lora_a", 64, &mut || 0.0);
    refused(&lora, "adapter", "LoRA");
    lora.remove("general.type");
    refused(&lora, "token_embd.weight", "LoRA that does not say so");

    let mut control = llama();
    control.set("general.architecture", "controlvector");
    control.tensors.clear();
    control.vector("direction.536870912", 64, &mut || 0.0);
    refused(&control, "control vector", "control vector");

    let mut projector = llama();
    projector.set("general.architecture", "clip");
    refused(&projector, "projector", "mmproj by its architecture");
    projector.set("general.architecture", "llama");
    projector.set("general.type", "mmproj");
    refused(&projector, "projector", "mmproj by its type");

    let mut matrix = llama();
    matrix.set("general.type", "imatrix");
    matrix.remove("general.architecture");
    refused(&matrix, "importance matrix", "imatrix");
    matrix.set("general.type", 3u32);
    refused(&matrix, "general.type", "a type that is no string");
}
