//! Jinja's filters, with Python's results.

use minijinja::formatting::FormatStyle;
use minijinja::value::{Tuple, ValueKind};
use minijinja::{Error, State, Value};

use super::context::Context;
use super::methods::{self, is_space};
use super::ops::{self, Builtin};
use super::python::{self, Args, fail, type_name};
use super::{json, select};

/// Filters by name. Those over lists are in [`select`].
pub(super) const FILTERS: &[(&str, Builtin)] = &[
    ("abs", abs),
    ("attr", attr),
    ("batch", select::batch),
    ("capitalize", |ctx, _, v| Ok(Value::from(methods::capitalize(&text(ctx, v)?)))),
    ("center", |ctx, _, v| {
        let text = text(ctx, v)?;
        let width = v.get(1).cloned().unwrap_or_else(|| Value::from(80));
        methods::call(ctx, &Value::from(text), "center", &[width])
    }),
    ("count", length),
    ("d", default),
    ("default", default),
    ("dictsort", select::dictsort),
    ("e", escape),
    ("escape", escape),
    ("first", select::first),
    ("float", float),
    ("forceescape", escape),
    ("format", |ctx, _, v| {
        let text = text(ctx, v)?;
        ops::formatted(ctx, FormatStyle::Printf, &text, &v[1..])
    }),
    ("groupby", select::groupby),
    ("indent", indent),
    ("int", int),
    ("items", items),
    ("join", join),
    ("last", select::last),
    ("length", length),
    ("list", |ctx, _, v| Ok(Value::from(python::items(ctx, &v[0])?))),
    ("lower", |ctx, _, v| {
        let text = text(ctx, v)?;
        Ok(Value::from(ctx.marks.hide_new(&text, text.to_lowercase())))
    }),
    ("map", select::map),
    ("max", select::max),
    ("min", select::min),
    ("pprint", |ctx, _, v| Ok(Value::from(python::repr(ctx, &v[0])?))),
    ("reject", |ctx, state, v| select::select(ctx, state, v, false, false)),
    ("rejectattr", |ctx, state, v| select::select(ctx, state, v, true, false)),
    ("replace", replace),
    ("reverse", reverse),
    ("round", round),
    ("safe", |ctx, _, v| Ok(Value::from_safe_string(text(ctx, v)?))),
    ("select", |ctx, state, v| select::select(ctx, state, v, false, true)),
    ("selectattr", |ctx, state, v| select::select(ctx, state, v, true, true)),
    ("slice", select::slice),
    ("sort", select::sort),
    ("string", string),
    ("sum", select::sum),
    ("title", title),
    ("tojson", |ctx, _, v| json::tojson(ctx, v)),
    ("trim", trim),
    ("unique", select::unique),
    ("upper", |ctx, _, v| {
        let text = text(ctx, v)?;
        Ok(Value::from(ctx.marks.hide_new(&text, text.to_uppercase())))
    }),
    ("wordcount", |ctx, _, v| {
        Ok(Value::from(text(ctx, v)?.split(is_space).filter(|w| !w.is_empty()).count()))
    }),
];

/// The filtered value as text.
fn text(ctx: &Context, values: &[Value]) -> Result<String, Error> {
    python::text(ctx, &values[0])
}

fn string(ctx: &Context, _: &mut State, values: &[Value]) -> Result<Value, Error> {
    match values[0].as_str() {
        Some(_) => Ok(values[0].clone()),
        None => text(ctx, values).map(Value::from),
    }
}

fn length(ctx: &Context, _: &mut State, values: &[Value]) -> Result<Value, Error> {
    ctx.budget.spend(values[0].as_str().map_or(0, str::len))?;
    python::len(&values[0]).map(Value::from)
}

fn default(_: &Context, _: &mut State, values: &[Value]) -> Result<Value, Error> {
    let args = Args::new(values);
    let value = args.required(0, "value")?;
    let replace = value.is_undefined() || (args.flag(2, "boolean", false) && !value.is_true());
    Ok(if replace { args.get(1, "default_value").unwrap_or_else(|| Value::from("")) } else { value })
}

