//! What the machine allows while tokens are made. The engine asks; who answers looks at sensors and clocks.

use std::time::Duration;

/// Bytes that are left alone above what the engine takes: what else a step may need.
pub const MARGIN: u64 = 1 << 20;

/// Asked between steps and before pages are taken. Answers are quick and allocate nothing.
pub trait Limits: Send {
    /// Bytes that may be taken before the memory kept for other programs is touched; `None` where nobody
    /// knows. Asked once a step; the engine counts down what it takes in the step itself.
    fn room(&mut self) -> Option<u64>;

    /// Whether a step may run now; the last one took `worked`, or nothing ran. Waits as the pace demands, a
    /// tenth of a second at most at a time, so that cancelling stays quick.
    fn admit(&mut self, worked: Duration) -> bool;

    /// So many bytes were just given back to the system: what [`Limits::room`] remembers is out of date.
    fn gave_back(&mut self, bytes: u64) {
        let _ = bytes;
    }
}

/// No limits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unlimited;

impl Limits for Unlimited {
    fn room(&mut self) -> Option<u64> {
        None
    }

    fn admit(&mut self, _worked: Duration) -> bool {
        true
    }
}
