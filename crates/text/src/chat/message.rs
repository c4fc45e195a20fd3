//! A message of a conversation: an object of the OpenAI chat format, whatever its keys.

use serde_json::{Map, Value};

/// One message. Templates see its JSON object as it is, so keys this crate has never heard of work.
#[derive(Debug, Clone, PartialEq)]
pub struct Message(Map<String, Value>);

impl Message {
    /// A message of `role` with text for `content`.
    pub fn new(role: &str, content: impl Into<String>) -> Self {
        let mut fields = Map::new();
        fields.insert("role".into(), role.into());
        fields.insert("content".into(), Value::String(content.into()));
        Self(fields)
    }

    /// What the model is told to be.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new("system", content)
    }

    /// What the user says.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new("user", content)
    }

    /// What the model said.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new("assistant", content)
    }

    /// What a tool answered to the call `call_id`.
    pub fn tool(call_id: &str, content: impl Into<String>) -> Self {
        Self::new("tool", content).with("tool_call_id", call_id)
    }

    /// The message with `key` set to `value`: `tool_calls`, `name`, `reasoning_content`, …
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.insert(key.into(), value.into());
        self
    }

    /// The role, if it is text.
    pub fn role(&self) -> Option<&str> {
        self.0.get("role")?.as_str()
    }

    /// The content, if it is text.
    pub fn content(&self) -> Option<&str> {
        self.0.get("content")?.as_str()
    }

    /// All fields.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The fields a template sees: reasoning under every name that templates read it by.
    pub(super) fn for_template(&self) -> Map<String, Value> {
        let names = ["reasoning_content", "thinking", "reasoning"];
        let mut fields = self.0.clone();
        if let Some(reasoning) = names.iter().find_map(|name| self.0.get(*name).filter(|v| !v.is_null())) {
            fields.insert("reasoning_content".into(), reasoning.clone());
            fields.entry("thinking").or_insert_with(|| reasoning.clone());
        }
        fields
    }
}

impl From<Map<String, Value>> for Message {
    fn from(fields: Map<String, Value>) -> Self {
        Self(fields)
    }
}
