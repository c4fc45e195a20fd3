//! The header of one shard: magic, version, keys, tensor directory.
//!
//! Layout: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. All numbers are little endian.
//!
//! ```text
//! "GGUF"  u32 version  u64 tensors  u64 keys
//! keys ×    string key  u32 type  value
//! tensors × string name  u32 dimensions  u64 × dimensions  u32 format  u64 offset
//! padding to the alignment, then the tensors' data; offsets count from here
//! ```
//! A string is a u64 length and bytes; an array is a u32 type, a u64 count and the elements.

use quant::Format;

use crate::cursor::{Cursor, Flaw, reserve};
use crate::error::{Error, shown};
use crate::limits;
use crate::magic;
use crate::source::Source;
use crate::value::{Array, StringList, Value, id};
use crate::{Keys, Tensor};

/// What one shard's header says.
pub(crate) struct Header {
    pub(crate) version: u32,
    pub(crate) keys: Keys,
    pub(crate) tensors: Vec<Tensor>,
}

/// Parses the header of `source`, shard number `shard` of its file, called `file` in errors.
pub(crate) fn header(source: &Source, file: &str, shard: u16) -> Result<Header, Error> {
    let version = magic::check(source, file)?;
    let mut parser = Parser { cursor: Cursor::new(source), file };
    // Magic and version, checked just now.
    parser.get("header", |c| c.array::<8>("the magic"))?;
    let tensors = parser.count("number of tensors", limits::TENSORS, TENSOR_BYTES)?;
    let keys = parser.count("number of keys", limits::KEYS, KEY_BYTES)?;
    let keys = parser.keys(keys)?;
    let alignment = alignment(&keys, file)?;
    let tensors = parser.tensors(tensors, shard, alignment, source.len())?;
    Ok(Header { version, keys, tensors })
}

/// Least bytes of a key: length, one letter, type, one byte of value.
const KEY_BYTES: u64 = 8 + 1 + 4 + 1;
/// Least bytes of a tensor: length, one letter, dimensions, one of them, format, offset.
const TENSOR_BYTES: u64 = 8 + 1 + 4 + 8 + 4 + 8;

fn alignment(keys: &Keys, file: &str) -> Result<u64, Error> {
    let key = "general.alignment";
    let problem = match keys.get(key) {
        None => return Ok(limits::ALIGNMENT),
        Some(Value::U32(alignment)) => match limits::alignment_problem(*alignment) {
            None => return Ok((*alignment).into()),
            Some(_) => "a power of two from 8 to 1048576",
        },
        Some(_) => "a u32",
    };
    Err(keys.wrong(file, key, problem))
}

struct Parser<'a> {
    cursor: Cursor<'a>,
    file: &'a str,
}

