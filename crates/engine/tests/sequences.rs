//! Sequences on the fake runner, whose tokens change when a page, a position or a token is out of place.
#![allow(missing_docs)]

mod common;

use common::{END, FIRST_WORD, Sizes, Told, VOCAB, alone, engine, extend, greedy, plan, runner, tokenizer};
use engine::sample::argmax;
use engine::{Engine, Error, Event, Finish, Limits, Params, Sampling, Stopped};
use proptest::prelude::*;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use testkit::fake::fake_logits;

/// Greedy tokens by the definition: no pages, no chunks, no engine.
fn by_hand(prompt: &[u32], n: usize) -> Vec<u32> {
    let mut history = prompt.to_vec();
    for _ in 0..n {
        history.push(argmax(&fake_logits(&plan(256), &history)));
    }
    history.split_off(prompt.len())
}

fn prompt() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(0..VOCAB as u32, 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn chunks_change_nothing(
        prompt in prompt(),
        rows in 1usize..200,
        chunk in 1usize..200,
        ahead in 0usize..4,
    ) {
        let mut engine = engine(Sizes { rows, ahead, ..Sizes::default() }, None);
        engine.set_chunk(chunk);
        let id = engine.open().expect("the first slot is free");
        let told = extend(&mut engine, id, &prompt, &greedy(40));
        prop_assert_eq!(&told.tokens, &by_hand(&prompt, 40));
        prop_assert_eq!(told.summary().finish, Finish::Length);
        prop_assert_eq!(told.prompt.len(), prompt.len().div_ceil(chunk.min(rows)));
        prop_assert_eq!(told.prompt.last().copied(), Some((prompt.len(), prompt.len())));
    }

    /// Turns of a conversation, each keeping some of the one before: the same tokens as from scratch.
    #[test]
    fn a_common_beginning_is_reused(
        turns in prop::collection::vec((0usize..200, prompt()), 1..6),
        ahead in 0usize..4,
        spare in any::<bool>(),
    ) {
        let mut engine = engine(Sizes { ahead, rows: if spare { 256 } else { 40 }, ..Sizes::default() }, None);
        let id = engine.open().expect("the first slot is free");
        for (kept, new) in turns {
            let old = engine.ids(id).expect("it is open").to_vec();
            let mut prompt = old[..kept.min(old.len())].to_vec();
            prompt.extend(new);
            prompt.truncate(200);
            let told = extend(&mut engine, id, &prompt, &greedy(20));
            prop_assert_eq!(&told.tokens, &by_hand(&prompt, 20));
            // All that agrees was cached, but for the last token chosen and the last of the prompt.
            let cached = &old[..old.len().saturating_sub(1)];
            let common = cached.iter().zip(&prompt).take_while(|(a, b)| a == b).count().min(prompt.len() - 1);
            let summary = told.summary();
            // Few rows leave few pages to the window of 50: then it may be computed anew.
            let common = if spare || summary.reused > 0 { common } else { 0 };
            prop_assert_eq!((summary.reused, summary.prompt), (common, prompt.len() - common));
        }
    }

    /// Several at once, in few rows and with few logits a step: each as if alone.
    #[test]
    fn sequences_do_not_see_each_other(
        prompts in prop::collection::vec(prompt(), 1..5),
        rows in 1usize..60,
        logit_rows in 1usize..5,
        chunk in 1usize..60,
        ahead in 0usize..4,
    ) {
        let sizes = Sizes { rows, logit_rows, ahead, slots: 4, pages: 32, ..Sizes::default() };
        let mut engine = engine(sizes, None);
        engine.set_chunk(chunk);
        let ids: Vec<_> =
            prompts.iter().map(|prompt| engine.start(prompt, &greedy(30)).expect("a slot is free")).collect();
        let mut told = vec![Told::default(); ids.len()];
        let hear = |told: &mut Vec<Told>, id, event: Event| {
            told[ids.iter().position(|&known| known == id).expect("it was started")].hear(event);
        };
        while engine.step(&mut |id, event| hear(&mut told, id, event)).expect("the fake is not lost") {}
        for (prompt, told) in prompts.iter().zip(&told) {
            prop_assert_eq!(&told.tokens, &by_hand(prompt, 30));
        }
        for id in ids {
            engine.close(id);
        }
        prop_assert_eq!(engine.free_pages(), 32);
    }

    /// Forks share pages until one of them writes.
    #[test]
    fn forks_go_their_own_ways(
        prompt in prompt(),
        first in prompt(),
        second in prompt(),
        ahead in 0usize..4,
    ) {
        let mut engine = engine(Sizes { slots: 2, pages: 16, ahead, ..Sizes::default() }, None);
        let one = engine.open().expect("the first slot is free");
        engine.feed(one, &prompt, 0..0, &mut |_, _| {}).expect("it fits");
        let free = engine.free_pages();
        let two = engine.fork(one).expect("the second slot is free");
        prop_assert_eq!(engine.free_pages(), free);
        for (id, new) in [(two, &second), (one, &first), (two, &second)] {
            let mut whole = prompt.clone();
            whole.extend(&new[..new.len().min(80)]);
            let told = extend(&mut engine, id, &whole, &greedy(5));
            prop_assert_eq!(&told.tokens, &by_hand(&whole, 5));
        }
        engine.close(one);
        engine.close(two);
        prop_assert_eq!(engine.free_pages(), 16);
    }

    #[test]
    fn logits_of_any_rows_are_those_of_their_history(
        ids in prompt(),
        a in 0usize..160,
        b in 0usize..160,
        rows in 1usize..60,
        logit_rows in 1usize..60,
    ) {
        let mut engine = engine(Sizes { rows, logit_rows, ..Sizes::default() }, None);
        let wanted = a.min(b)..a.max(b);
        let mut next = wanted.start;
        let plan = plan(256);
        engine.logits(&ids, wanted.clone(), &mut |i, row| {
            assert_eq!(i, next);
            assert_eq!(row, fake_logits(&plan, &ids[..=i]));
            next += 1;
        }).expect("it fits");
        prop_assert_eq!(next, wanted.end.min(ids.len()).max(wanted.start));
        prop_assert_eq!(engine.free_pages(), 8);
    }

    /// Text is that of the tokens, cut before the first stop string, whatever the tokens' borders.
    #[test]
    fn text_ends_before_a_stop_string(
        prompt in prompt(),
        stops in prop::collection::vec("[abc é]{1,3}", 0..3),
        seed in any::<u64>(),
        ahead in 0usize..4,
    ) {
        let tokenizer = tokenizer();
        // Only words and a few bytes, or a stop string would hardly ever come.
        let rare = (0..FIRST_WORD).filter(|id| !(0xa9 + 3..0xc5 + 3).contains(id));
        let sampling = Sampling {
            temperature: 2.0,
            logit_bias: rare.map(|id| (id, f32::NEG_INFINITY)).collect(),
            seed,
            ..Sampling::default()
        };
        let params = Params { max_tokens: Some(60), sampling, stop: stops.clone(), ..Params::default() };
        let sizes = Sizes { ahead, ..Sizes::default() };
        let told = alone(sizes, Some(Arc::clone(&tokenizer)), &prompt, &params);
        let bytes: Vec<u8> = told.tokens.iter().flat_map(|&id| tokenizer.bytes(id)).copied().collect();
        let whole = String::from_utf8_lossy(&bytes);
        // What comes first is the stop string that is complete first, and of those the longest.
        let first = stops
            .iter()
            .filter_map(|stop| whole.find(stop.as_str()).map(|at| (at + stop.len(), at)))
            .min();
        let summary = told.summary();
        let (text, finish) = first.map_or((&*whole, Finish::Length), |(_, at)| (&whole[..at], Finish::Stop));
        prop_assert_eq!((told.text.as_str(), summary.finish), (text, finish));
    }
}

