//! What a template may cost. A template comes out of a downloaded file, so it is bounded before it is
//! compiled (size, nesting) and while it runs (steps, bytes, values).
//!
//! The engine's own step counter cannot see that one step doubled a string, so every operation that
//! makes text or containers reports its size here.

use std::sync::atomic::{AtomicU64, Ordering};

use minijinja::{Error, ErrorKind};

/// Largest template source, bytes. Published ones end at 20 KiB.
pub(super) const SOURCE_BYTES: usize = 1 << 20;
/// Most tokens between `{{` and `}}`, or between `{%` and `%}`: a chain of filters or operators as
/// long as this is compiled recursively.
pub(super) const TAG_TOKENS: usize = 1024;
/// Most `elif` branches of one source: the parser recurses into each.
pub(super) const ELIF_BRANCHES: usize = 512;
/// Deepest value a template may build or a request may carry.
pub(super) const VALUE_DEPTH: usize = 64;

/// Steps allowed without regard to the request.
const BASE_STEPS: u64 = 2_000_000;
/// Further steps per JSON value of the request: a template walks its messages a few times.
const STEPS_PER_NODE: u64 = 10;
/// Bytes of text a template may produce, intermediate strings included.
const BASE_WORK: u64 = 64 << 20;
/// Further bytes per byte of the request: some templates append message by message, which is quadratic.
const WORK_PER_BYTE: u64 = 512;
/// One value of a container, in the same currency.
pub(super) const VALUE_BYTES: usize = 32;
/// Longest single string a template may build without regard to the request.
const BASE_STRING: usize = 8 << 20;
/// Further bytes of one string per byte of the request.
const STRING_PER_BYTE: usize = 8;

/// What one rendering may still spend.
#[derive(Debug)]
pub(super) struct Budget {
    work: AtomicU64,
    /// Longest single string, bytes.
    pub(super) string: usize,
    /// Interpreter steps.
    pub(super) steps: u64,
}

impl Budget {
    /// The allowance of a request of `bytes` of text in `nodes` JSON values.
    pub(super) fn new(bytes: usize, nodes: usize) -> Self {
        let work = BASE_WORK.saturating_add(WORK_PER_BYTE.saturating_mul(bytes as u64)).min(4 << 30);
        Self {
            work: AtomicU64::new(work),
            string: BASE_STRING.saturating_add(STRING_PER_BYTE.saturating_mul(bytes)).min(1 << 30),
            steps: BASE_STEPS.saturating_add(STEPS_PER_NODE.saturating_mul(nodes as u64)),
        }
    }

    /// Pays for `bytes` of text made, copied or compared.
    pub(super) fn spend(&self, bytes: usize) -> Result<(), Error> {
        let pay = |left: u64| left.checked_sub(bytes as u64);
        match self.work.fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay) {
            Ok(_) => Ok(()),
            Err(_) => Err(exceeded("makes more text than a prompt needs")),
        }
    }

    /// Pays for a string of `bytes` before it is made.
    pub(super) fn string(&self, bytes: usize) -> Result<(), Error> {
        if bytes > self.string {
            return Err(exceeded("builds a string longer than any prompt"));
        }
        self.spend(bytes)
    }

    /// Pays for `count` values put into a container.
    pub(super) fn values(&self, count: usize) -> Result<(), Error> {
        self.spend(count.saturating_mul(VALUE_BYTES))
    }
}

/// Marks an error as a limit, so that the caller can tell it from a template's own mistake.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(super) struct Exceeded {
    pub(super) what: &'static str,
    /// Where the engine cannot know it.
    pub(super) line: Option<usize>,
}

pub(super) fn exceeded(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, what).with_source(Exceeded { what, line: None })
}
