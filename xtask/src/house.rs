//! Rules of the house that neither the compiler nor clippy checks.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::tree;

/// The only folders whose Rust code may say `unsafe`.
const MAY_BE_UNSAFE: [&str; 3] = ["crates/gguf/", "crates/cpu/", "crates/cuda/"];

/// Longer files hold more than one idea. The aim is 500; the rest is room for tables.
const MOST_LINES: usize = 600;

/// Nothing larger is kept in the repository, except where named.
const MOST_BYTES: u64 = 1 << 20;

/// Larger files that belong here: the built-in model.
const LARGE: [&str; 1] = [".gguf"];

/// Checks every tracked file; all breaches are reported at once.
pub(crate) fn run() -> Result<()> {
    let mut breaches = Vec::new();
    for path in tree::files()? {
        let full = tree::root().join(&path);
        let bytes = full.metadata()?.len();
        if bytes > MOST_BYTES && !LARGE.iter().any(|end| path.ends_with(end)) {
            breaches.push(format!("{path}: {bytes} bytes, at most {MOST_BYTES} are allowed"));
        }
        if tree::is_code(&path) {
            breaches.extend(judge(&path, &std::fs::read_to_string(full)?));
        }
    }
    ensure!(breaches.is_empty(), "{}", breaches.join("\n"));
    Ok(())
}

/// The breaches of one source file.
fn judge(path: &str, text: &str) -> Vec<String> {
    let mut breaches = Vec::new();
    let lines = text.lines().count();
    if lines > MOST_LINES {
        breaches.push(format!("{path}: {lines} lines, at most {MOST_LINES} are allowed; split it by idea"));
    }
    if Path::new(path).extension().is_none_or(|e| e != "rs") {
        return breaches;
    }
    if !MAY_BE_UNSAFE.iter().any(|folder| path.starts_with(folder)) {
        for (number, line) in (1..).zip(text.lines()) {
            if says_unsafe(line) {
                breaches.push(format!("{path}:{number}: `unsafe` belongs in gguf, cpu and cuda only"));
            }
        }
        let is_crate_root = path.ends_with("src/lib.rs") || path.ends_with("src/main.rs");
        if is_crate_root && !text.contains("#![forbid(unsafe_code)]") {
            breaches.push(format!("{path}: a crate root outside gguf, cpu and cuda forbids unsafe code"));
        }
    }
    breaches
}

/// Whether a line uses the keyword. Comments, strings and `unsafe_code` do not count.
fn says_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or(line);
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices("unsafe").any(|(at, word)| {
        let (before, after) = (&code[..at], &code[at + word.len()..]);
        let quotes = before.matches('"').count() - before.matches("\\\"").count();
        let in_string = quotes % 2 == 1;
        !in_string && !before.ends_with(is_word) && !after.starts_with(is_word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keyword_is_told_from_the_word() {
        assert!(says_unsafe("    unsafe { read() }"));
        assert!(says_unsafe("pub unsafe fn read()"));
        assert!(says_unsafe("let x = 1; unsafe{ y() }"));
        assert!(!says_unsafe("// unsafe is confined to three crates"));
        assert!(!says_unsafe("#![forbid(unsafe_code)]"));
        assert!(!says_unsafe("let why = \"it is unsafe here\";"));
        assert!(!says_unsafe("fn may_be_unsafe() {}"));
    }

    #[test]
    fn a_file_is_judged_by_where_it_lies() {
        let text = "#![forbid(unsafe_code)]\nunsafe {}\n";
        assert_eq!(judge("crates/text/src/lib.rs", text).len(), 1);
        assert!(judge("crates/cpu/src/lib.rs", text).is_empty());
        assert!(judge("crates/text/src/lib.rs", "fn a() {}\n")[0].contains("forbids"));
        assert!(judge("crates/text/src/bpe.rs", "fn a() {}\n").is_empty());
    }

    #[test]
    fn a_long_file_is_a_breach() {
        let breaches = judge("crates/cpu/src/a.rs", &"\n".repeat(MOST_LINES + 1));
        assert!(breaches[0].contains("split it"), "{breaches:?}");
        assert!(judge("crates/cpu/src/a.rs", &"\n".repeat(MOST_LINES)).is_empty());
    }
}
