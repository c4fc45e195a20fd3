//! Writes GGUF version 3: keys and directory first, then the tensors' data as it comes.
//!
//! ```
//! # fn main() -> Result<(), gguf::Error> {
//! let mut writer = gguf::Writer::new();
//! writer.set("general.architecture", "llama")?;
//! writer.tensor("output_norm.weight", quant::Format::F32, &[2])?;
//! let mut body = writer.start(Vec::new())?;
//! body.write(&1f32.to_le_bytes())?;
//! body.write(&2f32.to_le_bytes())?;
//! let file: Vec<u8> = body.finish()?;
//! # assert_eq!(gguf::Gguf::from_bytes("doc", file)?.tensors().len(), 1);
//! # Ok(())
//! # }
//! ```

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use quant::Format;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use crate::error::{Error, shown, shown_path};
use crate::keys::Keys;
use crate::source::special;
use crate::value::{Array, Value};
use crate::{Gguf, Tensor, limits};

/// The header of a file to be: keys and tensors, in the order in which they are added.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    keys: Keys,
    tensors: Vec<Entry>,
    names: HashSet<String>,
}

#[derive(Clone, Debug)]
struct Entry {
    name: String,
    format: Format,
    shape: Vec<u64>,
    bytes: u64,
}

impl Writer {
    /// A file without keys and tensors.
    pub fn new() -> Writer {
        Writer::default()
    }

