//! The kernels of one instruction set, chosen once when a plan is loaded.

use crate::Isa;
use crate::acts::{self, Act32, Act256};
use crate::ops::{self, Attention, Int4, Int8, Keep};
use crate::simd::Simd;
use crate::tile::{self, Float, ROWS, Scratch, Tile};
use half::f16;
use model::Activation;
use model::runner::KvType;
use quant::Format;

/// Which form of activations a weight format multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Floats.
    F32,
    /// Bytes with a scale every 32.
    Q32,
    /// Bytes with a scale every 256.
    Q256,
}

/// Rows of activations in every form a product may want.
#[derive(Clone, Copy)]
pub(crate) struct Input {
    /// `[rows, cols]`.
    pub(crate) x: *const f32,
    pub(crate) cols: usize,
    /// `[rows, cols / 256]`.
    pub(crate) q256: *const Act256,
    /// `[rows, cols / 32]`.
    pub(crate) q32: *const Act32,
}

/// Multiplies a row tile with rows `first .. first + tokens` of the input, at most [`tile::TOKENS`].
pub(crate) type Product = unsafe fn(*const u8, &Input, usize, usize, &mut [f32], &mut Scratch);
/// Decodes one row of a row tile.
pub(crate) type Decode = unsafe fn(*const u8, usize, &mut [f32]);
/// Rearranges sixteen whole rows into a row tile.
pub(crate) type Pack = fn(&[&[u8]; ROWS], &mut [u8]);

/// How a format lies in memory and who multiplies it.
#[derive(Clone, Copy)]
pub(crate) struct Packed {
    pub(crate) kind: Kind,
    /// Columns of a tile.
    pub(crate) cols: usize,
    /// Bytes of a tile.
    pub(crate) bytes: usize,
    pub(crate) pack: Pack,
    pub(crate) product: Product,
    pub(crate) decode: Decode,
}

/// How a type of the cache lies in pages and who writes and reads them; see [`Keep`].
#[derive(Clone, Copy)]
pub(crate) struct Kept {
    /// Bytes of one KV head's page, keys and values, by the head's width.
    pub(crate) bytes: fn(usize) -> usize,
    /// Bytes of scratch a thread needs.
    pub(crate) scratch: fn(usize) -> usize,
    /// Whether keys and queries are rotated before.
    pub(crate) rotated: bool,
    /// Page, position in it, key, value, width.
    pub(crate) store: unsafe fn(*mut u8, usize, *const f32, *const f32, usize),
    pub(crate) attend: unsafe fn(&Attention<'_>, usize, *const f32, *mut f32),
}

/// Everything that depends on the instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Kernels {
    pub(crate) packed: fn(Format) -> Packed,
    pub(crate) quantize256: unsafe fn(*const f32, &mut [Act256]),
    pub(crate) quantize32: unsafe fn(*const f32, &mut [Act32]),
    pub(crate) norm: unsafe fn(*const f32, *const f32, usize, f32, *mut f32),
    pub(crate) accumulate: unsafe fn(*mut f32, *const f32, usize),
    pub(crate) rotate: unsafe fn(*mut f32, *const f32, *const f32, usize),
    pub(crate) hadamard: unsafe fn(*mut f32, usize),
    pub(crate) kept: fn(KvType) -> Kept,
    /// gate = activation(gate) · up, sixteen floats at a time.
    pub(crate) gate: unsafe fn(Activation, &mut [f32], &[f32]),
    /// Caps sixteen floats at a time.
    pub(crate) cap: unsafe fn(f32, &mut [f32]),
}

