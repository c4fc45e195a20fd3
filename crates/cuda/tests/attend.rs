//! Attention and what stores its cache, against f64 over the cache's own f16 numbers.
//!
//! Everything a kernel must not read is NaN: cache positions that are not there, behind a window or in
//! pages of others, and outputs before they are written.
#![allow(unsafe_code, reason = "addresses of blocks that outlive the launch")]

use cuda::args::attend::{AttendArgs, Attention, Kind, NOWHERE, QueryTile};
use cuda::args::rope::{Cache, Rope, RopeStoreArgs, width};
use cuda::driver::{Block, Plain};
use cuda::lab::Lab;
use half::f16;
use testkit::golden::relative_error;

const PAGE: usize = 32;
/// Of the root mean square: the kernels round queries and weights to f16, 2^-12 each on average.
const TOLERANCE: f64 = 1e-3;
/// Of the largest single error, in the root mean square of all.
const WORST: f64 = 6e-3;

/// Numbers from a seed: SplitMix64.
struct Noise(u64);

impl Noise {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In [-2, 2).
    fn float(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 22) as f32 - 2.0
    }

    fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.float()).collect()
    }

    fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }
}

/// Rows of one slot: `cached` positions are in the cache, `new` rows follow.
#[derive(Clone, Copy, Debug)]
struct Run {
    cached: usize,
    new: usize,
}

#[derive(Clone, Debug)]
struct Case {
    head_dim: usize,
    kv_heads: usize,
    group: usize,
    /// Run i is slot i.
    runs: Vec<Run>,
    window: Option<usize>,
    cap: f32,
    norms: bool,
    half: usize,
    splits: usize,
    min_pages: usize,
}

/// What a case looks like on a device and off it.
struct World {
    case: Case,
    rows: usize,
    position: Vec<u32>,
    slot: Vec<u32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    q_norm: Vec<f32>,
    k_norm: Vec<f32>,
    turns: Vec<f32>,
    table: Vec<u32>,
    table_stride: usize,
    /// Halves before the layer in a page, and of a page.
    skipped: usize,
    page_stride: usize,
    cache: Vec<u16>,
}

const EPS: f32 = 1e-5;
const NAN: u16 = 0xffff;

impl World {
    fn new(case: &Case, seed: u64) -> World {
        let mut noise = Noise(seed);
        let n = case.head_dim;
        let wide = width(n).expect("a size there is");
        let block = case.kv_heads * PAGE * wide;
        // The second of three layers.
        let (skipped, page_stride) = (2 * block, 6 * block);
        let longest = case.runs.iter().map(|run| run.cached + run.new).max().expect("a run");
        let per_slot = longest.div_ceil(PAGE);
        let table_stride = 2 * per_slot + 1;
        let pages = case.runs.len() * per_slot + 2;
        let mut order: Vec<u32> = (0..pages as u32).collect();
        for i in (1..pages).rev() {
            order.swap(i, noise.below(i + 1));
        }
        let mut table = vec![u32::MAX; case.runs.len() * table_stride];
        let mut cache = vec![NAN; pages * page_stride];
        let (mut position, mut slot) = (vec![], vec![]);
        for (s, run) in case.runs.iter().enumerate() {
            for i in 0..(run.cached + run.new).div_ceil(PAGE) {
                table[s * table_stride + i] = order[s * per_slot + i];
            }
            for p in 0..run.new {
                position.push((run.cached + p) as u32);
                slot.push(s as u32);
            }
            let first = case.window.map_or(0, |window| (run.cached + 1).saturating_sub(window));
            for p in first..run.cached {
                let page = table[s * table_stride + p / PAGE] as usize * page_stride + skipped;
                for head in 0..case.kv_heads {
                    for d in 0..wide {
                        let mut number = || if d < n { f16::from_f32(noise.float()).to_bits() } else { 0 };
                        cache[page + (head * PAGE + p % PAGE) * wide + d] = number();
                        cache[page + block + (head * wide + d) * PAGE + p % PAGE] = number();
                    }
                }
            }
        }
        let rows = position.len();
        let angle = |i: usize, p: u32| f64::from(p) * 0.7f64.powi(i as i32);
        let turn = |&p: &u32| {
            (0..case.half).flat_map(move |i| [angle(i, p).cos() as f32 * 1.1, angle(i, p).sin() as f32 * 1.1])
        };
        World {
            rows,
            turns: position.iter().flat_map(turn).collect(),
            q: noise.floats(rows * case.kv_heads * case.group * n),
            k: noise.floats(rows * case.kv_heads * n),
            v: noise.floats(rows * case.kv_heads * n),
            q_norm: noise.floats(n),
            k_norm: noise.floats(n),
            case: case.clone(),
            position,
            slot,
            table,
            table_stride,
            skipped,
            page_stride,
            cache,
        }
    }

