//! Pages of one cache group and the lists of them that sequences keep.
//!
//! A page is [`model::runner::PAGE`] positions of every layer of the group. A list names the pages of a
//! sequence in order of position. Lists may share pages: a page is free when nobody counts it.

/// The pages of one group.
#[derive(Debug)]
pub struct Pool {
    /// Pages nobody has, the next to give last.
    free: Vec<u32>,
    /// Owners of each page.
    counts: Vec<u32>,
    /// Whether each page was ever owned since its memory was last given back. Of free pages these come first.
    grown: Vec<bool>,
}

impl Pool {
    /// `pages` pages, all free.
    pub fn new(pages: usize) -> Pool {
        Pool { free: (0..pages as u32).rev().collect(), counts: vec![0; pages], grown: vec![false; pages] }
    }

    /// A free page, owned once from now on.
    pub fn take(&mut self) -> Option<u32> {
        let page = self.free.pop()?;
        self.counts[page as usize] = 1;
        self.grown[page as usize] = true;
        Some(page)
    }

    /// Whether the page that [`Pool::take`] would give was owned before, and so has memory where pages grow.
    pub fn next_has_memory(&self) -> Option<bool> {
        self.free.last().map(|&page| self.grown[page as usize])
    }

    /// Takes the memory of free pages that have some: `give_back` is told each. Returns how many.
    pub fn shrink(&mut self, mut give_back: impl FnMut(u32)) -> usize {
        let mut count = 0;
        for &page in &self.free {
            if std::mem::take(&mut self.grown[page as usize]) {
                give_back(page);
                count += 1;
            }
        }
        count
    }

    /// Adds an owner to a page in use.
    pub fn share(&mut self, page: u32) {
        debug_assert!(self.counts[page as usize] > 0, "page {page} is free and cannot be shared");
        self.counts[page as usize] += 1;
    }

    /// Takes an owner away; without owners the page is free.
    pub fn release(&mut self, page: u32) {
        let count = &mut self.counts[page as usize];
        debug_assert!(*count > 0, "page {page} is free already");
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.free.push(page);
        }
    }

    /// Owners of a page; 0 if free.
    pub fn owners(&self, page: u32) -> u32 {
        self.counts[page as usize]
    }

    /// All pages.
    pub fn pages(&self) -> usize {
        self.counts.len()
    }

    /// Pages nobody has.
    pub fn free(&self) -> usize {
        self.free.len()
    }
}

/// What a list did to make a page writable; the runner has to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The list owned it alone.
    None,
    /// The list got a new page at its end.
    Added(u32),
    /// The page was shared, and the list has a page of its own now: `from` must be copied to `to`.
    Copied {
        /// The shared page.
        from: u32,
        /// The own one.
        to: u32,
    },
}

/// A sequence's pages of one group, in order of position. Those of the beginning may have been given back.
#[derive(Debug)]
pub struct Table {
    pages: Vec<u32>,
    /// How many of the first it does not have any more; their entries mean nothing.
    first: usize,
}

impl Table {
    /// An empty list that never needs more room than `pages`.
    pub fn with_room(pages: usize) -> Table {
        Table { pages: Vec::with_capacity(pages), first: 0 }
    }

    /// The pages it has, in order of position, from [`Table::first`] on.
    pub fn pages(&self) -> &[u32] {
        &self.pages[self.first..]
    }

    /// Index of the first page it has: position / PAGE.
    pub fn first(&self) -> usize {
        self.first
    }

    /// Whether [`Table::own`] will take a page from the pool.
    pub fn lacks(&self, index: usize, pool: &Pool) -> bool {
        self.pages.get(index).is_none_or(|&page| pool.owners(page) > 1)
    }

    /// Gives the first page it has back, unless that is page `keep` or a later one; whether it did.
    pub fn forget(&mut self, keep: usize, pool: &mut Pool) -> bool {
        if self.first >= keep.min(self.pages.len()) {
            return false;
        }
        pool.release(self.pages[self.first]);
        self.first += 1;
        true
    }

    /// Makes the list's page `index` its own, for writing; `index` is at most one past the end.
    ///
    /// `None` when the pool is empty; then nothing has changed.
    pub fn own(&mut self, index: usize, pool: &mut Pool) -> Option<Change> {
        debug_assert!(index <= self.pages.len(), "page {index} would leave a gap");
        debug_assert!(index >= self.first, "page {index} was given back");
        let Some(page) = self.pages.get_mut(index) else {
            let page = pool.take()?;
            self.pages.push(page);
            return Some(Change::Added(page));
        };
        if pool.owners(*page) == 1 {
            return Some(Change::None);
        }
        let to = pool.take()?;
        let from = std::mem::replace(page, to);
        pool.release(from);
        Some(Change::Copied { from, to })
    }

    /// Appends a page that was just taken as number `index`. An empty list begins there; any other has all
    /// before it.
    pub fn place(&mut self, index: usize, page: u32) {
        if self.pages.is_empty() {
            self.pages.resize(index, u32::MAX);
            self.first = index;
        }
        debug_assert_eq!(index, self.pages.len(), "pages come in order");
        self.pages.push(page);
    }

