//! A whole answer at once.

use super::format::Format;
use super::parser::{Options, Parser, Piece};

/// A call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// Nine letters and digits.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// JSON text; cut short if not `complete`.
    pub arguments: String,
    /// Whether the arguments are whole.
    pub complete: bool,
}

/// The parts of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// What the model says.
    pub text: String,
    /// What it reasoned.
    pub reasoning: String,
    /// The tools it calls.
    pub calls: Vec<Call>,
}

impl Collected {
    /// Adds a part.
    pub fn add(&mut self, piece: Piece<'_>) {
        match piece {
            Piece::Text(text) => self.text.push_str(text),
            Piece::Reasoning(text) => self.reasoning.push_str(text),
            Piece::Call { id, name, .. } => {
                self.calls.push(Call { id: id.to_owned(), name: name.to_owned(), ..Call::default() });
            }
            Piece::Arguments { index, text } => {
                if let Some(call) = self.calls.get_mut(index) {
                    call.arguments.push_str(text);
                }
            }
            Piece::CallEnd { index, complete } => {
                if let Some(call) = self.calls.get_mut(index) {
                    call.complete = complete;
                }
            }
        }
    }
}

/// The parts of a whole answer.
pub fn collect(format: &Format, options: Options<'_>, text: &str) -> Collected {
    let mut collected = Collected::default();
    let mut parser = Parser::new(format, options);
    parser.push(text, &mut |piece| collected.add(piece));
    parser.finish(&mut |piece| collected.add(piece));
    collected
}
