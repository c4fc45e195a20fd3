//! Filters that pick, order and regroup the items of a list.

use std::cmp::Ordering;

use minijinja::value::{Tuple, ValueKind};
use minijinja::{Error, State, Value};

use super::context::Context;
use super::filters::FILTERS;
use super::ops;
use super::python::{self, Args, fail};

/// `attribute="a.b.0"`: keys and indices joined by dots.
pub(super) fn path(ctx: &Context, value: &Value, path: &Value) -> Result<Value, Error> {
    let Some(text) = path.as_str() else { return ops::subscript(ctx, value, path) };
    let mut value = value.clone();
    for part in text.split('.') {
        let key = part.parse::<i64>().map_or_else(|_| Value::from(part), Value::from);
        value = ops::subscript(ctx, &value, &key)?;
    }
    Ok(value)
}

/// The items these filters work on: nothing false has any, not even `none`.
fn items(ctx: &Context, value: &Value) -> Result<Vec<Value>, Error> {
    if value.is_true() { python::items(ctx, value) } else { Ok(Vec::new()) }
}

/// Text without regard to case, as Jinja sorts and compares unless told otherwise.
fn folded(value: Value, case_sensitive: bool) -> Value {
    match value.as_str() {
        Some(text) if !case_sensitive => Value::from(text.to_lowercase()),
        _ => value,
    }
}

/// The value an item is ordered or grouped by.
fn key_of(ctx: &Context, item: &Value, attribute: Option<&Value>, sensitive: bool) -> Result<Value, Error> {
    let value = match attribute {
        Some(attribute) => path(ctx, item, attribute)?,
        None => item.clone(),
    };
    ctx.budget.spend(value.as_str().map_or(1, str::len))?;
    Ok(folded(value, sensitive))
}

pub(super) fn map(ctx: &Context, state: &mut State, values: &[Value]) -> Result<Value, Error> {
    let args = Args::new(values);
    let items = items(ctx, &values[0])?;
    let attribute = args.named("attribute");
    let mut out = Vec::with_capacity(items.len());
    for item in items {
        out.push(match (&attribute, args.positional.get(1)) {
            (Some(attribute), _) => {
                let found = path(ctx, &item, attribute)?;
                if found.is_undefined() { args.named("default").unwrap_or(found) } else { found }
            }
            (None, Some(filter)) => {
                let name = filter.as_str().ok_or_else(|| fail("map needs the name of a filter"))?;
                // Operators are filters to the engine, but not to templates: they count on their operands.
                if !FILTERS.iter().any(|(known, _)| *known == name) {
                    return Err(fail(format!("filter {name} is unknown")));
                }
                let mut call = vec![item];
                call.extend_from_slice(values.get(2..).unwrap_or_default());
                state.apply_filter(name, &call)?
            }
            (None, None) => return Err(fail("map needs a filter or attribute=")),
        });
    }
    Ok(Value::from(out))
}

/// `select`, `reject`, `selectattr`, `rejectattr`.
pub(super) fn select(
    ctx: &Context,
    state: &mut State,
    values: &[Value],
    by_attribute: bool,
    keep: bool,
) -> Result<Value, Error> {
    let args = Args::new(values);
    let items = items(ctx, &values[0])?;
    let attribute = if by_attribute { Some(args.required(1, "attribute")?) } else { None };
    let at = if by_attribute { 2 } else { 1 };
    let test = args.string(at, "test")?;
    let mut out = Vec::new();
    for item in items {
        let tested = match &attribute {
            Some(attribute) => path(ctx, &item, attribute)?,
            None => item.clone(),
        };
        let passed = match &test {
            Some(test) => {
                let mut call = vec![tested];
                call.extend_from_slice(values.get(at + 1..).unwrap_or_default());
                state.perform_test(test, &call)?
            }
            None => tested.is_true(),
        };
        if passed == keep {
            out.push(item);
        }
    }
    Ok(Value::from(out))
}

