//! Reads calls written as tags: `<function=name>`, `<parameter=key>`, the value as it is, `</parameter>`.

use std::sync::Arc;

use serde_json::Value;

use super::read::Read;
use super::tools::Tools;

const FUNCTION: &str = "<function=";
const PARAMETER: &str = "<parameter=";
const PARAMETER_END: &str = "</parameter>";
const FUNCTION_END: &str = "</function>";

/// Longest name of a tool or parameter, bytes.
const NAME: usize = 256;

/// Reads calls of this form.
#[derive(Debug)]
pub(super) struct Tags {
    tools: Arc<Tools>,
    close: &'static str,
    at: At,
    /// The tag, name or value under way.
    text: String,
    name: String,
    key: String,
    /// Parameters told.
    count: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Before the function's tag.
    Open,
    Name,
    /// Before a parameter's tag or the function's end.
    Body,
    Key,
    Value,
    After,
}

impl Tags {
    /// After the mark that opens a region, or after `<function=` if `named`.
    pub(super) fn new(tools: Arc<Tools>, close: &'static str, named: bool) -> Tags {
        let at = if named { At::Name } else { At::Open };
        Tags { tools, close, at, text: String::new(), name: String::new(), key: String::new(), count: 0 }
    }

    /// Whether nothing was read of it yet but spaces.
    pub(super) fn untouched(&self) -> bool {
        self.at == At::Open && self.text.is_empty()
    }

    /// Whether `rest`, read since the last call, says nothing where a text ends.
    pub(super) fn idle(&self, rest: &str) -> bool {
        self.close.starts_with(rest.trim())
    }

    /// Whether a whole call was read and no other was begun.
    pub(super) fn between(&self) -> bool {
        self.at == At::After
    }

    /// Takes the next character.
    pub(super) fn push(&mut self, c: char) -> Read {
        match self.at {
            At::Open | At::Body | At::After => {
                if self.text.is_empty() && c.is_whitespace() {
                    return Read::More;
                }
                self.text.push(c);
                self.tag()
            }
            At::Name if c == '>' => {
                std::mem::take(&mut self.text).trim().clone_into(&mut self.name);
                if self.name.is_empty() {
                    return Read::Text;
                }
                self.at = At::Body;
                self.count = 0;
                Read::Begin { name: self.name.clone(), arguments: "{".to_owned() }
            }
            At::Key if c == '>' => {
                std::mem::take(&mut self.text).trim().clone_into(&mut self.key);
                self.at = At::Value;
                Read::More
            }
            At::Name | At::Key => {
                self.text.push(c);
                if self.text.len() > NAME || matches!(c, '<' | '\n' | '{') { Read::Text } else { Read::More }
            }
            At::Value => {
                self.text.push(c);
                if c != '>' || !self.text.ends_with(PARAMETER_END) {
                    return Read::More;
                }
                self.text.truncate(self.text.len() - PARAMETER_END.len());
                let value = std::mem::take(&mut self.text);
                self.at = At::Body;
                self.count += 1;
                let comma = if self.count > 1 { ", " } else { "" };
                let key = Value::from(self.key.as_str());
                Read::Piece(format!("{comma}{key}: {}", self.value(&value)))
            }
        }
    }

    /// Looks whether what was read is a tag that may come here.
    fn tag(&mut self) -> Read {
        let (open, end) = match self.at {
            At::Open => (FUNCTION, ""),
            At::Body => (PARAMETER, FUNCTION_END),
            _ => (FUNCTION, self.close),
        };
        if self.text == open {
            self.text.clear();
            self.at = if self.at == At::Body { At::Key } else { At::Name };
            return Read::More;
        }
        if !end.is_empty() && self.text == end {
            self.text.clear();
            if self.at == At::After {
                return Read::Close;
            }
            self.at = At::After;
            return Read::Piece("}".to_owned());
        }
        if open.starts_with(&*self.text) || end.starts_with(&*self.text) {
            return Read::More;
        }
        if self.at == At::After { Read::Leave } else { Read::Text }
    }

    /// A parameter's value as JSON.
    fn value(&self, text: &str) -> String {
        // A line end stands after the opening tag and before the closing one.
        let text = text.strip_prefix('\n').unwrap_or(text);
        let text = text.strip_suffix('\n').unwrap_or(text);
        if !self.tools.is_text(&self.name, &self.key)
            && let Ok(value) = serde_json::from_str::<Value>(text)
        {
            return value.to_string();
        }
        Value::from(text).to_string()
    }
}
