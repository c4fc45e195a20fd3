//! Decoding against the `gguf` package of PyPI, bit for bit; encoding against ggml, byte for byte.
//!
//! `oracle/make.py` wrote the blocks and the expected weights, `oracle/make_encoded.py` the rows
//! and the expected bytes. A NaN must be a NaN, but which one
//! is left to the processor: IEEE 754 does not say which payload or sign an operation gives.

use std::path::PathBuf;

use quant::Format;

/// Blocks, and the weights the oracle reads in them.
fn oracle(format: Format) -> (Vec<u8>, Vec<f32>) {
    let folder = std::env::var_os("QUANT_ORACLE")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle")), PathBuf::from);
    let file = std::fs::read(folder.join(format!("{format}.bin"))).expect("make.py wrote this file");
    let (count, rest) = file.split_first_chunk::<4>().expect("the file begins with a count");
    let (blocks, weights) = rest.split_at(u32::from_le_bytes(*count) as usize * format.block_bytes());
    let weights: Vec<_> = weights.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    assert_eq!(blocks.len() / format.block_bytes() * format.block_len(), weights.len());
    (blocks.to_vec(), weights)
}

fn assert_same(format: Format, what: &str, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len());
    let mut other_nans = 0;
    for (i, (our, their)) in ours.iter().zip(theirs).enumerate() {
        if our.to_bits() != their.to_bits() {
            assert!(
                our.is_nan() && their.is_nan(),
                "{format} {what}: weight {} of block {} is {our:e}, the oracle says {their:e}",
                i % format.block_len(),
                i / format.block_len(),
            );
            other_nans += 1;
        }
    }
    eprintln!("{format} {what}: {} weights, {other_nans} NaNs of another payload", ours.len());
}

#[test]
fn decode_is_the_oracles() {
    for &format in Format::ALL {
        let (blocks, theirs) = oracle(format);
        let mut ours = vec![0.0; theirs.len()];
        format.decode(&blocks, &mut ours);
        assert_same(format, "decode", &ours, &theirs);
    }
}

#[test]
fn codes_scales_and_minima_are_the_oracles() {
    for &format in Format::ALL {
        let (blocks, theirs) = oracle(format);
        let mut ours = Vec::with_capacity(theirs.len());
        let subs = format.block_len() / format.sub_len();
        let (mut codes, mut scales, mut mins) =
            (vec![0; format.block_len()], vec![0.0; subs], vec![0.0; subs]);
        for block in blocks.chunks_exact(format.block_bytes()) {
            format.codes(block, &mut codes, &mut scales, &mut mins);
            for (i, &code) in codes.iter().enumerate() {
                ours.push(scales[i / format.sub_len()] * f32::from(code) - mins[i / format.sub_len()]);
            }
        }
        assert_same(format, "codes", &ours, &theirs);
    }
}

#[test]
fn oracle_covers_the_special_scales() {
    // A half float below this is subnormal; as a scale it gives weights about as small.
    let smallest_normal_half = 2.0_f32.powi(-14);
    for &format in Format::ALL {
        let (_, weights) = oracle(format);
        let small = |w: &f32| *w != 0.0 && w.abs() < smallest_normal_half;
        assert!(weights.iter().any(small), "{format} has no subnormal scale");
        if format != Format::MXFP4 {
            assert!(weights.iter().any(|w| w.is_nan()), "{format} has no NaN");
            assert!(weights.iter().any(|w| w.is_infinite()), "{format} has no infinity");
        }
    }
}

#[test]
fn encode_is_the_oracles() {
    let read = |name: &str| {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle");
        std::fs::read(format!("{folder}/{name}")).expect("make_encoded.py wrote this file")
    };
    let rows = read("rows.bin");
    let rows: Vec<_> = rows.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    for format in Format::ALL.iter().copied().filter(|format| format.can_encode() && *format != Format::F32) {
        let theirs = read(&format!("{format}.encoded.bin"));
        let mut ours = vec![0; format.row_bytes(rows.len()).expect("256 weights are whole blocks")];
        assert_eq!(ours.len(), theirs.len());
        format.encode(&rows, &mut ours).expect("the filter left formats with an encoder");
        let size = format.block_bytes();
        for (i, (ours, theirs)) in ours.chunks(size).zip(theirs.chunks(size)).enumerate() {
            assert_eq!(ours, theirs, "{format}: block {i}");
        }
    }
}