/// The token greedy choice gives first after a prompt.
fn first_token(prompt: &[u32]) -> u32 {
    by_hand(prompt, 1)[0]
}

#[test]
fn a_full_context_ends_the_text() {
    let told = alone(
        Sizes { context: 100, pages: 4, ..Sizes::default() },
        None,
        &[5; 90],
        &Params { max_tokens: None, ..greedy(0) },
    );
    // Ten tokens are cached behind the prompt, and one more follows from the last.
    assert_eq!((told.tokens.len(), told.summary().finish), (11, Finish::Length));
    assert_eq!(told.tokens, by_hand(&[5; 90], 11));
}

#[test]
fn without_pages_for_all_some_end_and_none_is_wrong() {
    let mut engine = engine(Sizes { slots: 2, pages: 4, context: 128, ..Sizes::default() }, None);
    let prompts = [vec![1; 40], vec![4; 40]];
    let ids = prompts.each_ref().map(|prompt| engine.start(prompt, &greedy(60)).expect("a slot is free"));
    let mut told = [Told::default(), Told::default()];
    while engine
        .step(&mut |id, event| told[usize::from(id == ids[1])].hear(event))
        .expect("the fake is not lost")
    {}
    let counts = told.each_ref().map(|told| told.tokens.len());
    assert!(counts.iter().any(|&count| count < 60), "both cannot have fitted: {counts:?}");
    for (told, prompt) in told.iter().zip(&prompts) {
        assert_eq!(told.tokens, by_hand(prompt, told.tokens.len()));
        assert_eq!(told.summary().finish, Finish::Length);
    }
    for id in ids {
        engine.close(id);
    }
    assert_eq!(engine.free_pages(), 4);
}

