//! Attention and what it keeps, on every instruction set, against f64 and the specification.

use super::Attention;
use crate::kernels::Kept;
use crate::tile::tests::{Random, fused, same_bits, sets};
use half::f16;
use model::kv;
use model::runner::{KvType, PAGE};

const KINDS: [KvType; 4] = [KvType::F16, KvType::F32, KvType::Int8, KvType::Int4];

/// What a head is after a type kept it.
fn through(kind: KvType, head: &mut [f32]) {
    match kind {
        KvType::F32 => {}
        KvType::F16 => head.iter_mut().for_each(|x| *x = f16::from_f32(*x).to_f32()),
        KvType::Int8 => kv::through_int8(head),
        KvType::Int4 => kv::through_int4(head),
    }
}

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

    /// How far queries in two bytes may move the result: an element of a query is off by up to 2⁻¹⁶ of the
    /// largest, a score by six standard deviations of the sum of that, and values, which go to 5, are mixed by
    /// the difference of two scores. Much where scores are small only because large products cancel.
    fn rounding(&self) -> f64 {
        let largest = self.q.iter().fold(0.0f32, |largest, q| largest.max(q.abs()));
        let length = |key: &[f32]| key.iter().map(|k| f64::from(k * k)).sum::<f64>().sqrt();
        let longest = self.keys.chunks_exact(self.dim).map(length).fold(0.0, f64::max);
        let score = 6.0 / 3f64.sqrt() / 65536.0 * f64::from(largest * self.scale) * longest;
        2.0 * 5.0 * score
    }

    /// `[heads][dim]`, from keys and values as a type keeps them.
    fn expected(&self, kind: KvType) -> Vec<f64> {
        let mut out = vec![];
        for q in self.q.chunks_exact(self.dim) {
            let entry = |all: &[f32], position: usize| -> Vec<f64> {
                let mut head = all[position * self.dim..][..self.dim].to_vec();
                through(kind, &mut head);
                head.into_iter().map(f64::from).collect()
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
    fn run(&self, kept: &Kept, random: &mut Random) -> Vec<f32> {
        let bytes = (kept.bytes)(self.dim);
        assert_eq!(bytes % 64, 0);
        let (head_offset, page_stride) = (bytes * 3, bytes * 5);
        let count = self.position / PAGE + 1;
        let mut pages: Vec<u32> = (0..count as u32 + 2).collect();
        for i in (1..pages.len()).rev() {
            pages.swap(i, random.below(i + 1));
        }
        // All ones are NaN as F16 and as F32.
        let mut storage = vec![u128::MAX; pages.len() * page_stride / 16];
        let base = storage.as_mut_ptr().cast::<u8>();
        for position in self.first()..=self.position {
            let start = pages[position / PAGE] as usize * page_stride + head_offset;
            let (key, value) = (&self.keys[position * self.dim..], &self.values[position * self.dim..]);
            // SAFETY: the page has room for this head's keys and values, and nobody else has it.
            unsafe {
                (kept.store)(base.add(start), position % PAGE, key.as_ptr(), value.as_ptr(), self.dim);
            }
        }
        let mut scratch = vec![u128::MAX; (kept.scratch)(self.dim).div_ceil(16) + 1];
        let view = Attention {
            base,
            page_stride,
            head_offset,
            pages: &pages[..count],
            first: self.first(),
            seen: self.position + 1,
            head_dim: self.dim,
            scale: self.scale,
            cap: self.cap,
            scratch: scratch.as_mut_ptr().cast(),
        };
        let guard = 16;
        let mut out = vec![f32::NAN; self.heads * self.dim + guard];
        // SAFETY: the set is available; all pages and rows are of the sizes named.
        unsafe { (kept.attend)(&view, self.heads, self.q.as_ptr(), out.as_mut_ptr()) };
        assert!(out[self.heads * self.dim..].iter().all(|x| x.is_nan()), "written past the last head");
        assert_eq!(scratch.last(), Some(&u128::MAX), "written past the scratch");
        out.truncate(self.heads * self.dim);
        out
    }

    /// Compares all sets with f64 and with each other; returns the largest error.
    fn check(&self, kind: KvType, bound: f64, random: &mut Random) -> f64 {
        let expected = self.expected(kind);
        let mut first_fused: Option<Vec<f32>> = None;
        let mut worst = 0.0;
        for (isa, kernels) in sets() {
            let ours = self.run(&(kernels.kept)(kind), random);
            let Case { heads, dim, position, window, cap, .. } = self;
            let name = format!(
                "{} {heads} heads of {dim} at {position}, window {window:?}, cap {cap:?}",
                kind.name()
            );
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
///
/// Small types are compared with what they keep, so only queries and weights in two bytes are off more:
/// by 2⁻¹⁵ of the largest of a head, and of a page.
fn check_attention(reach: f32, cap: Option<f32>, bound: f64, small: f64) {
    let mut random = Random(u64::from(reach.to_bits()));
    let (mut heads, mut worst) = (0, [0f64; 4]);
    for dim in DIMS {
        for position in POSITIONS {
            for window in WINDOWS {
                heads = heads % 9 + 1;
                let case = Case::new(heads, dim, position, window, cap, reach, &mut random);
                for (kind, worst) in KINDS.into_iter().zip(&mut worst) {
                    let float = matches!(kind, KvType::F16 | KvType::F32);
                    let off =
                        case.check(kind, if float { bound } else { small + case.rounding() }, &mut random);
                    *worst = worst.max(off);
                }
            }
        }
    }
    eprintln!("scores to {reach}, cap {cap:?}: largest errors {worst:?}");
}

#[test]
fn attention_of_ordinary_scores() {
    check_attention(4.0, None, 2e-5, 3e-3);
}

#[test]
fn attention_of_extreme_scores() {
    check_attention(80.0, None, 1e-3, 2e-2);
}

#[test]
fn attention_of_capped_scores() {
    check_attention(5.0, Some(50.0), 5e-5, 3e-3);
    check_attention(80.0, Some(30.0), 1e-3, 2e-2);
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
        for kind in KINDS {
            case.check(kind, 1e-3, &mut random);
        }
    }
}

/// A head's page after storing positions in no order: keys, then values, as floats `[PAGE][dim]`, read as
/// the module comments of `attend` say.
fn read_back(kind: KvType, page: &[u8], dim: usize) -> [Vec<f32>; 2] {
    let half = |at: usize| f32::from(f16::from_le_bytes([page[at], page[at + 1]]));
    let mut out = [vec![0.0; PAGE * dim], vec![0.0; PAGE * dim]];
    let (fours, sixteens) = (dim.next_multiple_of(4), dim.next_multiple_of(16));
    let (eights, groups) = (dim.div_ceil(8), dim.div_ceil(32));
    for at in 0..PAGE {
        for d in 0..dim {
            let [key, value] = match kind {
                KvType::Int8 => {
                    let key = page[(d / 4 * PAGE + at) * 4 + d % 4] as i8;
                    let values = fours * PAGE + 2 * PAGE;
                    let value = page[values + (at / 4 * sixteens + d) * 4 + at % 4] as i8;
                    let scales = [fours * PAGE + 2 * at, values + sixteens * PAGE + 2 * at];
                    [half(scales[0]) * f32::from(key), half(scales[1]) * f32::from(value)]
                }
                KvType::Int4 => {
                    let byte = page[(d / 8 * PAGE + at) * 4 + d % 4];
                    let key = if d % 8 < 4 { byte & 15 } else { byte >> 4 };
                    let beside = eights * 4 * PAGE;
                    let values = beside + groups * 128;
                    let byte = page[values + ((at / 4 * groups + d / 32) * 16 + d % 16) * 4 + at % 4];
                    let value = if d % 32 < 16 { byte & 15 } else { byte >> 4 };
                    let of = |beside: usize, code: u8| {
                        let place = beside + d / 32 * 128 + 2 * at;
                        half(place + 64) + half(place) * f32::from(code)
                    };
                    [of(beside, key), of(values + PAGE / 4 * groups * 64, value)]
                }
                _ => unreachable!("small types only"),
            };
            (out[0][at * dim + d], out[1][at * dim + d]) = (key, value);
        }
    }
    out
}

/// Codes, scales and least values are the specification's: what a page stands for is what `through` gives,
/// exactly, for heads of every size, with outliers, constants, zeros, and numbers near the ends of F16.
#[test]
#[allow(clippy::float_cmp, reason = "the same numbers are what is promised")]
fn small_types_keep_the_codes_of_the_specification() {
    let mut random = Random(9);
    for kind in [KvType::Int8, KvType::Int4] {
        for dim in DIMS {
            for round in 0..4 {
                let mut heads = [vec![0.0f32; PAGE * dim], vec![0.0f32; PAGE * dim]];
                for (i, x) in heads.iter_mut().flatten().enumerate() {
                    let size = [1.0, 1e-3, 3e4, 1e-6][(i / dim + round) % 4];
                    *x = random.float() * size;
                    if random.below(40) == 0 {
                        *x *= 20.0f32.min(6e4 / size);
                    }
                    if (i / dim).is_multiple_of(7) {
                        *x = [0.0, 2.5, -1e-9][round % 3];
                    }
                }
                let mut want = heads.clone();
                for head in want.iter_mut().flat_map(|all| all.chunks_exact_mut(dim)) {
                    through(kind, head);
                }
                for (isa, kernels) in sets() {
                    let kept = (kernels.kept)(kind);
                    let mut page = vec![0u128; (kept.bytes)(dim) / 16 + 1];
                    for i in 0..PAGE {
                        let at = i * 13 % PAGE;
                        let [key, value] = [0, 1].map(|half: usize| heads[half][at * dim..].as_ptr());
                        // SAFETY: the set is available; the page has room for the head.
                        unsafe { (kept.store)(page.as_mut_ptr().cast(), at, key, value, dim) };
                    }
                    assert_eq!(page.pop(), Some(0), "written past the page");
                    let bytes: Vec<u8> = page.iter().flat_map(|word| word.to_ne_bytes()).collect();
                    let got = read_back(kind, &bytes, dim);
                    for (which, (got, want)) in got.iter().zip(&want).enumerate() {
                        let wrong = got.iter().zip(want).position(|(a, b)| a != b);
                        let name = ["keys", "values"][which];
                        assert!(
                            wrong.is_none(),
                            "{} {dim} {name} on {}: {:?} of round {round}: {:?}, not {:?}",
                            kind.name(),
                            isa.name(),
                            wrong,
                            wrong.map(|i| got[i]),
                            wrong.map(|i| want[i])
                        );
                    }
                }
            }
        }
    }
}
