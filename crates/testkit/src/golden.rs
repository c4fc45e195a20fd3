//! Logits of an independent implementation (Hugging Face transformers, f32) for tiny models.

use std::path::{Path, PathBuf};

/// One tiny model with its expected logits.
pub struct Golden {
    /// Family name of the file, such as `gemma3`.
    pub name: String,
    /// The GGUF.
    pub model: PathBuf,
    /// Token ids.
    pub ids: Vec<u32>,
    /// `[ids, vocab]`, row after row.
    pub logits: Vec<f32>,
    /// Width of a row.
    pub vocab: usize,
}

/// All goldens of `$JETSON_LLM_GOLDENS`, else of the shared fixtures; empty (with a line on stderr)
/// when they are absent.
pub fn goldens() -> Vec<Golden> {
    if let Some(folder) = std::env::var_os("JETSON_LLM_GOLDENS") {
        return goldens_in(Path::new(&folder));
    }
    let Some(folder) = crate::shared("fixtures/reference") else { return vec![] };
    goldens_in(&folder)
}

/// All goldens of a folder of NAME.gguf, NAME.npy, NAME.json.
///
/// # Panics
/// If the folder's files are not what the fixtures' maker writes.
pub fn goldens_in(folder: &Path) -> Vec<Golden> {
    let mut models: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("a folder of goldens")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "gguf"))
        .collect();
    models.sort();
    models.into_iter().map(read).collect()
}

fn read(model: PathBuf) -> Golden {
    let json = std::fs::read_to_string(model.with_extension("json")).expect("NAME.json beside NAME.gguf");
    let list =
        json.split("\"ids\": [").nth(1).and_then(|rest| rest.split(']').next()).expect("a list of ids");
    let ids: Vec<u32> = list.split(',').map(|id| id.trim().parse().expect("an id")).collect();
    let bytes = std::fs::read(model.with_extension("npy")).expect("NAME.npy beside NAME.gguf");
    // npy version 1: magic, version, header length as u16, header, data.
    let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let logits: Vec<f32> =
        bytes[header..].chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let vocab = logits.len() / ids.len();
    let name = model.file_stem().expect("a name").to_string_lossy().into_owned();
    Golden { name, model, ids, logits, vocab }
}

/// |a − b| / |b| over all elements, Euclidean.
pub fn relative_error(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "two results of one model");
    let square = |x: f64| x * x;
    let off: f64 = a.iter().zip(b).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
    let size: f64 = b.iter().map(|b| square(f64::from(*b))).sum();
    (off / size).sqrt()
}

/// Index of the largest element, the first of equals.
pub fn argmax(row: &[f32]) -> usize {
    let mut best = 0;
    for (i, value) in row.iter().enumerate() {
        if *value > row[best] {
            best = i;
        }
    }
    best
}
