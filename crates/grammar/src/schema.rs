//! JSON schemas, checked and rewritten to what is enforced.
//!
//! Only keywords that are enforced are left: annotations and keywords nobody defined go, as the
//! specification has it, and those that would be ignored though they mean something are refused with their
//! place. Each target of a reference becomes a definition of its own, so that recursion stays recursion and
//! no reference has to be resolved again.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::limits::Limits;

/// Keywords whose meaning is enforced by llguidance, with what their values must be.
const ENFORCED: &[(&str, Takes)] = &[
    ("type", Takes::Type),
    ("enum", Takes::Values),
    ("const", Takes::Value),
    ("allOf", Takes::Schemas),
    ("anyOf", Takes::Schemas),
    ("oneOf", Takes::Schemas),
    ("properties", Takes::Named),
    ("patternProperties", Takes::Patterns),
    ("additionalProperties", Takes::Schema),
    ("required", Takes::Names),
    ("minProperties", Takes::Count),
    ("maxProperties", Takes::Count),
    ("prefixItems", Takes::Schemas),
    ("items", Takes::Schema),
    ("minItems", Takes::Count),
    ("maxItems", Takes::Count),
    ("minLength", Takes::Count),
    ("maxLength", Takes::Count),
    ("pattern", Takes::Pattern),
    ("format", Takes::Format),
    ("minimum", Takes::Number),
    ("maximum", Takes::Number),
    ("exclusiveMinimum", Takes::Number),
    ("exclusiveMaximum", Takes::Number),
    ("multipleOf", Takes::Step),
];

/// Keywords that mean something which cannot be enforced token by token.
const REFUSED: &[&str] = &[
    "not",
    "if",
    "then",
    "else",
    "contains",
    "minContains",
    "maxContains",
    "uniqueItems",
    "propertyNames",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "unevaluatedItems",
    "unevaluatedProperties",
    "additionalItems",
    "$dynamicRef",
    "$recursiveRef",
];

/// What `$schema` may be: dialects whose keywords mean the same where they are enforced.
const DIALECTS: &[&str] = &[
    "https://json-schema.org/draft/2020-12/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "http://json-schema.org/draft-07/schema",
    "https://json-schema.org/draft-07/schema",
    "http://json-schema.org/draft-06/schema",
    "http://json-schema.org/draft-04/schema",
    "http://json-schema.org/schema",
];

/// Formats that are enforced. Others are annotations, as the specification has them by default.
const FORMATS: &[&str] =
    &["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];

/// Largest count of items, characters or properties.
const COUNT: u64 = 1 << 20;

/// Most properties of one object: each may follow on many others.
const PROPERTIES: usize = 1000;

/// Largest number whose neighbours a float tells apart: bounds beyond are not what they say.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// What a keyword's value must be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Type,
    Value,
    Values,
    Schema,
    Schemas,
    Named,
    Patterns,
    Names,
    Count,
    Number,
    Step,
    Pattern,
    Format,
}

/// The schema that llguidance compiles. With `flexible` whitespace between the words of the JSON is the
/// model's choice, within bounds.
///
/// # Errors
/// [`Error::Schema`] with the place of what cannot be enforced.
pub(crate) fn rewrite(schema: &Value, limits: &Limits) -> Result<Value, Error> {
    measure(schema, limits)?;
    let mut rewriting =
        Rewriting { root: schema, limits, schemas: 0, targets: HashMap::new(), definitions: Vec::new() };
    let mut path = String::new();
    let body = rewriting.schema(schema, &mut path, 0)?;
    let mut root = match body {
        Value::Object(fields) => fields,
        Value::Bool(true) => Map::new(),
        _ => return Err(fault("", "no JSON is valid by the schema `false`; allow something")),
    };
    if !rewriting.definitions.is_empty() {
        let definitions = rewriting.definitions.into_iter().enumerate();
        let definitions: Map<String, Value> = definitions.map(|(i, body)| (i.to_string(), body)).collect();
        root.insert("$defs".to_owned(), Value::Object(definitions));
    }
    Ok(Value::Object(root))
}

