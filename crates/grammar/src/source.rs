//! What a text may have to follow.

use serde_json::Value;
use text::calls::Shape;

/// Rules as they are asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A JSON object of any kind.
    Object,
    /// JSON that is valid by a JSON Schema (2020-12, without what cannot be enforced).
    Schema(Value),
    /// Text that a regular expression matches from beginning to end. Without look-around and back-references.
    Regex(String),
    /// A grammar in llguidance's dialect of Lark; its first rule is `start`.
    Lark(String),
    /// A grammar in llama.cpp's GBNF; its first rule is `root`.
    Gbnf(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// A tool call in a model's own format.
    Shape(Shape),
}
