//! Norms, rotation and gates on every instruction set, against f64.

use crate::tile::tests::{Random, fused, same_bits, sets};
use model::Activation;

const LENGTHS: [usize; 10] = [1, 2, 15, 16, 17, 31, 64, 80, 100, 256];

#[test]
fn norms_are_the_formulas() {
    let mut random = Random(6);
    for len in LENGTHS {
        for size in [0.0, 1e-15, 1.0, 1e15] {
            let x: Vec<f32> = (0..len).map(|_| random.float() * size).collect();
            let weight: Vec<f32> = (0..len).map(|_| random.float() * 3.0).collect();
            let square: f64 = x.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
            let scale = 1.0 / (square / len as f64 + f64::from(1e-6f32)).sqrt();
            let mut first_fused: Option<Vec<f32>> = None;
            for (isa, kernels) in sets() {
                let mut out = vec![f32::NAN; len + 16];
                let mut there = x.clone();
                // SAFETY: the set is available; all hold `len` floats.
                unsafe {
                    (kernels.norm)(x.as_ptr(), weight.as_ptr(), len, 1e-6, out.as_mut_ptr());
                    (kernels.norm)(there.as_ptr(), weight.as_ptr(), len, 1e-6, there.as_mut_ptr());
                }
                assert!(out[len..].iter().all(|x| x.is_nan()), "written past the end");
                out.truncate(len);
                assert!(same_bits(&out, &there), "{}, {len}: in place is different", isa.name());
                for ((out, x), weight) in out.iter().zip(&x).zip(&weight) {
                    let want = f64::from(*x) * scale * f64::from(*weight);
                    let off = (f64::from(*out) - want).abs();
                    assert!(off <= want.abs() * 2e-6, "{}, {len}, {size:e}: {out}, not {want}", isa.name());
                }
                if fused(isa) {
                    let other = first_fused.get_or_insert_with(|| out.clone());
                    assert!(same_bits(other, &out), "{}, {len}: other bits than another set", isa.name());
                }
            }
        }
    }
}

#[test]
fn sums_and_rotations_are_the_formulas() {
    let mut random = Random(7);
    for len in LENGTHS {
        let mut floats = |len: usize| (0..len).map(|_| random.float()).collect::<Vec<f32>>();
        let (a, b, head) = (floats(len), floats(len), floats(2 * len));
        let angles: Vec<f32> = floats(len).iter().map(|x| x * 3.0).collect();
        let cos: Vec<f32> = angles.iter().map(|angle| angle.cos()).collect();
        let sin: Vec<f32> = angles.iter().map(|angle| angle.sin()).collect();
        for (isa, kernels) in sets() {
            let (mut sum, mut turned) = (a.clone(), head.clone());
            // What lies behind must stay: heads are rotated in part.
            sum.push(f32::NAN);
            turned.extend([7.0; 16]);
            // SAFETY: the set is available; the slices hold what the lengths say.
            unsafe {
                (kernels.accumulate)(sum.as_mut_ptr(), b.as_ptr(), len);
                (kernels.rotate)(turned.as_mut_ptr(), cos.as_ptr(), sin.as_ptr(), len);
            }
            assert!(sum[len].is_nan() && turned[2 * len..] == [7.0; 16], "written past the end");
            for i in 0..len {
                assert_eq!(sum[i].to_bits(), (a[i] + b[i]).to_bits(), "{}, {len}", isa.name());
                let (low, high) = (f64::from(head[i]), f64::from(head[i + len]));
                let (c, s) = (f64::from(cos[i]), f64::from(sin[i]));
                for (got, want) in [(turned[i], low * c - high * s), (turned[i + len], low * s + high * c)] {
                    assert!((f64::from(got) - want).abs() < 3e-7, "{}, {len}: {got}, not {want}", isa.name());
                }
            }
        }
    }
}

/// Cache types that rotate promise the codes of the specification, so the bits must be its bits.
#[test]
fn hadamard_is_the_specification_to_the_bit() {
    let mut random = Random(8);
    for dim in [2, 4, 6, 8, 16, 20, 32, 48, 64, 80, 96, 128, 256] {
        let head: Vec<f32> = (0..dim).map(|_| random.float() * 7.0).collect();
        let mut want = head.clone();
        model::kv::rotate(&mut want);
        for (isa, kernels) in sets() {
            let mut ours = head.clone();
            ours.push(f32::NAN);
            // SAFETY: the set is available; the head is `dim` long.
            unsafe { (kernels.hadamard)(ours.as_mut_ptr(), dim) };
            assert!(ours.pop().is_some_and(f32::is_nan), "written past the end");
            assert!(same_bits(&ours, &want), "{}, {dim}", isa.name());
        }
    }
}

#[test]
fn gates_and_caps_are_the_formulas() {
    let steps: Vec<f32> = (-1600..1600).map(|i| i as f32 * 0.0625).collect();
    let mut inputs: Vec<f32> = steps.iter().flat_map(|x| [*x, x * 1e-3, x * 1e-9, x * 1e3]).collect();
    inputs.extend([
        0.0,
        -0.0,
        1e30,
        -1e30,
        f32::MAX,
        f32::MIN,
        1e-40,
        -1e-40,
        87.5,
        -87.5,
        88.5,
        -88.5,
        1.0,
        2.0,
        3.0,
        4.0,
    ]);
    let ups: Vec<f32> = inputs.iter().enumerate().map(|(i, _)| [1.0, -0.5, 0.0, 3.0][i % 4]).collect();
    for (isa, kernels) in sets() {
        for activation in [Activation::Silu, Activation::GeluTanh] {
            let mut gated = inputs.clone();
            // SAFETY: the set is available; both are sixteens.
            unsafe { (kernels.gate)(activation, &mut gated, &ups) };
            for ((gated, x), up) in gated.iter().zip(&inputs).zip(&ups) {
                let (x, up) = (f64::from(*x), f64::from(*up));
                let bent = match activation {
                    Activation::Silu => x / (1.0 + (-x).exp()),
                    Activation::GeluTanh => {
                        let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
                        0.5 * x * (1.0 + inner.tanh())
                    }
                };
                let want = bent * up;
                let off = (f64::from(*gated) - want).abs();
                // Above 3e38 a product is as infinite as its f32.
                let same = gated.to_bits() == (want as f32).to_bits();
                assert!(
                    same || off <= 3e-7 * x.abs().max(want.abs()),
                    "{activation:?}({x}) · {up} on {}: {gated}, not {want}",
                    isa.name()
                );
            }
        }
        for cap in [30.0f32, 50.0] {
            let mut capped = inputs.clone();
            // SAFETY: the set is available; these are sixteens.
            unsafe { (kernels.cap)(cap, &mut capped) };
            for (capped, x) in capped.iter().zip(&inputs) {
                let want = f64::from(cap) * (f64::from(*x) / f64::from(cap)).tanh();
                let off = (f64::from(*capped) - want).abs();
                assert!(
                    off <= 4e-7 * f64::from(cap),
                    "cap {cap} of {x} on {}: {capped}, not {want}",
                    isa.name()
                );
            }
        }
    }
}