    /// Sets a key; one already there keeps its place and gets the new value.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) -> Result<(), Error> {
        let refuse =
            |problem| Err(Error::Refused { place: format!("key {}", shown(key.as_bytes())), problem });
        let value = value.into();
        if let Some(problem) = limits::name_problem(key.as_bytes(), limits::KEY_BYTES) {
            return refuse(problem);
        }
        if key == "general.alignment" {
            match value {
                Value::U32(alignment) => {
                    if let Some(problem) = limits::alignment_problem(alignment) {
                        return refuse(problem);
                    }
                }
                _ => return refuse("alignment is a u32".into()),
            }
        }
        if self.keys.len() as u64 >= limits::KEYS {
            return refuse(format!("a file has at most {} keys", limits::KEYS));
        }
        self.keys.set(key.into(), value);
        Ok(())
    }

    /// Takes a key out and returns its value, if it was there.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        self.keys.remove(key)
    }

    /// Sets all keys of another file, except those that say how it was split.
    pub fn copy_keys(&mut self, from: &Gguf) -> Result<(), Error> {
        for (key, value) in from.keys().filter(|(key, _)| !key.starts_with("split.")) {
            self.set(key, value.clone())?;
        }
        Ok(())
    }

    /// Adds a tensor; `shape` has the contiguous dimension first. Its data follows in the same order.
    pub fn tensor(&mut self, name: &str, format: Format, shape: &[u64]) -> Result<(), Error> {
        let refuse =
            |problem| Error::Refused { place: format!("tensor {}", shown(name.as_bytes())), problem };
        if let Some(problem) = limits::name_problem(name.as_bytes(), limits::NAME_BYTES) {
            return Err(refuse(problem));
        }
        let bytes = limits::tensor_bytes(format, shape).map_err(refuse)?;
        if self.tensors.len() as u64 >= limits::TENSORS {
            return Err(refuse(format!("a file has at most {} tensors", limits::TENSORS)));
        }
        if !self.names.insert(name.into()) {
            return Err(refuse("it was added before; names must be unique".into()));
        }
        self.tensors.push(Entry { name: name.into(), format, shape: shape.into(), bytes });
        Ok(())
    }

    /// Writes the header to `out`; the tensors' data goes into the returned [`Body`].
    pub fn start<W: Write>(&self, out: W) -> Result<Body<W>, Error> {
        self.start_named(out, "the output".into())
    }

    /// Starts a file at `path`. It appears there, whole, only on [`Body::commit`]; until then the data
    /// goes to a hidden file beside it, removed when the body is dropped. Space is reserved first, so
    /// that a disk too small is known before the work.
    pub fn create(&self, path: &Path) -> Result<Body<AtomicFile>, Error> {
        let (header, data) = self.layout()?;
        let file = AtomicFile::create(path, header.len() as u64 + data)
            .map_err(|source| Error::Write { path: shown_path(path), source })?;
        self.start_named(file, shown_path(path))
    }

    /// Size of the finished file.
    pub fn file_bytes(&self) -> Result<u64, Error> {
        let (header, data) = self.layout()?;
        Ok(header.len() as u64 + data)
    }

    fn start_named<W: Write>(&self, out: W, path: String) -> Result<Body<W>, Error> {
        let (header, _) = self.layout()?;
        let parts = self.tensors.iter().map(|t| (t.name.clone(), t.bytes)).collect();
        let mut body = Body { out, path, alignment: self.alignment(), parts, current: 0, written: 0 };
        body.put(&header)?;
        Ok(body)
    }

    fn alignment(&self) -> u64 {
        match self.keys.get("general.alignment") {
            Some(Value::U32(alignment)) => (*alignment).into(),
            _ => limits::ALIGNMENT,
        }
    }

    /// The header with its padding, and the size of the data that follows.
    fn layout(&self) -> Result<(Vec<u8>, u64), Error> {
        let alignment = self.alignment();
        let mut out = Vec::new();
        out.extend_from_slice(b"GGUF");
        out.extend_from_slice(&3u32.to_le_bytes());
        out.extend_from_slice(&(self.tensors.len() as u64).to_le_bytes());
        out.extend_from_slice(&(self.keys.len() as u64).to_le_bytes());
        for (key, value) in self.keys.iter() {
            put_string(&mut out, key.as_bytes());
            out.extend_from_slice(&value.type_id().to_le_bytes());
            put_value(&mut out, value);
        }
        let mut offset = 0u64;
        for tensor in &self.tensors {
            put_string(&mut out, tensor.name.as_bytes());
            out.extend_from_slice(&(tensor.shape.len() as u32).to_le_bytes());
            for dim in &tensor.shape {
                out.extend_from_slice(&dim.to_le_bytes());
            }
            out.extend_from_slice(&tensor.format.id().to_le_bytes());
            out.extend_from_slice(&offset.to_le_bytes());
            offset = offset
                .checked_add(tensor.bytes)
                .and_then(|end| end.checked_next_multiple_of(alignment))
                .filter(|&end| i64::try_from(end).is_ok())
                .ok_or_else(|| Error::Refused {
                    place: format!("tensor {}", tensor.name),
                    problem: "the tensors together are larger than a file can be".into(),
                })?;
        }
        if out.len() as u64 > limits::HEADER_BYTES {
            let problem =
                format!("the keys and tensors together take more than {} MiB", limits::HEADER_BYTES >> 20);
            return Err(Error::Refused { place: "the header".into(), problem });
        }
        out.resize(out.len().next_multiple_of(alignment as usize), 0);
        Ok((out, offset))
    }
}

/// A file whose header is written: takes the tensors' data in the order of the directory.
#[must_use = "the file is complete only after finish or commit"]
pub struct Body<W: Write> {
    out: W,
    path: String,
    alignment: u64,
    /// Name and size of each tensor.
    parts: Vec<(String, u64)>,
    current: usize,
    /// Bytes of the current tensor already written.
    written: u64,
}

