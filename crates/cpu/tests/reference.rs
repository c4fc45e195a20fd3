//! Whole tiny models against the slow interpreter, and against themselves cut into batches otherwise.

use cpu::{Cpu, Isa};
use gguf::Gguf;
use model::reference::ReferenceDevice;
use model::runner::{KvType, PAGE};
use model::{Batch, Device, LoadOptions, Plan, Row, Runner};
use quant::Format;
use testkit::golden::relative_error;
use testkit::tiny::{FAMILIES, Factors, Tiny};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }

    fn shuffled(&mut self, len: usize) -> Vec<u32> {
        let mut all: Vec<u32> = (0..len as u32).collect();
        for i in (1..len).rev() {
            all.swap(i, self.below(i + 1));
        }
        all
    }
}

/// Token ids of each slot, by position.
type Sequences = Vec<Vec<u32>>;

fn sequences(lengths: &[usize], vocab: usize, random: &mut Random) -> Sequences {
    lengths.iter().map(|&len| (0..len).map(|_| random.below(vocab) as u32).collect()).collect()
}

fn options(sequences: &Sequences, kv: KvType, threads: usize) -> LoadOptions {
    let tokens: usize = sequences.iter().map(Vec::len).sum();
    let pages = sequences.iter().map(|s| s.len().div_ceil(PAGE)).sum::<usize>() + 2;
    LoadOptions { rows: tokens, logit_rows: tokens, slots: sequences.len(), pages, kv, threads }
}

fn load(device: &dyn Device, file: &Gguf, plan: &Plan, options: &LoadOptions) -> Box<dyn Runner> {
    device.load(file, plan, options, &mut |_, _| {}).expect("a tiny model")
}

/// Gives every slot pages of its own, in no order.
fn map(runner: &mut dyn Runner, sequences: &Sequences, random: &mut Random) {
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

/// How the sequences' tokens are dealt to batches.
#[derive(Clone, Copy)]
enum Deal {
    /// One sequence after the other, one token a batch.
    Single,
    /// All in one batch.
    Whole,
    /// Random runs of random slots, one to this many tokens a batch.
    Mixed(usize),
}

fn batches(sequences: &Sequences, deal: Deal, random: &mut Random) -> Vec<Vec<(usize, usize)>> {
    let slots = |slot: usize| (0..sequences[slot].len()).map(move |position| (slot, position));
    let all = (0..sequences.len()).flat_map(slots);
    let most = match deal {
        Deal::Single => return all.map(|row| vec![row]).collect(),
        Deal::Whole => return vec![all.collect()],
        Deal::Mixed(most) => most,
    };
    let mut next = vec![0; sequences.len()];
    let mut order = vec![];
    loop {
        let unfinished: Vec<usize> = (0..next.len()).filter(|&s| next[s] < sequences[s].len()).collect();
        let Some(&slot) = unfinished.get(random.below(unfinished.len().max(1))) else { break };
        for _ in 0..=random.below(3) {
            if next[slot] < sequences[slot].len() {
                order.push((slot, next[slot]));
                next[slot] += 1;
            }
        }
    }
    let mut dealt = vec![];
    while !order.is_empty() {
        let rest = order.split_off(order.len().min(1 + random.below(most)));
        dealt.push(order);
        order = rest;
    }
    dealt
}

/// Logits of all rows asked for, `[slot][position]`; empty where nobody asked.
type Logits = Vec<Vec<Vec<f32>>>;

fn run(
    runner: &mut dyn Runner,
    sequences: &Sequences,
    batches: &[Vec<(usize, usize)>],
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
        runner.step(&Batch { rows }).expect("no device to lose");
        assert_eq!(runner.logits().len(), asked.len() * vocab);
        for (row, got) in asked.iter().zip(runner.logits().chunks_exact(vocab)) {
            logits[row.slot as usize][row.position as usize] = got.to_vec();
        }
    }
    logits
}

fn flat(logits: &Logits) -> Vec<f32> {
    logits.iter().flatten().flatten().copied().collect()
}

