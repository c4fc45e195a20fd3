//! Tokens in, whole UTF-8 out.

use crate::tokenizer::Tokenizer;
use crate::vocab::{Kind, LONGEST};

/// Turns tokens into text as they come. Half a character waits for its other half; bytes that are no
/// UTF-8 become U+FFFD exactly as [`String::from_utf8_lossy`] of all bytes together would have it.
///
/// Allocates when it is made and never after: only the caller's string may grow.
#[derive(Debug)]
pub struct Stream {
    /// Bytes of a character not yet whole: 3 at most between calls.
    pending: Vec<u8>,
    /// Take one space off the next text.
    strip: bool,
    /// Write the names of control tokens.
    control: bool,
}

/// Half a character at most waits between calls.
const HALF: usize = 3;

impl Default for Stream {
    fn default() -> Stream {
        Stream { pending: Vec::with_capacity(HALF + LONGEST), strip: false, control: false }
    }
}

impl Clone for Stream {
    /// With the room that [`Stream::new`] makes: a derived clone would only have room for its bytes.
    fn clone(&self) -> Stream {
        let mut clone = Stream { strip: self.strip, control: self.control, ..Stream::default() };
        clone.pending.extend_from_slice(&self.pending);
        clone
    }
}

impl Stream {
    /// For tokens that continue a text: nothing is taken off.
    pub fn new() -> Stream {
        Stream::default()
    }

    /// For tokens that start a text: SentencePiece's leading space, which the encoder put there, is
    /// taken off.
    pub fn at_start(tokenizer: &Tokenizer) -> Stream {
        Stream { strip: tokenizer.space_prefix(), ..Stream::default() }
    }

    /// Whether control tokens are written by their names. They are left out otherwise.
    #[must_use]
    pub fn with_control(mut self, control: bool) -> Stream {
        self.control = control;
        self
    }

    /// Whether control tokens are written by their names from here on.
    pub fn set_control(&mut self, control: bool) {
        self.control = control;
    }

    /// Appends to `out` all text that is whole once token `id` is there.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32, out: &mut String) {
        if !self.control && matches!(tokenizer.kind(id), Kind::Control | Kind::Unknown) {
            return;
        }
        let mut bytes = tokenizer.bytes(id);
        if self.strip && !bytes.is_empty() {
            self.strip = false;
            bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
        }
        // Whole text, nearly always: no detour through the buffer.
        if self.pending.is_empty()
            && let Ok(text) = std::str::from_utf8(bytes)
        {
            out.push_str(text);
            return;
        }
        self.pending.extend_from_slice(bytes);
        self.drain(out);
    }

    /// Ends the text: half a character becomes U+FFFD. The stream may be used again.
    pub fn finish(&mut self, out: &mut String) {
        if !self.pending.is_empty() {
            out.push(char::REPLACEMENT_CHARACTER);
            self.pending.clear();
        }
    }

    /// Whether half a character waits.
    pub fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    fn drain(&mut self, out: &mut String) {
        let mut used = 0;
        for chunk in self.pending.utf8_chunks() {
            out.push_str(chunk.valid());
            used += chunk.valid().len();
            let invalid = chunk.invalid();
            if invalid.is_empty() {
                continue;
            }
            // At the end of the bytes it may be the start of a character.
            let last = used + invalid.len() == self.pending.len();
            if last && std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none()) {
                break;
            }
            out.push(char::REPLACEMENT_CHARACTER);
            used += invalid.len();
        }
        self.pending.drain(..used);
    }
}