    fn scale(&self) -> f32 {
        // Scores of a few units: neither flat nor a single winner.
        1.5 / (self.case.head_dim as f32).sqrt()
    }

    fn shape(&self) -> Attention {
        let Case { head_dim, kv_heads, group, .. } = self.case;
        Attention { heads: kv_heads * group, kv_heads, head_dim }
    }

    /// Norm and rotation of a head in f64.
    fn turned(&self, row: usize, head: &[f32], norm: &[f32]) -> Vec<f64> {
        let mut x: Vec<f64> = head.iter().map(|&x| f64::from(x)).collect();
        if self.case.norms {
            let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
            let factor = 1.0 / (mean + f64::from(EPS)).sqrt();
            x.iter_mut().zip(norm).for_each(|(x, &w)| *x *= factor * f64::from(w));
        }
        let half = self.case.half;
        for i in 0..half {
            let at = (row * half + i) * 2;
            let (cos, sin) = (f64::from(self.turns[at]), f64::from(self.turns[at + 1]));
            let (low, high) = (x[i], x[i + half]);
            (x[i], x[i + half]) = (low * cos - high * sin, low * sin + high * cos);
        }
        x
    }

    fn page(&self, row: usize, position: usize) -> usize {
        let page = self.table[self.slot[row] as usize * self.table_stride + position / PAGE] as usize;
        page * self.page_stride + self.skipped
    }

    /// The cache after the step's rows are stored, and the turned queries.
    fn stored(&self) -> (Vec<u16>, Vec<f64>) {
        let Case { head_dim: n, kv_heads, group, .. } = self.case;
        let wide = width(n).expect("a size there is");
        let mut cache = self.cache.clone();
        let mut q = vec![];
        for row in 0..self.rows {
            for head in 0..kv_heads * group {
                let at = (row * kv_heads * group + head) * n;
                q.extend(self.turned(row, &self.q[at..][..n], &self.q_norm));
            }
            let p = self.position[row] as usize;
            let page = self.page(row, p);
            for head in 0..kv_heads {
                let at = (row * kv_heads + head) * n;
                let k = self.turned(row, &self.k[at..][..n], &self.k_norm);
                for d in 0..wide {
                    let to = page + (head * PAGE + p % PAGE) * wide + d;
                    cache[to] = k.get(d).map_or(0, |&k| f16::from_f64(k).to_bits());
                    let to = page + kv_heads * PAGE * wide + (head * wide + d) * PAGE + p % PAGE;
                    let v = if d < n { self.v[at + d] } else { 0.0 };
                    cache[to] = f16::from_f32(v).to_bits();
                }
            }
        }
        (cache, q)
    }

    /// Attention in f64.
    fn truth(&self) -> Vec<f32> {
        let Case { head_dim: n, kv_heads, group, window, cap, .. } = self.case;
        let wide = width(n).expect("a size there is");
        let (cache, q) = self.stored();
        let number = |at: usize| f64::from(f16::from_bits(cache[at]));
        let mut out = vec![];
        for row in 0..self.rows {
            let last = self.position[row] as usize;
            let first = window.map_or(0, |window| (last + 1).saturating_sub(window));
            for head in 0..kv_heads * group {
                let q = &q[(row * kv_heads * group + head) * n..][..n];
                let kv = head / group;
                let score = |p: usize| {
                    let at = self.page(row, p) + (kv * PAGE + p % PAGE) * wide;
                    let dot: f64 = q.iter().enumerate().map(|(d, q)| q * number(at + d)).sum();
                    let (score, cap) = (dot * f64::from(self.scale()), f64::from(cap));
                    if cap > 0.0 { cap * (score / cap).tanh() } else { score }
                };
                let scores: Vec<f64> = (first..=last).map(score).collect();
                let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
                let sum: f64 = weights.iter().sum();
                for d in 0..n {
                    let value = |p: usize| {
                        let at = self.page(row, p) + kv_heads * PAGE * wide;
                        number(at + (kv * wide + d) * PAGE + p % PAGE)
                    };
                    let mixed: f64 = (first..=last).zip(&weights).map(|(p, w)| w * value(p)).sum();
                    out.push((mixed / sum) as f32);
                }
            }
        }
        out
    }
}

