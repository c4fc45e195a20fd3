//! What the machine allows: whether a step may run now.

use super::Engine;
use crate::{Limits, Notice};
use std::time::Duration;

/// Who is asked and who is told.
#[derive(Default)]
pub(super) struct Guard {
    limits: Option<Box<dyn Limits>>,
    notice: Option<Box<dyn FnMut(Notice) + Send>>,
    /// How long the last step took; nothing if none ran since limits were asked.
    worked: Duration,
}

impl Engine {
    /// Asks `limits` from now on; without, nothing is limited and nobody looks at the clock for it.
    pub fn set_limits(&mut self, limits: Box<dyn Limits>) {
        self.guard.limits = Some(limits);
        self.guard.worked = Duration::ZERO;
    }

    /// Tells `notice` what happens to sequences without being asked for, in place of whoever was told before.
    pub fn on_notice(&mut self, notice: Box<dyn FnMut(Notice) + Send>) {
        self.guard.notice = Some(notice);
    }

    /// Whether a step may run now.
    pub(super) fn admitted(&mut self) -> bool {
        let worked = std::mem::take(&mut self.guard.worked);
        self.guard.limits.as_mut().is_none_or(|limits| limits.admit(worked))
    }

    /// The time, if anybody limits.
    pub(super) fn limited_now(&self) -> Option<Duration> {
        self.guard.limits.as_ref().map(|_| (self.clock)())
    }

    /// A step that began at `begun` has ended.
    pub(super) fn worked_since(&mut self, begun: Option<Duration>) {
        if let Some(begun) = begun {
            self.guard.worked = (self.clock)().saturating_sub(begun);
        }
    }

    /// Tells whoever wants to know.
    pub(super) fn notify(&mut self, notice: Notice) {
        if let Some(told) = &mut self.guard.notice {
            told(notice);
        }
    }
}