impl<W: Write> Body<W> {
    /// Appends to the current tensor's data; padding is added and the next tensor begun when it is full.
    /// Data past the end of a tensor is an error: give each tensor's data in calls of its own.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if bytes.is_empty() {
            return Ok(());
        }
        let Some((name, size)) = self.parts.get(self.current) else {
            let problem = format!("{} bytes more than all tensors take", bytes.len());
            return Err(Error::Refused { place: "the data".into(), problem });
        };
        let (size, left) = (*size, size - self.written);
        if bytes.len() as u64 > left {
            let problem = format!("{} bytes given and {left} of {size} left", bytes.len());
            return Err(Error::Refused { place: format!("tensor {name}"), problem });
        }
        self.put(bytes)?;
        self.written += bytes.len() as u64;
        if self.written == size {
            let padding = size.next_multiple_of(self.alignment) - size;
            self.put(&vec![0; padding as usize])?;
            self.current += 1;
            self.written = 0;
        }
        Ok(())
    }

    /// Writes all of a tensor of another file as the current tensor's data, a few MiB at a time.
    pub fn copy(&mut self, from: &Gguf, tensor: &Tensor) -> Result<(), Error> {
        const CHUNK: u64 = 4 << 20;
        let mut buffer = vec![0; tensor.bytes.min(CHUNK) as usize];
        for offset in (0..tensor.bytes).step_by(CHUNK as usize) {
            let part = &mut buffer[..(tensor.bytes - offset).min(CHUNK) as usize];
            from.read(tensor, offset, part)?;
            self.write(part)?;
        }
        Ok(())
    }

    /// The tensor whose data comes next, `None` when all is written.
    pub fn current(&self) -> Option<&str> {
        self.parts.get(self.current).map(|(name, _)| name.as_str())
    }

    /// Checks that every tensor has its data and returns the output, flushed.
    pub fn finish(mut self) -> Result<W, Error> {
        self.complete()?;
        Ok(self.out)
    }

    fn complete(&mut self) -> Result<(), Error> {
        if let Some((name, size)) = self.parts.get(self.current) {
            let problem = format!("{} of its {size} bytes were given", self.written);
            return Err(Error::Refused { place: format!("tensor {name}"), problem });
        }
        self.out.flush().map_err(|source| Error::Write { path: self.path.clone(), source })
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.out.write_all(bytes).map_err(|source| Error::Write { path: self.path.clone(), source })
    }
}

impl Body<AtomicFile> {
    /// Checks that every tensor has its data, brings it to the disk and gives the file its name.
    pub fn commit(mut self) -> Result<(), Error> {
        self.complete()?;
        self.out.commit().map_err(|source| Error::Write { path: self.path, source })
    }
}

/// A file that takes its name only when it is complete.
pub struct AtomicFile {
    /// `None` once committed.
    out: Option<BufWriter<File>>,
    /// The name it has meanwhile; none where the file system allows that, so that nothing stays behind
    /// however the program ends.
    partial: Option<PathBuf>,
    path: PathBuf,
}

impl AtomicFile {
    /// A file of `bytes` bytes that will be at `path`; what is there stays until [`AtomicFile::commit`].
    ///
    /// # Errors
    /// The system's; no room for it; what is at `path` is no file.
    pub fn create(path: &Path, bytes: u64) -> io::Result<AtomicFile> {
        // Through a link, the file that it leads to is replaced and the link stays.
        let path = match std::fs::metadata(path) {
            Ok(there) => match special(there.file_type()) {
                Some(kind) => return Err(io::Error::other(format!("it is {kind}; give the path of a file"))),
                None => path.canonicalize()?,
            },
            Err(_) => path.to_path_buf(),
        };
        if path.file_name().is_none() {
            return Err(io::Error::other("it has no file name"));
        }
        let (file, partial) = match create_unnamed(&path) {
            Some(file) => (file, None),
            None => create_partial(&path, |partial| File::create_new(partial)).map(|(f, p)| (f, Some(p)))?,
        };
        let created = AtomicFile { out: Some(BufWriter::with_capacity(1 << 20, file)), partial, path };
        created.reserve(bytes)?;
        Ok(created)
    }

    /// Reserves space where the file system can; where it cannot, writing finds out later.
    fn reserve(&self, bytes: u64) -> io::Result<()> {
        let out = self.out.as_ref().expect("the file is open until it is committed");
        match rustix::fs::fallocate(out.get_ref(), rustix::fs::FallocateFlags::empty(), 0, bytes) {
            Err(e @ (rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT | rustix::io::Errno::FBIG)) => {
                let mib = bytes >> 20;
                Err(io::Error::new(
                    io::Error::from(e).kind(),
                    format!("no room for its {mib} MiB; free some space"),
                ))
            }
            _ => Ok(()),
        }
    }