    /// Keeps the first `len` pages and gives the others back.
    pub fn truncate(&mut self, len: usize, pool: &mut Pool) {
        for page in self.pages.drain(len.max(self.first).min(self.pages.len())..) {
            pool.release(page);
        }
        self.pages.truncate(len);
        self.first = self.first.min(len);
    }

    /// Takes over the first `len` pages of another list, shared; what it had is given back.
    pub fn share(&mut self, other: &Table, len: usize, pool: &mut Pool) {
        self.truncate(0, pool);
        self.pages.extend(other.pages.iter().take(len));
        self.first = other.first.min(self.pages.len());
        self.pages().iter().for_each(|&page| pool.share(page));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Something done to one of three lists.
    #[derive(Clone, Debug)]
    enum Act {
        Own(usize, usize),
        Truncate(usize, usize),
        Share(usize, usize, usize),
        Forget(usize, usize),
        Shrink,
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            4 => (0usize..3, 0usize..9).prop_map(|(list, index)| Act::Own(list, index)),
            1 => (0usize..3, 0usize..9).prop_map(|(list, len)| Act::Truncate(list, len)),
            1 => (0usize..3, 0usize..3, 0usize..9).prop_map(|(to, from, len)| Act::Share(to, from, len)),
            1 => (0usize..3, 0usize..9).prop_map(|(list, keep)| Act::Forget(list, keep)),
            1 => Just(Act::Shrink),
        ]
    }

    proptest! {
        /// Against a plain model: what each list should read back, and every page counted.
        #[test]
        fn no_leak_no_double_owner(acts in prop::collection::vec(act(), 0..120), pages in 0usize..16) {
            let mut pool = Pool::new(pages);
            let mut lists: Vec<Table> = (0..3).map(|_| Table::with_room(pages)).collect();
            // What was last written to each page, and what each list must find in its pages.
            let mut storage = vec![0usize; pages];
            let mut expected: Vec<Vec<Option<usize>>> = vec![vec![]; 3];
            let mut grown = vec![false; pages];
            for (stamp, act) in acts.into_iter().enumerate() {
                match act {
                    Act::Own(list, index) => {
                        let index = index.min(expected[list].len());
                        if expected[list].get(index) == Some(&None) {
                            continue;
                        }
                        let (free, lacks) = (pool.free(), lists[list].lacks(index, &pool));
                        let (next, new) = (pool.next_has_memory(), grown.iter().filter(|&&grown| !grown).count());
                        match lists[list].own(index, &mut pool) {
                            None => {
                                prop_assert_eq!((free, lacks), (0, true));
                                continue;
                            }
                            Some(Change::Copied { from, to }) => storage[to as usize] = storage[from as usize],
                            Some(Change::Added(_)) => expected[list].push(None),
                            Some(Change::None) => prop_assert!(!lacks),
                        }
                        prop_assert_eq!(free - pool.free(), usize::from(lacks));
                        if lacks {
                            prop_assert_eq!(next, Some(free > new), "those with memory come first");
                        }
                        let page = lists[list].pages()[index - lists[list].first()];
                        prop_assert_eq!(pool.owners(page), 1);
                        grown[page as usize] = true;
                        storage[page as usize] = stamp;
                        expected[list][index] = Some(stamp);
                    }
                    Act::Truncate(list, len) => {
                        lists[list].truncate(len, &mut pool);
                        expected[list].truncate(len);
                    }
                    Act::Share(to, from, len) if to != from => {
                        let (source, mut list) = (from, std::mem::replace(&mut lists[to], Table::with_room(0)));
                        list.share(&lists[source], len, &mut pool);
                        lists[to] = list;
                        expected[to] = expected[from].iter().copied().take(len).collect();
                    }
                    Act::Share(..) => {}
                    Act::Shrink => {
                        let mut given = vec![];
                        pool.shrink(|page| given.push(page));
                        for page in 0..pages as u32 {
                            let had = pool.owners(page) == 0 && grown[page as usize];
                            prop_assert_eq!(given.iter().filter(|&&given| given == page).count(), usize::from(had));
                            grown[page as usize] &= !had;
                        }
                    }
                    Act::Forget(list, keep) => {
                        let gone = expected[list].iter().take_while(|stamp| stamp.is_none()).count();
                        let forgets = gone < keep.min(expected[list].len());
                        prop_assert_eq!(lists[list].forget(keep, &mut pool), forgets);
                        if forgets {
                            expected[list][gone] = None;
                        }
                    }
                }
                for (list, expected) in lists.iter().zip(&expected) {
                    let found = list.pages().iter().map(|&page| Some(storage[page as usize]));
                    let found: Vec<_> = std::iter::repeat_n(None, list.first()).chain(found).collect();
                    prop_assert_eq!(&found, expected);
                }
                for page in 0..pages as u32 {
                    let owners = lists.iter().flat_map(Table::pages).filter(|&&owned| owned == page);
                    prop_assert_eq!(owners.count() as u32, pool.owners(page));
                }
                let used = (0..pages as u32).filter(|&page| pool.owners(page) > 0).count();
                prop_assert_eq!(used + pool.free(), pages);
            }
            for list in &mut lists {
                list.truncate(0, &mut pool);
            }
            prop_assert_eq!(pool.free(), pages);
        }
    }
}
