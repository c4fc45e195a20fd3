//! The reference interpreter against logits of Hugging Face transformers.

use model::reference::Reference;
use model::{Batch, LoadOptions, Plan, Row, Runner};
use testkit::golden::{argmax, goldens, relative_error};

#[test]
fn reference_agrees_with_transformers() {
    for golden in goldens() {
        let file = gguf::Gguf::open(&golden.model).expect("a fixture");
        let (_, plan) = Plan::read(&file, Some(golden.ids.len()))
            .unwrap_or_else(|error| panic!("{}: {error}", golden.name));
        let mut options = LoadOptions::single(golden.ids.len(), 1);
        options.logit_rows = golden.ids.len();
        let mut runner = Reference::load(&file, &plan, &options, &mut |_, _| {}).expect("a fixture");
        for group in 0..plan.kv.len() {
            let pages: Vec<u32> = (0..options.pages as u32).rev().collect();
            runner.map(0, group, 0, &pages);
        }
        let row = |(position, &token): (usize, &u32)| Row {
            slot: 0,
            position: position as u32,
            token,
            logits: true,
        };
        let rows = golden.ids.iter().enumerate().map(row).collect();
        runner.step(&Batch { rows }).expect("no device to lose");
        let error = relative_error(runner.logits(), &golden.logits);
        eprintln!("{}: relative error {error:.2e}", golden.name);
        assert!(error < 1e-5, "{}: relative error {error:e}", golden.name);
        let rows = runner.logits().chunks(golden.vocab).zip(golden.logits.chunks(golden.vocab));
        for (position, (ours, theirs)) in rows.enumerate() {
            assert_eq!(argmax(ours), argmax(theirs), "{} at position {position}", golden.name);
        }
    }
}
