//! Operators. The compiler turns each into a call of one of these, because the engine's own neither
//! follow Python in every corner nor know the budget.

use std::cmp::Ordering;

use minijinja::formatting::{FormatStyle, format};
use minijinja::value::{Tuple, ValueKind};
use minijinja::{Error, State, Value};

use super::context::Context;
use super::filters;
use super::limits::VALUE_BYTES;
use super::python::{self, fail, is_list, type_name};

/// An operator: its operands arrive as arguments.
pub(super) type Builtin = fn(&Context, &mut State, &[Value]) -> Result<Value, Error>;

/// Operators by the names [`super::compile`] gives them; none is a name a template can write.
pub(super) const OPERATORS: &[(&str, Builtin)] = &[
    ("~", concat),
    ("+", |ctx, _, v| add(ctx, &v[0], &v[1])),
    ("-", |_, _, v| arithmetic("-", &v[0], &v[1])),
    ("*", |ctx, _, v| multiply(ctx, &v[0], &v[1])),
    ("/", |_, _, v| arithmetic("/", &v[0], &v[1])),
    ("//", |_, _, v| arithmetic("//", &v[0], &v[1])),
    ("%", |ctx, _, v| remainder(ctx, &v[0], &v[1])),
    ("**", |_, _, v| arithmetic("**", &v[0], &v[1])),
    ("-x", |_, _, v| negate(&v[0])),
    ("==", |ctx, _, v| Ok(Value::from(python::equal(ctx, &v[0], &v[1])?))),
    ("!=", |ctx, _, v| Ok(Value::from(!python::equal(ctx, &v[0], &v[1])?))),
    ("<", |ctx, _, v| order(ctx, v, Ordering::is_lt)),
    ("<=", |ctx, _, v| order(ctx, v, Ordering::is_le)),
    (">", |ctx, _, v| order(ctx, v, Ordering::is_gt)),
    (">=", |ctx, _, v| order(ctx, v, Ordering::is_ge)),
    ("in", |ctx, _, v| Ok(Value::from(contains(ctx, &v[1], &v[0])?))),
    ("[]", |ctx, _, v| subscript(ctx, &v[0], &v[1])),
    ("[:]", |ctx, _, v| slice(ctx, v)),
    ("{key}", |ctx, _, v| hashable(ctx, &v[0])),
    ("[...]", |ctx, _, v| nested(ctx, &v[0])),
    ("x.y=", |ctx, _, v| attribute(ctx, &v[0])),
    ("for-in", |ctx, _, v| iterate(ctx, &v[0])),
    ("a<b<c", |ctx, _, v| chain(ctx, v)),
];

fn concat(ctx: &Context, _: &mut State, values: &[Value]) -> Result<Value, Error> {
    let (left, right) = (python::text(ctx, &values[0])?, python::text(ctx, &values[1])?);
    ctx.budget.string(left.len() + right.len())?;
    Ok(Value::from(left + &right))
}

fn defined(value: &Value) -> Result<(), Error> {
    if value.is_undefined() { Err(fail("an undefined value cannot be used in an operation")) } else { Ok(()) }
}

fn add(ctx: &Context, a: &Value, b: &Value) -> Result<Value, Error> {
    if let (Some(left), Some(right)) = (a.as_str(), b.as_str()) {
        if a.is_safe() || b.is_safe() {
            // Text from the filter `safe` escapes what is added to it, even where nothing else escapes.
            let escape = |value: &Value, text: &str| {
                if value.is_safe() { Ok(text.to_owned()) } else { filters::escaped(ctx, text) }
            };
            let (left, right) = (escape(a, left)?, escape(b, right)?);
            ctx.budget.string(left.len() + right.len())?;
            return Ok(Value::from_safe_string(left + &right));
        }
        ctx.budget.string(left.len() + right.len())?;
        return Ok(Value::from([left, right].concat()));
    }
    if is_list(a) && is_list(b) && a.is_tuple() == b.is_tuple() {
        let mut items = python::items(ctx, a)?;
        items.extend(python::items(ctx, b)?);
        return Ok(if a.is_tuple() { Value::from(Tuple::from(items)) } else { Value::from(items) });
    }
    arithmetic("+", a, b)
}