#[test]
fn no_tokens_computes_the_prompt_only() {
    let mut engine = engine(Sizes::default(), None);
    let id = engine.open().expect("the first slot is free");
    let told = extend(&mut engine, id, &[7; 70], &greedy(0));
    let summary = told.summary();
    assert_eq!((summary.finish, summary.generated, summary.prompt), (Finish::Length, 0, 70));
    assert_eq!((summary.first, told.prompt.clone()), (None, vec![(40, 70), (70, 70)]));
    assert_eq!(extend(&mut engine, id, &[7; 80], &greedy(1)).summary().reused, 70);
}

#[test]
fn cancelling_ends_before_the_next_step() {
    let mut engine = engine(Sizes::default(), None);
    let id = engine.start(&[9; 100], &greedy(50)).expect("the first slot is free");
    // During the prompt: asked before each of three chunks.
    let (asked, mut told) = (Cell::new(0), Told::default());
    let cancelled = || asked.replace(asked.get() + 1) == 2;
    let summary = engine.run(id, &cancelled, &mut |event| told.hear(event)).expect("the fake is not lost");
    assert_eq!((summary.finish, summary.generated), (Finish::Cancelled, 0));
    assert_eq!(told.prompt, [(40, 100), (80, 100)]);
    assert_eq!(summary.prompt, 80, "only what was computed counts, or the rate would be too high");
    // What was computed is there still; while generating, three tokens come.
    let (asked, mut told) = (Cell::new(0), Told::default());
    assert_eq!(engine.extend(id, &[9; 100], &greedy(50)).expect("it goes on"), 80);
    let cancelled = || asked.replace(asked.get() + 1) == 3;
    let summary = engine.run(id, &cancelled, &mut |event| told.hear(event)).expect("the fake is not lost");
    assert_eq!((summary.finish, summary.generated), (Finish::Cancelled, 3));
    assert_eq!((summary.reused, summary.prompt), (80, 20));
    assert_eq!(told.tokens, by_hand(&[9; 100], 3));
    engine.cancel(id);
    assert!(!engine.running());
}

