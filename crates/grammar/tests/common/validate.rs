//! A small validator of JSON Schema 2020-12: the keywords that rules enforce, straight from their
//! definitions. `suite.rs` holds it to the official tests.

use serde_json::Value;

/// Whether `value` is valid by `schema`, whose references are resolved in `root`.
pub fn valid(root: &Value, schema: &Value, value: &Value) -> bool {
    let fields = match schema {
        Value::Bool(all) => return *all,
        Value::Object(fields) => fields,
        other => panic!("{other} is no schema"),
    };
    fields.iter().all(|(key, wants)| keyword(root, schema, key, wants, value))
}

fn keyword(root: &Value, schema: &Value, key: &str, wants: &Value, value: &Value) -> bool {
    let list = || wants.as_array().expect("a list");
    let count = || wants.as_f64().expect("a number");
    let number = value.as_f64();
    let length = value.as_str().map(|text| text.chars().count() as f64);
    let items = value.as_array();
    let object = value.as_object();
    match key {
        "$ref" => {
            let pointer = wants.as_str().expect("a text").strip_prefix('#').expect("a local reference");
            let pointer = pointer.replace("%22", "\"").replace("%25", "%");
            valid(root, root.pointer(&pointer).expect("it points to something"), value)
        }
        "type" => match wants {
            Value::Array(names) => names.iter().any(|name| is(name, value)),
            name => is(name, value),
        },
        "const" => same(wants, value),
        "enum" => list().iter().any(|one| same(one, value)),
        "allOf" => list().iter().all(|schema| valid(root, schema, value)),
        "anyOf" => list().iter().any(|schema| valid(root, schema, value)),
        "oneOf" => list().iter().filter(|schema| valid(root, schema, value)).count() == 1,
        "minimum" => number.is_none_or(|number| number >= count()),
        "maximum" => number.is_none_or(|number| number <= count()),
        "exclusiveMinimum" => number.is_none_or(|number| number > count()),
        "exclusiveMaximum" => number.is_none_or(|number| number < count()),
        "multipleOf" => number.is_none_or(|number| {
            let times = number / count();
            times.is_finite() && (times - times.round()).abs() < 1e-9 * times.abs().max(1.0)
        }),
        "minLength" => length.is_none_or(|length| length >= count()),
        "maxLength" => length.is_none_or(|length| length <= count()),
        "pattern" => value.as_str().is_none_or(|text| matches(wants.as_str().expect("a pattern"), text)),
        "minItems" => items.is_none_or(|items| items.len() as f64 >= count()),
        "maxItems" => items.is_none_or(|items| items.len() as f64 <= count()),
        "prefixItems" => {
            items.is_none_or(|items| items.iter().zip(list()).all(|(item, schema)| valid(root, schema, item)))
        }
        "items" => items.is_none_or(|items| {
            let first = schema.get("prefixItems").and_then(Value::as_array).map_or(0, Vec::len);
            items.iter().skip(first).all(|item| valid(root, wants, item))
        }),
        "minProperties" => object.is_none_or(|object| object.len() as f64 >= count()),
        "maxProperties" => object.is_none_or(|object| object.len() as f64 <= count()),
        "required" => object.is_none_or(|object| {
            list().iter().all(|name| object.contains_key(name.as_str().expect("a name")))
        }),
        "properties" => object.is_none_or(|object| {
            object.iter().all(|(name, value)| wants.get(name).is_none_or(|schema| valid(root, schema, value)))
        }),
        "patternProperties" => object.is_none_or(|object| {
            let patterns = wants.as_object().expect("an object");
            object.iter().all(|(name, value)| {
                patterns.iter().all(|(pattern, schema)| !matches(pattern, name) || valid(root, schema, value))
            })
        }),
        "additionalProperties" => object.is_none_or(|object| {
            let named = |name: &str| {
                schema.get("properties").is_some_and(|properties| properties.get(name).is_some())
            };
            let patterned = |name: &str| {
                let patterns = schema.get("patternProperties").and_then(Value::as_object);
                patterns.is_some_and(|patterns| patterns.keys().any(|pattern| matches(pattern, name)))
            };
            object.iter().all(|(name, value)| named(name) || patterned(name) || valid(root, wants, value))
        }),
        _ => true,
    }
}

fn is(name: &Value, value: &Value) -> bool {
    match name.as_str().expect("a name") {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other} is no type"),
    }
}

/// Equality of JSON Schema: 1 and 1.0 are the same, the order of keys is none.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    // ECMAScript's classes are of ASCII.
    let pattern = pattern.replace(r"\d", "[0-9]").replace(r"\w", "[0-9A-Za-z_]");
    regex::Regex::new(&pattern).expect("a pattern both know").is_match(text)
}
