//! Text that must follow rules: `response_format`, and what other servers call `grammar` and `regex`.

use crate::error::Refusal;
use crate::fields::{Fields, wrong};
use crate::model::Model;
use engine::Rules;
use grammar::{Error, Source};
use serde_json::Value;

/// Reads what rules a request has, and compiles them.
pub(crate) fn rules(fields: &Fields, model: &Model) -> Result<Option<Rules>, Refusal> {
    let mut asked: Vec<(String, Source)> = vec![];
    if let Some(format) = fields.object("response_format")? {
        format.need("type")?;
        let path = format.path("type");
        match format.string("type")?.unwrap_or_default() {
            "text" => {}
            "json_object" => match format.get("schema") {
                // As other servers have it.
                Some(schema) => asked.push((format.path("schema"), Source::Schema(schema.clone()))),
                None => asked.push((path, Source::Object)),
            },
            "json_schema" => {
                format.need("json_schema")?;
                if let Some(described) = format.object("json_schema")? {
                    described.need("name")?;
                    described.string("name")?;
                    described.bool("strict")?;
                    let source =
                        described.get("schema").map_or(Source::Object, |s| Source::Schema(s.clone()));
                    asked.push((described.path("schema"), source));
                }
            }
            other => {
                let shown: String = other.chars().take(40).collect();
                let message = format!(
                    "{path} is \"{}\", but must be text, json_object or json_schema",
                    shown.escape_debug()
                );
                return Err(Refusal::field(path, message));
            }
        }
    }
    if let Some(schema) = fields.get("json_schema") {
        asked.push(("json_schema".to_owned(), Source::Schema(schema.clone())));
    }
    if let Some(text) = fields.string("grammar")?.filter(|text| !text.is_empty()) {
        asked.push(("grammar".to_owned(), Source::Gbnf(text.to_owned())));
    }
    for name in ["regex", "guided_regex"] {
        if let Some(text) = fields.string(name)? {
            asked.push((name.to_owned(), Source::Regex(text.to_owned())));
        }
    }
    if let Some(list) = fields.array("guided_choice")? {
        let text = |(i, value): (usize, &Value)| match value.as_str() {
            Some(text) => Ok(text.to_owned()),
            None => Err(wrong(&format!("guided_choice[{i}]"), value, "a string")),
        };
        let choices = list.iter().enumerate().map(text).collect::<Result<_, _>>()?;
        asked.push(("guided_choice".to_owned(), Source::Choice(choices)));
    }
    let Some((path, source)) = asked.pop() else { return Ok(None) };
    if let Some((other, _)) = asked.pop() {
        let message = format!("{other} and {path} cannot both be followed; give one of them");
        return Err(Refusal::field(path, message));
    }
    let Some(grammars) = model.grammars() else {
        let message = format!("{path} is not supported by this model: its vocabulary cannot follow rules");
        return Err(Refusal::unsupported(path, message));
    };
    match grammars.compile(&source) {
        Ok(rules) => Ok(Some(rules)),
        Err(error) => {
            let message = error.to_string();
            let at = match &error {
                Error::Schema { path: within, .. } => format!("{path}{}", within.replace('/', ".")),
                _ => path,
            };
            Err(Refusal::field(at, message))
        }
    }
}
