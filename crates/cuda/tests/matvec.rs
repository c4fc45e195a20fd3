//! Products of one row against an f64 product of the decoded weights.
#![allow(unsafe_code, reason = "addresses of blocks that outlive the launch")]

#[path = "common/matrix.rs"]
mod matrix;

use cuda::args::matvec::MatvecArgs;
use cuda::args::{Epilogue, Output, Source};
use cuda::driver::Block;
use cuda::lab::Lab;
use matrix::{Noise, Weights, weights};
use quant::Format;

fn product(weights: &Weights, x: &[f64]) -> Vec<f64> {
    weights.rows.iter().map(|row| row.iter().zip(x).map(|(&w, x)| f64::from(w) * x).sum()).collect()
}

/// Largest difference over the root mean square of what is expected.
fn error(found: &[f32], expected: &[f64]) -> f64 {
    let rms = (expected.iter().map(|x| x * x).sum::<f64>() / expected.len() as f64).sqrt();
    let off = |(&found, expected): (&f32, &f64)| (f64::from(found) - expected).abs();
    let worst = found.iter().zip(expected).map(off).fold(0.0, |a, b| if b > a || b.is_nan() { b } else { a });
    worst / rms
}

fn launch(lab: &Lab, args: &mut MatvecArgs, sms: u32) {
    let (kernel, launch) = args.spread(sms);
    lab.launch(kernel, launch.grid, launch.threads, launch.shared_bytes, args);
}

const FORMATS: [Format; 6] =
    [Format::Q4_K, Format::Q5_K, Format::Q6_K, Format::Q8_0, Format::Q4_0, Format::F16];

/// Sixteen-bit activations: what is left is f32 rounding and 2⁻¹⁶ of the largest activation of 256.
const TOLERANCE: f64 = 1e-4;
/// The same where one activation is a hundred times the others, or where a gate multiplies two products.
const ROUGH: f64 = 5e-4;

#[test]
fn every_format_and_shape() {
    for lab in Lab::all() {
        let mut noise = Noise(1);
        for format in FORMATS {
            let block = format.block_len();
            for (rows, cols) in [(16, 256), (40, 512), (272, 1024), (5, 64), (33, 96), (96, 3072)] {
                if cols % block != 0 {
                    continue;
                }
                let w = weights(&lab, format, rows, cols, 1.0, &mut noise);
                let mut x = noise.floats(cols);
                x[cols / 3] *= 100.0;
                let expected = product(&w, &x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
                let (input, bias) = (lab.upload(&x), noise.floats(rows));
                let with_bias = lab.upload(&bias);
                for sms in [1, 3, 8] {
                    for split in [None, Some(1), Some(2), Some(4)] {
                        let to = lab.poisoned::<f32>(rows);
                        let output = Output {
                            matrix: w.matrix,
                            bias: with_bias.address(),
                            to: to.address(),
                            stride: rows as u32,
                            unused: 0,
                        };
                        let source = Source { x: input.address(), cols: cols as u32, ..Source::default() };
                        let mut args = MatvecArgs::new(&[output], source, Epilogue::Store, 0.0);
                        let (kernel, mut launch) = args.spread(sms);
                        if let Some(split) = split
                            && split <= args.source.cols.div_ceil(256)
                        {
                            launch.grid[0] = args.split(split, sms);
                        }
                        lab.launch(kernel, launch.grid, launch.threads, launch.shared_bytes, &args);
                        let expected: Vec<f64> =
                            expected.iter().zip(&bias).map(|(e, &b)| e + f64::from(b)).collect();
                        let off = error(&lab.download(&to), &expected);
                        let case =
                            format!("{format:?} {rows}×{cols} sms {sms} split {split:?} on {}", lab.name());
                        assert!(off < ROUGH, "{case}: {off:e}");
                    }
                }
            }
        }
    }
}

#[test]
fn several_outputs_of_two_formats_after_a_norm() {
    for lab in Lab::all() {
        let mut noise = Noise(2);
        for (first, second) in [(Format::Q4_K, Format::Q6_K), (Format::Q5_K, Format::Q6_K)] {
            let cols = 768;
            let shapes = [(first, 144), (second, 48), (first, 50)];
            let w: Vec<Weights> = shapes
                .iter()
                .map(|&(format, rows)| weights(&lab, format, rows, cols, 1.0, &mut noise))
                .collect();
            let (x, norm) = (noise.floats(cols), noise.floats(cols));
            let squares: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            let factor = 1.0 / (squares / cols as f64 + 1e-5).sqrt();
            let h: Vec<f64> =
                x.iter().zip(&norm).map(|(&x, &w)| f64::from(x) * f64::from(w) * factor).collect();
            let (input, weight) = (lab.upload(&x), lab.upload(&norm));
            let to: Vec<Block> = shapes.iter().map(|&(_, rows)| lab.poisoned::<f32>(rows)).collect();
            let outputs: Vec<Output> = w
                .iter()
                .zip(&to)
                .map(|(w, to)| Output { matrix: w.matrix, to: to.address(), stride: 1, ..Output::default() })
                .collect();
            let source = Source {
                x: input.address(),
                norm: weight.address(),
                cols: cols as u32,
                eps: 1e-5,
                ..Source::default()
            };
            launch(&lab, &mut MatvecArgs::new(&outputs, source, Epilogue::Store, 0.0), 2);
            for (w, to) in w.iter().zip(&to) {
                let off = error(&lab.download(to), &product(w, &h));
                assert!(off < TOLERANCE, "{first:?} and {second:?} on {}: {off:e}", lab.name());
            }
        }
    }
}

#[test]
fn gates_multiply_and_residuals_add() {
    let silu = |g: f64| g / (1.0 + (-g).exp());
    let gelu =
        |g: f64| 0.5 * g * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (g + 0.044715 * g.powi(3))).tanh());
    for lab in Lab::all() {
        let mut noise = Noise(3);
        for format in FORMATS {
            let (rows, cols) = (72, 512);
            let (gate, up) = (
                weights(&lab, format, rows, cols, 1.0, &mut noise),
                weights(&lab, format, rows, cols, 1.0, &mut noise),
            );
            let x: Vec<f32> = noise.floats(cols).iter().map(|x| x * 0.3).collect();
            let exact: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
            let input = lab.upload(&x);
            let source = Source { x: input.address(), cols: cols as u32, ..Source::default() };
            let output = |w: &Weights, to: &Block| Output {
                matrix: w.matrix,
                to: to.address(),
                stride: 1,
                ..Output::default()
            };
            let (gates, ups) = (product(&gate, &exact), product(&up, &exact));
            let before = noise.floats(rows);
            for sms in [1, 2, 8] {
                for epilogue in [Epilogue::GateSilu, Epilogue::GateGelu] {
                    let to = lab.poisoned::<f32>(rows);
                    let outputs = [output(&gate, &to), output(&up, &to)];
                    launch(&lab, &mut MatvecArgs::new(&outputs, source, epilogue, 0.0), sms);
                    let expected: Vec<f64> = gates
                        .iter()
                        .zip(&ups)
                        .map(|(&g, u)| u * if epilogue == Epilogue::GateSilu { silu(g) } else { gelu(g) })
                        .collect();
                    let off = error(&lab.download(&to), &expected);
                    assert!(off < ROUGH, "{format:?} {epilogue:?} sms {sms} on {}: {off:e}", lab.name());
                }
                let to = lab.upload(&before);
                launch(&lab, &mut MatvecArgs::new(&[output(&up, &to)], source, Epilogue::Add, 0.0), sms);
                let expected: Vec<f64> = ups.iter().zip(&before).map(|(u, &b)| u + f64::from(b)).collect();
                assert!(error(&lab.download(&to), &expected) < TOLERANCE, "{format:?} added, sms {sms}");

                let to = lab.poisoned::<f32>(rows);
                launch(&lab, &mut MatvecArgs::new(&[output(&up, &to)], source, Epilogue::Cap, 3.0), sms);
                let expected: Vec<f64> = ups.iter().map(|u| 3.0 * (u / 3.0).tanh()).collect();
                assert!(error(&lab.download(&to), &expected) < TOLERANCE, "{format:?} capped, sms {sms}");
            }
        }
    }
}

