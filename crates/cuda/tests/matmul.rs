//! Prefill products and their staging against an f64 product of the decoded weights with halves.

#[path = "common/matrix.rs"]
mod matrix;

use cuda::args::matmul::{GATED_SCALE, MatmulArgs, Size};
use cuda::args::stage_f16::StageF16Args;
use cuda::args::{Epilogue, Matrix, Output, Source};
use cuda::driver::Block;
use cuda::lab::Lab;
use cuda::tile::TileFormat;
use half::f16;
use matrix::{Noise, Weights, weights};
use quant::Format;

/// Activations as halves, on the device and as numbers.
struct Input {
    block: Block,
    stride: usize,
    tokens: Vec<Vec<f64>>,
}

fn input(lab: &Lab, tokens: usize, cols: usize, noise: &mut Noise) -> Input {
    let stride = StageF16Args::stride(cols);
    let mut halves = vec![0u16; tokens * stride];
    let values = (0..tokens).map(|token| {
        (0..cols)
            .map(|col| {
                let value = f16::from_f32(noise.float());
                halves[token * stride + StageF16Args::place(col)] = value.to_bits();
                f64::from(value)
            })
            .collect()
    });
    let tokens = values.collect();
    Input { block: lab.upload(&halves), stride, tokens }
}

/// `[token][row]`.
fn product(weights: &Weights, tokens: &[Vec<f64>]) -> Vec<f64> {
    let of = |x: &Vec<f64>| -> Vec<f64> {
        weights.rows.iter().map(|row| row.iter().zip(x).map(|(&w, x)| f64::from(w) * x).sum()).collect()
    };
    tokens.iter().flat_map(of).collect()
}

/// Whether the difference is small against the root mean square of what is expected: its own root mean square
/// below `tolerance`, the largest below five times that.
fn close(found: &[f32], expected: &[f64], tolerance: f64, case: &str) {
    assert_eq!(found.len(), expected.len());
    let mean_square =
        |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>() / expected.len() as f64;
    let size = mean_square(&mut expected.iter().copied()).sqrt();
    let off: Vec<f64> = found.iter().zip(expected).map(|(&f, e)| (f64::from(f) - e).abs() / size).collect();
    let rms = mean_square(&mut off.iter().copied()).sqrt();
    let worst = off.iter().fold(0.0, |a, &b| if b > a || b.is_nan() { b } else { a });
    assert!(rms <= tolerance && worst <= 5.0 * tolerance, "{case}: error {rms:.1e}, at most {worst:.1e}");
}

fn launch(lab: &Lab, args: &MatmulArgs, size: Size) {
    let (kernel, launch) = args.launch(size);
    lab.launch(kernel, launch.grid, launch.threads, launch.shared_bytes, args);
}

fn output(weights: &Weights, to: &Block) -> Output {
    Output { matrix: weights.matrix, to: to.address(), stride: weights.matrix.rows, ..Output::default() }
}

fn halves_of(lab: &Lab, block: &Block) -> Vec<f32> {
    lab.download::<u16>(block).into_iter().map(|bits| f16::from_bits(bits).to_f32()).collect()
}

const FORMATS: [Format; 6] =
    [Format::Q4_K, Format::Q5_K, Format::Q6_K, Format::Q8_0, Format::Q4_0, Format::F16];

/// A half is within 2⁻¹¹ of a value, 2.0e-4 in the root mean square; weights are rounded once (F16 never) or,
/// with their scales and minima, up to three times.
const TOLERANCE: f64 = 4e-4;

#[test]
fn every_format_size_and_shape() {
    for lab in Lab::all() {
        let mut noise = Noise(1);
        for format in FORMATS {
            for (rows, cols, tokens) in [
                (16, 64, 9),
                (40, 256, 17),
                (40, 96, 33),
                (272, 512, 64),
                (136, 768, 100),
                (16, 1280, 130),
                (5, 512, 9),
            ] {
                if cols % format.block_len() != 0 {
                    continue;
                }
                let w = weights(&lab, format, rows, cols, 1.0, &mut noise);
                let x = input(&lab, tokens, cols, &mut noise);
                let bias = noise.floats(rows);
                let with_bias = lab.upload(&bias);
                let expected = product(&w, &x.tokens);
                let expected: Vec<f64> =
                    expected.iter().enumerate().map(|(i, e)| e + f64::from(bias[i % rows])).collect();
                for size in Size::ALL {
                    let to = lab.poisoned::<f32>(rows * tokens);
                    let output = Output { bias: with_bias.address(), ..output(&w, &to) };
                    let args =
                        MatmulArgs::new(&[output], x.block.address(), x.stride, tokens, Epilogue::Store);
                    launch(&lab, &args, size);
                    let case = format!("{format:?} {rows}×{cols}, {tokens} tokens, {size:?}, {}", lab.name());
                    close(&lab.download(&to), &expected, TOLERANCE, &case);
                }
            }
        }
    }
}

