//! An engine on cores with little room: what slides, is stored or saved gives the bits of what never was.
#![allow(missing_docs)]

use cpu::Cpu;
use engine::sample::{argmax, logprob};
use engine::{Engine, Event, Finish, Overflow, Params, Sampling, SequenceId};
use model::runner::KvType;
use model::{Device, LoadOptions, Plan};
use std::time::Duration;
use testkit::tiny::Tiny;

const CONTEXT: usize = 96;

/// An engine of tiny models with steps of 16 rows, so that windows of 24 keep less than the context.
fn engine(tiny: &Tiny, kv: KvType, slots: usize) -> Engine {
    let file = gguf::Gguf::from_bytes("tiny", tiny.parts().bytes()).expect("it was just written");
    let (_, plan) = Plan::read(&file, Some(CONTEXT)).expect("a tiny model");
    let pages = slots * CONTEXT.div_ceil(32);
    let options = LoadOptions { rows: 16, logit_rows: 1, slots, pages, kv, threads: 1 };
    let runner = Cpu::new().load(&file, &plan, &options, &mut |_, _| {}).expect("cores run it");
    Engine::new(runner, None, Box::new(|| Duration::ZERO))
}

/// Tokens and the bits of their log-probabilities.
fn go(engine: &mut Engine, id: SequenceId, prompt: &[u32], n: usize, overflow: Overflow) -> Vec<(u32, u32)> {
    let params = Params {
        max_tokens: Some(n),
        sampling: Sampling::greedy(),
        logprobs: true,
        overflow,
        ..Params::default()
    };
    engine.extend(id, prompt, &params).expect("it fits");
    let mut told = vec![];
    let on = &mut |event: Event<'_>| {
        if let Event::Token { id, logprob: Some(logprob) } = event {
            told.push((id, logprob.to_bits()));
        }
    };
    let summary = engine.run(id, &|| false, on).expect("cores do not go away");
    assert_eq!((summary.finish, told.len()), (Finish::Length, n));
    told
}

fn prompt(len: u32) -> Vec<u32> {
    (0..len).map(|i| i * i % 61 + 3).collect()
}

fn models() -> [Tiny; 3] {
    [Tiny::new("llama", 3), Tiny::new("gemma3", 4), Tiny::new("gemma2", 5)]
}

#[test]
fn a_slide_gives_the_bits_of_a_new_beginning() {
    for tiny in models() {
        let (mut slides, mut anew) = (engine(&tiny, KvType::F16, 1), engine(&tiny, KvType::F16, 1));
        let id = slides.open().expect("a slot is free");
        let told = go(&mut slides, id, &prompt(40), 250, Overflow::Slide { sinks: 9 });
        let (mut history, mut slid) = (prompt(40), 0);
        for (i, &(token, bits)) in told.iter().enumerate() {
            if history.len() > CONTEXT {
                let last = (history.len() - 9) / 2;
                history.drain(9..history.len() - last);
                slid += 1;
            }
            let last = history.len() - 1;
            let on = &mut |_, row: &[f32]| {
                assert_eq!((argmax(row), logprob(row, token).to_bits()), (token, bits), "token {i}");
            };
            anew.logits(&history, last..last + 1, on).expect("it fits");
            history.push(token);
        }
        assert_eq!(slid, 5);
    }
}

#[test]
fn what_was_stored_or_saved_gives_the_bits_of_what_never_went() {
    for tiny in models() {
        for kv in [KvType::F16, KvType::F32, KvType::Int8, KvType::Int4] {
            let mut stays = engine(&tiny, kv, 2);
            let id = stays.open().expect("a slot is free");
            let first = go(&mut stays, id, &prompt(37), 20, Overflow::Stop);
            let mut whole = stays.ids(id).expect("it is open").to_vec();
            whole.extend([7, 8, 9]);
            let second = go(&mut stays, id, &whole, 20, Overflow::Stop);

            let mut goes = engine(&tiny, kv, 2);
            let id = goes.open().expect("a slot is free");
            assert_eq!(go(&mut goes, id, &prompt(37), 20, Overflow::Stop), first);
            assert!(goes.store(id).expect("it is idle") > 0);
            // Another uses the pages meanwhile.
            let other = goes.open().expect("a slot is free");
            go(&mut goes, other, &prompt(90), 5, Overflow::Stop);
            assert_eq!(goes.export(id).expect("it is idle").cached, 56);
            assert_eq!(go(&mut goes, id, &whole, 20, Overflow::Stop), second);

            // In another engine of the same model.
            let mut elsewhere = engine(&tiny, kv, 1);
            let id = elsewhere.open().expect("a slot is free");
            go(&mut elsewhere, id, &prompt(37), 20, Overflow::Stop);
            let saved = elsewhere.park(id).expect("it is idle");
            let mut elsewhere = engine(&tiny, kv, 1);
            let id = elsewhere.unpark(saved).expect("a slot is free");
            assert_eq!(go(&mut elsewhere, id, &whole, 20, Overflow::Stop), second);
        }
    }
}
