//! Products of 2 to 8 rows and the staging of their input, against f64 products of `quant`'s decoded weights.

use cuda::args::skinny::{MAX_ROWS, Precision, SkinnyArgs, kernel};
use cuda::args::stage8::{self, Stage8Args};
use cuda::args::{Epilogue, Matrix, Output, Source};
use cuda::driver::{Block, Launch};
use cuda::lab::Lab;
use cuda::tile::{ROWS, TileFormat, pack};

/// Numbers from a seed: SplitMix64.
struct Noise(u64);

impl Noise {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In [-1, 1), with a variance of 1/9: like weights and activations, more small ones than large ones.
    fn float(&mut self) -> f32 {
        let mut one = || (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0;
        (one() + one() + one()) / 3.0
    }

    fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.float()).collect()
    }
}

/// A random matrix: decoded, and its tiles on the device.
struct Weights {
    rows: usize,
    cols: usize,
    format: TileFormat,
    values: Vec<Vec<f32>>,
    tiles: Block,
}

impl Weights {
    fn random(lab: &Lab, format: TileFormat, rows: usize, cols: usize, noise: &mut Noise) -> Weights {
        let stored = format.format();
        let row_bytes = stored.row_bytes(cols).expect("whole blocks");
        let mut values = vec![vec![0.0; cols]; rows];
        let mut bytes = vec![vec![0; row_bytes]; rows];
        for (values, bytes) in values.iter_mut().zip(&mut bytes) {
            // A mean that is not zero: minimums and offsets count.
            let weights: Vec<f32> = noise.floats(cols).iter().map(|w| w * 0.1 + 0.02).collect();
            stored.encode(&weights, bytes).expect("all of these can be encoded");
            stored.decode(bytes, values);
        }
        let mut tiles = vec![0; rows.div_ceil(ROWS) * format.row_tile_bytes(cols)];
        for (rows, out) in bytes.chunks(ROWS).zip(tiles.chunks_mut(format.row_tile_bytes(cols))) {
            let rows: Vec<&[u8]> = rows.iter().map(Vec::as_slice).collect();
            pack(stored, &rows, cols, out).expect("nothing overflows");
        }
        Weights { rows, cols, format, values, tiles: lab.upload(&tiles) }
    }

    fn matrix(&self) -> Matrix {
        Matrix::new(self.tiles.address(), self.rows, self.cols, self.format)
    }

    /// The product with a row, in f64.
    fn times(&self, x: &[f64]) -> Vec<f64> {
        let product = |row: &Vec<f32>| row.iter().zip(x).map(|(&w, &x)| f64::from(w) * x).sum::<f64>();
        self.values.iter().map(product).collect()
    }
}

fn run<A: cuda::driver::Args>(lab: &Lab, kernel: &str, launch: Launch, args: &A) {
    lab.launch(kernel, launch.grid, launch.threads, launch.shared_bytes, args);
}

/// The input as `stage8` writes it, over poison.
struct Staged {
    bytes: Block,
    halves: Block,
}

impl Staged {
    fn new(lab: &Lab, source: Source, rows: usize) -> Staged {
        Staged::with(lab, Stage8Args::new(source, rows))
    }

    fn with(lab: &Lab, mut args: Stage8Args) -> Staged {
        let cols = args.source.cols as usize;
        let bytes = lab.poisoned::<u8>(stage8::bytes(cols));
        let halves = lab.poisoned::<u8>(stage8::halves(cols));
        (args.bytes, args.halves) = (bytes.address(), halves.address());
        run(lab, "stage8", args.launch(), &args);
        Staged { bytes, halves }
    }

    fn of(&self, format: TileFormat) -> u64 {
        if format == TileFormat::F16 { self.halves.address() } else { self.bytes.address() }
    }
}

fn plain(x: &Block, cols: usize) -> Source {
    Source { x: x.address(), cols: cols as u32, stride: cols as u32, ..Source::default() }
}

fn rms(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let n = values.clone().count().max(1) as f64;
    (values.map(|v| v * v).sum::<f64>() / n).sqrt()
}

