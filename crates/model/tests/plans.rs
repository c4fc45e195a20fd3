//! Plans of tiny models as text, one snapshot a family, and what they cost, worked out by hand.

use model::plan::Buf;
use model::runner::{KvType, PAGE};
use model::{LoadOptions, Plan};
use quant::Format;
use testkit::tiny::{FAMILIES, Factors, Tiny};

fn plan(tiny: &Tiny, context: usize) -> Plan {
    Plan::read(&tiny.parts().gguf(), Some(context)).expect("a tiny model is a model").1
}

#[test]
fn plans_of_all_families() {
    for family in FAMILIES {
        insta::assert_snapshot!(family, plan(&Tiny::new(family, 1), 128));
    }
}

/// Every part that a family may have or lack, in one text each.
#[test]
fn plans_of_variants() {
    let phi3 = Tiny { fused: false, factors: Factors::None, ..Tiny::new("phi3", 1) };
    insta::assert_snapshot!("phi3-split", plan(&Tiny { layers: 1, ..phi3 }, 128));
    let biased = Tiny { biases: true, layers: 1, window: Some(24), ..Tiny::new("phi3", 1) };
    insta::assert_snapshot!("phi3-fused-biases-window", plan(&biased, 48));
    let llama = Tiny { biases: true, tied: true, layers: 1, rope_dims: 8, ..Tiny::new("llama", 1) };
    let llama = Tiny { factors: Factors::Llama, ..llama }.with_format(Format::Q4_K);
    insta::assert_snapshot!("llama-tied-biases-partial", plan(&llama, 128));
}

#[test]
fn phi3_takes_long_factors_beyond_its_first_training() {
    let tiny = Tiny::new("phi3", 1);
    let (short, long) = (plan(&tiny, 64), plan(&tiny, 65));
    assert_ne!(short.ropes, long.ropes);
    assert_eq!(short.ropes, plan(&tiny, 1).ropes);
    assert_eq!(long.ropes, plan(&tiny, 256).ropes);
}

#[test]
fn costs_worked_out_by_hand() {
    // 2 layers, dim 64, 4 heads of 16, 2 for keys, ff 96, 288 tokens, Q8_0: 34 bytes for 32 weights.
    let tiny = Tiny::new("llama", 1).with_format(Format::Q8_0);
    let plan = plan(&tiny, 200);
    let bytes = |weights: u64| weights / 32 * 34;
    // Q 64×64, K and V 64×32, output 64×64, gate, up and down 64×96.
    let layer = 64 * 64 + 2 * 64 * 32 + 64 * 64 + 3 * 64 * 96;
    assert_eq!(layer, 30_720);
    let head = 288 * 64;
    // Two norms a layer and the last one, F32.
    let norms = (2 * 2 + 1) * 64 * 4;
    let options = LoadOptions { rows: 10, logit_rows: 3, slots: 2, pages: 7, kv: KvType::F16, threads: 1 };
    assert_eq!(plan.weight_bytes(), bytes(2 * head + 2 * layer) + norms);

    // A page: 32 positions, keys and values, 2 heads of 16, 2 layers, 2 bytes.
    assert_eq!(plan.page_bytes(0, &options), 32 * 2 * 2 * 16 * 2 * 2);
    let memory = plan.memory(&options);
    assert_eq!(memory.weights, plan.weight_bytes());
    assert_eq!(memory.kv, 7 * 8192);
    // X, H and O of 64, Q and A of 64, K and V of 32, G of 96, F32; 3 rows of logits.
    assert_eq!(memory.buffers, 10 * (3 * 64 + 2 * 64 + 2 * 32 + 96) * 4 + 3 * 288 * 4);
    assert_eq!(memory.total(), memory.weights + memory.kv + memory.buffers);
    let singles = LoadOptions { kv: KvType::F32, ..options };
    assert_eq!(plan.memory(&singles).kv, 2 * memory.kv);

    // A token at depth 99 reads every matrix but the table, and 100 positions of 2 layers.
    let cache = |positions: u64| positions * 2 * 2 * 16 * 2 * 2;
    assert_eq!(plan.step_bytes(99, &options), bytes(head + 2 * layer) + cache(100));
    assert_eq!(plan.step_bytes(0, &options), bytes(head + 2 * layer) + cache(1));
    assert_eq!(plan.step_products(), head + 2 * layer);
}

#[test]
fn costs_of_windows_and_tied_tables() {
    // Gemma 3: 7 layers, 6 of them in a window of 24; 4 heads of 32, 2 for keys; the table is the head.
    let plan = plan(&Tiny::new("gemma3", 1), 256);
    let options = LoadOptions::single(256, 1);
    assert_eq!(options.pages, 256 / PAGE);
    let groups: Vec<_> = plan.kv.iter().map(|group| (group.window, group.layers.clone())).collect();
    assert_eq!(groups, [(Some(24), vec![0, 1, 2, 3, 4, 6]), (None, vec![5])]);
    let entry = 2 * 2 * 32 * 2;
    assert_eq!(plan.page_bytes(0, &options), 32 * 6 * entry);
    assert_eq!(plan.page_bytes(1, &options), 32 * entry);
    assert_eq!(plan.memory(&options).kv, 8 * 32 * 7 * entry);
    let layer = (64 * 128 + 2 * 64 * 64 + 128 * 64 + 3 * 64 * 96) * 4;
    let head = 288 * 64 * 4;
    assert_eq!(plan.step_bytes(9, &options), head + 7 * layer + 10 * 7 * entry);
    assert_eq!(plan.step_bytes(200, &options), head + 7 * layer + (6 * 24 + 201) * entry);
    // Four norms and two head norms a layer, and the last norm.
    let vectors = 7 * (4 * 64 + 2 * 32) + 64;
    assert_eq!(plan.weight_bytes(), head + 7 * layer + vectors * 4);
    assert_eq!(plan.shape.width(Buf::Q), 128);
}
