//! Tokens chosen on the device against the sampler on the processor, which is the specification.

use cuda::args::sample::{Bias, Chain, Chosen, RecallArgs, SCRATCH, SampleArgs, Settings, biases};
use cuda::driver::{Block, Pinned};
use cuda::lab::Lab;
use engine::{Sampler, Sampling};

/// Random numbers from a seed: SplitMix64.
struct Noise(u64);

impl Noise {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// In [0, 1).
    fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 24) as f32
    }

    /// One of these.
    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// About normal.
    fn bell(&mut self) -> f32 {
        (0..6).map(|_| self.unit()).sum::<f32>() * 1.4 - 4.2
    }
}

const OUTBOX: usize = 3;

/// Longest window of the penalties here.
const WINDOW: usize = 8;

/// A device's samplers, one a slot, and those of the processor beside them. Row j of a step is slot
/// `slots - 1 - j`.
struct Bench<'a> {
    lab: &'a Lab,
    args: SampleArgs,
    slots: usize,
    vocab: usize,
    host: Vec<Sampler>,
    logits: Block,
    chains: Block,
    outbox: Pinned<u64>,
    /// Whether any slot needs the second kernel.
    all: bool,
    steps: u32,
    next: Vec<Block>,
    _kept: Vec<Block>,
}

fn settings(sampling: &Sampling) -> Settings {
    Settings {
        temperature: sampling.temperature,
        top_k: sampling.top_k,
        top_p: sampling.top_p,
        min_p: sampling.min_p,
        repeat_penalty: sampling.repeat_penalty,
        presence_penalty: sampling.presence_penalty,
        frequency_penalty: sampling.frequency_penalty,
        window: sampling.repeat_last_n.min(WINDOW),
        seed: sampling.seed,
    }
}