/// Root mean square of the difference, relative to that of the truth; a single value may be six times off.
fn check(what: &str, result: &[f32], truth: &[f64], tolerance: f64) {
    assert_eq!(result.len(), truth.len(), "{what}");
    let size = rms(truth.iter().copied());
    let differences = result.iter().zip(truth).map(|(&a, &b)| f64::from(a) - b);
    let error = rms(differences.clone()) / size;
    assert!(error <= tolerance, "{what}: relative error {error:e}, not {tolerance:e}");
    let most = differences.map(f64::abs).fold(0.0, f64::max) / size;
    assert!(most <= 6.0 * tolerance, "{what}: largest relative error {most:e}");
}

fn precisions(rows: usize) -> Vec<Precision> {
    let packed = (Precision::exact(rows) == Precision::Packed).then_some(Precision::Packed);
    [Precision::Exact, Precision::Coarse].into_iter().chain(packed).collect()
}

/// What inputs of a precision allow, relative to the root mean square of a product of columns alike.
fn tolerance(precision: Precision) -> f64 {
    if precision == Precision::Coarse { 3e-2 } else { 1e-4 }
}

const SHAPES: [(usize, usize); 5] = [(16, 64), (40, 256), (16, 1024), (272, 512), (100, 1280)];

fn shapes(format: TileFormat) -> impl Iterator<Item = (usize, usize)> {
    let block = format.format().block_len();
    SHAPES.into_iter().filter(move |(_, cols)| cols.is_multiple_of(block))
}

#[test]
fn products_are_those_of_f64_for_every_format_shape_and_number_of_rows() {
    for lab in Lab::all() {
        let mut noise = Noise(1);
        for format in TileFormat::ALL {
            for (i, (rows, cols)) in shapes(format).enumerate() {
                let weights = Weights::random(&lab, format, rows, cols, &mut noise);
                let x = noise.floats(MAX_ROWS * cols);
                let on_device = lab.upload(&x);
                for n in if lab.is_emulated() { vec![2 + i, 8] } else { (1..=8).collect() } {
                    let staged = Staged::new(&lab, plain(&on_device, cols), n);
                    let truth: Vec<f64> = x
                        .chunks(cols)
                        .take(n)
                        .flat_map(|x| weights.times(&x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>()))
                        .collect();
                    for precision in precisions(n) {
                        let to = lab.poisoned::<f32>(n * rows);
                        let output = Output {
                            matrix: weights.matrix(),
                            to: to.address(),
                            stride: rows as u32,
                            ..Output::default()
                        };
                        let args = SkinnyArgs::new(&[output], staged.of(format), n, Epilogue::Store, 0.0);
                        let launch = if i == 0 { args.spread(8) } else { args.launch(3 * i as u32) };
                        run(&lab, kernel(format, precision), launch, &args);
                        let what =
                            format!("{format:?} {rows}x{cols}, {n} rows, {precision:?}, {}", lab.name());
                        let first = lab.download::<f32>(&to);
                        check(&what, &first, &truth, tolerance(precision));
                        run(&lab, kernel(format, precision), launch, &args);
                        let bits =
                            |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
                        assert_eq!(bits(lab.download(&to)), bits(first), "{what}: two runs differ");
                    }
                }
            }
        }
    }
}

