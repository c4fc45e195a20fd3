//! Times prefill, decode and decode at depth of one file without the rest of the program.
//!
//! `cargo run --release -p cpu --example speed -- MODEL [PROMPT GENERATE DEPTH THREADS]`

use cpu::Cpu;
use model::{Batch, Device, LoadOptions, Plan, Row};
use std::time::Instant;

fn rows(from: usize, count: usize) -> Batch {
    let row = |i| Row {
        slot: 0,
        position: (from + i) as u32,
        token: (i * 977 % 5000) as u32,
        logits: i + 1 == count,
    };
    Batch { rows: (0..count).map(row).collect() }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number =
        |i: usize, default: usize| arguments.get(i).map_or(default, |a| a.parse().expect("a number"));
    let (prompt, generate, depth, threads) = (number(2, 128), number(3, 32), number(4, 0), number(5, 2));
    let file = gguf::Gguf::open(arguments[1].as_ref()).expect("a model");
    let context = prompt.max(depth + generate + 1);
    let (_, plan) = Plan::read(&file, Some(context)).expect("a model");
    let options = LoadOptions::single(context, threads);
    let start = Instant::now();
    let mut runner = Cpu::new().load(&file, &plan, &options, &mut |_, _| {}).expect("a model");
    eprintln!("loaded in {:?}", start.elapsed());
    for group in 0..plan.kv.len() {
        let pages: Vec<u32> = (0..options.pages as u32).collect();
        runner.map(0, group, 0, &pages);
    }
    for _ in 0..3 {
        let start = Instant::now();
        runner.step(&rows(0, prompt)).expect("cores");
        eprintln!("prefill {prompt}: {:.1} tok/s", prompt as f64 / start.elapsed().as_secs_f64());
        // The cache at depth is zeros unless filled; attention's time does not depend on values.
        runner.trace(arguments.get(6).is_some());
        let mut times = vec![];
        for i in 0..generate {
            let start = Instant::now();
            runner.step(&rows(depth + i, 1)).expect("cores");
            times.push(start.elapsed().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        let total: f64 = times.iter().sum();
        let bytes = plan.step_bytes(depth + generate / 2, &options) as f64;
        eprintln!(
            "decode at {depth}: {:.2} tok/s, median {:.2}, {:.1} GB/s",
            generate as f64 / total,
            1.0 / times[generate / 2],
            bytes * generate as f64 / total / 1e9
        );
        let mut kinds: Vec<(String, u64, u64)> = vec![];
        for (op, time) in plan.ops.iter().zip(runner.times()) {
            let line = plan.line(op);
            let kind: String = line.split('·').next().unwrap_or("").chars().take(24).collect();
            let kind: String = kind.chars().filter(|c| !c.is_ascii_digit()).collect();
            match kinds.iter_mut().find(|(k, ..)| *k == kind) {
                Some((_, n, t)) => (*n, *t) = (*n + time.runs, *t + time.nanos),
                None => kinds.push((kind, time.runs, time.nanos)),
            }
        }
        for (kind, runs, nanos) in kinds.into_iter().filter(|k| k.1 > 0) {
            eprintln!("  {kind:26} {:8.1} us a token, {runs} runs", nanos as f64 / 1e3 / generate as f64);
        }
    }
}
