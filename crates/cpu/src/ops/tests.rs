//! Attention, norms, rotation and gates on every instruction set, against f64.

use super::{Attention, Element, HeadStore, store_head};
use crate::kernels::Kernels;
use crate::tile::tests::{Random, fused, same_bits, sets};
use half::f16;
use model::Activation;
use model::runner::PAGE;

/// One token's attention to one KV head, as plainly as it can be said.
struct Case {
    heads: usize,
    dim: usize,
    /// The last position seen.
    position: usize,
    window: Option<usize>,
    cap: Option<f32>,
    scale: f32,
    /// `[heads][dim]`.
    q: Vec<f32>,
    /// `[position + 1][dim]`.
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Case {
    /// `reach`: how far from zero scores go.
    fn new(
        heads: usize,
        dim: usize,
        position: usize,
        window: Option<usize>,
        cap: Option<f32>,
        reach: f32,
        random: &mut Random,
    ) -> Case {
        let mut floats =
            |len: usize, size: f32| (0..len).map(|_| random.float() * size).collect::<Vec<f32>>();
        let scale = 1.0 / (dim as f32).sqrt();
        let (q, values) = (floats(heads * dim, 2.0), floats((position + 1) * dim, 5.0));
        let mut keys = floats((position + 1) * dim, 2.0);
        let score = |q: &[f32], k: &[f32]| q.iter().zip(k).map(|(q, k)| q * k).sum::<f32>() * scale;
        let scores = q.chunks_exact(dim).flat_map(|q| keys.chunks_exact(dim).map(move |k| score(q, k)));
        let largest = scores.fold(1e-3, |largest: f32, score| largest.max(score.abs()));
        // Not beyond what half floats hold, where all scores happen to be near zero.
        for key in &mut keys {
            *key *= (reach / largest).min(1e4);
        }
        Case { heads, dim, position, window, cap, scale, q, keys, values }
    }

    fn first(&self) -> usize {
        self.window.map_or(0, |window| (self.position + 1).saturating_sub(window))
    }

    /// `[heads][dim]`, from keys and values as an `E` keeps them.
    fn expected<E: Element + Into<f64>>(&self) -> Vec<f64> {
        let kept = |x: &f32| -> f64 { E::from_f32(*x).into() };
        let mut out = vec![];
        for q in self.q.chunks_exact(self.dim) {
            let entry = |all: &[f32], position: usize| -> Vec<f64> {
                all[position * self.dim..][..self.dim].iter().map(kept).collect()
            };
            let scores: Vec<f64> = (self.first()..=self.position)
                .map(|position| {
                    let key = entry(&self.keys, position);
                    let dot: f64 = q.iter().zip(&key).map(|(q, k)| f64::from(*q) * k).sum();
                    let score = dot * f64::from(self.scale);
                    self.cap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh())
                })
                .collect();
            let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = scores.iter().map(|score| (score - most).exp()).sum();
            let mut mixed = vec![0.0; self.dim];
            for (position, score) in (self.first()..=self.position).zip(&scores) {
                let weight = (score - most).exp() / total;
                let value = entry(&self.values, position);
                mixed.iter_mut().zip(value).for_each(|(mixed, v)| *mixed += weight * v);
            }
            out.extend(mixed);
        }
        out
    }