/// Scales far below the smallest normal half lose nothing.
#[test]
fn tiny_weights() {
    for lab in Lab::all() {
        let mut noise = Noise(2);
        for format in FORMATS {
            for largest in [1e-2, 1e-3] {
                let (rows, cols, tokens) = (48, 512, 24);
                let w = weights(&lab, format, rows, cols, largest, &mut noise);
                let x = input(&lab, tokens, cols, &mut noise);
                for size in Size::ALL {
                    let to = lab.poisoned::<f32>(rows * tokens);
                    let args = MatmulArgs::new(
                        &[output(&w, &to)],
                        x.block.address(),
                        x.stride,
                        tokens,
                        Epilogue::Store,
                    );
                    launch(&lab, &args, size);
                    let case = format!("{format:?} up to {largest:e}, {size:?}, {}", lab.name());
                    close(&lab.download(&to), &product(&w, &x.tokens), TOLERANCE, &case);
                }
            }
        }
    }
}

/// Q, K and V in one launch: row tiles of a block belong to different outputs.
#[test]
fn three_outputs_added_scaled_and_capped() {
    for lab in Lab::all() {
        let mut noise = Noise(3);
        for format in [Format::Q4_K, Format::Q6_K, Format::Q8_0] {
            let (cols, tokens) = (512, 70);
            let w = [144, 48, 50].map(|rows| weights(&lab, format, rows, cols, 1.0, &mut noise));
            let x = input(&lab, tokens, cols, &mut noise);
            let expected = w.each_ref().map(|w| product(w, &x.tokens));
            for size in Size::ALL {
                let case = format!("{format:?} {size:?} on {}", lab.name());
                let to = w.each_ref().map(|w| lab.poisoned::<f32>(w.rows.len() * tokens));
                let outputs: Vec<Output> = w.iter().zip(&to).map(|(w, to)| output(w, to)).collect();
                launch(
                    &lab,
                    &MatmulArgs::new(&outputs, x.block.address(), x.stride, tokens, Epilogue::Store),
                    size,
                );
                for (to, expected) in to.iter().zip(&expected) {
                    close(&lab.download(to), expected, TOLERANCE, &case);
                }
                // An odd number of rows: no store of four at once.
                for which in [0, 2] {
                    let before = noise.floats(expected[which].len());
                    let to = lab.upload(&before);
                    let mut args = MatmulArgs::new(
                        &[output(&w[which], &to)],
                        x.block.address(),
                        x.stride,
                        tokens,
                        Epilogue::Add,
                    );
                    args.scale = 64.0;
                    launch(&lab, &args, size);
                    let sum: Vec<f64> =
                        expected[which].iter().zip(&before).map(|(e, &b)| 64.0 * e + f64::from(b)).collect();
                    close(&lab.download(&to), &sum, TOLERANCE, &format!("{case}, added"));

                    let to = lab.poisoned::<f32>(before.len());
                    let mut args = MatmulArgs::new(
                        &[output(&w[which], &to)],
                        x.block.address(),
                        x.stride,
                        tokens,
                        Epilogue::Cap,
                    );
                    args.cap = 5.0;
                    launch(&lab, &args, size);
                    let capped: Vec<f64> = expected[which].iter().map(|e| 5.0 * (e / 5.0).tanh()).collect();
                    // Near zero the slope is 1: the product's own error over a smaller root mean square.
                    close(&lab.download(&to), &capped, 3.0 * TOLERANCE, &format!("{case}, capped"));
                }
            }
        }
    }
}

