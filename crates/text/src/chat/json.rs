//! `tojson` as transformers defines it: Python's `json.dumps`, without HTML escapes.

use minijinja::value::ValueKind;
use minijinja::{Error, Value};

use super::context::Context;
use super::limits::{VALUE_BYTES, VALUE_DEPTH, exceeded};
use super::python::{self, Args, fail};

struct Style {
    ascii: bool,
    /// One level of indentation; `None`: everything on one line.
    indent: Option<String>,
    item: String,
    key: String,
    sort: bool,
}

pub(super) fn tojson(ctx: &Context, values: &[Value]) -> Result<Value, Error> {
    let args = Args::new(values);
    let value = args.required(0, "value")?;
    // transformers' own filter takes `ensure_ascii` first.
    let indent = match args.get(2, "indent") {
        None => None,
        Some(value) if value.is_none() => None,
        Some(value) => Some(if let Some(text) = value.as_str() {
            text.to_owned()
        } else {
            let width = usize::try_from(python::integer(&value)?.max(0)).unwrap_or(usize::MAX);
            if width > 64 {
                return Err(exceeded("indents JSON by more than 64 spaces"));
            }
            " ".repeat(width)
        }),
    };
    let (item, key) = match args.get(3, "separators") {
        Some(pair) if !pair.is_none() => {
            let pair = python::items(ctx, &pair)?;
            match pair.as_slice() {
                [item, key] => (python::text(ctx, item)?, python::text(ctx, key)?),
                _ => return Err(fail("separators must be a pair of strings")),
            }
        }
        _ => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
    };
    let style = Style {
        ascii: args.flag(1, "ensure_ascii", false),
        indent,
        item,
        key,
        sort: args.flag(4, "sort_keys", false),
    };
    let mut out = String::new();
    write(ctx, &style, &value, &mut out, 0)?;
    Ok(Value::from(out))
}

fn write(ctx: &Context, style: &Style, value: &Value, out: &mut String, depth: usize) -> Result<(), Error> {
    if depth > 2 * VALUE_DEPTH {
        return Err(exceeded("nests values too deeply"));
    }
    ctx.budget.spend(VALUE_BYTES)?;
    if out.len() > ctx.budget.string {
        return Err(exceeded("builds a string longer than any prompt"));
    }
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push_str(&number(value)),
        ValueKind::String => string(ctx, style, value.as_str().unwrap_or_default(), out)?,
        ValueKind::Seq | ValueKind::Iterable => {
            let items = python::items(ctx, value)?;
            if items.is_empty() {
                out.push_str("[]");
                return Ok(());
            }
            out.push('[');
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    out.push_str(&style.item);
                }
                newline(ctx, style, out, depth + 1)?;
                write(ctx, style, item, out, depth + 1)?;
            }
            newline(ctx, style, out, depth)?;
            out.push(']');
        }
        ValueKind::Map if !python::is_namespace(value) => {
            let mut pairs = python::pairs(value)?;
            if pairs.is_empty() {
                out.push_str("{}");
                return Ok(());
            }
            if style.sort {
                ctx.budget.values(pairs.len())?;
                pairs.sort_by(|a, b| a.0.as_str().cmp(&b.0.as_str()));
            }
            out.push('{');
            for (n, (key, item)) in pairs.iter().enumerate() {
                if n > 0 {
                    out.push_str(&style.item);
                }
                newline(ctx, style, out, depth + 1)?;
                match key.kind() {
                    ValueKind::String => string(ctx, style, key.as_str().unwrap_or_default(), out)?,
                    ValueKind::Number => string(ctx, style, &number(key), out)?,
                    ValueKind::Bool => out.push_str(if key.is_true() { "\"true\"" } else { "\"false\"" }),
                    ValueKind::None => out.push_str("\"null\""),
                    _ => return Err(fail("keys must be str, int, float, bool or None")),
                }
                out.push_str(&style.key);
                write(ctx, style, item, out, depth + 1)?;
            }
            newline(ctx, style, out, depth)?;
            out.push('}');
        }
        _ => {
            return Err(fail(format!(
                "object of type {} is not JSON serializable",
                python::type_name(value)
            )));
        }
    }
    Ok(())
}

fn newline(ctx: &Context, style: &Style, out: &mut String, depth: usize) -> Result<(), Error> {
    if let Some(indent) = &style.indent {
        ctx.budget.spend(1 + indent.len() * depth)?;
        out.push('\n');
        for _ in 0..depth {
            out.push_str(indent);
        }
    }
    Ok(())
}

fn number(value: &Value) -> String {
    match python::number(value).as_str() {
        "nan" => "NaN".into(),
        "inf" => "Infinity".into(),
        "-inf" => "-Infinity".into(),
        other => other.to_owned(),
    }
}

fn string(ctx: &Context, style: &Style, text: &str, out: &mut String) -> Result<(), Error> {
    use std::fmt::Write as _;
    ctx.budget.spend(text.len())?;
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            _ if ctx.marks.is_marker(c) => out.push(c),
            _ if (c as u32) < 0x20 || (style.ascii && !c.is_ascii()) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a String cannot fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            _ => out.push(c),
        }
    }
    out.push('"');
    Ok(())
}
