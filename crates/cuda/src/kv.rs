//! The cache on the device: pages of each group, and the tables that say which page holds what.
//!
//! A page is [`PAGE`] positions of every layer of its group; storage is `[layer][page][K, V][kv_heads]` blocks of
//! all positions of a head, whose width is rounded up to one that kernels know; `kernels/kv` says what is in a
//! block. Layers are outermost because a kernel reads one layer of all pages: pages of one sequence then mostly
//! lie side by side. Tables are u32 `[slot][group][pages]`; the host keeps the same in pinned memory and copies
//! what changed at the start of the next step.

use crate::driver::{Block, Context, Error, Pinned, Stream};
use model::Plan;
use model::runner::{LoadOptions, PAGE};
use std::ops::Range;

/// Sizes of the cache, known before anything is allocated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Bytes of a page, all layers together, by group.
    pub(crate) page: Vec<usize>,
    /// Bytes of one layer of a page.
    pub(crate) layer: usize,
    /// Pages of each group.
    pub(crate) counts: Vec<usize>,
    /// Entries of a slot's table of a group: pages of the longest sequence.
    pub(crate) pages: usize,
    /// Sequences.
    pub(crate) slots: usize,
    /// Group and place in it of every layer.
    pub(crate) homes: Vec<(usize, usize)>,
}

impl Shape {
    /// Of `plan` with `options`; `head` is the padded width.
    pub(crate) fn new(plan: &Plan, options: &LoadOptions, head: usize) -> Shape {
        let layer = 2 * plan.shape.kv_heads * PAGE * options.kv.head_bytes(head);
        let mut homes = vec![(0, 0); plan.shape.layers];
        for (g, group) in plan.kv.iter().enumerate() {
            for (place, &layer) in group.layers.iter().enumerate() {
                homes[layer] = (g, place);
            }
        }
        let page = plan.kv.iter().map(|group| layer * group.layers.len()).collect();
        let counts = plan.kv.iter().map(|group| options.group_pages(group.window)).collect();
        Shape { page, layer, counts, pages: options.pages, slots: options.slots, homes }
    }

    /// Bytes of a group's pages.
    pub(crate) fn group_bytes(&self, group: usize) -> u64 {
        self.page[group] as u64 * self.counts[group] as u64
    }

    /// Bytes of all pages.
    pub(crate) fn bytes(&self) -> u64 {
        (0..self.page.len()).map(|group| self.group_bytes(group)).sum()
    }

    /// Entries of all tables.
    pub(crate) fn entries(&self) -> usize {
        self.slots * self.page.len() * self.pages
    }
}

/// What spans both.
fn hull(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    a.start.min(b.start)..a.end.max(b.end)
}

/// Pages and tables.
pub(crate) struct Kv {
    shape: Shape,
    groups: Vec<Block>,
    tables: Pinned<u32>,
    /// By slot and group: entries that the device does not know yet.
    changed: Vec<Range<usize>>,
    /// Indices into `changed` that are not empty.
    dirty: Vec<usize>,
    /// By slot and group: entries whose copies may be under way, and whether there are any.
    copied: Vec<Range<usize>>,
    copying: bool,
}

impl Kv {
    /// Allocates; pages are zero, so that what attention reads beyond a sequence is finite.
    ///
    /// # Errors
    /// The driver's.
    pub(crate) fn new(context: &Context, stream: &Stream, shape: Shape) -> Result<Kv, Error> {
        let mut groups = vec![];
        for group in 0..shape.page.len() {
            let block = Block::new(context, shape.group_bytes(group) as usize)?;
            block.fill_later(stream, 0, block.bytes(), 0)?;
            groups.push(block);
        }
        let lists = shape.slots * shape.page.len();
        Ok(Kv {
            groups,
            tables: Pinned::new(context, shape.entries())?,
            changed: vec![0..0; lists],
            dirty: Vec::with_capacity(lists),
            copied: vec![0..0; lists],
            copying: false,
            shape,
        })
    }

    /// The sizes.
    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Where a group's pages begin.
    pub(crate) fn pages(&self, group: usize) -> u64 {
        self.groups[group].address()
    }

    /// Whether `count` entries from `first` on may not be written yet, because copies of them may be under way.
    pub(crate) fn held(&self, slot: usize, group: usize, first: usize, count: usize) -> bool {
        let list = slot * self.groups.len() + group;
        let start = list * self.shape.pages + first;
        let copied = &self.copied[list];
        self.copying && copied.start < start + count && start < copied.end
    }