fn fault(path: &str, fault: impl Into<String>) -> Error {
    let mut path = path.to_owned();
    if path.len() > 300 {
        let end = (0..=300).rev().find(|&end| path.is_char_boundary(end)).unwrap_or(0);
        path.truncate(end);
        path.push('…');
    }
    Error::Schema { path, fault: fault.into() }
}

/// Bounds size and depth of the whole value, whatever its keys mean, without recursion.
fn measure(schema: &Value, limits: &Limits) -> Result<(), Error> {
    let mut bytes = 0;
    // Deeper than schemas: lists and values of enums come in between.
    let deepest = 3 * limits.depth;
    let mut stack = vec![(schema, 0)];
    while let Some((value, depth)) = stack.pop() {
        if depth > deepest {
            return Err(fault("", format!("it is nested more than {deepest} levels deep; make it flatter")));
        }
        bytes += 8;
        match value {
            Value::String(text) => bytes += text.len(),
            Value::Array(items) => stack.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(fields) => {
                for (key, item) in fields {
                    bytes += key.len();
                    stack.push((item, depth + 1));
                }
            }
            _ => {}
        }
        if bytes > limits.bytes {
            let most = limits.bytes;
            return Err(fault("", format!("it is larger than {most} bytes; make it smaller")));
        }
    }
    Ok(())
}

struct Rewriting<'a> {
    root: &'a Value,
    limits: &'a Limits,
    schemas: usize,
    /// Definitions by the reference that asked for them.
    targets: HashMap<String, usize>,
    definitions: Vec<Value>,
}