#[test]
fn a_block_s_output_is_normed_and_added_on_the_way() {
    for lab in Lab::all() {
        let mut noise = Noise(4);
        let (rows, cols) = (48, 300);
        let w = weights(&lab, Format::F16, rows, cols, 1.0, &mut noise);
        let q = weights(&lab, Format::Q8_0, rows, 320, 1.0, &mut noise);
        for (w, cols) in [(&w, cols), (&q, 320)] {
            let [x, o, post, norm] = std::array::from_fn(|_| noise.floats(cols));
            let mean = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>() / v.len() as f64;
            let o64: Vec<f64> = o.iter().map(|&o| f64::from(o)).collect();
            let factor = 1.0 / (mean(&o64) + 1e-6).sqrt();
            for with_post in [true, false] {
                let sum: Vec<f64> = (0..cols)
                    .map(|i| {
                        f64::from(x[i])
                            + if with_post { o64[i] * factor * f64::from(post[i]) } else { o64[i] }
                    })
                    .collect();
                let rms = 1.0 / (mean(&sum) + 1e-6).sqrt();
                let h: Vec<f64> = sum.iter().zip(&norm).map(|(s, &n)| s * rms * f64::from(n)).collect();
                let [bx, bo, bpost, bnorm] = [&x, &o, &post, &norm].map(|v| lab.upload(v));
                let (to, x_out) = (lab.poisoned::<f32>(rows), lab.poisoned::<f32>(cols));
                let output = Output { matrix: w.matrix, to: to.address(), stride: 1, ..Output::default() };
                let source = Source {
                    x: bx.address(),
                    o: bo.address(),
                    post: if with_post { bpost.address() } else { 0 },
                    norm: bnorm.address(),
                    x_out: x_out.address(),
                    cols: cols as u32,
                    stride: cols as u32,
                    eps: 1e-6,
                    unused: 0,
                };
                launch(&lab, &mut MatvecArgs::new(&[output], source, Epilogue::Store, 0.0), 3);
                assert!(error(&lab.download(&to), &product(w, &h)) < TOLERANCE, "on {}", lab.name());
                assert!(error(&lab.download(&x_out), &sum) < 1e-6, "on {}", lab.name());
            }
        }
    }
}

/// Width 8192 and above: every warp stages several tiles; and the same bits twice.
#[test]
fn wide_inputs_and_equal_bits() {
    for lab in Lab::all() {
        let mut noise = Noise(5);
        let (rows, cols) = (32, 8192);
        let w = weights(&lab, Format::Q4_K, rows, cols, 1.0, &mut noise);
        let x = noise.floats(cols);
        let input = lab.upload(&x);
        let run = || {
            let to = lab.poisoned::<f32>(rows);
            let output = Output { matrix: w.matrix, to: to.address(), stride: 1, ..Output::default() };
            let source = Source { x: input.address(), cols: cols as u32, ..Source::default() };
            launch(&lab, &mut MatvecArgs::new(&[output], source, Epilogue::Store, 0.0), 8);
            lab.download::<f32>(&to)
        };
        let found = run();
        let exact: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        assert!(error(&found, &product(&w, &exact)) < TOLERANCE);
        assert_eq!(
            found.iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
            run().iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        );
    }
}
