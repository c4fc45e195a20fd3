//! The keys of a file in file order, found by name.

use std::collections::HashMap;

use crate::error::Error;
use crate::value::Value;

#[derive(Clone, Debug, Default)]
pub(crate) struct Keys {
    entries: Vec<(String, Value)>,
    index: HashMap<Box<str>, u32>,
}

impl Keys {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.index.get(key).map(|&i| &self.entries[i as usize].1)
    }

    /// Adds a key at the end, or gives one already there a new value.
    pub(crate) fn set(&mut self, key: String, value: Value) {
        if let Some(&i) = self.index.get(key.as_str()) {
            self.entries[i as usize].1 = value;
        } else {
            let at = u32::try_from(self.entries.len()).expect("the number of keys is bounded");
            self.index.insert(key.as_str().into(), at);
            self.entries.push((key, value));
        }
    }

    pub(crate) fn remove(&mut self, key: &str) -> Option<Value> {
        let at = self.index.remove(key)?;
        for later in self.index.values_mut().filter(|later| **later > at) {
            *later -= 1;
        }
        Some(self.entries.remove(at as usize).1)
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The error of a key that is missing or whose value is not `wanted`.
    pub(crate) fn wrong(&self, file: &str, key: &str, wanted: &str) -> Error {
        match self.get(key) {
            None => Error::MissingKey { file: file.into(), key: key.into() },
            Some(value) => Error::WrongValue {
                file: file.into(),
                key: key.into(),
                found: value.described(),
                wanted: wanted.into(),
            },
        }
    }
}