#[test]
fn stop_ids_and_end_tokens_end_without_text() {
    let prompt = [8, 8, 300 % VOCAB as u32];
    let first = first_token(&prompt);
    let params = Params { stop_ids: vec![first], ..greedy(9) };
    let told = alone(Sizes::default(), Some(tokenizer()), &prompt, &params);
    assert_eq!((told.tokens.as_slice(), told.text.as_str()), ([first].as_slice(), ""));
    assert_eq!((told.summary().finish, told.summary().generated), (Finish::Stop, 1));

    // A bias makes the model want to end at once.
    let eager = Sampling { logit_bias: vec![(END, 100.0)], ..Sampling::greedy() };
    let params = Params { sampling: eager, ..greedy(9) };
    let told = alone(Sizes::default(), Some(tokenizer()), &prompt, &params);
    assert_eq!((told.tokens.as_slice(), told.summary().finish), ([END].as_slice(), Finish::Stop));
    let told = alone(Sizes::default(), Some(tokenizer()), &prompt, &Params { ignore_eos: true, ..params });
    assert_eq!((told.tokens.len(), told.summary().finish), (9, Finish::Length));
    assert!(!told.tokens.contains(&END));
}

#[test]
fn logprobs_are_of_the_logits() {
    let told = alone(Sizes::default(), None, &[3, 4], &Params { logprobs: true, ..greedy(1) });
    let logits = fake_logits(&plan(256), &[3, 4]);
    let total: f64 = logits.iter().map(|&logit| (logit as f64).exp()).sum();
    let expected = logits[told.tokens[0] as usize] as f64 - total.ln();
    let found = told.logprobs[0].expect("it was asked for") as f64;
    assert!((found - expected).abs() < 1e-5, "{found}, not {expected}");
}

#[test]
fn a_seed_repeats_a_text() {
    let params = |seed| Params { sampling: Sampling { seed, ..Sampling::default() }, ..greedy(40) };
    let text = |seed| alone(Sizes::default(), Some(tokenizer()), &[6; 9], &params(seed));
    assert_eq!(text(1), text(1));
    assert_ne!(text(1).tokens, text(2).tokens);
}

#[test]
fn times_are_those_of_the_clock() {
    // The clock goes on by a second each time it is read.
    let seconds = AtomicU64::new(0);
    let clock = move || Duration::from_secs(seconds.fetch_add(1, Ordering::Relaxed));
    let mut engine = Engine::new(Box::new(runner(Sizes::default())), None, Box::new(clock));
    let id = engine.start(&[1; 50], &greedy(3)).expect("the first slot is free");
    let summary = engine.run(id, &|| false, &mut |_| {}).expect("the fake is not lost");
    // Read at the start, after each of two prompt steps, after each token, after each step, at the end.
    assert_eq!(summary.prompt_time, Duration::from_secs(2));
    assert_eq!(summary.first, Some(Duration::from_secs(3)));
    assert_eq!(summary.time, Duration::from_secs(5));
    assert!((summary.prompt_rate() - 25.0).abs() < 1e-9);
    assert!((summary.rate() - 0.4).abs() < 1e-9);
}

#[test]
fn requests_that_cannot_be_run_are_refused() {
    let mut engine = engine(Sizes { context: 64, ..Sizes::default() }, None);
    let told = |error: Error| error.to_string();
    let id = engine.open().expect("the first slot is free");
    assert_eq!(told(engine.open().expect_err("one slot")), "all 1 sequences are in use; close one first");
    let mut refused = |prompt: &[u32], params: &Params| {
        told(engine.extend(id, prompt, params).expect_err("it cannot be run"))
    };
    assert_eq!(refused(&[], &greedy(1)), "the prompt has no tokens; give at least one");
    assert_eq!(
        refused(&[0; 65], &greedy(1)),
        "the prompt has 65 tokens, but 64 fit; shorten it or load with a longer context"
    );
    let message =
        format!("token 1 is {VOCAB}, but the model's vocabulary has {VOCAB}; encode with its own tokenizer");
    assert_eq!(refused(&[0, VOCAB as u32], &greedy(1)), message);
    let hot = Sampling { temperature: f32::NAN, ..Sampling::default() };
    assert!(refused(&[1], &Params { sampling: hot, ..greedy(1) }).starts_with("temperature is NaN"));
    let stop = Params { stop: vec!["x".to_owned()], ..greedy(1) };
    assert_eq!(refused(&[1], &stop), "stop is x, but must be empty for a model without a tokenizer");

    assert!(matches!(engine.run(id, &|| false, &mut |_| {}), Err(Error::Idle { .. })));
    engine.extend(id, &[1], &greedy(5)).expect("this one is good");
    assert!(matches!(engine.extend(id, &[1], &greedy(5)), Err(Error::Busy { .. })));
    assert!(matches!(engine.feed(id, &[1], 0..1, &mut |_, _| {}), Err(Error::Busy { .. })));
    engine.close(id);
    assert!(!engine.running());
    assert!(matches!(engine.extend(id, &[1], &greedy(5)), Err(Error::Closed { .. })));
    let other = engine.open().expect("the slot is free again");
    assert_ne!(id, other, "a closed name must not reach the slot's next sequence");
    assert!(matches!(engine.ids(id), Err(Error::Closed { .. })));
}

