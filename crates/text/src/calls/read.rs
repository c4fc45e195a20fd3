//! Reads one region of calls, after its opening mark, character by character.

use super::format::{Body, Calls};
use super::scan::{Scan, Step};

/// Longest name of a tool, bytes.
const NAME: usize = 256;

/// Most bytes that may be read before it is known whether a call begins.
const PATIENCE: usize = 64 << 10;

/// What was read.
#[derive(Debug, PartialEq)]
pub(super) enum Read {
    /// Nothing to tell yet.
    More,
    /// A call begins, and so do its arguments.
    Begin { name: String, arguments: String },
    /// More of the arguments.
    Arguments(char),
    /// The same, more at once.
    Piece(String),
    /// The call is whole.
    End,
    /// The call cannot be one: what was read since the mark, or since the last call, is text.
    Text,
    /// After a call: this character belongs to the text that follows.
    Leave,
    /// The mark that ends the region was read.
    Close,
}

/// Reads calls of one form.
#[derive(Debug)]
pub(super) struct Reader {
    calls: &'static Calls,
    at: At,
    /// In a list of objects.
    list: bool,
    object: Object,
    name: String,
    /// Bytes since the mark or the last call.
    waited: usize,
    /// Whether the arguments of the call that was told are whole.
    whole: bool,
    /// The part of the closing mark that was read.
    close: String,
}

/// Fields of a call's object that were read.
#[derive(Debug, Default)]
struct Object {
    name: Option<String>,
    /// Arguments that came before the name, or as a text.
    arguments: Option<String>,
    /// Whether the call was told.
    begun: bool,
    /// Objects around the fields: `"function": {…}`.
    wrapped: bool,
    key: String,
    value: String,
    scan: Scan,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Before an object, a list or a name.
    Open,
    /// In an object, before a key; whether one must come.
    Key(bool),
    /// In a key.
    InKey,
    /// Before the value of a key.
    Value,
    /// In a value; what it is.
    InValue(Field),
    /// After a value.
    Comma,
    /// After a whole call.
    After,
    /// In a name.
    Name,
    /// After a name and its mark.
    Brace,
    /// In arguments that follow a name.
    Named,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Name,
    /// Arguments whose name is known: they are told as they come.
    Arguments,
    /// Arguments to be kept until they are whole.
    Kept,
    Other,
}

impl Reader {
    /// After the mark of `calls`, or before an object that may be a call.
    pub(super) fn new(calls: &'static Calls) -> Reader {
        Reader {
            calls,
            at: At::Open,
            list: false,
            object: Object::default(),
            name: String::new(),
            waited: 0,
            whole: false,
            close: String::new(),
        }
    }

    /// Whether the arguments of the call that was told last are whole.
    pub(super) fn whole(&self) -> bool {
        self.whole
    }

