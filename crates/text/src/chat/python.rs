//! Values as Python shows and compares them: templates are written for Python's Jinja, where
//! `{{ none }}` prints `None` and a list prints as `['a', 1]`.

use std::cmp::Ordering;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};

use super::context::Context;
use super::limits::{VALUE_BYTES, VALUE_DEPTH, exceeded};

pub(super) fn fail(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

/// The type's name in Python, for messages.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value.kind() {
        ValueKind::Undefined => "undefined",
        ValueKind::None => "None",
        ValueKind::Bool => "bool",
        ValueKind::Number if value.is_integer() => "int",
        ValueKind::Number => "float",
        ValueKind::String => "str",
        ValueKind::Bytes => "bytes",
        ValueKind::Seq if value.is_tuple() => "tuple",
        ValueKind::Seq | ValueKind::Iterable => "list",
        ValueKind::Map => "dict",
        _ => "object",
    }
}

pub(super) fn is_list(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable)
}

/// `str(value)`.
pub(super) fn text(ctx: &Context, value: &Value) -> Result<String, Error> {
    if let Some(text) = value.as_str() {
        ctx.budget.string(text.len())?;
        return Ok(text.to_owned());
    }
    if value.is_undefined() {
        return Ok(String::new());
    }
    repr(ctx, value)
}

/// `repr(value)`.
pub(super) fn repr(ctx: &Context, value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    write_repr(ctx, value, &mut out, 0)?;
    Ok(out)
}

fn write_repr(ctx: &Context, value: &Value, out: &mut String, depth: usize) -> Result<(), Error> {
    if depth > 2 * VALUE_DEPTH {
        return Err(exceeded("nests values too deeply"));
    }
    ctx.budget.spend(VALUE_BYTES)?;
    if out.len() > ctx.budget.string {
        return Err(exceeded("builds a string longer than any prompt"));
    }
    match value.kind() {
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number => out.push_str(&number(value)),
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            ctx.budget.spend(text.len())?;
            quote(ctx, text, out);
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let tuple = value.is_tuple();
            out.push(if tuple { '(' } else { '[' });
            let mut count = 0;
            for item in value.try_iter()?.checked() {
                if count > 0 {
                    out.push_str(", ");
                }
                write_repr(ctx, &item?, out, depth + 1)?;
                count += 1;
            }
            if tuple && count == 1 {
                out.push(',');
            }
            out.push(if tuple { ')' } else { ']' });
        }
        ValueKind::Map => {
            out.push('{');
            for (n, (key, item)) in pairs(value)?.into_iter().enumerate() {
                if n > 0 {
                    out.push_str(", ");
                }
                write_repr(ctx, &key, out, depth + 1)?;
                out.push_str(": ");
                write_repr(ctx, &item, out, depth + 1)?;
            }
            out.push('}');
        }
        _ => return Err(fail("a function cannot be printed")),
    }
    Ok(())
}

/// A string literal: single quotes unless the text has some and no double quotes.
fn quote(ctx: &Context, text: &str, out: &mut String) {
    use std::fmt::Write as _;
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if c == quote => {
                out.push('\\');
                out.push(c);
            }
            _ if ctx.marks.is_marker(c) || printable(c) => out.push(c),
            _ => {
                let code = c as u32;
                // Writing to a String cannot fail.
                let _ = match code {
                    0..=0xff => write!(out, "\\x{code:02x}"),
                    0x100..=0xffff => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
            }
        }
    }
    out.push(quote);
}

/// Roughly `str.isprintable`: controls, separators other than the space, private and unassigned
/// areas are not.
fn printable(c: char) -> bool {
    let code = c as u32;
    !(c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(code, 0xad | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfeff)
        || matches!(code, 0xe000..=0xf8ff | 0xfff0..=0xfffb | 0xe0000..=0x10ffff))
}

/// A number as Python prints it.
pub(super) fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float)
}

