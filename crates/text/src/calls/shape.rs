//! What a text must look like, in terms that do not depend on who enforces it.

use serde_json::Value;

/// The shape of a text.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// Exactly this text.
    Text(String),
    /// A control token.
    Token(u32),
    /// JSON that is valid by a schema.
    Json(Value),
    /// Any text, and then this, which is not in it.
    Until(String),
    /// Any text, and then a control token.
    UntilToken(u32),
    /// One after the other.
    Sequence(Vec<Shape>),
    /// One of these.
    OneOf(Vec<Shape>),
    /// This or nothing.
    Optional(Box<Shape>),
    /// One or more of `of`, up to `most` of them, with `between` between them.
    Repeat {
        /// What comes again.
        of: Box<Shape>,
        /// What stands between two.
        between: Box<Shape>,
        /// Most times; `None`: any number.
        most: Option<usize>,
    },
}
