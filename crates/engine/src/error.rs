//! Why a request cannot be run.

use model::runner::Lost;

/// Why the engine refuses a request, or that its device went away.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A parameter outside its range.
    #[error("{field} is {value}, but must be {want}")]
    Setting {
        /// The parameter.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        want: &'static str,
    },
    /// Nothing to run.
    #[error("the prompt has no tokens; give at least one")]
    Empty,
    /// More tokens than fit.
    #[error("the prompt has {tokens} tokens, but {room} fit; shorten it or load with a longer context")]
    TooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// Positions there are for it.
        room: usize,
    },
    /// A token the model does not know.
    #[error("token {index} is {id}, but the model's vocabulary has {vocab}; encode with its own tokenizer")]
    Token {
        /// Place in the prompt.
        index: usize,
        /// Its id.
        id: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// Every slot is taken.
    #[error("all {slots} sequences are in use; close one first")]
    Slots {
        /// How many there are.
        slots: usize,
    },
    /// The sequence was closed.
    #[error("sequence {slot} is closed; open another")]
    Closed {
        /// Its slot.
        slot: u32,
    },
    /// The sequence is generating.
    #[error("sequence {slot} is still generating; step it to its end or cancel it first")]
    Busy {
        /// Its slot.
        slot: u32,
    },
    /// The sequence has nothing to do.
    #[error("sequence {slot} has nothing to generate; start or extend it first")]
    Idle {
        /// Its slot.
        slot: u32,
    },
    /// No memory for the cache, or for a copy of it.
    #[error("{needed} bytes of memory are needed and {room} are left; close other programs or use --kv int8")]
    Memory {
        /// Bytes it takes.
        needed: u64,
        /// Bytes there are above the reserve.
        room: u64,
    },
    /// A saved sequence of something else.
    #[error("the saved sequence {what}; it is of another model, context or cache type: compute it anew")]
    Saved {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The device is gone.
    #[error(transparent)]
    Lost(#[from] Lost),
}
