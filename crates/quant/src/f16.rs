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
