//! llama.cpp's published token vectors, one vocabulary after the other.

use std::fs;

use gguf::Gguf;
use text::{EncodeOptions, Kind, Tokenizer};

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
        eprintln!("{name}: {} cases", cases.len());
    }
    assert_eq!(failed, 0);
}

#[test]
fn ends_and_beginnings() {
    // Name, bos, whether it goes in front, all tokens that end an answer.
    let wanted: [(&str, Option<&str>, bool, &[&str]); 9] = [
        ("deepseek-llm", Some("<｜begin▁of▁sentence｜>"), true, &["<｜end▁of▁sentence｜>"]),
        ("falcon", Some("<|endoftext|>"), false, &["<|endoftext|>"]),
        ("gemma-4", Some("<bos>"), true, &["<eos>", "<|tool_response>", "<turn|>"]),
        ("gpt-2", Some("<|endoftext|>"), false, &["<|endoftext|>"]),
        ("llama-bpe", Some("<|begin_of_text|>"), true, &["<|end_of_text|>", "<|eot_id|>"]),
        ("llama-spm", Some("<s>"), true, &["</s>"]),
        ("phi-3", Some("<s>"), true, &["</s>", "<|endoftext|>", "<|end|>"]),
        ("qwen2", Some("<|endoftext|>"), false, &["<|endoftext|>", "<|im_end|>"]),
        ("starcoder", Some("<|endoftext|>"), false, &["<|endoftext|>"]),
    ];
    for (name, bos, add_bos, ends) in wanted {
        let Some(tokenizer) = load(name) else { return };
        let text = |id: u32| std::str::from_utf8(tokenizer.bytes(id)).unwrap();
        assert_eq!((tokenizer.bos().map(text), tokenizer.add_bos()), (bos, add_bos), "{name}");
        let found: Vec<&str> = tokenizer.ends().iter().map(|&id| text(id)).collect();
        assert_eq!(found, ends, "{name}");
    }
}

/// Phi-3's tokens swallow the white space behind them; text after them starts with a space again.
#[test]
fn phi3_chat() {
    let Some(tokenizer) = load("phi-3") else { return };
    let ids = |names: &[&str]| names.iter().map(|name| tokenizer.id(name).unwrap()).collect::<Vec<_>>();
    let special = EncodeOptions { bos: true, special: true };
    assert_eq!(
        tokenizer.encode_vec("<|user|>\n \tHello<|end|>\n<|assistant|>\n", special),
        ids(&["<s>", "<|user|>", " Hello", "<|end|>", "<|assistant|>"]),
    );
    // <s> does not.
    assert_eq!(tokenizer.encode_vec("<s> a", special), ids(&["<s>", "<s>", " ", " a"]));
}

/// User-defined tokens are found in every text, control tokens only in templates.
#[test]
fn special_tokens_in_text() {
    let Some(tokenizer) = load("gemma-4") else { return };
    let id = |name| tokenizer.id(name).unwrap();
    let text = "a<|tool_call>b<turn|>";
    let plain = tokenizer.encode_vec(text, EncodeOptions::default());
    assert!(plain.contains(&id("<|tool_call>")) && !plain.contains(&id("<turn|>")));
    assert_eq!(tokenizer.decode(&plain), text);
    let special = tokenizer.encode_vec(text, EncodeOptions { bos: true, special: true });
    assert_eq!(special, [id("<bos>"), id("a"), id("<|tool_call>"), id("b"), id("<turn|>")]);
    assert_eq!(tokenizer.kind(id("<|tool_call>")), Kind::UserDefined);
}
