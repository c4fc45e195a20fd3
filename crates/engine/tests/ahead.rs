//! Steps ahead of their results, on a fake runner that chooses tokens by itself: whatever is asked meanwhile,
//! everybody is told what they would be told without.
#![allow(missing_docs)]

mod common;

use common::{CHOSEN_ROWS, END, Sizes, Told, VOCAB, alone, engine, greedy, plan, runner, tokenizer};
use engine::{Engine, Error, Finish, Params, Sampling, SequenceId};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use testkit::fake::{FakeRunner, fake_logits, fake_options};

/// What may be asked between steps; numbers are of a request.
#[allow(clippy::large_enum_variant)] // a few dozen of them
#[derive(Clone, Debug)]
enum Act {
    Start(Request),
    Cancel(usize),
    Close(usize),
    Fork(usize),
    Feed(usize),
    Feedback(bool),
    Steps(usize),
}

#[derive(Clone, Debug)]
struct Request {
    prompt: Vec<u32>,
    params: Params,
}

fn request() -> impl Strategy<Value = Request> {
    let sampling = (0usize..5, any::<u64>()).prop_map(|(kind, seed)| match kind {
        0 => Sampling::greedy(),
        // The fake serves no odd top-k.
        1 => Sampling { top_k: 41, seed, ..Sampling::default() },
        2 => Sampling {
            temperature: 2.0,
            top_k: 0,
            repeat_penalty: 1.2,
            repeat_last_n: 9,
            seed,
            ..Sampling::default()
        },
        3 => Sampling {
            temperature: 1.1,
            frequency_penalty: 0.4,
            logit_bias: vec![(7, 3.0), (5, -1.0)],
            seed,
            ..Sampling::default()
        },
        _ => Sampling { seed, ..Sampling::default() },
    });
    let stops = prop::collection::vec(0..VOCAB as u32, 0..12);
    let prompt = prop::collection::vec(0..VOCAB as u32, 1..90);
    (prompt, sampling, stops, 0usize..40, prop::bool::weighted(0.1)).prop_map(
        |(prompt, sampling, stop_ids, max_tokens, logprobs)| {
            let max_tokens = Some(max_tokens);
            Request {
                prompt,
                params: Params { max_tokens, sampling, stop_ids, logprobs, ..Params::default() },
            }
        },
    )
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => request().prop_map(Act::Start),
        1 => (0usize..6).prop_map(Act::Cancel),
        1 => (0usize..6).prop_map(Act::Close),
        1 => (0usize..6).prop_map(Act::Fork),
        1 => (0usize..6).prop_map(Act::Feed),
        1 => any::<bool>().prop_map(Act::Feedback),
        6 => (1usize..12).prop_map(Act::Steps),
    ]
}

/// A request under way or ended, and what it told.
struct Asked {
    id: SequenceId,
    request: Request,
    told: Told,
    /// Whether it was asked to end early.
    broken: bool,
}