/// Two sequences in mixed batches, on one set, against the interpreter.
fn error(tiny: &Tiny, lengths: &[usize], kv: KvType, isa: Isa) -> f64 {
    let mut random = Random(tiny.seed);
    let file = tiny.parts().gguf();
    let context = *lengths.iter().max().expect("a sequence");
    let (_, plan) = Plan::read(&file, Some(context)).expect("a tiny model");
    let sequences = sequences(lengths, tiny.vocab, &mut random);
    let options = options(&sequences, kv, 2);
    let mut theirs = load(&ReferenceDevice, &file, &plan, &options);
    map(theirs.as_mut(), &sequences, &mut random);
    let single = batches(&sequences, Deal::Single, &mut random);
    let theirs = run(theirs.as_mut(), &sequences, &single, |_, _| true);
    let cpu = Cpu::with_isa(isa).expect("only sets this machine has are asked for");
    let mut ours = load(&cpu, &file, &plan, &options);
    map(ours.as_mut(), &sequences, &mut random);
    let mixed = batches(&sequences, Deal::Mixed(11), &mut random);
    let ours = run(ours.as_mut(), &sequences, &mixed, |_, _| true);
    relative_error(&flat(&ours), &flat(&theirs))
}

fn available() -> impl Iterator<Item = Isa> {
    Isa::ALL.into_iter().filter(|isa| isa.available())
}

/// Rounding activations to bytes costs some hundredths of the logits' size in these random models,
/// whatever the format of the weights; float formats lose nothing. What a product may be off is held
/// much tighter beside the kernels.
#[test]
fn every_family_in_every_format_agrees() {
    for family in FAMILIES {
        for &format in Format::ALL {
            let tiny = Tiny::new(family, 11 + u64::from(format.id())).with_format(format);
            let error = error(&tiny, &[37, 70], KvType::F32, Isa::detect());
            eprintln!("{family} {format}: {error:.1e}");
            let bound = if format.is_quantized() { 0.08 } else { 1e-5 };
            assert!(error <= bound, "{family} in {format}: relative error {error:e}");
        }
    }
}

#[test]
fn every_set_and_seed_agrees() {
    for family in FAMILIES {
        for seed in 1..=3 {
            for isa in available() {
                for (kv, bound) in [(KvType::F32, 1e-5), (KvType::F16, 3e-3)] {
                    let error = error(&Tiny::new(family, seed), &[40, 3], kv, isa);
                    assert!(error <= bound, "{family} {seed} on {}, {kv:?}: {error:e}", isa.name());
                }
            }
        }
    }
}

/// Small types against the interpreter that keeps the same codes. A code on the border between two falls either
/// way when sums differ in the last bit, which these random models then show; the codes themselves are held
/// exactly beside the kernels.
#[test]
fn small_types_agree_on_every_set() {
    for family in FAMILIES {
        for isa in available() {
            for (kv, bound) in [(KvType::Int8, 5e-3), (KvType::Int4, 3e-2)] {
                let error = error(&Tiny::new(family, 4), &[40, 70], kv, isa);
                eprintln!("{family} on {}, {}: {error:.1e}", isa.name(), kv.name());
                assert!(error <= bound, "{family} on {}, {kv:?}: {error:e}", isa.name());
            }
        }
    }
}