    /// Through pages: scattered, with other layers and heads around, all NaN but what a token sees.
    fn run<E: Element>(
        &self,
        kernel: unsafe fn(&Attention<'_, E>, usize, *const f32, *mut f32),
        random: &mut Random,
    ) -> Vec<f32> {
        let half = PAGE * self.dim;
        let (head_offset, page_stride) = (2 * half * 3, 2 * half * 5);
        let count = self.position / PAGE + 1;
        let mut pages: Vec<u32> = (0..count as u32 + 2).collect();
        for i in (1..pages.len()).rev() {
            pages.swap(i, random.below(i + 1));
        }
        let poison = E::from_f32(f32::NAN);
        let mut storage = vec![poison; pages.len() * page_stride];
        for position in self.first()..=self.position {
            let start = pages[position / PAGE] as usize * page_stride + head_offset;
            let (key, value) = (&self.keys[position * self.dim..], &self.values[position * self.dim..]);
            // SAFETY: the page has room for this head's keys and values, and nobody else has it.
            unsafe {
                let keys = storage.as_mut_ptr().add(start);
                let to = HeadStore { keys, values: keys.add(half), at: position % PAGE };
                store_head(key.as_ptr(), value.as_ptr(), self.dim, &to);
            }
        }
        let view = Attention {
            base: storage.as_ptr(),
            page_stride,
            head_offset,
            pages: &pages[..count],
            first: self.first(),
            seen: self.position + 1,
            head_dim: self.dim,
            scale: self.scale,
            cap: self.cap,
        };
        let guard = 16;
        let mut out = vec![f32::NAN; self.heads * self.dim + guard];
        // SAFETY: the set is available; all pages and rows are of the sizes named.
        unsafe { kernel(&view, self.heads, self.q.as_ptr(), out.as_mut_ptr()) };
        assert!(out[self.heads * self.dim..].iter().all(|x| x.is_nan()), "written past the last head");
        out.truncate(self.heads * self.dim);
        out
    }

    /// Compares all sets with f64 and with each other; returns the largest error.
    fn check<E: Element + Into<f64>>(
        &self,
        kernel: impl Fn(&Kernels) -> unsafe fn(&Attention<'_, E>, usize, *const f32, *mut f32),
        bound: f64,
        random: &mut Random,
    ) -> f64 {
        let expected = self.expected::<E>();
        let mut first_fused: Option<Vec<f32>> = None;
        let mut worst = 0.0;
        for (isa, kernels) in sets() {
            let ours = self.run::<E>(kernel(&kernels), random);
            let Case { heads, dim, position, window, cap, .. } = self;
            let name = format!("{heads} heads of {dim} at {position}, window {window:?}, cap {cap:?}");
            for (ours, expected) in ours.iter().zip(&expected) {
                let off = (f64::from(*ours) - expected).abs();
                assert!(off <= bound, "{name}, {}: {ours}, not {expected}", isa.name());
                worst = off.max(worst);
            }
            if fused(isa) {
                let other = first_fused.get_or_insert_with(|| ours.clone());
                assert!(same_bits(other, &ours), "{name}, {}: other bits than another set", isa.name());
            }
        }
        worst
    }
}

const DIMS: [usize; 9] = [2, 8, 32, 48, 64, 80, 96, 128, 256];
const POSITIONS: [usize; 8] = [0, 1, 30, 31, 32, 33, 100, 500];
const WINDOWS: [Option<usize>; 5] = [None, Some(1), Some(5), Some(32), Some(40)];

/// Values go to 5. Scores near zero have rounding errors of 1e-7 and carry them to the result; scores
/// near 80 have a thousand times that.
fn check_attention(reach: f32, cap: Option<f32>, bound: f64) {
    let mut random = Random(u64::from(reach.to_bits()));
    let (mut heads, mut worst) = (0, 0f64);
    for dim in DIMS {
        for position in POSITIONS {
            for window in WINDOWS {
                heads = heads % 9 + 1;
                let case = Case::new(heads, dim, position, window, cap, reach, &mut random);
                let half = case.check::<f16>(|kernels| kernels.attend_f16, bound, &mut random);
                let single = case.check::<f32>(|kernels| kernels.attend_f32, bound, &mut random);
                worst = worst.max(half).max(single);
            }
        }
    }
    eprintln!("scores to {reach}, cap {cap:?}: largest error {worst:.1e}");
}

#[test]
fn attention_of_ordinary_scores() {
    check_attention(4.0, None, 2e-5);
}

#[test]
fn attention_of_extreme_scores() {
    check_attention(80.0, None, 1e-3);
}

#[test]
fn attention_of_capped_scores() {
    check_attention(5.0, Some(50.0), 5e-5);
    check_attention(80.0, Some(30.0), 1e-3);
}

/// A score far above or below all before it: the running maximum moves in every page, or in none.
#[test]
fn attention_of_rising_and_falling_scores() {
    let mut random = Random(5);
    for rising in [true, false] {
        let mut case = Case::new(3, 16, 200, None, None, 1.0, &mut random);
        for (position, key) in case.keys.chunks_exact_mut(16).enumerate() {
            let at = if rising { position } else { 200 - position };
            key.fill(at as f32 * 0.02);
        }
        case.q.fill(1.0);
        case.q[16..32].fill(-1.0);
        case.check::<f32>(|kernels| kernels.attend_f32, 1e-4, &mut random);
        case.check::<f16>(|kernels| kernels.attend_f16, 1e-4, &mut random);
    }
}

const LENGTHS: [usize; 10] = [1, 2, 15, 16, 17, 31, 64, 80, 100, 256];

#[test]
fn norms_are_the_formulas() {
    let mut random = Random(6);
    for len in LENGTHS {
        for size in [0.0, 1e-15, 1.0, 1e15] {
            let x: Vec<f32> = (0..len).map(|_| random.float() * size).collect();
            let weight: Vec<f32> = (0..len).map(|_| random.float() * 3.0).collect();
            let square: f64 = x.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
            let scale = 1.0 / (square / len as f64 + f64::from(1e-6f32)).sqrt();
            let mut first_fused: Option<Vec<f32>> = None;
            for (isa, kernels) in sets() {
                let mut out = vec![f32::NAN; len + 16];
                let mut there = x.clone();
                // SAFETY: the set is available; all hold `len` floats.
                unsafe {
                    (kernels.norm)(x.as_ptr(), weight.as_ptr(), len, 1e-6, out.as_mut_ptr());
                    (kernels.norm)(there.as_ptr(), weight.as_ptr(), len, 1e-6, there.as_mut_ptr());
                }
                assert!(out[len..].iter().all(|x| x.is_nan()), "written past the end");
                out.truncate(len);
                assert!(same_bits(&out, &there), "{}, {len}: in place is different", isa.name());
                for ((out, x), weight) in out.iter().zip(&x).zip(&weight) {
                    let want = f64::from(*x) * scale * f64::from(*weight);
                    let off = (f64::from(*out) - want).abs();
                    assert!(off <= want.abs() * 2e-6, "{}, {len}, {size:e}: {out}, not {want}", isa.name());
                }
                if fused(isa) {
                    let other = first_fused.get_or_insert_with(|| out.clone());
                    assert!(same_bits(other, &out), "{}, {len}: other bits than another set", isa.name());
                }
            }
        }
    }
}

#[test]
fn sums_and_rotations_are_the_formulas() {
    let mut random = Random(7);
    for len in LENGTHS {
        let mut floats = |len: usize| (0..len).map(|_| random.float()).collect::<Vec<f32>>();
        let (a, b, head) = (floats(len), floats(len), floats(2 * len));
        let angles: Vec<f32> = floats(len).iter().map(|x| x * 3.0).collect();
        let cos: Vec<f32> = angles.iter().map(|angle| angle.cos()).collect();
        let sin: Vec<f32> = angles.iter().map(|angle| angle.sin()).collect();
        for (isa, kernels) in sets() {
            let (mut sum, mut turned) = (a.clone(), head.clone());
            // What lies behind must stay: heads are rotated in part.
            sum.push(f32::NAN);
            turned.extend([7.0; 16]);
            // SAFETY: the set is available; the slices hold what the lengths say.
            unsafe {
                (kernels.accumulate)(sum.as_mut_ptr(), b.as_ptr(), len);
                (kernels.rotate)(turned.as_mut_ptr(), cos.as_ptr(), sin.as_ptr(), len);
            }
            assert!(sum[len].is_nan() && turned[2 * len..] == [7.0; 16], "written past the end");
            for i in 0..len {
                assert_eq!(sum[i].to_bits(), (a[i] + b[i]).to_bits(), "{}, {len}", isa.name());
                let (low, high) = (f64::from(head[i]), f64::from(head[i + len]));
                let (c, s) = (f64::from(cos[i]), f64::from(sin[i]));
                for (got, want) in [(turned[i], low * c - high * s), (turned[i + len], low * s + high * c)] {
                    assert!((f64::from(got) - want).abs() < 3e-7, "{}, {len}: {got}, not {want}", isa.name());
                }
            }
        }
    }
}

#[test]
fn gates_and_caps_are_the_formulas() {
    let steps: Vec<f32> = (-1600..1600).map(|i| i as f32 * 0.0625).collect();
    let mut inputs: Vec<f32> = steps.iter().flat_map(|x| [*x, x * 1e-3, x * 1e-9, x * 1e3]).collect();
    inputs.extend([
        0.0,
        -0.0,
        1e30,
        -1e30,
        f32::MAX,
        f32::MIN,
        1e-40,
        -1e-40,
        87.5,
        -87.5,
        88.5,
        -88.5,
        1.0,
        2.0,
        3.0,
        4.0,
    ]);
    let ups: Vec<f32> = inputs.iter().enumerate().map(|(i, _)| [1.0, -0.5, 0.0, 3.0][i % 4]).collect();
    for (isa, kernels) in sets() {
        for activation in [Activation::Silu, Activation::GeluTanh] {
            let mut gated = inputs.clone();
            // SAFETY: the set is available; both are sixteens.
            unsafe { (kernels.gate)(activation, &mut gated, &ups) };
            for ((gated, x), up) in gated.iter().zip(&inputs).zip(&ups) {
                let (x, up) = (f64::from(*x), f64::from(*up));
                let bent = match activation {
                    Activation::Silu => x / (1.0 + (-x).exp()),
                    Activation::GeluTanh => {
                        let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
                        0.5 * x * (1.0 + inner.tanh())
                    }
                };
                let want = bent * up;
                let off = (f64::from(*gated) - want).abs();
                // Above 3e38 a product is as infinite as its f32.
                let same = gated.to_bits() == (want as f32).to_bits();
                assert!(
                    same || off <= 3e-7 * x.abs().max(want.abs()),
                    "{activation:?}({x}) · {up} on {}: {gated}, not {want}",
                    isa.name()
                );
            }
        }
        for cap in [30.0f32, 50.0] {
            let mut capped = inputs.clone();
            // SAFETY: the set is available; these are sixteens.
            unsafe { (kernels.cap)(cap, &mut capped) };
            for (capped, x) in capped.iter().zip(&inputs) {
                let want = f64::from(cap) * (f64::from(*x) / f64::from(cap)).tanh();
                let off = (f64::from(*capped) - want).abs();
                assert!(
                    off <= 4e-7 * f64::from(cap),
                    "cap {cap} of {x} on {}: {capped}, not {want}",
                    isa.name()
                );
            }
        }
    }
}
