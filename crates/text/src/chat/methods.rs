//! Methods of Python's `str`, `dict` and `list`. Those that change their object are refused, as
//! transformers' sandbox refuses them.

use minijinja::formatting::FormatStyle;
use minijinja::value::{Tuple, ValueKind};
use minijinja::{Error, ErrorKind, Value};

use super::context::Context;
use super::ops;
use super::python::{self, Args, fail, type_name};

/// Calls `value.name(args)`.
pub(super) fn call(ctx: &Context, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::String => string(ctx, value.as_str().unwrap_or_default(), name, args),
        ValueKind::Map => dict(ctx, value, name, &Args::new(args)),
        ValueKind::Seq | ValueKind::Iterable => list(ctx, value, name, &Args::new(args)),
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

fn changes(name: &str) -> Error {
    fail(format!("'{name}' would change its object, which templates may not; build a new value instead"))
}

/// White space as `str.strip` knows it: Unicode's, and the four separators of ASCII.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

fn string(ctx: &Context, text: &str, name: &str, values: &[Value]) -> Result<Value, Error> {
    ctx.budget.string(text.len())?;
    let args = Args::new(values);
    let all = |test: fn(char) -> bool| Value::from(!text.is_empty() && text.chars().all(test));
    Ok(match name {
        "upper" => Value::from(ctx.marks.hide_new(text, text.to_uppercase())),
        "lower" => Value::from(ctx.marks.hide_new(text, text.to_lowercase())),
        "casefold" => Value::from(ctx.marks.hide_new(text, text.to_lowercase().replace('ß', "ss"))),
        "title" => Value::from(title(text)),
        "capitalize" => Value::from(capitalize(text)),
        "swapcase" => Value::from(swap_case(text)),
        "strip" | "lstrip" | "rstrip" => {
            let chars = args.string(0, "chars")?;
            let strip = |c: char| chars.as_ref().map_or_else(|| is_space(c), |chars| chars.contains(c));
            let mut rest = text;
            if name != "rstrip" {
                rest = rest.trim_start_matches(strip);
            }
            if name != "lstrip" {
                rest = rest.trim_end_matches(strip);
            }
            Value::from(rest)
        }
        "split" | "rsplit" => {
            let parts =
                split(ctx, text, args.string(0, "sep")?, args.integer(1, "maxsplit")?, name == "rsplit")?;
            Value::from(parts)
        }
        "partition" | "rpartition" => {
            let separator = text_argument(&args, 0, "sep")?;
            if separator.is_empty() {
                return Err(fail("empty separator"));
            }
            let needle = ctx.marks.needle(text, &separator);
            let found =
                if name == "partition" { text.find(needle.as_ref()) } else { text.rfind(needle.as_ref()) };
            let parts = match found {
                Some(at) => [&text[..at], separator.as_str(), &text[at + needle.len()..]],
                None if name == "partition" => [text, "", ""],
                None => ["", "", text],
            };
            Value::from(Tuple::from(parts.map(Value::from)))
        }
        "splitlines" => {
            let lines = lines(ctx, text, args.flag(0, "keepends", false))?;
            Value::from(lines.into_iter().map(Value::from).collect::<Vec<_>>())
        }
        "startswith" | "endswith" => {
            let wanted = args.required(0, "prefix")?;
            let options = if wanted.is_tuple() { python::items(ctx, &wanted)? } else { vec![wanted] };
            let mut found = false;
            for option in &options {
                let option = option.as_str().ok_or_else(|| {
                    fail(format!("{name} first arg must be str or a tuple of str, not {}", type_name(option)))
                })?;
                let needle = ctx.marks.needle(text, option);
                found |= if name == "startswith" {
                    text.starts_with(needle.as_ref())
                } else {
                    text.ends_with(needle.as_ref())
                };
            }
            Value::from(found)
        }
        "removeprefix" | "removesuffix" => {
            let affix = text_argument(&args, 0, "prefix")?;
            let needle = ctx.marks.needle(text, &affix);
            let rest = if name == "removeprefix" {
                text.strip_prefix(needle.as_ref())
            } else {
                text.strip_suffix(needle.as_ref())
            };
            Value::from(rest.unwrap_or(text))
        }
        "replace" => {
            let (old, new) = (text_argument(&args, 0, "old")?, text_argument(&args, 1, "new")?);
            replace(ctx, text, &old, &new, args.integer(2, "count")?)?
        }
        "find" | "index" | "rfind" | "rindex" => {
            let wanted = text_argument(&args, 0, "sub")?;
            let needle = ctx.marks.needle(text, &wanted);
            let at =
                if name.starts_with('r') { text.rfind(needle.as_ref()) } else { text.find(needle.as_ref()) };
            match at {
                Some(at) => Value::from(text[..at].chars().count()),
                None if name.ends_with("index") => return Err(fail("substring not found")),
                None => Value::from(-1),
            }
        }
        "count" => {
            let wanted = text_argument(&args, 0, "sub")?;
            let needle = ctx.marks.needle(text, &wanted);
            Value::from(if needle.is_empty() {
                text.chars().count() + 1
            } else {
                text.matches(needle.as_ref()).count()
            })
        }
        "join" => join(ctx, text, &python::items(ctx, &args.required(0, "iterable")?)?, true)?,
        "format" => ops::formatted(ctx, FormatStyle::StrFormat, text, values)?,
        "isspace" => all(is_space),
        "isdigit" | "isdecimal" | "isnumeric" => all(char::is_numeric),
        "isalnum" => all(char::is_alphanumeric),
        "isalpha" => all(char::is_alphabetic),
        "isascii" => Value::from(text.is_ascii()),
        "islower" => {
            Value::from(text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase))
        }
        "isupper" => {
            Value::from(text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase))
        }
        "ljust" | "rjust" | "center" | "zfill" => {
            let fill =
                if name == "zfill" { "0".into() } else { args.string(1, "fillchar")?.unwrap_or(" ".into()) };
            let width = args.integer(0, "width")?.unwrap_or(0);
            pad(ctx, text, name, width, &fill)?
        }
        _ => return Err(Error::from(ErrorKind::UnknownMethod)),
    })
}

