//! Thousands of tokens with a window that slides all along: no allocation in any step, memory flat.
//!
//! `cargo test --test soak_sliding -- 100000` for more than the usual number; `bench/memory/long.sh` does.
// What it prints is a line of results.
#![allow(missing_docs, clippy::print_stdout)]

#[path = "../../engine/tests/counting/mod.rs"]
mod counting;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use counting::{allocations, check_counting};
use engine::{Engine, Event, Notice, Overflow, Params, Sampling};
use gguf::Gguf;
use model::{Device, LoadOptions, Plan};
use text::{EncodeOptions, Tokenizer};

const CONTEXT: usize = 512;
/// Tokens unless told otherwise.
const TOKENS: usize = 3000;
/// Tokens after which memory must be flat: by then the window has slid once, and a long step is known.
const WARM: usize = 2 * CONTEXT;
/// Most that memory may grow from there to the end.
const MOST_GROWTH: f64 = 1e6;

fn main() {
    check_counting();
    // The harness of other tests has arguments of its own.
    let tokens = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(TOKENS);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/chat-7m.gguf");
    let file = Gguf::open(&path).expect("the built-in model is there");
    let tokenizer = Arc::new(Tokenizer::from_gguf(&file).expect("it has a vocabulary"));
    let (_, plan) = Plan::read(&file, Some(CONTEXT)).expect("it is of a known family");
    let prompt = tokenizer
        .encode_vec("Once upon a time there was", EncodeOptions { bos: tokenizer.add_bos(), special: false });
    let options = LoadOptions::single(plan.context, 1);
    let runner = cpu::Cpu::new().load(&file, &plan, &options, &mut |_, _| ()).expect("the processor runs it");
    let start = Instant::now();
    let mut engine = Engine::new(runner, Some(tokenizer), Box::new(move || start.elapsed()));
    let slides = Arc::new(AtomicUsize::new(0));
    let counted = slides.clone();
    engine.on_notice(Box::new(move |notice| {
        if matches!(notice, Notice::Slid { .. }) {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    }));
    let params = Params {
        max_tokens: None,
        sampling: Sampling { seed: 3, repeat_penalty: 1.1, ..Sampling::default() },
        stop: vec!["a stop that never comes".to_owned()],
        ignore_eos: true,
        overflow: Overflow::Slide { sinks: 4 },
        ..Params::default()
    };
    engine.start(&prompt, &params).expect("prompt and parameters are good");

    let (mut made, mut text, mut taken, mut steps, mut worst) = (0, 0, 0, 0, 0);
    let mut resident = Vec::with_capacity(4096);
    let every = (tokens / 2000).max(1);
    let began = Instant::now();
    while made < tokens {
        let (before, had) = (allocations(), made);
        engine
            .step(&mut |_, event| match event {
                Event::Token { .. } => made += 1,
                Event::Text(part) => text += part.len(),
                Event::Prompt { .. } => {}
                Event::Finished(summary) => panic!("it ended after {had} tokens: {summary:?}"),
            })
            .expect("the device is there");
        let after = allocations() - before;
        // The first step is the prompt's.
        if made > 1 {
            (taken, worst, steps) = (taken + after, worst.max(after), steps + 1);
        }
        if made > had && made % every == 0 {
            resident.push((made as f64, held()));
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let warm = &resident[resident.partition_point(|&(at, _)| at < WARM as f64)..];
    let growth = slope(warm) * (warm[warm.len() - 1].0 - warm[0].0);
    let slides = slides.load(Ordering::Relaxed);
    println!(
        "{{\"tokens\":{made},\"context\":{CONTEXT},\"slides\":{slides},\"steps\":{steps},\"allocations\":{taken},\
         \"resident_growth_bytes\":{growth:.0},\"resident_mb\":{:.1},\"seconds\":{seconds:.1}}}",
        warm[warm.len() - 1].1 / 1e6
    );
    assert!(text > tokens / 4, "text must have come: {text} bytes");
    assert!(slides >= (tokens - CONTEXT) / CONTEXT, "the window must slide all along: {slides} times");
    assert_eq!(taken, 0, "allocations in {steps} steps, {worst} in one of them");
    assert!(growth < MOST_GROWTH, "memory grew by {growth} bytes");
}

/// Memory of this process, bytes.
fn held() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux says");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux says");
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().expect("a number");
    kib * 1024.0
}

/// Of the line of least squares.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |of: &dyn Fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(&|point| point.0), mean(&|point| point.1));
    let products: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    products / points.iter().map(|point| (point.0 - x).powi(2)).sum::<f64>()
}
