//! Text from files and stdin.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::failure::bad_input;
use crate::screen::printable;

/// More text than any context holds; what is longer is refused before memory is full of it.
const MOST: u64 = 1 << 30;

/// A file's whole text.
pub(crate) fn read_text(path: &Path) -> anyhow::Result<String> {
    let name = printable(&path.to_string_lossy());
    if path.is_dir() {
        return Err(bad_input(format!("{name} is a directory; give the name of a text file")));
    }
    let file = File::open(path).map_err(|error| bad_input(format!("cannot open {name}: {error}")))?;
    text(file, &name)
}

/// All of stdin.
pub(crate) fn read_stdin() -> anyhow::Result<String> {
    text(io::stdin().lock(), "stdin")
}

fn text(source: impl Read, name: &str) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let read = source.take(MOST + 1).read_to_end(&mut bytes);
    read.map_err(|error| anyhow::anyhow!("cannot read {name}: {error}"))?;
    if bytes.len() as u64 > MOST {
        return Err(bad_input(format!("{name} is larger than 1 GiB; give it in parts")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        bad_input(format!("{name} is not UTF-8 at byte {at}; convert it, for example with iconv -t UTF-8"))
    })
}

/// Without the one line feed that ends a file and belongs to no prompt.
pub(crate) fn without_last_line_feed(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
    }
    text
}
