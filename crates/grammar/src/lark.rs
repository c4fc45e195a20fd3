//! Grammars in llguidance's dialect of Lark, looked over before they are compiled.

use std::borrow::Cow;

use serde_json::Value;
use text::calls::Shape;

use crate::error::{Error, first_line};
use crate::limits::Limits;
use crate::{regex, schema};

/// Largest count of a repetition.
const REPEAT: u64 = 10_000;

/// A grammar that is safe to compile: what it asks for is bounded, its JSON schemas are checked and
/// rewritten, it names no control tokens and changes no settings.
pub(crate) fn check<'a>(source: &'a str, limits: &Limits) -> Result<Cow<'a, str>, Error> {
    if source.len() > limits.grammar_bytes {
        let fault = format!("it is larger than {} bytes; make it smaller", limits.grammar_bytes);
        return Err(Error::Grammar { line: 1, column: 1, fault });
    }
    let mut scan = Scan { source, at: 0, limits };
    let mut out = String::new();
    let mut copied = 0;
    let mut depth = 0;
    while let Some(first) = source[scan.at..].chars().next() {
        let start = scan.at;
        let rest = &source[start..];
        match first {
            '#' => scan.line(),
            '/' if rest.starts_with("//") => scan.line(),
            '"' => scan.quoted('"')?,
            '/' => {
                scan.quoted('/')?;
                let pattern = &source[start + 1..scan.at - 1];
                regex::check(pattern, limits).map_err(|fault| place(source, start, fault))?;
            }
            '<' => {
                return Err(place(
                    source,
                    start,
                    "control tokens cannot be named here; write text in quotes",
                ));
            }
            '@' => {
                return Err(place(
                    source,
                    start,
                    "there are no other grammars to refer to; write the rule here",
                ));
            }
            '(' | '[' | '{' => {
                depth += 1;
                if depth > limits.depth {
                    let fault =
                        format!("it is nested more than {} deep; use rules of their own", limits.depth);
                    return Err(place(source, start, fault));
                }
                scan.at += 1;
            }
            ')' | ']' | '}' => {
                depth = depth.saturating_sub(1);
                scan.at += 1;
            }
            '%' if rest.starts_with("%llguidance") => {
                return Err(place(
                    source,
                    start,
                    "settings of the compiler cannot be changed; leave %llguidance out",
                ));
            }
            '%' if rest.starts_with("%json") => {
                let (schema, end) = scan.json(start + "%json".len())?;
                out.push_str(&source[copied..start]);
                out.push_str(
                    &json(&schema, source[start..end].matches('\n').count(), limits)
                        .map_err(|error| place(source, start, error.to_string()))?,
                );
                (scan.at, copied) = (end, end);
            }
            '%' if rest.starts_with("%regex") => scan.at = scan.json(start + "%regex".len())?.1,
            '0'..='9' => {
                let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
                if rest[..end].parse::<u64>().is_ok_and(|count| count > REPEAT) {
                    return Err(place(source, start, format!("counts beyond {REPEAT} are not supported")));
                }
                scan.at += end;
            }
            // Names may hold digits, which are no counts.
            c if c.is_alphabetic() || c == '_' => {
                let end =
                    rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '-').unwrap_or(rest.len());
                scan.at += end;
            }
            other => scan.at += other.len_utf8(),
        }
    }
    if copied == 0 {
        return Ok(source.into());
    }
    out.push_str(&source[copied..]);
    Ok(out.into())
}

/// `%json` with a schema, over as many lines as it had.
fn json(schema: &Value, lines: usize, limits: &Limits) -> Result<String, Error> {
    let mut text = format!("%json {}", schema::whitespace(schema::rewrite(schema, limits)?));
    text.pop();
    text.extend(std::iter::repeat_n('\n', lines));
    text.push('}');
    Ok(text)
}

/// An error at a byte of the source.
pub(crate) fn place(source: &str, at: usize, fault: impl Into<String>) -> Error {
    let before = &source[..at];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Error::Grammar { line, column, fault: fault.into() }
}

/// What llguidance says of a grammar, with the place it names.
pub(crate) fn refused(error: &dyn std::fmt::Display) -> Error {
    let said = first_line(error);
    let parsed = said.strip_prefix("at ").unwrap_or(&said).split_once("): ").and_then(|(place, fault)| {
        let (line, column) = place.split_once('(')?;
        Some((line.parse().ok()?, column.parse().ok()?, fault.to_owned()))
    });
    let (line, column, fault) = parsed.unwrap_or((1, 1, said));
    Error::Grammar { line, column, fault }
}

