//! A hundred thousand tokens in a context of a hundred: the tokens of a window computed from scratch, no
//! allocation, and no more pages at the end than at the beginning.
#![allow(missing_docs)]

mod common;
mod counting;

use common::{CHOSEN_ROWS, VOCAB};
use counting::{allocations, check_counting};
use engine::sample::argmax;
use engine::{Engine, Event, Overflow, Params, Sampling};
use model::{Choosing, Chosen};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use testkit::fake::{Choose, FakeRunner, fake_logits, fake_options, fake_plan};

const TOKENS: usize = 100_000;
const CONTEXT: usize = 100;
const SINKS: usize = 10;

/// What the fake chooses with, without anything to allocate.
#[allow(clippy::unnecessary_wraps)] // it serves all that is asked
fn greedily(_: &Choosing, _: &[u32]) -> Option<Choose> {
    Some(Box::new(|logits| Chosen { token: argmax(logits), ..Chosen::default() }))
}

fn main() {
    check_counting();
    let plan = fake_plan(VOCAB, CONTEXT, &[None, Some(40)]);
    let prompt: Vec<u32> = (0..30).map(|i| i * 7 % 61).collect();
    let mut history = prompt.clone();
    let mut expected: Vec<u32> = vec![];
    for _ in 0..TOKENS {
        if history.len() > CONTEXT {
            let last = (history.len() - SINKS) / 2;
            history.drain(SINKS..history.len() - last);
        }
        history.push(argmax(&fake_logits(&plan, &history)));
        expected.extend(history.last());
    }
    for ahead in [0, 3] {
        let fake = FakeRunner::new(plan.clone(), fake_options(16, 1, 1, CONTEXT.div_ceil(32)));
        let fake = if ahead > 0 { fake.choosing(CHOSEN_ROWS, ahead, Box::new(greedily)) } else { fake };
        let mut engine = Engine::new(Box::new(fake), None, Box::new(|| Duration::ZERO));
        let slides = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&slides);
        engine.on_notice(Box::new(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
        }));
        let params = Params {
            max_tokens: Some(TOKENS),
            sampling: Sampling::greedy(),
            overflow: Overflow::Slide { sinks: SINKS },
            ..Params::default()
        };
        engine.start(&prompt, &params).expect("the first slot is free");
        let mut tokens = Vec::with_capacity(TOKENS);
        let mut fewest = usize::MAX;
        let (mut fewest_early, mut before) = (0, 0);
        loop {
            let more = engine.step(&mut |_, event| {
                if let Event::Token { id, .. } = event {
                    tokens.push(id);
                }
            });
            if tokens.len() == 500 && fewest_early == 0 {
                (fewest_early, before) = (fewest, allocations());
            }
            fewest = fewest.min(engine.free_pages());
            if !more.expect("the fake is not lost") {
                break;
            }
        }
        let count = allocations() - before;
        assert!(tokens == expected, "tokens differ with {ahead} steps ahead");
        // 91 tokens are left of 101, of which 45 stay.
        let slid = slides.load(Ordering::Relaxed);
        assert_eq!(slid, (TOKENS - 1 - (CONTEXT - prompt.len())).div_ceil(46));
        assert_eq!(fewest, fewest_early, "pages");
        assert_eq!(count, 0, "allocations in {TOKENS} tokens with {slid} slides, {ahead} steps ahead");
    }
}
