//! What a prompt is made from.

use minijinja::Value;
use serde_json::{Map, Value as Json};

use super::limits::VALUE_DEPTH;
use super::marks::Marks;
use super::{Error, Message, Specials};

/// Names an argument for the template may not have.
const RESERVED: &[&str] = &[
    "messages",
    "tools",
    "documents",
    "add_generation_prompt",
    "tokenize",
    "chat_template",
    "bos_token",
    "eos_token",
    "unk_token",
    "pad_token",
    "raise_exception",
    "strftime_now",
    "namespace",
    "range",
    "dict",
];

/// A conversation and how to continue it.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The conversation so far.
    pub messages: &'a [Message],
    /// Tools the model may call: an array of function definitions.
    pub tools: Option<&'a Json>,
    /// Documents for templates that know of retrieval: an array of objects.
    pub documents: Option<&'a Json>,
    /// Whether to end with the opening of the model's turn. Default true.
    pub add_generation_prompt: bool,
    /// Further variables of the template, such as `enable_thinking`.
    pub arguments: Map<String, Json>,
    /// The time for templates that write the date, seconds since 1970-01-01 UTC. Without it there is no
    /// `strftime_now`: some templates then write a fixed date, others fail.
    pub now: Option<i64>,
}

/// The size of a request.
pub(super) struct Size<'a> {
    /// All its strings, keys of objects included.
    pub(super) texts: Vec<&'a str>,
    /// JSON values in it.
    pub(super) nodes: usize,
}

impl<'a> Request<'a> {
    /// Asks for an answer to `messages`.
    pub fn new(messages: &'a [Message]) -> Self {
        Self {
            messages,
            tools: None,
            documents: None,
            add_generation_prompt: true,
            arguments: Map::new(),
            now: None,
        }
    }

    /// Walks the whole request without recursion; refuses names that are taken and deep nesting.
    pub(super) fn measure(&self) -> Result<Size<'_>, Error> {
        if let Some(name) = self.arguments.keys().find(|name| RESERVED.contains(&name.as_str())) {
            return Err(Error::Reserved { name: name.clone() });
        }
        let mut size = Size { texts: Vec::new(), nodes: 0 };
        let mut stack: Vec<(&Json, usize)> = Vec::new();
        let objects = self.messages.iter().map(Message::fields).chain([&self.arguments]);
        for (key, value) in objects.flatten() {
            size.texts.push(key);
            stack.push((value, 1));
        }
        stack.extend([self.tools, self.documents].into_iter().flatten().map(|value| (value, 0)));
        while let Some((value, depth)) = stack.pop() {
            if depth > VALUE_DEPTH {
                return Err(Error::Depth { limit: VALUE_DEPTH });
            }
            size.nodes += 1;
            match value {
                Json::String(text) => size.texts.push(text),
                Json::Array(items) => stack.extend(items.iter().map(|item| (item, depth + 1))),
                Json::Object(fields) => {
                    for (key, item) in fields {
                        size.texts.push(key);
                        stack.push((item, depth + 1));
                    }
                }
                _ => {}
            }
        }
        Ok(size)
    }

    /// The template's variables, control tokens in the request's text marked.
    pub(super) fn variables(&self, marks: &Marks, specials: &Specials) -> Value {
        let mut variables: Vec<(String, Value)> = vec![
            (
                "messages".into(),
                Value::from(
                    self.messages.iter().map(|m| object(marks, &m.for_template())).collect::<Vec<_>>(),
                ),
            ),
            ("tools".into(), self.tools.map_or(Value::from(()), |tools| value(marks, tools))),
            ("documents".into(), self.documents.map_or(Value::from(()), |documents| value(marks, documents))),
            ("add_generation_prompt".into(), Value::from(self.add_generation_prompt)),
        ];
        let tokens = [
            ("bos_token", &specials.bos),
            ("eos_token", &specials.eos),
            ("unk_token", &specials.unk),
            ("pad_token", &specials.pad),
        ];
        for (name, token) in tokens {
            variables.extend(token.as_ref().map(|token| (name.to_owned(), Value::from(token.as_str()))));
        }
        variables.extend(self.arguments.iter().map(|(name, json)| (name.clone(), value(marks, json))));
        Value::from_pairs(variables)
    }
}

fn object(marks: &Marks, fields: &Map<String, Json>) -> Value {
    Value::from_pairs(fields.iter().map(|(key, json)| (marks.hide(key).into_owned(), value(marks, json))))
}

fn value(marks: &Marks, json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(x) => Value::from(*x),
        Json::Number(number) => {
            if let Some(x) = number.as_i64() {
                Value::from(x)
            } else if let Some(x) = number.as_u64() {
                Value::from(x)
            } else {
                Value::from(number.as_f64().unwrap_or(f64::NAN))
            }
        }
        Json::String(text) => Value::from(marks.hide(text).as_ref()),
        Json::Array(items) => Value::from(items.iter().map(|item| value(marks, item)).collect::<Vec<_>>()),
        Json::Object(fields) => object(marks, fields),
    }
}
