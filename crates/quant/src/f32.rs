//! F32: IEEE single precision, little-endian, one weight a block.

/// Decodes `bytes`, four a weight.
pub fn decode(bytes: &[u8], out: &mut [f32]) {
    for (&bytes, out) in bytes.as_chunks::<4>().0.iter().zip(out) {
        *out = f32::from_le_bytes(bytes);
    }
}

/// Encodes `row`, four bytes a weight; every value survives, NaN payloads included.
pub fn encode(row: &[f32], out: &mut [u8]) {
    for (&weight, out) in row.iter().zip(out.as_chunks_mut::<4>().0) {
        *out = weight.to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_value_survives() {
        let row = [0.0, -0.0, 1.5, f32::MIN_POSITIVE / 4.0, f32::MAX, f32::NEG_INFINITY, f32::NAN];
        let (mut bytes, mut back) = ([0; 28], [1.0; 7]);
        encode(&row, &mut bytes);
        decode(&bytes, &mut back);
        assert_eq!(back.map(f32::to_bits), row.map(f32::to_bits));
    }
}
