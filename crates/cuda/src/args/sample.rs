//! Mirrors of `kernels/sample.cuh`: choosing tokens on the device.

use super::common::Address;
use crate::driver::{Args, Launch, Plain};

/// Threads of each of these kernels.
const THREADS: usize = 256;

/// Most blocks that share a row.
const BLOCKS: usize = 16;

/// Dynamic shared memory of a block of `sample`, bytes.
const SAMPLE_SHARED: u32 = 128 + 2048 * 8 + 512 * 4;

/// Dynamic shared memory of a block of `sample_all`, bytes.
const SAMPLE_ALL_SHARED: u32 = 128 + 2048 * 8 + 3 * 1024 * 8;

/// Candidates that `sample` chooses from alone; with more, and with top-k off, `sample_all` follows.
pub const FEW: usize = 256;

/// Bytes of scratch memory for each wanted row; zero at first, kernels leave it as they need it.
pub const SCRATCH: usize = (BLOCKS * THREADS + BLOCKS + 1 + 2 + 3 * 1024) * 8;

/// Settings of a sampler, with the meaning they have for the sampler on the processor.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// 0 takes the most likely token always.
    pub temperature: f32,
    /// 0 keeps all.
    pub top_k: usize,
    /// In (0, 1].
    pub top_p: f32,
    /// In \[0, 1\].
    pub min_p: f32,
    /// Divides positive and multiplies other logits of recent tokens.
    pub repeat_penalty: f32,
    /// Subtracted once from logits of recent tokens.
    pub presence_penalty: f32,
    /// Subtracted from logits of recent tokens once an occurrence.
    pub frequency_penalty: f32,
    /// Tokens that count as recent, no more than the context.
    pub window: usize,
    /// Where the random numbers start.
    pub seed: u64,
}

impl Settings {
    /// Places the penalties need for recent tokens; 0 if they change nothing.
    pub fn window(&self) -> usize {
        let off = (self.repeat_penalty, self.presence_penalty, self.frequency_penalty) == (1.0, 0.0, 0.0);
        if off { 0 } else { self.window }
    }

    /// Whether a step for this sampler needs `sample_all` behind `sample`.
    pub fn needs_all(&self, vocab: usize) -> bool {
        let k = if self.top_k < vocab { self.top_k } else { 0 };
        self.temperature != 0.0 && !(1..=FEW).contains(&k)
    }
}

/// One entry of a bias list.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bias {
    /// Below the vocabulary's size.
    pub id: u32,
    /// Added to its logit; −∞ forbids it.
    pub amount: f32,
}

/// The list as the kernels want it: entries of one id side by side, in the order given.
pub fn biases(list: &[(u32, f32)]) -> Vec<Bias> {
    let mut list: Vec<Bias> = list.iter().map(|&(id, amount)| Bias { id, amount }).collect();
    list.sort_by_key(|bias| bias.id);
    list
}

/// The sampler of one sequence, as it lies in device memory. The device moves `random`, `accepted` and
/// `chosen` on.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Chain {
    /// State of xoshiro256++.
    pub random: [u64; 4],
    /// top-p · 2⁶⁴; 0 for off.
    pub nucleus: u64,
    /// u32 `[window]`.
    pub recent: Address,
    /// u32 `[vocab][2]`.
    pub tally: Address,
    /// [`Bias`] `[biases]`.
    pub bias: Address,
    /// 0 takes the best always.
    pub temperature: f32,
    /// −∞ for off.
    pub ln_min_p: f32,
    /// 1 for off.
    pub repeat: f32,
    /// 0 for off.
    pub presence: f32,
    /// 0 for off.
    pub frequency: f32,
    /// 0 for all.
    pub top_k: u32,
    /// 0 for no penalties.
    pub window: u32,
    /// Entries of `bias`.
    pub biases: u32,
    /// Tokens the penalties were told of.
    pub accepted: u32,
    /// Tokens chosen.
    pub chosen: u32,
    /// Padding.
    pub unused: [u32; 6],
}

impl Chain {
    /// A sampler at its start: nothing accepted, nothing chosen. `recent` and `tally` may be null where
    /// [`Settings::window`] is 0; otherwise [`RecallArgs`] clears them. `bias` holds [`biases`].
    pub fn new(settings: &Settings, recent: Address, tally: Address, bias: (Address, usize)) -> Chain {
        let mut seed = settings.seed;
        // 2⁶⁴ times a float is exact unless it has bits below 2⁻⁶⁴; the least share is not nothing.
        let share = (settings.top_p as f64 * (u64::MAX as f64)) as u64;
        Chain {
            random: std::array::from_fn(|_| split_mix(&mut seed)),
            nucleus: if settings.top_p < 1.0 { share.max(1) } else { 0 },
            recent,
            tally,
            bias: bias.0,
            temperature: settings.temperature,
            ln_min_p: (settings.min_p as f64).ln() as f32,
            repeat: settings.repeat_penalty,
            presence: settings.presence_penalty,
            frequency: settings.frequency_penalty,
            top_k: settings.top_k.min(u32::MAX as usize) as u32,
            window: settings.window() as u32,
            biases: bias.1 as u32,
            ..Chain::default()
        }
    }
}

