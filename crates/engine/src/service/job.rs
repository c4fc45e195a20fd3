//! What a service is asked, and what it says.

use crate::{Params, Summary};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// One prompt and the answers wanted to it.
pub struct Request {
    /// The whole prompt in tokens; not empty, shorter than the context.
    pub prompt: Vec<u32>,
    /// The answers: at least one, at most as many as are generated at a time. The prompt is computed once.
    pub answers: Vec<Answer>,
    /// Requests of one conversation run one after another, and its cache is kept for it.
    pub conversation: Option<String>,
    /// How long this request may take, if less than others.
    pub timeout: Option<Duration>,
}

/// One answer to a prompt.
pub struct Answer {
    /// How to generate it.
    pub params: Params,
    /// Who is told of it.
    pub sink: Box<dyn Sink>,
}

/// Who is told what happens to an answer. Must return at once: every answer waits for it.
pub trait Sink: Send {
    /// Something happened; [`Update::Ended`] comes once and last.
    fn hear(&mut self, update: Update<'_>);
}

/// What happened to an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Update<'a> {
    /// It has a place; `cached` tokens of its prompt need not be computed.
    Started {
        /// Tokens of the prompt found in the cache.
        cached: usize,
    },
    /// A part of the prompt was computed.
    Prompt {
        /// Tokens computed so far.
        done: usize,
        /// Tokens to compute.
        total: usize,
    },
    /// A token was chosen.
    Token {
        /// Its id.
        id: u32,
        /// ln of its probability, if asked for.
        logprob: Option<f32>,
    },
    /// Text that is certain; never empty.
    Text(&'a str),
    /// The end, and what was done; `None` if the answer was never begun.
    Ended(&'a Why, Option<&'a Summary>),
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The model or a stop string ended it.
    Stop,
    /// As many tokens as asked for, or no room for more.
    Length,
    /// Its time was up.
    Timeout,
    /// Its ticket was dropped.
    Cancelled,
    /// The service is ending.
    Shutdown,
    /// It could not be run.
    Failed(String),
}

/// A request that has no place yet.
pub(super) struct Waiting {
    pub(super) request: Request,
    pub(super) cancelled: Arc<AtomicBool>,
    pub(super) arrived: Duration,
    pub(super) deadline: Option<Duration>,
}

impl Waiting {
    /// Why it should not go on at `now`, if so.
    pub(super) fn over(&self, now: Duration) -> Option<Why> {
        over(&self.cancelled, self.deadline, now)
    }

    /// Tells all its sinks that it ended before it began.
    pub(super) fn end(mut self, why: &Why) {
        for answer in &mut self.request.answers {
            answer.sink.hear(Update::Ended(why, None));
        }
    }
}

/// Why something should end, if it should.
pub(super) fn over(cancelled: &AtomicBool, deadline: Option<Duration>, now: Duration) -> Option<Why> {
    if cancelled.load(Ordering::Acquire) {
        Some(Why::Cancelled)
    } else {
        deadline.is_some_and(|deadline| now >= deadline).then_some(Why::Timeout)
    }
}
