//! Whole tiny models whose cache is small, on the emulated GPU, against the slow interpreter with a cache of the
//! same type: what it loses, it loses there too.
//!
//! A code of a key or value that is near the middle between two may fall either way, by which both differ by a
//! whole step, three times what rounding costs on average. So these random models, which amplify an activation's
//! last bits to 1e-3 (see `models.rs`), differ by up to 0.65 of what the cache loses against one in F32: 6e-4 to
//! 8e-3 for Int8, 3e-3 to 3e-2 for Int4. Attention alone is held to 1e-3 of the codes there are in `attend`.

mod common;

use common::{
    Logits, Random, Sequences, deal, device, difference, load, map, options, run, same_bits, sequences,
};
use cuda::Cuda;
use cuda::args::rope::TYPES;
use gguf::Gguf;
use model::reference::ReferenceDevice;
use model::runner::{KvType, PAGE};
use model::{Batch, Device, LoadOptions, Plan, Row, Runner};
use quant::Format;
use testkit::tiny::{FAMILIES, Tiny};

struct Case {
    sequences: Sequences,
    file: Gguf,
    plan: Plan,
    kv: KvType,
}

impl Case {
    fn new(tiny: &Tiny, lengths: &[usize], kv: KvType) -> Case {
        let file = tiny.parts().gguf();
        let context = *lengths.iter().max().expect("a sequence");
        let (_, plan) = Plan::read(&file, Some(context)).expect("a tiny model");
        Case { sequences: sequences(lengths, tiny.vocab, &mut Random(tiny.seed)), file, plan, kv }
    }

    fn options(&self, rows: usize) -> LoadOptions {
        LoadOptions { kv: self.kv, ..options(&self.sequences, rows) }
    }

    fn logits(&self, device: &dyn Device, sizes: &[usize], runs: usize) -> Logits {
        let most = *sizes.iter().max().expect("a size");
        let mut runner = load(device, &self.file, &self.plan, &self.options(most));
        map(runner.as_mut(), &self.sequences, &mut Random(5));
        run(runner.as_mut(), &self.sequences, &deal(&self.sequences, sizes, runs), |_, _| true)
    }
}

fn small() -> impl Iterator<Item = KvType> {
    TYPES.into_iter().filter(|&kv| kv != KvType::F16)
}

/// All ways through a step: one row, a few, many; fused and not.
#[test]
fn every_family_agrees() {
    for kv in small() {
        for (i, family) in FAMILIES.into_iter().enumerate() {
            // Weights that the GPU does not round: then few codes fall otherwise.
            let tiny = Tiny { vocab: 67, ..Tiny::new(family, 3) }.with_format(Format::F16);
            let case = Case::new(&tiny, &[35, 9], kv);
            let theirs = case.logits(&ReferenceDevice, &[1], 1);
            let exact = Case { kv: KvType::F32, ..Case::new(&tiny, &[35, 9], kv) };
            let loss = difference(&theirs, &exact.logits(&ReferenceDevice, &[1], 1));
            for fuse in [true, false] {
                let Some(device) = device(fuse, true) else { return };
                let sizes = if fuse == (i % 2 == 0) { vec![40, 3, 1] } else { vec![35, 8, 1] };
                let ours = case.logits(&device, &sizes, 35);
                let error = difference(&ours, &theirs);
                eprintln!("{} {family} {sizes:?} {fuse}: {error:.1e} of {loss:.1e}", kv.name());
                assert!(
                    error < 0.75 * loss + 1e-3,
                    "{} {family} in {sizes:?}, fused {fuse}: {error:e}",
                    kv.name()
                );
                assert!(same_bits(&ours, &case.logits(&device, &sizes, 35)), "twice the same");
            }
        }
    }
}

/// A small cache is not another's: what it loses shows.
#[test]
fn types_differ() {
    let Some(device) = device(true, true) else { return };
    let of =
        |kv| Case::new(&Tiny { vocab: 67, ..Tiny::new("llama", 3) }, &[12], kv).logits(&device, &[5, 1], 5);
    let all = TYPES.map(of);
    for (i, one) in all.iter().enumerate() {
        assert!(all[..i].iter().all(|other| !same_bits(one, other)));
    }
}

