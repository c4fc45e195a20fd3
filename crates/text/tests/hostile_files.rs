//! Vocabularies that are damaged, unknown or made to hurt.

mod common;

use std::time::Instant;

use common::{bpe, gpt2_name, load, set, spm, strings};
use gguf::{Value, Writer};
use text::{EncodeOptions, Kind, Tokenizer};

fn encode(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    tokenizer.encode_vec(text, EncodeOptions::default())
}

#[test]
fn small_vocabularies_work() {
    let bpe = load(&bpe()).unwrap();
    assert_eq!(encode(&bpe, "the the<|end|>"), [[257, 258].as_slice(), &b"<|end|>".map(u32::from)].concat());
    let special = EncodeOptions { bos: true, special: true };
    assert_eq!(bpe.encode_vec("the<|end|>", special), [257, 259]);
    assert_eq!((bpe.len(), bpe.bos(), bpe.eos(), bpe.add_bos()), (260, None, Some(259), false));
    assert!(bpe.is_end(259) && bpe.is_control(259) && !bpe.is_end(257));
    assert_eq!((bpe.id("<|end|>"), bpe.id(" the"), bpe.id("nope")), (Some(259), Some(258), None));
    assert_eq!((bpe.bytes(258), bpe.name(10).as_ref()), (&b" the"[..], "\\n"));
    assert_eq!((bpe.bytes(260), bpe.kind(u32::MAX)), (&b""[..], Kind::Unused));
    assert!(bpe.specials().eq([(&b"<|end|>"[..], 259)]));

    let spm = load(&spm()).unwrap();
    assert_eq!((spm.bos(), spm.eos(), spm.add_bos()), (Some(1), Some(2), true));
    // ▁ab: "ab" has the better score than "▁a". é and the line end fall back to bytes.
    assert_eq!(encode(&spm, "ab"), [259, 262]);
    assert_eq!(encode(&spm, "a é\n"), [263, 259, 3 + 0xC3, 3 + 0xA9, 3 + 10]);
    assert_eq!(spm.encode_vec("a</s>a", special), [1, 263, 2, 263]);
    assert!(encode(&spm, "").is_empty());
    assert_eq!(spm.decode(&[1, 263, 259, 198, 172, 2]), "a é");
}

