//! The tools of a request, as far as calls have to know them.

use serde_json::Value;

/// Tools by name.
#[derive(Debug, Default)]
pub(super) struct Tools {
    list: Vec<(String, Value)>,
}

impl Tools {
    /// Of an array of OpenAI's tool definitions; what is none is left out.
    pub(super) fn new(tools: &Value) -> Tools {
        let list = tools.as_array().into_iter().flatten().filter_map(|tool| {
            let function = tool.get("function").unwrap_or(tool);
            let name = function.get("name")?.as_str()?.to_owned();
            Some((name, function.get("parameters").cloned().unwrap_or(Value::Null)))
        });
        Tools { list: list.collect() }
    }

    /// Whether there is a tool of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.parameters(name).is_some()
    }

    /// All tools: names and the schemas of their parameters.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.list.iter().map(|(name, parameters)| (name.as_str(), parameters))
    }

    fn parameters(&self, name: &str) -> Option<&Value> {
        self.list.iter().find(|(known, _)| known == name).map(|(_, parameters)| parameters)
    }

    /// Whether a parameter is a text and nothing else.
    pub(super) fn is_text(&self, name: &str, key: &str) -> bool {
        let kind = self.parameters(name).and_then(|schema| schema.get("properties")?.get(key)?.get("type"));
        kind.and_then(Value::as_str) == Some("string")
    }
}
