//! What a step is told: its rows, as arrays, and how attention cuts them into tiles.

use crate::args::attend::{Attention, Kind, NOWHERE};
use crate::lower::{FEW, Regime};
use model::Row;
use model::plan::{Op, Plan};
use model::runner::{LoadOptions, PAGE};

/// Where the parts of a step's state lie: u32 arrays of `rows` entries each, the tiles of two.
#[derive(Clone, Copy, Debug)]
pub(crate) struct State {
    pub(crate) rows: usize,
}

/// An array of a state.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Array {
    Token,
    Position,
    Slot,
    /// The rows whose logits are wanted.
    Select,
    /// Where a row is among those, or [`NOWHERE`].
    Output,
    /// First row and number of rows of each tile of attention.
    Tiles,
}

impl State {
    /// Entries of all arrays.
    pub(crate) fn entries(self) -> usize {
        self.at(Array::Tiles) + 2 * self.rows
    }

    /// Bytes of all arrays.
    pub(crate) fn bytes(self) -> usize {
        4 * self.entries()
    }

    /// Index of an array's first entry.
    pub(crate) fn at(self, array: Array) -> usize {
        array as usize * self.rows
    }
}

/// How attention is cut over a device, for few rows: blocks that share the pages of a tile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Splits {
    pub(crate) attention: Attention,
    /// Blocks that run at a time; more would take twice as long.
    blocks: usize,
    /// Most pages a row can see.
    pages: usize,
    /// Most tiles.
    tiles: usize,
}

/// Pages a split has at least: a step of each of its four warps.
pub(crate) const MIN_PAGES: usize = 4;

impl Splits {
    pub(crate) fn new(plan: &Plan, options: &LoadOptions, sms: u32) -> Splits {
        let attention = Attention::of(plan, options.kv);
        let windows = plan.ops.iter().filter_map(|op| match op {
            Op::Attend { window, .. } => {
                Some(window.map_or(options.pages, |window| window.div_ceil(PAGE) + 1))
            }
            _ => None,
        });
        Splits {
            attention,
            blocks: attention.resident() * sms as usize,
            pages: windows.max().unwrap_or(1).min(options.pages.max(1)),
            tiles: options.rows.clamp(1, FEW),
        }
    }

    /// Blocks a tile, when there are `tiles`.
    pub(crate) fn of(&self, tiles: usize) -> usize {
        let wanted = self.blocks / (self.attention.columns(Kind::Attend) * tiles.max(1));
        wanted.clamp(1, self.pages.div_ceil(MIN_PAGES))
    }

    /// Bytes of partial results.
    pub(crate) fn partial_bytes(&self) -> usize {
        let rows = self.attention.tile_rows(Kind::Attend).min(FEW);
        let floats = |tiles: usize| {
            let of = |rows: usize| self.attention.partial_floats(tiles, rows, self.of(tiles));
            of(1).max(of(rows))
        };
        4 * (1..=self.tiles).map(floats).max().unwrap_or(0)
    }

    /// Bytes of arrival counters.
    pub(crate) fn arrived_bytes(&self) -> usize {
        4 * self.attention.arrived(self.tiles)
    }
}

/// How the rows of a step lie to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// No two that attention could take together: tiles of one row.
    Apart,
    /// All of one slot and following each other.
    Run,
    /// Anything: tiles are listed in the state.
    Listed,
}

/// The rows of a step, beside their arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rows {
    pub(crate) count: usize,
    /// Rows whose logits are wanted.
    pub(crate) wanted: usize,
    pub(crate) shape: Shape,
    /// Tiles of attention, and rows of the largest.
    pub(crate) tiles: usize,
    pub(crate) longest: usize,
}