fn attr(_: &Context, _: &mut State, values: &[Value]) -> Result<Value, Error> {
    let args = Args::new(values);
    let name = args.string(1, "name")?.ok_or_else(|| fail("attr needs a name"))?;
    // Jinja looks at attributes only, and a dict has no keys among them.
    Ok(if values[0].kind() == ValueKind::Map && !python::is_namespace(&values[0]) {
        Value::UNDEFINED
    } else {
        values[0].get_attr(&name).unwrap_or(Value::UNDEFINED)
    })
}

fn trim(ctx: &Context, _: &mut State, values: &[Value]) -> Result<Value, Error> {
    let text = text(ctx, values)?;
    let chars = Args::new(values).string(1, "chars")?;
    Ok(Value::from(
        text.trim_matches(|c: char| chars.as_ref().map_or_else(|| is_space(c), |chars| chars.contains(c))),
    ))
}

fn replace(ctx: &Context, _: &mut State, values: &[Value]) -> Result<Value, Error> {
    let args = Args::new(values);
    let (old, new) = (args.required(1, "old")?, args.required(2, "new")?);
    methods::replace(
        ctx,
        &text(ctx, values)?,
        &python::text(ctx, &old)?,
        &python::text(ctx, &new)?,
        args.integer(3, "count")?,
    )
}

fn join(ctx: &Context, _: &mut State, values: &[Value]) -> Result<Value, Error> {
    let args = Args::new(values);
    let separator = match args.get(1, "d") {
        Some(separator) => python::text(ctx, &separator)?,
        None => String::new(),
    };
    let mut items = python::items(ctx, &values[0])?;
    if let Some(path) = args.get(2, "attribute").filter(|path| !path.is_none()) {
        for item in &mut items {
            *item = select::path(ctx, item, &path)?;
        }
    }
    methods::join(ctx, &separator, &items, false)
}

fn title(ctx: &Context, _: &mut State, values: &[Value]) -> Result<Value, Error> {
    let text = text(ctx, values)?;
    let mut out = String::with_capacity(text.len());
    let mut start = true;
    for c in text.chars() {
        if start {
            out.extend(c.to_uppercase());
        } else {
            out.extend(c.to_lowercase());
        }
        start = c == '-' || is_space(c) || "({[<".contains(c);
    }
    Ok(Value::from(out))
}

fn escape(ctx: &Context, _: &mut State, values: &[Value]) -> Result<Value, Error> {
    if values[0].is_safe() {
        return Ok(values[0].clone());
    }
    escaped(ctx, &text(ctx, values)?).map(Value::from_safe_string)
}

/// `text` with HTML's characters escaped.
pub(super) fn escaped(ctx: &Context, text: &str) -> Result<String, Error> {
    ctx.budget.string(text.len().saturating_mul(5))?;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    Ok(out)
}

fn indent(ctx: &Context, _: &mut State, values: &[Value]) -> Result<Value, Error> {
    let args = Args::new(values);
    let width = match args.get(1, "width") {
        None => "    ".to_owned(),
        Some(width) => {
            if let Some(text) = width.as_str() {
                text.to_owned()
            } else {
                let width = usize::try_from(python::integer(&width)?).unwrap_or(0);
                ctx.budget.string(width)?;
                " ".repeat(width)
            }
        }
    };
    let (first, blank) = (args.flag(2, "first", false), args.flag(3, "blank", false));
    let text = text(ctx, values)? + "\n";
    let lines = methods::lines(ctx, &text, false)?;
    ctx.budget.string(text.len().saturating_add(width.len().saturating_mul(lines.len())))?;
    let mut out = String::new();
    for (n, line) in lines.iter().enumerate() {
        if n > 0 {
            out.push('\n');
        }
        if if n == 0 { first } else { blank || !line.is_empty() } {
            out.push_str(&width);
        }
        out.push_str(line);
    }
    Ok(Value::from(out))
}

fn reverse(ctx: &Context, _: &mut State, values: &[Value]) -> Result<Value, Error> {
    if let Some(text) = values[0].as_str() {
        ctx.budget.string(text.len())?;
        return Ok(Value::from(text.chars().rev().collect::<String>()));
    }
    let mut items = python::items(ctx, &values[0])?;
    items.reverse();
    Ok(Value::from(items))
}