/// A number as Python's operators see it.
enum Number {
    Integer(i128),
    Float(f64),
}

fn as_number(value: &Value) -> Option<Number> {
    match value.kind() {
        ValueKind::Bool => Some(Number::Integer(i128::from(value.is_true()))),
        ValueKind::Number if value.is_integer() => i128::try_from(value.clone()).ok().map(Number::Integer),
        ValueKind::Number => f64::try_from(value.clone()).ok().map(Number::Float),
        _ => None,
    }
}

fn integer_value(x: i128) -> Value {
    i64::try_from(x).map_or_else(|_| Value::from(x), Value::from)
}

fn arithmetic(op: &str, a: &Value, b: &Value) -> Result<Value, Error> {
    defined(a)?;
    defined(b)?;
    let (Some(x), Some(y)) = (as_number(a), as_number(b)) else {
        return Err(fail(format!(
            "unsupported operand types for {op}: '{}' and '{}'",
            type_name(a),
            type_name(b)
        )));
    };
    let overflow = || fail(format!("result of {op} is too large"));
    let zero = || fail("division by zero");
    if let (Number::Integer(x), Number::Integer(y)) = (&x, &y) {
        let (x, y) = (*x, *y);
        let result = match op {
            "+" => x.checked_add(y),
            "-" => x.checked_sub(y),
            "*" => x.checked_mul(y),
            "/" | "//" | "%" if y == 0 => return Err(zero()),
            "/" => return Ok(Value::from(x as f64 / y as f64)),
            // Floor, where Rust truncates.
            "//" => x.checked_div(y).map(|q| if x % y != 0 && (x < 0) != (y < 0) { q - 1 } else { q }),
            "%" => x.checked_rem(y).map(|r| if r != 0 && (r < 0) != (y < 0) { r + y } else { r }),
            "**" if y < 0 && x == 0 => return Err(zero()),
            "**" if y < 0 => return Ok(Value::from((x as f64).powf(y as f64))),
            _ => u32::try_from(y).ok().and_then(|y| x.checked_pow(y)),
        };
        return result.map(integer_value).ok_or_else(overflow);
    }
    let float = |n: Number| match n {
        Number::Integer(x) => x as f64,
        Number::Float(x) => x,
    };
    let (x, y) = (float(x), float(y));
    if y == 0.0 && matches!(op, "/" | "//" | "%") {
        return Err(zero());
    }
    Ok(Value::from(match op {
        "+" => x + y,
        "-" => x - y,
        "*" => x * y,
        "/" => x / y,
        "//" => (x / y).floor(),
        "%" => x - y * (x / y).floor(),
        _ => x.powf(y),
    }))
}

fn negate(value: &Value) -> Result<Value, Error> {
    match as_number(value) {
        Some(Number::Float(x)) => Ok(Value::from(-x)),
        _ => arithmetic("-", &Value::from(0), value),
    }
}

fn multiply(ctx: &Context, a: &Value, b: &Value) -> Result<Value, Error> {
    let (repeated, count) = if a.as_str().is_some() || is_list(a) { (a, b) } else { (b, a) };
    if let Some(text) = repeated.as_str() {
        let count = usize::try_from(python::integer(count)?).unwrap_or(0);
        ctx.budget.string(text.len().saturating_mul(count))?;
        return Ok(Value::from(text.repeat(count)));
    }
    if is_list(repeated) {
        let count = usize::try_from(python::integer(count)?).unwrap_or(0);
        let items = python::items(ctx, repeated)?;
        ctx.budget.values(items.len().saturating_mul(count))?;
        let items: Vec<Value> = std::iter::repeat_n(items, count).flatten().collect();
        return Ok(if repeated.is_tuple() { Value::from(Tuple::from(items)) } else { Value::from(items) });
    }
    arithmetic("*", a, b)
}