#[test]
fn one_activation_of_a_thousand_times_the_others_costs_what_sixteen_bits_allow() {
    for lab in Lab::all() {
        let mut noise = Noise(2);
        let (rows, cols, n) = (32, 512, 5);
        for format in TileFormat::ALL {
            let weights = Weights::random(&lab, format, rows, cols, &mut noise);
            let mut x = noise.floats(n * cols);
            for row in 0..n {
                x[row * cols + 37 * row + 5] *= 1000.0;
            }
            let on_device = lab.upload(&x);
            let staged = Staged::new(&lab, plain(&on_device, cols), n);
            let to = lab.poisoned::<f32>(n * rows);
            let output = Output {
                matrix: weights.matrix(),
                to: to.address(),
                stride: rows as u32,
                ..Output::default()
            };
            let args = SkinnyArgs::new(&[output], staged.of(format), n, Epilogue::Store, 0.0);
            let launch = args.spread(8);
            run(&lab, kernel(format, Precision::Exact), launch, &args);
            let result = lab.download::<f32>(&to);
            for (row, result) in result.chunks(rows).enumerate() {
                let x: Vec<f64> = x[row * cols..][..cols].iter().map(|&x| f64::from(x)).collect();
                // Rounding of 256 columns of the outlier's tile, 0.29 units each, three times its deviation:
                // all rows of the matrix see the same rounding, so they do not average it out.
                let unit = x.iter().fold(0.0, |most: f64, x| most.max(x.abs())) / 32512.0;
                let weight = rms(weights.values.iter().flatten().map(|&w| f64::from(w)));
                let truth = weights.times(&x);
                let allowed = unit * weight * 16.0 * 0.29 * 3.0 / rms(truth.iter().copied());
                let allowed = if format == TileFormat::F16 { 1e-6 } else { allowed };
                check(&format!("{format:?} row {row}, {}", lab.name()), result, &truth, allowed);
            }
        }
    }
}

fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + (0.797_884_560_802_865_4 * (x + 0.044_715 * x * x * x)).tanh())
}

#[test]
fn epilogues_see_biases_and_write_only_their_rows() {
    for lab in Lab::all() {
        let mut noise = Noise(3);
        let (cols, n, stride) = (512, 3, 80);
        let shapes = [40, 16, 72];
        let format = TileFormat::Q4K;
        let weights: Vec<Weights> =
            shapes.iter().map(|&rows| Weights::random(&lab, format, rows, cols, &mut noise)).collect();
        let biases: Vec<Vec<f32>> = shapes.iter().map(|&rows| noise.floats(rows)).collect();
        let bias_blocks: Vec<Block> = biases.iter().map(|bias| lab.upload(bias)).collect();
        let x = noise.floats(n * cols);
        let on_device = lab.upload(&x);
        let staged = Staged::new(&lab, plain(&on_device, cols), n);
        let truths: Vec<Vec<Vec<f64>>> = (0..3)
            .map(|i| {
                let products = x
                    .chunks(cols)
                    .map(|x| weights[i].times(&x.iter().map(|&x| x.into()).collect::<Vec<_>>()));
                let biased = |p: Vec<f64>| p.iter().zip(&biases[i]).map(|(p, &b)| p + f64::from(b)).collect();
                products.map(biased).collect()
            })
            .collect();
        let before = noise.floats(n * stride);
        for parts in [1, 2] {
            for (epilogue, count) in [(Epilogue::Store, 3), (Epilogue::Add, 2), (Epilogue::Cap, 1)] {
                let to: Vec<Block> = (0..count).map(|_| lab.upload(&before)).collect();
                let outputs: Vec<Output> = (0..count)
                    .map(|i| Output {
                        matrix: weights[i].matrix(),
                        bias: bias_blocks[i].address(),
                        to: to[i].address(),
                        stride: stride as u32,
                        ..Output::default()
                    })
                    .collect();
                let args = SkinnyArgs::new(&outputs, staged.of(format), n, epilogue, 0.5);
                let launch = args.launch(parts);
                run(&lab, "skinny4_q4_k", launch, &args);
                for i in 0..count {
                    let result = lab.download::<f32>(&to[i]);
                    for row in 0..n {
                        let old = &before[row * stride..][..stride];
                        let new = &result[row * stride..][..stride];
                        let truth: Vec<f64> = truths[i][row]
                            .iter()
                            .zip(old)
                            .map(|(&p, &old)| match epilogue {
                                Epilogue::Add => p + f64::from(old),
                                Epilogue::Cap => 0.5 * (p / 0.5).tanh(),
                                _ => p,
                            })
                            .collect();
                        let what =
                            format!("{epilogue:?} output {i} row {row}, {parts} parts, {}", lab.name());
                        check(&what, &new[..shapes[i]], &truth, 1e-4);
                        assert_eq!(new[shapes[i]..], old[shapes[i]..], "{what}: written beyond the matrix");
                    }
                }
            }
        }
    }
}

