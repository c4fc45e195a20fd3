//! A case of attention: its numbers, its cache, what should come out, and its buffers on a device.

use crate::page::{Layout, PAGE};
use cuda::args::attend::{AttendArgs, Attention, Kind};
use cuda::args::rope::{Cache, Rope, RopeStoreArgs, width};
use cuda::driver::Block;
use cuda::lab::Lab;
use model::runner::KvType;

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
    pub(crate) kv: KvType,
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
    /// Bytes before the layer in a page, and of a page.
    skipped: usize,
    page_stride: usize,
    cache: Vec<u8>,
}

const EPS: f32 = 1e-5;
/// Two of these are a half that is no number.
const NAN: u8 = 0xff;

impl World {
    pub(crate) fn new(case: &Case, seed: u64) -> World {
        let mut noise = Noise(seed);
        let n = case.head_dim;
        let layout = Layout::of(case);
        // The second of three layers.
        let (skipped, page_stride) = (layout.bytes(), 3 * layout.bytes());
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
            let first = case.window.map_or(0, |window| (run.cached + 1).saturating_sub(window));
            // What lies before the first that anyone sees is nobody's page any more.
            for i in first / PAGE..(run.cached + run.new).div_ceil(PAGE) {
                table[s * table_stride + i] = order[s * per_slot + i];
            }
            for p in 0..run.new {
                position.push((run.cached + p) as u32);
                slot.push(s as u32);
            }
            for p in first..run.cached {
                let page = table[s * table_stride + p / PAGE] as usize * page_stride + skipped;
                for head in 0..case.kv_heads {
                    layout.put_key(&mut cache[page..], head, p, &noise.floats(n));
                    layout.put_value(&mut cache[page..], head, p, &noise.floats(n));
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
        let Case { head_dim, kv_heads, group, kv, .. } = self.case;
        Attention { heads: kv_heads * group, kv_heads, head_dim, kv }
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

    /// The turned queries.
    pub(crate) fn queries(&self) -> Vec<f64> {
        self.stored().1
    }

    /// The cache after the step's rows are stored, and the turned queries.
    fn stored(&self) -> (Vec<u8>, Vec<f64>) {
        let Case { head_dim: n, kv_heads, group, .. } = self.case;
        let layout = Layout::of(&self.case);
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
                let k: Vec<f32> = k.into_iter().map(|x| x as f32).collect();
                layout.put_key(&mut cache[page..], head, p, &k);
                layout.put_value(&mut cache[page..], head, p, &self.v[at..][..n]);
            }
        }
        (cache, q)
    }

    /// Compares a cache that a kernel stored with what it should be. Codes of keys that were turned in f32 and
    /// in f64 may be neighbours, and several where the scale is one.
    fn compare(&self, got: &[u8], expected: &[u8]) {
        let layout = Layout::of(&self.case);
        let turned = self.case.norms || self.case.half > 0;
        for row in 0..self.rows {
            let (p, page) = (self.position[row] as usize, self.page(row, self.position[row] as usize));
            for head in 0..self.case.kv_heads {
                let of = |cache: &[u8]| {
                    (layout.key(&cache[page..], head, p), layout.value(&cache[page..], head, p))
                };
                let ((k, v), (truth_k, truth_v)) = (of(got), of(expected));
                assert_eq!(v, truth_v, "values of row {row}: {:?}", self.case);
                if !turned {
                    assert_eq!(k, truth_k, "keys of row {row}: {:?}", self.case);
                }
                let most = truth_k.iter().fold(0.0f64, |most, x| most.max(x.abs()));
                let off = k.iter().zip(&truth_k).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                let many = k.iter().zip(&truth_k).filter(|(a, b)| (*a - *b).abs() > 2e-3 * most).count();
                assert!(
                    off <= layout.step() * most && many <= self.case.head_dim / 8,
                    "keys of row {row} off by {off:e}, {many} of them far: {:?}",
                    self.case
                );
            }
        }
        let (got, expected) = (self.without_rows(got), self.without_rows(expected));
        assert!(got == expected, "something else was written: {:?}", self.case);
    }

    /// A cache without what the step's rows stored.
    fn without_rows(&self, cache: &[u8]) -> Vec<u8> {
        let layout = Layout::of(&self.case);
        let mut cache = cache.to_vec();
        for row in 0..self.rows {
            let (p, page) = (self.position[row] as usize, self.page(row, self.position[row] as usize));
            for head in 0..self.case.kv_heads {
                layout.put_key(&mut cache[page..], head, p, &vec![0.0; self.case.head_dim]);
                layout.put_value(&mut cache[page..], head, p, &vec![0.0; self.case.head_dim]);
            }
        }
        cache
    }

    /// Attention in f64 over a cache that a kernel stored; it is compared with what it should be.
    pub(crate) fn truth(&self, cache: &[u8]) -> Vec<f32> {
        let Case { head_dim: n, kv_heads, group, window, cap, .. } = self.case;
        let layout = Layout::of(&self.case);
        let (expected, q) = self.stored();
        self.compare(cache, &expected);
        let mut out = vec![];
        for row in 0..self.rows {
            let last = self.position[row] as usize;
            let first = window.map_or(0, |window| (last + 1).saturating_sub(window));
            for head in 0..kv_heads * group {
                let q = &q[(row * kv_heads * group + head) * n..][..n];
                let kv = head / group;
                let q = layout.query(q);
                let score = |p: usize| {
                    let key = layout.key(&cache[self.page(row, p)..], kv, p);
                    let dot: f64 = q.iter().zip(&key).map(|(q, k)| q * k).sum();
                    let (score, cap) = (dot * f64::from(self.scale()), f64::from(cap));
                    if cap > 0.0 { cap * (score / cap).tanh() } else { score }
                };
                let scores: Vec<f64> = (first..=last).map(score).collect();
                let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
                let sum: f64 = weights.iter().sum();
                let mut mixed = vec![0.0; n];
                for (p, weight) in (first..=last).zip(&weights) {
                    let value = layout.value(&cache[self.page(row, p)..], kv, p);
                    mixed.iter_mut().zip(value).for_each(|(mixed, value)| *mixed += weight * value);
                }
                out.extend(mixed.into_iter().map(|x| (x / sum) as f32));
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
            pages: self.cache.address() + self.world.skipped as u64,
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

    /// What should come out, by the cache as it is.
    pub(crate) fn truth(&self) -> Vec<f32> {
        self.world.truth(&self.lab.download::<u8>(&self.cache))
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
        let launch = args.launch(shape.kv);
        let kernel = RopeStoreArgs::kernel(shape.kv);
        self.lab.launch(kernel, launch.grid, launch.threads, launch.shared_bytes, &args);
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
