//! What is where in a page of the cache, by the words of `kernels/kv`, and what codes stand for.

use crate::world::Case;
use cuda::args::rope::width;
use half::f16;
use model::kv;
use model::runner::KvType;

pub(crate) const PAGE: usize = 32;

/// A layer of a page.
pub(crate) struct Layout {
    kv: KvType,
    kv_heads: usize,
    head_dim: usize,
    /// Width of a head in the cache.
    wide: usize,
}

fn half_at(bytes: &[u8], at: usize) -> f64 {
    f64::from(f16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

fn put_half(bytes: &mut [u8], at: usize, half: f16) {
    bytes[at..at + 2].copy_from_slice(&half.to_le_bytes());
}

/// Where the code of a key lies in an Int8 block: lanes of four dimensions of a position, eight positions.
fn int8_key(p: usize, d: usize) -> usize {
    let (tile, column) = (p / 2 % 4, p / 8 * 2 + p % 2);
    let lane = 4 * column + d % 16 / 4;
    let word = 2 * (tile % 2) + d % 32 / 16;
    512 * (2 * (d / 32) + tile / 2) + 16 * lane + 4 * word + d % 4
}

/// The same for values.
fn int8_value(p: usize, d: usize) -> usize {
    let row = d % 16 / 4 * 2 + d % 2;
    let lane = 4 * row + p / 8;
    let word = p % 8 / 4 * 2 + d % 4 / 2;
    512 * (d / 16) + 16 * lane + 4 * word + p % 4
}

/// Where a key's dimension lies in an Int4 block, and whether in the high bits of the byte.
fn int4_key(p: usize, d: usize) -> (usize, bool) {
    let (tile, column) = (p / 2 % 4, p / 8 * 2 + p % 2);
    let lane = 4 * column + d % 16 / 4;
    (512 * (d / 32) + 16 * lane + 4 * tile + d % 4, d % 32 >= 16)
}

/// The same for values.
fn int4_value(p: usize, d: usize) -> (usize, bool) {
    let row = d % 16 / 4 * 2 + d % 2;
    let word = d % 32 / 16 * 2 + p % 8 / 4;
    (512 * (d / 32) + 16 * (4 * row + p / 8) + 4 * word + [0, 2, 1, 3][p % 4], d % 4 >= 2)
}

fn put_nibble(bytes: &mut [u8], (at, high): (usize, bool), code: u8) {
    bytes[at] = if high { bytes[at] & 15 | code << 4 } else { bytes[at] & 0xf0 | code };
}

fn nibble(bytes: &[u8], (at, high): (usize, bool)) -> u8 {
    if high { bytes[at] >> 4 } else { bytes[at] & 15 }
}

impl Layout {
    pub(crate) fn of(case: &Case) -> Layout {
        let wide = width(case.head_dim).expect("a size there is");
        Layout { kv: case.kv, kv_heads: case.kv_heads, head_dim: case.head_dim, wide }
    }

    /// Bytes of keys or values of one head.
    fn block(&self) -> usize {
        PAGE * self.kv.head_bytes(self.wide)
    }

    /// Bytes of one layer of a page.
    pub(crate) fn bytes(&self) -> usize {
        2 * self.kv_heads * self.block()
    }

    /// What codes of keys may differ by when what is coded differs in its last bit, of the largest key.
    pub(crate) fn step(&self) -> f64 {
        match self.kv {
            KvType::F16 => 1e-3,
            KvType::Int8 => 1.01 / 127.0,
            _ => 2.02 / 15.0,
        }
    }

    fn padded(&self, x: &[f32]) -> Vec<f32> {
        let mut x = x.to_vec();
        x.resize(self.wide, 0.0);
        x
    }

    pub(crate) fn put_key(&self, layer: &mut [u8], head: usize, p: usize, x: &[f32]) {
        let block = &mut layer[head * self.block()..][..self.block()];
        let (mut x, p) = (self.padded(x), p % PAGE);
        match self.kv {
            KvType::F16 => {
                for (d, &x) in x.iter().enumerate() {
                    put_half(block, 2 * (p * self.wide + d), f16::from_f32(x));
                }
            }
            KvType::Int4 => {
                kv::rotate(&mut x[..self.head_dim]);
                let (tile, column) = (p / 2 % 4, p / 8 * 2 + p % 2);
                self.put_int4(block, p, 4 * column + tile, &x, int4_key);
            }
            _ => {
                let mut codes = vec![0; self.wide];
                put_half(block, PAGE * self.wide + 2 * p, kv::encode_int8(&x, &mut codes));
                codes.iter().enumerate().for_each(|(d, &code)| block[int8_key(p, d)] = code as u8);
            }
        }
    }

    /// Codes, steps by position, least values in the order of `order`; of the head without its padding.
    fn put_int4(
        &self,
        block: &mut [u8],
        p: usize,
        order: usize,
        x: &[f32],
        place: fn(usize, usize) -> (usize, bool),
    ) {
        let (steps, leasts) = (PAGE * self.wide / 2, PAGE * self.wide / 2 + 2 * self.wide);
        for (c, group) in (0..self.wide).step_by(32).enumerate() {
            let real = &x[group.min(self.head_dim)..(group + 32).min(self.head_dim)];
            let mut codes = [0; 32];
            let (step, least) =
                if real.is_empty() { (f16::ZERO, f16::ZERO) } else { kv::encode_int4(real, &mut codes) };
            put_half(block, steps + 2 * (32 * c + p), step);
            put_half(block, leasts + 2 * (32 * c + order), least);
            codes.iter().enumerate().for_each(|(i, &code)| put_nibble(block, place(p, group + i), code));
        }
    }

    /// The element of an Int4 block at position p; padding is zero, whatever its codes stand for.
    fn int4(&self, block: &[u8], p: usize, order: usize, d: usize, place: (usize, bool)) -> f64 {
        let (steps, leasts) = (PAGE * self.wide / 2, PAGE * self.wide / 2 + 2 * self.wide);
        let code = nibble(block, place);
        if d >= self.head_dim {
            assert_eq!(code, 0, "codes of padding");
            return 0.0;
        }
        let step = half_at(block, steps + 2 * (d / 32 * 32 + p));
        half_at(block, leasts + 2 * (d / 32 * 32 + order)) + step * f64::from(code)
    }

    pub(crate) fn put_value(&self, layer: &mut [u8], head: usize, p: usize, x: &[f32]) {
        let block = &mut layer[(self.kv_heads + head) * self.block()..][..self.block()];
        let (x, p) = (self.padded(x), p % PAGE);
        match self.kv {
            KvType::F16 => {
                for (d, &x) in x.iter().enumerate() {
                    put_half(block, 2 * (d * PAGE + p), f16::from_f32(x));
                }
            }
            KvType::Int4 => self.put_int4(block, p, p, &x, int4_value),
            _ => {
                let mut codes = vec![0; self.wide];
                put_half(block, PAGE * self.wide + 2 * p, kv::encode_int8(&x, &mut codes));
                let code = |code: i8| (i32::from(code) + 128) as u8;
                codes.iter().enumerate().for_each(|(d, &c)| block[int8_value(p, d)] = code(c));
            }
        }
    }

    /// What the key of a position is; its padding must be zero.
    pub(crate) fn key(&self, layer: &[u8], head: usize, p: usize) -> Vec<f64> {
        let block = &layer[head * self.block()..][..self.block()];
        let p = p % PAGE;
        let one = |d: usize| match self.kv {
            KvType::F16 => half_at(block, 2 * (p * self.wide + d)),
            KvType::Int4 => {
                let (tile, column) = (p / 2 % 4, p / 8 * 2 + p % 2);
                self.int4(block, p, 4 * column + tile, d, int4_key(p, d))
            }
            _ => half_at(block, PAGE * self.wide + 2 * p) * f64::from(block[int8_key(p, d)] as i8),
        };
        self.without_padding((0..self.wide).map(one).collect())
    }

    pub(crate) fn value(&self, layer: &[u8], head: usize, p: usize) -> Vec<f64> {
        let block = &layer[(self.kv_heads + head) * self.block()..][..self.block()];
        let p = p % PAGE;
        let one = |d: usize| match self.kv {
            KvType::F16 => half_at(block, 2 * (d * PAGE + p)),
            KvType::Int4 => self.int4(block, p, p, d, int4_value(p, d)),
            _ => {
                let code = i32::from(block[int8_value(p, d)]) - 128;
                half_at(block, PAGE * self.wide + 2 * p) * f64::from(code)
            }
        };
        self.without_padding((0..self.wide).map(one).collect())
    }

    /// A query as keys of this type want it.
    pub(crate) fn query(&self, q: &[f64]) -> Vec<f64> {
        if self.kv != KvType::Int4 {
            return q.to_vec();
        }
        // Sylvester's matrix: the sign of element (i, k) is that of the parity of i & k.
        let block = kv::rotated(q.len());
        let sign = |i: usize, k: usize| if (i & k).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
        let one = |i: usize| -> f64 {
            let start = i / block * block;
            let sum: f64 = (0..block).map(|k| sign(i - start, k) * q[start + k]).sum();
            sum / (block as f64).sqrt()
        };
        (0..q.len()).map(one).collect()
    }

    fn without_padding(&self, mut x: Vec<f64>) -> Vec<f64> {
        let padding = x.split_off(self.head_dim);
        assert!(padding.iter().all(|&x| x == 0.0), "padding is zero: {padding:?}");
        x
    }
}
