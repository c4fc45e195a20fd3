//! Words and tokens: tokenizers, chat templates, streaming text.
//!
//! [`Tokenizer`] is made from the keys of a GGUF file; [`Stream`] turns generated tokens into text.
#![forbid(unsafe_code)]

mod bpe;
pub mod calls;
pub mod chat;
mod error;
mod glue;
mod merge;
mod special;
mod split;
mod spm;
mod stream;
mod table;
mod tokenizer;
mod unicode;
mod vocab;
mod words;

pub use error::Error;
pub use stream::Stream;
pub use tokenizer::{EncodeOptions, Tokenizer};
pub use vocab::Kind;
