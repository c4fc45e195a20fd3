//! What holds for all bytes and all weights.

use proptest::collection::vec;
use proptest::prelude::*;
use quant::{Format, q4_k};

fn formats() -> impl Strategy<Value = Format> {
    proptest::sample::select(Format::ALL)
}

fn encodable() -> impl Strategy<Value = Format> {
    let formats: Vec<_> = Format::ALL.iter().copied().filter(|format| format.can_encode()).collect();
    proptest::sample::select(formats)
}

/// 256 weights of one magnitude, some of them outliers, with or without a common offset.
fn rows() -> impl Strategy<Value = Vec<f32>> {
    let weight = prop_oneof![8 => -1.0_f32..1.0, 1 => -20.0_f32..20.0, 1 => Just(0.0)];
    (vec(weight, 256), -3_i32..3, prop_oneof![Just(0.0_f32), -2.0_f32..2.0])
        .prop_map(|(row, power, offset)| row.iter().map(|x| (x + offset) * 10_f32.powi(power)).collect())
}

fn round_trip(format: Format, row: &[f32]) -> Vec<f32> {
    let mut bytes = vec![0; format.row_bytes(row.len()).expect("whole blocks")];
    format.encode(row, &mut bytes).expect("callers pass formats with an encoder");
    let mut back = vec![f32::NAN; row.len()];
    format.decode(&bytes, &mut back);
    back
}

/// The largest magnitude.
fn largest(row: &[f32]) -> f32 {
    row.iter().fold(0.0, |largest, x| largest.max(x.abs()))
}

/// The root of the mean of the squared differences.
fn rms(row: &[f32], back: &[f32]) -> f32 {
    let sum: f32 = row.iter().zip(back).map(|(a, b)| (a - b) * (a - b)).sum();
    (sum / row.len() as f32).sqrt()
}

