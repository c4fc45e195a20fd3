//! Page lists of the cache: which page holds which positions of which sequence.

mod pages;

pub use pages::{Change, Pool, Table};