impl<'a> Parser<'a> {
    /// Runs `read` and names `place` in its error.
    fn get<T>(
        &mut self,
        place: &str,
        read: impl FnOnce(&mut Cursor<'a>) -> Result<T, Flaw>,
    ) -> Result<T, Error> {
        read(&mut self.cursor).map_err(|flaw| named(flaw, self.file, place))
    }

    fn bad(&self, at: u64, place: &str, problem: String) -> Error {
        named(Flaw::Bad { at, problem }, self.file, place)
    }

    /// A count of things that take at least `each` bytes.
    fn count(&mut self, place: &str, most: u64, each: u64) -> Result<u64, Error> {
        let at = self.cursor.at();
        let count = self.get(place, |c| c.u64("it"))?;
        self.get(place, |c| c.check_count(count, each, "a list"))?;
        if count > most {
            return Err(self.bad(at, place, format!("it is {count}; at most {most} are read")));
        }
        Ok(count)
    }

    /// A key or tensor name.
    fn name(&mut self, place: &str, longest: u64) -> Result<String, Error> {
        let at = self.cursor.at();
        let len = self.get(place, |c| c.peek_len("the length of its name"))?;
        if len > longest {
            let problem = format!("its name has {len} bytes; at most {longest} are allowed");
            return Err(self.bad(at, place, problem));
        }
        let bytes = self.get(place, |c| c.string("its name"))?;
        if let Some(problem) = limits::name_problem(&bytes, longest) {
            return Err(self.bad(at, &format!("{place} (\"{}\")", shown(&bytes)), problem));
        }
        Ok(String::from_utf8(bytes).expect("name_problem refuses what is not UTF-8"))
    }

    fn keys(&mut self, count: u64) -> Result<Keys, Error> {
        let mut keys = Keys::default();
        for number in 0..count {
            let at = self.cursor.at();
            let key = self.name(&format!("key {number}"), limits::KEY_BYTES)?;
            let value = match value(&mut self.cursor) {
                Ok(value) => value,
                Err(flaw) => return Err(named(flaw, self.file, &format!("key {}", shown(key.as_bytes())))),
            };
            if keys.get(&key).is_some() {
                let place = format!("key {}", shown(key.as_bytes()));
                return Err(self.bad(at, &place, "it was given before; keys must be unique".into()));
            }
            keys.set(key, value);
        }
        Ok(keys)
    }

    fn tensors(&mut self, count: u64, shard: u16, alignment: u64, len: u64) -> Result<Vec<Tensor>, Error> {
        let mut tensors = Vec::new();
        self.get("number of tensors", |c| reserve(&mut tensors, count as usize, c.at()))?;
        // Offsets count from the data's start, which is known only after the directory.
        let mut places = Vec::with_capacity(tensors.capacity());
        for number in 0..count {
            let at = self.cursor.at();
            tensors.push(self.tensor(number, shard, alignment)?);
            places.push(at);
        }
        let header_end = self.cursor.at();
        let data = header_end.next_multiple_of(alignment);
        for (tensor, &at) in tensors.iter_mut().zip(&places) {
            let fits = data.checked_add(tensor.offset).and_then(|start| {
                let end = start.checked_add(tensor.bytes)?;
                (end <= len).then_some(start)
            });
            match fits {
                Some(start) => tensor.offset = start,
                None => return Err(self.outside(tensor, at, data, len)),
            }
        }
        let mut order: Vec<usize> = (0..tensors.len()).collect();
        order.sort_unstable_by_key(|&i| tensors[i].offset);
        for pair in order.windows(2) {
            let (first, second) = (&tensors[pair[0]], &tensors[pair[1]]);
            if first.offset + first.bytes > second.offset {
                let problem = format!("its data overlaps that of tensor {}", shown(first.name.as_bytes()));
                return Err(self.bad(places[pair[1]], &tensor_place(&second.name), problem));
            }
        }
        Ok(tensors)
    }

    /// The error of a tensor whose data is not all in the file.
    fn outside(&self, tensor: &Tensor, at: u64, data: u64, len: u64) -> Error {
        let end = data as u128 + tensor.offset as u128 + tensor.bytes as u128;
        let problem = format!(
            "its data would end at byte {end} and the file has {len}; the file is cut short, get it again"
        );
        self.bad(at, &tensor_place(&tensor.name), problem)
    }

    /// One entry of the directory; its offset counts from the start of the data.
    fn tensor(&mut self, number: u64, shard: u16, alignment: u64) -> Result<Tensor, Error> {
        let name = self.name(&format!("tensor {number}"), limits::NAME_BYTES)?;
        let place = tensor_place(&name);
        let at = self.cursor.at();
        let dims = self.get(&place, |c| c.u32("its number of dimensions"))?;
        if dims == 0 || dims > limits::DIMS {
            let problem = format!("it has {dims} dimensions; 1 to {} are allowed", limits::DIMS);
            return Err(self.bad(at, &place, problem));
        }
        let mut shape = Vec::with_capacity(dims as usize);
        for _ in 0..dims {
            shape.push(self.get(&place, |c| c.u64("its shape"))?);
        }
        let format = self.get(&place, |c| c.u32("its format"))?;
        let format = Format::from_id(format).ok_or_else(|| Error::UnknownFormat {
            file: self.file.into(),
            tensor: shown(name.as_bytes()),
            format: format!("{format} ({})", Format::unknown_name(format)),
        })?;
        let bytes = limits::tensor_bytes(format, &shape).map_err(|problem| self.bad(at, &place, problem))?;
        let offset_at = self.cursor.at();
        let offset = self.get(&place, |c| c.u64("its offset"))?;
        if !offset.is_multiple_of(alignment) {
            let problem = format!("its offset {offset} is not a multiple of the alignment {alignment}");
            return Err(self.bad(offset_at, &place, problem));
        }
        Ok(Tensor { name, format, shape, bytes, shard, offset })
    }
}

fn tensor_place(name: &str) -> String {
    format!("tensor {}", shown(name.as_bytes()))
}

fn named(flaw: Flaw, file: &str, place: &str) -> Error {
    match flaw {
        Flaw::Bad { at, problem } => Error::Malformed { file: file.into(), at, place: place.into(), problem },
        Flaw::Io { at, source } => Error::Read { file: file.into(), at, source },
    }
}

fn bool_of(byte: u8, at: u64) -> Result<bool, Flaw> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Flaw::Bad { at, problem: format!("it holds {byte}; a bool is 0 or 1") }),
    }
}

