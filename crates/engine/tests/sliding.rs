//! A full context slides: what follows is what follows the kept tokens alone.
#![allow(missing_docs)]

mod common;

use common::{CHOSEN_ROWS, Sizes, Told, VOCAB, choose, greedy, runner, tokenizer};
use engine::{Engine, Event, Finish, Notice, Overflow, Params, Sampler, Sampling, Stopped};
use model::Plan;
use proptest::prelude::*;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testkit::fake::{FakeRunner, fake_logits, fake_options, fake_plan};

/// Tokens by the definition: no pages, no cache; a sampler of its own that is told of every token.
fn by_hand(plan: &Plan, prompt: &[u32], sinks: usize, sampling: &Sampling, n: usize) -> (Vec<u32>, usize) {
    let context = plan.context;
    let mut sampler = Sampler::new(sampling, plan.shape.vocab, context).expect("settings are good");
    for &token in prompt {
        sampler.accept(token);
    }
    let (mut history, mut tokens, mut slides) = (prompt.to_vec(), vec![], 0);
    for _ in 0..n {
        if history.len() > context {
            let sinks = sinks.clamp(4, context - context / 4);
            let last = (history.len() - sinks) / 2;
            history.drain(sinks..history.len() - last);
            slides += 1;
        }
        let token = sampler.sample(&fake_logits(plan, &history));
        sampler.accept(token);
        history.push(token);
        tokens.push(token);
    }
    (tokens, slides)
}

fn sliding(sinks: usize, sampling: &Sampling, n: usize) -> Params {
    let overflow = Overflow::Slide { sinks };
    Params { max_tokens: Some(n), sampling: sampling.clone(), overflow, ..Params::default() }
}

/// Notices as they come.
fn noticed(engine: &mut Engine) -> Arc<Mutex<Vec<Notice>>> {
    let notices = Arc::new(Mutex::new(vec![]));
    let told = Arc::clone(&notices);
    engine.on_notice(Box::new(move |notice| told.lock().expect("nobody panicked").push(notice)));
    notices
}