/// Sorts by keys computed once; a comparison that Python refuses ends in its error.
fn sorted(
    ctx: &Context,
    mut keyed: Vec<(Value, Value)>,
    reverse: bool,
) -> Result<Vec<(Value, Value)>, Error> {
    let mut failed = None;
    keyed.sort_by(|a, b| {
        if failed.is_some() {
            return Ordering::Equal;
        }
        match python::compare(ctx, &a.0, &b.0) {
            Ok(order) if reverse => order.reverse(),
            Ok(order) => order,
            Err(err) => {
                failed = Some(err);
                Ordering::Equal
            }
        }
    });
    failed.map_or(Ok(keyed), Err)
}

fn keyed(
    ctx: &Context,
    value: &Value,
    attribute: Option<&Value>,
    sensitive: bool,
) -> Result<Vec<(Value, Value)>, Error> {
    python::items(ctx, value)?
        .into_iter()
        .map(|item| Ok((key_of(ctx, &item, attribute, sensitive)?, item)))
        .collect()
}

fn seconds(pairs: Vec<(Value, Value)>) -> Value {
    Value::from(pairs.into_iter().map(|(_, item)| item).collect::<Vec<_>>())
}

pub(super) fn sort(ctx: &Context, _: &mut State, values: &[Value]) -> Result<Value, Error> {
    let args = Args::new(values);
    let attribute = args.get(3, "attribute").filter(|attribute| !attribute.is_none());
    let keyed = keyed(ctx, &values[0], attribute.as_ref(), args.flag(2, "case_sensitive", false))?;
    Ok(seconds(sorted(ctx, keyed, args.flag(1, "reverse", false))?))
}

pub(super) fn dictsort(ctx: &Context, _: &mut State, values: &[Value]) -> Result<Value, Error> {
    let args = Args::new(values);
    let by_value = args.string(2, "by")?.as_deref() == Some("value");
    let sensitive = args.flag(1, "case_sensitive", false);
    if values[0].kind() != ValueKind::Map {
        return Err(fail(format!("'{}' object has no items to sort", python::type_name(&values[0]))));
    }
    let pairs = python::pairs(&values[0])?;
    ctx.budget.values(3 * pairs.len())?;
    let keyed = pairs
        .into_iter()
        .map(|(key, item)| {
            let by = folded(if by_value { item.clone() } else { key.clone() }, sensitive);
            (by, Value::from(Tuple::from([key, item])))
        })
        .collect();
    Ok(seconds(sorted(ctx, keyed, args.flag(3, "reverse", false))?))
}

pub(super) fn unique(ctx: &Context, _: &mut State, values: &[Value]) -> Result<Value, Error> {
    let args = Args::new(values);
    let attribute = args.get(2, "attribute").filter(|attribute| !attribute.is_none());
    let mut seen: Vec<Value> = Vec::new();
    let mut out = Vec::new();
    for (key, item) in keyed(ctx, &values[0], attribute.as_ref(), args.flag(1, "case_sensitive", false))? {
        let mut new = true;
        for other in &seen {
            if python::equal(ctx, other, &key)? {
                new = false;
                break;
            }
        }
        if new {
            seen.push(key);
            out.push(item);
        }
    }
    Ok(Value::from(out))
}

pub(super) fn groupby(ctx: &Context, _: &mut State, values: &[Value]) -> Result<Value, Error> {
    let args = Args::new(values);
    let attribute = args.required(1, "attribute")?;
    let default = args.get(2, "default");
    let sensitive = args.flag(3, "case_sensitive", false);
    let mut keyed = Vec::new();
    for item in python::items(ctx, &values[0])? {
        let mut key = path(ctx, &item, &attribute)?;
        if let (true, Some(default)) = (key.is_undefined(), &default) {
            key = default.clone();
        }
        keyed.push((folded(key, sensitive), item));
    }
    let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
    for (key, item) in sorted(ctx, keyed, false)? {
        match groups.last_mut() {
            Some((last, group)) if python::equal(ctx, last, &key)? => group.push(item),
            _ => groups.push((key, vec![item])),
        }
    }
    let groups: Vec<Value> =
        groups.into_iter().map(|(key, group)| Value::from(Tuple::from([key, Value::from(group)]))).collect();
    ops::nested(ctx, &Value::from(groups))
}