#[test]
fn refused_by_name() {
    /// What the message says, the file to start from, what is wrong with it.
    type Case = (&'static str, fn() -> Writer, fn(&mut Writer));
    let cases: &[Case] = &[
        ("model is \"t5\"", bpe, |f| set(f, "model", "t5")),
        ("model is \"bert\"", bpe, |f| set(f, "model", "bert")),
        ("model is \"rwkv\"", bpe, |f| set(f, "model", "rwkv")),
        ("model is \"plamo2\"", bpe, |f| set(f, "model", "plamo2")),
        ("model is \"no_vocab\"", bpe, |f| set(f, "model", "no_vocab")),
        ("\\u{1b}[31m", bpe, |f| set(f, "model", "\u{1b}[31m")),
        ("tokenizer.ggml.model", bpe, |f| set(f, "model", 7u32)),
        ("tokenizer.ggml.model", bpe, |f| drop(f.remove("tokenizer.ggml.model"))),
        ("tokenizer.ggml.pre is missing", bpe, |f| drop(f.remove("tokenizer.ggml.pre"))),
        ("tokenizer.ggml.pre is \"qwen9\", which is not known", bpe, |f| set(f, "pre", "qwen9")),
        ("tokenizer.ggml.pre is \"\"", bpe, |f| set(f, "pre", "")),
        ("tokenizer.ggml.pre", bpe, |f| set(f, "pre", true)),
        ("tokenizer.ggml.tokens", bpe, |f| drop(f.remove("tokenizer.ggml.tokens"))),
        ("tokenizer.ggml.tokens", bpe, |f| set(f, "tokens", vec![1i32, 2])),
        ("at least 1 token", bpe, |f| set(f, "tokens", strings::<&str>(&[]))),
        ("tokenizer.ggml.token_type has 3 values for 260 tokens", bpe, |f| {
            set(f, "token_type", vec![1i32, 1, 1]);
        }),
        ("tokenizer.ggml.token_type has 261 values", bpe, |f| set(f, "token_type", vec![1i32; 261])),
        ("token 4 of tokenizer.ggml.tokens has type 7", bpe, |f| {
            let mut types = vec![1i32; 260];
            types[4] = 7;
            set(f, "token_type", types);
        }),
        ("tokenizer.ggml.token_type", bpe, |f| set(f, "token_type", vec![1f32; 260])),
        ("tokenizer.ggml.scores has 2 values for 264 tokens", spm, |f| set(f, "scores", vec![0f32; 2])),
        ("tokenizer.ggml.scores", spm, |f| drop(f.remove("tokenizer.ggml.scores"))),
        ("token 5 of tokenizer.ggml.tokens has the score NaN", spm, |f| {
            let mut scores = vec![0f32; 264];
            scores[5] = f32::NAN;
            set(f, "scores", scores);
        }),
        ("tokenizer.ggml.merges", bpe, |f| drop(f.remove("tokenizer.ggml.merges"))),
        ("rule 1 of tokenizer.ggml.merges, \"the\"", bpe, |f| set(f, "merges", strings(&["t h", "the"]))),
        ("rule 0 of tokenizer.ggml.merges, \"t \"", bpe, |f| set(f, "merges", strings(&["t "]))),
        ("rule 0 of tokenizer.ggml.merges, \" t\"", bpe, |f| set(f, "merges", strings(&[" t"]))),
        ("rule 0 of tokenizer.ggml.merges, \"\"", bpe, |f| set(f, "merges", strings(&[""]))),
        ("token 0 of tokenizer.ggml.tokens is 16777216 bytes long", bpe, |f| {
            set(f, "tokens", strings(&vec!["x".repeat(1 << 24); 1]));
            set(f, "token_type", vec![1i32]);
        }),
        ("token 1 of tokenizer.ggml.tokens repeats token 0", bpe, |f| {
            set(f, "tokens", strings(&["x", "x"]));
            set(f, "token_type", vec![1i32; 2]);
        }),
        ("no token for byte 0x41", spm, |f| {
            let Some(Value::Array(gguf::Array::I32(mut types))) = f.remove("tokenizer.ggml.token_type")
            else {
                unreachable!("spm() sets it")
            };
            types[3 + 0x41] = 1;
            set(f, "token_type", types);
        }),
        ("is a byte named \"<unk>\"", spm, |f| set(f, "token_type", vec![6i32; 264])),
        ("tokenizer.ggml.bos_token_id", bpe, |f| set(f, "bos_token_id", 260u32)),
        ("tokenizer.ggml.bos_token_id", bpe, |f| set(f, "bos_token_id", -1i32)),
        ("tokenizer.ggml.eos_token_id", bpe, |f| set(f, "eos_token_id", u32::MAX)),
        ("tokenizer.ggml.eos_token_id", spm, |f| set(f, "eos_token_id", "2")),
        ("tokenizer.ggml.eot_token_id", bpe, |f| set(f, "eot_token_id", u64::MAX)),
        ("tokenizer.ggml.eom_token_id", bpe, |f| set(f, "eom_token_id", 1f32)),
        ("tokenizer.ggml.add_bos_token", bpe, |f| set(f, "add_bos_token", 1u32)),
        ("tokenizer.ggml.add_space_prefix", spm, |f| set(f, "add_space_prefix", "yes")),
    ];
    for (want, base, edit) in cases {
        let mut file = base();
        edit(&mut file);
        match load(&file) {
            Ok(_) => panic!("accepted: {want}"),
            Err(error) => {
                let message = error.to_string();
                assert!(message.contains(want), "{want}: {message}");
                assert!(message.contains("small.gguf"), "{want}: {message}");
            }
        }
    }
}

#[test]
fn harmless_oddities_are_accepted() {
    // Several empty tokens, tokens that are no UTF-8, merges whose parts or results are no tokens.
    let mut names: Vec<Vec<u8>> = (0..=255).map(|byte| gpt2_name(byte).into_bytes()).collect();
    names.extend([
        b"".to_vec(),
        b"".to_vec(),
        b"\xff\xfe".to_vec(),
        b"abc".to_vec(),
        b"plain space".to_vec(),
    ]);
    let mut file = bpe();
    set(&mut file, "tokens", strings(&names));
    set(&mut file, "token_type", vec![1i32; 261]);
    set(&mut file, "merges", strings(&["a b", "a b", "ab c", "x yz", "\u{3042} a", "q w"]));
    let tokenizer = load(&file).unwrap();
    assert_eq!(encode(&tokenizer, "abc"), [259], "through a merge that is no token");
    assert_eq!(encode(&tokenizer, "ab"), [97, 98], "no token, so its bytes");
    assert_eq!(encode(&tokenizer, "qw"), [113, 119]);
    assert_eq!((tokenizer.bytes(256), tokenizer.kind(256)), (&b""[..], Kind::Unused));
    assert_eq!(tokenizer.bytes(258), b"\xff\xfe");
    assert_eq!(tokenizer.bytes(260), b"plain space");
    assert_eq!(tokenizer.decode(&[258, 97]), "\u{fffd}\u{fffd}a");
    assert_eq!(encode(&tokenizer, "plain space").len(), 11);

    // A special token that is no UTF-8 is never found, and an empty one neither.
    let mut types = vec![1i32; 261];
    types[256] = 3;
    types[258] = 3;
    set(&mut file, "token_type", types);
    let special = EncodeOptions { bos: true, special: true };
    assert_eq!(load(&file).unwrap().encode_vec("é", special), [0xC3, 0xA9]);

    // No types: all normal.
    file.remove("tokenizer.ggml.token_type");
    assert_eq!(load(&file).unwrap().kind(3), Kind::Normal);
}

/// Found by fuzzing: a byte token without a name ended the program.
#[test]
fn empty_tokens_of_every_type() {
    for base in [bpe, spm] {
        for kind in 0..=6 {
            let mut file = base();
            let Some(Value::Array(gguf::Array::Str(names))) = file.remove("tokenizer.ggml.tokens") else {
                unreachable!("both vocabularies set it")
            };
            let mut names: Vec<Vec<u8>> = names.view().iter().map(<[u8]>::to_vec).collect();
            let Some(Value::Array(gguf::Array::I32(mut types))) = file.remove("tokenizer.ggml.token_type")
            else {
                unreachable!("both vocabularies set it")
            };
            let plain = encode(&load(&base()).unwrap(), "a the ab");
            let empty = names.len() as u32;
            names.extend([vec![], vec![]]);
            types.extend([kind, kind]);
            if let Some(Value::Array(gguf::Array::F32(mut scores))) = file.remove("tokenizer.ggml.scores") {
                scores.extend([0.0; 2]);
                set(&mut file, "scores", scores);
            }
            set(&mut file, "tokens", strings(&names));
            set(&mut file, "token_type", types);
            let tokenizer = load(&file).unwrap();
            assert_eq!(tokenizer.bytes(empty), b"", "type {kind}");
            assert_eq!(tokenizer.decode(&[empty, empty + 1]), "", "type {kind}");
            assert_eq!(encode(&tokenizer, "a the ab"), plain, "type {kind}");
            let special = EncodeOptions { bos: false, special: true };
            assert_eq!(tokenizer.encode_vec("a the ab", special), plain, "type {kind}");
            assert!(tokenizer.specials().all(|(name, _)| !name.is_empty()), "type {kind}");
        }
    }
}

/// Memory and time grow in proportion to the numbers.
#[test]
fn many_tokens_and_rules() {
    let count = 1_000_000;
    let mut names: Vec<String> = (0..=255).map(gpt2_name).collect();
    names.extend((0..count).map(|i| format!("<t{i}>")));
    let mut file = bpe();
    let mut types = vec![1i32; names.len()];
    types[256..].fill(4);
    set(&mut file, "tokens", strings(&names));
    set(&mut file, "token_type", types);
    set(&mut file, "merges", strings(&(0..count).map(|i| format!("<t {i}>")).collect::<Vec<_>>()));
    let file = common::gguf(&file);
    let start = Instant::now();
    let loaded = Tokenizer::from_gguf(&file);
    eprintln!("{count} user-defined tokens and rules: {:.1?}", start.elapsed());
    let tokenizer = loaded.unwrap();
    assert_eq!(encode(&tokenizer, "<t123456><t999999>!"), [256 + 123_456, 256 + 999_999, 33]);
    assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
}
