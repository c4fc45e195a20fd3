//! Tiny models on the emulator, and sequences dealt to batches.
#![allow(dead_code, reason = "every test file uses a part")]

use cuda::{Cuda, CudaOptions};
use gguf::Gguf;
use model::runner::{KvType, PAGE};
use model::{Batch, Device, LoadOptions, Plan, Row, Runner};

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }

    pub(crate) fn shuffled(&mut self, len: usize) -> Vec<u32> {
        let mut all: Vec<u32> = (0..len as u32).collect();
        for i in (1..len).rev() {
            all.swap(i, self.below(i + 1));
        }
        all
    }
}

/// The devices there are to test on: the emulator, and with `JETSON_LLM_TEST_GPU` this machine's GPU instead.
pub(crate) fn device(fuse: bool, graph: bool) -> Option<Cuda> {
    let library = match std::env::var_os("JETSON_LLM_TEST_GPU") {
        Some(_) => None,
        None => Some(cuda::lab::emulated_library()?),
    };
    let options = CudaOptions { library, fuse, graph, ..CudaOptions::default() };
    Some(Cuda::open(options).unwrap_or_else(|error| panic!("{error}")))
}

/// Token ids of each slot, by position.
pub(crate) type Sequences = Vec<Vec<u32>>;

pub(crate) fn sequences(lengths: &[usize], vocab: usize, random: &mut Random) -> Sequences {
    lengths.iter().map(|&len| (0..len).map(|_| random.below(vocab) as u32).collect()).collect()
}

/// Room for all sequences, and two pages more.
pub(crate) fn options(sequences: &Sequences, rows: usize) -> LoadOptions {
    let pages = sequences.iter().map(|s| s.len().div_ceil(PAGE)).sum::<usize>() + 2;
    LoadOptions { rows, logit_rows: rows, slots: sequences.len(), pages, kv: KvType::F16, threads: 1 }
}

pub(crate) fn load(device: &dyn Device, file: &Gguf, plan: &Plan, options: &LoadOptions) -> Box<dyn Runner> {
    device.load(file, plan, options, &mut |_, _| {}).unwrap_or_else(|error| panic!("{error}"))
}

/// Gives every slot pages of its own, in no order.
pub(crate) fn map(runner: &mut dyn Runner, sequences: &Sequences, random: &mut Random) {
    for group in 0..runner.plan().kv.len() {
        let options = *runner.options();
        let mut pages = random.shuffled(options.group_pages(runner.plan().kv[group].window));
        let share = pages.len() / options.slots;
        let scarce = pages.len() < sequences.iter().map(|s| s.len().div_ceil(PAGE)).sum();
        for (slot, sequence) in sequences.iter().enumerate() {
            let count = sequence.len().div_ceil(PAGE);
            let left = pages.split_off(if scarce { share } else { count });
            // A window leaves pages behind, which come again.
            let list: Vec<u32> = pages.iter().copied().cycle().take(count).collect();
            runner.map(slot, group, 0, &list);
            pages = left;
        }
    }
}

/// Rows of a batch: slot and position.
pub(crate) type Deal = Vec<(usize, usize)>;

/// Cuts sequences into batches of these many rows, over and over; `runs` rows of a slot at a time.
pub(crate) fn deal(sequences: &Sequences, sizes: &[usize], runs: usize) -> Vec<Deal> {
    let mut next = vec![0; sequences.len()];
    let mut order = vec![];
    while order.len() < sequences.iter().map(Vec::len).sum() {
        for (slot, next) in next.iter_mut().enumerate() {
            for _ in 0..runs {
                if *next < sequences[slot].len() {
                    order.push((slot, *next));
                    *next += 1;
                }
            }
        }
    }
    let mut sizes = sizes.iter().cycle();
    let mut batches = vec![];
    while !order.is_empty() {
        let size = *sizes.next().expect("sizes go round");
        let rest = order.split_off(order.len().min(size));
        batches.push(order);
        order = rest;
    }
    batches
}

/// Logits of all rows asked for, `[slot][position]`; empty where nobody asked.
pub(crate) type Logits = Vec<Vec<Vec<f32>>>;

pub(crate) fn run(
    runner: &mut dyn Runner,
    sequences: &Sequences,
    batches: &[Deal],
    mut wanted: impl FnMut(usize, usize) -> bool,
) -> Logits {
    let vocab = runner.plan().shape.vocab;
    let mut logits: Logits = sequences.iter().map(|s| vec![vec![]; s.len()]).collect();
    for batch in batches {
        let row = |&(slot, position): &(usize, usize)| Row {
            slot: slot as u32,
            position: position as u32,
            token: sequences[slot][position],
            logits: wanted(slot, position),
        };
        let rows: Vec<Row> = batch.iter().map(row).collect();
        let asked: Vec<Row> = rows.iter().copied().filter(|row| row.logits).collect();
        runner.step(&Batch { rows }).unwrap_or_else(|lost| panic!("{lost}"));
        assert_eq!(runner.logits().len(), asked.len() * vocab);
        for (row, got) in asked.iter().zip(runner.logits().chunks_exact(vocab)) {
            logits[row.slot as usize][row.position as usize] = got.to_vec();
        }
    }
    logits
}

/// |ours − theirs| / |theirs| over the rows that `ours` has.
pub(crate) fn difference(ours: &Logits, theirs: &Logits) -> f64 {
    let mut pairs = (vec![], vec![]);
    for (ours, theirs) in ours.iter().flatten().zip(theirs.iter().flatten()) {
        if !ours.is_empty() {
            pairs.0.extend_from_slice(ours);
            pairs.1.extend_from_slice(theirs);
        }
    }
    testkit::golden::relative_error(&pairs.0, &pairs.1)
}

/// Whether two results are the same bits wherever both have rows.
pub(crate) fn same_bits(ours: &Logits, theirs: &Logits) -> bool {
    let both = ours.iter().flatten().zip(theirs.iter().flatten());
    both.filter(|(a, b)| !a.is_empty() && !b.is_empty())
        .all(|(a, b)| a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits()))
}
