//! Text as it comes to text, reasoning and calls.

use std::sync::Arc;

use serde_json::Value;

use super::format::{Body, Format};
use super::read::{Read, Reader};
use super::tags::Tags;
use super::tools::Tools;

/// A part of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// More of what the model says.
    Text(&'a str),
    /// More of what it reasons.
    Reasoning(&'a str),
    /// A call begins.
    Call {
        /// Its number within the answer, from 0.
        index: usize,
        /// Nine letters and digits.
        id: &'a str,
        /// The tool's name.
        name: &'a str,
    },
    /// More of a call's arguments, JSON text.
    Arguments {
        /// The call's number.
        index: usize,
        /// Some of the text.
        text: &'a str,
    },
    /// A call ends.
    CallEnd {
        /// The call's number.
        index: usize,
        /// Whether its arguments are whole; the rest of one that is not follows as text, if there is any.
        complete: bool,
    },
}

/// Who is told of an answer's parts.
pub type Listener<'a> = &'a mut dyn FnMut(Piece<'_>);

/// What to look for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// The tools of the request, as OpenAI's array of definitions. Without it no calls are looked for.
    pub tools: Option<&'a Value>,
    /// Whether the prompt ends within reasoning: [`Format::starts_thinking`].
    pub thinking: bool,
    /// Makes the ids of calls: those of different answers should differ.
    pub seed: u64,
}

/// Finds reasoning and calls in one answer. What it tells does not depend on how the text is cut, and
/// nothing is lost: marks without a call behind them are text.
#[derive(Debug)]
pub struct Parser {
    format: Format,
    tools: Option<Arc<Tools>>,
    seed: u64,
    state: State,
    /// Reasoning may still begin.
    may_think: bool,
    /// Whether text was told since the beginning or the end of reasoning.
    spoken: bool,
    /// Whitespace that comes next is none of the text.
    fresh: bool,
    /// Whitespace before a mark goes with it; it waits to be told.
    space: String,
    /// What may be the beginning of a mark.
    partial: String,
    /// What becomes text if a call turns out to be none.
    raw: String,
    /// Calls begun.
    index: usize,
    /// The call that was begun and has not ended.
    open: Option<usize>,
    /// Text of one kind that was not told yet.
    buffer: String,
    kind: Kind,
}

#[derive(Debug)]
enum State {
    Reasoning,
    Content,
    /// In a region of calls; whether a mark opened it.
    Region(Box<Reader>, bool),
    Tags(Box<Tags>),
}

/// What the buffer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Reasoning,
    Arguments,
}

impl Parser {
    /// At the beginning of an answer.
    pub fn new(format: &Format, options: Options<'_>) -> Parser {
        let thinking = options.thinking && format.thinking.is_some();
        Parser {
            format: *format,
            tools: options.tools.map(|tools| Arc::new(Tools::new(tools))),
            seed: options.seed,
            state: if thinking { State::Reasoning } else { State::Content },
            may_think: !thinking && format.thinking.is_some(),
            spoken: false,
            fresh: thinking,
            space: String::new(),
            partial: String::new(),
            raw: String::new(),
            index: 0,
            open: None,
            buffer: String::new(),
            kind: Kind::Text,
        }
    }

    /// Takes more of the answer's text.
    pub fn push(&mut self, text: &str, on: Listener<'_>) {
        text.chars().for_each(|c| self.take(c, on));
        self.flush(on);
    }

    /// The answer ended: tells what was held back. A call that is not whole ends as it is.
    pub fn finish(&mut self, on: Listener<'_>) {
        match std::mem::replace(&mut self.state, State::Content) {
            State::Reasoning => {
                if !self.partial.is_empty() {
                    self.tell_held(Kind::Reasoning, on);
                }
            }
            State::Content => self.tell_held(Kind::Text, on),
            State::Region(reader, _) => {
                let idle = reader.between() && reader.idle(&self.raw);
                self.leave(reader.whole(), idle, on);
            }
            State::Tags(tags) => {
                let idle = tags.between() && tags.idle(&self.raw);
                self.leave(tags.between(), idle, on);
            }
        }
        self.flush(on);
    }

