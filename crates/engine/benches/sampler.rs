//! Microseconds a call of the sampler takes on a vocabulary of 128,256: `cargo bench -p engine`.
#![allow(clippy::print_stdout)]

use engine::sample::{Rng, logprob};
use engine::{Sampler, Sampling};
use std::hint::black_box;
use std::time::Instant;

const VOCAB: usize = 128_256;
const CALLS: usize = 300;

fn main() {
    // Twelve uniform numbers added are nearly normal, as logits are; the spread is that of small models.
    let mut rng = Rng::new(1);
    let mut normal = || ((0..12).map(|_| rng.unit()).sum::<f64>() - 6.0) as f32 * 2.5;
    let logits: Vec<f32> = (0..VOCAB).map(|_| normal()).collect();
    let all = Sampling { top_k: 0, top_p: 1.0, min_p: 0.0, ..Sampling::default() };
    let penalties = Sampling {
        repeat_penalty: 1.1,
        presence_penalty: 0.1,
        frequency_penalty: 0.1,
        ..Sampling::default()
    };
    let cases = [
        ("greedy", Sampling::greedy()),
        ("greedy with penalties", Sampling { temperature: 0.0, ..penalties.clone() }),
        ("top-k 40, top-p 0.95", Sampling { min_p: 0.0, ..Sampling::default() }),
        ("default with penalties", penalties),
        ("top-k 1000", Sampling { top_k: 1000, ..all.clone() }),
        ("top-p 0.95 of all", Sampling { top_p: 0.95, ..all.clone() }),
        ("min-p 0.05 of all", Sampling { min_p: 0.05, ..all.clone() }),
        ("temperature only", all),
    ];
    for (name, settings) in cases {
        let mut sampler = Sampler::new(&settings, VOCAB, 4096).expect("the settings are good");
        let mut times: Vec<f64> = (0..CALLS)
            .map(|_| {
                let start = Instant::now();
                let token = sampler.sample(black_box(&logits));
                let time = start.elapsed();
                sampler.accept(token);
                time.as_secs_f64() * 1e6
            })
            .collect();
        times.sort_by(f64::total_cmp);
        println!("{name:24} {:8.1} µs (best {:.1})", times[CALLS / 2], times[0]);
    }
    let start = Instant::now();
    for _ in 0..CALLS {
        black_box(logprob(black_box(&logits), 5));
    }
    println!("{:24} {:8.1} µs", "logprob", start.elapsed().as_secs_f64() * 1e6 / CALLS as f64);
}
