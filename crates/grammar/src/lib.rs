//! Text that follows a JSON schema, a regular expression or a grammar, token by token.
//!
//! [`Grammars`] is made once for a model's vocabulary; [`Grammars::compile`] turns a [`Source`] into
//! [`engine::Rules`] for a generation. What is asked for is checked here, place by place, before llguidance
//! compiles it: depth and size are bounded, what is not supported is refused by name and never ignored.
//!
//! A schema is rewritten first (`schema`): only keywords that are enforced are left, and each target of a
//! reference is a definition of its own. Control tokens are no part of any text that follows rules, except
//! where the shape of a model's tool calls names them.
#![forbid(unsafe_code)]

mod cache;
mod constraint;
mod error;
mod gbnf;
mod lark;
mod limits;
mod regex;
mod schema;
mod source;
mod vocabulary;

mod grammars;

pub use error::Error;
pub use grammars::Grammars;
pub use limits::Limits;
pub use source::Source;