/// A world's buffers on a device.
struct There<'a> {
    lab: &'a Lab,
    world: &'a World,
    q: Block,
    k: Block,
    v: Block,
    position: Block,
    slot: Block,
    norms: [Block; 2],
    turns: Block,
    table: Block,
    cache: Block,
}

impl<'a> There<'a> {
    fn new(lab: &'a Lab, world: &'a World) -> There<'a> {
        There {
            q: lab.upload(&world.q),
            k: lab.upload(&world.k),
            v: lab.upload(&world.v),
            position: lab.upload(&world.position),
            slot: lab.upload(&world.slot),
            norms: [lab.upload(&world.q_norm), lab.upload(&world.k_norm)],
            turns: lab.upload(&world.turns),
            table: lab.upload(&world.table),
            cache: lab.upload(&world.cache),
            lab,
            world,
        }
    }

    fn cache(&self) -> Cache {
        Cache {
            pages: self.cache.address() + 2 * self.world.skipped as u64,
            table: self.table.address(),
            page_stride: self.world.page_stride as u32,
            table_stride: self.world.table_stride as u32,
        }
    }

    fn rope(&self) -> Rope {
        let norm = |i: usize| if self.world.case.norms { self.norms[i].address() } else { 0 };
        Rope {
            q_norm: norm(0),
            k_norm: norm(1),
            turns: self.turns.address(),
            half: self.world.case.half as u32,
            eps: EPS,
        }
    }

    fn store(&self) {
        let shape = self.world.shape();
        let args = RopeStoreArgs {
            q: self.q.address(),
            k: self.k.address(),
            v: self.v.address(),
            position: self.position.address(),
            slot: self.slot.address(),
            cache: self.cache(),
            rope: self.rope(),
            rows: self.world.rows as u32,
            heads: shape.heads as u32,
            kv_heads: shape.kv_heads as u32,
            head_dim: shape.head_dim as u32,
            width: width(shape.head_dim).expect("a size there is") as u32,
            unused: 0,
        };
        let launch = args.launch();
        self.lab.launch(RopeStoreArgs::KERNEL, launch.grid, launch.threads, launch.shared_bytes, &args);
    }

    /// The arguments of attention over tiles of `tile_rows` rows.
    fn args(&self, tile_rows: usize) -> AttendArgs {
        let (shape, case) = (self.world.shape(), &self.world.case);
        AttendArgs {
            q: self.q.address(),
            k: self.k.address(),
            v: self.v.address(),
            position: self.position.address(),
            slot: self.slot.address(),
            cache: self.cache(),
            rope: self.rope(),
            rows: self.world.rows as u32,
            tile_rows: tile_rows as u32,
            tile_count: self.world.rows.div_ceil(tile_rows) as u32,
            heads: shape.heads as u32,
            kv_heads: shape.kv_heads as u32,
            head_dim: shape.head_dim as u32,
            window: case.window.unwrap_or(0) as u32,
            min_pages: case.min_pages as u32,
            scale: self.world.scale(),
            cap: case.cap,
            ..AttendArgs::default()
        }
    }

    /// Runs `attend_*` and gives what it wrote.
    fn attend(&self, mut args: AttendArgs) -> Vec<f32> {
        let (shape, lab, splits) = (self.world.shape(), self.lab, self.world.case.splits);
        let (tiles, rows) = (args.tile_count as usize, args.tile_rows as usize);
        let partials = lab.poisoned::<f32>(shape.partial_floats(tiles, rows, splits));
        let arrived = lab.zeroed::<u32>(shape.arrived(tiles));
        let out = lab.poisoned::<f32>(self.world.q.len());
        (args.partials, args.arrived, args.out) = (partials.address(), arrived.address(), out.address());
        let launch = shape.attend(&args, splits);
        lab.launch(shape.kernel(Kind::Attend), launch.grid, launch.threads, launch.shared_bytes, &args);
        let out = lab.download(&out);
        assert!(lab.download::<u32>(&arrived).iter().all(|&n| n == 0), "the next launch counts from zero");
        out
    }

    fn prefill(&self, args: &AttendArgs) {
        let shape = self.world.shape();
        let launch = shape.prefill(args);
        self.lab.launch(shape.kernel(Kind::Prefill), launch.grid, launch.threads, launch.shared_bytes, args);
    }
}

