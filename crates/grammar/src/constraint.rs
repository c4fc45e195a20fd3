//! A text under way within its rules.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use engine::{Constraint, Stuck};
use llguidance::api::StopReason;
use llguidance::toktrie::SimpleVob;
use llguidance::{TokenParser, panic_utils};

use crate::error::first_line;

/// One text's parser.
pub(crate) struct Following {
    parser: TokenParser,
    /// Tokens that end an answer.
    ends: Arc<[u32]>,
    /// Control tokens that the rules may name; others never come.
    named: Arc<[u32]>,
    /// Set when what parsers of these rules share is of no use any more.
    spoiled: Arc<AtomicBool>,
}

impl Following {
    /// At the beginning of a text; `parser` was started.
    pub(crate) fn new(
        parser: TokenParser,
        ends: Arc<[u32]>,
        named: Arc<[u32]>,
        spoiled: Arc<AtomicBool>,
    ) -> Following {
        Following { parser, ends, named, spoiled }
    }

    /// Runs a step of the parser; a panic inside is an error, as is every later step.
    fn step<R>(&mut self, run: impl FnOnce(&mut TokenParser) -> Result<R, String>) -> Result<R, Stuck> {
        let parser = &mut self.parser;
        let done = panic_utils::catch_unwind(AssertUnwindSafe(|| Ok(run(parser))));
        done.map_err(|panic| first_line(&panic)).and_then(|result| result).map_err(|reason| {
            self.spoiled.store(true, Ordering::Relaxed);
            Stuck(reason)
        })
    }
}

/// Sets the scores of tokens outside `allowed` to −∞.
fn keep(allowed: &SimpleVob, scores: &mut [f32]) {
    let words = allowed.as_slice();
    for (i, part) in scores.chunks_mut(32).enumerate() {
        match words.get(i).copied().unwrap_or(0) {
            u32::MAX => {}
            0 => part.fill(f32::NEG_INFINITY),
            word => {
                for (bit, score) in part.iter_mut().enumerate() {
                    if word >> bit & 1 == 0 {
                        *score = f32::NEG_INFINITY;
                    }
                }
            }
        }
    }
}

impl Constraint for Following {
    fn mask(&mut self, scores: &mut [f32]) -> Result<(), Stuck> {
        let ends = self.ends.clone();
        let named = self.named.clone();
        let allowed = self.step(|parser| {
            if parser.stopped() {
                return Ok(parser.token_env.tok_trie().eos_token_set());
            }
            parser.compute_mask().map_err(|error| match parser.stop_reason() {
                StopReason::NoExtensionBias => "no token of the vocabulary can come next".to_owned(),
                _ => first_line(&error),
            })
        })?;
        debug_assert!(
            allowed.iter().all(|id| {
                let control = self.parser.token_env.tok_trie().token(id).is_empty();
                !control || ends.contains(&id) || named.contains(&id)
            }),
            "a control token that nobody named is allowed"
        );
        keep(&allowed, scores);
        if scores.iter().all(|&score| score == f32::NEG_INFINITY) {
            return Err(Stuck("the model has no score for a token that can come next".to_owned()));
        }
        Ok(())
    }

    fn accept(&mut self, token: u32) -> Result<(), Stuck> {
        self.step(|parser| {
            if parser.stopped() {
                return Err("the text is whole".to_owned());
            }
            parser.consume_token(token).map_err(|error| first_line(&error))?;
            parser.check_stop().map_err(|error| first_line(&error))?;
            Ok(())
        })
    }

    fn finished(&mut self) -> bool {
        self.parser.stopped() && self.parser.stop_reason().is_ok()
    }

    fn forced(&mut self, out: &mut Vec<u32>) {
        let forced =
            self.step(|parser| Ok(if parser.stopped() { Vec::new() } else { parser.compute_ff_tokens() }));
        out.extend(forced.unwrap_or_default());
    }
}
