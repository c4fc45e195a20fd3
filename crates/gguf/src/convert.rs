//! Rust values into key values, for the writer: `writer.set("llama.block_count", 22u32)`.

use crate::value::{Array, StringList, Value};

macro_rules! from {
    ($($from:ty => $variant:ident),*) => {
        $(impl From<$from> for Value {
            fn from(value: $from) -> Value {
                Value::$variant(value.into())
            }
        })*
    };
}

macro_rules! from_list {
    ($($from:ty => $variant:ident),*) => {
        $(impl From<Vec<$from>> for Value {
            fn from(values: Vec<$from>) -> Value {
                Value::Array(Array::$variant(values))
            }
        })*
    };
}

from!(u8 => U8, i8 => I8, u16 => U16, i16 => I16, u32 => U32, i32 => I32, f32 => F32, bool => Bool,
      u64 => U64, i64 => I64, f64 => F64, &str => Str, String => Str, Array => Array);
from_list!(u8 => U8, i8 => I8, u16 => U16, i16 => I16, u32 => U32, i32 => I32, f32 => F32, bool => Bool,
           u64 => U64, i64 => I64, f64 => F64);

impl From<StringList> for Value {
    fn from(strings: StringList) -> Value {
        Value::Array(Array::Str(strings))
    }
}