impl Rewriting<'_> {
    /// A schema at `path`; `depth` counts schemas around it and references followed to it.
    fn schema(&mut self, schema: &Value, path: &mut String, depth: usize) -> Result<Value, Error> {
        self.schemas += 1;
        let (most, deepest) = (self.limits.schemas, self.limits.depth);
        if self.schemas > most {
            return Err(fault(path, format!("there are more than {most} subschemas; use fewer")));
        }
        if depth > deepest {
            return Err(fault(
                path,
                format!("schemas and references are nested more than {deepest} deep; make it flatter"),
            ));
        }
        let fields = match schema {
            Value::Bool(all) => return Ok(Value::Bool(*all)),
            Value::Object(fields) => fields,
            _ => return Err(fault(path, "a schema must be an object or a boolean")),
        };
        if !path.is_empty() && fields.get("$id").is_some_and(Value::is_string) {
            return Err(fault(
                &format!("{path}/$id"),
                "schemas with an identity of their own inside another are not supported; use $defs",
            ));
        }
        let mut out = Map::new();
        for (key, value) in fields {
            let length = path.len();
            push(path, key);
            if key == "$schema" {
                let known = |uri: &str| DIALECTS.contains(&uri.trim_end_matches('#'));
                if !value.as_str().is_some_and(known) {
                    return Err(fault(path, "this dialect is not known; use JSON Schema 2020-12"));
                }
            } else if key == "$ref" {
                let index = self.reference(value, path, depth)?;
                out.insert(key.clone(), json!(format!("#/$defs/{index}")));
            } else if let Some((_, takes)) = ENFORCED.iter().find(|(name, _)| name == key) {
                if let Some(value) = self.keyword(*takes, key, value, path, depth)? {
                    out.insert(key.clone(), value);
                }
            } else if REFUSED.contains(&key.as_str()) && !(key == "uniqueItems" && value == &json!(false)) {
                return Err(fault(
                    path,
                    format!("`{key}` is not supported; leave it out and check the answer instead"),
                ));
            }
            path.truncate(length);
        }
        together(fields, path)?;
        Ok(Value::Object(out))
    }

    /// The value of an enforced keyword; `None` where it says nothing.
    fn keyword(
        &mut self,
        takes: Takes,
        key: &str,
        value: &Value,
        path: &mut String,
        depth: usize,
    ) -> Result<Option<Value>, Error> {
        let wrong = |path: &str, want: &str| fault(path, format!("`{key}` must be {want}"));
        let rewritten = match takes {
            Takes::Type => {
                let known = |name: &Value| {
                    let names = ["null", "boolean", "number", "integer", "string", "array", "object"];
                    name.as_str().is_some_and(|name| names.contains(&name))
                };
                let good = match value {
                    Value::Array(names) => !names.is_empty() && names.len() <= 7 && names.iter().all(known),
                    name => known(name),
                };
                if !good {
                    let want = "null, boolean, number, integer, string, array or object, or a list of these";
                    return Err(wrong(path, want));
                }
                value.clone()
            }
            Takes::Value => {
                self.literal(value, path)?;
                value.clone()
            }
            Takes::Values => {
                let values = value.as_array().filter(|values| !values.is_empty());
                for (i, value) in values.ok_or_else(|| wrong(path, "a list of values"))?.iter().enumerate() {
                    let length = path.len();
                    push(path, &i.to_string());
                    self.literal(value, path)?;
                    path.truncate(length);
                }
                if self.schemas > self.limits.schemas {
                    let most = self.limits.schemas;
                    return Err(fault(
                        path,
                        format!("there are more than {most} subschemas and values; use fewer"),
                    ));
                }
                value.clone()
            }
            Takes::Schema if key == "items" && value.is_array() => {
                return Err(fault(
                    path,
                    "a list of schemas in `items` is of older drafts; use `prefixItems`",
                ));
            }
            Takes::Schema => self.schema(value, path, depth + 1)?,
            Takes::Schemas => {
                let schemas = value.as_array().filter(|schemas| !schemas.is_empty());
                let mut out = Vec::new();
                for (i, schema) in schemas.ok_or_else(|| wrong(path, "a list of schemas"))?.iter().enumerate()
                {
                    let length = path.len();
                    push(path, &i.to_string());
                    out.push(self.schema(schema, path, depth + 1)?);
                    path.truncate(length);
                }
                Value::Array(out)
            }
            Takes::Named | Takes::Patterns => {
                let named = value.as_object().ok_or_else(|| wrong(path, "an object of schemas"))?;
                if named.len() > PROPERTIES {
                    return Err(fault(
                        path,
                        format!("one object has more than {PROPERTIES} properties; use fewer"),
                    ));
                }
                let mut out = Map::new();
                for (name, schema) in named {
                    let length = path.len();
                    push(path, name);
                    if takes == Takes::Patterns {
                        self.pattern(name, path)?;
                    }
                    out.insert(name.clone(), self.schema(schema, path, depth + 1)?);
                    path.truncate(length);
                }
                Value::Object(out)
            }
            Takes::Names => {
                let names = value.as_array().filter(|names| names.iter().all(Value::is_string));
                names.ok_or_else(|| wrong(path, "a list of names"))?;
                value.clone()
            }
            Takes::Count => {
                // 2.0 is an integer in JSON Schema.
                let whole = |number: &f64| *number >= 0.0 && number.fract() == 0.0;
                let number =
                    value.as_f64().filter(whole).ok_or_else(|| wrong(path, "an integer of at least 0"))?;
                if number > COUNT as f64 {
                    return Err(wrong(path, &format!("at most {COUNT}; leave it out if any number will do")));
                }
                json!(number as u64)
            }
            Takes::Number | Takes::Step => {
                let number = value.as_f64().ok_or_else(|| wrong(path, "a number"))?;
                if takes == Takes::Step && number <= 0.0 {
                    return Err(wrong(path, "above 0"));
                }
                exact(number, path)?;
                value.clone()
            }
            Takes::Pattern => {
                let pattern = value.as_str().ok_or_else(|| wrong(path, "a regular expression"))?;
                self.pattern(pattern, path)?;
                value.clone()
            }
            Takes::Format => {
                let format = value.as_str().ok_or_else(|| wrong(path, "a name"))?;
                return Ok(FORMATS.contains(&format).then(|| value.clone()));
            }
        };
        Ok(Some(rewritten))
    }

    fn pattern(&self, pattern: &str, path: &str) -> Result<(), Error> {
        crate::regex::check(pattern, self.limits).map_err(|reason| fault(path, reason))
    }

    /// A value to be written as it is.
    fn literal(&mut self, value: &Value, path: &str) -> Result<(), Error> {
        let mut stack = vec![value];
        while let Some(value) = stack.pop() {
            self.schemas += 1;
            match value {
                Value::Number(number) => exact(number.as_f64().unwrap_or(f64::INFINITY), path)?,
                Value::Array(items) => stack.extend(items),
                Value::Object(fields) => stack.extend(fields.values()),
                _ => {}
            }
        }
        Ok(())
    }

    /// The definition that a reference means.
    fn reference(&mut self, value: &Value, path: &str, depth: usize) -> Result<usize, Error> {
        let reference = value.as_str().ok_or_else(|| fault(path, "`$ref` must be a text"))?;
        if let Some(&index) = self.targets.get(reference) {
            return Ok(index);
        }
        let pointer = reference.strip_prefix('#').filter(|rest| rest.is_empty() || rest.starts_with('/'));
        let shown: String = reference.chars().take(60).collect();
        let pointer = pointer.ok_or_else(|| {
            fault(
                path,
                format!(
                    "`{shown}` is not within this schema; only references like #/$defs/name are followed"
                ),
            )
        })?;
        let pointer =
            unescape(pointer).ok_or_else(|| fault(path, format!("`{shown}` is no JSON pointer")))?;
        let target = self.root.pointer(&pointer);
        let target = target.ok_or_else(|| fault(path, format!("`{shown}` points to nothing")))?;
        if self.embedded(&pointer) {
            return Err(fault(path, format!("`{shown}` points into a schema with an identity of its own")));
        }
        let index = self.definitions.len();
        self.definitions.push(Value::Null);
        self.targets.insert(reference.to_owned(), index);
        let body = self.schema(target, &mut pointer.clone(), depth + 1)?;
        self.definitions[index] = body;
        Ok(index)
    }

    /// Whether a pointer goes through or to a schema with an `$id`, the root's aside.
    fn embedded(&self, pointer: &str) -> bool {
        let mut ends = pointer.match_indices('/').map(|(at, _)| at).skip(1).chain([pointer.len()]);
        let has = |end: usize| {
            self.root
                .pointer(&pointer[..end])
                .is_some_and(|value| value.get("$id").is_some_and(Value::is_string))
        };
        ends.any(|end| end > 0 && has(end))
    }
}