fn step(engine: &mut Engine, asked: &mut [Asked]) -> bool {
    let hear = &mut |id, event: engine::Event<'_>| {
        // The last that was asked of a sequence is the one that runs.
        asked.iter_mut().rfind(|asked| asked.id == id).expect("it was asked").told.hear(event);
    };
    engine.step(hear).expect("the fake is not lost")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn everybody_is_told_the_same_whatever_others_ask(acts in prop::collection::vec(act(), 1..40), ahead in 1usize..5) {
        let sizes = Sizes { context: 160, rows: 20, slots: 4, pages: 24, ahead, ..Sizes::default() };
        let mut engine = engine(sizes, None);
        let mut asked: Vec<Asked> = vec![];
        for act in acts {
            let of = |i: usize| asked.get(i % asked.len().max(1)).map(|asked| asked.id);
            match act {
                Act::Start(request) => {
                    if let Ok(id) = engine.start(&request.prompt, &request.params) {
                        asked.push(Asked { id, request, told: Told::default(), broken: false });
                    }
                }
                Act::Cancel(i) => {
                    let Some(id) = of(i) else { continue };
                    engine.cancel(id);
                    asked.iter_mut().filter(|asked| asked.id == id).for_each(|asked| asked.broken = true);
                }
                Act::Close(i) => {
                    let Some(id) = of(i) else { continue };
                    engine.close(id);
                    asked.iter_mut().filter(|asked| asked.id == id).for_each(|asked| asked.broken = true);
                }
                // Goes on from another's text, sharing its pages.
                Act::Fork(i) => {
                    let Some(id) = of(i) else { continue };
                    let Ok(fork) = engine.fork(id) else { continue };
                    let mut prompt = engine.ids(fork).expect("it is open").to_vec();
                    prompt.truncate(120);
                    prompt.push(i as u32);
                    let request = Request { prompt, params: greedy(9) };
                    engine.extend(fork, &request.prompt, &request.params).expect("it fits");
                    asked.push(Asked { id: fork, request, told: Told::default(), broken: false });
                }
                // Logits that somebody else wants to see.
                Act::Feed(i) => {
                    let ids: Vec<u32> = (0..=i as u32).collect();
                    let mut seen = vec![];
                    match engine.logits(&ids, i..i + 1, &mut |_, row| seen = row.to_vec()) {
                        Ok(()) => prop_assert_eq!(seen, fake_logits(&plan(160), &ids)),
                        Err(Error::Slots { .. } | Error::TooLong { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                Act::Feedback(on) => engine.set_feedback(on),
                Act::Steps(count) => {
                    for _ in 0..count {
                        step(&mut engine, &mut asked);
                    }
                }
            }
        }
        while step(&mut engine, &mut asked) {}
        for Asked { id, request, told, broken } in asked {
            let expected = alone(Sizes { ahead: 0, slots: 1, ..sizes }, None, &request.prompt, &request.params);
            if broken {
                prop_assert!(expected.tokens.starts_with(&told.tokens), "{:?}", request);
            } else {
                prop_assert_eq!(&told.tokens, &expected.tokens);
                prop_assert_eq!(&told.logprobs, &expected.logprobs);
                prop_assert_eq!(told.summary().finish, expected.summary().finish);
                prop_assert_eq!(told.summary().generated, expected.summary().generated);
            }
            engine.close(id);
        }
        prop_assert_eq!(engine.free_pages(), 24, "pages of steps that went too far came back");
    }
}

/// A fake that chooses greedily and counts.
fn counting(sizes: Sizes, ahead: usize) -> (Engine, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let options = fake_options(sizes.rows, sizes.logit_rows, sizes.slots, sizes.pages);
    let fake = FakeRunner::new(plan(sizes.context), options).choosing(
        CHOSEN_ROWS,
        ahead,
        Box::new(move |choosing, _| {
            let counted = Arc::clone(&counted);
            (choosing.temperature == 0.0).then(|| -> testkit::fake::Choose {
                Box::new(move |logits| {
                    counted.fetch_add(1, Ordering::Relaxed);
                    model::Chosen { token: engine::sample::argmax(logits), ..model::Chosen::default() }
                })
            })
        }),
    );
    (Engine::new(Box::new(fake), None, Box::new(|| Duration::ZERO)), count)
}

/// Every token but the prompt's own first is the device's, and none is chosen for nothing where the end is
/// known.
#[test]
fn the_device_chooses_all_that_it_can() {
    for ahead in 1..4 {
        let (mut engine, count) = counting(Sizes::default(), ahead);
        assert!(engine.feeds_back());
        let id = engine.start(&[3; 50], &greedy(20)).expect("the first slot is free");
        engine.run(id, &|| false, &mut |_| {}).expect("the fake is not lost");
        assert_eq!(count.swap(0, Ordering::Relaxed), 19);
        // A prompt of one token is a step like all others.
        engine.extend(id, &[4], &greedy(20)).expect("it fits");
        engine.run(id, &|| false, &mut |_| {}).expect("the fake is not lost");
        assert_eq!(count.swap(0, Ordering::Relaxed), 20);
        // Log-probabilities, and what is not served, stay with the processor.
        for params in
            [Params { logprobs: true, ..greedy(5) }, Params { sampling: Sampling::default(), ..greedy(5) }]
        {
            engine.extend(id, &[4], &params).expect("it fits");
            engine.run(id, &|| false, &mut |_| {}).expect("the fake is not lost");
        }
        engine.trace(true);
        engine.extend(id, &[4], &greedy(5)).expect("it fits");
        engine.run(id, &|| false, &mut |_| {}).expect("the fake is not lost");
        engine.trace(false);
        engine.set_feedback(false);
        assert!(!engine.feeds_back());
        engine.extend(id, &[4], &greedy(5)).expect("it fits");
        engine.run(id, &|| false, &mut |_| {}).expect("the fake is not lost");
        assert_eq!(count.load(Ordering::Relaxed), 0);
    }
}

/// A cancel ends the answer at once, and no more than the steps under way are thrown away.
#[test]
fn a_cancel_waits_for_nothing() {
    let (mut engine, count) = counting(Sizes { slots: 2, ..Sizes::default() }, 3);
    let id = engine.start(&[3], &greedy(50)).expect("the first slot is free");
    let mut told = Told::default();
    for _ in 0..4 {
        engine.step(&mut |_, event| told.hear(event)).expect("the fake is not lost");
    }
    assert_eq!((told.tokens.len(), count.load(Ordering::Relaxed)), (4, 6));
    engine.cancel(id);
    assert!(!engine.step(&mut |_, event| told.hear(event)).expect("the fake is not lost"));
    assert_eq!((told.summary().finish, told.tokens.len()), (Finish::Cancelled, 4));
    assert_eq!(count.load(Ordering::Relaxed), 6);
    // What is kept are the tokens told; the last is not cached yet.
    assert_eq!(engine.ids(id).expect("it is open").len(), 5);
    let mut whole = engine.ids(id).expect("it is open").to_vec();
    whole.push(9);
    assert_eq!(engine.extend(id, &whole, &greedy(3)).expect("it fits"), 4);
}

/// Pages of steps that went too far are free again at the end.
#[test]
fn pages_taken_ahead_come_back() {
    let (mut engine, _) = counting(Sizes::default(), 4);
    let id = engine.start(&[3; 30], &greedy(50)).expect("the first slot is free");
    (0..2).for_each(|_| {
        engine.step(&mut |_, _| {}).expect("the fake is not lost");
    });
    // Positions 30 to 33 are computed, one token of them was told.
    assert_eq!(engine.free_pages(), 6);
    engine.cancel(id);
    engine.step(&mut |_, _| {}).expect("the fake is not lost");
    assert_eq!(engine.free_pages(), 7);
}

/// A prompt that comes meanwhile waits for the steps under way and no longer.
#[test]
fn a_prompt_waits_for_the_steps_under_way() {
    let (mut engine, _) = counting(Sizes { slots: 2, pages: 16, ..Sizes::default() }, 3);
    engine.start(&[3], &greedy(50)).expect("the first slot is free");
    let (mut tokens, mut prompts) = (0, 0);
    let mut step = |engine: &mut Engine| {
        let on = &mut |_, event: engine::Event<'_>| match event {
            engine::Event::Token { .. } => tokens += 1,
            engine::Event::Prompt { .. } => prompts += 1,
            _ => {}
        };
        engine.step(on).expect("the fake is not lost");
        (tokens, prompts)
    };
    assert_eq!(step(&mut engine), (1, 1));
    engine.start(&[4; 30], &greedy(50)).expect("the second slot is free");
    // Two are under way; then prompt and token share a step, and both are told theirs.
    assert_eq!([(); 3].map(|()| step(&mut engine)), [(2, 1), (3, 1), (5, 2)]);
    assert_eq!(step(&mut engine), (7, 2));
}

/// A text that ends by itself is the same text.
#[test]
fn an_end_is_an_end() {
    let eager =
        Sampling { temperature: 1.0, top_k: 0, logit_bias: vec![(END, 1.0)], seed: 1, ..Sampling::default() };
    let params = Params { max_tokens: Some(100), sampling: eager, ..Params::default() };
    let told = [0, 1, 3]
        .map(|ahead| alone(Sizes { ahead, ..Sizes::default() }, Some(tokenizer()), &[8, 9], &params));
    assert_eq!(told[0].summary().finish, Finish::Stop, "{}", told[0].tokens.len());
    assert!(told[0].tokens.len() > 4);
    assert_eq!(told[0], told[1]);
    assert_eq!(told[0], told[2]);
}

/// The device may go away with steps under way.
#[test]
fn a_lost_device_is_told_ahead() {
    let fake = runner(Sizes { ahead: 2, ..Sizes::default() }).lost_after(5);
    let mut engine = Engine::new(Box::new(fake), None, Box::new(|| Duration::ZERO));
    let id = engine.start(&[1; 5], &greedy(30)).expect("the first slot is free");
    let error = engine.run(id, &|| false, &mut |_| {}).expect_err("the device went away");
    assert_eq!(error.to_string(), "fake stopped answering: told to; start again");
}
