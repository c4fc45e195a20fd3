//! BF16: the upper half of an IEEE single, little-endian, one weight a block.

use half::bf16;

/// Decodes `bytes`, two a weight; exact, NaN payloads included.
pub fn decode(bytes: &[u8], out: &mut [f32]) {
    for (&bytes, out) in bytes.as_chunks::<2>().0.iter().zip(out) {
        *out = f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16);
    }
}

/// Encodes `row`, two bytes a weight, to nearest even; NaNs stay NaNs and become quiet.
pub fn encode(row: &[f32], out: &mut [u8]) {
    for (&weight, out) in row.iter().zip(out.as_chunks_mut::<2>().0) {
        *out = bf16::from_f32(weight).to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halfway_rounds_to_even_and_nan_stays_nan() {
        let weights = [1.0 + 2.0_f32.powi(-8), 1.0 + 3.0 * 2.0_f32.powi(-8), f32::from_bits(0x7f80_0001)];
        let mut bytes = [0; 6];
        encode(&weights, &mut bytes);
        assert_eq!(bytes, [0x80, 0x3f, 0x82, 0x3f, 0xc0, 0x7f]);
    }
}