struct Scan<'a> {
    source: &'a str,
    at: usize,
    limits: &'a Limits,
}

impl Scan<'_> {
    /// To the end of the line.
    fn line(&mut self) {
        self.at = self.source[self.at..].find('\n').map_or(self.source.len(), |end| self.at + end);
    }

    /// Past what begins and ends with `mark`.
    fn quoted(&mut self, mark: char) -> Result<(), Error> {
        let start = self.at;
        let mut escaped = false;
        for (i, c) in self.source[start + 1..].char_indices() {
            match c {
                '\n' => break,
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                c if c == mark => {
                    self.at = start + 1 + i + 1;
                    return Ok(());
                }
                _ => {}
            }
        }
        Err(place(self.source, start, format!("the {mark} that ends this is missing")))
    }

    /// The JSON value from `at` on, and where it ends.
    fn json(&self, at: usize) -> Result<(Value, usize), Error> {
        let mut values = serde_json::Deserializer::from_str(&self.source[at..]).into_iter::<Value>();
        match values.next() {
            Some(Ok(value)) if at + values.byte_offset() <= self.limits.bytes => {
                Ok((value, at + values.byte_offset()))
            }
            _ => Err(place(self.source, at, "a JSON object must follow")),
        }
    }
}

/// The grammar of a shape. Control tokens that it names come with their ids.
pub(crate) fn shape(shape: &Shape, limits: &Limits) -> Result<(String, Vec<u32>), Error> {
    let mut writer = Writer { rules: String::new(), count: 0, named: Vec::new(), limits };
    let start = writer.write(shape, 0)?;
    Ok((format!("start: {start}\n{}", writer.rules), writer.named))
}

struct Writer<'a> {
    rules: String,
    count: usize,
    named: Vec<u32>,
    limits: &'a Limits,
}

impl Writer<'_> {
    /// The expression of a shape, in parentheses where it needs them.
    fn write(&mut self, shape: &Shape, depth: usize) -> Result<String, Error> {
        if depth > self.limits.depth {
            return Err(Error::Grammar {
                line: 1,
                column: 1,
                fault: "the shape is nested too deeply".to_owned(),
            });
        }
        Ok(match shape {
            Shape::Text(text) => quote(text),
            Shape::Token(id) => {
                self.named.push(*id);
                format!("<[{id}]>")
            }
            Shape::Json(schema) => {
                let schema = schema::whitespace(schema::rewrite(schema, self.limits)?);
                self.rule("", &format!("%json {schema}"))
            }
            Shape::Until(end) => self.rule(&format!("[suffix={}]", quote(end)), "/(?s:.*)/"),
            Shape::UntilToken(id) => {
                self.named.push(*id);
                let text = self.rule("", "/(?s:.*)/");
                format!("({text} <[{id}]>)")
            }
            Shape::Sequence(parts) => {
                let parts: Result<Vec<_>, _> = parts.iter().map(|part| self.write(part, depth + 1)).collect();
                let parts = parts?;
                if parts.is_empty() { quote("") } else { format!("({})", parts.join(" ")) }
            }
            Shape::OneOf(options) => {
                let options: Result<Vec<_>, _> =
                    options.iter().map(|option| self.write(option, depth + 1)).collect();
                let options = options?;
                self.rule("", &options.join(" | "))
            }
            Shape::Optional(of) => format!("({})?", self.write(of, depth + 1)?),
            Shape::Repeat { of, between, most } => {
                let (of, between) = (self.write(of, depth + 1)?, self.write(between, depth + 1)?);
                match most {
                    Some(1) => of,
                    Some(most) => format!("({of} ({between} {of}){{0,{}}})", most.saturating_sub(1)),
                    None => format!("({of} ({between} {of})*)"),
                }
            }
        })
    }

    /// A rule of its own; its name.
    fn rule(&mut self, attributes: &str, body: &str) -> String {
        let name = format!("part{}", self.count);
        self.count += 1;
        self.rules.extend([&*name, attributes, ": ", body, "\n"]);
        name
    }
}

/// Text as a Lark string, which is a JSON string.
pub(crate) fn quote(text: &str) -> String {
    // Lark's lexer wants U+007F escaped too.
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}
