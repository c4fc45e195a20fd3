//! What a model is made to write where a call is asked for, and what it is told of tools.

use serde_json::{Map, Value, json};

use super::format::{Body, Format, control};
use super::shape::Shape;
use super::tools::Tools;
use crate::Tokenizer;

/// Which call is asked for: `tool_choice`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Any tool, at least one.
    Required,
    /// This tool.
    Named(String),
}

/// Why a call cannot be asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is nothing to choose from.
    #[error("tools has no function to call; add one or leave tool_choice out")]
    NoTools,
    /// The tool is not among the tools.
    #[error("tool_choice names {name}, which is not one of tools; add it or name another")]
    Unknown {
        /// Its name.
        name: String,
    },
    /// A tool's name that cannot be written in the model's format.
    #[error(
        "the tool's name {name} has characters that no call can be written with; use letters, digits, _ and -"
    )]
    Name {
        /// Its name, control characters escaped.
        name: String,
    },
}

impl Format {
    /// The shape of an answer that calls a tool, in the model's own format. `parallel`: several calls may
    /// come. `thinking`: the prompt ends within reasoning, which comes first then.
    ///
    /// # Errors
    /// What is wrong with the tools or the choice. The schemas of parameters are for who enforces the shape
    /// to check.
    pub fn forced(
        &self,
        tokenizer: &Tokenizer,
        tools: &Value,
        choice: &Choice,
        parallel: bool,
        thinking: bool,
    ) -> Result<Shape, Error> {
        let tools = Tools::new(tools);
        let mut chosen: Vec<(&str, &Value)> = tools.iter().collect();
        if let Choice::Named(name) = choice {
            chosen.retain(|(known, _)| known == name);
            if chosen.is_empty() {
                return Err(Error::Unknown { name: shown(name) });
            }
        }
        if chosen.is_empty() {
            return Err(Error::NoTools);
        }
        for (name, _) in &chosen {
            let bad = |c: char| c.is_control() || c.is_whitespace() || "<>{}[]\"\\".contains(c);
            if name.is_empty() || name.len() > 256 || name.contains(bad) {
                return Err(Error::Name { name: shown(name) });
            }
        }
        let most = (!parallel).then_some(1);
        let call = self.calls_shape(tokenizer, &chosen, most);
        let Some(marks) = self.thinking.filter(|_| thinking) else { return Ok(call) };
        let reasoning = match control(tokenizer, marks.close) {
            Some(id) => Shape::UntilToken(id),
            None => Shape::Until(marks.close.to_owned()),
        };
        Ok(Shape::Sequence(vec![reasoning, Shape::Text("\n\n".to_owned()), call]))
    }

    fn calls_shape(&self, tokenizer: &Tokenizer, tools: &[(&str, &Value)], most: Option<usize>) -> Shape {
        let calls = self.calls;
        let mark = |mark: &str| match control(tokenizer, mark) {
            Some(id) => Shape::Token(id),
            None => Shape::Text(mark.to_owned()),
        };
        let text = |text: &str| Shape::Text(text.to_owned());
        let (before, after) = calls.around;
        let objects = || Shape::Json(self.object(tools, ""));
        let repeat =
            |of: Shape, between: &str| Shape::Repeat { of: of.into(), between: text(between).into(), most };
        match calls.body {
            Body::Object if calls.bare => repeat(objects(), "; "),
            Body::Object => {
                let one = vec![mark(calls.opens[0]), text(before), objects(), text(after), mark(calls.close)];
                repeat(Shape::Sequence(one), "\n")
            }
            Body::List => {
                let mut list =
                    json!({ "type": "array", "items": self.object(tools, "/items"), "minItems": 1 });
                if let Some(most) = most {
                    list["maxItems"] = most.into();
                }
                let mut parts = vec![mark(calls.opens[0]), Shape::Json(list)];
                if !calls.close.is_empty() {
                    parts.push(mark(calls.close));
                }
                Shape::Sequence(parts)
            }
            Body::Named(between) => {
                let one = tools.iter().map(|(name, parameters)| {
                    let mut parts =
                        vec![text(name), mark(between), Shape::Json(object_schema(parameters, ""))];
                    if !calls.close.is_empty() {
                        parts.push(mark(calls.close));
                    }
                    Shape::Sequence(parts)
                });
                let one = Shape::Sequence(vec![mark(calls.opens[0]), Shape::OneOf(one.collect())]);
                repeat(one, "")
            }
            Body::Tagged => {
                let one = tools.iter().map(|(name, parameters)| tagged(name, parameters));
                let one = vec![
                    mark(calls.opens[0]),
                    text(before),
                    Shape::OneOf(one.collect()),
                    text(after),
                    mark(calls.close),
                ];
                repeat(Shape::Sequence(one), "\n")
            }
        }
    }

