//! Time by kind of operation.

use model::Runner;
use model::plan::{GateUp, Op, Plan};
use serde_json::json;

/// Time spent in operations of one kind.
pub(super) struct Line {
    pub(super) kind: String,
    pub(super) runs: u64,
    pub(super) nanos: u64,
}

impl Line {
    pub(super) fn json(&self) -> serde_json::Value {
        json!({"op": self.kind, "runs": self.runs, "ns": self.nanos})
    }
}

/// The kinds that took time, the longest first.
pub(super) fn lines(runner: &dyn Runner) -> Vec<Line> {
    let plan = runner.plan();
    let mut lines: Vec<Line> = Vec::new();
    for (op, time) in plan.ops.iter().zip(runner.times()).filter(|(_, time)| time.nanos > 0) {
        let kind = kind(plan, op);
        match lines.iter_mut().find(|line| line.kind == kind) {
            Some(line) => {
                line.runs += time.runs;
                line.nanos += time.nanos;
            }
            None => lines.push(Line { kind, runs: time.runs, nanos: time.nanos }),
        }
    }
    lines.sort_by_key(|line| std::cmp::Reverse(line.nanos));
    lines
}

/// An operation's name with the format of its (first) weights, on which its speed depends.
fn kind(plan: &Plan, op: &Op) -> String {
    let name = match op {
        Op::Embed { .. } => "embed",
        Op::Norm { .. } => "norm",
        Op::Residual { .. } => "residual",
        Op::Linear { outputs, .. } if outputs.len() > 1 => "linear q k v",
        Op::Linear { .. } => "linear",
        Op::LinearSplit { .. } => "linear qkv",
        Op::RopeStore { .. } => "rope, store",
        Op::Attend { .. } => "attend",
        Op::Gated { weights: GateUp::Pair { .. }, .. } => "gate, up",
        Op::Gated { weights: GateUp::Fused(_), .. } => "gate-up",
        Op::SelectRows => "select rows",
        Op::Logits { .. } => "logits",
    };
    match plan.weights_of(op).first() {
        Some(&id) => format!("{name} {}", plan.weight(id).format),
        None => name.to_owned(),
    }
}