fn extreme(ctx: &Context, values: &[Value], wanted: Ordering) -> Result<Value, Error> {
    let args = Args::new(values);
    let attribute = args.get(2, "attribute").filter(|attribute| !attribute.is_none());
    let mut best: Option<(Value, Value)> = None;
    for (key, item) in keyed(ctx, &values[0], attribute.as_ref(), args.flag(1, "case_sensitive", false))? {
        let better = match &best {
            Some((other, _)) => python::compare(ctx, &key, other)? == wanted,
            None => true,
        };
        if better {
            best = Some((key, item));
        }
    }
    Ok(best.map_or(Value::UNDEFINED, |(_, item)| item))
}

pub(super) fn min(ctx: &Context, _: &mut State, values: &[Value]) -> Result<Value, Error> {
    extreme(ctx, values, Ordering::Less)
}

pub(super) fn max(ctx: &Context, _: &mut State, values: &[Value]) -> Result<Value, Error> {
    extreme(ctx, values, Ordering::Greater)
}

pub(super) fn sum(ctx: &Context, state: &mut State, values: &[Value]) -> Result<Value, Error> {
    let args = Args::new(values);
    let attribute = args.get(1, "attribute").filter(|attribute| !attribute.is_none());
    let mut total = args.get(2, "start").unwrap_or_else(|| Value::from(0));
    for item in python::items(ctx, &values[0])? {
        let item = match &attribute {
            Some(attribute) => path(ctx, &item, attribute)?,
            None => item,
        };
        total = state.apply_filter("+", &[total, item])?;
    }
    Ok(total)
}

pub(super) fn first(ctx: &Context, _: &mut State, values: &[Value]) -> Result<Value, Error> {
    Ok(python::items(ctx, &values[0])?.into_iter().next().unwrap_or(Value::UNDEFINED))
}

pub(super) fn last(ctx: &Context, _: &mut State, values: &[Value]) -> Result<Value, Error> {
    Ok(python::items(ctx, &values[0])?.pop().unwrap_or(Value::UNDEFINED))
}

/// `batch(n)`: rows of `n` items, the last filled up.
pub(super) fn batch(ctx: &Context, _: &mut State, values: &[Value]) -> Result<Value, Error> {
    let args = Args::new(values);
    let width = count(&args, "linecount")?;
    let fill = args.get(2, "fill_with").filter(|fill| !fill.is_none());
    let items = python::items(ctx, &values[0])?;
    let mut rows: Vec<Vec<Value>> = items.chunks(width).map(<[Value]>::to_vec).collect();
    if let (Some(fill), Some(row)) = (fill, rows.last_mut()) {
        ctx.budget.values(width)?;
        row.resize(width, fill);
    }
    ops::nested(ctx, &Value::from(rows.into_iter().map(Value::from).collect::<Vec<_>>()))
}

/// `slice(n)`: `n` columns of nearly equal length.
pub(super) fn slice(ctx: &Context, _: &mut State, values: &[Value]) -> Result<Value, Error> {
    let args = Args::new(values);
    let columns = count(&args, "slices")?;
    ctx.budget.values(columns)?;
    let fill = args.get(2, "fill_with").filter(|fill| !fill.is_none());
    let items = python::items(ctx, &values[0])?;
    let (each, longer) = (items.len() / columns, items.len() % columns);
    let mut rest = items.as_slice();
    let mut out = Vec::with_capacity(columns);
    for column in 0..columns {
        let (part, after) = rest.split_at(each + usize::from(column < longer));
        rest = after;
        let mut part = part.to_vec();
        if let (Some(fill), true) = (&fill, column >= longer) {
            part.push(fill.clone());
        }
        out.push(Value::from(part));
    }
    ops::nested(ctx, &Value::from(out))
}

/// A count of rows or columns.
fn count(args: &Args, name: &str) -> Result<usize, Error> {
    let count = args.integer(1, name)?.unwrap_or(0);
    usize::try_from(count).ok().filter(|&n| n > 0).ok_or_else(|| fail(format!("{name} must be at least 1")))
}