fn text_argument(args: &Args, index: usize, name: &str) -> Result<String, Error> {
    args.string(index, name)?.ok_or_else(|| fail(format!("argument '{name}' must be str")))
}

fn pad(ctx: &Context, text: &str, name: &str, width: i64, fill: &str) -> Result<Value, Error> {
    let length = text.chars().count();
    let missing = usize::try_from(width).unwrap_or(0).saturating_sub(length);
    ctx.budget.string(text.len().saturating_add(missing.saturating_mul(fill.len())))?;
    if missing == 0 {
        return Ok(Value::from(text));
    }
    Ok(Value::from(match name {
        "ljust" => text.to_owned() + &fill.repeat(missing),
        "rjust" => fill.repeat(missing) + text,
        "zfill" => {
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
            format!("{sign}{}{digits}", fill.repeat(missing))
        }
        _ => {
            // CPython gives the odd one to the left when the width is odd.
            let left = missing / 2 + (missing & usize::try_from(width).unwrap_or(0) & 1);
            format!("{}{text}{}", fill.repeat(left), fill.repeat(missing - left))
        }
    }))
}

pub(super) fn replace(
    ctx: &Context,
    text: &str,
    old: &str,
    new: &str,
    count: Option<i64>,
) -> Result<Value, Error> {
    let needle = ctx.marks.needle(text, old);
    let found =
        if needle.is_empty() { text.chars().count() + 1 } else { text.matches(needle.as_ref()).count() };
    let count = count.and_then(|count| usize::try_from(count).ok()).unwrap_or(found).min(found);
    ctx.budget.string(text.len().saturating_add(new.len().saturating_mul(count)))?;
    let replaced = text.replacen(needle.as_ref(), new, count);
    Ok(Value::from(if new.is_empty() { ctx.marks.hide_new(text, replaced) } else { replaced }))
}

/// `separator.join(items)`; Jinja's filter (`strict` false) also takes what is no text.
pub(super) fn join(ctx: &Context, separator: &str, items: &[Value], strict: bool) -> Result<Value, Error> {
    let mut out = String::new();
    for (n, item) in items.iter().enumerate() {
        if strict && item.as_str().is_none() {
            return Err(fail(format!("sequence item {n}: expected str instance, {} found", type_name(item))));
        }
        let item = python::text(ctx, item)?;
        ctx.budget.spend(item.len() + separator.len())?;
        if out.len() + item.len() + separator.len() > ctx.budget.string {
            ctx.budget.string(usize::MAX)?;
        }
        if n > 0 {
            out.push_str(separator);
        }
        out.push_str(&item);
    }
    Ok(Value::from(out))
}

