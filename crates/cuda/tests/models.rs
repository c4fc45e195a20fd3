//! Whole tiny models on the emulated GPU against the slow interpreter, and against themselves run in other
//! ways: other batches, unfused, without graphs.

mod common;

use common::{Random, deal, device, difference, load, map, options, run, sequences};
use model::Plan;
use model::reference::ReferenceDevice;
use quant::Format;
use testkit::tiny::{FAMILIES, Tiny};

/// Relative error of a tiny model's logits, two sequences in batches of these sizes.
fn error(tiny: &Tiny, lengths: &[usize], sizes: &[usize], runs: usize, fuse: bool) -> Option<f64> {
    let device = device(fuse, true)?;
    let mut random = Random(tiny.seed);
    let file = tiny.parts().gguf();
    let context = *lengths.iter().max().expect("a sequence");
    let (_, plan) = Plan::read(&file, Some(context)).expect("a tiny model");
    let sequences = sequences(lengths, tiny.vocab, &mut random);
    let mut options = options(&sequences, *sizes.iter().max().expect("a size"));
    let mut ours = load(&device, &file, &plan, &options);
    map(ours.as_mut(), &sequences, &mut random);
    let ours = run(ours.as_mut(), &sequences, &deal(&sequences, sizes, runs), |_, _| true);
    options.rows = 1;
    let mut theirs = load(&ReferenceDevice, &file, &plan, &options);
    map(theirs.as_mut(), &sequences, &mut random);
    let theirs = run(theirs.as_mut(), &sequences, &deal(&sequences, &[1], 1), |_, _| true);
    Some(difference(&ours, &theirs))
}

/// All ways through a step: one row, a few, many; the whole of both sequences in the last.
#[test]
fn every_family_agrees() {
    for (i, family) in FAMILIES.into_iter().enumerate() {
        let tiny = Tiny { vocab: 67, ..Tiny::new(family, 3) };
        let fuse = i % 2 == 0;
        for (lengths, sizes, runs) in
            [(vec![3, 2], vec![1], 1), (vec![9, 4], vec![3, 8], 3), (vec![35, 10], vec![40], 40)]
        {
            let Some(error) = error(&tiny, &lengths, &sizes, runs, fuse) else { return };
            eprintln!("{family} {sizes:?} {fuse}: {error:.1e}");
            assert!(error < 3e-3, "{family} in {sizes:?}: {error:e}");
        }
    }
}
