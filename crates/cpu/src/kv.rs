//! Pages of the cache in memory.
//!
//! A page holds [`PAGE`] positions of every layer of its group: for each layer and KV head the keys,
//! transposed, then the values (see `ops::attend`). It is zero until written.

use crate::memory::Region;
use model::plan::Buf;
use model::runner::{KvType, LoadOptions, PAGE};
use model::{Error, Plan};

/// Storage of one cache group.
pub(crate) struct Group {
    region: Region,
    /// Elements of a page.
    pub(crate) page: usize,
    /// Elements of one layer of a page.
    pub(crate) layer: usize,
    /// Elements of one head's keys, and of its values.
    pub(crate) half: usize,
}

/// Bytes of an element.
fn element(kind: KvType) -> usize {
    match kind {
        KvType::F16 => 2,
        KvType::F32 => 4,
        KvType::Int8 | KvType::Int4 => unreachable!("refused at load"),
    }
}

/// All groups and who sees what.
pub(crate) struct Kv {
    pub(crate) groups: Vec<Group>,
    /// Group and place in it of every layer.
    pub(crate) homes: Vec<(usize, usize)>,
    /// `tables[slot][group][position / PAGE]`.
    pub(crate) tables: Vec<Vec<Vec<u32>>>,
    pub(crate) kind: KvType,
}

impl Kv {
    pub(crate) fn new(plan: &Plan, options: &LoadOptions) -> Result<Kv, Error> {
        let half = PAGE * plan.shape.head_dim;
        let layer = 2 * half * plan.shape.kv_heads;
        let mut homes = vec![(0, 0); plan.shape.layers];
        let mut groups = vec![];
        for (g, group) in plan.kv.iter().enumerate() {
            for (place, &layer) in group.layers.iter().enumerate() {
                homes[layer] = (g, place);
            }
            let page = layer * group.layers.len();
            let bytes = page * options.group_pages(group.window) * element(options.kv);
            groups.push(Group { region: Region::new("the KV cache", bytes)?, page, layer, half });
        }
        debug_assert_eq!(half * plan.shape.kv_heads, PAGE * plan.shape.width(Buf::K));
        let table = vec![0; options.pages];
        let tables = vec![vec![table; plan.kv.len()]; options.slots];
        Ok(Kv { groups, homes, tables, kind: options.kv })
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.groups.iter().map(|group| group.region.len() as u64).sum()
    }

    /// Elements from the group's start to the keys of a head at a page.
    pub(crate) fn keys(&self, layer: usize, head: usize, page: u32) -> usize {
        let (group, place) = self.homes[layer];
        let group = &self.groups[group];
        page as usize * group.page + place * group.layer + 2 * head * group.half
    }

    /// Start of a group's storage; its elements are of type `kind`.
    pub(crate) fn base(&self, group: usize) -> *mut u8 {
        self.groups[group].region.as_ptr()
    }

    /// Bytes of a page.
    pub(crate) fn page_bytes(&self, group: usize) -> usize {
        self.groups[group].page * element(self.kind)
    }

    /// Pages of a group.
    pub(crate) fn pages(&self, group: usize) -> usize {
        self.groups[group].region.len() / self.page_bytes(group)
    }

    /// A page as bytes.
    fn page(&self, group: usize, page: u32, len: usize) -> *mut u8 {
        let (bytes, region) = (self.page_bytes(group), &self.groups[group].region);
        let at = page as usize * bytes;
        assert!(len == bytes && at + bytes <= region.len(), "a page of this group");
        // SAFETY: inside the region.
        unsafe { region.as_ptr().add(at) }
    }

    /// Copies a page out.
    pub(crate) fn read_page(&self, group: usize, page: u32, to: &mut [u8]) {
        let from = self.page(group, page, to.len());
        // SAFETY: the page is as long as `to`, which no page overlaps.
        unsafe { std::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len()) };
    }

    /// Copies a page in.
    pub(crate) fn write_page(&mut self, group: usize, page: u32, from: &[u8]) {
        let to = self.page(group, page, from.len());
        // SAFETY: the page is as long as `from`, which no page overlaps.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) };
    }

    /// Copies a page of a group.
    pub(crate) fn copy_page(&mut self, group: usize, from: u32, to: u32) {
        let bytes = self.page_bytes(group);
        let region = &self.groups[group].region;
        let (from, to) = (from as usize * bytes, to as usize * bytes);
        assert!(from.max(to) + bytes <= region.len(), "pages of this group");
        // SAFETY: both inside the region; `copy` allows the same page twice.
        unsafe { std::ptr::copy(region.as_ptr().add(from), region.as_ptr().add(to), bytes) };
    }
}
