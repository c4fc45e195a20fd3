//! The first eight bytes: a GGUF of a version this crate reads, or something to be named.

use crate::error::Error;
use crate::source::Source;

/// The version, 2 or 3.
pub(crate) fn check(source: &Source, file: &str) -> Result<u32, Error> {
    let mut first = [0; 8];
    let have = source.len().min(8) as usize;
    source.read(0, &mut first[..have]).map_err(|source| Error::Read { file: file.into(), at: 0, source })?;
    let not = |problem: &str| Err(Error::NotGguf { file: file.into(), problem: problem.into() });
    if have == 0 {
        return not("is empty; get it again");
    }
    if &first[..have.min(4)] != b"GGUF".split_at(have.min(4)).0 {
        return not(other_format(&first[..have]));
    }
    if have < 8 {
        return not("is cut short within its first 8 bytes; get it again");
    }
    let version = u32::from_le_bytes([first[4], first[5], first[6], first[7]]);
    match version {
        2 | 3 => Ok(version),
        1 => not("is GGUF version 1, which is no longer read; convert the model again (version 3)"),
        v if (1..=0xffff).contains(&v.swap_bytes()) => {
            not("is a big-endian GGUF file; convert the model again for little-endian machines")
        }
        v => not(&format!("is GGUF version {v}; versions 2 and 3 are read")),
    }
}

/// What people give by mistake, by its first bytes.
fn other_format(first: &[u8]) -> &'static str {
    match first {
        // The magic of four GGML formats, stored as a little-endian number.
        [b'F', b'U', b'G', b'G', ..] => {
            "is a byte-swapped GGUF file; convert the model again for little-endian machines"
        }
        [b'l' | b't' | b'f' | b'a', _, b'g', b'g', ..] => {
            "is a GGML file from before GGUF; convert the original model to GGUF"
        }
        [b'P', b'K', 3, 4, ..] => "is a zip archive or PyTorch checkpoint; convert the model to GGUF",
        [0x1f, 0x8b, ..] => "is gzip-compressed; decompress it first",
        [1..=255, _, _, _, 0, 0, 0, 0] => {
            "is not a GGUF file, perhaps safetensors; convert the model to GGUF"
        }
        [b'v', b'e', b'r', b's', b'i', b'o', b'n', b' '] => {
            "is a Git LFS pointer, not the model itself; fetch it with git lfs pull"
        }
        [b'<', ..] => "is a web page, not a model; the download went wrong",
        _ => "is not a GGUF file; give a model in that format",
    }
}
