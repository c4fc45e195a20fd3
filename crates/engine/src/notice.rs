//! What the engine does to a sequence without being asked: one line of stderr each.

use crate::SequenceId;
use std::fmt;

/// Something that happened to a sequence or to the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The context was full: old tokens went, the first `sinks` and the last stayed.
    Slid {
        /// Whose.
        id: SequenceId,
        /// Tokens that went.
        dropped: usize,
        /// Tokens that stayed at the beginning.
        sinks: usize,
        /// Tokens that stayed in all; they are computed anew at their new positions.
        kept: usize,
    },
    /// An idle sequence's pages were moved out of the cache, to make room for others.
    Stored {
        /// Whose.
        id: SequenceId,
        /// Its tokens.
        tokens: usize,
        /// Bytes it takes where it is now.
        bytes: u64,
    },
    /// An idle sequence's pages were given up: its tokens will be computed anew.
    Dropped {
        /// Whose.
        id: SequenceId,
        /// Its tokens.
        tokens: usize,
    },
    /// A sequence came back to the cache.
    Restored {
        /// Whose.
        id: SequenceId,
        /// Its tokens.
        tokens: usize,
    },
    /// Memory that nobody used was given back to the system, because there is little left.
    GaveBack {
        /// How much of it.
        bytes: u64,
    },
    /// A generation ends because there is no memory for it.
    OutOfMemory {
        /// Whose.
        id: SequenceId,
        /// Its tokens so far, the prompt's included.
        token: usize,
        /// Bytes it needs to go on.
        needed: u64,
        /// Bytes there are above the reserve.
        room: u64,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        match *self {
            Notice::Slid { dropped, sinks, kept, .. } => write!(
                f,
                "[kv] evicted {dropped} tokens after the first {sinks}: the context is full, {kept} go on"
            ),
            Notice::Stored { tokens, bytes, .. } => {
                write!(f, "[kv] evicted a conversation of {tokens} tokens to {:.1} MiB of memory", mib(bytes))
            }
            Notice::Dropped { tokens, .. } => {
                write!(f, "[kv] evicted a conversation of {tokens} tokens: it will be read again")
            }
            Notice::Restored { tokens, .. } => write!(f, "[kv] restored a conversation of {tokens} tokens"),
            Notice::GaveBack { bytes } => {
                write!(f, "[oom_guard] little memory is left: gave {:.1} MiB back", mib(bytes))
            }
            Notice::OutOfMemory { token, needed, room, .. } => write!(
                f,
                "[oom_guard] Stopping at token {token}: {:.1} MiB more are needed and {:.1} MiB are left above the \
                 reserve; close other programs, lower --ctx-size or use --kv int8",
                mib(needed),
                mib(room)
            ),
        }
    }
}