/// `%`: the remainder, or a format.
fn remainder(ctx: &Context, a: &Value, b: &Value) -> Result<Value, Error> {
    let Some(text) = a.as_str() else { return arithmetic("%", a, b) };
    let values = if b.is_tuple() { python::items(ctx, b)? } else { vec![b.clone()] };
    formatted(ctx, FormatStyle::Printf, text, &values)
}

/// `'..' % values` and `'..'.format(values)`.
pub(super) fn formatted(
    ctx: &Context,
    style: FormatStyle,
    text: &str,
    values: &[Value],
) -> Result<Value, Error> {
    // A width of a billion would be obeyed.
    let mut digits = 0;
    for c in text.chars() {
        digits = if c.is_ascii_digit() { digits + 1 } else { 0 };
        if digits > 3 || (c == '*' && matches!(style, FormatStyle::Printf)) {
            return Err(fail("a format's width must be written in at most three digits"));
        }
    }
    let mut length = text.len();
    let mut shown = Vec::with_capacity(values.len());
    for value in values {
        let plain = value.is_kwargs() || matches!(value.kind(), ValueKind::Number | ValueKind::Map);
        let value = if plain { value.clone() } else { Value::from(python::text(ctx, value)?) };
        length += value.as_str().map_or(VALUE_BYTES, str::len);
        shown.push(value);
    }
    // Each placeholder can at most repeat the longest argument.
    let placeholders = text.matches(['{', '%']).count();
    ctx.budget.string(length.saturating_mul(placeholders.max(1)))?;
    format(style, text, &shown).map(Value::from)
}

fn order(ctx: &Context, values: &[Value], holds: fn(Ordering) -> bool) -> Result<Value, Error> {
    defined(&values[0])?;
    defined(&values[1])?;
    Ok(Value::from(holds(python::compare(ctx, &values[0], &values[1])?)))
}

/// `a < b < c`: operands with the operators between them.
fn chain(ctx: &Context, values: &[Value]) -> Result<Value, Error> {
    for triple in values.windows(3).step_by(2) {
        let (a, op, b) = (&triple[0], triple[1].as_str().unwrap_or_default(), &triple[2]);
        let holds = match op {
            "==" => python::equal(ctx, a, b)?,
            "!=" => !python::equal(ctx, a, b)?,
            "in" => contains(ctx, b, a)?,
            "not in" => !contains(ctx, b, a)?,
            _ => {
                let order = python::compare(ctx, a, b)?;
                match op {
                    "<" => order.is_lt(),
                    "<=" => order.is_le(),
                    ">" => order.is_gt(),
                    _ => order.is_ge(),
                }
            }
        };
        if !holds {
            return Ok(Value::from(false));
        }
    }
    Ok(Value::from(true))
}

