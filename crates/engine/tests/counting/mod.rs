//! Counts heap allocations of decode steps, for any engine.
//!
//! A test file of its own includes this module and has its own `main` (`harness = false`): the count is of
//! the whole process, worker threads included, so nothing else may run beside it.

// Each test file includes this module and uses what it needs.
#![allow(dead_code, unreachable_pub)]

use engine::{Engine, Event, Params};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::alloc::System;

/// The system's allocator, counting.
#[global_allocator]
static COUNTING: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Allocations made so far, growth of older ones included.
pub fn allocations() -> usize {
    let stats = COUNTING.stats();
    stats.allocations + stats.reallocations
}

/// Ends the program unless allocations of this thread and of others are counted, new and grown ones.
pub fn check_counting() {
    let before = allocations();
    let mut list = std::hint::black_box(Vec::with_capacity(1));
    list.extend([1, 2, 3]);
    drop(std::hint::black_box(list));
    assert!(allocations() >= before + 2, "the allocator must count an allocation and its growth");
    let elsewhere = std::thread::spawn(|| {
        let before = allocations();
        drop(std::hint::black_box(Box::new(1)));
        allocations() - before
    });
    assert!(elsewhere.join().is_ok_and(|count| count > 0), "the allocator must count other threads");
}

/// Allocations of the `steps` decode steps after the prompt's last, and how many bytes of text they
/// delivered.
///
/// `params` must let the generation go on that long.
pub fn decode_allocations(
    engine: &mut Engine,
    prompt: &[u32],
    params: &Params,
    steps: usize,
) -> (usize, usize) {
    engine.start(prompt, params).expect("prompt and parameters are good");
    let (mut tokens, mut text) = (0, 0);
    let step = |engine: &mut Engine, tokens: &mut usize, text: &mut usize| {
        let on = &mut |_, event: Event<'_>| match event {
            Event::Token { .. } => *tokens += 1,
            Event::Text(part) => *text += part.len(),
            Event::Prompt { .. } => {}
            Event::Finished(summary) => panic!("it ended too early: {summary:?}"),
        };
        engine.step(on).expect("the device is there");
    };
    while tokens == 0 {
        step(engine, &mut tokens, &mut text);
    }
    (tokens, text) = (0, 0);
    let before = allocations();
    for _ in 0..steps {
        step(engine, &mut tokens, &mut text);
    }
    let after = allocations();
    assert_eq!(tokens, steps, "every step must have decoded a token");
    (after - before, text)
}
