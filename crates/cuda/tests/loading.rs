//! What loading takes of the host: the heap at its fullest, and the file's pages in the system's cache.
//!
//! One test, because both are counted for the whole process.
#![allow(unsafe_code, reason = "an allocator that counts, and mincore; every block says why it may")]

use cuda::driver;
use cuda::weights::{Loader, Placed, Sink};
use gguf::{Gguf, Writer};
use model::plan::{RowOrder, Weight};
use quant::Format;
use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator, with the bytes held now and at most.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(held, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Share of a file's pages that are in the system's cache.
fn cached(file: &File) -> f64 {
    let len = file.metadata().expect("an open file").len() as usize;
    let mut pages = vec![0u8; len.div_ceil(4096)];
    // SAFETY: a new private map of a file that nobody shortens; it is not touched, only asked about.
    unsafe {
        let map =
            libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0);
        assert_ne!(map, libc::MAP_FAILED, "a file can be mapped");
        assert_eq!(libc::mincore(map, len, pages.as_mut_ptr()), 0, "the map can be asked about");
        libc::munmap(map, len);
    }
    pages.iter().filter(|&&page| page & 1 == 1).count() as f64 / pages.len() as f64
}

/// A device that looks at the file's pages halfway through.
struct Watch<'a> {
    file: &'a File,
    written: u64,
    half: u64,
    seen: Option<f64>,
}

impl Sink for Watch<'_> {
    fn write(&mut self, _: u64, bytes: &[u8]) -> Result<(), driver::Error> {
        self.written += bytes.len() as u64;
        if self.written >= self.half && self.seen.is_none() {
            self.seen = Some(cached(self.file));
        }
        Ok(())
    }
}

/// Removes the file however the test ends.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn loading_holds_a_few_strips_of_the_model() {
    let (rows, cols) = (16 * 1024, 2048);
    let mut writer = Writer::new();
    writer.tensor("w", Format::Q8_0, &[cols as u64, rows as u64]).expect("a matrix");
    let temporary = Temporary(
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("loading-{}.gguf", std::process::id())),
    );
    let mut body =
        writer.start(File::create(&temporary.0).expect("the target folder can be written")).expect("room");
    let row = vec![1; Format::Q8_0.row_bytes(cols).expect("whole blocks")];
    for _ in 0..rows {
        body.write(&row).expect("room for 36 MB");
    }
    // Only pages that were written to the disk can be dropped.
    body.finish().expect("all is written").sync_all().expect("a disk that keeps what it is given");
    let disk = File::open(&temporary.0).expect("the file just written");
    let file = Gguf::open(&temporary.0).expect("a good file");
    let weight = Weight { tensor: "w".into(), rows, cols, format: Format::Q8_0, order: RowOrder::Stored };
    let parts = [Placed { weight: &weight, rows: 0..rows, address: 0 }];
    let bytes = parts[0].matrix().bytes;

    file.forget(file.tensor("w").expect("the only tensor"));
    let drops = cached(&disk) < 0.1;
    for drop_cache in [false, true] {
        let loader = Loader { threads: 3, strip: 256 << 10, drop_cache };
        assert!(bytes as usize > 10 * loader.host_bytes(), "more than could be held by chance");
        let mut sink = Watch { file: &disk, written: 0, half: bytes / 2, seen: None };
        let before = HELD.load(Ordering::Relaxed);
        MOST.store(before, Ordering::Relaxed);
        {
            let mut staging = vec![0; loader.staging_bytes()];
            loader.load(&file, &parts, &mut staging, &mut sink, &mut |_| {}).expect("a good file");
        }
        let most = MOST.load(Ordering::Relaxed) - before;
        // Beside the strips: threads, channels, the list of jobs.
        assert!(
            most >= loader.host_bytes() && most < loader.host_bytes() + (64 << 10),
            "{most} bytes were held"
        );
        assert_eq!(sink.written, bytes);
        let (halfway, after) = (sink.seen.expect("half was written"), cached(&disk));
        if !drop_cache {
            assert!(after > 0.9, "reading fills the cache, or the next assertions say nothing: {after}");
        } else if drops {
            // The system reads ahead, and drops what no queue of a processor still holds.
            assert!(halfway < 0.95 && after < 0.02, "halfway {halfway}, then {after} of the file is cached");
        } else {
            eprintln!("skipped: this file system keeps what it is asked to drop");
        }
    }
}