#[test]
fn gated_products_become_halves_for_the_next() {
    let silu = |g: f64| g / (1.0 + (-g).exp());
    let gelu = |g: f64| 0.5 * g * (1.0 + (0.797_884_560_802_865_4 * (g + 0.044_715 * g.powi(3))).tanh());
    for lab in Lab::all() {
        let mut noise = Noise(4);
        for (format, rows) in
            [(Format::Q4_K, 272), (Format::Q5_K, 40), (Format::F16, 130), (Format::Q8_0, 64)]
        {
            let (cols, tokens) = (256, 37);
            let [gate, up] = std::array::from_fn(|_| weights(&lab, format, rows, cols, 0.2, &mut noise));
            let x = input(&lab, tokens, cols, &mut noise);
            let (gates, ups) = (product(&gate, &x.tokens), product(&up, &x.tokens));
            let bias = noise.floats(rows);
            let with_bias = lab.upload(&bias);
            for size in Size::ALL {
                for epilogue in [Epilogue::GateSilu, Epilogue::GateGelu] {
                    let expected: Vec<f64> = gates
                        .iter()
                        .zip(&ups)
                        .enumerate()
                        .map(|(i, (&g, u))| {
                            let b = f64::from(bias[i % rows]);
                            (u + b) * if epilogue == Epilogue::GateSilu { silu(g + b) } else { gelu(g + b) }
                        })
                        .collect();
                    let stride = StageF16Args::stride(rows);
                    let (floats, halves) =
                        (lab.poisoned::<f32>(rows * tokens), lab.poisoned::<u16>(stride * tokens));
                    let gated = |w, to| Output { bias: with_bias.address(), ..output(w, to) };
                    let outputs = [gated(&gate, &floats), Output { to: 0, ..gated(&up, &floats) }];
                    let args = MatmulArgs::new(&outputs, x.block.address(), x.stride, tokens, epilogue)
                        .gated_to(halves.address(), stride);
                    launch(&lab, &args, size);
                    let case = format!("{format:?} {rows} rows {size:?} {epilogue:?} on {}", lab.name());
                    // Two products' errors, and large values are several times the root mean square.
                    close(&lab.download(&floats), &expected, 3.0 * TOLERANCE, &case);
                    let found = halves_of(&lab, &halves);
                    let taken: Vec<f32> = (0..tokens * rows)
                        .map(|i| found[i / rows * stride + StageF16Args::place(i % rows)] / GATED_SCALE)
                        .collect();
                    close(&taken, &expected, 3.0 * TOLERANCE, &format!("{case}, halves"));
                    let used: Vec<usize> = (0..rows).map(StageF16Args::place).collect();
                    for (i, value) in found.iter().enumerate() {
                        let padding = !used.contains(&(i % stride));
                        assert!(!padding || *value == 0.0, "{case}: padding {value} at {i}");
                    }

                    // Without halves, floats alone.
                    let alone = lab.poisoned::<f32>(rows * tokens);
                    let outputs = [gated(&gate, &alone), Output { to: 0, ..gated(&up, &alone) }];
                    launch(
                        &lab,
                        &MatmulArgs::new(&outputs, x.block.address(), x.stride, tokens, epilogue),
                        size,
                    );
                    assert_eq!(
                        lab.download::<f32>(&alone),
                        lab.download::<f32>(&floats),
                        "{case}, floats alone"
                    );
                }
            }
        }
    }
}

/// A gated product beyond the range of halves is held at its end.
#[test]
fn gated_products_saturate() {
    for lab in Lab::all() {
        let mut noise = Noise(5);
        let (rows, cols, tokens) = (32, 256, 9);
        let [gate, up] = std::array::from_fn(|_| weights(&lab, Format::F16, rows, cols, 3e3, &mut noise));
        let x = input(&lab, tokens, cols, &mut noise);
        let halves = lab.poisoned::<u16>(256 * tokens);
        let outputs = [&gate, &up].map(|w| Output { matrix: w.matrix, ..Output::default() });
        let args = MatmulArgs::new(&outputs, x.block.address(), x.stride, tokens, Epilogue::GateSilu)
            .gated_to(halves.address(), 256);
        launch(&lab, &args, Size::Small);
        let found = halves_of(&lab, &halves);
        assert!(found.iter().all(|x| x.abs() <= 65504.0), "on {}", lab.name());
        assert!(found.contains(&65504.0) && found.contains(&-65504.0), "on {}", lab.name());
    }
}

#[test]
fn two_runs_give_the_same_bits() {
    for lab in Lab::all() {
        let mut noise = Noise(6);
        let (rows, cols, tokens) = (80, 768, 45);
        for format in FORMATS {
            let w = weights(&lab, format, rows, cols, 1.0, &mut noise);
            let x = input(&lab, tokens, cols, &mut noise);
            for size in Size::ALL {
                let run = || {
                    let to = lab.poisoned::<f32>(rows * tokens);
                    let args = MatmulArgs::new(
                        &[output(&w, &to)],
                        x.block.address(),
                        x.stride,
                        tokens,
                        Epilogue::Store,
                    );
                    launch(&lab, &args, size);
                    lab.download::<u32>(&to)
                };
                assert_eq!(run(), run(), "{format:?} {size:?} on {}", lab.name());
            }
        }
    }
}

