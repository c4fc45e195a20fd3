//! A matrix in tiles, streamed from the file: at no time is it held twice.

use crate::kernels::{Input, Kernels, Packed};
use crate::memory::Region;
use crate::pool::{Pool, Run, Shares};
use crate::tile::{ROWS, Scratch};
use gguf::{Gguf, Tensor};
use model::Error;
use model::plan::RowOrder;
use quant::Format;
use std::ops::Range;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Rows × columns of one weight, or of a range of its rows.
pub(crate) struct Matrix {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) packed: Packed,
    /// Bytes of a row tile.
    pub(crate) stride: usize,
    /// All matrices lie in one region, so that huge pages have no borders to respect.
    arena: Arc<Region>,
    offset: usize,
}

impl Matrix {
    /// Bytes the rows of a tensor take in tiles, rounded up to whole small pages.
    pub(crate) fn room(rows: usize, cols: usize, format: Format, kernels: &Kernels) -> usize {
        Matrix::cost(rows, cols, format, kernels).next_multiple_of(4096)
    }

    /// Bytes the rows of a tensor take in tiles.
    pub(crate) fn cost(rows: usize, cols: usize, format: Format, kernels: &Kernels) -> usize {
        let packed = (kernels.packed)(format);
        rows.div_ceil(ROWS) * (cols / packed.cols * packed.bytes)
    }

    /// Reads rows `range` (in loaded order) of `tensor` and packs them into `arena` from `offset` on, a
    /// row tile at a time on every thread.
    pub(crate) fn load(
        file: &Gguf,
        tensor: &Tensor,
        order: RowOrder,
        range: Range<usize>,
        kernels: &Kernels,
        pool: &mut Pool,
        (arena, offset): (Arc<Region>, usize),
    ) -> Result<Matrix, Error> {
        let (rows, cols) = (range.len(), tensor.cols());
        let packed = (kernels.packed)(tensor.format);
        let row_bytes = tensor.format.row_bytes(cols).expect("the reader checked whole blocks");
        let (tiles, stride) = (rows.div_ceil(ROWS), cols / packed.cols * packed.bytes);
        assert!(offset + tiles * stride <= arena.len(), "the arena was sized by `room`");
        let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
        let (shared, threads) = (&arena, pool.threads());
        pool.run(&|_| {
            let mut strip = vec![0u8; ROWS * row_bytes];
            for tile in (Shares { next: &next, count: tiles, run: Run::Guided(threads) }).flatten() {
                let first = tile * ROWS;
                let count = ROWS.min(rows - first);
                let stored = |row: usize| order.stored(range.start + first + row) as u64;
                let read = if order == RowOrder::Stored {
                    file.read(tensor, stored(0) * row_bytes as u64, &mut strip[..count * row_bytes])
                } else {
                    (0..count).try_for_each(|row| {
                        let to = &mut strip[row * row_bytes..][..row_bytes];
                        file.read(tensor, stored(row) * row_bytes as u64, to)
                    })
                };
                if let Err(error) = read {
                    failed.lock().expect("no thread panics while holding it").get_or_insert(error);
                    next.store(tiles, Ordering::Relaxed);
                    return;
                }
                strip[count * row_bytes..].fill(0);
                let parts: [&[u8]; ROWS] = std::array::from_fn(|row| &strip[row * row_bytes..][..row_bytes]);
                // SAFETY: inside the region, and every tile is taken by one thread only.
                let out = unsafe {
                    std::slice::from_raw_parts_mut(shared.as_ptr().add(offset + tile * stride), stride)
                };
                (packed.pack)(&parts, out);
            }
        });
        match failed.into_inner().expect("no thread panics while holding it") {
            Some(error) => Err(error.into()),
            None => Ok(Matrix { rows, cols, packed, stride, arena, offset }),
        }
    }

    /// Row tiles.
    pub(crate) fn tiles(&self) -> usize {
        self.rows.div_ceil(ROWS)
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        (self.tiles() * self.stride) as u64
    }

    fn tile(&self, tile: usize) -> *const u8 {
        debug_assert!(tile < self.tiles());
        // SAFETY: inside the region.
        unsafe { self.arena.as_ptr().add(self.offset + tile * self.stride) }
    }

    /// Products of row tile `tile` with rows `first .. first + tokens` of `input`, sixteen floats each.
    ///
    /// # Safety
    /// `input` holds those rows, `cols` wide, in the form this matrix multiplies.
    pub(crate) unsafe fn product(
        &self,
        tile: usize,
        input: &Input,
        first: usize,
        tokens: usize,
        out: &mut [f32],
        scratch: &mut Scratch,
    ) {
        debug_assert_eq!(input.cols, self.cols);
        // SAFETY: the caller's promise; the tile is ours.
        unsafe { (self.packed.product)(self.tile(tile), input, first, tokens, out, scratch) };
    }

    /// Decodes one row.
    pub(crate) fn decode(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows && out.len() == self.cols, "a row of this matrix");
        // SAFETY: the tile is ours and `cols` wide.
        unsafe { (self.packed.decode)(self.tile(row / ROWS), row % ROWS, out) };
    }
}
