//! Whole row tiles: packing sixteen rows, decoding one.

use super::{Float, ROWS, Tile};
use crate::simd::Simd;

/// Rearranges sixteen rows of whole blocks into a row tile: heads first, then codes.
pub(crate) fn pack_rows<T: Tile>(rows: &[&[u8]; ROWS], out: &mut [u8]) {
    let tiles = out.len() / (T::HEAD + T::CODES);
    let width = rows[0].len() / tiles;
    let (heads, codes) = out.split_at_mut(tiles * T::HEAD);
    let parts = heads.chunks_exact_mut(T::HEAD).zip(codes.chunks_exact_mut(T::CODES));
    for (b, (head, codes)) in parts.enumerate() {
        let blocks: [&[u8]; ROWS] = std::array::from_fn(|row| &rows[row][b * width..][..width]);
        T::pack(&blocks, head, codes);
    }
}

/// Decodes row `row` of a row tile as [`quant::Format::decode`] would, bit for bit.
///
/// # Safety
/// As [`Simd`]; `tile` is a packed row tile of `out.len()` columns.
#[inline(always)]
pub(crate) unsafe fn decode_row<V: Simd, T: Tile>(tile: *const u8, row: usize, out: &mut [f32]) {
    let tiles = out.len() / T::COLS;
    for (b, out) in out.chunks_exact_mut(T::COLS).enumerate() {
        // SAFETY: the caller's promise; quads and words are 64 bytes, lanes 16.
        unsafe {
            let head = tile.add(b * T::HEAD);
            let codes = tile.add(tiles * T::HEAD + b * T::CODES);
            let lane = |value: V::F| {
                let mut lanes = [0.0f32; 16];
                V::store(lanes.as_mut_ptr(), value);
                lanes[row]
            };
            let mut scales = [V::splat_i(1); 16];
            T::scales::<V>(head, &mut scales);
            let mut mins = [V::splat_b(1); 4];
            T::mins::<V>(head, &mut mins);
            let (d, dmin) = (lane(T::d::<V>(head)), lane(T::dmin::<V>(head)));
            let mut quads = [V::splat_b(0); 16];
            let mut bytes = [0u8; 64];
            for (quad, out) in out.chunks_exact_mut(4).enumerate() {
                if quad % 16 == 0 {
                    T::unpack::<V>(codes, quad / 16, &mut quads);
                }
                let sub = quad * 4 / T::SUB;
                let scale = d * lane(V::to_f(scales[sub]));
                let mut min = 0.0;
                if T::MINS {
                    V::store_b(bytes.as_mut_ptr(), mins[sub / 4]);
                    min = dmin * f32::from(bytes[4 * row + sub % 4]);
                }
                V::store_b(bytes.as_mut_ptr(), quads[quad % 16]);
                for (j, out) in out.iter_mut().enumerate() {
                    let byte = bytes[4 * row + j];
                    let code = if T::SIGNED { i32::from(byte as i8) } else { i32::from(byte) - T::OFFSET };
                    *out = scale * code as f32 - min;
                }
            }
        }
    }
}

/// Decodes row `row` of a row tile of floats.
///
/// # Safety
/// As [`decode_row`].
#[inline(always)]
pub(crate) unsafe fn decode_float_row<V: Simd, T: Float>(tile: *const u8, row: usize, out: &mut [f32]) {
    for (column, out) in out.iter_mut().enumerate() {
        let mut lanes = [0.0f32; 16];
        // SAFETY: the caller's promise.
        unsafe { V::store(lanes.as_mut_ptr(), T::load::<V>(tile.add(column * ROWS * T::BYTES))) };
        *out = lanes[row];
    }
}