impl<'a> Bench<'a> {
    /// One slot for each of `samplings`; all have seen `prompt`.
    fn new(lab: &'a Lab, vocab: usize, samplings: &[Sampling], prompt: &[u32]) -> Bench<'a> {
        let slots = samplings.len();
        let recent = lab.poisoned::<u32>(slots * WINDOW);
        let tally = lab.poisoned::<u32>(slots * vocab * 2);
        let mut kept = vec![];
        let chains: Vec<Chain> = samplings
            .iter()
            .enumerate()
            .map(|(slot, sampling)| {
                let list = biases(&sampling.logit_bias);
                let bias =
                    lab.upload(if list.is_empty() { &[Bias { id: 0, amount: 0.0 }][..] } else { &list });
                let address = bias.address();
                kept.push(bias);
                let recent = recent.address() + (slot * WINDOW * 4) as u64;
                let tally = tally.address() + (slot * vocab * 8) as u64;
                Chain::new(&settings(sampling), recent, tally, (address, list.len()))
            })
            .collect();
        let block = lab.upload(&chains);
        for (slot, chain) in chains.iter().enumerate().filter(|(_, chain)| chain.window > 0) {
            let seen = &prompt[prompt.len().saturating_sub(chain.window as usize)..];
            let tokens = lab.upload(if seen.is_empty() { &[0][..] } else { seen });
            let args = RecallArgs {
                chain: block.address() + (slot * size_of::<Chain>()) as u64,
                tokens: tokens.address(),
                count: seen.len() as u32,
                vocab: vocab as u32,
            };
            let launch = RecallArgs::launch();
            lab.launch(RecallArgs::KERNEL, launch.grid, launch.threads, launch.shared_bytes, &args);
            lab.wait();
        }
        let host = samplings
            .iter()
            .map(|sampling| {
                let mut sampler = Sampler::new(sampling, vocab, WINDOW).expect("good settings");
                for &token in prompt {
                    sampler.accept(token);
                }
                sampler
            })
            .collect();
        let outbox = Pinned::new(&lab.context, slots * OUTBOX).expect("pinned memory");
        let scratch = lab.zeroed::<u8>(slots * SCRATCH);
        let logits = lab.zeroed::<f32>(slots * vocab);
        // Of the step's rows only the odd ones are wanted, the last slot first.
        let select = lab.upload(&(0..slots as u32).map(|j| 2 * j + 1).collect::<Vec<_>>());
        let slot: Vec<u32> = (0..2 * slots as u32).map(|row| slots as u32 - 1 - row / 2).collect();
        let (slot, position) = (lab.upload(&slot), lab.upload(&(0..2 * slots as u32).collect::<Vec<_>>()));
        let next: Vec<Block> = (0..4).map(|_| lab.poisoned::<u32>(slots)).collect();
        let args = SampleArgs {
            logits: logits.address(),
            chains: block.address(),
            scratch: scratch.address(),
            select: select.address(),
            slot: slot.address(),
            position: position.address(),
            next_token: next[0].address(),
            next_position: next[1].address(),
            next_slot: next[2].address(),
            next_select: next[3].address(),
            outbox: outbox.address(),
            ..SampleArgs::new(vocab, OUTBOX)
        };
        kept.extend([recent, tally, scratch, select, slot, position]);
        let all = samplings.iter().any(|sampling| settings(sampling).needs_all(vocab));
        Bench {
            lab,
            args,
            slots,
            vocab,
            host,
            logits,
            chains: block,
            outbox,
            all,
            steps: 0,
            next,
            _kept: kept,
        }
    }

    /// Chooses on the device: by slot, from logits by slot.
    fn choose(&mut self, logits: &[Vec<f32>]) -> Vec<Chosen> {
        let rows: Vec<f32> = logits.iter().rev().flatten().copied().collect();
        self.logits.write(&self.lab.stream, 0, &rows).expect("as large");
        let launch = self.args.launch(self.slots);
        self.lab.launch(SampleArgs::KERNEL, launch.grid, launch.threads, launch.shared_bytes, &self.args);
        if self.all {
            let launch = self.args.launch_all(self.slots);
            self.lab.launch(
                SampleArgs::ALL_KERNEL,
                launch.grid,
                launch.threads,
                launch.shared_bytes,
                &self.args,
            );
        }
        self.lab.wait();
        let at = self.steps as usize % OUTBOX;
        self.steps += 1;
        let chosen: Vec<Chosen> =
            (0..self.slots).map(|slot| Chosen::new(self.outbox.get(slot * OUTBOX + at))).collect();
        for chosen in &chosen {
            assert_eq!(chosen.number, self.steps, "number of the entry");
        }
        chosen
    }

    /// Both choose; their tokens must be the same, and both go on from them.
    fn step(&mut self, logits: &[Vec<f32>], samplings: &[Sampling]) {
        let chosen = self.choose(logits);
        for (slot, chosen) in chosen.iter().enumerate() {
            let expected = self.host[slot].sample(&logits[slot]);
            assert_eq!(
                chosen.token,
                expected,
                "vocabulary {}, step {}, slot {slot} on {}: {:?}",
                self.vocab,
                self.steps,
                self.lab.name(),
                samplings[slot]
            );
            self.host[slot].accept(expected);
            let not_a_number = logits[slot].iter().any(|logit| logit.is_nan());
            assert_eq!(chosen.not_a_number, not_a_number, "flag of NaN");
        }
    }
}

fn any_sampling(noise: &mut Noise, vocab: usize) -> Sampling {
    let mut sampling = Sampling {
        temperature: noise.one(&[0.0, 0.3, 0.8, 1.0, 1.0, 1.7, 20.0, 1e-30]),
        top_k: noise.one(&[0, 0, 1, 2, 40, 40, 255, 256, 257, 600, 3000, vocab - 1, vocab]),
        top_p: noise.one(&[1.0, 1.0, 0.95, 0.5, 0.1, 1e-30, 0.999_999_94]),
        min_p: noise.one(&[0.0, 0.0, 0.05, 0.5, 1.0]),
        seed: noise.bits(),
        ..Sampling::default()
    };
    if noise.below(3) == 0 {
        sampling.repeat_penalty = noise.one(&[1.0, 1.1, 1.9, 0.7]);
        sampling.presence_penalty = noise.one(&[0.0, 0.4, -0.3]);
        sampling.frequency_penalty = noise.one(&[0.0, 0.2, 1.3]);
        sampling.repeat_last_n = noise.one(&[0, 1, 3, usize::MAX]);
    }
    if noise.below(4) == 0 {
        for _ in 0..noise.below(5) {
            let amount = noise.one(&[0.7, -3.0, 5.5, f32::NEG_INFINITY]);
            sampling.logit_bias.push((noise.below(vocab) as u32, amount));
        }
    }
    sampling
}

fn any_logits(noise: &mut Noise, vocab: usize) -> Vec<f32> {
    let spread = noise.one(&[0.1, 1.0, 3.0, 3.0, 30.0]);
    match noise.below(8) {
        // Many equals.
        0 => (0..vocab).map(|_| (noise.bell() * 4.0).round() / 4.0).collect(),
        1 => vec![noise.bell(); vocab],
        // The best side by side, so that few groups hold them all.
        2 => (0..vocab).map(|i| i as f32 * 0.01 - 3.0).collect(),
        // Holes.
        3 => (0..vocab)
            .map(|_| {
                let score = noise.bell() * spread;
                noise.one(&[score, score, score, f32::NEG_INFINITY, f32::NAN, -0.0, 0.0])
            })
            .collect(),
        _ => (0..vocab).map(|_| noise.bell() * spread + 5.0).collect(),
    }
}

/// `runs` benches of `slots` slots of random settings, `steps` steps each.
fn agree(vocab: usize, runs: usize, slots: usize, steps: usize, seed: u64) {
    for lab in Lab::all() {
        let mut noise = Noise(seed);
        for _ in 0..runs {
            let samplings: Vec<Sampling> = (0..slots).map(|_| any_sampling(&mut noise, vocab)).collect();
            let prompt: Vec<u32> = (0..noise.below(12)).map(|_| noise.below(vocab) as u32).collect();
            let mut bench = Bench::new(&lab, vocab, &samplings, &prompt);
            for _ in 0..steps {
                let logits: Vec<Vec<f32>> = (0..slots).map(|_| any_logits(&mut noise, vocab)).collect();
                bench.step(&logits, &samplings);
            }
        }
    }
}

#[test]
fn one_token_is_always_chosen() {
    agree(1, 1, 30, 3, 1);
}

#[test]
fn tiny_vocabularies_agree() {
    agree(5, 3, 40, 12, 2);
}

#[test]
fn small_vocabularies_agree() {
    agree(288, 3, 40, 8, 3);
}

#[test]
fn middle_vocabularies_agree() {
    agree(4099, 2, 30, 3, 4);
}

#[test]
fn large_vocabularies_agree() {
    agree(32000, 1, 24, 2, 5);
}

/// What no random logits make: more candidates at once than a block sorts.
#[test]
fn crowds_of_equals_agree() {
    for lab in Lab::all() {
        let mut noise = Noise(8);
        // All elements of a few threads are the best, all the same.
        let vocab = 40_000;
        let samplings = vec![Sampling { top_k: 256, top_p: 1.0, min_p: 0.0, ..Sampling::default() }];
        let columns = (0..vocab).map(|id| if id % 256 < 16 { 9.0 } else { noise.bell() }).collect();
        Bench::new(&lab, vocab, &samplings, &[]).step(&[columns], &samplings);
        // One score, or nearly.
        let vocab = 2500;
        let open = Sampling { top_k: 0, top_p: 1.0, min_p: 0.0, ..Sampling::default() };
        let samplings = [
            Sampling { top_p: 0.6, ..open.clone() },
            Sampling { top_k: 1333, ..open.clone() },
            Sampling { top_k: 2222, top_p: 0.7, seed: 5, ..open },
        ];
        let mut bench = Bench::new(&lab, vocab, &samplings, &[]);
        bench.step(&vec![vec![0.25; vocab]; 3], &samplings);
        let near: Vec<f32> = (0..vocab).map(|_| noise.bell() * 1e-3).collect();
        bench.step(&vec![near; 3], &samplings);
    }
}

#[test]
fn the_largest_vocabulary_agrees() {
    for lab in Lab::all() {
        let vocab = 262_144;
        let mut noise = Noise(6);
        let plain = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, ..Sampling::default() };
        let samplings = [
            Sampling::greedy(),
            Sampling::default(),
            plain.clone(),
            Sampling { top_p: 0.9, seed: 3, ..plain.clone() },
            Sampling { top_k: 1000, top_p: 0.99, seed: 4, ..plain },
        ];
        let logits: Vec<Vec<f32>> =
            samplings.iter().map(|_| (0..vocab).map(|_| noise.bell() * 3.0).collect()).collect();
        Bench::new(&lab, vocab, &samplings, &[]).step(&logits, &samplings);
    }
}

