//! Formats without a tile of their own become F16 or Q8_0, 256 columns at a time.
//!
//! Both functions take whole blocks of up to 256 weights, leave what is beyond them zero, and answer with the
//! column and value of the first finite weight that would become infinite.

use super::{COLS, f16, q8_0};
use half::f16 as Half;
use quant::{Format, q8_0::BYTES as BLOCK};

/// F32 and BF16, rounded to nearest even.
pub(super) fn to_f16(from: Format, bytes: &[u8], out: &mut [u8; f16::STRETCH]) -> Result<(), (usize, f32)> {
    let mut weights = [0.0; COLS];
    let count = bytes.len() / from.block_bytes();
    from.decode(bytes, &mut weights[..count]);
    quant::f16::encode(&weights[..count], &mut out[..2 * count]);
    let lost =
        |(half, weight): (&[u8; 2], &f32)| Half::from_le_bytes(*half).is_infinite() && weight.is_finite();
    match out.as_chunks::<2>().0.iter().zip(&weights).position(lost) {
        Some(column) => Err((column, weights[column])),
        None => Ok(()),
    }
}

/// Everything else. Formats of one scale and no minimum every 32 weights keep their codes, which are exact
/// where the scale is a half float; the others are rounded anew.
pub(super) fn to_q8_0(from: Format, bytes: &[u8], out: &mut [u8; q8_0::STRETCH]) -> Result<(), (usize, f32)> {
    let (len, sub) = (from.block_len(), from.sub_len());
    let (mut codes, mut scales, mut mins) = ([0; COLS], [0.0; 16], [0.0; 16]);
    for (b, block) in bytes.chunks_exact(from.block_bytes()).enumerate() {
        from.codes(block, &mut codes, &mut scales, &mut mins);
        for part in 0..len / 32 {
            let column = b * len + 32 * part;
            let to = &mut out[column / 32 * BLOCK..][..BLOCK];
            let scale = Half::from_f32(scales[part]);
            if sub == 32 && mins[part] == 0.0 && (scale.is_finite() || !scales[part].is_finite()) {
                to[..2].copy_from_slice(&scale.to_le_bytes());
                for (to, code) in to[2..].iter_mut().zip(&codes[32 * part..]) {
                    *to = *code as u8;
                }
                continue;
            }
            let weights: [f32; 32] = std::array::from_fn(|i| {
                let s = (32 * part + i) / sub;
                scales[s] * f32::from(codes[32 * part + i]) - mins[s]
            });
            Format::Q8_0.encode(&weights, to).expect("Q8_0 has an encoder");
            if !Half::from_le_bytes([to[0], to[1]]).is_finite() && weights.iter().all(|w| w.is_finite()) {
                let largest = (0..32).max_by(|&a, &b| weights[a].abs().total_cmp(&weights[b].abs()));
                let i = largest.expect("32 weights have a largest");
                return Err((column + i, weights[i]));
            }
        }
    }
    Ok(())
}
