//! What small cache types mean: the specification that backends are held to, code by code.
//!
//! - [`KvType::Int8`](crate::runner::KvType::Int8): a head's vector x has one scale s = f16(max|x| / 127);
//!   a code is round(x / s), ties to even, within ±127; it stands for s · code. Queries and keys are as they
//!   are.
//! - [`KvType::Int4`](crate::runner::KvType::Int4): 32 neighbouring elements have a least value m and a step
//!   s, both f16; a code is round((x − m) · (1/s)), ties to even, from 0 to 15; it stands for m + s · code.
//!   Which m and s: nine pairs are tried and the one with the least squared error is kept ([`encode_int4`]
//!   says it operation by operation). Keys are rotated before ([`rotate`]) and queries with them, which leaves
//!   their products as they were and spreads the few large elements that keys of many models have. Values are
//!   not rotated.
//!
//! A scale that rounds to 0 makes every code 0. What is not finite stays in its own head or group; its
//! codes are any. All arithmetic is f32, each operation rounded to nearest even by itself (nothing fused), so
//! that every backend gets the same codes.
//!
//! Nine pairs instead of one: from least to most alone, chat-42m's perplexity on 160 windows of
//! wiki.test.raw rises by 0.91 %, with three pairs by 0.73, six 0.57, nine 0.23; the squared error falls by
//! 13, 16 and 17 %.
//! The idea of rotating is QuaRot's (Ashkboos et al. 2024, arXiv 2404.00456).

use half::f16;

/// Bytes beside the codes of a head in Int8: the scale.
pub const INT8_BESIDE: usize = 2;

/// Elements that share a step in Int4; the last group of a head may be shorter.
pub const INT4_GROUP: usize = 32;

/// Bytes beside the codes of a group in Int4: step, then least value.
pub const INT4_BESIDE: usize = 4;

/// Codes of a head in Int8; returns the scale.
pub fn encode_int8(x: &[f32], codes: &mut [i8]) -> f16 {
    let most = x.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    let scale = f16::from_f32(most / 127.0);
    let by = f32::from(scale);
    for (code, x) in codes.iter_mut().zip(x) {
        *code = if by == 0.0 { 0 } else { (x / by).round_ties_even().clamp(-127.0, 127.0) as i8 };
    }
    scale
}

/// Codes of a group in Int4, at most [`INT4_GROUP`] elements; returns step and least value.
///
/// With the group's least and most, d = (most − least) · 1/60 is a quarter of a step. For each i in 0, 1, 2
/// (outer) and j in 0, 1, 2 (inner), so at either end up to half a step is given up:
/// - m = f16(least + i · d), s = f16(((most − j · d) − m) · 1/15), 1/60 and 1/15 being the nearest f32;
/// - r = 1 / s if s > 0, else 0; codes c = clamp(round((x − m) · r), 0, 15), ties to even;
/// - error e = Σ ((x − m) − s · c)², where element k's square is added to that of k + 16, then their sums at
///   a distance of 8, 4, 2 and 1 (a warp's butterfly gives the same bits), absent elements counting 0.
///
/// The first pair is kept until another's error is less.
pub fn encode_int4(x: &[f32], codes: &mut [u8]) -> (f16, f16) {
    let (least, most) = x.iter().fold((f32::MAX, f32::MIN), |(a, b), &x| (a.min(x), b.max(x)));
    let quarter = (most - least) * (1.0 / 60.0);
    let mut kept: Option<(f32, f16, f16)> = None;
    for i in [0.0, 1.0, 2.0] {
        for j in [0.0, 1.0, 2.0] {
            let from = f16::from_f32(least + i * quarter);
            let m = f32::from(from);
            let step = f16::from_f32(((most - j * quarter) - m) * (1.0 / 15.0));
            let mut squares = [0.0f32; INT4_GROUP];
            for (square, &x) in squares.iter_mut().zip(x) {
                let off = (x - m) - f32::from(step) * int4_code(x, step, from);
                *square = off * off;
            }
            let mut distance = INT4_GROUP / 2;
            while distance > 0 {
                for k in 0..distance {
                    squares[k] += squares[k + distance];
                }
                distance /= 2;
            }
            if kept.is_none_or(|(error, ..)| squares[0] < error) {
                kept = Some((squares[0], step, from));
            }
        }
    }
    let (_, step, from) = kept.expect("nine pairs were tried");
    codes.iter_mut().zip(x).for_each(|(code, &x)| *code = int4_code(x, step, from) as u8);
    (step, from)
}

/// The code of an element whose group has this step and least value.
fn int4_code(x: f32, step: f16, least: f16) -> f32 {
    let step = f32::from(step);
    let by = if step > 0.0 { 1.0 / step } else { 0.0 };
    ((x - f32::from(least)) * by).round_ties_even().clamp(0.0, 15.0)
}

/// Elements that are rotated together: the largest power of two that divides a head's width.
pub fn rotated(width: usize) -> usize {
    1 << width.trailing_zeros()
}

/// Rotates a head by the normalised Walsh-Hadamard matrix of Sylvester's order, in blocks of
/// [`rotated`] elements. It is its own inverse.
pub fn rotate(head: &mut [f32]) {
    let block = rotated(head.len());
    let factor = (1.0 / block as f64).sqrt() as f32;
    for block in head.chunks_exact_mut(block) {
        let mut stride = 1;
        while stride < block.len() {
            for start in (0..block.len()).step_by(2 * stride) {
                for i in start..start + stride {
                    let (a, b) = (block[i], block[i + stride]);
                    (block[i], block[i + stride]) = (a + b, a - b);
                }
            }
            stride *= 2;
        }
        for x in block {
            *x *= factor;
        }
    }
}

