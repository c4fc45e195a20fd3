//! Tiny models, oracles and helpers for tests.
#![forbid(unsafe_code)]

pub mod board;
pub mod fake;
pub mod golden;
pub mod tiny;

use std::path::PathBuf;

/// A file or folder of the shared fixtures, or `None` (with a line on stderr) when they are absent.
///
/// The folder is `$JETSON_LLM_SHARED`, else `../shared` beside the repository of the crate under test.
pub fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("JETSON_LLM_SHARED").map_or_else(
        || {
            // Cargo says at run time which crate it tests; a copy of this crate compiled for another
            // checkout with the same target folder would say another.
            let manifest = std::env::var_os("CARGO_MANIFEST_DIR");
            let crate_folder = manifest.map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
            crate_folder.join("../../../shared")
        },
        PathBuf::from,
    );
    let found = root.join(path);
    if found.exists() {
        Some(found)
    } else {
        eprintln!("skipped: shared fixtures not found ({path})");
        None
    }
}
