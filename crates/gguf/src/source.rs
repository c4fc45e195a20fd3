//! Where the bytes of one shard come from: a file read by position, or memory.
//!
//! There is no memory map: weights are rearranged while they are loaded, so every byte is copied
//! once anyway, and a positioned read turns a file that shrinks meanwhile into an error where a map
//! would end the program with SIGBUS.

use std::borrow::Cow;
use std::fs::{File, FileType};
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;

use rustix::fs::{Advice, Mode, OFlags};

use crate::error::{Error, shown_path};

pub(crate) enum Source {
    File { file: File, len: u64 },
    Bytes(Cow<'static, [u8]>),
}

impl Source {
    /// Opens a regular file; pipes, devices and directories are refused before they are read, so
    /// that none can block or never end.
    pub(crate) fn open(path: &Path) -> Result<Source, Error> {
        let failed = |source: io::Error| Error::Open { path: shown_path(path), source };
        let refuse = |kind| Error::NotAFile { path: shown_path(path), kind };
        // Looked at before opening, because opening some devices has effects of its own.
        if let Some(kind) = special(std::fs::metadata(path).map_err(failed)?.file_type()) {
            return Err(refuse(kind));
        }
        // NONBLOCK: should a pipe take the file's place just now, opening it returns.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(|e| failed(e.into()))?);
        let metadata = file.metadata().map_err(failed)?;
        match special(metadata.file_type()) {
            Some(kind) => Err(refuse(kind)),
            None => Ok(Source::File { file, len: metadata.len() }),
        }
    }

    /// Bytes in the shard, as of opening.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Source::File { len, .. } => *len,
            Source::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// Fills `out` from byte `at`; a source that ends earlier is an error.
    pub(crate) fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        let ended =
            || io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter; was it replaced?");
        match self {
            Source::File { file, .. } => file
                .read_exact_at(out, at)
                .map_err(|e| if e.kind() == io::ErrorKind::UnexpectedEof { ended() } else { e }),
            Source::Bytes(bytes) => {
                let from = usize::try_from(at).ok().and_then(|at| bytes.get(at..)).ok_or_else(ended)?;
                out.copy_from_slice(from.get(..out.len()).ok_or_else(ended)?);
                Ok(())
            }
        }
    }

    /// Tells the system that these bytes will not be read again. A hint: failure changes nothing.
    pub(crate) fn forget(&self, at: u64, len: u64) {
        if let (Source::File { file, .. }, Some(len)) = (self, NonZeroU64::new(len)) {
            let _ = rustix::fs::fadvise(file, at, Some(len), Advice::DontNeed);
        }
    }
}

/// What a path leads to when it is not a regular file.
pub(crate) fn special(kind: FileType) -> Option<&'static str> {
    if kind.is_file() {
        None
    } else if kind.is_dir() {
        Some("a directory")
    } else if kind.is_fifo() {
        Some("a pipe")
    } else if kind.is_char_device() || kind.is_block_device() {
        Some("a device")
    } else if kind.is_socket() {
        Some("a socket")
    } else {
        Some("not a regular file")
    }
}