fn step(runner: &mut dyn Runner, case: &Case, slot: u32, positions: std::ops::Range<usize>) -> Vec<f32> {
    let row = |i: usize| Row { slot, position: i as u32, token: case.sequences[0][i], logits: true };
    runner.step(&Batch { rows: positions.map(row).collect() }).expect("the emulator");
    runner.logits().to_vec()
}

/// Pages that one runner read out and another takes in, at another place, are the same sequence.
#[test]
fn pages_move_to_another_runner() {
    fn move_pages(device: &Cuda, kv: KvType, family: &'static str) {
        let case = Case::new(&Tiny { vocab: 67, ..Tiny::new(family, 4) }, &[70], kv);
        let options = LoadOptions { slots: 2, pages: 5, ..case.options(40) };
        let mut one = load(device, &case.file, &case.plan, &options);
        let mut two = load(device, &case.file, &case.plan, &options);
        for group in 0..case.plan.kv.len() {
            one.map(0, group, 0, &[4, 0, 2]);
            two.map(1, group, 0, &[1, 3, 0]);
        }
        step(one.as_mut(), &case, 0, 0..40);
        step(one.as_mut(), &case, 0, 40..64);
        for group in 0..case.plan.kv.len() {
            let layers = case.plan.kv[group].layers.len();
            assert_eq!(one.page_bytes(group) as u64 * 5, layers_bytes(one.as_ref(), layers));
            let mut bytes = vec![0xaa; one.page_bytes(group)];
            for (from, to) in [(4, 1), (0, 3)] {
                one.read_page(group, from, &mut bytes).expect("the emulator");
                two.write_page(group, to, &bytes).expect("the emulator");
                let mut again = vec![0; bytes.len()];
                two.read_page(group, to, &mut again).expect("the emulator");
                assert!(again == bytes);
            }
        }
        let (a, b) = (step(one.as_mut(), &case, 0, 64..70), step(two.as_mut(), &case, 1, 64..70));
        assert!(a.iter().all(|x| x.is_finite()) && a == b, "{} {family}", kv.name());
    }

    /// Bytes of a group of these many layers.
    fn layers_bytes(runner: &dyn Runner, layers: usize) -> u64 {
        runner.memory().kv / runner.plan().shape.layers as u64 * layers as u64
    }

    let Some(device) = device(true, true) else { return };
    for kv in TYPES {
        for family in ["gemma2", "llama"] {
            move_pages(&device, kv, family);
        }
    }
}

/// Entries of a table before a window are anything: no step reads them, nor the pages that were there.
#[test]
fn what_is_before_a_window_is_never_read() {
    let Some(device) = device(true, true) else { return };
    for kv in TYPES {
        let case = Case::new(&Tiny { vocab: 67, ..Tiny::new("gemma2", 4) }, &[150], kv);
        let options = LoadOptions { slots: 1, pages: 6, ..case.options(26) };
        let counts: Vec<usize> = case.plan.kv.iter().map(|group| options.group_pages(group.window)).collect();
        assert!(counts.contains(&6) && counts.iter().any(|&count| count < 5), "{counts:?}");
        let go = |spoil: bool| {
            let mut runner = load(&device, &case.file, &case.plan, &options);
            let mut out = vec![];
            // Many rows, few, one.
            for rows in [0..26usize, 26..52, 52..78, 78..104, 104..130, 130..145, 145..148, 148..149] {
                for (group, &count) in counts.iter().enumerate() {
                    let window = case.plan.kv[group].window;
                    let first =
                        window.map_or(0, |window| (rows.start + 1usize).saturating_sub(window) / PAGE);
                    let seen = first..rows.end.div_ceil(PAGE);
                    // Pages go round: those before a window serve again.
                    let pages: Vec<u32> = seen.map(|page| (page % count) as u32).collect();
                    runner.map(0, group, first, &pages);
                    let free = (0..count as u32).find(|page| !pages.contains(page));
                    if let (true, Some(free), true) = (spoil, free, first > 0) {
                        let bytes = vec![0xff; runner.page_bytes(group)];
                        runner.write_page(group, free, &bytes).expect("the emulator");
                        runner.map(0, group, 0, &vec![free; first]);
                    }
                }
                out.push(step(runner.as_mut(), &case, 0, rows));
            }
            out
        };
        let spoiled = go(true);
        assert!(spoiled.iter().flatten().all(|x| x.is_finite()));
        assert_eq!(spoiled, go(false), "{}", kv.name());
    }
}
