//! What a runner holds: foretold before loading, taken page by page, given back, and never taken in a step.
//!
//! One test, for it looks at the whole process.

use cpu::Cpu;
use gguf::Gguf;
use model::runner::{KvType, PAGE};
use model::{Batch, Device, LoadOptions, Plan, Row, Runner};
use quant::Format;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};
use testkit::tiny::{FAMILIES, Tiny};

const KINDS: [KvType; 4] = [KvType::F16, KvType::F32, KvType::Int8, KvType::Int4];

/// Counts what is taken from the heap.
struct Counting;

static TAKEN: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is the system's; only a number is kept beside.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        TAKEN.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes of this process in memory, of all kinds.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/smaps_rollup").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("Rss:")).expect("it is always there");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") << 10
}

fn load(file: &Gguf, plan: &Plan, options: &LoadOptions) -> Box<dyn Runner> {
    Cpu::new().load(file, plan, options, &mut |_, _| ()).expect("a tiny model")
}

fn read(tiny: &Tiny, context: usize) -> (Gguf, Plan) {
    let file = tiny.parts().gguf();
    let (_, plan) = Plan::read(&file, Some(context)).expect("a tiny model");
    (file, plan)
}

/// Positions `from..to` of one slot in one step.
fn step(runner: &mut dyn Runner, from: usize, to: usize) -> Vec<f32> {
    let row =
        |position: usize| Row { slot: 0, position: position as u32, token: 3, logits: position + 1 == to };
    runner.step(&Batch { rows: (from..to).map(row).collect() }).expect("no device to lose");
    runner.logits().to_vec()
}

fn costs_are_what_runners_hold() {
    for (i, family) in FAMILIES.into_iter().enumerate() {
        for kv in KINDS {
            for (threads, format) in [(1, Format::F16), (3, Format::ALL[(7 * i) % Format::ALL.len()])] {
                let (file, plan) = read(&Tiny::new(family, 3).with_format(format), 200);
                let options = LoadOptions { rows: 40, logit_rows: 5, slots: 3, pages: 21, kv, threads };
                let runner = load(&file, &plan, &options);
                let foretold = Cpu::new().cost(&plan, &options);
                assert_eq!(foretold, runner.memory(), "{family} in {format}, {kv:?}, {threads} threads");
                for group in 0..plan.kv.len() {
                    let page = Cpu::new().page_cost(&plan, group, &options);
                    let bytes = runner.page_bytes(group) as u64;
                    assert!(page >= bytes && page - bytes < 64 << 10 && page.is_multiple_of(4096));
                    assert!(bytes >= plan.page_bytes(group, &options), "heads may be padded, not cut");
                }
            }
        }
    }
}

fn pages_go_out_and_come_back() {
    for kv in KINDS {
        let (file, plan) = read(&Tiny::new("llama", 8), 128);
        let options = LoadOptions { pages: 6, kv, ..LoadOptions::single(100, 2) };
        let mut runner = load(&file, &plan, &options);
        assert!(runner.grows());
        runner.map(0, 0, 0, &[4, 1, 3]);
        step(runner.as_mut(), 0, 70);
        let want = step(runner.as_mut(), 70, 71);
        let bytes = runner.page_bytes(0);
        let mut kept = vec![vec![0; bytes]; 2];
        runner.read_page(0, 4, &mut kept[0]).expect("no device to lose");
        runner.read_page(0, 1, &mut kept[1]).expect("no device to lose");
        assert!(kept[0].iter().any(|&byte| byte != 0) && kept[0] != kept[1]);
        // Given back, a page is zero, and the others are what they were.
        runner.give_back(0, 4);
        let mut now = vec![1; bytes];
        runner.read_page(0, 4, &mut now).expect("no device to lose");
        assert!(now.iter().all(|&byte| byte == 0), "{kv:?}");
        runner.read_page(0, 1, &mut now).expect("no device to lose");
        assert_eq!(now, kept[1], "{kv:?}");
        // Into another page of another runner, copied on: the sequence goes on as if nothing had happened.
        let mut other = load(&file, &plan, &options);
        other.write_page(0, 0, &kept[0]).expect("no device to lose");
        other.write_page(0, 2, &kept[1]).expect("no device to lose");
        runner.read_page(0, 3, &mut now).expect("no device to lose");
        other.write_page(0, 5, &now).expect("no device to lose");
        other.copy_page(0, 5, 1);
        other.give_back(0, 5);
        other.map(0, 0, 0, &[0, 2, 1]);
        assert_eq!(step(other.as_mut(), 70, 71), want, "{kv:?}");
    }
}

/// A page takes no more than `page_cost` says, and gives it back.
fn pages_take_memory_when_written() {
    for kv in [KvType::F16, KvType::Int4] {
        let tiny =
            Tiny { layers: 6, kv_heads: 4, heads: 4, head_dim: 128, rope_dims: 128, ..Tiny::new("llama", 9) };
        let (file, plan) = read(&tiny, 32 * PAGE);
        let options = LoadOptions { kv, ..LoadOptions::single(32 * PAGE, 1) };
        let mut runner = load(&file, &plan, &options);
        let cost = Cpu::new().page_cost(&plan, 0, &options);
        let pages: Vec<u32> = (0..32).rev().collect();
        runner.map(0, 0, 0, &pages);
        // Buffers and stacks are touched by a step as large as any.
        step(runner.as_mut(), 0, PAGE);
        step(runner.as_mut(), 0, 1);
        let start = resident();
        for page in 1..31 {
            step(runner.as_mut(), page * PAGE, (page + 1) * PAGE);
        }
        let taken = resident() - start;
        assert!(taken <= 30 * cost + (64 << 10), "{kv:?}: {taken} bytes for 30 pages of {cost}");
        assert!(taken >= 29 * cost, "{kv:?}: {taken} bytes for 30 pages of {cost}");
        for page in 1..31 {
            runner.give_back(0, page);
        }
        let left = resident().saturating_sub(start);
        assert!(left <= 64 << 10, "{kv:?}: {left} bytes of {taken} are left");
    }
}

fn steps_take_nothing_from_the_heap() {
    for kv in KINDS {
        let (file, plan) = read(&Tiny::new("gemma3", 10), 128);
        let options = LoadOptions { kv, ..LoadOptions::single(128, 2) };
        let mut runner = load(&file, &plan, &options);
        for group in 0..plan.kv.len() {
            runner.map(
                0,
                group,
                0,
                &[0, 1, 2, 3][..runner.options().group_pages(plan.kv[group].window).min(4)],
            );
        }
        let rows = |from: u32, to: u32| Batch {
            rows: (from..to).map(|position| Row { slot: 0, position, token: 3, logits: false }).collect(),
        };
        let batches = [rows(0, 40), rows(40, 41), rows(41, 60), rows(60, 61)];
        let before = TAKEN.load(Ordering::Relaxed);
        for batch in &batches {
            runner.step(batch).expect("no device to lose");
        }
        assert_eq!(TAKEN.load(Ordering::Relaxed) - before, 0, "{kv:?}");
    }
}

#[test]
fn memory_is_what_was_said() {
    costs_are_what_runners_hold();
    pages_go_out_and_come_back();
    pages_take_memory_when_written();
    steps_take_nothing_from_the_heap();
}