impl Rows {
    /// Writes the arrays of `state` for a batch into `to`; `most` rows fit a tile.
    pub(crate) fn fill(batch: &[Row], state: State, to: &mut [u32], most: usize) -> Rows {
        let (mut wanted, mut tiles) = (0, 0);
        let mut tile = (0, 0);
        let mut longest = 1;
        for (i, row) in batch.iter().enumerate() {
            to[state.at(Array::Token) + i] = row.token;
            to[state.at(Array::Position) + i] = row.position;
            to[state.at(Array::Slot) + i] = row.slot;
            to[state.at(Array::Output) + i] = NOWHERE;
            if row.logits {
                to[state.at(Array::Output) + i] = wanted as u32;
                to[state.at(Array::Select) + wanted] = i as u32;
                wanted += 1;
            }
            let follows =
                |last: &Row| last.slot == row.slot && last.position.checked_add(1) == Some(row.position);
            if i > 0 && tile.1 < most && follows(&batch[i - 1]) {
                tile.1 += 1;
            } else {
                tiles += 1;
                tile = (i, 1);
            }
            longest = longest.max(tile.1);
            let at = state.at(Array::Tiles) + 2 * (tiles - 1);
            to[at..at + 2].copy_from_slice(&[tile.0 as u32, tile.1 as u32]);
        }
        let count = batch.len();
        // Tiles that follow from their number need no list, so that recorded launches fit other batches.
        let even = (0..tiles).all(|i| to[state.at(Array::Tiles) + 2 * i] as usize == i * longest);
        let shape = match Regime::of(count) {
            Regime::Many => Shape::Listed,
            _ if longest == 1 => Shape::Apart,
            _ if even && longest == most.min(count) => Shape::Run,
            _ => Shape::Listed,
        };
        Rows { count, wanted, shape, tiles, longest }
    }

    /// Which recorded graph serves these rows, of [`Rows::GRAPHS`].
    pub(crate) fn graph(&self) -> Option<usize> {
        let fits = self.count <= FEW && self.wanted == self.count;
        match self.shape {
            Shape::Apart if fits => Some(self.count),
            Shape::Run if fits => Some(FEW + 1 + self.count),
            _ => None,
        }
    }

    /// Graphs there can be.
    pub(crate) const GRAPHS: usize = 2 * (FEW + 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(list: &[(u32, u32, bool)], most: usize) -> (Rows, Vec<u32>, State) {
        let row = |&(slot, position, logits): &(u32, u32, bool)| Row { slot, position, token: 7, logits };
        let batch: Vec<Row> = list.iter().map(row).collect();
        let state = State { rows: batch.len() };
        let mut to = vec![99; state.entries()];
        (Rows::fill(&batch, state, &mut to, most), to, state)
    }

    #[test]
    fn rows_of_one_run_share_tiles() {
        let (rows, to, state) = rows(&[(1, 4, false), (1, 5, false), (1, 6, true)], 2);
        assert_eq!((rows.shape, rows.tiles, rows.longest), (Shape::Run, 2, 2));
        assert_eq!(to[state.at(Array::Tiles)..][..4], [0, 2, 2, 1]);
        assert_eq!(to[state.at(Array::Output)..][..3], [NOWHERE, NOWHERE, 0]);
        assert_eq!((rows.wanted, to[state.at(Array::Select)]), (1, 2));
        assert_eq!(rows.graph(), None);
    }

    #[test]
    fn rows_of_several_slots_are_apart() {
        let (rows, ..) = rows(&[(0, 4, true), (1, 5, true), (2, 9, true)], 8);
        assert_eq!((rows.shape, rows.tiles, rows.longest), (Shape::Apart, 3, 1));
        assert_eq!(rows.graph(), Some(3));
    }

    /// A tile that ends early, in the middle, has a place of its own.
    #[test]
    fn anything_else_is_listed() {
        let (listed, to, state) = rows(&[(0, 4, true), (1, 5, true), (1, 6, true), (3, 0, true)], 8);
        assert_eq!((listed.shape, listed.tiles, listed.longest), (Shape::Listed, 3, 2));
        assert_eq!(to[state.at(Array::Tiles)..][..6], [0, 1, 1, 2, 3, 1]);
        assert_eq!(listed.graph(), None);
        // Two runs of two look like one of four by their numbers, but are of two slots.
        let (pairs, ..) = rows(&[(0, 4, true), (0, 5, true), (1, 5, true), (1, 6, true)], 2);
        assert_eq!((pairs.shape, pairs.tiles), (Shape::Run, 2));
    }
}