fn check(got: &[f32], truth: &[f32], what: &dyn std::fmt::Debug) {
    let rms = (truth.iter().map(|x| f64::from(x * x)).sum::<f64>() / truth.len() as f64).sqrt();
    let off = relative_error(got, truth);
    let worst = got.iter().zip(truth).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max) / rms;
    assert!(off < TOLERANCE && worst < WORST, "{off:.1e}, worst {worst:.1e}: {what:?}");
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

fn upload_if<T: Plain>(lab: &Lab, values: &[T]) -> (Block, u64) {
    let block = lab.upload(values);
    let address = block.address();
    (block, address)
}

const HEAD_DIMS: [usize; 8] = [16, 32, 48, 64, 80, 96, 128, 256];
const GROUPS: [usize; 7] = [1, 2, 3, 4, 8, 16, 20];
const LENGTHS: [usize; 7] = [1, 31, 32, 33, 64, 95, 300];

/// Every head size with every group; all else in turn.
fn cases(runs: impl Fn(&mut Noise) -> Vec<Run>) -> Vec<Case> {
    let mut noise = Noise(7);
    let mut cases = vec![];
    for head_dim in HEAD_DIMS {
        for group in GROUPS {
            let i = cases.len();
            cases.push(Case {
                head_dim,
                group,
                kv_heads: 1 + i % 2,
                runs: runs(&mut noise),
                window: [None, None, Some(1), Some(20), Some(32), Some(70)][i % 6],
                cap: [0.0, 0.0, 3.0][i % 3],
                norms: i % 4 == 1,
                half: [head_dim / 2, 0, head_dim / 4, head_dim / 2, 5][i % 5],
                splits: [1, 2, 5][i / 2 % 3],
                min_pages: [1, 8][i / 3 % 2],
            });
        }
    }
    cases
}

#[test]
fn rope_store_turns_queries_and_fills_the_cache() {
    let runs = |noise: &mut Noise| {
        (0..2).map(|_| Run { cached: LENGTHS[noise.below(7)] - 1, new: 1 + noise.below(34) }).collect()
    };
    for lab in Lab::all() {
        for (i, case) in cases(runs).into_iter().enumerate() {
            let world = World::new(&case, i as u64);
            let there = There::new(&lab, &world);
            there.store();
            let (cache, q) = world.stored();
            let got: Vec<f32> = lab.download(&there.q);
            for (got, q) in got.iter().zip(&q) {
                assert!((f64::from(*got) - q).abs() < 1e-5 * (1.0 + q.abs()), "{got} for {q}: {case:?}");
            }
            let got: Vec<u16> = lab.download(&there.cache);
            for (at, (&got, &expected)) in got.iter().zip(&cache).enumerate() {
                // f32 and f64 may round to neighbours.
                let near = || {
                    let (a, b) = (f16::from_bits(got).to_f32(), f16::from_bits(expected).to_f32());
                    (a - b).abs() <= 1e-3 * b.abs() + 1e-6
                };
                assert!(got == expected || near(), "half {at} is {got:04x}, not {expected:04x}: {case:?}");
            }
        }
    }
}

#[test]
fn decode_of_several_slots_in_one_launch_or_two() {
    let runs =
        |noise: &mut Noise| (0..3).map(|_| Run { cached: LENGTHS[noise.below(7)] - 1, new: 1 }).collect();
    for lab in Lab::all() {
        for (i, case) in cases(runs).into_iter().enumerate() {
            let world = World::new(&case, 100 + i as u64);
            let (one, two) = (There::new(&lab, &world), There::new(&lab, &world));
            let fused = AttendArgs { fused: 1, ..one.args(1) };
            let first = one.attend(fused);
            two.store();
            let second = two.attend(two.args(1));
            check(&first, &world.truth(), &case);
            assert_eq!(bits(&first), bits(&second), "fused and apart: {case:?}");
            assert_eq!(
                lab.download::<u16>(&one.cache),
                lab.download::<u16>(&two.cache),
                "caches, fused and apart: {case:?}"
            );
            let again = one.attend(fused);
            assert_eq!(bits(&first), bits(&again), "two runs: {case:?}");
        }
    }
}