/// Widths that are no multiple of anything, single heads, many heads, and options of the families.
#[test]
fn odd_shapes_agree() {
    let plain = Tiny::new("llama", 5);
    let shapes = [
        Tiny {
            dim: 36,
            heads: 9,
            kv_heads: 1,
            head_dim: 6,
            rope_dims: 4,
            ff: 50,
            vocab: 71,
            ..plain.clone()
        },
        Tiny { dim: 2, heads: 1, kv_heads: 1, head_dim: 2, rope_dims: 2, ff: 1, vocab: 3, ..plain.clone() },
        Tiny {
            heads: 6,
            kv_heads: 6,
            head_dim: 10,
            rope_dims: 10,
            ff: 17,
            vocab: 33,
            layers: 1,
            ..plain.clone()
        },
        Tiny { heads: 5, kv_heads: 1, head_dim: 80, rope_dims: 80, ..plain.clone() },
        Tiny { heads: 2, kv_heads: 2, head_dim: 256, rope_dims: 64, ..plain.clone() },
        Tiny { factors: Factors::Llama, tied: true, rope_base: 5e5, ..plain.clone() },
        Tiny { window: Some(1), ..Tiny::new("gemma2", 6) },
        Tiny { window: Some(33), layers: 13, ..Tiny::new("gemma3", 7) },
        Tiny { window: Some(32), factors: Factors::None, rope_dims: 16, ..Tiny::new("phi3", 8) },
        Tiny { fused: true, ..Tiny::new("qwen2", 9) },
        Tiny { factors: Factors::LongShort { original: 100 }, ..Tiny::new("phi3", 10) },
    ];
    for tiny in shapes {
        for (kv, bound) in [(KvType::F32, 2e-5), (KvType::Int8, 1e-2), (KvType::Int4, 5e-2)] {
            let error = error(&tiny, &[67, 5, 33], kv, Isa::detect());
            assert!(error <= bound, "{tiny:?}, {kv:?}: relative error {error:e}");
        }
    }
}

/// The heart of batching: whatever else is in a batch, and however many threads walk it, a row's
/// logits are the same bits; pages keep what earlier sequences left.
#[test]
fn batches_slots_pages_and_threads_do_not_change_a_bit() {
    let formats = [Format::F16, Format::Q8_0, Format::Q4_K, Format::Q5_1, Format::MXFP4];
    for (i, family) in FAMILIES.into_iter().enumerate() {
        let cases = [
            (formats[i % 5], KvType::F16),
            (formats[(i + 2) % 5], KvType::Int8),
            (formats[i % 5], KvType::Int4),
        ];
        for (format, kv) in cases {
            let mut random = Random(i as u64);
            let tiny = Tiny::new(family, 21).with_format(format);
            let file = tiny.parts().gguf();
            let (_, plan) = Plan::read(&file, Some(128)).expect("a tiny model");
            let sequences = sequences(&[34, 70, 5], tiny.vocab, &mut random);
            let mut alone = load(&Cpu::new(), &file, &plan, &options(&sequences, kv, 1));
            map(alone.as_mut(), &sequences, &mut random);
            let single = batches(&sequences, Deal::Single, &mut random);
            let alone = run(alone.as_mut(), &sequences, &single, |_, _| true);
            for threads in [1, 2, 3] {
                let mut runner = load(&Cpu::new(), &file, &plan, &options(&sequences, kv, threads));
                for deal in [Deal::Whole, Deal::Mixed(3), Deal::Mixed(40), Deal::Mixed(90)] {
                    map(runner.as_mut(), &sequences, &mut random);
                    let dealt = batches(&sequences, deal, &mut random);
                    // All, some or almost none of the logits.
                    let rarity = [1, 2, 20][random.below(3)];
                    let got = run(runner.as_mut(), &sequences, &dealt, |_, _| random.below(rarity) == 0);
                    for (slot, rows) in got.iter().enumerate() {
                        for (position, row) in rows.iter().enumerate().filter(|(_, row)| !row.is_empty()) {
                            let same = row
                                .iter()
                                .zip(&alone[slot][position])
                                .all(|(a, b)| a.to_bits() == b.to_bits());
                            assert!(
                                same,
                                "{family} {format}, {kv:?}, {threads} threads, slot {slot}, position {position}"
                            );
                        }
                    }
                }
            }
        }
    }
}

