//! F16: IEEE half precision, little-endian, one weight a block.

use half::f16;
use half::slice::HalfFloatSliceExt;

/// Weights converted at once: long enough for the hardware conversion to pay.
const STRIP: usize = 64;

/// Decodes `bytes`, two a weight. Signalling NaNs become quiet, all else is exact.
pub fn decode(bytes: &[u8], out: &mut [f32]) {
    let mut strip = [f16::ZERO; STRIP];
    for (bytes, out) in bytes.as_chunks::<2>().0.chunks(STRIP).zip(out.chunks_mut(STRIP)) {
        let len = bytes.len().min(out.len());
        for (half, &bytes) in strip.iter_mut().zip(bytes) {
            *half = f16::from_le_bytes(bytes);
        }
        strip[..len].convert_to_f32_slice(&mut out[..len]);
    }
}

/// Encodes `row`, two bytes a weight, to nearest even; magnitudes from 65520 up become infinite.
pub fn encode(row: &[f32], out: &mut [u8]) {
    let mut strip = [f16::ZERO; STRIP];
    for (row, out) in row.chunks(STRIP).zip(out.as_chunks_mut::<2>().0.chunks_mut(STRIP)) {
        let len = row.len().min(out.len());
        strip[..len].convert_from_f32_slice(&row[..len]);
        for (half, out) in strip.iter().zip(out) {
            *out = half.to_le_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_half_survives() {
        let bytes: Vec<_> =
            (0..=u16::MAX).filter(|h| h & 0x7c00 != 0x7c00).flat_map(u16::to_le_bytes).collect();
        let (mut row, mut back) = (vec![0.0; bytes.len() / 2], vec![0; bytes.len()]);
        decode(&bytes, &mut row);
        encode(&row, &mut back);
        assert_eq!(bytes, back);
    }

    #[test]
    fn halfway_rounds_to_even_and_65520_is_infinite() {
        let mut bytes = [0; 8];
        encode(&[1.0 + 2.0_f32.powi(-11), 1.0 + 3.0 * 2.0_f32.powi(-11), 65519.0, 65520.0], &mut bytes);
        assert_eq!(bytes, [0x00, 0x3c, 0x02, 0x3c, 0xff, 0x7b, 0x00, 0x7c]);
    }
}