fn sampling() -> impl Strategy<Value = Sampling> {
    (0usize..3, any::<u64>(), 1usize..120).prop_map(|(kind, seed, repeat_last_n)| match kind {
        0 => Sampling::greedy(),
        // The fake serves no odd top-k.
        1 => Sampling { top_k: 41, frequency_penalty: 0.5, repeat_last_n, seed, ..Sampling::default() },
        _ => Sampling { temperature: 1.5, repeat_penalty: 1.3, repeat_last_n, seed, ..Sampling::default() },
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Several sequences, each with a context that slides many times, as if alone and computed from scratch;
    /// penalties and random numbers go on.
    #[test]
    fn a_slide_is_a_new_beginning(
        requests in prop::collection::vec((prop::collection::vec(0..VOCAB as u32, 1..90), 0usize..100, sampling(), 1usize..400), 1..4),
        context in 20usize..120,
        windows in prop::collection::vec(prop::option::weighted(0.5, 1usize..150), 1..3),
        rows in 1usize..60,
        ahead in 0usize..4,
    ) {
        let plan = fake_plan(VOCAB, context, &windows);
        let options = fake_options(rows, 2, 3, 3 * context.div_ceil(32));
        let fake = FakeRunner::new(plan.clone(), options);
        let fake = if ahead > 0 { fake.choosing(CHOSEN_ROWS, ahead, Box::new(choose)) } else { fake };
        let mut engine = Engine::new(Box::new(fake), None, Box::new(|| Duration::ZERO));
        let notices = noticed(&mut engine);
        let mut told = vec![];
        for (prompt, sinks, sampling, n) in &requests {
            let prompt = &prompt[..prompt.len().min(context)];
            let id = engine.start(prompt, &sliding(*sinks, sampling, *n)).expect("a slot is free");
            told.push((id, Told::default()));
        }
        let hear = &mut |of, event: Event<'_>| {
            told.iter_mut().find(|(id, _)| *id == of).expect("it was started").1.hear(event);
        };
        while engine.step(hear).expect("the fake is not lost") {}
        let notices = notices.lock().expect("nobody panicked");
        for ((prompt, sinks, sampling, n), (id, told)) in requests.iter().zip(&told) {
            let prompt = &prompt[..prompt.len().min(context)];
            let (tokens, slides) = by_hand(&plan, prompt, *sinks, sampling, *n);
            prop_assert_eq!(&told.tokens, &tokens);
            let summary = told.summary();
            prop_assert_eq!((summary.finish, summary.stopped), (Finish::Length, Some(Stopped::Tokens)));
            prop_assert_eq!((summary.prompt, summary.generated), (prompt.len(), *n));
            let of = |notice: &&Notice| matches!(notice, Notice::Slid { id: of, .. } if of == id);
            prop_assert_eq!(notices.iter().filter(of).count(), slides);
            prop_assert!(engine.ids(*id).expect("it is open").ends_with(&tokens[tokens.len().saturating_sub(3)..]));
        }
        for notice in notices.iter() {
            let Notice::Slid { dropped, sinks, kept, .. } = *notice else { panic!("{notice}") };
            prop_assert!(dropped + kept == context + 1 && sinks < kept);
        }
        for (id, _) in &told {
            engine.close(*id);
        }
        let all = windows.iter().map(|&window| options.group_pages(window)).max();
        prop_assert_eq!(Some(engine.free_pages()), all);
    }
}

/// Text and stop strings do not notice: a stop string may begin before a slide and end after it.
#[test]
fn stop_strings_go_on_over_a_slide() {
    let sizes = Sizes { context: 64, pages: 2, ..Sizes::default() };
    let params = sliding(4, &Sampling { temperature: 2.0, seed: 5, ..Sampling::default() }, 400);
    let run = |params: &Params| common::alone(sizes, Some(tokenizer()), &[5; 30], params);
    let whole = run(&params);
    let mut found = 0;
    // Every stop string of four characters that the text has is found where it comes first.
    let chars: Vec<char> = whole.text.chars().collect();
    for start in (0..chars.len() - 4).step_by(3) {
        let stop: String = chars[start..start + 4].iter().collect();
        let told = run(&Params { stop: vec![stop.clone()], ..params.clone() });
        assert_eq!(told.text, whole.text[..whole.text.find(&stop).expect("it is of the text")]);
        assert_eq!(told.summary().finish, Finish::Stop);
        found += usize::from(told.tokens.len() > 64);
    }
    assert!(found > 20, "{found} stops after a slide");
}

/// Cancelled while its kept tokens are computed anew, a sequence has them still.
#[test]
fn a_cancel_in_a_slide_loses_nothing() {
    let sizes = Sizes { context: 64, pages: 2, rows: 8, ..Sizes::default() };
    let mut engine = Engine::new(Box::new(runner(sizes)), None, Box::new(|| Duration::ZERO));
    let notices = noticed(&mut engine);
    let id = engine.start(&[5; 60], &sliding(4, &Sampling::greedy(), 100)).expect("the first slot is free");
    let mut told = Told::default();
    while notices.lock().expect("nobody panicked").is_empty() {
        engine.step(&mut |_, event| told.hear(event)).expect("the fake is not lost");
    }
    let notice = notices.lock().expect("nobody panicked")[0];
    assert_eq!(notice, Notice::Slid { id, dropped: 31, sinks: 4, kept: 34 });
    assert_eq!(notice.to_string(), "[kv] evicted 31 tokens after the first 4: the context is full, 34 go on");
    // Five chunks, of which one is computed.
    engine.step(&mut |_, event| told.hear(event)).expect("the fake is not lost");
    engine.cancel(id);
    engine.step(&mut |_, event| told.hear(event)).expect("the fake is not lost");
    assert_eq!((told.summary().finish, told.summary().prompt), (Finish::Cancelled, 60));
    let ids = engine.ids(id).expect("it is open").to_vec();
    assert_eq!(ids.len(), 34);
    let mut seen = vec![];
    engine.feed(id, &[9], 0..1, &mut |_, row| seen = row.to_vec()).expect("it fits");
    let history = [&ids[..33], &[9]].concat();
    assert_eq!(engine.ids(id).expect("it is open"), history);
    assert_eq!(seen, fake_logits(&common::plan(64), &history));
}

/// Others go on while one slides, and a full context ends a text that does not.
#[test]
fn others_go_on_meanwhile() {
    let sizes = Sizes { context: 96, pages: 6, rows: 8, slots: 2, ..Sizes::default() };
    let mut engine = Engine::new(Box::new(runner(sizes)), None, Box::new(|| Duration::ZERO));
    let notices = noticed(&mut engine);
    let slides = engine.start(&[5; 90], &sliding(4, &Sampling::greedy(), 50)).expect("a slot is free");
    let other = engine.start(&[6; 2], &greedy(200)).expect("a slot is free");
    let (mut since, mut gaps, mut stopped) = (0, vec![], vec![]);
    let hear = &mut |id, event: Event<'_>| match event {
        Event::Token { .. } if id == other => since += 1,
        Event::Token { .. } => {
            gaps.push(since);
            since = 0;
        }
        Event::Finished(summary) => stopped.push((id, summary.stopped)),
        _ => {}
    };
    while engine.step(hear).expect("the fake is not lost") {}
    // The seventh token was one too many: of 50 tokens that stay 46 are computed anew, seven a step, each step
    // with a token of the other.
    assert_eq!(notices.lock().expect("nobody panicked").len(), 1);
    assert_eq!(gaps[7], 7);
    assert!(gaps[1..].iter().enumerate().all(|(i, &gap)| i == 6 || gap <= 2), "{gaps:?}");
    assert_eq!(stopped, [(slides, Some(Stopped::Tokens)), (other, Some(Stopped::Context))]);
}
