//! The real thing allocates nothing in a decode step: a model on the processor's cores, its tokenizer, a
//! sampler with every stage.
#![allow(missing_docs)]

#[path = "../../engine/tests/counting/mod.rs"]
mod counting;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use counting::{check_counting, decode_allocations};
use engine::{Engine, Params, Sampling};
use gguf::Gguf;
use model::{Device, LoadOptions, Plan};
use text::{EncodeOptions, Tokenizer};

/// Decode steps that are counted.
const STEPS: usize = 200;

/// The model built into the program, else a shared one.
fn models() -> Vec<PathBuf> {
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/chat-7m.gguf");
    let mut models: Vec<PathBuf> = [built_in].into_iter().filter(|path| path.exists()).collect();
    if models.is_empty() {
        models.extend(testkit::shared("fixtures/models/stories260K.gguf"));
    }
    models
}

fn main() {
    check_counting();
    for path in models() {
        let file = Gguf::open(&path).expect("the model is whole");
        let tokenizer = Arc::new(Tokenizer::from_gguf(&file).expect("it has a vocabulary"));
        let (_, plan) = Plan::read(&file, Some(STEPS + 100)).expect("it is of a known family");
        let prompt = tokenizer.encode_vec(
            "Once upon a time there was",
            EncodeOptions { bos: tokenizer.add_bos(), special: false },
        );
        for top_k in [0, 40] {
            for penalty in [1.0, 1.1] {
                let options = LoadOptions::single(plan.context, 2);
                let runner = cpu::Cpu::new()
                    .load(&file, &plan, &options, &mut |_, _| ())
                    .expect("the processor runs the model");
                let start = Instant::now();
                let mut engine =
                    Engine::new(runner, Some(tokenizer.clone()), Box::new(move || start.elapsed()));
                let sampling = Sampling {
                    temperature: 0.9,
                    top_k,
                    top_p: 0.97,
                    min_p: 0.001,
                    repeat_penalty: penalty,
                    presence_penalty: 0.1,
                    frequency_penalty: 0.05,
                    repeat_last_n: 20,
                    logit_bias: vec![(5, 0.5), (7, f32::NEG_INFINITY)],
                    seed: 3,
                };
                let params = Params {
                    max_tokens: None,
                    sampling,
                    stop: vec!["a stop that never comes".to_owned(), "é日é".to_owned()],
                    stop_ids: vec![],
                    ignore_eos: true,
                    logprobs: true,
                    rules: None,
                    ..Params::default()
                };
                let (count, text) = decode_allocations(&mut engine, &prompt, &params, STEPS);
                assert!(text > STEPS / 4, "text must have come: {text} bytes");
                assert_eq!(
                    count, 0,
                    "allocations in {STEPS} steps with top_k {top_k} and repeat_penalty {penalty}"
                );
            }
        }
    }
}
