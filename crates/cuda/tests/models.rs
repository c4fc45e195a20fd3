//! Whole tiny models on the emulated GPU against the slow interpreter, and against themselves run in other
//! ways: other batches, unfused, without graphs, with pages elsewhere.
//!
//! The interpreter keeps its cache in f32; ours, and the inputs of products of many rows, have 11 bits. These
//! random models amplify that to 1e-3.

mod common;

use common::{
    Logits, Random, Sequences, deal, device, difference, load, map, options, run, same_bits, sequences,
};
use cuda::Cuda;
use gguf::Gguf;
use model::reference::ReferenceDevice;
use model::runner::KvType;
use model::{Batch, Device, LoadOptions, Plan, Row, Runner};
use quant::Format;
use testkit::tiny::{FAMILIES, Tiny};

/// A tiny model with sequences of these lengths.
struct Case {
    file: Gguf,
    plan: Plan,
    sequences: Sequences,
}

impl Case {
    fn new(tiny: &Tiny, lengths: &[usize]) -> Case {
        let file = tiny.parts().gguf();
        let context = *lengths.iter().max().expect("a sequence");
        let (_, plan) = Plan::read(&file, Some(context)).expect("a tiny model");
        Case { sequences: sequences(lengths, tiny.vocab, &mut Random(tiny.seed)), file, plan }
    }

    /// Logits of every row in batches of these sizes, `runs` rows of a sequence at a time.
    fn ours(&self, device: &Cuda, sizes: &[usize], runs: usize) -> Logits {
        let mut runner = self.loaded(device, sizes);
        run(runner.as_mut(), &self.sequences, &deal(&self.sequences, sizes, runs), |_, _| true)
    }

    fn loaded(&self, device: &Cuda, sizes: &[usize]) -> Box<dyn Runner> {
        let most = *sizes.iter().max().expect("a size");
        let mut runner = load(device, &self.file, &self.plan, &options(&self.sequences, most));
        map(runner.as_mut(), &self.sequences, &mut Random(5));
        runner
    }

    /// The interpreter's.
    fn theirs(&self) -> Logits {
        let mut theirs = load(&ReferenceDevice, &self.file, &self.plan, &options(&self.sequences, 1));
        map(theirs.as_mut(), &self.sequences, &mut Random(6));
        run(theirs.as_mut(), &self.sequences, &deal(&self.sequences, &[1], 1), |_, _| true)
    }
}

/// All ways through a step: one row, a few, many; fused and not. Every other family takes its turn at each.
#[test]
fn every_family_agrees() {
    for (i, family) in FAMILIES.into_iter().enumerate() {
        let tiny = Tiny { vocab: 67, ..Tiny::new(family, 3) };
        let case = Case::new(&tiny, &[35, 9]);
        let theirs = case.theirs();
        for fuse in [true, false] {
            let Some(device) = device(fuse, true) else { return };
            // Forty rows of both; three and one of what is left.
            let sizes = if fuse == (i % 2 == 0) { vec![40, 3, 1] } else { vec![35, 8, 1] };
            let error = difference(&case.ours(&device, &sizes, 35), &theirs);
            eprintln!("{family} {sizes:?} {fuse}: {error:.1e}");
            assert!(error < 3e-3, "{family} in {sizes:?}, fused {fuse}: {error:e}");
        }
    }
}

/// Formats with tiles of their own, and one of each kind that is converted, in every way through a step.
/// Converting to Q8_0 rounds anew what is not on its grid.
#[test]
fn every_format_agrees() {
    let formats = [
        (Format::Q4_K, 3e-3),
        (Format::Q5_K, 3e-3),
        (Format::Q6_K, 3e-3),
        (Format::Q8_0, 3e-3),
        (Format::Q4_0, 3e-3),
        (Format::F16, 3e-3),
        (Format::BF16, 3e-3),
        (Format::Q5_0, 3e-3),
        (Format::MXFP4, 3e-3),
        (Format::Q3_K, 3e-2),
        (Format::Q4_1, 3e-2),
    ];
    let Some(device) = device(true, true) else { return };
    for (i, (format, bound)) in formats.into_iter().enumerate() {
        let family = FAMILIES[i % FAMILIES.len()];
        let tiny = Tiny { vocab: 67, layers: 2, ..Tiny::new(family, 7).with_format(format) };
        let case = Case::new(&tiny, &[12, 5]);
        let error = difference(&case.ours(&device, &[10, 5, 1], 10), &case.theirs());
        eprintln!("{family} {format}: {error:.1e}");
        assert!(error < bound, "{family} in {format}: {error:e}");
    }
}

/// A file whose matrices have several formats: Q, K and V apart, gate and up apart.
#[test]
fn mixed_formats_agree() {
    let Some(device) = device(true, true) else { return };
    let mut parts = Tiny { vocab: 67, ..Tiny::new("qwen2", 8).with_format(Format::Q4_K) }.parts();
    let others = [
        ("blk.0.attn_v.weight", Format::Q6_K),
        ("blk.0.attn_k.weight", Format::F16),
        ("blk.0.ffn_down.weight", Format::Q6_K),
        ("blk.1.attn_v.weight", Format::Q6_K),
        ("blk.1.ffn_up.weight", Format::Q8_0),
        ("blk.1.ffn_down.weight", Format::F16),
    ];
    for (name, format) in others {
        let part = parts.tensor(name);
        let count: u64 = part.shape.iter().product();
        let mut weights = vec![0.0; count as usize];
        part.format.decode(&part.data, &mut weights);
        part.format = format;
        part.data = vec![0; format.block_bytes() * (count as usize / format.block_len())];
        format.encode(&weights, &mut part.data).expect("a format with an encoder");
    }
    let file = parts.gguf();
    let (_, plan) = Plan::read(&file, Some(12)).expect("a tiny model");
    let case = Case { sequences: sequences(&[12, 5], 67, &mut Random(8)), file, plan };
    let error = difference(&case.ours(&device, &[10, 5, 1], 10), &case.theirs());
    assert!(error < 3e-3, "{error:e}");
}