/// SplitMix64 of Steele, Lea and Flood: spreads a seed over a larger state.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Argument of `sample` and `sample_all`. Wanted rows are of different slots.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SampleArgs {
    /// f32 `[rows][vocab]`; bias and penalties are applied in place.
    pub logits: Address,
    /// [`Chain`] `[slots]`.
    pub chains: Address,
    /// [`SCRATCH`] bytes `[rows]`.
    pub scratch: Address,
    /// u32 `[rows]`: each wanted row's number in the step.
    pub select: Address,
    /// u32 of the step's rows.
    pub slot: Address,
    /// u32 of the step's rows.
    pub position: Address,
    /// u32 `[rows]`: tokens of the next step, or null. With its companions it may be this step's own array if
    /// there is one row, or `select[j]` = j for all.
    pub next_token: Address,
    /// u32 `[rows]`: positions of the next step.
    pub next_position: Address,
    /// u32 `[rows]`: slots of the next step.
    pub next_slot: Address,
    /// u32 `[rows]`: 0, 1, 2 …
    pub next_select: Address,
    /// u64 `[slots][outbox_length]` that the host reads: [`Chosen`].
    pub outbox: Address,
    /// Tokens.
    pub vocab: u32,
    /// Elements a thread.
    pub each: u32,
    /// Entries a slot; more than the steps the host lies behind.
    pub outbox_length: u32,
    /// Weights are multiples of 2^-shift.
    pub shift: u32,
}

impl SampleArgs {
    /// The first kernel.
    pub const KERNEL: &str = "sample";

    /// The second one, for [`Settings::needs_all`].
    pub const ALL_KERNEL: &str = "sample_all";

    /// Sizes for a vocabulary; no addresses yet.
    ///
    /// # Panics
    /// From 2²³ tokens on: ids have 24 bits, and a group's elements fit a list.
    pub fn new(vocab: usize, outbox_length: usize) -> SampleArgs {
        assert!((1..1 << 23).contains(&vocab), "a vocabulary of 1 to 8388607 tokens");
        let blocks = vocab.div_ceil(8 * THREADS).clamp(1, BLOCKS);
        SampleArgs {
            vocab: vocab as u32,
            each: vocab.div_ceil(blocks * THREADS) as u32,
            outbox_length: outbox_length as u32,
            shift: 62 - vocab.next_power_of_two().ilog2(),
            ..SampleArgs::default()
        }
    }

    fn grid(&self, rows: usize) -> [u32; 3] {
        [self.vocab.div_ceil(self.each * THREADS as u32), rows as u32, 1]
    }

    /// The launch of `sample`.
    pub fn launch(&self, rows: usize) -> Launch {
        let (grid, threads) = (self.grid(rows), THREADS as u32);
        Launch { grid, threads, shared_bytes: SAMPLE_SHARED, overlap: true }
    }

    /// The launch of `sample_all`.
    pub fn launch_all(&self, rows: usize) -> Launch {
        let (grid, threads) = (self.grid(rows), THREADS as u32);
        Launch { grid, threads, shared_bytes: SAMPLE_ALL_SHARED, overlap: true }
    }
}

/// An entry of the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// 1 for the first token of a chain.
    pub number: u32,
    /// The token.
    pub token: u32,
    /// No logit was above −∞: the token means nothing.
    pub nothing: bool,
    /// Some logit was NaN.
    pub not_a_number: bool,
}

impl Chosen {
    /// What `bits` say; an entry never written has number 0.
    pub fn new(bits: u64) -> Chosen {
        Chosen {
            number: (bits >> 32) as u32,
            token: bits as u32 & 0xff_ffff,
            nothing: bits >> 24 & 1 != 0,
            not_a_number: bits >> 25 & 1 != 0,
        }
    }
}

/// Argument of `recall`: makes the penalties of a chain remember just these tokens.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RecallArgs {
    /// One [`Chain`] with a window.
    pub chain: Address,
    /// u32 `[count]`, all below `vocab`, oldest first.
    pub tokens: Address,
    /// At most the window.
    pub count: u32,
    /// Tokens of the vocabulary.
    pub vocab: u32,
}

impl RecallArgs {
    /// The kernel's name.
    pub const KERNEL: &str = "recall";

    /// The launch.
    pub fn launch() -> Launch {
        Launch { grid: [1, 1, 1], threads: THREADS as u32, shared_bytes: 0, overlap: true }
    }
}

// SAFETY: field by field the structure of the kernel; whoever fills in addresses answers for them.
unsafe impl Args for SampleArgs {}
// SAFETY: the same.
unsafe impl Args for RecallArgs {}
// SAFETY: numbers without padding between.
unsafe impl Plain for Chain {}
// SAFETY: the same.
unsafe impl Plain for Bias {}
