//! llama.cpp's published token vectors, one vocabulary after the other.

use std::fs;

use gguf::Gguf;
use text::{EncodeOptions, Tokenizer};

const NAMES: [&str; 9] =
    ["deepseek-llm", "falcon", "gemma-4", "gpt-2", "llama-bpe", "llama-spm", "phi-3", "qwen2", "starcoder"];

fn load(name: &str) -> Option<Tokenizer> {
    let path = testkit::shared(&format!("fixtures/tokenizers/ggml-vocab-{name}.gguf"))?;
    Some(Tokenizer::from_gguf(&Gguf::open(&path).unwrap()).unwrap())
}

/// The cases of a vocabulary: text and ids.
fn cases(name: &str) -> Option<Vec<(String, Vec<u32>)>> {
    let base = testkit::shared(&format!("fixtures/tokenizers/ggml-vocab-{name}.gguf"))?;
    let read = |ending: &str| fs::read_to_string(format!("{}.{ending}", base.display())).unwrap();
    let (texts, ids) = (read("inp"), read("out"));
    // A separator at the end leaves one text more than there are lines of ids.
    let texts = texts.split("\n__ggml_vocab_test__\n");
    let ids = ids.lines().map(|line| line.split_whitespace().map(|id| id.parse().unwrap()).collect());
    Some(texts.map(str::to_owned).zip(ids).collect())
}

#[test]
fn published_vectors() {
    let mut failed = 0;
    for name in NAMES {
        let (Some(tokenizer), Some(cases)) = (load(name), cases(name)) else { return };
        assert!(cases.len() > 40, "{name}: only {} cases", cases.len());
        for (text, want) in &cases {
            let got = tokenizer.encode_vec(text, EncodeOptions::default());
            if got != *want {
                eprintln!("{name}: {text:?}\n  got  {got:?}\n  want {want:?}");
                failed += 1;
            }
        }
        println!("{name}: {} cases", cases.len());
    }
    assert_eq!(failed, 0);
}