/// Recorded and launched one by one: the same bits. Twice the same: the same bits.
#[test]
fn graphs_do_not_change_a_bit() {
    let (Some(with), Some(without)) = (device(true, true), device(true, false)) else { return };
    for family in ["gemma2", "llama"] {
        let case = Case::new(&Tiny { vocab: 67, ..Tiny::new(family, 4) }, &[9, 7, 4]);
        let sizes = [3, 1, 2, 3];
        let recorded = case.ours(&with, &sizes, 1);
        assert!(same_bits(&recorded, &case.ours(&without, &sizes, 1)), "{family}");
        assert!(same_bits(&recorded, &case.ours(&with, &sizes, 1)), "{family} again");
    }
}

/// Rows whose logits nobody wants change nothing for the others; a step without logits fills the cache.
#[test]
fn unwanted_rows_change_nothing() {
    let Some(device) = device(true, true) else { return };
    for family in ["gemma2", "qwen2"] {
        let case = Case::new(&Tiny { vocab: 67, ..Tiny::new(family, 4) }, &[13, 7]);
        for sizes in [vec![20], vec![6, 7], vec![12, 1, 7]] {
            let all = case.ours(&device, &sizes, 13);
            let mut runner = case.loaded(&device, &sizes);
            let dealt = deal(&case.sequences, &sizes, 13);
            // The last of each: only they go on, one or two of a batch, none of others.
            let some =
                run(runner.as_mut(), &case.sequences, &dealt, |slot, position| [12, 6][slot] == position);
            let error = difference(&some, &all);
            // Products of other kernels: their sums are added in another order.
            assert!(error < 2e-3, "{family} in {sizes:?}: {error:e}");
            assert!(!some[0][12].is_empty() && !some[1][6].is_empty());
        }
    }
}

/// A page copied is a page: a sequence goes on from another's beginning. Each group has other pages, which
/// only its own tables know.
#[test]
fn copied_pages_are_read_as_the_first() {
    let Some(device) = device(true, true) else { return };
    let case = Case::new(&Tiny { vocab: 67, ..Tiny::new("gemma2", 4) }, &[6]);
    let mut options = options(&case.sequences, 6);
    (options.slots, options.pages) = (2, 4);
    let mut runner = load(&device, &case.file, &case.plan, &options);
    let token = |i: usize| case.sequences[0][i];
    let row = |slot, i| Row { slot, position: i as u32, token: token(i), logits: true };
    let pages = [(2, 1), (0, 3)];
    assert_eq!(case.plan.kv.len(), pages.len(), "gemma2 has two groups");
    for (group, (first, second)) in pages.into_iter().enumerate() {
        runner.map(0, group, 0, &[first]);
        runner.map(1, group, 0, &[second]);
    }
    runner.step(&Batch { rows: (0..5).map(|i| row(0, i)).collect() }).expect("the emulator");
    for (group, (first, second)) in pages.into_iter().enumerate() {
        runner.copy_page(group, first, second);
    }
    runner.step(&Batch { rows: vec![row(0, 5)] }).expect("the emulator");
    let first = runner.logits().to_vec();
    runner.step(&Batch { rows: vec![row(1, 5)] }).expect("the emulator");
    assert_eq!(first, runner.logits());
}

/// Tracing times every op that launches something.
#[test]
fn every_op_is_timed() {
    let Some(device) = device(false, true) else { return };
    let case = Case::new(&Tiny { vocab: 67, ..Tiny::new("llama", 4) }, &[2]);
    let mut runner = case.loaded(&device, &[1]);
    assert!(runner.times().is_empty());
    runner.trace(true);
    run(runner.as_mut(), &case.sequences, &deal(&case.sequences, &[1], 1), |_, _| true);
    for (op, time) in case.plan.ops.iter().zip(runner.times()) {
        let runs = if matches!(op, model::plan::Op::SelectRows) { 0 } else { 2 };
        assert_eq!(time.runs, runs, "{op:?}");
        assert_eq!(time.nanos > 0, runs > 0, "{op:?}");
    }
    runner.trace(false);
    assert!(runner.times().is_empty());
}

/// What kernels cannot run is refused by name, before anything is loaded.
#[test]
fn what_cannot_run_is_refused() {
    let Some(device) = device(true, true) else { return };
    let told = |tiny: Tiny, kv| {
        let file = tiny.parts().gguf();
        let (_, plan) = Plan::read(&file, Some(32)).expect("a tiny model");
        let options = LoadOptions { kv, ..LoadOptions::single(32, 1) };
        device.load(&file, &plan, &options, &mut |_, _| {}).err().expect("not runnable").to_string()
    };
    let (f16, f32) = (KvType::F16, KvType::F32);
    let plain = Tiny::new("llama", 1);
    let text = told(plain.clone(), f32);
    assert_eq!(text, "cuda cannot run a cache in f32; use another --device");
    let text = told(Tiny { head_dim: 12, rope_dims: 12, ..plain.clone() }, f16);
    assert_eq!(text, "cuda cannot run heads 12 wide (multiples of 8 up to 256); use another --device");
    let text = told(Tiny { ff: 50, ..plain }, f16);
    assert_eq!(text, "cuda cannot run a gate 50 wide (a multiple of 4); use another --device");
}
