//! Small vocabularies made on the spot.
#![allow(dead_code, reason = "every test file uses a part")]

use gguf::{Array, Gguf, StringList, Value, Writer};
use text::{Error, Tokenizer};

/// GPT-2's name for a byte.
pub(crate) fn gpt2_name(byte: u8) -> String {
    let printable = |byte: u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let name = if printable(byte) {
        u32::from(byte)
    } else {
        256 + (0..byte).filter(|&before| !printable(before)).count() as u32
    };
    char::from_u32(name).unwrap().to_string()
}

/// Byte-level BPE: tokens 0 to 255 are the bytes, then "th", "the", " the", then `<|end|>` (control).
pub(crate) fn bpe() -> Writer {
    let mut tokens: Vec<String> = (0..=255).map(gpt2_name).collect();
    tokens.extend(["th", "the", "Ġthe", "<|end|>"].map(String::from));
    let mut types = vec![1i32; 259];
    types.push(3);
    let mut file = Writer::new();
    set(&mut file, "model", "gpt2");
    set(&mut file, "pre", "gpt-2");
    set(&mut file, "tokens", strings(&tokens));
    set(&mut file, "token_type", types);
    set(&mut file, "merges", strings(&["t h", "th e", "Ġ the"]));
    set(&mut file, "eos_token_id", 259u32);
    file
}

/// SentencePiece: `<unk>`, `<s>`, `</s>`, 256 bytes, then ▁ a b ab ▁a.
pub(crate) fn spm() -> Writer {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).into();
    let mut types = vec![2i32, 3, 3];
    tokens.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    types.resize(259, 6);
    tokens.extend(["▁", "a", "b", "ab", "▁a"].map(String::from));
    types.resize(264, 1);
    let mut scores = vec![0f32; 259];
    scores.extend([-10.0, -9.0, -8.0, -2.0, -3.0]);
    let mut file = Writer::new();
    set(&mut file, "model", "llama");
    set(&mut file, "tokens", strings(&tokens));
    set(&mut file, "token_type", types);
    set(&mut file, "scores", scores);
    file
}

pub(crate) fn set(file: &mut Writer, key: &str, value: impl Into<Value>) {
    file.set(&format!("tokenizer.ggml.{key}"), value).unwrap();
}

pub(crate) fn strings<S: AsRef<[u8]>>(list: &[S]) -> Value {
    Value::Array(Array::Str(list.iter().collect::<StringList>()))
}

pub(crate) fn gguf(file: &Writer) -> Gguf {
    Gguf::from_bytes("small.gguf", file.start(Vec::new()).unwrap().finish().unwrap()).unwrap()
}

pub(crate) fn load(file: &Writer) -> Result<Tokenizer, Error> {
    Tokenizer::from_gguf(&gguf(file))
}
