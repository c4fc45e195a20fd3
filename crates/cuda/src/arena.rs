//! Device memory for weights: one allocation where the driver gives it, smaller ones where it does not.
//!
//! On Jetson boards a large allocation can fail although enough memory is free (NvMap, error 12): memory
//! is the machine's own and fragmented. Nothing needs more than a matrix in one piece, so the arena halves
//! its pieces until they are granted. Each piece is as long as what lies in it: the sum is the same however
//! it is cut.

use crate::driver::{Block, Context, Error};
use crate::tile::ALIGN;

/// Pieces are not made smaller than this: below it the device is full, not fragmented.
pub const SMALLEST_PIECE: u64 = 16 << 20;

/// Where something lies in an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// Which piece.
    pub piece: usize,
    /// Bytes from its start, a multiple of [`ALIGN`].
    pub offset: usize,
}

/// Pieces of device memory that hold a list of things, in order.
pub struct Arena {
    pieces: Vec<Block>,
    spots: Vec<Spot>,
}

impl Arena {
    /// Room for things of these sizes, each within one piece and aligned to [`ALIGN`].
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when not even small pieces are granted; what was allocated is freed.
    pub fn new(context: &Context, sizes: &[u64]) -> Result<Arena, Error> {
        let mut arena = Arena { pieces: vec![], spots: vec![] };
        let mut most = Arena::bytes_of(sizes);
        while arena.spots.len() < sizes.len() {
            let rest = &sizes[arena.spots.len()..];
            let count = fitting(rest, most);
            let bytes = Arena::bytes_of(&rest[..count]);
            match Block::new(context, bytes as usize) {
                Ok(block) => {
                    let piece = arena.pieces.len();
                    let mut offset = 0;
                    for size in &rest[..count] {
                        arena.spots.push(Spot { piece, offset });
                        offset += size.next_multiple_of(ALIGN) as usize;
                    }
                    arena.pieces.push(block);
                }
                // A thing larger than the limit was tried by itself already.
                Err(error) if error.is_out_of_memory() && bytes > SMALLEST_PIECE && count > 1 => {
                    most = (bytes / 2).max(SMALLEST_PIECE);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(arena)
    }

    /// Bytes an arena of these sizes takes.
    pub fn bytes_of(sizes: &[u64]) -> u64 {
        sizes.iter().map(|size| size.next_multiple_of(ALIGN)).sum()
    }

    /// Where things lie, in the order of their sizes.
    pub fn spots(&self) -> &[Spot] {
        &self.spots
    }

    /// The memory around a spot.
    pub fn block(&self, spot: Spot) -> &Block {
        &self.pieces[spot.piece]
    }

    /// A spot's address on the device.
    pub fn address(&self, spot: Spot) -> u64 {
        self.block(spot).address() + spot.offset as u64
    }

    /// The piece around an address, and the address's offset in it.
    pub fn find(&self, address: u64) -> Option<(&Block, usize)> {
        let offset = |block: &Block| address.checked_sub(block.address()).map(|offset| offset as usize);
        let around = |block: &&Block| offset(block).is_some_and(|offset| offset < block.bytes());
        let block = self.pieces.iter().find(around)?;
        Some((block, offset(block)?))
    }

    /// Allocations made.
    pub fn pieces(&self) -> usize {
        self.pieces.len()
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> u64 {
        self.pieces.iter().map(|block| block.bytes() as u64).sum()
    }
}

/// How many of `sizes` lie together in at most `most` bytes; at least one.
fn fitting(sizes: &[u64], most: u64) -> usize {
    let mut bytes = 0;
    let fits = |size: &&u64| {
        bytes += size.next_multiple_of(ALIGN);
        bytes <= most
    };
    sizes.iter().take_while(fits).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_fit_but_at_least_one() {
        assert_eq!(fitting(&[256, 1, 256, 512], 768), 3);
        assert_eq!(fitting(&[256, 1, 256, 512], 767), 2);
        assert_eq!(fitting(&[4096, 1], 256), 1);
        assert_eq!(Arena::bytes_of(&[1, 256, 257]), 256 + 256 + 512);
    }
}
