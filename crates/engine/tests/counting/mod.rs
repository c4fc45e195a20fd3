//! Counts heap allocations of decode steps, for any engine.
//!
//! A test file of its own includes this module and holds a single test: the count is of the whole process,
//! worker threads included, so nothing else may run beside it.

// Each test file includes this module and uses what it needs.
#![allow(dead_code, unreachable_pub)]

use engine::{Engine, Event, Params};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

/// The system's allocator, counting.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: every call is passed on as it is; the counter does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract, which is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract, which is the system's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract, which is the system's.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract, which is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Allocations made so far.
pub fn allocations() -> u64 {
    ALLOCATIONS.load(Ordering::Relaxed)
}

/// Allocations of `steps` decode steps after `warm` others, and how many bytes of text they delivered.
///
/// `params` must let the generation go on that long.
pub fn decode_allocations(
    engine: &mut Engine,
    prompt: &[u32],
    params: &Params,
    warm: usize,
    steps: usize,
) -> (u64, usize) {
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
    while tokens <= warm {
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
