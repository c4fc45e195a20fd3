//! Any text becomes ids of the built-in model's vocabulary, none of them a control token, and the ids
//! become the same text again, whole or streamed.
//!
//! `cargo +nightly fuzz run tokenizer_encode`
#![no_main]

use std::sync::LazyLock;

use gguf::Gguf;
use libfuzzer_sys::fuzz_target;
use text::{EncodeOptions, Stream, Tokenizer};

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let bytes = include_bytes!("../../crates/cli/assets/chat-7m.gguf");
    let file = Gguf::from_static("chat-7m.gguf", bytes).expect("the built-in model opens");
    Tokenizer::from_gguf(&file).expect("the built-in vocabulary is good")
});

fuzz_target!(|bytes: &[u8]| {
    let tokenizer = &*TOKENIZER;
    let text = String::from_utf8_lossy(bytes);
    let ids = tokenizer.encode_vec(&text, EncodeOptions::default());
    assert!(ids.iter().all(|&id| (id as usize) < tokenizer.len() && !tokenizer.is_control(id)));
    assert_eq!(tokenizer.decode(&ids), text);

    let mut stream = Stream::at_start(tokenizer);
    let mut streamed = String::new();
    for &id in &ids {
        stream.push(tokenizer, id, &mut streamed);
    }
    assert!(!stream.is_waiting(), "whole text leaves no half character");
    stream.finish(&mut streamed);
    assert_eq!(streamed, text);

    let special = tokenizer.encode_vec(&text, EncodeOptions { bos: true, special: true });
    assert!(special.iter().all(|&id| (id as usize) < tokenizer.len()));
});