    /// Whether `rest`, read since the last call, says nothing where a text ends.
    pub(super) fn idle(&self, rest: &str) -> bool {
        let rest = rest.trim_matches(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | ']'));
        self.calls.close.starts_with(rest)
    }

    /// Whether nothing but a whole call and what may stand between calls was read.
    pub(super) fn between(&self) -> bool {
        self.at == At::After
    }

    /// Takes the next character.
    pub(super) fn push(&mut self, c: char) -> Read {
        self.waited += c.len_utf8();
        let read = self.step(c);
        if read == Read::More && !self.object.begun && self.at != At::After && self.waited > PATIENCE {
            return Read::Text;
        }
        read
    }

    fn go(&mut self, at: At) -> Read {
        self.at = at;
        Read::More
    }

    fn step(&mut self, c: char) -> Read {
        let space = matches!(c, ' ' | '\n' | '\r' | '\t');
        match self.at {
            At::Open | At::Key(_) | At::Value | At::Comma | At::Brace if space => Read::More,
            At::Open => match (c, self.calls.body) {
                ('[', _) if !self.list => {
                    self.list = true;
                    Read::More
                }
                ('{', _) => self.go(At::Key(false)),
                (_, Body::Named(_)) if !self.list && name_holds(c) => {
                    self.name.clear();
                    self.name.push(c);
                    self.go(At::Name)
                }
                _ => Read::Text,
            },
            At::Key(must) => match c {
                '"' => {
                    self.object.key.clear();
                    self.object.scan = Scan::default();
                    self.object.scan.push(c);
                    self.object.key.push(c);
                    self.go(At::InKey)
                }
                '}' if !must => self.end_object(),
                _ => Read::Text,
            },
            At::InKey => {
                self.object.key.push(c);
                match self.object.scan.push(c) {
                    Step::More => Read::More,
                    Step::Ended => {
                        self.object.key = decode(&self.object.key).unwrap_or_default();
                        self.object.value.clear();
                        self.go(At::Value)
                    }
                    Step::Before | Step::Bad => Read::Text,
                }
            }
            // The colon is kept as the first of the value, so that there is one.
            At::Value if self.object.value.is_empty() => {
                if c != ':' {
                    return Read::Text;
                }
                self.object.value.push(c);
                Read::More
            }
            At::Value => self.begin_value(c),
            At::InValue(field) => self.value(field, c),
            At::Comma => match c {
                ',' => self.go(At::Key(true)),
                '}' => self.end_object(),
                _ => Read::Text,
            },
            At::After => self.after(c),
            At::Name => self.in_name(c),
            At::Brace if c == '{' => self.begin_named(),
            At::Brace => Read::Text,
            At::Named => match self.object.scan.push(c) {
                Step::More => Read::Arguments(c),
                Step::Ended => {
                    self.object = Object::default();
                    self.whole = true;
                    self.at = At::After;
                    self.waited = 0;
                    Read::Arguments(c)
                }
                Step::Before | Step::Bad => Read::Text,
            },
        }
    }

    fn begin_value(&mut self, c: char) -> Read {
        let object = &mut self.object;
        let field = match object.key.as_str() {
            "name" | "tool_name" => Field::Name,
            "function" if c == '"' => Field::Name,
            "function" if c == '{' && !object.wrapped && !object.begun => {
                object.wrapped = true;
                return self.go(At::Key(false));
            }
            "arguments" | "parameters" if c == '{' && object.name.is_some() && !object.begun => {
                Field::Arguments
            }
            "arguments" | "parameters" if !object.begun && object.arguments.is_none() => Field::Kept,
            _ => Field::Other,
        };
        object.scan = Scan::default();
        object.value.clear();
        self.at = At::InValue(field);
        if field == Field::Arguments {
            object.scan.push(c);
            object.begun = true;
            self.whole = false;
            let name = object.name.clone().unwrap_or_default();
            return Read::Begin { name, arguments: String::from(c) };
        }
        self.value(field, c)
    }

    fn value(&mut self, field: Field, c: char) -> Read {
        let step = self.object.scan.push(c);
        if field == Field::Arguments {
            return match step {
                Step::More => Read::Arguments(c),
                Step::Ended => {
                    self.at = At::Comma;
                    self.whole = true;
                    Read::Arguments(c)
                }
                Step::Before | Step::Bad => Read::Text,
            };
        }
        match step {
            Step::More | Step::Ended => self.object.value.push(c),
            Step::Before => {}
            Step::Bad => return Read::Text,
        }
        if step == Step::More {
            return Read::More;
        }
        self.at = At::Comma;
        let object = &mut self.object;
        match field {
            Field::Name => match decode(&object.value).filter(|name| name_good(name)) {
                Some(name) if object.name.is_none() => object.name = Some(name),
                _ => return Read::Text,
            },
            Field::Kept => match arguments(&object.value) {
                Some(arguments) => object.arguments = Some(arguments),
                None => return Read::Text,
            },
            Field::Arguments | Field::Other => {}
        }
        if let (Some(name), Some(arguments), false) = (&object.name, &object.arguments, object.begun) {
            object.begun = true;
            self.whole = true;
            return Read::Begin { name: name.clone(), arguments: arguments.clone() };
        }
        if step == Step::Before { self.step(c) } else { Read::More }
    }

    /// A brace closed the object, or the one around its fields.
    fn end_object(&mut self) -> Read {
        if self.object.wrapped {
            self.object.wrapped = false;
            return self.go(At::Comma);
        }
        let object = std::mem::take(&mut self.object);
        let Some(name) = object.name else { return Read::Text };
        self.at = At::After;
        self.waited = 0;
        if object.begun {
            return Read::End;
        }
        // A tool that takes nothing.
        self.whole = true;
        Read::Begin { name, arguments: "{}".to_owned() }
    }

    fn in_name(&mut self, c: char) -> Read {
        let Body::Named(mark) = self.calls.body else { return Read::Text };
        self.name.push(c);
        if let Some(name) = self.name.strip_suffix(mark) {
            let name = name.split("[CALL_ID]").next().unwrap_or_default().trim().to_owned();
            if !name_good(&name) {
                return Read::Text;
            }
            self.name = name;
            return self.go(At::Brace);
        }
        // Some forget the mark.
        if c == '{' {
            self.name.pop();
            return self.begin_named();
        }
        if self.name.len() > NAME || matches!(c, '\n' | '"' | '}') { Read::Text } else { Read::More }
    }

    /// The arguments of a named call begin.
    fn begin_named(&mut self) -> Read {
        let name = self.name.trim().to_owned();
        if !name_good(&name) {
            return Read::Text;
        }
        self.object = Object { begun: true, ..Object::default() };
        self.object.scan.push('{');
        self.at = At::Named;
        self.whole = false;
        Read::Begin { name, arguments: "{".to_owned() }
    }

    fn after(&mut self, c: char) -> Read {
        self.close.push(c);
        let close = self.calls.close;
        if !close.is_empty() && close.starts_with(&*self.close) {
            if close == self.close {
                self.close.clear();
                return Read::Close;
            }
            return Read::More;
        }
        if self.close.len() > c.len_utf8() {
            // The beginning of a mark that was none.
            return Read::Leave;
        }
        self.close.clear();
        match c {
            ' ' | '\n' | '\r' | '\t' | ',' | ';' => Read::More,
            ']' if self.list => {
                self.list = false;
                Read::More
            }
            '{' => {
                self.object = Object::default();
                self.at = At::Key(false);
                Read::More
            }
            '[' if !self.list && self.calls.body == Body::List => {
                self.list = true;
                self.at = At::Open;
                Read::More
            }
            _ => Read::Leave,
        }
    }
}

/// Whether a name may begin with it.
fn name_holds(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}

fn name_good(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME
        && !name.chars().any(|c| c.is_control() || matches!(c, '<' | '>' | '{' | '}'))
}

/// The text that a JSON text means.
fn decode(json: &str) -> Option<String> {
    serde_json::from_str(json).ok()
}

/// Arguments as JSON text: an object, a text that holds one, or nothing.
fn arguments(json: &str) -> Option<String> {
    if json.starts_with('{') {
        return Some(json.to_owned());
    }
    if json == "null" {
        return Some("{}".to_owned());
    }
    let inner = decode(json)?;
    let object = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&inner).is_ok();
    object.then_some(inner)
}