#[test]
fn rows_of_one_slot_share_tiles() {
    let runs = |noise: &mut Noise| vec![Run { cached: LENGTHS[noise.below(7)] - 1, new: 2 + noise.below(9) }];
    for lab in Lab::all() {
        for (i, case) in cases(runs).into_iter().enumerate() {
            let world = World::new(&case, 200 + i as u64);
            let there = There::new(&lab, &world);
            there.store();
            let args = there.args(world.shape().tile_rows(Kind::Attend));
            check(&there.attend(args), &world.truth(), &case);
        }
    }
}

/// Tiles of at most `most` rows that keep runs apart.
fn tiles(case: &Case, most: usize) -> Vec<QueryTile> {
    let mut tiles = vec![];
    let mut at = 0;
    for run in &case.runs {
        for first in (0..run.new).step_by(most) {
            tiles.push(QueryTile { first: (at + first) as u32, rows: most.min(run.new - first) as u32 });
        }
        at += run.new;
    }
    tiles
}

/// The order of columns within 32 in which `matmul` takes halves: matrix m, then pairs of t.
fn permuted(column: usize) -> usize {
    let (high, t, r) = (column / 16, column / 4 % 4, column % 4);
    8 * (2 * high + r % 2) + 2 * t + r / 2
}

#[test]
fn prefill_of_several_slots_in_floats_and_in_halves() {
    let runs = |noise: &mut Noise| {
        (0..2).map(|_| Run { cached: LENGTHS[noise.below(7)] - 1, new: 1 + noise.below(40) }).collect()
    };
    for lab in Lab::all() {
        for (i, mut case) in cases(runs).into_iter().enumerate() {
            case.kv_heads = 1;
            let world = World::new(&case, 300 + i as u64);
            let there = There::new(&lab, &world);
            there.store();
            let (shape, truth) = (world.shape(), world.truth());
            let (cols, most) = (shape.heads * case.head_dim, shape.tile_rows(Kind::Prefill));
            let stride = cols.next_multiple_of(256);
            let list = tiles(&case, most);
            let (_tiles, tiles) = upload_if(&lab, &list);
            let out = lab.poisoned::<f32>(truth.len());
            let halves = lab.zeroed::<u16>(world.rows * stride);
            let args = AttendArgs {
                tiles,
                tile_count: list.len() as u32,
                out: out.address(),
                out_halves: halves.address(),
                halves_stride: stride as u32,
                ..there.args(most)
            };
            there.prefill(&args);
            let got: Vec<f32> = lab.download(&out);
            check(&got, &truth, &case);
            let halves: Vec<u16> = lab.download(&halves);
            for (row, got) in got.chunks(cols).enumerate() {
                for (column, &got) in got.iter().enumerate() {
                    let half = halves[row * stride + column / 32 * 32 + permuted(column % 32)];
                    assert_eq!(half, f16::from_f32(got).to_bits(), "row {row} column {column}: {case:?}");
                }
            }
        }
    }
}

#[test]
fn only_wanted_rows_are_written() {
    let case = Case {
        head_dim: 64,
        kv_heads: 2,
        group: 4,
        runs: vec![Run { cached: 40, new: 40 }, Run { cached: 0, new: 9 }],
        window: None,
        cap: 0.0,
        norms: false,
        half: 32,
        splits: 2,
        min_pages: 1,
    };
    for lab in Lab::all() {
        let world = World::new(&case, 400);
        let there = There::new(&lab, &world);
        there.store();
        let (shape, truth) = (world.shape(), world.truth());
        let cols = shape.heads * case.head_dim;
        let mut rows = vec![NOWHERE; world.rows];
        (rows[39], rows[48], rows[3]) = (0, 1, 2);
        let expected: Vec<f32> =
            [39, 48, 3].iter().flat_map(|&row| truth[row * cols..][..cols].iter().copied()).collect();
        let (_rows, output_row) = upload_if(&lab, &rows);
        for kind in [Kind::Attend, Kind::Prefill] {
            let most = shape.tile_rows(kind);
            let list = tiles(&case, most);
            let (_tiles, tiles) = upload_if(&lab, &list);
            let args = AttendArgs { tiles, tile_count: list.len() as u32, output_row, ..there.args(most) };
            let got = match kind {
                Kind::Attend => there.attend(args),
                Kind::Prefill => {
                    let out = lab.poisoned::<f32>(truth.len());
                    there.prefill(&AttendArgs { out: out.address(), ..args });
                    lab.download(&out)
                }
            };
            check(&got[..3 * cols], &expected, &kind);
            assert!(got[3 * cols..].iter().all(|x| x.is_nan()), "nothing else is written: {kind:?}");
        }
    }
}