/// `item in container`.
pub(super) fn contains(ctx: &Context, container: &Value, item: &Value) -> Result<bool, Error> {
    match container.kind() {
        ValueKind::Undefined => Ok(false),
        ValueKind::String => {
            let text = container.as_str().unwrap_or_default();
            let needle = item.as_str().ok_or_else(|| {
                fail(format!("'in <string>' requires string as left operand, not {}", type_name(item)))
            })?;
            ctx.budget.spend(text.len())?;
            Ok(text.contains(ctx.marks.needle(text, needle).as_ref()))
        }
        ValueKind::Map => {
            let key = hashable(ctx, item)?;
            Ok(container.as_object().is_some_and(|map| map.get_value(&key).is_some()))
        }
        ValueKind::Seq | ValueKind::Iterable => {
            for candidate in container.try_iter()?.checked() {
                if python::equal(ctx, &candidate?, item)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        _ => Err(fail(format!("argument of type '{}' is not iterable", type_name(container)))),
    }
}

/// A dict key. Containers are no keys in Python, and hashing them here could take for ever.
pub(super) fn hashable(ctx: &Context, value: &Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => {
            Err(fail(format!("unhashable type: '{}'", type_name(value))))
        }
        ValueKind::String => {
            ctx.budget.spend(value.as_str().map_or(0, str::len))?;
            Ok(value.clone())
        }
        _ => Ok(value.clone()),
    }
}

/// `value[key]`: an index, a key or, failing those, an attribute.
pub(super) fn subscript(ctx: &Context, value: &Value, key: &Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::Undefined => Err(fail("an undefined value has no items")),
        ValueKind::String | ValueKind::Seq | ValueKind::Iterable => {
            let Ok(index) = python::integer(key) else { return Ok(Value::UNDEFINED) };
            let length = python::len(value)?;
            ctx.budget.spend(length)?;
            let at = if index < 0 { index + length as i64 } else { index };
            let Ok(at) = usize::try_from(at) else { return Ok(Value::UNDEFINED) };
            Ok(match value.as_str() {
                Some(text) => text.chars().nth(at).map_or(Value::UNDEFINED, Value::from),
                None => value.get_item_by_index(at).unwrap_or(Value::UNDEFINED),
            })
        }
        ValueKind::Map => value.get_item(&hashable(ctx, key)?),
        _ => match key.as_str() {
            Some(name) => Ok(value.get_attr(name).unwrap_or(Value::UNDEFINED)),
            None => Ok(Value::UNDEFINED),
        },
    }
}

/// `value[start:stop:step]`.
fn slice(ctx: &Context, values: &[Value]) -> Result<Value, Error> {
    let value = &values[0];
    let bound = |at: usize| values.get(at).filter(|bound| !bound.is_none()).map(python::integer).transpose();
    let (start, stop, step) = (bound(1)?, bound(2)?, bound(3)?.unwrap_or(1));
    if step == 0 {
        return Err(fail("slice step cannot be zero"));
    }
    if !is_list(value) && value.as_str().is_none() {
        return Err(fail(format!("'{}' object cannot be sliced", type_name(value))));
    }
    let items = python::items(ctx, value)?;
    let length = items.len() as i64;
    let clamp = |bound: Option<i64>, default: i64, low: i64, high: i64| {
        bound.map_or(default, |b| if b < 0 { b.saturating_add(length) } else { b }.clamp(low, high))
    };
    let mut picked = Vec::new();
    if step > 0 {
        let (mut at, stop) = (clamp(start, 0, 0, length), clamp(stop, length, 0, length));
        while at < stop {
            picked.push(items[at as usize].clone());
            at = at.saturating_add(step);
        }
    } else {
        let (mut at, stop) = (clamp(start, length - 1, -1, length - 1), clamp(stop, -1, -1, length - 1));
        while at > stop {
            picked.push(items[at as usize].clone());
            at = at.saturating_add(step);
        }
    }
    if value.as_str().is_some() {
        return Ok(Value::from(picked.iter().filter_map(Value::as_str).collect::<String>()));
    }
    Ok(if value.is_tuple() { Value::from(Tuple::from(picked)) } else { Value::from(picked) })
}

/// A list, tuple or dict just written in the template.
pub(super) fn nested(ctx: &Context, value: &Value) -> Result<Value, Error> {
    python::check_element(ctx, value, 0)?;
    Ok(value.clone())
}

/// A value about to become an attribute of a namespace.
fn attribute(ctx: &Context, value: &Value) -> Result<Value, Error> {
    if python::is_namespace(value) {
        return Err(fail("a namespace cannot be stored in another value; store its attributes"));
    }
    ctx.budget.values(1)?;
    Ok(value.clone())
}

/// What a `for` loop walks over. The engine walks lists itself.
fn iterate(ctx: &Context, value: &Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Undefined => Ok(value.clone()),
        _ => Ok(Value::from(python::items(ctx, value)?)),
    }
}
