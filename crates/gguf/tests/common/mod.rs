//! Files made by hand, wrong ones included, which the writer would refuse to write.
#![allow(dead_code, reason = "every test binary uses a part")]

pub(crate) mod cases;

use std::path::{Path, PathBuf};

/// Ids of value types.
pub(crate) const U32: u32 = 4;
pub(crate) const BOOL: u32 = 7;
pub(crate) const STRING: u32 = 8;
pub(crate) const ARRAY: u32 = 9;
pub(crate) const U64: u32 = 10;

/// A file in parts. Counts follow what is added unless set apart.
#[derive(Clone)]
pub(crate) struct Raw {
    pub(crate) magic: [u8; 4],
    pub(crate) version: u32,
    counts: Option<(u64, u64)>,
    keys: (u64, Vec<u8>),
    tensors: (u64, Vec<u8>),
    data: usize,
    pub(crate) alignment: usize,
}

impl Raw {
    pub(crate) fn new() -> Raw {
        Raw {
            magic: *b"GGUF",
            version: 3,
            counts: None,
            keys: (0, Vec::new()),
            tensors: (0, Vec::new()),
            data: 0,
            alignment: 32,
        }
    }

    /// Overrides the counts of tensors and keys.
    pub(crate) fn counts(mut self, tensors: u64, keys: u64) -> Raw {
        self.counts = Some((tensors, keys));
        self
    }

    /// A key with its type and its value's bytes.
    pub(crate) fn key(mut self, key: impl AsRef<[u8]>, kind: u32, value: &[u8]) -> Raw {
        self.keys.0 += 1;
        self.keys.1.extend(string(key.as_ref()));
        self.keys.1.extend(kind.to_le_bytes());
        self.keys.1.extend(value);
        self
    }

    pub(crate) fn u32(self, key: &str, value: u32) -> Raw {
        self.key(key, U32, &value.to_le_bytes())
    }

    /// A directory entry.
    pub(crate) fn tensor(mut self, name: impl AsRef<[u8]>, shape: &[u64], format: u32, offset: u64) -> Raw {
        self.tensors.0 += 1;
        let entry = &mut self.tensors.1;
        entry.extend(string(name.as_ref()));
        entry.extend((shape.len() as u32).to_le_bytes());
        entry.extend(shape.iter().flat_map(|dim| dim.to_le_bytes()));
        entry.extend(format.to_le_bytes());
        entry.extend(offset.to_le_bytes());
        self
    }

    /// An entry given as bytes, for entries cut short or with impossible counts.
    pub(crate) fn tensor_bytes(mut self, bytes: &[u8]) -> Raw {
        self.tensors.0 += 1;
        self.tensors.1.extend(bytes);
        self
    }

    /// Bytes of tensor data after the padding.
    pub(crate) fn data(mut self, bytes: usize) -> Raw {
        self.data = bytes;
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let (tensors, keys) = self.counts.unwrap_or((self.tensors.0, self.keys.0));
        let mut out = self.magic.to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(tensors.to_le_bytes());
        out.extend(keys.to_le_bytes());
        out.extend(&self.keys.1);
        out.extend(&self.tensors.1);
        if self.data > 0 {
            out.resize(out.len().next_multiple_of(self.alignment), 0);
            out.resize(out.len() + self.data, 7);
        }
        out
    }
}

/// A length and the bytes.
pub(crate) fn string(bytes: &[u8]) -> Vec<u8> {
    let mut out = (bytes.len() as u64).to_le_bytes().to_vec();
    out.extend(bytes);
    out
}

/// The start of an array: type and count of its elements.
pub(crate) fn array(of: u32, count: u64) -> Vec<u8> {
    let mut out = of.to_le_bytes().to_vec();
    out.extend(count.to_le_bytes());
    out
}

/// A good file with a key of each type, arrays, and three tensors of different formats.
pub(crate) fn good() -> Vec<u8> {
    use quant::Format;
    let mut writer = gguf::Writer::new();
    let set = |writer: &mut gguf::Writer, key: &str, value: gguf::Value| {
        writer.set(key, value).expect("the key is good");
    };
    set(&mut writer, "general.architecture", "llama".into());
    set(&mut writer, "a.u8", 200u8.into());
    set(&mut writer, "a.i8", (-7i8).into());
    set(&mut writer, "a.u16", 60000u16.into());
    set(&mut writer, "a.i16", (-300i16).into());
    set(&mut writer, "a.u32", 4_000_000_000u32.into());
    set(&mut writer, "a.i32", (-70_000i32).into());
    set(&mut writer, "a.f32", 1e-5f32.into());
    set(&mut writer, "a.bool", true.into());
    set(&mut writer, "a.u64", u64::MAX.into());
    set(&mut writer, "a.i64", i64::MIN.into());
    set(&mut writer, "a.f64", 1e300f64.into());
    let tokens: gguf::StringList = [&b"<s>"[..], b"", b"\xff\xfe", "größe".as_bytes()].into_iter().collect();
    set(&mut writer, "b.strings", tokens.into());
    set(&mut writer, "b.f32", vec![1.5f32, f32::NEG_INFINITY].into());
    set(&mut writer, "b.i32", vec![1i32, -2, 3].into());
    set(&mut writer, "b.bool", vec![true, false].into());
    set(&mut writer, "b.u64", Vec::<u64>::new().into());
    let tensors = [
        ("token_embd.weight", Format::Q8_0, &[64u64, 3][..]),
        ("norm.weight", Format::F32, &[5]),
        ("blk.0.ffn_up.weight", Format::Q4_K, &[256, 2, 1]),
    ];
    for (name, format, shape) in tensors {
        writer.tensor(name, format, shape).expect("the tensor is good");
    }
    let mut body = writer.start(Vec::new()).expect("memory takes a header");
    for (_, format, shape) in tensors {
        let rows: u64 = shape[1..].iter().product();
        let bytes = format.row_bytes(shape[0] as usize).expect("whole blocks") * rows as usize;
        let data: Vec<u8> = (0..bytes).map(|i| i as u8).collect();
        body.write(&data).expect("memory takes the data");
    }
    body.finish().expect("all tensors are written")
}

/// A new folder under the system's temporary one, removed at the end.
pub(crate) struct Folder(pub PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("jetson-llm-gguf-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the temporary folder is writable");
        Folder(path)
    }

    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).expect("the temporary folder is writable");
        path
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Uses everything a file offers, as a program would after opening it: for files that may be wrong.
pub(crate) fn exercise(file: &gguf::Gguf) {
    for (key, value) in file.keys() {
        let _ = (value.to_string(), value.type_name());
        let _ = (file.str(key).is_ok(), file.u32(key).is_ok(), file.u64(key).is_ok(), file.f32(key).is_ok());
        let _ =
            (file.bool(key).is_ok(), file.f32s(key).is_ok(), file.i32s(key).is_ok(), file.u32s(key).is_ok());
        if let Ok(strings) = file.strings(key) {
            assert_eq!(strings.iter().map(<[u8]>::len).sum::<usize>(), strings.total_bytes());
        }
    }
    for tensor in file.tensors() {
        assert_eq!(file.tensor(&tensor.name), Some(tensor));
        assert!(tensor.bytes <= file.file_bytes());
        assert_eq!(tensor.elements(), tensor.cols() as u64 * tensor.rows() as u64);
        let mut byte = [0];
        file.read(tensor, 0, &mut byte).expect("an accepted tensor lies in the file");
        file.read(tensor, tensor.bytes - 1, &mut byte).expect("an accepted tensor lies in the file");
        assert!(file.read(tensor, tensor.bytes, &mut byte).is_err());
    }
}
