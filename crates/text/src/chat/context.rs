//! What every filter and method of one rendering needs.

use super::limits::Budget;
use super::marks::Marks;

/// The state of one rendering, shared by all functions of its environment.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) budget: Budget,
    pub(super) marks: Marks,
    /// Seconds since 1970-01-01 UTC, where the caller gave the time.
    pub(super) now: Option<i64>,
}
