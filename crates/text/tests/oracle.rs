//! Hostile strings against Hugging Face's tokenizers and SentencePiece.
//!
//! `oracle/vectors.py` makes the vectors. Those of chat-7m and stories260K are kept here; `JETSON_LLM_VECTORS` names a
//! folder with more.

use std::fs;
use std::path::{Path, PathBuf};

use gguf::{Gguf, Writer};
use serde_json::Value;
use text::{EncodeOptions, Kind, Tokenizer};

#[test]
fn hostile_strings() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle");
    let more = std::env::var_os("JETSON_LLM_VECTORS").map(PathBuf::from);
    let mut failed = 0;
    for folder in std::iter::once(kept).chain(more) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "json") {
                failed += compare(&path);
            }
        }
    }
    assert_eq!(failed, 0);
}

/// Compares one file and says how many strings differ.
fn compare(path: &Path) -> usize {
    let vectors: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let Some(file) = testkit::shared(vectors["vocabulary"].as_str().unwrap()) else { return 0 };
    let mut file = Gguf::open(&file).unwrap();
    // Another pre-tokenizer over the same tokens: for those whose vocabularies are not at hand.
    if let Some(pre) = vectors.get("pre") {
        let mut writer = Writer::new();
        writer.copy_keys(&file).unwrap();
        writer.set("tokenizer.ggml.pre", pre.as_str().unwrap()).unwrap();
        file = Gguf::from_bytes("other", writer.start(Vec::new()).unwrap().finish().unwrap()).unwrap();
    }
    let tokenizer = Tokenizer::from_gguf(&file).unwrap();
    let options = EncodeOptions { bos: false, special: vectors["special"].as_bool().unwrap() };
    let cases = vectors["cases"].as_array().unwrap();
    let (mut failed, mut lossless) = (0, 0);
    for case in cases {
        let text = case[0].as_str().unwrap();
        let want: Vec<u32> =
            case[1].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        let got = tokenizer.encode_vec(text, options);
        if got != want {
            failed += 1;
            if failed <= 5 {
                eprintln!("{}: {text:?}", path.display());
                let names =
                    |ids: &[u32]| ids.iter().map(|&id| tokenizer.name(id).into_owned()).collect::<Vec<_>>();
                eprintln!("  got  {got:?} {:?}\n  want {want:?} {:?}", names(&got), names(&want));
            }
        }
        if !options.special {
            assert!(
                got.iter().all(|&id| tokenizer.kind(id) != Kind::Control),
                "{text:?} became a control token"
            );
        }
        lossless += usize::from(got.iter().flat_map(|&id| tokenizer.bytes(id)).eq(text.as_bytes()));
    }
    eprintln!("{}: {} cases, {failed} differ, {lossless} decode to the text", path.display(), cases.len());
    failed
}
