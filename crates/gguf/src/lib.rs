//! The GGUF file: keys, tensors, splits, a writer.
//!
//! [`Gguf::open`] reads the header and keeps the file open; tensor data is read on demand by position.
//! Every count and length is checked against what the file holds before anything is allocated, so a
//! hostile file costs at most its own size. [`Writer`] makes files.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.
#![forbid(unsafe_code)]

mod convert;
mod cursor;
mod error;
mod get;
mod keys;
mod limits;
mod magic;
mod parse;
mod source;
mod split;
mod value;
mod write;

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use quant::Format;

pub use error::Error;
pub use value::{Array, StringList, Strings, Value};
pub use write::{AtomicFile, Body, Writer};

use error::shown;
use keys::Keys;
use parse::Header;
use source::Source;

/// An open GGUF file, whole or split: its keys, its tensors and where their data is.
///
/// It may be shared between threads; reads do not move a position.
pub struct Gguf {
    name: String,
    version: u32,
    keys: Keys,
    tensors: Vec<Tensor>,
    by_name: HashMap<Box<str>, u32>,
    shards: Vec<Shard>,
}

/// One file of a split, or the only one.
struct Shard {
    source: Source,
    name: String,
}

/// A tensor's entry in the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Name, unique in the file, at most 63 bytes without control characters.
    pub name: String,
    /// How its weights are stored.
    pub format: Format,
    /// Dimensions, the contiguous one first (the reverse of numpy's order); 1 to 4 of them, none 0.
    pub shape: Vec<u64>,
    /// Bytes of data.
    pub bytes: u64,
    /// Which file of a split holds the data.
    shard: u16,
    /// Where the data starts in that file.
    offset: u64,
}

impl Tensor {
    /// Length of a row: the first dimension.
    pub fn cols(&self) -> usize {
        self.shape[0] as usize
    }

    /// Number of rows: the product of all other dimensions.
    pub fn rows(&self) -> usize {
        self.shape[1..].iter().product::<u64>() as usize
    }

    /// Number of weights.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }
}

impl Gguf {
    /// Opens a file and, when it is a shard `NAME-00001-of-0000N.gguf` (any of them), all the others.
    pub fn open(path: &Path) -> Result<Gguf, Error> {
        split::open(path)
    }

    /// Reads a file that is part of the program.
    pub fn from_static(name: &str, bytes: &'static [u8]) -> Result<Gguf, Error> {
        Gguf::from_source(name, Source::Bytes(Cow::Borrowed(bytes)))
    }

    /// Reads a file held in memory.
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Gguf, Error> {
        Gguf::from_source(name, Source::Bytes(Cow::Owned(bytes)))
    }

    fn from_source(name: &str, source: Source) -> Result<Gguf, Error> {
        let header = parse::header(&source, name, 0)?;
        split::refuse(&header.keys, name)?;
        Gguf::from_shards(vec![Shard { source, name: name.into() }], header)
    }

    /// Puts shards together; `header` has the keys of the first and the tensors of all.
    fn from_shards(shards: Vec<Shard>, header: Header) -> Result<Gguf, Error> {
        let Header { version, keys, tensors } = header;
        let mut by_name = HashMap::with_capacity(tensors.len());
        for (i, tensor) in tensors.iter().enumerate() {
            let at = u32::try_from(i).expect("the number of tensors is bounded");
            if by_name.insert(tensor.name.as_str().into(), at).is_some() {
                return Err(Error::DuplicateTensor {
                    file: shards[usize::from(tensor.shard)].name.clone(),
                    tensor: shown(tensor.name.as_bytes()),
                });
            }
        }
        Ok(Gguf { name: shards[0].name.clone(), version, keys, tensors, by_name, shards })
    }

    /// File name for messages, of the first shard where there are several.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Format version, 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Size of the file, of all shards together.
    pub fn file_bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.source.len()).sum()
    }

    /// Number of files: 1, or the shards of a split.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Keys and values in file order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.keys.iter()
    }

    /// The value of a key, whatever its type.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.keys.get(key)
    }

    /// All tensors in file order, shard by shard.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// A tensor by name.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.by_name.get(name).map(|&i| &self.tensors[i as usize])
    }

    /// Fills `out` with the tensor's data from byte `offset` of it.
    ///
    /// A file truncated since it was opened is an error; one replaced by renaming is still read as it
    /// was.
    pub fn read(&self, tensor: &Tensor, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let shard = &self.shards[usize::from(tensor.shard)];
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > tensor.bytes) {
            return Err(Error::OutOfTensor {
                file: shard.name.clone(),
                tensor: shown(tensor.name.as_bytes()),
                bytes: tensor.bytes,
                from: offset,
                to: u128::from(offset) + out.len() as u128,
            });
        }
        let at = tensor.offset + offset;
        shard.source.read(at, out).map_err(|source| Error::Read { file: shard.name.clone(), at, source })
    }

    /// All of a tensor's data.
    pub fn read_all(&self, tensor: &Tensor) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; tensor.bytes as usize];
        self.read(tensor, 0, &mut bytes)?;
        Ok(bytes)
    }

    /// Drops the system's cached pages of a tensor that will not be read again: a hint that keeps a
    /// load from filling memory with the file beside the weights.
    pub fn forget(&self, tensor: &Tensor) {
        self.forget_range(tensor, 0..tensor.bytes);
    }

    /// [`Gguf::forget`] for some of a tensor's bytes. Pages that are only partly in the range stay; what is
    /// beyond the tensor is left alone.
    pub fn forget_range(&self, tensor: &Tensor, bytes: Range<u64>) {
        let end = bytes.end.min(tensor.bytes);
        let len = end.saturating_sub(bytes.start);
        self.shards[usize::from(tensor.shard)].source.forget(tensor.offset + end - len, len);
    }
}
