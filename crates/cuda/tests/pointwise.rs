//! The first kernel of a step and those between products, against `quant`'s decoder and f64.

use cuda::args::begin::{BeginArgs, TABLES, Turns};
use cuda::args::common::{Epilogue, Matrix};
use cuda::args::pointwise::{GateArgs, NormArgs, ResidualArgs, SelectArgs};
use cuda::driver::{Args, Launch};
use cuda::lab::Lab;
use cuda::tile::{ROWS, TileFormat, pack};
use model::rope::RopeTable;
use quant::Format;

/// Numbers in [-1, 1) from a seed: SplitMix64.
struct Noise(u64);

impl Noise {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn float(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.float()).collect()
    }
}

fn launch<A: Args>(lab: &Lab, kernel: &str, launch: Launch, args: &A) {
    lab.launch(kernel, launch.grid, launch.threads, launch.shared_bytes, args);
}

/// A random matrix in a file's format, and in tiles.
fn table(format: Format, rows: usize, cols: usize, noise: &mut Noise) -> (Vec<Vec<u8>>, Vec<u8>) {
    let bytes = format.row_bytes(cols).expect("whole blocks");
    let stored: Vec<Vec<u8>> = (0..rows)
        .map(|_| {
            let mut row = vec![0; bytes];
            format.encode(&noise.floats(cols), &mut row).expect("all of these can be encoded");
            row
        })
        .collect();
    let (tile, _) = TileFormat::of(format);
    let mut tiles = vec![0; rows.div_ceil(ROWS) * tile.row_tile_bytes(cols)];
    for (rows, out) in stored.chunks(ROWS).zip(tiles.chunks_mut(tile.row_tile_bytes(cols))) {
        let rows: Vec<&[u8]> = rows.iter().map(Vec::as_slice).collect();
        pack(format, &rows, cols, out).expect("nothing overflows");
    }
    (stored, tiles)
}

#[test]
fn embedding_rows_are_those_of_the_decoder() {
    let cases = [
        (Format::Q4_K, 40, 512),
        (Format::Q5_K, 17, 256),
        (Format::Q6_K, 33, 768),
        (Format::Q8_0, 20, 288),
        (Format::Q4_0, 16, 96),
        (Format::F16, 50, 300),
    ];
    for lab in Lab::all() {
        let mut noise = Noise(1);
        for (format, vocab, dim) in cases {
            let (stored, tiles) = table(format, vocab, dim, &mut noise);
            let tiles = lab.upload(&tiles);
            let tokens: Vec<u32> = (0..vocab as u32).rev().chain([3, 3, u32::MAX]).collect();
            let (token, position) = (lab.upload(&tokens), lab.zeroed::<u32>(tokens.len()));
            let x = lab.poisoned::<f32>(tokens.len() * dim);
            let scale = 11.3f32;
            let args = BeginArgs {
                table: Matrix::new(tiles.address(), vocab, dim, TileFormat::of(format).0),
                token: token.address(),
                position: position.address(),
                x: x.address(),
                scale,
                ..BeginArgs::default()
            };
            launch(&lab, BeginArgs::KERNEL, args.launch(tokens.len()), &args);
            let got = lab.download::<f32>(&x);
            for (&token, got) in tokens.iter().zip(got.chunks_exact(dim)) {
                let mut expected = vec![0.0; dim];
                format.decode(&stored[(token as usize).min(vocab - 1)], &mut expected);
                let same = expected.iter().zip(got).all(|(e, g)| (e * scale).to_bits() == g.to_bits());
                assert!(same, "{format:?}, token {token}, on {}", lab.name());
            }
        }
    }
}

