//! A small vocabulary and engines on the fake runner.

// Each test file includes this module and uses what it needs.
#![allow(dead_code, unreachable_pub)]

use engine::{Engine, Event, Params, Sampler, SequenceId, Summary};
use gguf::{Body, Gguf, StringList, Value, Writer};
use model::{Choosing, Chosen};
use std::sync::Arc;
use std::time::Duration;
use testkit::fake::{Choose, FakeRunner, fake_options, fake_plan};
use text::Tokenizer;

/// Whole pieces of text; some end others' beginnings, two hold halves of characters between them.
const WORDS: [&str; 12] = ["▁the", "▁a", "ab", "abc", "c", "é", "▁", "日", "\n", "Us", "er", ":"];

/// Tokens of the vocabulary: unknown, two ends of text, 256 bytes, the words.
pub const VOCAB: usize = 3 + 256 + WORDS.len();

/// The first token that is a word.
pub const FIRST_WORD: u32 = 3 + 256;

/// The token that ends text.
pub const END: u32 = 2;

/// A SentencePiece vocabulary made on the spot.
pub fn tokenizer() -> Arc<Tokenizer> {
    let mut tokens = vec!["<unk>".to_owned(), "<s>".to_owned(), "</s>".to_owned()];
    tokens.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    tokens.extend(WORDS.iter().map(|&word| word.to_owned()));
    let types: Vec<i32> = (0..VOCAB as i32)
        .map(|id| match id {
            0 => 2,
            1 | 2 => 3,
            id if id < FIRST_WORD as i32 => 6,
            _ => 1,
        })
        .collect();
    let scores: Vec<f32> = (0..VOCAB).map(|id| -(id as f32)).collect();
    let mut writer = Writer::new();
    let mut set = |key: &str, value: Value| writer.set(key, value).expect("the key is new and good");
    set("tokenizer.ggml.model", "llama".into());
    set("tokenizer.ggml.tokens", tokens.iter().collect::<StringList>().into());
    set("tokenizer.ggml.scores", scores.into());
    set("tokenizer.ggml.token_type", types.into());
    let file = writer.start(Vec::new()).and_then(Body::finish).expect("memory takes all");
    let file = Gguf::from_bytes("fake", file).expect("it was just written");
    Arc::new(Tokenizer::from_gguf(&file).expect("the vocabulary is complete"))
}

/// Sizes of an engine on the fake runner.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub context: usize,
    pub rows: usize,
    pub logit_rows: usize,
    pub slots: usize,
    pub pages: usize,
    /// Steps that the runner enqueues ahead, choosing by itself; 0 if it does not choose.
    pub ahead: usize,
}

impl Default for Sizes {
    fn default() -> Sizes {
        Sizes { context: 256, rows: 40, logit_rows: 4, slots: 1, pages: 8, ahead: 0 }
    }
}

/// The fake plan all tests use: one group that sees all, one with a window.
pub fn plan(context: usize) -> model::Plan {
    fake_plan(VOCAB, context, &[None, Some(50)])
}

/// A fake runner of these sizes.
pub fn runner(sizes: Sizes) -> FakeRunner {
    let options = fake_options(sizes.rows, sizes.logit_rows, sizes.slots, sizes.pages);
    let fake = FakeRunner::new(plan(sizes.context), options);
    if sizes.ahead > 0 { fake.choosing(CHOSEN_ROWS, sizes.ahead, Box::new(choose)) } else { fake }
}

/// Most rows of a step in which the runner chooses.
pub const CHOSEN_ROWS: usize = 3;

/// What the fake chooses with: a sampler of its own, which knows what it was told and no more. Half the
/// settings with top-k are not served.
pub fn choose(choosing: &Choosing, recent: &[u32]) -> Option<Choose> {
    if choosing.top_k % 2 == 1 {
        return None;
    }
    let mut sampler = Sampler::resume(choosing, VOCAB).ok()?;
    for &token in recent {
        sampler.accept(token);
    }
    Some(Box::new(move |logits| {
        let token = sampler.sample(logits);
        sampler.accept(token);
        Chosen { token, ..Chosen::default() }
    }))
}

/// An engine whose clock stands still.
pub fn engine(sizes: Sizes, tokenizer: Option<Arc<Tokenizer>>) -> Engine {
    Engine::new(Box::new(runner(sizes)), tokenizer, Box::new(|| Duration::ZERO))
}

/// What came of a generation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    pub tokens: Vec<u32>,
    pub text: String,
    pub prompt: Vec<(usize, usize)>,
    pub logprobs: Vec<Option<f32>>,
    pub summary: Option<Summary>,
}

impl Told {
    pub fn hear(&mut self, event: Event) {
        assert!(self.summary.is_none(), "{event:?} after the end");
        match event {
            Event::Prompt { done, total } => self.prompt.push((done, total)),
            Event::Token { id, logprob } => {
                self.tokens.push(id);
                self.logprobs.push(logprob);
            }
            Event::Text(text) => {
                assert!(!text.is_empty(), "an empty text was told");
                self.text.push_str(text);
            }
            Event::Finished(summary) => self.summary = Some(summary),
        }
    }

    pub fn summary(&self) -> Summary {
        self.summary.expect("the generation ended")
    }
}

/// Extends a sequence by a whole prompt and runs it to its end.
pub fn extend(engine: &mut Engine, id: SequenceId, prompt: &[u32], params: &Params) -> Told {
    engine.extend(id, prompt, params).expect("prompt and parameters are good");
    let mut told = Told::default();
    engine.run(id, &|| false, &mut |event| told.hear(event)).expect("the fake is not lost");
    told
}

/// A prompt of its own in a fresh engine.
pub fn alone(sizes: Sizes, tokenizer: Option<Arc<Tokenizer>>, prompt: &[u32], params: &Params) -> Told {
    let mut engine = engine(sizes, tokenizer);
    let id = engine.open().expect("the first slot is free");
    extend(&mut engine, id, prompt, params)
}

/// Greedy, `n` tokens.
pub fn greedy(n: usize) -> Params {
    Params { max_tokens: Some(n), sampling: engine::Sampling::greedy(), ..Params::default() }
}