fn items(ctx: &Context, _: &mut State, values: &[Value]) -> Result<Value, Error> {
    if values[0].is_undefined() {
        return Ok(Value::from(Vec::<Value>::new()));
    }
    if values[0].kind() != ValueKind::Map {
        return Err(fail("can only get item pairs from a mapping"));
    }
    let pairs = python::pairs(&values[0])?;
    ctx.budget.values(3 * pairs.len())?;
    Ok(Value::from(pairs.into_iter().map(|(k, v)| Value::from(Tuple::from([k, v]))).collect::<Vec<_>>()))
}

fn abs(_: &Context, _: &mut State, values: &[Value]) -> Result<Value, Error> {
    match values[0].kind() {
        ValueKind::Number if values[0].is_integer() => {
            let x = i128::try_from(values[0].clone())?;
            Ok(Value::from(x.checked_abs().ok_or_else(|| fail("integer is too large"))?))
        }
        ValueKind::Number => Ok(Value::from(f64::try_from(values[0].clone())?.abs())),
        _ => Err(fail(format!("bad operand type for abs(): '{}'", type_name(&values[0])))),
    }
}

fn int(ctx: &Context, _: &mut State, values: &[Value]) -> Result<Value, Error> {
    ctx.budget.spend(values[0].as_str().map_or(0, str::len))?;
    let args = Args::new(values);
    let default = args.get(1, "default").unwrap_or_else(|| Value::from(0));
    let value = &values[0];
    let truncate = |x: f64| {
        if x.is_finite() && x.abs() < 1e38 { Some(Value::from(x.trunc() as i128)) } else { None }
    };
    Ok(match value.kind() {
        ValueKind::Bool => Value::from(i64::from(value.is_true())),
        ValueKind::Number if value.is_integer() => value.clone(),
        ValueKind::Number => f64::try_from(value.clone()).ok().and_then(truncate).unwrap_or(default),
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default().trim_matches(is_space).replace('_', "");
            let base = args.integer(2, "base")?.and_then(|base| u32::try_from(base).ok()).unwrap_or(10);
            let prefix = match base {
                2 => "0b",
                8 => "0o",
                16 => "0x",
                _ => "",
            };
            let digits = text.strip_prefix(prefix).unwrap_or(&text);
            let parsed =
                if (2..=36).contains(&base) { i128::from_str_radix(digits, base).ok() } else { None };
            match parsed {
                Some(x) => Value::from(x),
                None => text.parse::<f64>().ok().and_then(truncate).unwrap_or(default),
            }
        }
        _ => default,
    })
}

fn float(ctx: &Context, _: &mut State, values: &[Value]) -> Result<Value, Error> {
    ctx.budget.spend(values[0].as_str().map_or(0, str::len))?;
    let value = &values[0];
    let parsed = match value.kind() {
        ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        ValueKind::Number => f64::try_from(value.clone()).ok(),
        ValueKind::String => value.as_str().and_then(|text| text.trim_matches(is_space).parse().ok()),
        _ => None,
    };
    let default = || Args::new(values).get(1, "default").unwrap_or_else(|| Value::from(0.0));
    parsed.map_or_else(|| Ok(default()), |x| Ok(Value::from(x)))
}

fn round(_: &Context, _: &mut State, values: &[Value]) -> Result<Value, Error> {
    let args = Args::new(values);
    let x = f64::try_from(values[0].clone())
        .map_err(|_| fail(format!("type {} doesn't define round", type_name(&values[0]))))?;
    let places = args.integer(1, "precision")?.unwrap_or(0);
    if places.unsigned_abs() > 300 {
        return Err(fail("round takes at most 300 places"));
    }
    let whole =
        values[0].is_integer() && matches!(args.string(2, "method")?.as_deref(), None | Some("common"));
    if whole && places >= 0 {
        return Ok(values[0].clone());
    }
    let scale = 10f64.powi(places as i32);
    Ok(Value::from(match args.string(2, "method")?.as_deref() {
        None | Some("common") if places >= 0 => {
            // Printing rounds the exact value, ties to even, as Python does.
            format!("{x:.*}", places as usize).parse().unwrap_or(x)
        }
        None | Some("common") if whole => {
            return Ok(Value::from(((x * scale).round_ties_even() / scale) as i64));
        }
        None | Some("common") => (x * scale).round_ties_even() / scale,
        Some("ceil") => (x * scale).ceil() / scale,
        Some("floor") => (x * scale).floor() / scale,
        Some(other) => return Err(fail(format!("round method must be common, ceil or floor, not {other}"))),
    }))
}