#[test]
fn turns_are_sine_and_cosine_of_the_rounded_angle() {
    let table = |base: f64, half: usize, magnitude: f32| RopeTable {
        frequency: (0..half).map(|i| base.powf(-(i as f64) / half as f64) as f32).collect(),
        magnitude,
    };
    let ropes = [table(10_000.0, 64, 1.0), table(1e6, 32, 1.1386), table(500_000.0, 40, 0.7)];
    let mut positions: Vec<u32> = vec![0, 1, 2, 3, 127, 4095, 4096, 65535, 131_070, 131_071];
    let mut noise = Noise(2);
    positions.extend((0..70).map(|_| (noise.bits() % 131_072) as u32));
    for lab in Lab::all() {
        let (stored, tiles) = self::table(Format::F16, 1, 4, &mut noise);
        assert_eq!(stored.len(), 1);
        let tiles = lab.upload(&tiles);
        let (token, position) = (lab.zeroed::<u32>(positions.len()), lab.upload(&positions));
        let x = lab.poisoned::<f32>(positions.len() * 4);
        let frequencies = ropes.each_ref().map(|rope| lab.upload(&rope.frequency));
        let to = ropes.each_ref().map(|rope| lab.poisoned::<f32>(positions.len() * rope.frequency.len() * 2));
        let mut turns = [Turns::default(); TABLES];
        for (i, rope) in ropes.iter().enumerate() {
            turns[i] = Turns {
                frequency: frequencies[i].address(),
                to: to[i].address(),
                magnitude: rope.magnitude,
                half: rope.frequency.len() as u32,
            };
        }
        let args = BeginArgs {
            table: Matrix::new(tiles.address(), 1, 4, TileFormat::F16),
            token: token.address(),
            position: position.address(),
            x: x.address(),
            turns,
            scale: 1.0,
            tables: 3,
        };
        launch(&lab, BeginArgs::KERNEL, args.launch(positions.len()), &args);
        let (mut differ, mut all) = (0, 0);
        for (rope, to) in ropes.iter().zip(&to) {
            let half = rope.frequency.len();
            let got = lab.download::<f32>(to);
            for (&position, got) in positions.iter().zip(got.chunks_exact(2 * half)) {
                let (mut cos, mut sin) = (vec![0.0; half], vec![0.0; half]);
                rope.fill(position, &mut cos, &mut sin);
                for (i, pair) in got.chunks_exact(2).enumerate() {
                    for (value, expected) in [(pair[0], cos[i]), (pair[1], sin[i])] {
                        let bound = 1e-7 * rope.magnitude as f64;
                        let error = (value as f64 - expected as f64).abs();
                        assert!(
                            error <= bound,
                            "{position}, pair {i}: {value}, not {expected}, on {}",
                            lab.name()
                        );
                        differ += usize::from(value.to_bits() != expected.to_bits());
                        all += 1;
                    }
                }
            }
        }
        // Only values within 3e-14 of the middle between two floats may be rounded to the other one.
        assert!(differ * 1000 <= all, "{differ} of {all} differ in the last bit on {}", lab.name());
    }
}

/// x / rms(x) in f64.
fn normed(x: &[f32], eps: f32) -> Vec<f64> {
    let mean = x.iter().map(|&v| v as f64 * v as f64).sum::<f64>() / x.len() as f64;
    x.iter().map(|&v| v as f64 / (mean + eps as f64).sqrt()).collect()
}

/// Sums of these parts, within 1e-6 of the larger part.
fn close(got: &[f32], expected: &[[f64; 2]], what: &str) {
    assert_eq!(got.len(), expected.len());
    for (i, (&got, [a, b])) in got.iter().zip(expected).enumerate() {
        let error = (got as f64 - (a + b)).abs();
        assert!(error <= 1e-6 * a.abs().max(b.abs()) + 1e-9, "{what}, {i}: {got}, not {}", a + b);
    }
}

