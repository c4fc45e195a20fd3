//! Tiny models, oracles and helpers for tests.
#![forbid(unsafe_code)]

pub mod golden;

pub mod fake;

use std::path::{Path, PathBuf};

/// A file or folder of the shared fixtures, or `None` (with a line on stderr) when they are absent.
///
/// The folder is `$JETSON_LLM_SHARED`, else `../shared` beside the repository.
pub fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("JETSON_LLM_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let found = root.join(path);
    if found.exists() {
        Some(found)
    } else {
        eprintln!("skipped: shared fixtures not found ({path})");
        None
    }
}
