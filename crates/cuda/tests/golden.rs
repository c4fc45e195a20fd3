//! The emulated GPU against logits of Hugging Face transformers.
//!
//! A cache in F16 and prompts in F16 round to 11 bits, which these random models amplify to 1e-3.

mod common;

use common::device;
use model::runner::{KvType, PAGE};
use model::{Batch, Device, LoadOptions, Plan, Row};
use testkit::golden::{Golden, argmax, goldens, relative_error};

#[test]
fn agrees_with_transformers() {
    // Emulated models take a core each.
    std::thread::scope(|scope| {
        let all: Vec<_> = goldens().into_iter().map(|golden| scope.spawn(move || hold(&golden))).collect();
        for one in all {
            one.join().expect("every model agrees");
        }
    });
}

fn hold(golden: &Golden) {
    let Some(device) = device(true, true) else { return };
    let file = gguf::Gguf::open(&golden.model).expect("a fixture");
    let len = golden.ids.len();
    let (_, plan) = Plan::read(&file, Some(len)).expect("a fixture");
    let options = LoadOptions {
        rows: 64,
        logit_rows: 64,
        slots: 1,
        pages: len.div_ceil(PAGE),
        kv: KvType::F16,
        threads: 1,
    };
    let mut runner = device.load(&file, &plan, &options, &mut |_, _| {}).expect("a fixture");
    for group in 0..plan.kv.len() {
        let pages: Vec<u32> = (0..options.pages as u32).rev().collect();
        runner.map(0, group, 0, &pages);
    }
    // A prompt in two parts, then drafts verified, then tokens one by one.
    let (mut ours, mut done) = (vec![], 0);
    for size in [64, 13, 8, 5].into_iter().chain(std::iter::repeat(1)) {
        let end = len.min(done + size);
        let row = |i: usize| Row { slot: 0, position: i as u32, token: golden.ids[i], logits: true };
        runner.step(&Batch { rows: (done..end).map(row).collect() }).expect("the emulator");
        ours.extend_from_slice(runner.logits());
        done = end;
        if done == len {
            break;
        }
    }
    let error = relative_error(&ours, &golden.logits);
    eprintln!("{}: relative error {error:.2e}", golden.name);
    assert!(error <= 5e-3, "{}: relative error {error:e}", golden.name);
    for (position, (ours, theirs)) in
        ours.chunks(golden.vocab).zip(golden.logits.chunks(golden.vocab)).enumerate()
    {
        let (a, b) = (argmax(ours), argmax(theirs));
        // A choice may turn only where rounding is larger than its lead.
        let off = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let lead = theirs[b] - theirs[a];
        assert!(lead <= 2.0 * off, "{} at position {position}: {a} for {b}", golden.name);
    }
}
