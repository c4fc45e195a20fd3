//! The last stage: one token out of the candidates.

use super::exp::{exp, sum_exp};
use super::truncate::Candidate;

/// xoshiro256++ of Blackman and Vigna (<https://prng.di.unimi.it>), seeded through SplitMix64.
///
/// Integers only, so a seed gives the same sequence everywhere.
#[derive(Clone, Debug)]
pub struct Rng([u64; 4]);

impl Rng {
    /// Any seed is good, zero included.
    pub fn new(seed: u64) -> Rng {
        let mut state = seed;
        Rng(std::array::from_fn(|_| split_mix(&mut state)))
    }

    /// Where another generator is.
    pub fn at(state: [u64; 4]) -> Rng {
        Rng(state)
    }

    /// Where it is.
    pub fn state(&self) -> [u64; 4] {
        self.0
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// The next number of \[0, 1), of 53 bits.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
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

/// The highest score and the lowest id that has it; NaN never wins, and id 0 does if nothing else can.
pub fn argmax(scores: &[f32]) -> u32 {
    const BLOCK: usize = 256;
    let (mut best, mut first) = (f32::NEG_INFINITY, 0);
    for (i, block) in scores.chunks(BLOCK).enumerate() {
        let high = block_max(block);
        if high > best {
            (best, first) = (high, i * BLOCK);
        }
    }
    let within = scores[first..].iter().position(|&score| score >= best);
    (first + within.unwrap_or(0)) as u32
}

/// The highest score that is a number; −∞ if there is none.
pub(super) fn block_max(block: &[f32]) -> f32 {
    // A comparison instead of `f32::max`: it is one instruction, and false for NaN.
    let higher = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (wide, rest) = block.as_chunks::<16>();
    for chunk in wide {
        for (lane, &score) in lanes.iter_mut().zip(chunk) {
            *lane = higher(*lane, score);
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |a, &b| higher(a, b))
}

/// Draws a candidate with probability ∝ e^(score / temperature).
///
/// Candidates may be in any order but hold no NaN and no +∞; the order decides which token a random
/// number means. With nothing but −∞ the first is returned.
pub(super) fn draw(candidates: &[Candidate], temperature: f32, rng: &mut Rng) -> u32 {
    let max = candidates.iter().fold(f32::NEG_INFINITY, |max, c| if c.score > max { c.score } else { max });
    if max == f32::NEG_INFINITY {
        return candidates.first().map_or(0, |candidate| candidate.id);
    }
    let scaled = |candidate: Candidate| (candidate.score - max) / temperature;
    let total = sum_exp(candidates, scaled);
    let target = rng.unit() * total;
    let (mut sum, mut last) = (0.0, 0);
    for &candidate in candidates {
        let weight = exp(scaled(candidate)) as f64;
        if weight > 0.0 {
            sum += weight;
            last = candidate.id;
            if target < sum {
                break;
            }
        }
    }
    last
}

/// Natural logarithm of the model's own probability of `id`: before bias, penalties and temperature.
pub fn logprob(logits: &[f32], id: u32) -> f32 {
    let max = block_max(logits).min(f32::MAX);
    let Some(&score) = logits.get(id as usize) else { return f32::NEG_INFINITY };
    if max == f32::NEG_INFINITY || score.is_nan() {
        return f32::NEG_INFINITY;
    }
    let total = sum_exp(logits, |score| super::clean(score) - max);
    ((super::clean(score) - max) as f64 - total.ln()) as f32
}

#[cfg(test)]
#[allow(clippy::float_cmp)] // exact values are meant
mod tests {
    use super::*;

    /// The first outputs published with the reference implementation for the state 1, 2, 3, 4.
    #[test]
    fn xoshiro_matches_its_reference() {
        let mut rng = Rng([1, 2, 3, 4]);
        let expected = [
            41943041,
            58720359,
            3588806011781223,
            3591011842654386,
            9228616714210784205,
            9973669472204895162,
            14011001112246962877,
            12406186145184390807,
            15849039046786891736,
            10450023813501588000,
        ];
        assert_eq!(expected.map(|_| rng.bits()), expected);
    }

    #[test]
    fn split_mix_matches_its_reference() {
        let mut state = 1234567;
        let expected = [
            6457827717110365317,
            3203168211198807973,
            9817491932198370423,
            4593380528125082431,
            16408922859458223821,
        ];
        assert_eq!(expected.map(|_| split_mix(&mut state)), expected);
    }

    #[test]
    fn argmax_takes_the_lowest_id_of_equals_and_never_nan() {
        let mut scores = vec![0.5; 1000];
        assert_eq!(argmax(&scores), 0);
        scores[600] = 2.0;
        scores[900] = 2.0;
        scores[3] = f32::NAN;
        assert_eq!(argmax(&scores), 600);
        scores[999] = f32::INFINITY;
        assert_eq!(argmax(&scores), 999);
        assert_eq!(argmax(&[f32::NAN; 40]), 0);
        assert_eq!(argmax(&[f32::NEG_INFINITY; 40]), 0);
        assert_eq!(argmax(&[f32::NAN, f32::NEG_INFINITY, -3.0]), 2);
        assert_eq!(argmax(&[]), 0);
    }

    #[test]
    fn logprob_is_the_log_of_softmax() {
        let logits = [1.0, 2.0, 3.0, f32::NEG_INFINITY];
        let total: f64 = [1.0f64, 2.0, 3.0].iter().map(|x| x.exp()).sum();
        for (id, expected) in [(0, 1.0), (1, 2.0), (2, 3.0)] {
            assert!((logprob(&logits, id) as f64 - (expected - total.ln())).abs() < 1e-6);
        }
        assert_eq!(logprob(&logits, 3), f32::NEG_INFINITY);
        assert_eq!(logprob(&logits, 4), f32::NEG_INFINITY);
        assert_eq!(logprob(&[f32::NAN; 3], 1), f32::NEG_INFINITY);
        assert!(logprob(&[f32::INFINITY, 0.0], 0).abs() < 1e-6);
    }
}