fn split(
    ctx: &Context,
    text: &str,
    separator: Option<String>,
    limit: Option<i64>,
    from_right: bool,
) -> Result<Vec<Value>, Error> {
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX - 1);
    let mut parts: Vec<&str>;
    if let Some(separator) = separator {
        if separator.is_empty() {
            return Err(fail("empty separator"));
        }
        let needle = ctx.marks.needle(text, &separator);
        ctx.budget.values(1 + text.matches(needle.as_ref()).count().min(limit))?;
        if from_right {
            parts = text.rsplitn(limit + 1, needle.as_ref()).collect();
            parts.reverse();
        } else {
            parts = text.splitn(limit + 1, needle.as_ref()).collect();
        }
    } else {
        // Runs of white space, none at the ends.
        ctx.budget.values(1 + text.matches(is_space).count().min(limit))?;
        parts = Vec::new();
        let mut rest =
            if from_right { text.trim_end_matches(is_space) } else { text.trim_start_matches(is_space) };
        while !rest.is_empty() {
            let cut = if from_right { rest.rfind(is_space) } else { rest.find(is_space) };
            match cut {
                Some(at) if parts.len() < limit && from_right => {
                    let width = rest[at..].chars().next().map_or(0, char::len_utf8);
                    parts.push(&rest[at + width..]);
                    rest = rest[..at].trim_end_matches(is_space);
                }
                Some(at) if parts.len() < limit => {
                    parts.push(&rest[..at]);
                    rest = rest[at..].trim_start_matches(is_space);
                }
                _ => {
                    parts.push(rest);
                    rest = "";
                }
            }
        }
        if from_right {
            parts.reverse();
        }
    }
    Ok(parts.into_iter().map(Value::from).collect())
}

/// `str.splitlines`.
pub(super) fn lines<'a>(ctx: &Context, text: &'a str, keep_ends: bool) -> Result<Vec<&'a str>, Error> {
    let is_end = |c: char| {
        matches!(c, '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}')
    };
    ctx.budget.values(1 + text.matches(is_end).count())?;
    let mut out = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let Some(at) = rest.find(is_end) else {
            out.push(rest);
            break;
        };
        let width = if rest[at..].starts_with("\r\n") {
            2
        } else {
            rest[at..].chars().next().map_or(0, char::len_utf8)
        };
        out.push(&rest[..if keep_ends { at + width } else { at }]);
        rest = &rest[at + width..];
    }
    Ok(out)
}

pub(super) fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().collect::<String>() + &chars.as_str().to_lowercase()
    })
}

/// `str.title`: every run of letters starts with a capital.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        if inside {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_alphabetic();
    }
    out
}

fn swap_case(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_lowercase() {
            out.extend(c.to_uppercase());
        } else {
            out.extend(c.to_lowercase());
        }
    }
    out
}

fn dict(ctx: &Context, value: &Value, name: &str, args: &Args) -> Result<Value, Error> {
    if python::is_namespace(value) {
        return Err(Error::from(ErrorKind::UnknownMethod));
    }
    match name {
        "get" => {
            let key = args.required(0, "key")?;
            let found = ops::subscript(ctx, value, &key)?;
            Ok(if found.is_undefined() {
                args.get(1, "default").unwrap_or_else(|| Value::from(()))
            } else {
                found
            })
        }
        "keys" => Ok(Value::from(python::items(ctx, value)?)),
        "values" | "items" => {
            let pairs = python::pairs(value)?;
            ctx.budget.values(3 * pairs.len())?;
            Ok(Value::from(
                pairs
                    .into_iter()
                    .map(
                        |(key, item)| {
                            if name == "values" { item } else { Value::from(Tuple::from([key, item])) }
                        },
                    )
                    .collect::<Vec<_>>(),
            ))
        }
        "copy" => Ok(value.clone()),
        "pop" | "popitem" | "update" | "setdefault" | "clear" => Err(changes(name)),
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

fn list(ctx: &Context, value: &Value, name: &str, args: &Args) -> Result<Value, Error> {
    match name {
        "count" | "index" => {
            let wanted = args.required(0, "value")?;
            let mut count = 0;
            for (n, item) in python::items(ctx, value)?.iter().enumerate() {
                if python::equal(ctx, item, &wanted)? {
                    if name == "index" {
                        return Ok(Value::from(n));
                    }
                    count += 1;
                }
            }
            if name == "index" { Err(fail("value is not in list")) } else { Ok(Value::from(count)) }
        }
        "copy" => Ok(value.clone()),
        "append" | "extend" | "insert" | "pop" | "remove" | "clear" | "sort" | "reverse" => {
            Err(changes(name))
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}
