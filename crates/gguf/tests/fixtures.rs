//! Every file of the shared fixtures opens, and what they hold is what others found in them.

use std::path::{Path, PathBuf};

use gguf::Gguf;

fn gguf_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the fixtures are readable") {
        let path = entry.expect("the fixtures are readable").path();
        if path.is_dir() {
            found.extend(gguf_files(&path));
        } else if path.extension().is_some_and(|ext| ext == "gguf") {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn opens_every_fixture() {
    for folder in ["fixtures", "models"] {
        let Some(folder) = testkit::shared(folder) else { return };
        for path in gguf_files(&folder) {
            let file = Gguf::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            assert!(file.str("general.architecture").is_ok(), "{}", path.display());
            for tensor in file.tensors() {
                file.read_all(tensor).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            }
        }
    }
}
