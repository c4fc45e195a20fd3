//! Reads a header front to back, checking every length against what the file still holds.

use std::io;

use crate::limits;
use crate::source::Source;

/// What went wrong and where; [`crate::parse`] adds which field it was.
pub(crate) enum Flaw {
    /// The file holds something it must not.
    Bad { at: u64, problem: String },
    /// Reading failed.
    Io { at: u64, source: io::Error },
}

/// A position in a source with a window of buffered bytes.
pub(crate) struct Cursor<'s> {
    source: &'s Source,
    /// End of what may be read: the file's or the header limit's.
    end: u64,
    window: Vec<u8>,
    /// Next byte within `window`.
    next: usize,
    /// Offset in the file of `window[0]`.
    base: u64,
}

const WINDOW: usize = 256 << 10;

impl<'s> Cursor<'s> {
    pub(crate) fn new(source: &'s Source) -> Cursor<'s> {
        let end = source.len().min(limits::HEADER_BYTES);
        Cursor { source, end, window: Vec::new(), next: 0, base: 0 }
    }

    /// Offset in the file of the next byte.
    pub(crate) fn at(&self) -> u64 {
        self.base + self.next as u64
    }

    /// Bytes left.
    pub(crate) fn left(&self) -> u64 {
        self.end - self.at()
    }

    /// The flaw of a `what` of `need` bytes, for which too little is left; `at` is its place.
    fn short(&self, at: u64, what: &str, need: u128) -> Flaw {
        let room = if self.end < self.source.len() {
            format!("a header has at most {} MiB", limits::HEADER_BYTES >> 20)
        } else {
            format!("{} are left", self.left())
        };
        Flaw::Bad { at, problem: format!("{what} takes {need} bytes and {room}") }
    }

    /// The next `n` bytes, at most a window.
    fn take(&mut self, n: usize, what: &str) -> Result<&[u8], Flaw> {
        if self.window.len() - self.next < n {
            let at = self.at();
            if (n as u64) > self.left() {
                return Err(self.short(at, what, n as u128));
            }
            let size = self.left().min(WINDOW as u64) as usize;
            self.window.resize(size, 0);
            self.source.read(at, &mut self.window).map_err(|source| Flaw::Io { at, source })?;
            self.base = at;
            self.next = 0;
        }
        let taken = &self.window[self.next..self.next + n];
        self.next += n;
        Ok(taken)
    }

    /// The next `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Flaw> {
        Ok(self.take(N, what)?.try_into().expect("take returns as many bytes as asked for"))
    }

    pub(crate) fn u32(&mut self, what: &str) -> Result<u32, Flaw> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(crate) fn u64(&mut self, what: &str) -> Result<u64, Flaw> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// Appends a length and as many bytes to `out`.
    pub(crate) fn string_into(&mut self, out: &mut Vec<u8>, what: &str) -> Result<(), Flaw> {
        let at = self.at();
        let len = self.u64("its length")?;
        if len > self.left() {
            return Err(self.short(at, what, len as u128));
        }
        // Amortised, not exact: many long strings go into one list.
        out.try_reserve(len as usize).map_err(|_| no_memory(len as usize, at))?;
        self.append(out, len as usize, what)
    }

    /// `count` bytes: elements of one byte, without looking at each.
    pub(crate) fn bytes(&mut self, count: u64) -> Result<Vec<u8>, Flaw> {
        self.check_count(count, 1, "the array")?;
        let mut bytes = Vec::new();
        reserve(&mut bytes, count as usize, self.at())?;
        self.append(&mut bytes, count as usize, "the array")?;
        Ok(bytes)
    }

    fn append(&mut self, out: &mut Vec<u8>, mut len: usize, what: &str) -> Result<(), Flaw> {
        while len > 0 {
            let part = len.min(WINDOW);
            out.extend_from_slice(self.take(part, what)?);
            len -= part;
        }
        Ok(())
    }

    /// A string on its own.
    pub(crate) fn string(&mut self, what: &str) -> Result<Vec<u8>, Flaw> {
        let mut bytes = Vec::new();
        self.string_into(&mut bytes, what)?;
        Ok(bytes)
    }

    /// The length of the string that comes next, without moving.
    pub(crate) fn peek_len(&mut self, what: &str) -> Result<u64, Flaw> {
        let len = self.u64(what)?;
        self.next -= 8;
        Ok(len)
    }

    /// `count` elements of `N` bytes each.
    pub(crate) fn elements<const N: usize, T>(
        &mut self,
        count: u64,
        each: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<T>, Flaw> {
        let at = self.at();
        self.check_count(count, N as u64, "the array")?;
        let mut values = Vec::new();
        let mut left = count as usize;
        reserve(&mut values, left, at)?;
        while left > 0 {
            let part = left.min(WINDOW / N);
            let (elements, _) = self.take(part * N, "the array")?.as_chunks::<N>();
            values.extend(elements.iter().map(|&bytes| each(bytes)));
            left -= part;
        }
        Ok(values)
    }

    /// Refuses a count just read, whose items of at least `each` bytes cannot fit in what is left.
    pub(crate) fn check_count(&self, count: u64, each: u64, what: &str) -> Result<(), Flaw> {
        let need = count as u128 * each as u128;
        if need > self.left() as u128 {
            return Err(self.short(self.at() - 8, &format!("{what} of {count}"), need));
        }
        Ok(())
    }
}

/// Room for exactly `more` elements, or a flaw where the machine has none.
pub(crate) fn reserve<T>(list: &mut Vec<T>, more: usize, at: u64) -> Result<(), Flaw> {
    list.try_reserve_exact(more).map_err(|_| no_memory(more * size_of::<T>(), at))
}

fn no_memory(bytes: usize, at: u64) -> Flaw {
    Flaw::Bad { at, problem: format!("the system has no memory for its {bytes} bytes") }
}
