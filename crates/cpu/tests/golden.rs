//! The CPU against logits of Hugging Face transformers, on every instruction set this machine has.
//!
//! A cache in F16 rounds keys and values to 11 bits, which these random models amplify to 1e-3.

use cpu::{Cpu, Isa};
use model::runner::KvType;
use model::{Batch, Device, LoadOptions, Plan, Row, Runner};
use testkit::golden::{Golden, argmax, goldens, relative_error};

fn load(golden: &Golden, isa: Isa, threads: usize, kv: KvType) -> Box<dyn Runner> {
    let file = gguf::Gguf::open(&golden.model).expect("a fixture");
    let (_, plan) = Plan::read(&file, Some(golden.ids.len())).expect("a fixture");
    let mut options = LoadOptions::single(golden.ids.len(), threads);
    options.logit_rows = golden.ids.len();
    options.kv = kv;
    let cpu = Cpu::with_isa(isa).expect("only sets this machine has are asked for");
    let mut runner = cpu.load(&file, &plan, &options, &mut |_, _| {}).expect("a fixture");
    for group in 0..plan.kv.len() {
        let pages: Vec<u32> = (0..options.pages as u32).rev().collect();
        runner.map(0, group, 0, &pages);
    }
    runner
}

fn logits(runner: &mut dyn Runner, ids: &[u32], chunk: usize) -> Vec<f32> {
    let mut all = vec![];
    for (start, ids) in ids.chunks(chunk).enumerate() {
        let row = |(i, &token): (usize, &u32)| Row {
            slot: 0,
            position: (start * chunk + i) as u32,
            token,
            logits: true,
        };
        let rows = ids.iter().enumerate().map(row).collect();
        runner.step(&Batch { rows }).expect("no device to lose");
        all.extend_from_slice(runner.logits());
    }
    all
}

fn available() -> impl Iterator<Item = Isa> {
    Isa::ALL.into_iter().filter(|isa| isa.available())
}

#[test]
fn agrees_with_transformers() {
    for golden in goldens() {
        for isa in available() {
            for kv in [KvType::F16, KvType::F32] {
                let mut runner = load(&golden, isa, 2, kv);
                let ours = logits(runner.as_mut(), &golden.ids, golden.ids.len());
                let error = relative_error(&ours, &golden.logits);
                eprintln!("{} {} {kv:?}: relative error {error:.2e}", golden.name, isa.name());
                let bound = if kv == KvType::F16 { 3e-3 } else { 1e-5 };
                assert!(error <= bound, "{} {}: relative error {error:e}", golden.name, isa.name());
                let rows = ours.chunks(golden.vocab).zip(golden.logits.chunks(golden.vocab));
                for (position, (ours, theirs)) in rows.enumerate() {
                    let (a, b) = (argmax(ours), argmax(theirs));
                    if kv == KvType::F32 {
                        assert_eq!(a, b, "{} at position {position}", golden.name);
                        continue;
                    }
                    // A choice may turn only where the rounding of the cache is larger than its lead.
                    let off = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                    let lead = theirs[b] - theirs[a];
                    assert!(lead <= 2.0 * off, "{} at position {position}: {a} for {b}", golden.name);
                }
            }
        }
    }
}

#[test]
fn chunks_and_threads_do_not_change_a_bit() {
    for golden in goldens() {
        let best = Isa::detect();
        let whole = logits(load(&golden, best, 1, KvType::F16).as_mut(), &golden.ids, golden.ids.len());
        for (chunk, threads) in [(1, 1), (1, 2), (2, 3), (5, 2), (7, 1), (8, 2), (13, 2), (64, 2), (96, 4)] {
            let cut = logits(load(&golden, best, threads, KvType::F16).as_mut(), &golden.ids, chunk);
            let same = whole.iter().zip(&cut).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{} in chunks of {chunk} on {threads} threads", golden.name);
        }
    }
}
