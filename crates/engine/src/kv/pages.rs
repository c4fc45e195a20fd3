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
}

impl Pool {
    /// `pages` pages, all free.
    pub fn new(pages: usize) -> Pool {
        Pool { free: (0..pages as u32).rev().collect(), counts: vec![0; pages] }
    }

    /// A free page, owned once from now on.
    pub fn take(&mut self) -> Option<u32> {
        let page = self.free.pop()?;
        self.counts[page as usize] = 1;
        Some(page)
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

/// A sequence's pages of one group, in order of position.
#[derive(Debug)]
pub struct Table {
    pages: Vec<u32>,
}

impl Table {
    /// An empty list that never needs more room than `pages`.
    pub fn with_room(pages: usize) -> Table {
        Table { pages: Vec::with_capacity(pages) }
    }

    /// The pages, in order of position.
    pub fn pages(&self) -> &[u32] {
        &self.pages
    }

    /// Makes the list's page `index` its own, for writing; `index` is at most one past the end.
    ///
    /// `None` when the pool is empty; then nothing has changed.
    pub fn own(&mut self, index: usize, pool: &mut Pool) -> Option<Change> {
        debug_assert!(index <= self.pages.len(), "page {index} would leave a gap");
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

    /// Keeps the first `len` pages and gives the others back.
    pub fn truncate(&mut self, len: usize, pool: &mut Pool) {
        while self.pages.len() > len {
            if let Some(page) = self.pages.pop() {
                pool.release(page);
            }
        }
    }

    /// Takes over the first `len` pages of another list, shared; what it had is given back.
    pub fn share(&mut self, other: &Table, len: usize, pool: &mut Pool) {
        self.truncate(0, pool);
        for &page in other.pages.iter().take(len) {
            pool.share(page);
            self.pages.push(page);
        }
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
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            4 => (0usize..3, 0usize..9).prop_map(|(list, index)| Act::Own(list, index)),
            1 => (0usize..3, 0usize..9).prop_map(|(list, len)| Act::Truncate(list, len)),
            1 => (0usize..3, 0usize..3, 0usize..9).prop_map(|(to, from, len)| Act::Share(to, from, len)),
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
            let mut expected: Vec<Vec<usize>> = vec![vec![]; 3];
            for (stamp, act) in acts.into_iter().enumerate() {
                match act {
                    Act::Own(list, index) => {
                        let index = index.min(lists[list].pages().len());
                        let free = pool.free();
                        match lists[list].own(index, &mut pool) {
                            None => {
                                prop_assert_eq!(free, 0);
                                continue;
                            }
                            Some(Change::Copied { from, to }) => storage[to as usize] = storage[from as usize],
                            Some(Change::Added(_)) => expected[list].push(0),
                            Some(Change::None) => {}
                        }
                        let page = lists[list].pages()[index];
                        prop_assert_eq!(pool.owners(page), 1);
                        storage[page as usize] = stamp;
                        expected[list][index] = stamp;
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
                }
                for (list, expected) in lists.iter().zip(&expected) {
                    let found: Vec<usize> = list.pages().iter().map(|&page| storage[page as usize]).collect();
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