    /// Brings it to the disk and gives it its name.
    ///
    /// # Errors
    /// The system's; then nothing is at its path that was not there.
    pub fn commit(mut self) -> io::Result<()> {
        let out = self.out.as_mut().expect("the file is open until it is committed");
        out.flush()?;
        out.get_ref().sync_all()?;
        if self.partial.is_none() {
            let file = format!("/proc/self/fd/{}", out.get_ref().as_raw_fd());
            let link = |partial: &Path| {
                Ok(rustix::fs::linkat(CWD, file.as_str(), CWD, partial, AtFlags::SYMLINK_FOLLOW)?)
            };
            self.partial = Some(create_partial(&self.path, link)?.1);
        }
        if let Some(partial) = &self.partial {
            std::fs::rename(partial, &self.path)?;
        }
        self.out = None;
        // The new name survives a power cut only once its folder is on the disk; not every file system
        // can do that, and the data is safe either way.
        let _ = File::open(folder_of(&self.path)).and_then(|folder| folder.sync_all());
        Ok(())
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A new file without a name in the folder of `path`, where the file system has such files and the
/// system a way to name them.
fn create_unnamed(path: &Path) -> Option<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::open(folder_of(path), flags, Mode::from_raw_mode(0o666)).ok()?;
    Path::new("/proc/self/fd").is_dir().then(|| File::from(file))
}

/// What `create` makes of a free hidden name beside `path`, on the same file system so that it can be
/// renamed; and that name.
fn create_partial<T>(path: &Path, create: impl Fn(&Path) -> io::Result<T>) -> io::Result<(T, PathBuf)> {
    let mut number = 0;
    loop {
        let partial = path.with_file_name(format!(".gguf-{}-{number}.partial", std::process::id()));
        match create(&partial) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && number < 1000 => number += 1,
            result => return result.map(|made| (made, partial)),
        }
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.as_mut().expect("the file is open until it is committed").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.as_mut().expect("the file is open until it is committed").flush()
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if let (Some(_), Some(partial)) = (&self.out, &self.partial) {
            let _ = std::fs::remove_file(partial);
        }
    }
}

fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::U8(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::I8(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::U16(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::I16(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::U32(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::I32(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::F32(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::Bool(v) => out.push((*v).into()),
        Value::Str(v) => put_string(out, v),
        Value::U64(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::I64(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::F64(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::Array(array) => {
            out.extend_from_slice(&array.element_id().to_le_bytes());
            out.extend_from_slice(&(array.len() as u64).to_le_bytes());
            put_elements(out, array);
        }
    }
}

fn put_elements(out: &mut Vec<u8>, array: &Array) {
    fn all<T: Copy, const N: usize>(out: &mut Vec<u8>, list: &[T], bytes: impl Fn(T) -> [u8; N]) {
        out.extend(list.iter().flat_map(|&v| bytes(v)));
    }
    match array {
        Array::U8(list) => out.extend_from_slice(list),
        Array::I8(list) => all(out, list, i8::to_le_bytes),
        Array::U16(list) => all(out, list, u16::to_le_bytes),
        Array::I16(list) => all(out, list, i16::to_le_bytes),
        Array::U32(list) => all(out, list, u32::to_le_bytes),
        Array::I32(list) => all(out, list, i32::to_le_bytes),
        Array::F32(list) => all(out, list, f32::to_le_bytes),
        Array::Bool(list) => all(out, list, |b| [b.into()]),
        Array::Str(list) => list.view().iter().for_each(|string| put_string(out, string)),
        Array::U64(list) => all(out, list, u64::to_le_bytes),
        Array::I64(list) => all(out, list, i64::to_le_bytes),
        Array::F64(list) => all(out, list, f64::to_le_bytes),
    }
}