    /// The text ended in a region of calls.
    fn leave(&mut self, whole: bool, idle: bool, on: Listener<'_>) {
        if self.open.is_some() {
            self.end(whole, on);
        } else if !idle {
            let raw = std::mem::take(&mut self.raw);
            self.tell(Kind::Text, &raw, on);
        }
    }

    fn take(&mut self, c: char, on: Listener<'_>) {
        match &mut self.state {
            State::Reasoning => {
                let close = self.format.thinking.map_or("", |thinking| thinking.close);
                if self.hold(c, Kind::Reasoning, |_| close, 1, on).is_some() {
                    self.space.clear();
                    self.state = State::Content;
                    (self.fresh, self.spoken) = (true, false);
                }
            }
            State::Content => self.content(c, on),
            State::Region(reader, marked) => {
                let marked = *marked;
                let read = reader.push(c);
                let (whole, between) = (reader.whole(), reader.between());
                if let Read::Begin { name, .. } = &read
                    && !marked
                    && !self.tools.as_ref().is_some_and(|tools| tools.has(name))
                {
                    // An object that only looks like a call.
                    self.raw.push(c);
                    self.back(on);
                    return;
                }
                self.region(c, read, whole, between, on);
            }
            State::Tags(tags) => {
                if c == '{' && tags.untouched() {
                    // Some write JSON between the same marks.
                    let mut reader = Box::new(Reader::new(self.format.calls));
                    let read = reader.push(c);
                    self.state = State::Region(reader, true);
                    self.region(c, read, false, false, on);
                    return;
                }
                let read = tags.push(c);
                let between = tags.between();
                self.region(c, read, between, between, on);
            }
        }
    }

    fn content(&mut self, c: char, on: Listener<'_>) {
        let calls = self.format.calls;
        let opens = if self.tools.is_some() { calls.opens } else { &[] };
        let thinking = self.format.thinking.filter(|_| self.may_think && !self.spoken);
        if opens.is_empty() && thinking.is_none() && !self.fresh {
            self.may_think = false;
            let mut held = std::mem::take(&mut self.space);
            held.push_str(&std::mem::take(&mut self.partial));
            held.push(c);
            self.tell(Kind::Text, &held, on);
            return;
        }
        if c == '{' && calls.bare && !opens.is_empty() && !self.spoken && self.partial.is_empty() {
            self.raw = std::mem::take(&mut self.space);
            self.state = State::Region(Box::new(Reader::new(calls)), false);
            self.take(c, on);
            return;
        }
        let mark =
            |i: usize| opens.get(i).copied().unwrap_or_else(|| thinking.map_or("", |thinking| thinking.open));
        let count = opens.len() + usize::from(thinking.is_some());
        let Some(found) = self.hold(c, Kind::Text, mark, count, on) else { return };
        self.raw = std::mem::take(&mut self.space);
        self.may_think = false;
        if found == opens.len() {
            self.raw.clear();
            self.state = State::Reasoning;
            self.fresh = true;
            return;
        }
        self.raw.push_str(opens[found]);
        self.state = match (calls.body, &self.tools) {
            (Body::Tagged, Some(tools)) => {
                State::Tags(Box::new(Tags::new(tools.clone(), calls.close, found > 0)))
            }
            _ => State::Region(Box::new(Reader::new(calls)), true),
        };
    }