#[test]
fn the_next_step_is_written() {
    for lab in Lab::all() {
        let samplings =
            [Sampling::greedy(), Sampling::default(), Sampling { top_k: 0, ..Sampling::default() }];
        let mut bench = Bench::new(&lab, 300, &samplings, &[]);
        let mut noise = Noise(7);
        let logits: Vec<Vec<f32>> = (0..3).map(|_| (0..300).map(|_| noise.bell()).collect()).collect();
        let mut tokens: Vec<u32> = bench.choose(&logits).iter().map(|chosen| chosen.token).collect();
        tokens.reverse();
        let next: Vec<Vec<u32>> = bench.next.iter().map(|block| lab.download(block)).collect();
        assert_eq!(
            next,
            [tokens, vec![2, 4, 6], vec![2, 1, 0], vec![0, 1, 2]],
            "token, position, slot, select"
        );
    }
}

#[test]
fn rows_without_any_score_are_flagged() {
    for lab in Lab::all() {
        let bad = [
            (vec![f32::NAN; 270], true),
            (vec![f32::NEG_INFINITY; 270], false),
            ((0..270).map(|i| if i % 2 == 0 { f32::NAN } else { f32::NEG_INFINITY }).collect(), true),
        ];
        for sampling in [
            Sampling::greedy(),
            Sampling { repeat_penalty: 1.1, ..Sampling::greedy() },
            Sampling::default(),
            Sampling { top_k: 0, ..Sampling::default() },
            Sampling { top_k: 265, ..Sampling::default() },
        ] {
            let samplings = vec![sampling; bad.len() + 1];
            let mut bench = Bench::new(&lab, 270, &samplings, &[]);
            let good = (0..270).map(|i| i as f32 / 50.0).collect();
            let logits: Vec<Vec<f32>> = bad.iter().map(|(row, _)| row.clone()).chain([good]).collect();
            for _ in 0..3 {
                // The random numbers stay in step with the processor's even then.
                bench.step(&logits, &samplings);
            }
            let chosen = bench.choose(&logits);
            for ((_, nan), chosen) in bad.iter().zip(&chosen) {
                assert!(chosen.nothing && chosen.not_a_number == *nan, "{chosen:?}");
            }
            let last = chosen.last().expect("four rows");
            assert!(!last.nothing && !last.not_a_number, "{last:?}");
        }
    }
}