/// Sets that multiply and add in one rounding are interchangeable to the bit.
#[test]
fn sets_agree_to_the_bit() {
    for (family, format) in
        [("llama", Format::Q4_K), ("gemma3", Format::Q8_0), ("phi3", Format::Q6_K), ("qwen2", Format::F16)]
    {
        let tiny = Tiny::new(family, 31).with_format(format);
        let file = tiny.parts().gguf();
        let (_, plan) = Plan::read(&file, Some(64)).expect("a tiny model");
        let sequences = sequences(&[40], tiny.vocab, &mut Random(1));
        let kv = if format == Format::Q8_0 { KvType::Int4 } else { KvType::Int8 };
        let options = options(&sequences, kv, 2);
        let mut first: Option<Vec<f32>> = None;
        for isa in available().filter(|&isa| isa != Isa::Scalar) {
            let cpu = Cpu::with_isa(isa).expect("it is available");
            let mut runner = load(&cpu, &file, &plan, &options);
            map(runner.as_mut(), &sequences, &mut Random(2));
            let dealt = batches(&sequences, Deal::Mixed(20), &mut Random(3));
            let got = flat(&run(runner.as_mut(), &sequences, &dealt, |_, _| true));
            let first = first.get_or_insert_with(|| got.clone());
            let same = first.iter().zip(&got).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{family} {format}: {} gives other bits", isa.name());
        }
    }
}

/// A sequence forked by copying its last page goes on as if it had been computed anew.
#[test]
fn copied_pages_fork_a_sequence() {
    for (family, kv) in [("llama", KvType::F16), ("gemma3", KvType::Int8), ("qwen3", KvType::Int4)] {
        let tiny = Tiny::new(family, 41);
        let file = tiny.parts().gguf();
        let (_, plan) = Plan::read(&file, Some(96)).expect("a tiny model");
        let mut random = Random(4);
        let mut both = sequences(&[80, 80], tiny.vocab, &mut random);
        let shared = both[0][..50].to_vec();
        both[1][..50].copy_from_slice(&shared);
        let options = LoadOptions { pages: 8, ..options(&both, kv, 2) };
        let single = batches(&both, Deal::Single, &mut random);
        let mut anew = load(&Cpu::new(), &file, &plan, &options);
        map(anew.as_mut(), &both, &mut random);
        let anew = run(anew.as_mut(), &both, &single, |_, position| position >= 50);

        let mut runner = load(&Cpu::new(), &file, &plan, &options);
        for group in 0..plan.kv.len() {
            runner.map(0, group, 0, &[5, 2, 7]);
        }
        let prompt: Vec<(usize, usize)> = (0..50).map(|position| (0, position)).collect();
        run(runner.as_mut(), &both, &[prompt], |_, _| false);
        for group in 0..plan.kv.len() {
            runner.copy_page(group, 2, 0);
            runner.map(1, group, 0, &[5, 0, 1]);
        }
        let rest = (50..80).map(|position| vec![(0, position), (1, position)]).collect::<Vec<_>>();
        let forked = run(runner.as_mut(), &both, &rest, |_, _| true);
        assert_eq!(flat(&forked), flat(&anew), "{family}");
    }
}

#[test]
fn a_batch_may_want_nothing_or_be_nothing() {
    let tiny = Tiny::new("gemma2", 51);
    let file = tiny.parts().gguf();
    let (_, plan) = Plan::read(&file, Some(64)).expect("a tiny model");
    let sequences = sequences(&[20], tiny.vocab, &mut Random(5));
    let mut runner = load(&Cpu::new(), &file, &plan, &options(&sequences, KvType::F16, 2));
    map(runner.as_mut(), &sequences, &mut Random(6));
    let whole = vec![(0..20).map(|position| (0, position)).collect()];
    let last = run(runner.as_mut(), &sequences, &whole, |_, position| position == 19);
    runner.step(&Batch { rows: vec![] }).expect("no device to lose");
    assert!(runner.logits().is_empty());
    let cut = vec![(0..19).map(|position| (0, position)).collect(), vec![(0, 19)]];
    let again = run(runner.as_mut(), &sequences, &cut, |_, position| position == 19);
    assert_eq!(flat(&last), flat(&again));
}