    /// What reading a character of a region means.
    fn region(&mut self, c: char, read: Read, whole: bool, between: bool, on: Listener<'_>) {
        match read {
            Read::More if self.open.is_some() => {}
            Read::More => self.raw.push(c),
            Read::Begin { name, arguments } => {
                self.flush(on);
                let id = self.id(self.index);
                on(Piece::Call { index: self.index, id: &id, name: &name });
                self.open = Some(self.index);
                self.index += 1;
                self.spoken = true;
                self.raw.clear();
                self.tell(Kind::Arguments, &arguments, on);
                if between {
                    self.end(whole, on);
                }
            }
            Read::Arguments(c) => {
                self.tell(Kind::Arguments, c.encode_utf8(&mut [0; 4]), on);
                if between {
                    self.end(whole, on);
                }
            }
            Read::Piece(text) => {
                self.tell(Kind::Arguments, &text, on);
                if between {
                    self.end(whole, on);
                }
            }
            Read::End => self.end(whole, on),
            Read::Close => {
                self.raw.clear();
                self.state = State::Content;
                self.fresh = true;
            }
            Read::Text if self.open.is_some() => {
                self.end(whole, on);
                self.state = State::Content;
                self.fresh = false;
                self.take(c, on);
            }
            Read::Text => {
                self.back(on);
                self.take(c, on);
            }
            Read::Leave => {
                if self.raw.trim().is_empty() {
                    self.raw.clear();
                    self.state = State::Content;
                    self.fresh = true;
                } else {
                    self.raw = self.raw.trim_start().to_owned();
                    self.back(on);
                }
                self.take(c, on);
            }
        }
    }

    /// What was taken for a call is text.
    fn back(&mut self, on: Listener<'_>) {
        let raw = std::mem::take(&mut self.raw);
        self.tell(Kind::Text, &raw, on);
        self.state = State::Content;
        self.fresh = false;
        self.spoken = true;
    }

    fn end(&mut self, complete: bool, on: Listener<'_>) {
        if self.open.is_some() {
            self.flush(on);
        }
        if let Some(index) = self.open.take() {
            on(Piece::CallEnd { index, complete });
            self.raw.clear();
        }
    }

    /// Holds back whitespace and what may become one of `count` marks; tells the rest. Which mark was found.
    fn hold<'m>(
        &mut self,
        c: char,
        kind: Kind,
        mark: impl Fn(usize) -> &'m str,
        count: usize,
        on: Listener<'_>,
    ) -> Option<usize> {
        self.partial.push(c);
        loop {
            let first = self.partial.chars().next()?;
            if first.is_whitespace() {
                if !self.fresh {
                    self.space.push(first);
                }
            } else {
                if let Some(found) = (0..count).find(|&i| mark(i) == self.partial) {
                    self.partial.clear();
                    return Some(found);
                }
                if (0..count).any(|i| mark(i).starts_with(&*self.partial)) {
                    return None;
                }
                let space = std::mem::take(&mut self.space);
                self.tell(kind, &space, on);
                self.tell(kind, first.encode_utf8(&mut [0; 4]), on);
                self.fresh = false;
                self.spoken = true;
            }
            self.partial.drain(..first.len_utf8());
        }
    }

    fn tell_held(&mut self, kind: Kind, on: Listener<'_>) {
        let mut held = std::mem::take(&mut self.space);
        held.push_str(&std::mem::take(&mut self.partial));
        self.tell(kind, &held, on);
    }

    fn tell(&mut self, kind: Kind, text: &str, on: Listener<'_>) {
        if kind != self.kind {
            self.flush(on);
            self.kind = kind;
        }
        self.buffer.push_str(text);
    }

    fn flush(&mut self, on: Listener<'_>) {
        if self.buffer.is_empty() {
            return;
        }
        on(match self.kind {
            Kind::Text => Piece::Text(&self.buffer),
            Kind::Reasoning => Piece::Reasoning(&self.buffer),
            Kind::Arguments => Piece::Arguments { index: self.index - 1, text: &self.buffer },
        });
        self.buffer.clear();
    }

    /// Nine letters and digits, as Mistral's templates want them; SplitMix64 of seed and number.
    fn id(&self, index: usize) -> String {
        const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let mut z = self.seed.wrapping_add((index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let digit = |i: u32| DIGITS[(z / 62u64.pow(i) % 62) as usize] as char;
        (0..9).map(digit).collect()
    }
}