    /// All copies have ended.
    pub(crate) fn settled(&mut self) {
        if self.copying {
            self.copied.fill(0..0);
            self.copying = false;
        }
    }

    /// Sets the pages of a slot's positions from `first · PAGE` on. None of them is [`Kv::held`].
    ///
    /// # Panics
    /// For slots, groups and pages that there are not.
    pub(crate) fn map(&mut self, slot: usize, group: usize, first: usize, pages: &[u32]) {
        let of_group = self.shape.pages;
        assert!(slot < self.shape.slots && group < self.groups.len(), "a slot and group of this runner");
        let most = self.shape.counts[group];
        assert!(pages.iter().all(|&page| (page as usize) < most), "pages of this runner");
        assert!(first + pages.len() <= of_group, "no more positions than there are pages");
        let list = slot * self.groups.len() + group;
        let start = list * of_group + first;
        let range = start..start + pages.len();
        self.tables.as_mut_slice()[range.clone()].copy_from_slice(pages);
        let changed = &mut self.changed[list];
        if pages.is_empty() {
            return;
        }
        if changed.start == changed.end {
            self.dirty.push(list);
            *changed = range;
        } else {
            *changed = hull(changed, &range);
        }
    }

    /// Copies what changed to the tables at byte `offset` of `block`, when the stream comes to it.
    ///
    /// # Errors
    /// The driver's; then the device is lost.
    pub(crate) fn update(&mut self, stream: &Stream, block: &Block, offset: usize) -> Result<(), Error> {
        while let Some(list) = self.dirty.pop() {
            let range = std::mem::take(&mut self.changed[list]);
            let copied = &mut self.copied[list];
            *copied = if copied.start == copied.end { range.clone() } else { hull(copied, &range) };
            self.copying = true;
            block.write_later(stream, offset + range.start * 4, &self.tables, range)?;
        }
        Ok(())
    }

    /// Copies a page of a group onto another, when the stream comes to it.
    ///
    /// # Errors
    /// The driver's; then the device is lost.
    ///
    /// # Panics
    /// For pages that there are not.
    pub(crate) fn copy_page(&self, stream: &Stream, group: usize, from: u32, to: u32) -> Result<(), Error> {
        if from == to {
            return Ok(());
        }
        let block = &self.groups[group];
        let places = self.places(group, from).zip(self.places(group, to));
        places
            .into_iter()
            .try_for_each(|(from, to)| block.copy_later(stream, to, block, from, self.layer_bytes()))
    }

    /// Bytes of one layer of a page.
    fn layer_bytes(&self) -> usize {
        self.shape.layer
    }

    /// Bytes of a page, all layers together.
    pub(crate) fn page_bytes(&self, group: usize) -> usize {
        self.shape.page[group]
    }

    /// Where the layers of a page lie, in bytes from the group's start.
    fn places(&self, group: usize, page: u32) -> impl Iterator<Item = usize> + use<> {
        assert!((page as usize) < self.shape.counts[group], "pages of this runner");
        let (layer, all) = (self.layer_bytes(), self.layer_bytes() * self.shape.counts[group]);
        (0..self.page_bytes(group) / layer).map(move |i| i * all + page as usize * layer)
    }

    /// Copies a page out, layer after layer, and waits.
    ///
    /// # Errors
    /// The driver's; then the device is lost.
    pub(crate) fn read_page(
        &self,
        stream: &Stream,
        group: usize,
        page: u32,
        to: &mut [u8],
    ) -> Result<(), Error> {
        let mut parts = to.chunks_exact_mut(self.layer_bytes());
        self.places(group, page)
            .zip(&mut parts)
            .try_for_each(|(at, to)| self.groups[group].read(stream, at, to))
    }

    /// Copies a page in, as it was read, and waits.
    ///
    /// # Errors
    /// The driver's; then the device is lost.
    pub(crate) fn write_page(
        &self,
        stream: &Stream,
        group: usize,
        page: u32,
        from: &[u8],
    ) -> Result<(), Error> {
        let mut parts = from.chunks_exact(self.layer_bytes());
        self.places(group, page)
            .zip(&mut parts)
            .try_for_each(|(at, from)| self.groups[group].write(stream, at, from))
    }
}