/// What keywords of one schema mean only together.
fn together(fields: &Map<String, Value>, path: &str) -> Result<(), Error> {
    let count = |key: &str| fields.get(key).and_then(Value::as_f64);
    let least = count("minProperties").unwrap_or(0.0);
    let names = fields.get("required").and_then(Value::as_array).map_or(0, Vec::len);
    // A name may come twice, so that properties nobody named cannot be counted by their number.
    if least > names as f64 + 1.0 {
        return Err(fault(
            &format!("{path}/minProperties"),
            "more properties are asked for than are required by name; list them in `required`",
        ));
    }
    Ok(())
}

/// Appends a key to a JSON pointer.
fn push(path: &mut String, key: &str) {
    path.push('/');
    path.push_str(&key.replace('~', "~0").replace('/', "~1"));
}

/// Undoes percent-encoding of a fragment.
fn unescape(fragment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut rest = fragment.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let hex = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

fn exact(number: f64, path: &str) -> Result<(), Error> {
    if number.abs() > EXACT {
        return Err(fault(path, "numbers beyond 2^53 are not exact; leave the bound out"));
    }
    Ok(())
}

/// Adds how JSON may be spaced: any whitespace, but not without end.
pub(crate) fn whitespace(mut schema: Value) -> Value {
    if let Some(fields) = schema.as_object_mut() {
        fields.insert("x-guidance".to_owned(), json!({ "whitespace_pattern": SPACES }));
    }
    schema
}

/// Enough for a line end and deep indentation; a model that wants more is lost in spaces.
const SPACES: &str = r"[\x20\x0A\x0D\x09]{1,40}";
