//! Text that must follow rules: which tokens may come next.
//!
//! The engine knows only these traits. What the rules are, a JSON schema or a grammar, is another crate's.

use std::fmt::Debug;
use std::sync::Arc;

/// Rules for a text, ready to be followed by any number of generations.
pub trait Grammar: Send + Sync + Debug {
    /// At the beginning of a text.
    fn start(&self) -> Box<dyn Constraint>;
}

/// Where one text is within its rules.
pub trait Constraint: Send {
    /// Sets the scores of tokens that may not come next to −∞ and leaves the others as they are; there is at
    /// least one other. Tokens that end an answer may come where the text may end. `scores` has one number a
    /// token of the model's vocabulary.
    ///
    /// # Errors
    /// The text cannot be followed any further; what it has so far is right.
    fn mask(&mut self, scores: &mut [f32]) -> Result<(), Stuck>;

    /// Moves on by a token, which [`mask`](Constraint::mask) left.
    ///
    /// # Errors
    /// The token may not come here, or the text cannot be followed any further.
    fn accept(&mut self, token: u32) -> Result<(), Stuck>;

    /// Whether the text is whole and nothing can follow.
    fn finished(&mut self) -> bool;

    /// Appends tokens that must come next, as far as that is certain: those a model need not be asked for.
    fn forced(&mut self, out: &mut Vec<u32>);
}

/// Why a text cannot be followed any further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text's rules cannot be followed here: {0}; use a simpler schema or grammar")]
pub struct Stuck(pub String);

/// Rules that parameters carry.
#[derive(Clone, Debug)]
pub struct Rules(pub Arc<dyn Grammar>);

impl PartialEq for Rules {
    /// Whether they are the same object: what grammars mean is not compared.
    fn eq(&self, other: &Rules) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
