//! What to run next: sequences, sampling, the token loop.
//!
//! [`Engine`] owns a [`model::Runner`] and decides which rows each of its steps gets: chunks of prompts
//! and the next token of each generation. It owns the page *lists* of the cache ([`kv`]); the runner owns
//! the pages. [`sample`] turns logits into a token, [`stop`] ends text.
#![forbid(unsafe_code)]

mod engine;
mod error;
mod generation;
pub mod kv;
mod limits;
mod notice;
pub mod sample;
mod sequence;
pub mod service;
pub mod stop;

pub use engine::{Clock, Engine, Refused, Saved};
pub use error::Error;
pub use generation::{Event, Finish, Overflow, Params, Stopped, Summary};
pub use limits::{Limits, MARGIN, Unlimited};
pub use notice::Notice;
pub use sample::{Constraint, Grammar, Rules, Sampler, Sampling, Stuck};
pub use sequence::{SequenceId, StoredGroup};