/// A type and a value of that type.
fn value(c: &mut Cursor) -> Result<Value, Flaw> {
    let at = c.at();
    let what = "its value";
    Ok(match c.u32("its type")? {
        id::U8 => Value::U8(u8::from_le_bytes(c.array(what)?)),
        id::I8 => Value::I8(i8::from_le_bytes(c.array(what)?)),
        id::U16 => Value::U16(u16::from_le_bytes(c.array(what)?)),
        id::I16 => Value::I16(i16::from_le_bytes(c.array(what)?)),
        id::U32 => Value::U32(c.u32(what)?),
        id::I32 => Value::I32(i32::from_le_bytes(c.array(what)?)),
        id::F32 => Value::F32(f32::from_le_bytes(c.array(what)?)),
        id::BOOL => {
            let at = c.at();
            Value::Bool(bool_of(u8::from_le_bytes(c.array(what)?), at)?)
        }
        id::STRING => Value::Str(c.string("its string")?),
        id::ARRAY => Value::Array(array(c)?),
        id::U64 => Value::U64(c.u64(what)?),
        id::I64 => Value::I64(i64::from_le_bytes(c.array(what)?)),
        id::F64 => Value::F64(f64::from_le_bytes(c.array(what)?)),
        other => return Err(Flaw::Bad { at, problem: format!("its type {other} is unknown") }),
    })
}

fn array(c: &mut Cursor) -> Result<Array, Flaw> {
    let at = c.at();
    let of = c.u32("the type of its elements")?;
    let count = c.u64("the number of its elements")?;
    Ok(match of {
        id::U8 => Array::U8(c.bytes(count)?),
        id::I8 => Array::I8(c.elements(count, i8::from_le_bytes)?),
        id::U16 => Array::U16(c.elements(count, u16::from_le_bytes)?),
        id::I16 => Array::I16(c.elements(count, i16::from_le_bytes)?),
        id::U32 => Array::U32(c.elements(count, u32::from_le_bytes)?),
        id::I32 => Array::I32(c.elements(count, i32::from_le_bytes)?),
        id::F32 => Array::F32(c.elements(count, f32::from_le_bytes)?),
        id::BOOL => Array::Bool(bools(c, count)?),
        id::STRING => Array::Str(strings(c, count)?),
        id::ARRAY => {
            return Err(Flaw::Bad { at, problem: "it is an array of arrays, which is not read".into() });
        }
        id::U64 => Array::U64(c.elements(count, u64::from_le_bytes)?),
        id::I64 => Array::I64(c.elements(count, i64::from_le_bytes)?),
        id::F64 => Array::F64(c.elements(count, f64::from_le_bytes)?),
        other => {
            return Err(Flaw::Bad { at, problem: format!("the type {other} of its elements is unknown") });
        }
    })
}

fn bools(c: &mut Cursor, count: u64) -> Result<Vec<bool>, Flaw> {
    let first = c.at();
    let bytes = c.bytes(count)?;
    bytes.into_iter().zip(first..).map(|(byte, at)| bool_of(byte, at)).collect()
}

fn strings(c: &mut Cursor, count: u64) -> Result<StringList, Flaw> {
    c.check_count(count, 8, "the array of strings")?;
    let mut list = StringList::default();
    reserve(&mut list.ends, count as usize, c.at())?;
    for number in 0..count {
        c.string_into(&mut list.bytes, "a string").map_err(|flaw| match flaw {
            Flaw::Bad { at, problem } => Flaw::Bad { at, problem: format!("element {number}: {problem}") },
            io @ Flaw::Io { .. } => io,
        })?;
        list.ends.push(u32::try_from(list.bytes.len()).expect("a header is at most 256 MiB"));
    }
    list.bytes.shrink_to_fit();
    Ok(list)
}
