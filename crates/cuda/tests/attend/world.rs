//! A case of attention: its numbers, its cache, what should come out, and its buffers on a device.

use cuda::args::attend::{AttendArgs, Attention, Kind};
use cuda::args::rope::{Cache, Rope, RopeStoreArgs, width};
use cuda::driver::Block;
use cuda::lab::Lab;
use half::f16;

const PAGE: usize = 32;

/// Numbers from a seed: SplitMix64.
pub(crate) struct Noise(pub(crate) u64);

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

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }
}

/// Rows of one slot: `cached` positions are in the cache, `new` rows follow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) cached: usize,
    pub(crate) new: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) head_dim: usize,
    pub(crate) kv_heads: usize,
    pub(crate) group: usize,
    /// Run i is slot i.
    pub(crate) runs: Vec<Run>,
    pub(crate) window: Option<usize>,
    pub(crate) cap: f32,
    pub(crate) norms: bool,
    pub(crate) half: usize,
    pub(crate) splits: usize,
    pub(crate) min_pages: usize,
}

/// What a case looks like on a device and off it.
pub(crate) struct World {
    pub(crate) case: Case,
    pub(crate) rows: usize,
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
    pub(crate) fn new(case: &Case, seed: u64) -> World {
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

    pub(crate) fn shape(&self) -> Attention {
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
    pub(crate) fn stored(&self) -> (Vec<u16>, Vec<f64>) {
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
    pub(crate) fn truth(&self) -> Vec<f32> {
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
pub(crate) struct There<'a> {
    lab: &'a Lab,
    world: &'a World,
    pub(crate) q: Block,
    k: Block,
    v: Block,
    position: Block,
    slot: Block,
    norms: [Block; 2],
    turns: Block,
    table: Block,
    pub(crate) cache: Block,
}

impl<'a> There<'a> {
    pub(crate) fn new(lab: &'a Lab, world: &'a World) -> There<'a> {
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

    pub(crate) fn store(&self) {
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
    pub(crate) fn args(&self, tile_rows: usize) -> AttendArgs {
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
    pub(crate) fn attend(&self, mut args: AttendArgs) -> Vec<f32> {
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

    pub(crate) fn prefill(&self, args: &AttendArgs) {
        let shape = self.world.shape();
        let launch = shape.prefill(args);
        self.lab.launch(shape.kernel(Kind::Prefill), launch.grid, launch.threads, launch.shared_bytes, args);
    }
}
