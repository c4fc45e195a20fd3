//! Reading JSON that anybody may have written: every value is checked, every complaint names its path.

use crate::error::Refusal;
use serde_json::{Map, Value};
use std::ops::RangeInclusive;

type Result<T> = std::result::Result<T, Refusal>;

/// An object of a request and where it is. `null` is taken as absent.
pub(crate) struct Fields<'a> {
    map: &'a Map<String, Value>,
    /// Path of the object; empty for the request itself.
    path: String,
}

/// What a value is, for messages.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// A complaint that a value is of the wrong kind.
pub(crate) fn wrong(path: &str, value: &Value, want: &str) -> Refusal {
    let shown = match value {
        Value::Number(number) => {
            let text = number.to_string();
            if text.len() > 40 { "a very long number".to_owned() } else { text }
        }
        other => kind(other).to_owned(),
    };
    let name = if path.is_empty() { "the request's body" } else { path };
    let refusal = Refusal::field(path, format!("{name} is {shown}, but must be {want}"));
    if path.is_empty() {
        // There is no field to name.
        Refusal::new(refusal.status, "invalid_value", format!("{name} is {shown}, but must be {want}"))
    } else {
        refusal
    }
}

/// A whole number: also `1.0`, which JSON does not tell from `1`.
pub(crate) fn whole(value: &Value) -> Option<i128> {
    let number = value.as_number()?;
    if let Some(n) = number.as_i64() {
        return Some(i128::from(n));
    }
    if let Some(n) = number.as_u64() {
        return Some(i128::from(n));
    }
    let n = number.as_f64()?;
    (n.fract() == 0.0 && n.abs() < 1e30).then_some(n as i128)
}

impl<'a> Fields<'a> {
    /// The fields of a value that must be an object.
    pub(crate) fn of(value: &'a Value, path: impl Into<String>) -> Result<Fields<'a>> {
        let path = path.into();
        match value {
            Value::Object(map) => Ok(Fields { map, path }),
            other => Err(wrong(&path, other, "an object")),
        }
    }

    /// The path of a field.
    pub(crate) fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// All fields, `null` included.
    pub(crate) fn map(&self) -> &'a Map<String, Value> {
        self.map
    }

    /// A field that is there and not `null`.
    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// A field that must be there.
    pub(crate) fn need(&self, name: &str) -> Result<&'a Value> {
        self.get(name).ok_or_else(|| {
            let path = self.path(name);
            let message = format!("{path} is missing; it is required");
            Refusal::new(axum::http::StatusCode::BAD_REQUEST, "missing_required_parameter", message).at(path)
        })
    }

    pub(crate) fn bool(&self, name: &str) -> Result<Option<bool>> {
        self.get(name)
            .map(|value| value.as_bool().ok_or_else(|| wrong(&self.path(name), value, "true or false")))
            .transpose()
    }

    pub(crate) fn string(&self, name: &str) -> Result<Option<&'a str>> {
        self.get(name)
            .map(|value| value.as_str().ok_or_else(|| wrong(&self.path(name), value, "a string")))
            .transpose()
    }

    pub(crate) fn array(&self, name: &str) -> Result<Option<&'a Vec<Value>>> {
        self.get(name)
            .map(|value| value.as_array().ok_or_else(|| wrong(&self.path(name), value, "an array")))
            .transpose()
    }

    pub(crate) fn object(&self, name: &str) -> Result<Option<Fields<'a>>> {
        self.get(name).map(|value| Fields::of(value, self.path(name))).transpose()
    }

    /// A whole number within bounds.
    pub(crate) fn integer(&self, name: &str, range: RangeInclusive<i128>) -> Result<Option<i128>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = whole(value).filter(|n| range.contains(n));
        if number.is_some() {
            return Ok(number);
        }
        let want = if *range.end() >= i128::from(i64::MAX) {
            format!("a whole number from {} up", range.start())
        } else {
            format!("a whole number from {} to {}", range.start(), range.end())
        };
        Err(wrong(&self.path(name), value, &want))
    }

    /// A number within bounds.
    pub(crate) fn number(&self, name: &str, range: RangeInclusive<f64>) -> Result<Option<f32>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = value.as_f64().filter(|n| range.contains(n)).map(|n| n as f32);
        if number.is_some() {
            return Ok(number);
        }
        let want = format!("a number from {} to {}", range.start(), range.end());
        Err(wrong(&self.path(name), value, &want))
    }

    /// Refuses a field that asks for something; what asks for nothing passes.
    pub(crate) fn refuse(&self, name: &str, why: &str) -> Result<()> {
        let asks = self.get(name).is_some_and(|value| match value {
            Value::Bool(asked) => *asked,
            Value::Array(items) => !items.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
            Value::String(text) => !text.is_empty(),
            _ => true,
        });
        if asks {
            let path = self.path(name);
            return Err(Refusal::unsupported(path.clone(), format!("{path} is not supported: {why}")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Fields, whole};
    use serde_json::{Value, json};

    #[test]
    fn numbers_are_whole_within_bounds_or_refused_by_path() {
        let value = json!({"a": {"n": 3, "f": 2.0, "g": 2.5, "neg": -1, "big": 1e25, "s": "3", "z": null}});
        let outer = Fields::of(&value, "").expect("an object");
        let inner = outer.object("a").expect("an object").expect("it is there");
        assert_eq!(inner.integer("n", 0..=5).expect("fine"), Some(3));
        assert_eq!(inner.integer("f", 0..=5).expect("fine"), Some(2));
        assert_eq!(inner.integer("z", 0..=5).expect("absent"), None);
        for (name, said) in [
            ("g", "a.g is 2.5, but must be a whole number from 0 to 5"),
            ("neg", "a.neg is -1, but must be a whole number from 0 to 5"),
            ("big", "a.big is 1e+25, but must be a whole number from 0 to 5"),
            ("s", "a.s is a string, but must be a whole number from 0 to 5"),
        ] {
            let refusal = inner.integer(name, 0..=5).expect_err("it is not within").body();
            assert_eq!(refusal["error"]["message"], said);
            assert_eq!(refusal["error"]["param"], format!("a.{name}"));
        }
        assert_eq!(whole(&json!(u64::MAX)), Some(i128::from(u64::MAX)));
        assert_eq!(whole(&Value::Null), None);
    }
}