    /// The schema of a call's object, to be put at `place`: each name with its own parameters.
    fn object(&self, tools: &[(&str, &Value)], place: &str) -> Value {
        let (name_field, arguments_field) = self.calls.fields;
        let mut options: Vec<Value> = tools
            .iter()
            .enumerate()
            .map(|(i, (name, parameters))| {
                let option = if tools.len() == 1 { String::new() } else { format!("/anyOf/{i}") };
                let place = format!("{place}{option}/properties/{arguments_field}");
                let mut properties = Map::new();
                properties.insert(name_field.to_owned(), json!({ "const": name }));
                properties.insert(arguments_field.to_owned(), object_schema(parameters, &place));
                json!({
                    "type": "object",
                    "properties": properties,
                    "required": [name_field, arguments_field],
                    "additionalProperties": false,
                })
            })
            .collect();
        if options.len() == 1 { options.remove(0) } else { json!({ "anyOf": options }) }
    }

    /// What to tell the model of `tools`, in the system message, where its template says nothing of them.
    pub fn instructions(&self, tools: &Value) -> String {
        let mut list = String::new();
        for tool in tools.as_array().into_iter().flatten() {
            list.push_str(&tool.get("function").unwrap_or(tool).to_string());
            list.push('\n');
        }
        format!(
            "You can call these functions:\n{list}To call one, write only\n<tool_call>\n{{\"name\": \"…\", \"arguments\": {{…}}}}\n</tool_call>\nand wait for its result."
        )
    }
}

/// The schema of a tool's arguments, to be put at `place`: always an object.
fn object_schema(parameters: &Value, place: &str) -> Value {
    match parameters {
        Value::Object(fields) if !fields.is_empty() => {
            let mut schema = parameters.clone();
            move_references(&mut schema, place, 0);
            if let Some(object) = schema.as_object_mut()
                && !fields.contains_key("type")
            {
                object.insert("type".to_owned(), "object".into());
            }
            schema
        }
        _ => json!({ "type": "object", "additionalProperties": false }),
    }
}

/// Lets references within a schema mean the same when the schema is put at `place` of another.
fn move_references(schema: &mut Value, place: &str, depth: usize) {
    // Deeper schemas are refused by whoever enforces them.
    if place.is_empty() || depth > 200 {
        return;
    }
    match schema {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(reference) if key == "$ref" && reference.starts_with('#') => {
                        reference.insert_str(1, place);
                    }
                    value => move_references(value, place, depth + 1),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| move_references(item, place, depth + 1)),
        _ => {}
    }
}

/// A call as tags: parameters in order, optional ones may be left out.
fn tagged(name: &str, parameters: &Value) -> Shape {
    let mut parts = vec![Shape::Text(format!("<function={name}>\n"))];
    let required = |key: &str| {
        let names = parameters.get("required").and_then(Value::as_array);
        names.is_some_and(|names| names.iter().any(|name| name == key))
    };
    let properties = parameters.get("properties").and_then(Value::as_object);
    for (key, schema) in properties.into_iter().flatten() {
        let plain =
            schema.get("type").and_then(Value::as_str) == Some("string") && schema.get("enum").is_none();
        let open = Shape::Text(format!("<parameter={key}>\n"));
        let close = "\n</parameter>\n";
        let parameter = match schema.get("enum").and_then(Value::as_array) {
            Some(values) if values.iter().all(Value::is_string) => {
                let values =
                    values.iter().filter_map(Value::as_str).map(|value| Shape::Text(value.to_owned()));
                vec![open, Shape::OneOf(values.collect()), Shape::Text(close.to_owned())]
            }
            _ if plain => vec![open, Shape::Until(close.to_owned())],
            _ => vec![open, Shape::Json(within(parameters, key)), Shape::Text(close.to_owned())],
        };
        let parameter = Shape::Sequence(parameter);
        parts.push(if required(key) { parameter } else { Shape::Optional(parameter.into()) });
    }
    parts.push(Shape::Text("</function>".to_owned()));
    Shape::Sequence(parts)
}

/// The schema of one parameter, which may refer to others.
fn within(parameters: &Value, key: &str) -> Value {
    let mut all = parameters.clone();
    move_references(&mut all, "/$defs/all", 0);
    let key = key.replace('~', "~0").replace('/', "~1");
    json!({ "$ref": format!("#/$defs/all/properties/{key}"), "$defs": { "all": all } })
}

/// A name for a message.
fn shown(name: &str) -> String {
    name.chars().take(80).flat_map(char::escape_debug).collect()
}
