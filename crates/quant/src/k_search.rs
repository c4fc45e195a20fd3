//! The search for scales and minima behind the encoders of Q4_K and Q5_K.
//!
//! For each sub-block of 32 weights, codes are tried for a series of slightly different ranges;
//! for each, the scale and minimum follow by weighted least squares, and the pair of smallest
//! error stays. This is the search of ggml's reference quantizer, operation for operation, so the
//! bytes agree with it. Sums run over a sub-block in its order as they do there; sub-blocks are
//! the lanes of the vectors instead, `LANES` at a time.

use half::f16;

use crate::block::{ROUNDER, nearest};
use crate::q4_k::{pack_scales, scales};

/// Sub-blocks searched side by side: one 128-bit vector, which every target has.
const LANES: usize = 4;
type Lanes = [f32; LANES];

/// The ranges to try: codes 0..=`top`, then `steps + 1` stretched ones, from `first` in tenths.
#[derive(Clone, Copy)]
pub(crate) struct Search {
    /// The largest code.
    pub(crate) top: f32,
    /// By how many codes the first range is stretched.
    pub(crate) first: f32,
    /// How many ranges follow the first.
    pub(crate) steps: u8,
}

/// What the search found for `LANES` sub-blocks.
struct Fit {
    scale: Lanes,
    /// Positive: what is subtracted.
    min: Lanes,
    /// The codes this fit was made with are those of `(x - from) * stretch`.
    from: Lanes,
    stretch: Lanes,
}

#[inline(always)]
fn lanes(of: impl FnMut(usize) -> f32) -> Lanes {
    std::array::from_fn(of)
}

/// The code nearest to `at`, within 0..=`top`; NaN gives 0.
#[inline(always)]
fn clamped(at: f32, top: f32) -> f32 {
    let code = (at + ROUNDER) - ROUNDER;
    let code = if code > 0.0 { code } else { 0.0 };
    if code < top { code } else { top }
}

/// Searches `LANES` sub-blocks; `x[i]` holds weight `i` of each, `weight[i]` its importance.
#[inline]
fn fit(x: &[Lanes; 32], weight: &[Lanes; 32], search: Search) -> Fit {
    let Search { top, first, steps } = search;
    let (mut min, mut max) = (x[0], x[0]);
    let mut sum_w = weight[0];
    let mut sum_x = lanes(|n| weight[0][n] * x[0][n]);
    for i in 1..32 {
        for n in 0..LANES {
            min[n] = if x[i][n] < min[n] { x[i][n] } else { min[n] };
            max[n] = if x[i][n] > max[n] { x[i][n] } else { max[n] };
            sum_w[n] += weight[i][n];
            sum_x[n] += weight[i][n] * x[i][n];
        }
    }
    // Zero must be among the values, as minima are stored without a sign.
    min = min.map(|min| if min > 0.0 { 0.0 } else { min });
    let flat: [bool; LANES] = std::array::from_fn(|n| max[n] <= min[n]);
    let flat_min = min;

    let mut stretch = lanes(|n| top / (max[n] - min[n]));
    let mut scale = lanes(|n| 1.0 / stretch[n]);
    let mut from = min;
    let mut best = [0.0; LANES];
    for i in 0..32 {
        for n in 0..LANES {
            let code = clamped(stretch[n] * (x[i][n] - min[n]), top);
            let miss = scale[n] * code + min[n] - x[i][n];
            best[n] += weight[i][n] * (miss * miss);
        }
    }

    let mut codes = [[0.0; LANES]; 32];
    for step in 0..=steps {
        let reach = first + 0.1 * f32::from(step) + top;
        let tried = lanes(|n| reach / (max[n] - min[n]));
        let (mut sum_l, mut sum_l2, mut sum_xl) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        for i in 0..32 {
            for n in 0..LANES {
                let code = clamped(tried[n] * (x[i][n] - min[n]), top);
                codes[i][n] = code;
                let weighted = weight[i][n] * code;
                sum_l[n] += weighted;
                sum_l2[n] += weighted * code;
                sum_xl[n] += weighted * x[i][n];
            }
        }
        // The least squares of scale * code + min against x, with min held at 0 where it would be positive.
        let det = lanes(|n| sum_w[n] * sum_l2[n] - sum_l[n] * sum_l[n]);
        let free_min = lanes(|n| (sum_l2[n] * sum_x[n] - sum_l[n] * sum_xl[n]) / det[n]);
        let new_scale = lanes(|n| {
            if free_min[n] > 0.0 {
                sum_xl[n] / sum_l2[n]
            } else {
                (sum_w[n] * sum_xl[n] - sum_x[n] * sum_l[n]) / det[n]
            }
        });
        let new_min = free_min.map(|min| if min > 0.0 { 0.0 } else { min });
        let mut error = [0.0; LANES];
        for i in 0..32 {
            for n in 0..LANES {
                let miss = new_scale[n] * codes[i][n] + new_min[n] - x[i][n];
                error[n] += weight[i][n] * (miss * miss);
            }
        }
        for n in 0..LANES {
            if det[n] > 0.0 && error[n] < best[n] {
                (best[n], scale[n]) = (error[n], new_scale[n]);
                (from[n], stretch[n]) = (min[n], tried[n]);
                min[n] = new_min[n];
            }
        }
    }
    for n in 0..LANES {
        if flat[n] {
            (scale[n], min[n], from[n], stretch[n]) = (0.0, flat_min[n], 0.0, 0.0);
        }
    }
    Fit { scale, min: min.map(|min| -min), from, stretch }
}

