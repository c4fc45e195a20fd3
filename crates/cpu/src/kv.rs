//! Pages of the cache in memory.
//!
//! A page holds [`PAGE`](model::runner::PAGE) positions of every layer of its group: for each layer and KV head what
//! [`Keep`](crate::ops::Keep) says. It is zero until written.
//!
//! Pages start at pages of the system, so that one can be given back whole, and lie in small ones: the first
//! position written to a page takes what the page has for it, never the 2 MiB of a huge page. Taking a
//! page of a group costs at most [`Kv::stride`] bytes, its own size rounded up to a page of the system.

use crate::kernels::{Kept, Kernels};
use crate::memory::{Pages, Region};
use model::runner::LoadOptions;
use model::{Error, Plan};

/// Sizes of one cache group in bytes.
#[derive(Clone, Copy)]
pub(crate) struct Group {
    /// From page to page.
    pub(crate) stride: usize,
    /// A page.
    page: usize,
    /// One layer of a page.
    layer: usize,
    /// One KV head of a layer.
    head: usize,
    /// Pages.
    count: usize,
}

impl Group {
    fn all<'a>(plan: &'a Plan, options: &'a LoadOptions, kept: &Kept) -> impl Iterator<Item = Group> + 'a {
        let head = (kept.bytes)(plan.shape.head_dim);
        let layer = head * plan.shape.kv_heads;
        plan.kv.iter().map(move |group| {
            let page = layer * group.layers.len();
            let stride = page.next_multiple_of(crate::memory::system_page());
            Group { stride, page, layer, head, count: options.group_pages(group.window) }
        })
    }
}

/// All groups and who sees what.
pub(crate) struct Kv {
    groups: Vec<Group>,
    regions: Vec<Region>,
    /// Group and place in it of every layer.
    pub(crate) homes: Vec<(usize, usize)>,
    /// `tables[slot][group][position / PAGE]`.
    pub(crate) tables: Vec<Vec<Vec<u32>>>,
    pub(crate) kept: Kept,
}

impl Kv {
    pub(crate) fn new(plan: &Plan, options: &LoadOptions, kernels: &Kernels) -> Result<Kv, Error> {
        let kept = (kernels.kept)(options.kv);
        let groups: Vec<Group> = Group::all(plan, options, &kept).collect();
        let mut homes = vec![(0, 0); plan.shape.layers];
        for (g, group) in plan.kv.iter().enumerate() {
            for (place, &layer) in group.layers.iter().enumerate() {
                homes[layer] = (g, place);
            }
        }
        let region = |group: &Group| Region::new("the KV cache", group.stride * group.count, Pages::Small);
        let regions = groups.iter().map(region).collect::<Result<_, _>>()?;
        let tables = vec![vec![vec![0; options.pages]; plan.kv.len()]; options.slots];
        Ok(Kv { groups, regions, homes, tables, kept })
    }

    /// Bytes of all pages, and of the tables of who sees which.
    pub(crate) fn cost(plan: &Plan, options: &LoadOptions, kernels: &Kernels) -> (u64, u64) {
        let kept = (kernels.kept)(options.kv);
        let pages = Group::all(plan, options, &kept).map(|group| (group.stride * group.count) as u64).sum();
        (pages, (options.slots * plan.kv.len() * options.pages * size_of::<u32>()) as u64)
    }

    /// Bytes that one page of a group takes.
    pub(crate) fn page_cost(plan: &Plan, group: usize, options: &LoadOptions, kernels: &Kernels) -> u64 {
        let mut groups = Group::all(plan, options, &(kernels.kept)(options.kv));
        groups.nth(group).map_or(0, |group| group.stride as u64)
    }

    /// Bytes of all pages, as [`Kv::cost`] foretells them.
    pub(crate) fn bytes(&self) -> u64 {
        self.groups.iter().map(|group| (group.stride * group.count) as u64).sum()
    }

    /// Bytes from the group's start to a head of a layer at a page.
    pub(crate) fn head(&self, layer: usize, head: usize, page: u32) -> usize {
        let (group, place) = self.homes[layer];
        let group = &self.groups[group];
        page as usize * group.stride + place * group.layer + head * group.head
    }

    /// Start of a group's storage.
    pub(crate) fn base(&self, group: usize) -> *mut u8 {
        self.regions[group].as_ptr()
    }

    /// Bytes from page to page: the most that taking one costs.
    pub(crate) fn stride(&self, group: usize) -> usize {
        self.groups[group].stride
    }

    /// Bytes of a page.
    pub(crate) fn page_bytes(&self, group: usize) -> usize {
        self.groups[group].page
    }

    /// Pages of a group.
    pub(crate) fn pages(&self, group: usize) -> usize {
        self.groups[group].count
    }

    /// Start of a page.
    fn page(&self, group: usize, page: u32) -> *mut u8 {
        let Group { stride, count, .. } = self.groups[group];
        assert!((page as usize) < count, "a page of this group");
        // SAFETY: inside the region.
        unsafe { self.regions[group].as_ptr().add(page as usize * stride) }
    }

    /// Copies a page out.
    pub(crate) fn read_page(&self, group: usize, page: u32, to: &mut [u8]) {
        assert_eq!(to.len(), self.page_bytes(group), "room for a page of this group");
        // SAFETY: the page is as long as `to`, which no page overlaps.
        unsafe { std::ptr::copy_nonoverlapping(self.page(group, page), to.as_mut_ptr(), to.len()) };
    }

    /// Copies a page in.
    pub(crate) fn write_page(&mut self, group: usize, page: u32, from: &[u8]) {
        assert_eq!(from.len(), self.page_bytes(group), "a page of this group");
        // SAFETY: the page is as long as `from`, which no page overlaps.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), self.page(group, page), from.len()) };
    }

    /// Copies a page of a group.
    pub(crate) fn copy_page(&mut self, group: usize, from: u32, to: u32) {
        let (from, to) = (self.page(group, from), self.page(group, to));
        // SAFETY: both are a page long; `copy` allows the same page twice.
        unsafe { std::ptr::copy(from, to, self.page_bytes(group)) };
    }

    /// Gives a page's memory back; it reads as zero.
    pub(crate) fn give_back(&mut self, group: usize, page: u32) {
        let stride = self.stride(group);
        assert!((page as usize) < self.pages(group), "a page of this group");
        self.regions[group].forget(page as usize * stride, stride);
    }
}
