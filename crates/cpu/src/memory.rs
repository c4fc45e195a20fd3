//! Memory for weights and pages: zeroed, page-aligned, taken at the first touch.

use model::Error;
use std::ptr::NonNull;

/// A huge page on every machine this runs on.
const HUGE: usize = 2 << 20;

/// Which pages of the system a region wishes for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pages {
    /// Huge ones where the system grants them: for what is touched whole.
    Huge,
    /// Small ones whatever the system would give: for what grows, where a touch must cost what it needs.
    Small,
}

/// Bytes of the system's ordinary pages: 4 KiB, or up to 64 KiB on some Arm kernels.
pub(crate) fn system_page() -> usize {
    // SAFETY: a question without arguments that matter.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).ok().filter(|bytes| bytes.is_power_of_two()).unwrap_or(4096)
}

/// A zeroed region of the address space; pages are taken on first touch.
pub(crate) struct Region {
    start: NonNull<u8>,
    len: usize,
    /// What was mapped, to be unmapped: the region is inside it.
    mapped: (NonNull<u8>, usize),
}

// SAFETY: a region is plain memory; who may write where is decided by its users.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// Reserves `len` bytes.
    pub(crate) fn new(what: &str, len: usize, pages: Pages) -> Result<Region, Error> {
        let len = len.max(1);
        let slack = if pages == Pages::Huge && len >= 2 * HUGE { HUGE } else { 0 };
        // SAFETY: an anonymous private map at an address of the system's choice.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len + slack,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        let Some(mapped) = NonNull::new(start.cast::<u8>()).filter(|_| start != libc::MAP_FAILED) else {
            let cause = std::io::Error::last_os_error().to_string();
            return Err(Error::Machine { what: format!("{len} bytes for {what}"), cause });
        };
        let skip = if slack == 0 { 0 } else { mapped.as_ptr().align_offset(HUGE) };
        // SAFETY: less than a huge page into a map that is a huge page longer than needed.
        let start = unsafe { mapped.add(skip) };
        if pages == Pages::Small {
            // Where huge pages are given to whoever does not refuse them.
            // SAFETY: inside the map.
            unsafe { libc::madvise(start.as_ptr().cast(), len, libc::MADV_NOHUGEPAGE) };
        }
        if slack != 0 {
            // A wish only: without huge pages everything still works, some per cent slower.
            // SAFETY: inside the map.
            unsafe { libc::madvise(start.as_ptr().cast(), len, libc::MADV_HUGEPAGE) };
        }
        Ok(Region { start, len, mapped: (mapped, len + slack) })
    }

    /// Takes the memory of the whole region now. It stays zero.
    pub(crate) fn touch(&mut self) {
        for at in (0..self.len).step_by(system_page()) {
            // SAFETY: inside the map, which nobody else has seen yet; volatile, since a zero over a zero
            // could be left out.
            unsafe { self.start.as_ptr().add(at).write_volatile(0) };
        }
    }

    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Gives the memory of `len` bytes from `at` on back to the system: they read as zero, and take memory
    /// again when they are touched. Both are multiples of [`system_page`].
    pub(crate) fn forget(&mut self, at: usize, len: usize) {
        assert!(
            at + len <= self.len && (at | len).is_multiple_of(system_page()),
            "whole pages of this region"
        );
        // SAFETY: inside the map, and nobody else has a view of it while it is borrowed.
        unsafe {
            let start = self.start.as_ptr().add(at);
            if libc::madvise(start.cast(), len, libc::MADV_DONTNEED) != 0 {
                // Locked memory cannot be given back; that it reads as zero is what others rely on.
                start.write_bytes(0, len);
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`, unmapped once.
        unsafe { libc::munmap(self.mapped.0.as_ptr().cast(), self.mapped.1) };
    }
}
