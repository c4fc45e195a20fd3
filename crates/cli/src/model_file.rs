//! Finding the model: the file asked for, the environment's, or the built-in one.

use std::io;
use std::path::{Path, PathBuf};

use gguf::Gguf;

use crate::config::Config;
use crate::failure::bad_input;
use crate::screen::printable;

/// chat-7m, Apache-2.0, quantized by this program; credits in `assets/README.md`.
static BUILT_IN: &[u8] = include_bytes!("../assets/chat-7m.gguf");

const BUILT_IN_NAME: &str = "chat-7m (built in)";

/// Opens the model to use.
pub(crate) fn open(path: Option<&Path>, config: &Config) -> anyhow::Result<Gguf> {
    match path.or(config.model.as_deref()) {
        Some(path) => open_path(path),
        None => Ok(Gguf::from_static(BUILT_IN_NAME, BUILT_IN)?),
    }
}

/// Whether a model lies inside the program: what is read of it is memory that the program takes.
pub(crate) fn is_built_in(file: &Gguf) -> bool {
    file.name() == BUILT_IN_NAME
}

/// Opens a file, with advice when it is not there.
pub(crate) fn open_path(path: &Path) -> anyhow::Result<Gguf> {
    match Gguf::open(path) {
        Err(gguf::Error::Open { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Err(bad_input(missing(path)))
        }
        Err(gguf::Error::NotAFile { .. }) if path.is_dir() => Err(bad_input(directory(path))),
        opened => Ok(opened?),
    }
}

/// What to say about a path that leads nowhere.
fn missing(path: &Path) -> String {
    let shown = shown(path);
    let folder = folder_of(path);
    if !folder.is_dir() {
        return format!("{shown} is not there: there is no folder {}", self::shown(&folder));
    }
    let near = nearest(path, &models_in(&folder));
    match near {
        Some(near) => format!("{shown} is not there; did you mean {}?", self::shown(&near)),
        None => format!(
            "{shown} is not there; give the path of a GGUF file, or leave -m out for the built-in model"
        ),
    }
}

fn directory(path: &Path) -> String {
    const SHOWN: usize = 5;
    let shown = shown(path);
    let models = models_in(path);
    if models.is_empty() {
        return format!("{shown} is a directory without GGUF files; give the path of a GGUF file");
    }
    let mut names: Vec<String> = models.iter().take(SHOWN).map(|path| self::shown(path)).collect();
    if models.len() > SHOWN {
        names.push(format!("{} more", models.len() - SHOWN));
    }
    format!("{shown} is a directory; give one of its files: {}", names.join(", "))
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// GGUF files of a folder, by name.
fn models_in(folder: &Path) -> Vec<PathBuf> {
    // A folder may be huge: what cannot be suggested within this many entries is not suggested.
    const ENTRIES: usize = 10_000;
    let entries = std::fs::read_dir(folder).into_iter().flatten().take(ENTRIES).flatten();
    let is_model = |path: &PathBuf| path.extension().is_some_and(|ext| ext.eq_ignore_ascii_case("gguf"));
    let plain = |path: PathBuf| path.strip_prefix("./").map(Path::to_path_buf).unwrap_or(path);
    let mut models: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_model).map(plain).collect();
    models.sort();
    models
}

/// The file whose name is closest to the one asked for, if it is close at all.
fn nearest(asked: &Path, models: &[PathBuf]) -> Option<PathBuf> {
    let simple = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        name.strip_suffix(".gguf").unwrap_or(&name).to_owned()
    };
    let asked = simple(asked);
    let near = |path: &&PathBuf| {
        let name = simple(path);
        let far = distance(&asked, &name);
        let prefix = asked.len() >= 3 && name.starts_with(&asked);
        (prefix || far * 3 <= asked.chars().count().max(3)).then_some((!prefix, far))
    };
    let rated = models.iter().filter_map(|path| Some((near(&path)?, path)));
    rated.min().map(|(_, path)| path.clone())
}

/// Levenshtein's distance in characters; names longer than any file's are cut.
fn distance(a: &str, b: &str) -> usize {
    let cut = |text: &str| text.chars().take(255).collect::<Vec<_>>();
    let (a, b) = (cut(a), cut(b));
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// A path for a message: safe for a terminal and not longer than a line or two.
fn shown(path: &Path) -> String {
    const LONGEST: usize = 160;
    let text = printable(&path.to_string_lossy());
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest};
    use std::path::{Path, PathBuf};

    #[test]
    fn misspelt_names_find_their_file() {
        let models: Vec<PathBuf> =
            ["m/gemma-3-4b-Q4_K_M.gguf", "m/tinyllama.gguf", "m/qwen3.gguf"].map(PathBuf::from).into();
        let near = |name: &str| nearest(Path::new(name), &models);
        assert_eq!(near("m/tinylama.gguf"), Some("m/tinyllama.gguf".into()));
        assert_eq!(near("m/TinyLlama"), Some("m/tinyllama.gguf".into()));
        assert_eq!(near("m/gemma-3"), Some("m/gemma-3-4b-Q4_K_M.gguf".into()));
        assert_eq!(near("m/mistral.gguf"), None);
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }
}
