//! Vocabularies, and texts fed to rules.

// Each test file includes this module and uses what it needs.
#![allow(dead_code, unreachable_pub)]

pub mod validate;

use engine::{Rules, Sampler, Sampling};
use gguf::Gguf;
use grammar::{Error, Grammars, Limits, Source};
use std::path::Path;
use std::sync::{Arc, LazyLock};
use text::{EncodeOptions, Tokenizer};

/// The built-in model's vocabulary.
pub static BUILT_IN: LazyLock<Arc<Tokenizer>> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cli/assets/chat-7m.gguf");
    tokenizer(&path)
});

/// Rules over the built-in model's vocabulary.
pub static GRAMMARS: LazyLock<Grammars> = LazyLock::new(|| grammars(&BUILT_IN));

pub fn tokenizer(path: &Path) -> Arc<Tokenizer> {
    let file = Gguf::open(path).expect("the file is there");
    Arc::new(Tokenizer::from_gguf(&file).expect("its vocabulary is good"))
}

pub fn grammars(tokenizer: &Arc<Tokenizer>) -> Grammars {
    Grammars::new(tokenizer.clone(), Limits::default()).expect("every vocabulary will do")
}

pub fn compile(source: &Source) -> Result<Rules, Error> {
    GRAMMARS.compile(source)
}

/// Whether a text may be written and end there: byte after byte of it, so no way to cut it into tokens is
/// preferred. `None` where the vocabulary has no tokens for it.
pub fn follows(tokenizer: &Tokenizer, rules: &Rules, text: &str) -> Option<bool> {
    let ids = tokenizer.encode_vec(text, EncodeOptions::default());
    let mut bytes = ids.iter().flat_map(|&id| tokenizer.bytes(id)).copied().peekable();
    // The space that SentencePiece puts in front is no part of the text.
    let spaced = bytes.peek() == Some(&b' ') && !text.starts_with(' ');
    let same = bytes.skip(usize::from(spaced)).eq(text.bytes());
    same.then_some(())?;
    let one = |byte: u8| {
        (0..tokenizer.len() as u32).find(|&id| tokenizer.bytes(id) == [byte] && !tokenizer.is_control(id))
    };
    let mut constraint = rules.0.start();
    let mut scores = vec![0.0f32; tokenizer.len()];
    for byte in text.bytes() {
        let id = one(byte)?;
        scores.fill(0.0);
        if constraint.finished() || constraint.mask(&mut scores).is_err() {
            return Some(false);
        }
        if scores[id as usize] == f32::NEG_INFINITY {
            // The text may be forced in longer tokens: then the whole is tried in those.
            return Some(canonical(tokenizer, rules, text));
        }
        if constraint.accept(id).is_err() {
            return Some(false);
        }
    }
    Some(ends(tokenizer, &mut *constraint))
}

/// Whether the tokenizer's own tokens of a text may be written.
fn canonical(tokenizer: &Tokenizer, rules: &Rules, text: &str) -> bool {
    let mut constraint = rules.0.start();
    let mut scores = vec![0.0f32; tokenizer.len()];
    for id in tokenizer.encode_vec(text, EncodeOptions::default()) {
        scores.fill(0.0);
        if constraint.finished()
            || constraint.mask(&mut scores).is_err()
            || scores[id as usize] == f32::NEG_INFINITY
        {
            return false;
        }
        if constraint.accept(id).is_err() {
            return false;
        }
    }
    ends(tokenizer, &mut *constraint)
}

fn ends(tokenizer: &Tokenizer, constraint: &mut dyn engine::Constraint) -> bool {
    let mut scores = vec![0.0f32; tokenizer.len()];
    constraint.finished()
        || (constraint.mask(&mut scores).is_ok()
            && tokenizer.ends().iter().any(|&end| scores[end as usize] == 0.0))
}

/// A text written by chance: what `seed` gives, hurrying to the end after `hurry` tokens. `None` if it did
/// not end after four times as many.
pub fn write(tokenizer: &Tokenizer, rules: &Rules, seed: u64, hurry: usize) -> Option<String> {
    let mut constraint = rules.0.start();
    let sampling = |temperature, bias| Sampling {
        temperature,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        seed,
        logit_bias: bias,
        ..Sampling::default()
    };
    let vocab = tokenizer.len();
    let mut free = Sampler::new(&sampling(1.0, vec![]), vocab, 1).expect("the settings are good");
    let closing = ["\"", "}", "]", "\"}", "\"]", "]}", "0", "1", "false", "null", "a"];
    let bias = closing.iter().filter_map(|text| tokenizer.id(text)).map(|id| (id, 20.0));
    let bias = bias.chain(tokenizer.ends().iter().map(|&id| (id, 60.0))).collect();
    let mut hurried = Sampler::new(&sampling(1.0, bias), vocab, 1).expect("the settings are good");
    let mut random = engine::sample::Rng::new(seed);
    let mut bytes: Vec<u8> = Vec::new();
    let mut logits = vec![0.0f32; vocab];
    for step in 0..4 * hurry {
        for logit in &mut logits {
            *logit = (random.bits() >> 40) as f32 / (1 << 21) as f32 - 4.0;
        }
        let sampler = if step < hurry { &mut free } else { &mut hurried };
        let token = sampler.sample_within(&logits, &mut *constraint).expect("the rules can be followed");
        if tokenizer.is_end(token) {
            return Some(String::from_utf8(bytes).expect("the text is whole characters"));
        }
        assert!(!tokenizer.is_control(token), "a control token was chosen");
        bytes.extend_from_slice(tokenizer.bytes(token));
        constraint.accept(token).expect("what the mask left is accepted");
        if constraint.finished() {
            return Some(String::from_utf8(bytes).expect("the text is whole characters"));
        }
    }
    None
}
