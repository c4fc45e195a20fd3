//! Random matrices on a lab's device, with their weights as `quant`'s decoder gives them.
#![allow(dead_code, reason = "every test file uses a part")]

use cuda::args::Matrix;
use cuda::driver::Block;
use cuda::lab::Lab;
use cuda::tile::{ROWS, TileFormat, pack};
use quant::Format;

/// Numbers in [-1, 1) from a seed: SplitMix64.
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    pub(crate) fn float(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub(crate) fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.float()).collect()
    }
}

/// A matrix on the device and its weights as the decoder gives them.
pub(crate) struct Weights {
    pub(crate) matrix: Matrix,
    _tiles: Block,
    pub(crate) rows: Vec<Vec<f32>>,
}

/// Random weights up to `largest`.
pub(crate) fn weights(
    lab: &Lab,
    format: Format,
    rows: usize,
    cols: usize,
    largest: f32,
    noise: &mut Noise,
) -> Weights {
    let bytes = format.row_bytes(cols).expect("whole blocks");
    let stored: Vec<Vec<u8>> = (0..rows)
        .map(|_| {
            let mut row = vec![0; bytes];
            let values: Vec<f32> = noise.floats(cols).iter().map(|x| x * largest).collect();
            format.encode(&values, &mut row).expect("all of these can be encoded");
            row
        })
        .collect();
    let (tile, _) = TileFormat::of(format);
    let mut tiles = vec![0; rows.div_ceil(ROWS) * tile.row_tile_bytes(cols)];
    for (rows, out) in stored.chunks(ROWS).zip(tiles.chunks_mut(tile.row_tile_bytes(cols))) {
        let rows: Vec<&[u8]> = rows.iter().map(Vec::as_slice).collect();
        pack(format, &rows, cols, out).expect("nothing overflows");
    }
    let decoded = stored.iter().map(|row| {
        let mut out = vec![0.0; cols];
        format.decode(row, &mut out);
        out
    });
    let block = lab.upload(&tiles);
    Weights { matrix: Matrix::new(block.address(), rows, cols, tile), rows: decoded.collect(), _tiles: block }
}