impl Kernels {
    /// The kernels of an instruction set this processor has.
    pub(crate) fn of(isa: Isa) -> Kernels {
        match isa {
            Isa::Scalar => scalar::kernels(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::kernels(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2Vnni => avx2_vnni::kernels(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512::kernels(),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => neon::kernels(),
            #[cfg(target_arch = "aarch64")]
            Isa::NeonDot => neon_dot::kernels(),
            #[allow(unreachable_patterns, reason = "which sets exist depends on the architecture")]
            _ => scalar::kernels(),
        }
    }
}

/// Instantiates every kernel for one instruction set.
macro_rules! kernels_for {
    ($module:ident, $simd:ty, $(#[$feature:meta])?) => {
        mod $module {
            use super::*;

            // SAFETY of all calls below: the functions enable the set their `Simd` needs, and are
            // reachable only through `Kernels::of` after `Isa::available` said yes; pointers and
            // lengths are the callers' promises, as the generic functions state them.
            $(#[$feature])?
            unsafe fn product256<T: Tile>(
                tile: *const u8, input: &Input, first: usize, tokens: usize, out: &mut [f32], scratch: &mut Scratch,
            ) {
                let blocks = input.cols / 256;
                // SAFETY: as above.
                unsafe {
                    let acts = std::slice::from_raw_parts(input.q256.add(first * blocks), tokens * blocks);
                    tile::product256::<$simd, T>(tile, blocks, acts, tokens, out, scratch);
                }
            }

            $(#[$feature])?
            unsafe fn product32<T: Tile>(
                tile: *const u8, input: &Input, first: usize, tokens: usize, out: &mut [f32], scratch: &mut Scratch,
            ) {
                let blocks = input.cols / 32;
                // SAFETY: as above.
                unsafe {
                    let acts = std::slice::from_raw_parts(input.q32.add(first * blocks), tokens * blocks);
                    tile::product32::<$simd, T>(tile, blocks, acts, tokens, out, scratch);
                }
            }

            $(#[$feature])?
            unsafe fn float_product<T: Float>(
                tile: *const u8, input: &Input, first: usize, tokens: usize, out: &mut [f32], _: &mut Scratch,
            ) {
                // SAFETY: as above.
                unsafe {
                    let x = input.x.add(first * input.cols);
                    tile::float_product::<$simd, T>(tile, input.cols, x, input.cols, tokens, out);
                }
            }

            $(#[$feature])?
            unsafe fn decode<T: Tile>(tile: *const u8, row: usize, out: &mut [f32]) {
                // SAFETY: as above.
                unsafe { tile::decode_row::<$simd, T>(tile, row, out) };
            }

            $(#[$feature])?
            unsafe fn decode_float<T: Float>(tile: *const u8, row: usize, out: &mut [f32]) {
                // SAFETY: as above.
                unsafe { tile::decode_float_row::<$simd, T>(tile, row, out) };
            }

            $(#[$feature])?
            unsafe fn quantize256(x: *const f32, out: &mut [Act256]) {
                // SAFETY: as above.
                unsafe { acts::quantize256::<$simd>(x, out) };
            }

            $(#[$feature])?
            unsafe fn quantize32(x: *const f32, out: &mut [Act32]) {
                // SAFETY: as above.
                unsafe { acts::quantize32::<$simd>(x, out) };
            }

            $(#[$feature])?
            unsafe fn norm(x: *const f32, weight: *const f32, len: usize, eps: f32, out: *mut f32) {
                // SAFETY: as above.
                unsafe { ops::norm::<$simd>(x, weight, len, eps, out) };
            }

            $(#[$feature])?
            unsafe fn accumulate(to: *mut f32, from: *const f32, len: usize) {
                // SAFETY: as above.
                unsafe { ops::accumulate::<$simd>(to, from, len) };
            }

            $(#[$feature])?
            unsafe fn rotate(head: *mut f32, cos: *const f32, sin: *const f32, half: usize) {
                // SAFETY: as above.
                unsafe { ops::rotate::<$simd>(head, cos, sin, half) };
            }

            $(#[$feature])?
            unsafe fn hadamard(head: *mut f32, dim: usize) {
                // SAFETY: as above.
                unsafe { ops::hadamard::<$simd>(head, dim) };
            }

            $(#[$feature])?
            unsafe fn store<K: Keep>(page: *mut u8, at: usize, key: *const f32, value: *const f32, dim: usize) {
                // SAFETY: as above.
                unsafe { K::store::<$simd>(page, at, key, value, dim) };
            }

            $(#[$feature])?
            unsafe fn attend<K: Keep>(view: &Attention<'_>, heads: usize, q: *const f32, out: *mut f32) {
                // SAFETY: as above.
                unsafe { ops::attend::<$simd, K>(view, heads, q, out) };
            }

            fn keep<K: Keep>(rotated: bool) -> Kept {
                Kept { bytes: K::bytes, scratch: K::scratch, rotated, store: store::<K>, attend: attend::<K> }
            }

            fn kept(kind: KvType) -> Kept {
                match kind {
                    KvType::F16 => keep::<f16>(false),
                    KvType::F32 => keep::<f32>(false),
                    KvType::Int8 => keep::<Int8>(false),
                    KvType::Int4 => keep::<Int4>(true),
                }
            }

            $(#[$feature])?
            unsafe fn gate(activation: Activation, gate: &mut [f32], up: &[f32]) {
                for (gate, up) in gate.chunks_exact_mut(16).zip(up.chunks_exact(16)) {
                    // SAFETY: as above.
                    unsafe {
                        let value = <$simd>::load(gate.as_ptr());
                        let bent = match activation {
                            Activation::Silu => ops::silu::<$simd>(value),
                            Activation::GeluTanh => ops::gelu_tanh::<$simd>(value),
                        };
                        <$simd>::store(gate.as_mut_ptr(), <$simd>::mul(bent, <$simd>::load(up.as_ptr())));
                    }
                }
            }

            $(#[$feature])?
            unsafe fn cap(cap: f32, values: &mut [f32]) {
                for values in values.chunks_exact_mut(16) {
                    // SAFETY: as above.
                    unsafe {
                        let capped = ops::soft_cap::<$simd>(<$simd>::load(values.as_ptr()), cap);
                        <$simd>::store(values.as_mut_ptr(), capped);
                    }
                }
            }

            fn tiles<T: Tile>() -> Packed {
                Packed {
                    kind: if T::COLS == 256 { Kind::Q256 } else { Kind::Q32 },
                    cols: T::COLS,
                    bytes: T::HEAD + T::CODES,
                    pack: tile::pack_rows::<T>,
                    product: if T::COLS == 256 { product256::<T> } else { product32::<T> },
                    decode: decode::<T>,
                }
            }

            fn floats<T: Float>() -> Packed {
                Packed {
                    kind: Kind::F32,
                    cols: 1,
                    bytes: ROWS * T::BYTES,
                    pack: T::pack,
                    product: float_product::<T>,
                    decode: decode_float::<T>,
                }
            }

            fn packed(format: Format) -> Packed {
                match format {
                    Format::F32 => floats::<tile::F32>(),
                    Format::F16 => floats::<tile::F16>(),
                    Format::BF16 => floats::<tile::Bf16>(),
                    Format::Q4_0 => tiles::<tile::Q4_0>(),
                    Format::Q4_1 => tiles::<tile::Q4_1>(),
                    Format::Q5_0 => tiles::<tile::Q5_0>(),
                    Format::Q5_1 => tiles::<tile::Q5_1>(),
                    Format::Q8_0 => tiles::<tile::Q8_0>(),
                    Format::Q2_K => tiles::<tile::Q2K>(),
                    Format::Q3_K => tiles::<tile::Q3K>(),
                    Format::Q4_K => tiles::<tile::Q4K>(),
                    Format::Q5_K => tiles::<tile::Q5K>(),
                    Format::Q6_K => tiles::<tile::Q6K>(),
                    Format::IQ4_NL => tiles::<tile::Iq4Nl>(),
                    Format::IQ4_XS => tiles::<tile::Iq4Xs>(),
                    Format::MXFP4 => tiles::<tile::Mxfp4>(),
                }
            }

            pub(super) fn kernels() -> Kernels {
                Kernels {
                    packed, quantize256, quantize32, norm, accumulate, rotate, hadamard, kept, gate, cap,
                }
            }
        }
    };
}

kernels_for!(scalar, crate::simd::scalar::Scalar,);
#[cfg(target_arch = "x86_64")]
kernels_for!(avx2, crate::simd::avx2::Avx2, #[target_feature(enable = "avx2,fma,f16c")]);
#[cfg(target_arch = "x86_64")]
kernels_for!(avx2_vnni, crate::simd::avx2::Avx2<true>, #[target_feature(enable = "avx2,fma,f16c,avxvnni")]);
#[cfg(target_arch = "x86_64")]
kernels_for!(
    avx512,
    crate::simd::avx512::Avx512,
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
);
#[cfg(target_arch = "aarch64")]
kernels_for!(neon, crate::simd::neon::Neon<false>, #[target_feature(enable = "neon")]);
#[cfg(target_arch = "aarch64")]
kernels_for!(neon_dot, crate::simd::neon::Neon<true>, #[target_feature(enable = "neon,dotprod")]);