/// χ² of draws against exact probabilities; equal tokens above say the same, this says it independently.
#[test]
fn draws_follow_the_distribution() {
    const LOGITS: [f32; 10] = [1.0, -0.5, 2.0, 0.3, 2.0, -3.0, 0.0, 1.7, -1.2, 0.9];
    let cases = [(0, 1.0, 10), (0, 0.999, 10), (9, 1.0, 9)];
    for lab in Lab::all() {
        for (top_k, top_p, kept) in cases {
            let sampling = Sampling { temperature: 0.8, top_k, top_p, min_p: 0.0, ..Sampling::default() };
            let samplings: Vec<Sampling> =
                (0..50).map(|seed| Sampling { seed, ..sampling.clone() }).collect();
            let mut bench = Bench::new(&lab, LOGITS.len(), &samplings, &[]);
            let logits = vec![LOGITS.to_vec(); samplings.len()];
            let (mut counts, mut draws) = ([0usize; 10], 0);
            for _ in 0..20 {
                for chosen in bench.choose(&logits) {
                    counts[chosen.token as usize] += 1;
                    draws += 1;
                }
            }
            let mut order: Vec<usize> = (0..10).collect();
            order.sort_by(|&a, &b| LOGITS[b].total_cmp(&LOGITS[a]));
            let weights: Vec<f64> = order[..kept].iter().map(|&id| (LOGITS[id] as f64 / 0.8).exp()).collect();
            let total: f64 = weights.iter().sum();
            let chi: f64 = order
                .iter()
                .zip(&weights)
                .map(|(&id, weight)| {
                    let mean = weight / total * draws as f64;
                    (counts[id] as f64 - mean).powi(2) / mean
                })
                .sum();
            assert_eq!(
                order[kept..].iter().map(|&id| counts[id]).sum::<usize>(),
                0,
                "dropped tokens never come"
            );
            // 9 degrees of freedom: less than once in 10⁵.
            assert!(chi < 39.3, "χ² {chi} of {counts:?} on {}", lab.name());
        }
    }
}

#[test]
fn structures_are_the_kernels_own() {
    assert_eq!(size_of::<Chain>(), 128);
    for lab in Lab::all() {
        let bytes = |kernel: &str| lab.kernels.function(kernel).expect("it is there").args_bytes();
        for (kernel, size) in [
            (SampleArgs::KERNEL, size_of::<SampleArgs>()),
            (SampleArgs::ALL_KERNEL, size_of::<SampleArgs>()),
            (RecallArgs::KERNEL, size_of::<RecallArgs>()),
        ] {
            assert!(bytes(kernel).is_none_or(|bytes| bytes == size), "{kernel}");
        }
        // Chains of consecutive slots are read as the kernel's structures.
        let chains = Bench::new(&lab, 3, &vec![Sampling::greedy(); 3], &[]).chains;
        assert_eq!(chains.bytes(), 3 * 128);
    }
}
