//! What can go wrong with a file, each naming the file and the place in it.

use std::fmt;
use std::io;
use std::path::Path;

/// Any failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be opened or looked at.
    #[error("cannot open {path}: {source}")]
    Open {
        /// Path as given, escaped and shortened for display.
        path: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The path leads to a directory, pipe, device or socket.
    #[error("{path} is {kind}; give the path of a GGUF file")]
    NotAFile {
        /// Path as given, escaped and shortened for display.
        path: String,
        /// What it is, with its article.
        kind: &'static str,
    },
    /// The first bytes are not a GGUF header of a version this crate reads.
    #[error("{file} {problem}")]
    NotGguf {
        /// File name.
        file: String,
        /// What it is instead and, where known, what to do.
        problem: String,
    },
    /// A count, length, type or string of the header is wrong.
    #[error("{file} is damaged at byte {at}, {place}: {problem}")]
    Malformed {
        /// File name.
        file: String,
        /// Offset in the file of the field concerned.
        at: u64,
        /// Which part of the header: a key, a tensor, a count.
        place: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A tensor has a format this program does not read.
    #[error(
        "{file}: tensor {tensor} has format {format}, which is not supported; use a file quantized to another format"
    )]
    UnknownFormat {
        /// File name.
        file: String,
        /// Tensor name.
        tensor: String,
        /// The id in the file and, where known, its name.
        format: String,
    },
    /// Two tensors have one name.
    #[error(
        "{file}: tensor {tensor} was given before; the file is damaged or its shards do not belong together"
    )]
    DuplicateTensor {
        /// File name.
        file: String,
        /// Tensor name.
        tensor: String,
    },
    /// A key that is needed is absent.
    #[error("{file}: key {key} is missing; the file is incomplete or of another kind")]
    MissingKey {
        /// File name.
        file: String,
        /// The key.
        key: String,
    },
    /// A key has a value of the wrong type or out of range.
    #[error("{file}: key {key} is {found}; {wanted} is needed")]
    WrongValue {
        /// File name.
        file: String,
        /// The key.
        key: String,
        /// Type and value found.
        found: String,
        /// What would do.
        wanted: String,
    },
    /// The shards of a split file do not belong together.
    #[error("{file}: {problem}")]
    Split {
        /// File name of the shard.
        file: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// Reading failed, or the file became shorter after it was opened.
    #[error("cannot read {file} at byte {at}: {source}")]
    Read {
        /// File name.
        file: String,
        /// Offset in the file.
        at: u64,
        /// The system's reason.
        source: io::Error,
    },
    /// Bytes outside a tensor were asked for.
    #[error("{file}: tensor {tensor} has {bytes} bytes; bytes {from} to {to} were asked for")]
    OutOfTensor {
        /// File name.
        file: String,
        /// Tensor name.
        tensor: String,
        /// Size of the tensor.
        bytes: u64,
        /// First byte asked for.
        from: u64,
        /// End of the range asked for.
        to: u128,
    },
    /// Writing failed.
    #[error("cannot write {path}: {source}")]
    Write {
        /// Path, escaped and shortened for display.
        path: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The writer was given something that no reader would accept.
    #[error("cannot write {place}: {problem}")]
    Refused {
        /// The key or tensor.
        place: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// Text from a file or a user made safe for a terminal: control characters, direction overrides and
/// invalid UTF-8 escaped, long text cut in the middle.
pub(crate) fn shown(bytes: &[u8]) -> String {
    const LONGEST: usize = 160;
    if bytes.len() > LONGEST {
        let (head, tail) = (&bytes[..LONGEST / 2], &bytes[bytes.len() - LONGEST / 4..]);
        return format!("{}…{}", Shown(head), Shown(tail));
    }
    Shown(bytes).to_string()
}

/// [`shown`] for a path.
pub(crate) fn shown_path(path: &Path) -> String {
    shown(path.as_os_str().as_encoded_bytes())
}

struct Shown<'a>(&'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if is_unprintable(c) {
                    write!(f, "{}", c.escape_default())?;
                } else {
                    write!(f, "{c}")?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Characters that move the cursor, change its direction or hide: never sent to a terminal.
pub(crate) fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}