#[test]
fn gates_multiply_what_goes_up() {
    for lab in Lab::all() {
        let mut noise = Noise(4);
        let (rows, cols, n) = (56, 512, 6);
        for format in TileFormat::ALL {
            let gate = Weights::random(&lab, format, rows, cols, &mut noise);
            let up = Weights::random(&lab, format, rows, cols, &mut noise);
            let x: Vec<f32> = noise.floats(n * cols).iter().map(|x| x * 3.0).collect();
            let bias = noise.floats(rows);
            let (on_device, bias_block) = (lab.upload(&x), lab.upload(&bias));
            let staged = Staged::new(&lab, plain(&on_device, cols), n);
            for (epilogue, act) in [(Epilogue::GateSilu, silu as fn(f64) -> f64), (Epilogue::GateGelu, gelu)]
            {
                let to = lab.poisoned::<f32>(n * rows);
                let stride = rows as u32;
                let first = Output { matrix: gate.matrix(), to: to.address(), stride, ..Output::default() };
                let second = Output { matrix: up.matrix(), bias: bias_block.address(), ..Output::default() };
                let args = SkinnyArgs::new(&[first, second], staged.of(format), n, epilogue, 0.0);
                let launch = args.spread(8);
                run(&lab, kernel(format, Precision::Exact), launch, &args);
                let truth: Vec<f64> = x
                    .chunks(cols)
                    .flat_map(|x| {
                        let x: Vec<f64> = x.iter().map(|&x| x.into()).collect();
                        let up = up.times(&x).into_iter().zip(&bias).map(|(u, &b)| u + f64::from(b));
                        gate.times(&x).into_iter().zip(up).map(|(g, u)| act(g) * u).collect::<Vec<_>>()
                    })
                    .collect();
                check(&format!("{format:?} {epilogue:?}, {}", lab.name()), &lab.download(&to), &truth, 1e-4);
            }
        }
    }
}

/// Rows of x + rms(o) · post, and their norm, in f64.
fn residual_and_norm(
    x: &[f32],
    o: Option<&[f32]>,
    post: Option<&[f32]>,
    norm: Option<&[f32]>,
) -> [Vec<f64>; 2] {
    let scaled = |v: &[f64], by: &[f32]| -> Vec<f64> {
        let mean = v.iter().map(|v| v * v).sum::<f64>() / v.len() as f64;
        v.iter().zip(by).map(|(v, &w)| v / (mean + 1e-5).sqrt() * f64::from(w)).collect()
    };
    let mut sum: Vec<f64> = x.iter().map(|&x| x.into()).collect();
    if let Some(o) = o {
        let o: Vec<f64> = o.iter().map(|&o| o.into()).collect();
        let o = post.map_or(o.clone(), |post| scaled(&o, post));
        sum.iter_mut().zip(o).for_each(|(x, o)| *x += o);
    }
    let normed = norm.map_or(sum.clone(), |norm| scaled(&sum, norm));
    [sum, normed]
}

