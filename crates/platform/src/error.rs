//! What can go wrong here: never a sensor, only what a user named.

use std::io;

/// Any failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A root that is no folder.
    #[error("{folder} is no folder; give the folder that holds proc, sys and etc of a machine")]
    NoRoot {
        /// As given, escaped.
        folder: String,
    },
    /// A recording cannot be read.
    #[error("cannot read the recording at line {line}: {source}")]
    Read {
        /// Counted from 1.
        line: usize,
        /// The system's reason.
        source: io::Error,
    },
    /// A line of a recording is not what the recorder writes.
    #[error("line {line} of the recording is no reading: {cause}; record it again")]
    Malformed {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        cause: String,
    },
    /// Time runs backwards in a recording.
    #[error("line {line} of the recording is at {at_ms} ms, before the line above it; sort it by at_ms")]
    Order {
        /// Counted from 1.
        line: usize,
        /// The time it gives.
        at_ms: u64,
    },
}