/// `repr(float)`: shortest digits that read back, exponent below 1e-4 and from 1e16.
pub(super) fn float(x: f64) -> String {
    if x.is_nan() {
        return "nan".into();
    }
    if x.is_infinite() {
        return if x > 0.0 { "inf" } else { "-inf" }.into();
    }
    let scientific = format!("{x:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if x != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let plain = format!("{x}");
    if plain.contains('.') { plain } else { plain + ".0" }
}

/// The entries of a dict, in order.
pub(super) fn pairs(value: &Value) -> Result<Vec<(Value, Value)>, Error> {
    let object = value.as_object().ok_or_else(|| fail(format!("{} has no items", type_name(value))))?;
    Ok(object.try_iter_pairs().map(Iterator::collect).unwrap_or_default())
}

/// The items of anything Python can iterate: characters of a string, keys of a dict.
pub(super) fn items(ctx: &Context, value: &Value) -> Result<Vec<Value>, Error> {
    match value.kind() {
        ValueKind::Undefined => Ok(Vec::new()),
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            ctx.budget.values(text.len())?;
            Ok(text.chars().map(Value::from).collect())
        }
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => {
            let mut out = Vec::new();
            for item in value.try_iter()?.checked() {
                ctx.budget.values(1)?;
                out.push(item?);
            }
            Ok(out)
        }
        _ => Err(fail(format!("'{}' object is not iterable", type_name(value)))),
    }
}

/// `len(value)`, strings in characters.
pub(super) fn len(value: &Value) -> Result<usize, Error> {
    match value.kind() {
        ValueKind::Undefined => Ok(0),
        ValueKind::String => Ok(value.as_str().unwrap_or_default().chars().count()),
        _ => value.len().ok_or_else(|| fail(format!("object of type '{}' has no len()", type_name(value)))),
    }
}