proptest! {
    /// Any bytes decode, and to `scale * code - min`.
    #[test]
    fn decode_is_scale_times_code_minus_min(format in formats(), bytes in vec(any::<u8>(), 210)) {
        let block = &bytes[..format.block_bytes()];
        let mut weights = vec![0.0; format.block_len()];
        format.decode(block, &mut weights);
        let (mut codes, mut scales, mut mins) = ([0; 256], [0.0; 16], [0.0; 16]);
        format.codes(block, &mut codes, &mut scales, &mut mins);
        for (i, weight) in weights.iter().enumerate() {
            let s = i / format.sub_len();
            let same = scales[s] * f32::from(codes[i]) - mins[s];
            prop_assert!(same.to_bits() == weight.to_bits() || same.is_nan() && weight.is_nan());
        }
    }

    /// Lengths that are no whole blocks are cut, never overrun.
    #[test]
    fn odd_lengths_do_not_panic(format in formats(), bytes in vec(any::<u8>(), 0..500), len in 0_usize..600) {
        let mut out = vec![0.0; len];
        format.decode(&bytes, &mut out);
        let mut back = bytes;
        let _ = format.encode(&out, &mut back);
    }

    /// Infinities, NaNs, subnormals: encoders take any bits, and what they write decodes.
    #[test]
    fn any_weights_encode(format in encodable(), bits in vec(any::<u32>(), 256), wild in 0_usize..256) {
        let row: Vec<_> = bits.iter().map(|&bits| f32::from_bits(bits)).collect();
        round_trip(format, &row);
        // Mostly ordinary blocks reach other branches than random bits do.
        let mut row: Vec<_> = bits.iter().map(|&bits| bits as f32 * 1e-9).collect();
        row[wild] = f32::from_bits(bits[wild] | 0x7f80_0000);
        round_trip(format, &row);
    }

    #[test]
    fn floats_round_to_their_precision(row in rows()) {
        prop_assert_eq!(&round_trip(Format::F32, &row), &row);
        // Half a unit in the last place, and half the smallest subnormal of F16.
        for (format, unit, least) in [(Format::F16, 2.0_f32.powi(-11), 2.0_f32.powi(-25)), (Format::BF16, 2.0_f32.powi(-8), 0.0)] {
            for (x, y) in row.iter().zip(round_trip(format, &row)) {
                prop_assert!((x - y).abs() <= x.abs() * unit + least, "{format}: {x} became {y}");
            }
        }
    }

    /// Half a step of the largest magnitude's scale for Q8_0. One step for Q4_0 and Q5_0: their codes
    /// end one short of what the side across from the largest may need. Beside it, the scale's own
    /// rounding to a half float.
    #[test]
    fn weights_are_within_a_step(row in rows()) {
        for (format, steps, codes) in
            [(Format::Q8_0, 0.5, 127.0), (Format::Q5_0, 1.0, 16.0), (Format::Q4_0, 1.0, 8.0)]
        {
            for (row, back) in row.chunks(32).zip(round_trip(format, &row).chunks(32)) {
                let largest = largest(row);
                let bound = largest * (steps / codes + 2.0_f32.powi(-11)) * 1.001 + codes * 2.0_f32.powi(-25);
                for (x, y) in row.iter().zip(back) {
                    prop_assert!((x - y).abs() <= bound, "{format}: {x} became {y}, more than {bound} away");
                }
            }
        }
    }

    /// Half a step of the range where the minimum is stored; beside it, the roundings of scale and
    /// minimum to half floats.
    #[test]
    fn weights_are_within_half_a_step_of_the_range(row in rows()) {
        for (format, codes) in [(Format::Q5_1, 31.0), (Format::Q4_1, 15.0)] {
            for (row, back) in row.chunks(32).zip(round_trip(format, &row).chunks(32)) {
                let (low, high) = row.iter().fold((f32::MAX, f32::MIN), |(l, h), &x| (l.min(x), h.max(x)));
                let rounding = (high - low + low.abs()) * 2.0_f32.powi(-11) + (codes + 1.0) * 2.0_f32.powi(-25);
                let bound = ((high - low) * 0.5 / codes + rounding) * 1.001;
                for (x, y) in row.iter().zip(back) {
                    prop_assert!((x - y).abs() <= bound, "{format}: {x} became {y}, more than {bound} away");
                }
            }
        }
    }

    /// The K formats trade single weights for the whole; their error as a whole is below a step of
    /// the widest sub-block (the range must contain zero).
    #[test]
    fn errors_are_below_a_step(row in rows()) {
        let high = row.iter().fold(0.0_f32, |high, &x| high.max(x));
        let low = row.iter().fold(0.0_f32, |low, &x| low.min(x));
        for (format, step) in [
            (Format::Q4_K, (high - low) / 15.0),
            (Format::Q5_K, (high - low) / 31.0),
            (Format::Q6_K, largest(&row) / 32.0),
        ] {
            let error = rms(&row, &round_trip(format, &row));
            prop_assert!(error <= step + 1e-6, "{format}: error {error}, step {step}");
        }
    }

    #[test]
    fn scales_survive_packing(scale: [u8; 8], min: [u8; 8], packed: [u8; 12]) {
        let (scale, min) = (scale.map(|s| s & 63), min.map(|m| m & 63));
        prop_assert_eq!(q4_k::scales(&q4_k::pack_scales(&scale, &min)), (scale, min));
        let (scale, min) = q4_k::scales(&packed);
        prop_assert_eq!(q4_k::pack_scales(&scale, &min), packed);
    }
}

/// More bits of the same kind must not cost quality.
#[test]
fn errors_fall_with_bits() {
    let row: Vec<_> =
        (0..2048_u32).map(|i| (i.wrapping_mul(2654435761) >> 8) as f32 / 8388608.0 - 1.0).collect();
    let ladders: [&[Format]; 3] = [
        &[Format::Q4_0, Format::Q4_K, Format::Q5_K, Format::Q6_K, Format::Q8_0, Format::F16],
        &[Format::Q4_0, Format::Q5_0, Format::Q8_0],
        &[Format::Q4_1, Format::Q5_1, Format::Q8_0],
    ];
    for formats in ladders {
        let errors: Vec<_> = formats.iter().map(|&format| rms(&row, &round_trip(format, &row))).collect();
        assert!(errors.is_sorted_by(|a, b| a > b), "{formats:?}: {errors:?}");
    }
}
