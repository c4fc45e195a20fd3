//! Any vocabulary loads or is refused; what loads encodes any text to ids that it has.
//!
//! The input: a byte that chooses algorithm and pre-tokenizer, then pieces divided by 0xff: tokens with
//! their kind and score in the first two bytes, a piece that is the text, merges.
//!
//! `cargo +nightly fuzz run tokenizer_load`
#![no_main]

use gguf::{Gguf, StringList, Writer};
use libfuzzer_sys::fuzz_target;
use text::{EncodeOptions, Tokenizer};

const PRE: [&str; 8] =
    ["gpt-2", "llama-bpe", "qwen2", "qwen35", "falcon", "deepseek-llm", "starcoder", "gpt-4o"];

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, rest)) = bytes.split_first() else { return };
    let mut pieces = rest.split(|&byte| byte == 0xff);
    let text = String::from_utf8_lossy(pieces.next().unwrap_or_default());
    let mut tokens = StringList::default();
    let (mut kinds, mut scores, mut merges) = (Vec::new(), Vec::new(), StringList::default());
    for piece in pieces {
        match piece {
            [b'm', merge @ ..] => merges.push(merge),
            [kind, score, token @ ..] => {
                tokens.push(token);
                kinds.push(i32::from(*kind % 8));
                scores.push(f32::from(*score) - 128.0);
            }
            _ => {}
        }
    }
    // Half of the vocabularies can spell any byte; most of the others are refused.
    if choice & 1 == 1 {
        for byte in 0..=255u8 {
            tokens.push(format!("<0x{byte:02X}>").as_bytes());
            kinds.push(6);
            scores.push(0.0);
        }
    }
    let mut writer = Writer::new();
    let mut set = |key: &str, value: gguf::Value| writer.set(key, value).expect("the key is good");
    let model = ["llama", "gpt2", "gemma4"][usize::from(choice >> 1) % 3];
    set("tokenizer.ggml.model", model.into());
    set("tokenizer.ggml.pre", PRE[usize::from(choice >> 3) % PRE.len()].into());
    set("tokenizer.ggml.tokens", tokens.into());
    set("tokenizer.ggml.token_type", kinds.into());
    set("tokenizer.ggml.scores", scores.into());
    set("tokenizer.ggml.merges", merges.into());
    set("tokenizer.ggml.add_space_prefix", (choice & 0x80 != 0).into());
    let file = writer.start(Vec::new()).and_then(gguf::Body::finish).expect("memory takes the file");
    let file = Gguf::from_bytes("fuzz.gguf", file).expect("what was written can be read");
    let Ok(tokenizer) = Tokenizer::from_gguf(&file) else { return };
    for special in [false, true] {
        let ids = tokenizer.encode_vec(&text, EncodeOptions { bos: special, special });
        assert!(ids.iter().all(|&id| (id as usize) < tokenizer.len()));
        let _ = tokenizer.decode(&ids);
        for id in ids {
            let _ = tokenizer.name(id);
        }
    }
});
