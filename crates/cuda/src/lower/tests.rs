//! What fusion makes of tiny models.

use super::*;
use testkit::tiny::{FAMILIES, Tiny};

fn program(family: &'static str, regime: Regime, fuse: bool) -> (Plan, Program) {
    let (_, plan) = Plan::read(&Tiny::new(family, 1).parts().gguf(), None).expect("a tiny model");
    let parts = Parts::of(&plan);
    let program = lower(&plan, &parts, regime, fuse);
    (plan, program)
}

/// Five launches a layer, begin and logits: what the kernels were designed for.
#[test]
fn one_row_takes_five_launches_a_layer() {
    for family in FAMILIES {
        let (plan, program) = program(family, Regime::One, true);
        let launches = program.body.len() + program.tail.len();
        assert_eq!(launches, 5 * plan.shape.layers + 2, "{family}");
    }
}

#[test]
fn prefill_stages_each_residual_stream_once() {
    let (plan, program) = program("llama", Regime::Many, true);
    let all = || program.body.iter().chain(&program.tail);
    // Two of X a layer, one of the selected A and one before the logits.
    let stages = all().filter(|(step, _)| matches!(step, Step::Stage { .. })).count();
    assert_eq!(stages, 2 * plan.shape.layers + 2);
    assert_eq!(all().count(), 8 * plan.shape.layers + 1 + 1 + 2);
}

/// With norms behind blocks the stream changes its buffer twice a layer, and whoever reads it next
/// finds it there.
#[test]
fn sums_go_to_the_other_buffer() {
    let (plan, program) = program("gemma2", Regime::One, true);
    let mut x = Place::X0;
    let mut sums = 0;
    for (step, _) in program.body.iter().chain(&program.tail) {
        let Step::Product { input: Input::Source(source), .. } = step else { continue };
        if source.norm.is_some() {
            assert_eq!(source.x, x);
            if let Some(sum) = source.sum {
                assert_ne!(sum, x);
                x = sum;
                sums += 1;
            }
        }
    }
    assert_eq!(sums, 2 * plan.shape.layers);
}

/// Without fusion every op is a step of its own, in the plan's order.
#[test]
fn without_fusion_ops_stay_apart() {
    for family in FAMILIES {
        for regime in Regime::ALL {
            let (plan, program) = program(family, regime, false);
            let steps: Vec<&Timed> = program.body.iter().chain(&program.tail).collect();
            assert!(steps.is_sorted_by_key(|(_, op)| *op), "{family}");
            for op in 0..plan.ops.len() {
                let known = steps.iter().any(|(_, of)| *of == op);
                assert_eq!(known, plan.ops[op] != Op::SelectRows, "{family}: op {op}");
            }
            let plain = |source: &Source| source.sum.is_none() && source.norm.is_none();
            for (step, _) in steps {
                match step {
                    Step::Stage { source, .. } | Step::Product { input: Input::Source(source), .. } => {
                        assert!(plain(source));
                    }
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn fused_matrices_become_parts_and_tied_ones_stay_one() {
    let (_, plan) = Plan::read(&Tiny::new("phi3", 1).parts().gguf(), None).expect("a tiny model");
    // Three of attention, its output, gate, up, down a layer; embedding and output.
    assert_eq!(Parts::of(&plan).0.len(), 7 * plan.shape.layers + 2);
    let (_, plan) = Plan::read(&Tiny::new("qwen2", 1).parts().gguf(), None).expect("a tiny model");
    assert_eq!(Parts::of(&plan).0.len(), 7 * plan.shape.layers + 1);
}
