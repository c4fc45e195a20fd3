//! Float formats: column after column, sixteen rows each, multiplied by f32 activations.

use super::ROWS;
use crate::simd::Simd;

/// How one float format lies in tiles: a column of a row tile is sixteen consecutive elements.
pub(crate) trait Float: 'static {
    /// Bytes an element.
    const BYTES: usize;

    /// One column.
    ///
    /// # Safety
    /// As [`Simd`]; `from` has `16 · BYTES` bytes.
    unsafe fn load<V: Simd>(from: *const u8) -> V::F;

    /// Rearranges sixteen rows.
    fn pack(rows: &[&[u8]; ROWS], out: &mut [u8]) {
        let width = Self::BYTES;
        for (column, out) in out.chunks_exact_mut(ROWS * width).enumerate() {
            for (row, out) in rows.iter().zip(out.chunks_exact_mut(width)) {
                out.copy_from_slice(&row[column * width..][..width]);
            }
        }
    }
}

/// Single floats.
pub(crate) struct F32;
/// Half floats.
pub(crate) struct F16;
/// Brain floats.
pub(crate) struct Bf16;

impl Float for F32 {
    const BYTES: usize = 4;

    #[inline(always)]
    unsafe fn load<V: Simd>(from: *const u8) -> V::F {
        // SAFETY: as the trait's method.
        unsafe { V::load(from.cast()) }
    }
}

impl Float for F16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load<V: Simd>(from: *const u8) -> V::F {
        // SAFETY: as the trait's method.
        unsafe { V::load_f16(from.cast()) }
    }
}

impl Float for Bf16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load<V: Simd>(from: *const u8) -> V::F {
        // SAFETY: as the trait's method.
        unsafe { V::load_bf16(from.cast()) }
    }
}
