//! The names a template finds: filters, tests, functions, methods.

use std::sync::Arc;

use minijinja::value::{Kwargs, Rest, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, State, Value};

use super::context::Context;
use super::filters::FILTERS;
use super::ops::{self, Builtin, OPERATORS};
use super::predicates::TESTS;
use super::python::{self, Args, fail};
use super::{methods, time};

/// Most values of one `range`.
const RANGE: i128 = 100_000;
/// Nesting of macro calls and loops the engine allows, in its own units (a macro call counts four).
const RECURSION: usize = 200;

/// A template's own refusal, by `raise_exception`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Raised(pub(super) String);

fn plain(args: Rest<ValueOrKwargs>) -> Vec<Value> {
    args.0.into_iter().map(ValueOrKwargs::into_value).collect()
}

/// An environment for one rendering.
pub(super) fn environment<'a>(ctx: &Arc<Context>) -> Environment<'a> {
    let mut env = Environment::empty();
    env.set_fuel(Some(ctx.budget.steps));
    env.set_recursion_limit(RECURSION);
    for &(name, function) in OPERATORS.iter().chain(FILTERS) {
        let ctx = Arc::clone(ctx);
        env.add_filter(name, move |state: &mut State, args: Rest<ValueOrKwargs>| {
            function(&ctx, state, &plain(args))
        });
    }
    for &(name, test) in TESTS {
        let ctx = Arc::clone(ctx);
        env.add_test(name, move |state: &mut State, args: Rest<ValueOrKwargs>| {
            test(&ctx, state, &plain(args))
        });
    }
    for &(name, function) in FUNCTIONS {
        if name == "strftime_now" && ctx.now.is_none() {
            continue;
        }
        let ctx = Arc::clone(ctx);
        env.add_function(name, move |state: &mut State, args: Rest<ValueOrKwargs>| {
            function(&ctx, state, &plain(args))
        });
    }
    let methods = Arc::clone(ctx);
    env.set_unknown_method_callback(move |_, value, name, args| methods::call(&methods, value, name, args));
    let formatter = Arc::clone(ctx);
    env.set_formatter(move |out, _, value| {
        let text = python::text(&formatter, value)?;
        formatter.budget.spend(text.len())?;
        out.write_str(&text).map_err(Error::from)
    });
    env
}

/// Global functions; `strftime_now` exists only where the caller gave the time.
const FUNCTIONS: &[(&str, Builtin)] = &[
    ("raise_exception", |ctx, _, v| {
        let message = v.first().map_or(Ok(String::new()), |message| python::text(ctx, message))?;
        Err(fail("the template refused").with_source(Raised(message)))
    }),
    ("strftime_now", |ctx, _, v| {
        let format = Args::new(v).string(0, "format")?.ok_or_else(|| fail("strftime_now needs a format"))?;
        time::strftime(&format, ctx.now.unwrap_or_default()).map(Value::from)
    }),
    ("range", range),
    ("dict", dict),
    ("namespace", namespace),
];

fn range(ctx: &Context, _: &mut State, values: &[Value]) -> Result<Value, Error> {
    let numbers = values.iter().map(|v| python::integer(v).map(i128::from)).collect::<Result<Vec<_>, _>>()?;
    let (start, stop, step) = match numbers.as_slice() {
        [stop] => (0, *stop, 1),
        [start, stop] => (*start, *stop, 1),
        [start, stop, step] => (*start, *stop, *step),
        _ => return Err(fail("range takes one to three integers")),
    };
    if step == 0 {
        return Err(fail("range() arg 3 must not be zero"));
    }
    let span = if step > 0 { stop - start } else { start - stop };
    let count = if span <= 0 { 0 } else { (span - 1) / step.abs() + 1 };
    if count > RANGE {
        return Err(super::limits::exceeded("asks for a range of more than 100000 numbers"));
    }
    ctx.budget.values(count as usize)?;
    Ok(Value::from((0..count).map(|n| Value::from((start + n * step) as i64)).collect::<Vec<_>>()))
}

/// The entries of a mapping given as argument, then those given by name.
fn entries(ctx: &Context, values: &[Value]) -> Result<Vec<(Value, Value)>, Error> {
    let mut entries = Vec::new();
    for value in values {
        match value.kind() {
            ValueKind::Map => entries.extend(python::pairs(value)?),
            ValueKind::Seq => {
                for pair in python::items(ctx, value)? {
                    match python::items(ctx, &pair)?.as_slice() {
                        [key, item] => entries.push((ops::hashable(ctx, key)?, item.clone())),
                        _ => return Err(fail("dict() needs pairs")),
                    }
                }
            }
            _ => return Err(fail(format!("cannot make a dict of '{}'", python::type_name(value)))),
        }
    }
    Ok(entries)
}

fn dict(ctx: &Context, _: &mut State, values: &[Value]) -> Result<Value, Error> {
    ops::nested(ctx, &Value::from_pairs(entries(ctx, values)?))
}

fn namespace(ctx: &Context, _: &mut State, values: &[Value]) -> Result<Value, Error> {
    let entries = entries(ctx, values)?;
    for (name, value) in &entries {
        if name.as_str().is_some_and(|name| name.starts_with('_')) {
            return Err(fail(format!("attribute {name} of a namespace starts with an underscore")));
        }
        python::check_element(ctx, value, 1)?;
    }
    let named: Kwargs =
        entries.iter().filter_map(|(name, value)| Some((name.as_str()?, value.clone()))).collect();
    minijinja::functions::namespace(Some(ValueOrKwargs::from(Value::from(named))))
}
