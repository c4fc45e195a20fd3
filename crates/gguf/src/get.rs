//! Typed getters. An absent key is `None` for the `opt_` ones and an error for the others; a value
//! of another type is an error for both, naming file, key, type and value.

use std::borrow::Cow;

use crate::Gguf;
use crate::error::Error;
use crate::value::{Array, Strings, Value};

impl Gguf {
    /// The error for a key that is absent, or present with a value that is not `wanted` ("a u32 of at
    /// least 1"): names file, key, type and value. For checks that only the caller can make.
    pub fn wrong(&self, key: &str, wanted: &str) -> Error {
        self.keys.wrong(&self.name, key, wanted)
    }

    fn required<T>(&self, key: &str, found: Option<T>) -> Result<T, Error> {
        found.ok_or_else(|| self.wrong(key, "a value"))
    }

    /// `None` when the key is absent, an error when `read` finds nothing that it wants.
    fn optional<'a, T>(
        &'a self,
        key: &str,
        wanted: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| self.wrong(key, wanted)),
        }
    }

    /// A string that is UTF-8.
    pub fn str(&self, key: &str) -> Result<&str, Error> {
        self.required(key, self.opt_str(key)?)
    }

    /// A string that is UTF-8, if the key is there.
    pub fn opt_str(&self, key: &str) -> Result<Option<&str>, Error> {
        self.optional(key, "a string in UTF-8", Value::as_str)
    }

    /// An integer of any type that fits.
    pub fn u32(&self, key: &str) -> Result<u32, Error> {
        self.required(key, self.opt_u32(key)?)
    }

    /// An integer of any type that fits, if the key is there.
    pub fn opt_u32(&self, key: &str) -> Result<Option<u32>, Error> {
        self.optional(key, "an integer from 0 to 4294967295", |v: &Value| v.as_integer()?.try_into().ok())
    }

    /// An integer of any type that fits.
    pub fn u64(&self, key: &str) -> Result<u64, Error> {
        self.required(key, self.opt_u64(key)?)
    }

    /// An integer of any type that fits, if the key is there.
    pub fn opt_u64(&self, key: &str) -> Result<Option<u64>, Error> {
        self.optional(key, "an integer of at least 0", |v: &Value| v.as_integer()?.try_into().ok())
    }

    /// A float, NaN and infinities included.
    pub fn f32(&self, key: &str) -> Result<f32, Error> {
        self.required(key, self.opt_f32(key)?)
    }

    /// A float, NaN and infinities included, if the key is there.
    pub fn opt_f32(&self, key: &str) -> Result<Option<f32>, Error> {
        self.optional(key, "a float", float)
    }

    /// A float that is neither NaN nor infinite.
    pub fn finite_f32(&self, key: &str) -> Result<f32, Error> {
        self.required(key, self.opt_finite_f32(key)?)
    }

    /// A float that is neither NaN nor infinite, if the key is there.
    pub fn opt_finite_f32(&self, key: &str) -> Result<Option<f32>, Error> {
        self.optional(key, "a finite float", |v: &Value| float(v).filter(|f| f.is_finite()))
    }

    /// A bool.
    pub fn bool(&self, key: &str) -> Result<bool, Error> {
        self.required(key, self.opt_bool(key)?)
    }

    /// A bool, if the key is there.
    pub fn opt_bool(&self, key: &str) -> Result<Option<bool>, Error> {
        self.optional(key, "a bool", |v: &Value| if let Value::Bool(b) = v { Some(*b) } else { None })
    }

    /// An array of byte strings.
    pub fn strings(&self, key: &str) -> Result<Strings<'_>, Error> {
        self.required(key, self.opt_strings(key)?)
    }

    /// An array of byte strings, if the key is there.
    pub fn opt_strings(&self, key: &str) -> Result<Option<Strings<'_>>, Error> {
        self.optional(key, "an array of strings", |v| match v {
            Value::Array(Array::Str(list)) => Some(list.view()),
            _ => None,
        })
    }

    /// An array of floats.
    pub fn f32s(&self, key: &str) -> Result<Cow<'_, [f32]>, Error> {
        self.required(key, self.opt_f32s(key)?)
    }

    /// An array of floats, if the key is there.
    pub fn opt_f32s(&self, key: &str) -> Result<Option<Cow<'_, [f32]>>, Error> {
        self.optional(key, "an array of floats", |v| match v {
            Value::Array(Array::F32(list)) => Some(Cow::Borrowed(list.as_slice())),
            Value::Array(Array::F64(list)) => Some(list.iter().map(|&f| f as f32).collect()),
            _ => None,
        })
    }

    /// An array of integers of any type that all fit.
    pub fn i32s(&self, key: &str) -> Result<Cow<'_, [i32]>, Error> {
        self.required(key, self.opt_i32s(key)?)
    }

    /// An array of integers of any type that all fit, if the key is there.
    pub fn opt_i32s(&self, key: &str) -> Result<Option<Cow<'_, [i32]>>, Error> {
        let wanted = "an array of integers from -2147483648 to 2147483647";
        self.optional(key, wanted, |v| match v {
            Value::Array(Array::I32(list)) => Some(Cow::Borrowed(list.as_slice())),
            Value::Array(list) => integers(list).map(Cow::Owned),
            _ => None,
        })
    }

    /// An array of integers of any type that all fit.
    pub fn u32s(&self, key: &str) -> Result<Cow<'_, [u32]>, Error> {
        self.required(key, self.opt_u32s(key)?)
    }

    /// An array of integers of any type that all fit, if the key is there.
    pub fn opt_u32s(&self, key: &str) -> Result<Option<Cow<'_, [u32]>>, Error> {
        self.optional(key, "an array of integers from 0 to 4294967295", |v| match v {
            Value::Array(Array::U32(list)) => Some(Cow::Borrowed(list.as_slice())),
            Value::Array(list) => integers(list).map(Cow::Owned),
            _ => None,
        })
    }

    /// An array of bools.
    pub fn bools(&self, key: &str) -> Result<&[bool], Error> {
        self.required(key, self.opt_bools(key)?)
    }

    /// An array of bools, if the key is there.
    pub fn opt_bools(&self, key: &str) -> Result<Option<&[bool]>, Error> {
        self.optional(key, "an array of bools", |v| match v {
            Value::Array(Array::Bool(list)) => Some(list.as_slice()),
            _ => None,
        })
    }
}

fn float(value: &Value) -> Option<f32> {
    match *value {
        Value::F32(f) => Some(f),
        Value::F64(f) => Some(f as f32),
        _ => None,
    }
}

/// The elements as `T`, unless one does not fit or they are no integers.
fn integers<T: TryFrom<i128>>(array: &Array) -> Option<Vec<T>> {
    fn fit<T: TryFrom<i128>, I: Copy + Into<i128>>(list: &[I]) -> Option<Vec<T>> {
        list.iter().map(|&v| T::try_from(v.into()).ok()).collect()
    }
    match array {
        Array::U8(list) => fit(list),
        Array::I8(list) => fit(list),
        Array::U16(list) => fit(list),
        Array::I16(list) => fit(list),
        Array::U32(list) => fit(list),
        Array::I32(list) => fit(list),
        Array::U64(list) => fit(list),
        Array::I64(list) => fit(list),
        Array::F32(_) | Array::F64(_) | Array::Bool(_) | Array::Str(_) => None,
    }
}
