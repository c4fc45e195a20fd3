//! Jinja's tests, the words after `is`.

use std::cmp::Ordering;

use minijinja::value::ValueKind;
use minijinja::{Error, State, Value};

use super::context::Context;
use super::ops;
use super::python::{self, fail};

/// A test of a value, with its arguments behind it.
pub(super) type Predicate = fn(&Context, &mut State, &[Value]) -> Result<bool, Error>;

/// Tests by name.
pub(super) const TESTS: &[(&str, Predicate)] = &[
    ("defined", |_, _, v| Ok(!v[0].is_undefined())),
    ("undefined", |_, _, v| Ok(v[0].is_undefined())),
    ("none", |_, _, v| Ok(v[0].is_none())),
    ("boolean", |_, _, v| Ok(v[0].kind() == ValueKind::Bool)),
    ("true", |_, _, v| Ok(v[0].kind() == ValueKind::Bool && v[0].is_true())),
    ("false", |_, _, v| Ok(v[0].kind() == ValueKind::Bool && !v[0].is_true())),
    ("string", |_, _, v| Ok(v[0].as_str().is_some())),
    ("number", |_, _, v| Ok(matches!(v[0].kind(), ValueKind::Number | ValueKind::Bool))),
    ("integer", |_, _, v| Ok(v[0].is_integer())),
    ("float", |_, _, v| Ok(v[0].kind() == ValueKind::Number && !v[0].is_integer())),
    ("mapping", |_, _, v| Ok(v[0].kind() == ValueKind::Map && !python::is_namespace(&v[0]))),
    ("sequence", |_, _, v| Ok(has_items(&v[0]))),
    ("iterable", |_, _, v| Ok(has_items(&v[0]))),
    ("callable", |_, _, v| Ok(v[0].kind() == ValueKind::Plain)),
    ("sameas", same),
    ("escaped", |_, _, _| Ok(false)),
    ("even", |_, _, v| Ok(python::integer(&v[0])? % 2 == 0)),
    ("odd", |_, _, v| Ok(python::integer(&v[0])? % 2 != 0)),
    ("divisibleby", |_, _, v| {
        let (value, by) = (python::integer(&v[0])?, python::integer(second(v)?)?);
        value.checked_rem(by).map(|rest| rest == 0).ok_or_else(|| fail("division by zero"))
    }),
    ("lower", |ctx, _, v| Ok(cased(&python::text(ctx, &v[0])?, char::is_lowercase, char::is_uppercase))),
    ("upper", |ctx, _, v| Ok(cased(&python::text(ctx, &v[0])?, char::is_uppercase, char::is_lowercase))),
    ("in", |ctx, _, v| ops::contains(ctx, second(v)?, &v[0])),
    ("eq", equal),
    ("equalto", equal),
    ("==", equal),
    ("ne", |ctx, state, v| Ok(!equal(ctx, state, v)?)),
    ("!=", |ctx, state, v| Ok(!equal(ctx, state, v)?)),
    ("lt", |ctx, _, v| ordered(ctx, v, Ordering::is_lt)),
    ("lessthan", |ctx, _, v| ordered(ctx, v, Ordering::is_lt)),
    ("<", |ctx, _, v| ordered(ctx, v, Ordering::is_lt)),
    ("le", |ctx, _, v| ordered(ctx, v, Ordering::is_le)),
    ("<=", |ctx, _, v| ordered(ctx, v, Ordering::is_le)),
    ("gt", |ctx, _, v| ordered(ctx, v, Ordering::is_gt)),
    ("greaterthan", |ctx, _, v| ordered(ctx, v, Ordering::is_gt)),
    (">", |ctx, _, v| ordered(ctx, v, Ordering::is_gt)),
    ("ge", |ctx, _, v| ordered(ctx, v, Ordering::is_ge)),
    (">=", |ctx, _, v| ordered(ctx, v, Ordering::is_ge)),
    ("filter", |_, _, v| Ok(known(&v[0], super::filters::FILTERS.iter().map(|f| f.0)))),
    ("test", |_, _, v| Ok(known(&v[0], TESTS.iter().map(|t| t.0)))),
];

/// Lists, dicts and strings have; Jinja's undefined value is an empty list in this respect.
fn has_items(value: &Value) -> bool {
    match value.kind() {
        ValueKind::Map => !python::is_namespace(value),
        kind => {
            matches!(kind, ValueKind::String | ValueKind::Seq | ValueKind::Iterable | ValueKind::Undefined)
        }
    }
}

fn second(values: &[Value]) -> Result<&Value, Error> {
    values.get(1).ok_or_else(|| fail("the test needs an argument"))
}

fn equal(ctx: &Context, _: &mut State, values: &[Value]) -> Result<bool, Error> {
    python::equal(ctx, &values[0], second(values)?)
}

/// Identity, of which only that of constants is visible here.
fn same(ctx: &Context, _: &mut State, values: &[Value]) -> Result<bool, Error> {
    let other = second(values)?;
    Ok(values[0].kind() == other.kind() && python::equal(ctx, &values[0], other)?)
}

fn ordered(ctx: &Context, values: &[Value], holds: fn(Ordering) -> bool) -> Result<bool, Error> {
    Ok(holds(python::compare(ctx, &values[0], second(values)?)?))
}

fn cased(text: &str, is: fn(char) -> bool, is_not: fn(char) -> bool) -> bool {
    text.chars().any(is) && !text.chars().any(is_not)
}

fn known<'a>(name: &Value, mut names: impl Iterator<Item = &'a str>) -> bool {
    name.as_str().is_some_and(|name| names.any(|known| known == name))
}