/// One block: the 16 bytes of scales that Q4_K and Q5_K begin with, and 256 codes.
pub(crate) fn encode(row: &[f32; 256], search: Search) -> ([u8; 16], [u8; 256]) {
    let (mut scale, mut min, mut from, mut stretch) = ([0.0; 8], [0.0; 8], [0.0; 8], [0.0; 8]);
    for group in (0..8).step_by(LANES) {
        let x: [Lanes; 32] = std::array::from_fn(|i| lanes(|n| row[32 * (group + n) + i]));
        let mut squares = [0.0; LANES];
        for x in &x {
            for n in 0..LANES {
                squares[n] += x[n] * x[n];
            }
        }
        let typical = squares.map(|sum| (sum / 32.0).sqrt());
        let weight = x.map(|x| lanes(|n| typical[n] + x[n].abs()));
        let fit = fit(&x, &weight, search);
        scale[group..group + LANES].copy_from_slice(&fit.scale);
        min[group..group + LANES].copy_from_slice(&fit.min);
        from[group..group + LANES].copy_from_slice(&fit.from);
        stretch[group..group + LANES].copy_from_slice(&fit.stretch);
    }

    let largest =
        |of: &[f32; 8]| of.iter().fold(0.0_f32, |largest, &x| if x > largest { x } else { largest });
    let (max_scale, max_min) = (largest(&scale), largest(&min));
    let inverse = |max: f32| if max > 0.0 { 63.0 / max } else { 0.0 };
    let six_bits = |of: [f32; 8], inverse: f32| of.map(|x| (nearest(inverse * x) as u8).min(63));
    let packed = pack_scales(&six_bits(scale, inverse(max_scale)), &six_bits(min, inverse(max_min)));
    let (d, dmin) = (f16::from_f32(max_scale / 63.0), f16::from_f32(max_min / 63.0));

    let mut header = [0; 16];
    header[..2].copy_from_slice(&d.to_le_bytes());
    header[2..4].copy_from_slice(&dmin.to_le_bytes());
    header[4..].copy_from_slice(&packed);

    // The codes are chosen anew for the scales as they will be read.
    let (scale, min) = scales(&packed);
    let mut codes = [0; 256];
    for s in 0..8 {
        let (scale, min) = (d.to_f32() * f32::from(scale[s]), dmin.to_f32() * f32::from(min[s]));
        let row = &row[32 * s..][..32];
        let codes = &mut codes[32 * s..][..32];
        if scale == 0.0 {
            // They mean nothing, but the oracle keeps those of the search.
            for (code, &x) in codes.iter_mut().zip(row) {
                *code = clamped(stretch[s] * (x - from[s]), search.top) as u8;
            }
        } else {
            for (code, &x) in codes.iter_mut().zip(row) {
                *code = nearest((x + min) / scale).clamp(0, search.top as i32) as u8;
            }
        }
    }
    (header, codes)
}
