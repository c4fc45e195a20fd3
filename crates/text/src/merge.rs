//! The joining of neighbours that BPE and SentencePiece share: the best pair first, the leftmost of
//! equals, until no pair can be joined.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// No neighbour, no symbol, no rank.
pub(crate) const NONE: u32 = u32::MAX;

/// Up to here looking through all pairs is faster than keeping a heap.
const FEW: usize = 24;

/// A symbol of the text being joined. Nodes are linked; a joined pair lives on in its left node.
pub(crate) struct Node {
    /// Byte where it starts in the piece.
    pub(crate) start: u32,
    /// Number of the symbol, [`NONE`] if it has none.
    pub(crate) symbol: u32,
    prev: u32,
    next: u32,
    /// Rank of joining with the next node, lower is earlier; [`NONE`] if they do not join.
    rank: u32,
    /// What the two would become.
    joined: u32,
}

/// Buffers of a merge, kept between pieces.
#[derive(Default)]
pub(crate) struct Work {
    nodes: Vec<Node>,
    heap: BinaryHeap<Reverse<u64>>,
}

impl Work {
    /// Starts a piece.
    pub(crate) fn clear(&mut self) {
        self.nodes.clear();
    }

    /// Adds a symbol that starts at byte `start`, right of all others.
    pub(crate) fn push(&mut self, start: u32, symbol: u32) {
        let at = self.nodes.len() as u32;
        if let Some(last) = self.nodes.last_mut() {
            last.next = at;
        }
        let prev = at.checked_sub(1).unwrap_or(NONE);
        self.nodes.push(Node { start, symbol, prev, next: NONE, rank: NONE, joined: NONE });
    }

    /// Joins the symbols of a piece of `len` bytes. `pair` says, for two neighbours and the byte where
    /// the right one ends, with which rank they join into which symbol.
    ///
    /// Time is n log n. Ranks order the pairs; different pairs may share one.
    pub(crate) fn merge(&mut self, len: u32, pair: impl Fn(&Node, &Node, u32) -> Option<(u32, u32)>) {
        let count = self.nodes.len();
        for left in 0..count {
            self.rate(left, len, &pair);
        }
        if count <= FEW {
            while let Some(left) = self.best() {
                self.join(left, len, &pair);
            }
            return;
        }
        let mut heap = std::mem::take(&mut self.heap);
        heap.clear();
        heap.extend((0..count).filter_map(|left| self.key(left)));
        while let Some(Reverse(key)) = heap.pop() {
            let left = (key & u64::from(u32::MAX)) as usize;
            // A key is out of date when its pair has changed since it was pushed.
            if self.nodes[left].rank != (key >> 32) as u32 {
                continue;
            }
            self.join(left, len, &pair);
            heap.extend(self.key(left));
            if let Some(prev) = self.prev(left) {
                heap.extend(self.key(prev));
            }
        }
        self.heap = heap;
    }

    /// The symbols left, each with its bytes `start..end` in a piece of `len` bytes.
    pub(crate) fn symbols(&self, len: u32) -> impl Iterator<Item = (u32, std::ops::Range<usize>)> {
        let mut at = if self.nodes.is_empty() { NONE } else { 0 };
        std::iter::from_fn(move || {
            let node = self.nodes.get(at as usize)?;
            at = node.next;
            let end = self.nodes.get(at as usize).map_or(len, |next| next.start);
            Some((node.symbol, node.start as usize..end as usize))
        })
    }

    fn prev(&self, node: usize) -> Option<usize> {
        let prev = self.nodes[node].prev;
        (prev != NONE).then_some(prev as usize)
    }

    fn key(&self, left: usize) -> Option<Reverse<u64>> {
        let rank = self.nodes[left].rank;
        (rank != NONE).then_some(Reverse(u64::from(rank) << 32 | left as u64))
    }

    /// The leftmost pair of lowest rank.
    fn best(&self) -> Option<usize> {
        let (mut best, mut lowest, mut at) = (None, NONE, 0);
        while let Some(node) = self.nodes.get(at as usize) {
            if node.rank < lowest {
                lowest = node.rank;
                best = Some(at as usize);
            }
            at = node.next;
        }
        best
    }

    fn rate(&mut self, left: usize, len: u32, pair: &impl Fn(&Node, &Node, u32) -> Option<(u32, u32)>) {
        let node = &self.nodes[left];
        let found = self.nodes.get(node.next as usize).and_then(|right| {
            let end = self.nodes.get(right.next as usize).map_or(len, |after| after.start);
            pair(node, right, end)
        });
        let (rank, joined) = found.unwrap_or((NONE, NONE));
        let node = &mut self.nodes[left];
        node.rank = rank;
        node.joined = joined;
    }

    fn join(&mut self, left: usize, len: u32, pair: &impl Fn(&Node, &Node, u32) -> Option<(u32, u32)>) {
        let right = self.nodes[left].next as usize;
        let after = self.nodes[right].next;
        self.nodes[right].rank = NONE;
        self.nodes[left].symbol = self.nodes[left].joined;
        self.nodes[left].next = after;
        if let Some(after) = self.nodes.get_mut(after as usize) {
            after.prev = left as u32;
        }
        self.rate(left, len, pair);
        if let Some(prev) = self.prev(left) {
            self.rate(prev, len, pair);
        }
    }
}

/// Longest piece joined at once: positions are 32 bits. Longer text is cut, which no prompt reaches.
pub(crate) const LONGEST: usize = 1 << 30;

/// Cuts `text` into parts of at most [`LONGEST`] bytes, each a whole number of characters.
pub(crate) fn parts(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let mut cut = text.len().min(LONGEST);
        while !text.is_char_boundary(cut) {
            cut -= 1;
        }
        let (part, rest) = text.split_at(cut);
        text = rest;
        (!part.is_empty()).then_some(part)
    })
}
