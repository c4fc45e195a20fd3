//! Memory for weights and pages: zeroed, page-aligned, in huge pages where the system grants them.

use model::Error;
use std::ptr::NonNull;

/// A zeroed region of the address space; pages are taken on first touch.
pub(crate) struct Region {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a region is plain memory; who may write where is decided by its users.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// Reserves `len` bytes.
    pub(crate) fn new(what: &str, len: usize) -> Result<Region, Error> {
        let len = len.max(1);
        // SAFETY: an anonymous private map at an address of the system's choice.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        let start = NonNull::new(start.cast::<u8>()).filter(|_| start != libc::MAP_FAILED);
        let Some(start) = start else {
            let cause = std::io::Error::last_os_error().to_string();
            return Err(Error::Machine { what: format!("{len} bytes for {what}"), cause });
        };
        if len >= 1 << 22 {
            // A wish only: without huge pages everything still works, a few per cent slower.
            // SAFETY: the region just mapped.
            unsafe { libc::madvise(start.as_ptr().cast(), len, libc::MADV_HUGEPAGE) };
        }
        Ok(Region { start, len })
    }

    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`, unmapped once.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}