#[test]
fn staging_adds_norms_selects_and_leaves_other_rows_zero() {
    for lab in Lab::all() {
        let mut noise = Noise(5);
        // A width that is not whole tiles, and one that is not whole fours: F16 may have it.
        for (cols, stride) in [(2080, 2080), (301, 305)] {
            let rows = 4;
            let weights = Weights::random(&lab, TileFormat::F16, 24, cols, &mut noise);
            let wide = Weights::random(&lab, TileFormat::Q8_0, 24, cols.next_multiple_of(32), &mut noise);
            let (x, o) = (noise.floats(rows * stride), noise.floats(rows * stride));
            let (post, norm) = (noise.floats(cols), noise.floats(cols));
            let blocks = [&x, &o, &post, &norm].map(|values| lab.upload(values));
            let select = [3_u32, 1];
            let select_block = lab.upload(&select);
            for case in 0..5 {
                let has_o = case >= 1;
                let has_post = case >= 2;
                let has_norm = case >= 3;
                let chosen = case == 4;
                let count = if chosen { select.len() } else { 3 };
                let x_out = lab.poisoned::<f32>(count * stride);
                let normed = lab.poisoned::<f32>(count * stride);
                let source = Source {
                    x: blocks[0].address(),
                    o: if has_o { blocks[1].address() } else { 0 },
                    post: if has_post { blocks[2].address() } else { 0 },
                    norm: if has_norm { blocks[3].address() } else { 0 },
                    x_out: if chosen { 0 } else { x_out.address() },
                    cols: cols as u32,
                    stride: stride as u32,
                    eps: 1e-5,
                    unused: 0,
                };
                let args = Stage8Args {
                    select: if chosen { select_block.address() } else { 0 },
                    normed: normed.address(),
                    ..Stage8Args::new(source, count)
                };
                let staged = Staged::with(&lab, args);
                let what = format!("case {case}, {cols} columns, {}", lab.name());
                let (x_out, normed) = (lab.download::<f32>(&x_out), lab.download::<f32>(&normed));
                let mut inputs = vec![];
                for row in 0..count {
                    let from = if chosen { select[row] as usize } else { row } * stride;
                    let part = |values: &'_ Vec<f32>| values[from..from + cols].to_vec();
                    let (x, o) = (part(&x), part(&o));
                    let [sum, input] = residual_and_norm(
                        &x,
                        has_o.then_some(&o[..]),
                        has_post.then_some(&post[..]),
                        has_norm.then_some(&norm[..]),
                    );
                    if !chosen {
                        check(&format!("{what}: x"), &x_out[row * stride..][..cols], &sum, 1e-6);
                    }
                    check(&format!("{what}: norm"), &normed[row * stride..][..cols], &input, 1e-6);
                    inputs.push(input);
                }
                for weights in [&weights, &wide] {
                    // Four rows where there are fewer: those missing are zero.
                    let to = lab.poisoned::<f32>(4 * 24);
                    let output = Output {
                        matrix: weights.matrix(),
                        to: to.address(),
                        stride: 24,
                        ..Output::default()
                    };
                    let args = SkinnyArgs::new(&[output], staged.of(weights.format), 4, Epilogue::Store, 0.0);
                    let launch = args.launch(3);
                    run(&lab, kernel(weights.format, Precision::Packed), launch, &args);
                    let result = lab.download::<f32>(&to);
                    for (row, input) in inputs.iter().enumerate() {
                        check(&what, &result[row * 24..][..24], &weights.times(input), 1e-4);
                    }
                    assert!(result[count * 24..].iter().all(|&v| v == 0.0), "{what}: rows that are missing");
                }
            }
        }
    }
}

#[test]
fn inputs_that_are_not_finite_show_in_every_product_of_their_row() {
    for lab in Lab::all() {
        let mut noise = Noise(6);
        let (rows, cols, n) = (16, 256, 2);
        for format in TileFormat::ALL {
            let weights = Weights::random(&lab, format, rows, cols, &mut noise);
            for bad in [f32::NAN, f32::INFINITY] {
                let mut x = noise.floats(n * cols);
                x[cols + 77] = bad;
                let on_device = lab.upload(&x);
                let staged = Staged::new(&lab, plain(&on_device, cols), n);
                let to = lab.zeroed::<f32>(n * rows);
                let output = Output {
                    matrix: weights.matrix(),
                    to: to.address(),
                    stride: rows as u32,
                    ..Output::default()
                };
                let args = SkinnyArgs::new(&[output], staged.of(format), n, Epilogue::Store, 0.0);
                let launch = args.spread(8);
                run(&lab, kernel(format, Precision::Packed), launch, &args);
                let result = lab.download::<f32>(&to);
                assert!(result[..rows].iter().all(|v| v.is_finite()), "{format:?}: the other row");
                assert!(result[rows..].iter().all(|v| v.is_nan()), "{format:?}: {bad} went unseen");
            }
        }
    }
}