#[test]
fn the_size_suits_the_product_and_the_device() {
    let args = |rows: u32, cols: u32, tokens| {
        let matrix = Matrix::new(0, rows as usize, cols as usize, TileFormat::Q4K);
        MatmulArgs::new(&[Output { matrix, ..Output::default() }], 0, cols as usize, tokens, Epilogue::Store)
    };
    assert_eq!(args(3072, 3072, 512).choose(8), Size::Large);
    assert_eq!(args(8192, 3072, 512).choose(132), Size::Large);
    assert_eq!(args(3072, 3072, 512).choose(132), Size::Medium);
    assert_eq!(args(3072, 3072, 64).choose(8), Size::Medium);
    assert_eq!(args(3072, 3072, 20).choose(8), Size::Small);
}

#[test]
fn staging_is_a_norm_of_a_sum_in_fragment_order() {
    for lab in Lab::all() {
        let mut noise = Noise(7);
        for (cols, rows) in [(64, 9), (300, 12), (1024, 10), (3072, 9)] {
            let stride = cols + 4;
            let [x, o] = std::array::from_fn(|_| noise.floats(stride * rows));
            let [post, weight] = std::array::from_fn(|_| noise.floats(cols));
            let [bx, bo, bpost, bnorm] = [&x, &o, &post, &weight].map(|v| lab.upload(v));
            let select: Vec<u32> = vec![1, 4, 7];
            let chosen = lab.upload(&select);
            let mean = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>() / v.len() as f64;
            // Whether there is o, its norm, a norm, an output of the sum, a selection.
            let cases = [
                [false; 5],
                [false, false, true, false, false],
                [true, false, true, true, false],
                [true, true, true, true, false],
                [true, true, true, false, true],
            ];
            for [with_o, with_post, with_norm, with_out, selected] in cases {
                let taken: Vec<usize> =
                    if selected { select.iter().map(|&r| r as usize).collect() } else { (0..rows).collect() };
                let (mut sums, mut normed) = (Vec::new(), Vec::new());
                for &row in &taken {
                    let part = |v: &[f32]| -> Vec<f64> {
                        v[row * stride..row * stride + cols].iter().map(|&x| f64::from(x)).collect()
                    };
                    let mut sum = part(&x);
                    if with_o {
                        let o = part(&o);
                        let factor = 1.0 / (mean(&o) + 1e-6).sqrt();
                        for i in 0..cols {
                            sum[i] += o[i] * if with_post { factor * f64::from(post[i]) } else { 1.0 };
                        }
                    }
                    let factor = 1.0 / (mean(&sum) + 1e-6).sqrt();
                    sums.extend_from_slice(&sum);
                    normed.extend(
                        (0..cols)
                            .map(|i| sum[i] * if with_norm { factor * f64::from(weight[i]) } else { 1.0 }),
                    );
                }
                let padded = StageF16Args::stride(cols);
                let (to, h) =
                    (lab.poisoned::<u16>(padded * taken.len()), lab.poisoned::<f32>(cols * taken.len()));
                let x_out = lab.upload(&x);
                let given = |yes: bool, block: &Block| if yes { block.address() } else { 0 };
                let args = StageF16Args {
                    source: Source {
                        x: bx.address(),
                        o: given(with_o, &bo),
                        post: given(with_post, &bpost),
                        norm: given(with_norm, &bnorm),
                        x_out: given(with_out, &x_out),
                        cols: cols as u32,
                        stride: stride as u32,
                        eps: 1e-6,
                        unused: 0,
                    },
                    select: given(selected, &chosen),
                    to: to.address(),
                    h: h.address(),
                    to_stride: padded as u32,
                    h_stride: cols as u32,
                };
                let launch = StageF16Args::launch(taken.len());
                lab.launch(StageF16Args::KERNEL, launch.grid, launch.threads, launch.shared_bytes, &args);
                let case = format!("{cols} columns, {with_o} {with_post} {with_norm} on {}", lab.name());
                let floats: Vec<f32> = lab.download(&h);
                close(&floats, &normed, 1e-6, &case);
                let found: Vec<u16> = lab.download(&to);
                for (row, values) in found.chunks(padded).enumerate() {
                    let mut expected = vec![0; padded];
                    for (col, value) in floats[row * cols..][..cols].iter().enumerate() {
                        expected[StageF16Args::place(col)] = f16::from_f32(*value).to_bits();
                    }
                    assert_eq!(values, expected, "{case}, row {row}");
                }
                if with_out {
                    let out: Vec<f32> = lab.download(&x_out);
                    let out: Vec<f32> = out.chunks(stride).flat_map(|row| row[..cols].to_vec()).collect();
                    close(&out, &sums, 1e-6, &format!("{case}, sum"));
                }
            }
        }
    }
}