/// What a head is after it was kept in Int8.
pub fn through_int8(x: &mut [f32]) {
    let mut codes = vec![0; x.len()];
    let scale = f32::from(encode_int8(x, &mut codes));
    x.iter_mut().zip(codes).for_each(|(x, code)| *x = scale * f32::from(code));
}

/// What a head, rotated if it is a key, is after it was kept in Int4.
pub fn through_int4(x: &mut [f32]) {
    for group in x.chunks_mut(INT4_GROUP) {
        let mut codes = [0; INT4_GROUP];
        let (step, least) = encode_int4(group, &mut codes);
        let (step, least) = (f32::from(step), f32::from(least));
        group.iter_mut().zip(codes).for_each(|(x, code)| *x = least + step * f32::from(code));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_known_vectors() {
        let mut codes = [0; 4];
        let scale = encode_int8(&[127.0, -63.5, 0.5, -127.0], &mut codes);
        assert_eq!((f32::from(scale), codes), (1.0, [127, -64, 0, -127]));
        let mut codes = [9; 4];
        assert_eq!(encode_int8(&[0.0; 4], &mut codes), f16::ZERO);
        assert_eq!(codes, [0; 4]);
        let mut codes = [9; 4];
        let (step, least) = encode_int4(&[-1.0, 14.0, 0.0, 1.0], &mut codes);
        assert_eq!((f32::from(step), f32::from(least), codes), (1.0, -1.0, [0, 15, 1, 2]));
        assert_eq!(encode_int4(&[2.0; 3], &mut codes).0, f16::ZERO);
        assert_eq!(codes[..3], [0; 3]);
        // Sixteen integers have an error of nothing, one between them moves nothing.
        let exact: Vec<f32> = (0..32).map(|k| ((k * 7) % 16) as f32 - 3.0).collect();
        let mut codes = [0; 32];
        let (step, least) = encode_int4(&exact, &mut codes);
        assert_eq!((f32::from(step), f32::from(least)), (1.0, -3.0));
        assert_eq!(codes.map(|code| f32::from(code) - 3.0).to_vec(), exact);
    }

    /// One element far out: half a step of it is given up, so that the others' steps are finer.
    #[test]
    fn ends_are_given_up_where_that_lessens_the_error() {
        let mut x: Vec<f32> = (0..32).map(|k| ((k * 13 % 31) as f32 - 15.0) / 7.0).collect();
        x[5] = 6.0;
        let (least, most) = (-15.0 / 7.0, 6.0f32);
        let (mut codes, error) = ([0; 32], |step: f32, from: f32, codes: &[u8]| -> f64 {
            x.iter().zip(codes).map(|(x, c)| f64::from(x - (from + step * f32::from(*c))).powi(2)).sum()
        });
        let (step, from) = encode_int4(&x, &mut codes);
        let ours = error(f32::from(step), f32::from(from), &codes);
        assert!(f32::from(step) < (most - least) / 15.0 * 0.995, "{step}");
        let plain_step = f32::from(f16::from_f32((most - least) / 15.0));
        let plain: Vec<u8> = x.iter().map(|x| ((x - least) / plain_step).round_ties_even() as u8).collect();
        assert!(ours < error(plain_step, least, &plain));
        // By trying all, in f64, nothing of the nine is better.
        for (i, j) in (0..9).map(|n| (n / 3, n % 3)) {
            let quarter = (most - least) / 60.0;
            let from = f32::from(f16::from_f32(least + i as f32 * quarter));
            let step = f32::from(f16::from_f32((most - j as f32 * quarter - from) / 15.0));
            let code = |x: &f32| ((x - from) / step).round_ties_even().clamp(0.0, 15.0) as u8;
            let codes: Vec<u8> = x.iter().map(code).collect();
            assert!(ours <= error(step, from, &codes) * 1.000_01, "{i} {j}");
        }
    }

    #[test]
    fn rotation_is_orthogonal_and_its_own_inverse() {
        assert_eq!([64, 96, 80, 128, 20].map(rotated), [64, 32, 16, 128, 4]);
        let (a, b): (Vec<f32>, Vec<f32>) =
            (0..96).map(|i| ((i * 37 % 101) as f32 - 50.0, (i * 53 % 89) as f32 - 40.0)).unzip();
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        let (mut c, mut d) = (a.clone(), b.clone());
        rotate(&mut c);
        rotate(&mut d);
        assert!((dot(&a, &b) - dot(&c, &d)).abs() < 0.1, "{} {}", dot(&a, &b), dot(&c, &d));
        // Of two elements, by hand.
        let mut two = [3.0, 1.0];
        rotate(&mut two);
        assert!((two[0] - 8f32.sqrt()).abs() < 1e-6 && (two[1] - 2f32.sqrt()).abs() < 1e-6);
        rotate(&mut c);
        assert!(a.iter().zip(&c).all(|(a, c)| (a - c).abs() < 1e-3));
    }

    #[test]
    fn errors_are_bounded_by_half_a_step() {
        let x: Vec<f32> = (0..128).map(|i| ((i * 67 % 131) as f32 - 65.0) / 13.0).collect();
        let mut y = x.clone();
        through_int8(&mut y);
        assert!(x.iter().zip(&y).all(|(x, y)| (x - y).abs() <= 5.0 / 127.0 / 2.0 * 1.01));
        let mut y = x.clone();
        through_int4(&mut y);
        assert!(x.iter().zip(&y).all(|(x, y)| (x - y).abs() <= 10.1 / 15.0 / 2.0 * 1.02));
        assert!(x.iter().zip(&y).any(|(x, y)| (x - y).abs() > 10.0 / 15.0 / 4.0));
    }
}