#[test]
fn a_refused_prompt_leaves_the_sequence_as_it_was() {
    let mut engine = engine(Sizes { context: 64, ..Sizes::default() }, None);
    let id = engine.open().expect("the first slot is free");
    extend(&mut engine, id, &[1; 30], &greedy(3));
    let before = engine.ids(id).expect("it is open").to_vec();
    engine.extend(id, &[2; 65], &greedy(1)).expect_err("too long");
    engine.feed(id, &[2; 65], 0..0, &mut |_, _| {}).expect_err("too long");
    assert_eq!(engine.ids(id).expect("it is open"), before);
    assert_eq!(extend(&mut engine, id, &before, &greedy(1)).summary().reused, 32);
}

#[test]
fn a_lost_device_is_told() {
    let fake = runner(Sizes::default()).lost_after(3);
    let mut engine = Engine::new(Box::new(fake), None, Box::new(|| Duration::ZERO));
    let id = engine.start(&[1; 50], &greedy(30)).expect("the first slot is free");
    let tokens = Rc::new(Cell::new(0));
    let count = |event: Event| tokens.set(tokens.get() + usize::from(matches!(event, Event::Token { .. })));
    let error = engine.run(id, &|| false, &mut { count }).expect_err("the device went away");
    assert_eq!(error.to_string(), "fake stopped answering: told to; start again");
    assert_eq!(tokens.get(), 2);
}

/// Who limits decides before each step, is told how long the last one took, and nothing runs against it.
#[test]
fn steps_run_only_when_admitted() {
    struct Every(u32, Arc<AtomicU64>);
    impl Limits for Every {
        fn room(&mut self) -> Option<u64> {
            None
        }

        fn admit(&mut self, worked: Duration) -> bool {
            self.1.fetch_add(worked.as_secs(), Ordering::Relaxed);
            self.0 += 1;
            self.0.is_multiple_of(3)
        }
    }
    let (seconds, worked) = (AtomicU64::new(0), Arc::new(AtomicU64::new(0)));
    let clock = move || Duration::from_secs(seconds.fetch_add(1, Ordering::Relaxed));
    let mut engine = Engine::new(Box::new(runner(Sizes::default())), None, Box::new(clock));
    engine.set_limits(Box::new(Every(0, Arc::clone(&worked))));
    let prompt = [1; 50];
    let id = engine.start(&prompt, &greedy(3)).expect("the first slot is free");
    let mut told = Told::default();
    let mut steps = 0;
    while engine.step(&mut |_, event| told.hear(event)).expect("the fake is not lost") {
        steps += 1;
    }
    assert_eq!(told.tokens, by_hand(&prompt, 3));
    assert_eq!(told.summary().stopped, Some(Stopped::Tokens));
    // Four steps, the last of which ended it, each the third that was asked for.
    assert_eq!(steps, 11);
    // A prompt's chunk reads the clock twice beside limits, a token three times, and the last is not told of.
    assert_eq!(worked.load(Ordering::Relaxed), 2 + 3 + 3);
    // Cancelling waits for nobody.
    engine.extend(id, &[2], &greedy(9)).expect("it is idle");
    engine.cancel(id);
    assert!(!engine.step(&mut |_, _| {}).expect("the fake is not lost"));
}
