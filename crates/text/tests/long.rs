//! Texts that are long in one way: the time must grow with the length, not with its square.

use std::time::{Duration, Instant};

use gguf::Gguf;
use text::{EncodeOptions, Tokenizer};

#[test]
fn long_runs() {
    let texts = [
        ("letters", "a".repeat(43_000)),
        ("marks", format!("e{}", "\u{301}".repeat(100_000))),
        ("lone marks", "\u{301}".repeat(100_000)),
        ("line ends", "\n".repeat(100_000)),
        ("CRLF", "\r\n".repeat(100_000)),
        ("spaces", " ".repeat(100_000)),
        ("spaces before a letter", format!("{}x", " ".repeat(100_000))),
        ("mixed spaces", " \t\u{3000}\u{a0}".repeat(50_000)),
        ("apostrophes", "'".repeat(100_000)),
        ("digits", "7".repeat(100_000)),
        ("capitals", "A".repeat(100_000)),
        ("case changes", "aA".repeat(100_000)),
        ("emoji family", "👨\u{200d}👩\u{200d}👧".repeat(20_000)),
        ("CJK", "中".repeat(100_000)),
        ("unassigned", "\u{e0fff}".repeat(100_000)),
        ("NUL", "\0".repeat(100_000)),
        ("openings", "<|".repeat(100_000)),
        ("space marks", "▁".repeat(100_000)),
        ("5 MB of A", "A".repeat(5_000_000)),
    ];
    let names = [
        "deepseek-llm",
        "falcon",
        "gemma-4",
        "gpt-2",
        "llama-bpe",
        "llama-spm",
        "phi-3",
        "qwen2",
        "starcoder",
    ];
    for name in names {
        let Some(path) = testkit::shared(&format!("fixtures/tokenizers/ggml-vocab-{name}.gguf")) else {
            return;
        };
        let tokenizer = Tokenizer::from_gguf(&Gguf::open(&path).unwrap()).unwrap();
        for (what, text) in &texts {
            // Once per algorithm is enough of the longest.
            if text.len() > 2_000_000 && !["gemma-4", "llama-bpe", "llama-spm"].contains(&name) {
                continue;
            }
            let start = Instant::now();
            let ids = tokenizer.encode_vec(text, EncodeOptions { bos: true, special: true });
            let spent = start.elapsed();
            if spent > Duration::from_millis(200) {
                eprintln!("{name}: {what}: {} tokens in {spent:.0?}", ids.len());
            }
            assert!(spent < Duration::from_secs(20), "{name}: {what} took {spent:?}");
        }
    }
}

/// Names of special tokens, each many times, all in one text.
#[test]
fn many_special_tokens() {
    let Some(path) = testkit::shared("fixtures/tokenizers/ggml-vocab-llama-bpe.gguf") else { return };
    let tokenizer = Tokenizer::from_gguf(&Gguf::open(&path).unwrap()).unwrap();
    let names: Vec<(&[u8], u32)> = tokenizer.specials().collect();
    assert_eq!(names.len(), 256);
    let text: String = names.iter().map(|(name, _)| std::str::from_utf8(name).unwrap()).collect();
    let ids: Vec<u32> = names.iter().map(|&(_, id)| id).collect();
    let start = Instant::now();
    let special = EncodeOptions { bos: false, special: true };
    assert_eq!(tokenizer.encode_vec(&text.repeat(200), special), ids.repeat(200));
    let plain = tokenizer.encode_vec(&text.repeat(200), EncodeOptions::default());
    assert!(plain.iter().all(|&id| !tokenizer.is_control(id)));
    assert_eq!(tokenizer.decode(&plain), text.repeat(200));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}
