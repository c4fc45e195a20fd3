//! Every file of the shared fixtures opens, and what they hold is what the `gguf` package of PyPI finds.

use std::path::{Path, PathBuf};

use gguf::Gguf;

/// File, keys, tensors and bytes of tensor data, as `gguf.GGUFReader` of PyPI counts them.
const COUNTED: [(&str, usize, usize, u64); 20] = [
    ("fixtures/models/stories260K.gguf", 20, 47, 1040128),
    ("fixtures/reference/gemma2.gguf", 25, 46, 6046720),
    ("fixtures/reference/gemma3.gguf", 26, 93, 10387968),
    ("fixtures/reference/llama2.gguf", 22, 30, 3873792),
    ("fixtures/reference/llama3.gguf", 22, 30, 3611712),
    ("fixtures/reference/phi3.gguf", 25, 22, 3611744),
    ("fixtures/reference/qwen2.gguf", 22, 38, 3616256),
    ("fixtures/reference/qwen3.gguf", 22, 35, 4596224),
    ("fixtures/reference/smollm3.gguf", 22, 38, 4727808),
    ("fixtures/tokenizers/ggml-vocab-deepseek-llm.gguf", 23, 0, 0),
    ("fixtures/tokenizers/ggml-vocab-falcon.gguf", 18, 0, 0),
    ("fixtures/tokenizers/ggml-vocab-gemma-4.gguf", 42, 0, 0),
    ("fixtures/tokenizers/ggml-vocab-gpt-2.gguf", 16, 0, 0),
    ("fixtures/tokenizers/ggml-vocab-llama-bpe.gguf", 20, 0, 0),
    ("fixtures/tokenizers/ggml-vocab-llama-spm.gguf", 22, 0, 0),
    ("fixtures/tokenizers/ggml-vocab-phi-3.gguf", 26, 0, 0),
    ("fixtures/tokenizers/ggml-vocab-qwen2.gguf", 20, 0, 0),
    ("fixtures/tokenizers/ggml-vocab-starcoder.gguf", 19, 0, 0),
    ("models/chat-42m-f16.gguf", 32, 110, 83937280),
    ("models/chat-7m-f16.gguf", 32, 56, 13644800),
];

#[test]
fn counts_are_those_of_the_python_reader() {
    for (name, keys, tensors, bytes) in COUNTED {
        let Some(path) = testkit::shared(name) else { continue };
        let file = Gguf::open(&path).unwrap_or_else(|e| panic!("{e}"));
        let found = (file.keys().len(), file.tensors().len(), file.tensors().iter().map(|t| t.bytes).sum());
        assert_eq!(found, (keys, tensors, bytes), "{name}");
    }
}

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

#[test]
fn values_are_those_of_the_python_reader() {
    let Some(path) = testkit::shared("fixtures/models/stories260K.gguf") else { return };
    let file = Gguf::open(&path).unwrap();
    let tokens = file.strings("tokenizer.ggml.tokens").unwrap();
    assert_eq!(tokens.len(), 512);
    let some = [0, 3, 300, 511].map(|i| &tokens[i]);
    assert_eq!(some, [&b"<unk>"[..], b"<0x00>", b"\xe2\x96\x81ha", b"\xe2\x80\x8a"]);
    // The last weight of each tensor, bit for bit.
    for (name, shape, last) in [
        ("token_embd.weight", &[64, 512][..], 0xbed9_1acdu32),
        ("output_norm.weight", &[64], 0x3fda_986f),
        ("blk.4.ffn_down.weight", &[172, 64], 0xbb65_d38b),
        ("blk.4.ffn_up.weight", &[64, 172], 0x3dd9_2746),
    ] {
        let tensor = file.tensor(name).unwrap();
        assert_eq!(tensor.shape, shape);
        let mut weight = [0; 4];
        file.read(tensor, tensor.bytes - 4, &mut weight).unwrap();
        assert_eq!(u32::from_le_bytes(weight), last, "{name}");
    }
}
