//! A decode step allocates nothing.
#![allow(missing_docs)]

mod common;
mod counting;

use common::{END, Sizes, engine, tokenizer};
use counting::{check_counting, decode_allocations};
use engine::{Params, Sampling};

fn main() {
    check_counting();

    let sampling = Sampling {
        temperature: 0.9,
        top_k: 0,
        top_p: 0.97,
        min_p: 0.001,
        repeat_penalty: 1.1,
        presence_penalty: 0.1,
        frequency_penalty: 0.05,
        repeat_last_n: 20,
        logit_bias: vec![(5, 0.5), (1, f32::NEG_INFINITY), (END, f32::NEG_INFINITY)],
        seed: 3,
    };
    let params = Params {
        max_tokens: None,
        sampling,
        stop: vec!["the end of all".to_owned(), "ab ab ab".to_owned(), "é日é日é".to_owned()],
        stop_ids: vec![1],
        ignore_eos: true,
        logprobs: true,
        rules: None,
        ..Params::default()
    };
    let sizes = Sizes { context: 512, pages: 16, ..Sizes::default() };
    // Some seeds begin with whole characters and come to broken ones later, others the other way round.
    for (top_k, seed) in [0, 40, 300].into_iter().flat_map(|top_k| (0..8).map(move |seed| (top_k, seed))) {
        let sampling = Sampling { top_k, seed, ..params.sampling.clone() };
        let params = Params { sampling, ..params.clone() };
        let mut engine = engine(sizes, Some(tokenizer()));
        let (count, text) = decode_allocations(&mut engine, &[1, 260, 261, 262], &params, 200);
        assert!(text > 200, "text must have come: {text} bytes");
        assert_eq!(count, 0, "allocations in 200 steps with top_k {top_k}, seed {seed}");
        // The same where the runner chooses, from the first token on.
        let params = Params { logprobs: false, ..params };
        let mut engine = common::engine(Sizes { ahead: 3, ..sizes }, Some(tokenizer()));
        let (count, _) = decode_allocations(&mut engine, &[1], &params, 200);
        assert_eq!(count, 0, "allocations in 200 steps ahead with top_k {top_k}, seed {seed}");
    }
}