/// `a == b`.
pub(super) fn equal(ctx: &Context, a: &Value, b: &Value) -> Result<bool, Error> {
    ctx.budget.spend(VALUE_BYTES)?;
    if let (Some(a), Some(b)) = (a.as_str(), b.as_str()) {
        ctx.budget.spend(a.len().min(b.len()))?;
        return Ok(a == b || ctx.marks.strip(a) == ctx.marks.strip(b));
    }
    if let (Some(a), Some(b)) = (numeric(a), numeric(b)) {
        return Ok(a == b);
    }
    if is_list(a) && is_list(b) {
        if a.is_tuple() != b.is_tuple() || a.len() != b.len() {
            return Ok(false);
        }
        for (a, b) in a.try_iter()?.zip(b.try_iter()?) {
            if !equal(ctx, &a, &b)? {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    match (a.kind(), b.kind()) {
        (ValueKind::Undefined, ValueKind::Undefined) | (ValueKind::None, ValueKind::None) => Ok(true),
        (ValueKind::Map, ValueKind::Map) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            ctx.budget.values(a.len().unwrap_or(0))?;
            for (key, item) in pairs(a)? {
                match b.as_object().and_then(|b| b.get_value(&key)) {
                    Some(other) if equal(ctx, &item, &other)? => {}
                    _ => return Ok(false),
                }
            }
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Numbers and booleans on one scale, as Python compares them.
fn numeric(value: &Value) -> Option<Value> {
    match value.kind() {
        ValueKind::Number => Some(value.clone()),
        ValueKind::Bool => Some(Value::from(i64::from(value.is_true()))),
        _ => None,
    }
}

/// The order of `a` and `b`, where Python has one.
pub(super) fn compare(ctx: &Context, a: &Value, b: &Value) -> Result<Ordering, Error> {
    ctx.budget.spend(VALUE_BYTES)?;
    if let (Some(a), Some(b)) = (a.as_str(), b.as_str()) {
        ctx.budget.spend(a.len().min(b.len()))?;
        return Ok(a.cmp(b));
    }
    if let (Some(a), Some(b)) = (numeric(a), numeric(b)) {
        return a.partial_cmp(&b).ok_or_else(|| fail("numbers cannot be ordered"));
    }
    if is_list(a) && is_list(b) {
        for (a, b) in a.try_iter()?.zip(b.try_iter()?) {
            match compare(ctx, &a, &b)? {
                Ordering::Equal => {}
                other => return Ok(other),
            }
        }
        return Ok(a.len().cmp(&b.len()));
    }
    Err(fail(format!("'<' not supported between instances of '{}' and '{}'", type_name(a), type_name(b))))
}

/// Refuses what must not be put into a container: too deep (dropping it would recurse), or a
/// namespace (it could then hold itself).
pub(super) fn check_element(ctx: &Context, value: &Value, depth: usize) -> Result<(), Error> {
    ctx.budget.spend(VALUE_BYTES)?;
    if depth > VALUE_DEPTH {
        return Err(exceeded("nests values too deeply"));
    }
    if is_namespace(value) {
        return Err(fail("a namespace cannot be stored in another value; store its attributes"));
    }
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            for item in value.try_iter()?.checked() {
                check_element(ctx, &item?, depth + 1)?;
            }
        }
        ValueKind::Map => {
            for (_, item) in pairs(value)? {
                check_element(ctx, &item, depth + 1)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// The engine keeps its namespace type to itself; its debug form is the one thing that tells it apart.
pub(super) fn is_namespace(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.type_name().ends_with("::Namespace"))
}

/// The arguments of a filter, test or method, positional and by name.
pub(super) struct Args {
    pub(super) positional: Vec<Value>,
    named: Option<Kwargs>,
}

impl Args {
    pub(super) fn new(values: &[Value]) -> Self {
        let mut positional = values.to_vec();
        let named = match positional.last() {
            Some(last) if last.is_kwargs() => positional.pop().and_then(|last| Kwargs::try_from(last).ok()),
            _ => None,
        };
        Self { positional, named }
    }

    /// The argument at `index` or called `name`.
    pub(super) fn get(&self, index: usize, name: &str) -> Option<Value> {
        self.positional.get(index).cloned().or_else(|| self.named(name))
    }

    pub(super) fn named(&self, name: &str) -> Option<Value> {
        let named = self.named.as_ref()?;
        if named.has(name) { named.get::<Value>(name).ok() } else { None }
    }

    pub(super) fn required(&self, index: usize, name: &str) -> Result<Value, Error> {
        self.get(index, name).ok_or_else(|| fail(format!("missing argument '{name}'")))
    }

    pub(super) fn flag(&self, index: usize, name: &str, default: bool) -> bool {
        self.get(index, name).map_or(default, |value| value.is_true())
    }

    /// An integer argument; `None` where absent or Python's `None`.
    pub(super) fn integer(&self, index: usize, name: &str) -> Result<Option<i64>, Error> {
        match self.get(index, name) {
            None => Ok(None),
            Some(value) if value.is_none() => Ok(None),
            Some(value) => integer(&value).map(Some),
        }
    }

    /// A text argument; `None` where absent or Python's `None`.
    pub(super) fn string(&self, index: usize, name: &str) -> Result<Option<String>, Error> {
        match self.get(index, name) {
            None => Ok(None),
            Some(value) if value.is_none() => Ok(None),
            Some(value) => match value.as_str() {
                Some(text) => Ok(Some(text.to_owned())),
                None => Err(fail(format!("argument '{name}' must be str, not {}", type_name(&value)))),
            },
        }
    }
}

/// A value used as a count or an index.
pub(super) fn integer(value: &Value) -> Result<i64, Error> {
    match value.kind() {
        ValueKind::Bool => Ok(i64::from(value.is_true())),
        ValueKind::Number if value.is_integer() => value.as_i64().ok_or_else(|| fail("integer is too large")),
        _ => Err(fail(format!("'{}' object cannot be used as an integer", type_name(value)))),
    }
}