#[test]
fn norms_and_residuals_agree_with_f64() {
    let eps = 1e-5;
    for lab in Lab::all() {
        let mut noise = Noise(3);
        for (rows, cols) in [(1, 4), (3, 96), (2, 1028), (5, 4096)] {
            let (x, o) = (noise.floats(rows * cols), noise.floats(rows * cols));
            let (weight, post) = (noise.floats(cols), noise.floats(cols));
            let (xs, os, weights, posts) =
                (lab.upload(&x), lab.upload(&o), lab.upload(&weight), lab.upload(&post));
            let to = lab.poisoned::<f32>(rows * cols);
            let args = NormArgs {
                x: xs.address(),
                weight: weights.address(),
                to: to.address(),
                cols: cols as u32,
                eps,
            };
            launch(&lab, NormArgs::KERNEL, NormArgs::launch(rows), &args);
            for (x, got) in x.chunks_exact(cols).zip(lab.download::<f32>(&to).chunks_exact(cols)) {
                let expected: Vec<_> =
                    normed(x, eps).iter().zip(&weight).map(|(n, &w)| [n * w as f64, 0.0]).collect();
                close(got, &expected, "norm");
            }
            let args = ResidualArgs { x: xs.address(), o: os.address(), post: 0, cols: cols as u32, eps };
            launch(&lab, ResidualArgs::KERNEL, ResidualArgs::launch(rows), &args);
            let sum: Vec<f32> = x.iter().zip(&o).map(|(x, o)| x + o).collect();
            assert_eq!(lab.download::<f32>(&xs), sum, "a sum is exact on {}", lab.name());
            let args = ResidualArgs { post: posts.address(), ..args };
            launch(&lab, ResidualArgs::KERNEL, ResidualArgs::launch(rows), &args);
            let got = lab.download::<f32>(&xs);
            for (row, got) in got.chunks_exact(cols).enumerate() {
                let normed = normed(&o[row * cols..][..cols], eps);
                let parts = |i: usize| [sum[row * cols + i] as f64, normed[i] * post[i] as f64];
                close(got, &(0..cols).map(parts).collect::<Vec<_>>(), "residual");
            }
        }
    }
}

#[test]
fn gates_agree_with_f64() {
    let silu = |x: f64| x / (1.0 + (-x).exp());
    let gelu =
        |x: f64| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh());
    for lab in Lab::all() {
        let mut noise = Noise(4);
        let (rows, cols) = (7, 516);
        let mut gate: Vec<f32> = noise.floats(rows * cols).iter().map(|v| v * 12.0).collect();
        gate[..6].copy_from_slice(&[0.0, -0.0, 100.0, -100.0, 3000.0, -3000.0]);
        let up = noise.floats(rows * cols);
        let (gates, ups, to) = (lab.upload(&gate), lab.upload(&up), lab.poisoned::<f32>(rows * cols));
        for (activation, exact) in
            [(Epilogue::GateSilu, &silu as &dyn Fn(f64) -> f64), (Epilogue::GateGelu, &gelu)]
        {
            let args = GateArgs {
                gate: gates.address(),
                up: ups.address(),
                to: to.address(),
                cols: cols as u32,
                rows: rows as u32,
                activation: activation as u32,
                unused: 0,
            };
            launch(&lab, GateArgs::KERNEL, args.launch(2), &args);
            for (i, got) in lab.download::<f32>(&to).into_iter().enumerate() {
                let expected = exact(gate[i] as f64) * up[i] as f64;
                // tanh is within 2e-7 of its value absolutely.
                let bound = 1e-6 * expected.abs() + 4e-7 * (gate[i] * up[i]).abs() as f64;
                assert!(
                    (got as f64 - expected).abs() <= bound,
                    "{activation:?}({}): {got}, not {expected}",
                    gate[i]
                );
            }
        }
    }
}

#[test]
fn chosen_rows_move_to_the_front() {
    for lab in Lab::all() {
        let mut noise = Noise(5);
        let (x, a) = (noise.floats(9 * 1100), noise.floats(9 * 64));
        let select = [0u32, 2, 3, 8];
        let (xs, others, selects) = (lab.upload(&x), lab.upload(&a), lab.upload(&select));
        let to = lab.poisoned::<f32>(4 * 64);
        let args = SelectArgs {
            from: [xs.address(), others.address()],
            to: [xs.address(), to.address()],
            select: selects.address(),
            cols: [1100, 64],
            count: 4,
            unused: 0,
        };
        launch(&lab, SelectArgs::KERNEL, args.launch(), &args);
        let pick = |from: &[f32], cols: usize| -> Vec<f32> {
            select.iter().flat_map(|&row| from[row as usize * cols..][..cols].to_vec()).collect()
        };
        assert_eq!(lab.download::<f32>(&xs)[..4 * 1100], pick(&x, 1100));
        assert_eq!(lab.download::<f32>(&to), pick(&a, 64));
        let args =
            SelectArgs { from: [others.address(), 0], to: [others.address(), 0], cols: [64, 0], ..args };
        launch(&lab, SelectArgs::KERNEL, args.launch(), &args);
        assert_eq!(lab.download::<f32>(&others)[..4 * 64], pick(&a, 64));
    }
}
