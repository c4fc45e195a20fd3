//! Streamed text is the whole text, whatever the tokens.

mod common;

use gguf::Gguf;
use proptest::prelude::*;
use text::{EncodeOptions, Stream, Tokenizer};

fn real(name: &str) -> Option<Tokenizer> {
    let path = testkit::shared(&format!("fixtures/tokenizers/ggml-vocab-{name}.gguf"))?;
    Some(Tokenizer::from_gguf(&Gguf::open(&path).unwrap()).unwrap())
}

/// Streams the tokens; checks that every part is whole and that no part comes late.
fn streamed(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let mut stream = Stream::new().with_control(true);
    let mut out = String::new();
    let mut all = Vec::new();
    for &id in ids {
        stream.push(tokenizer, id, &mut out);
        all.extend_from_slice(tokenizer.bytes(id));
        // What is not out yet is at most the start of one character.
        let whole = String::from_utf8_lossy(&all);
        let rest = whole.strip_prefix(out.as_str()).expect("the text so far is a prefix");
        assert!(rest.is_empty() || rest == "\u{fffd}", "{rest:?} is held back");
        assert_eq!(stream.is_waiting(), !rest.is_empty());
    }
    stream.finish(&mut out);
    assert!(!stream.is_waiting());
    assert_eq!(out, String::from_utf8_lossy(&all));
    out
}

#[test]
fn every_sequence_of_bytes() {
    let tokenizer = common::load(&common::bpe()).unwrap();
    // All pairs and triples of the bytes that matter to UTF-8, as one token each.
    let bytes = [
        0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC1, 0xC2, 0xDF, 0xE0, 0xED, 0xEF, 0xF0, 0xF4,
        0xF5, 0xFF,
    ];
    for a in bytes {
        for b in bytes {
            for c in bytes {
                for d in bytes {
                    streamed(&tokenizer, &[a, b, c, d]);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes_in_any_order(ids in prop::collection::vec(0u32..262, 0..80)) {
        streamed(&common::load(&common::bpe()).unwrap(), &ids);
        streamed(&common::load(&common::spm()).unwrap(), &ids);
    }

    #[test]
    fn any_text_of_bpe_comes_back(text in any::<String>()) {
        let tokenizer = common::load(&common::bpe()).unwrap();
        let ids = tokenizer.encode_vec(&text, EncodeOptions::default());
        prop_assert_eq!(streamed(&tokenizer, &ids), text.as_str());
        prop_assert_eq!(tokenizer.decode(&ids), text);
    }

    #[test]
    fn any_text_of_spm_comes_back(text in "[ ab\u{e9}\u{1f600}\n]{0,40}") {
        let tokenizer = common::load(&common::spm()).unwrap();
        let ids = tokenizer.encode_vec(&text, EncodeOptions { bos: true, special: false });
        prop_assert_eq!(tokenizer.decode(&ids), text);
    }
}

#[test]
fn random_tokens_of_real_vocabularies() {
    for name in ["llama-bpe", "llama-spm", "gemma-4", "deepseek-llm"] {
        let Some(tokenizer) = real(name) else { return };
        let mut state = 1u64;
        for _ in 0..200 {
            let ids: Vec<u32> = (0..60)
                .map(|_| {
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    (state >> 33) as u32 % (tokenizer.len() as u32 + 2)
                })
                .collect();
            streamed(&tokenizer, &ids);
        }
    }
}

#[test]
fn control_tokens_and_the_leading_space() {
    let tokenizer = common::load(&common::spm()).unwrap();
    let text = |mut stream: Stream, ids: &[u32]| {
        let mut out = String::new();
        for &id in ids {
            stream.push(&tokenizer, id, &mut out);
        }
        stream.finish(&mut out);
        out
    };
    // <s> ▁a b </s>
    let ids = [1, 263, 261, 2];
    assert_eq!(text(Stream::new(), &ids), " ab");
    assert_eq!(text(Stream::at_start(&tokenizer), &ids), "ab");
    assert_eq!(text(Stream::at_start(&tokenizer), &[259, 263]), " a");
    assert_eq!(text(Stream::new().with_control(true), &ids), "<s> ab</s>");
    // A token outside the vocabulary is nothing.
    assert_eq!(text(Stream::new(), &[260, 99999, 261]), "ab");
    let bpe = common::load(&common::bpe()).unwrap();
    assert_eq!(bpe.decode(&[258, 259, 257]), " thethe");
}
