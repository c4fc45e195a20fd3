//! What operations have to do: bytes of weights and cache to move, multiplications to make.
//!
//! Activations are not counted: they are small and stay in caches.

use crate::cmd::speed_test::Test;
use model::Plan;
use model::plan::{GateUp, Op, Weight};

impl Test {
    /// What times are told for: a prompt, or a token.
    pub(super) fn units(self) -> usize {
        if self.prompt > 0 { 1 } else { self.generate }
    }

    /// The steps it takes when a step has up to `batch` rows.
    pub(super) fn steps(self, batch: usize) -> Vec<Step> {
        let rows = if self.prompt > 0 { batch.max(1) } else { 1 };
        let step = |first: usize| {
            let rows = rows.min(self.tokens() - first);
            // Of a prompt only the last row's logits are wanted.
            let wanted = usize::from(self.prompt == 0 || first + rows == self.prompt);
            Step { first: self.depth + first, rows, wanted }
        };
        (0..self.tokens()).step_by(rows).map(step).collect()
    }
}

/// Rows of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Position of the first.
    pub(super) first: usize,
    pub(super) rows: usize,
    /// Rows whose logits are wanted.
    pub(super) wanted: usize,
}

/// What an operation does.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Work {
    /// Weights and cache that have to be read or written, in bytes.
    pub(super) bytes: f64,
    /// Multiplications and additions.
    pub(super) operations: f64,
}

impl Work {
    pub(super) fn add(&mut self, other: Work) {
        self.bytes += other.bytes;
        self.operations += other.operations;
    }
}

/// How a device holds weights and cache.
pub(super) struct Held {
    /// Bytes of a weight.
    pub(super) weight: fn(&Weight) -> u64,
    /// Bytes of a head's key in the cache.
    pub(super) key: usize,
}

/// Bytes of a weight in the file.
pub(super) fn of_file(weight: &Weight) -> u64 {
    let row = weight.format.row_bytes(weight.cols).expect("the reader checked whole blocks");
    (weight.rows * row) as u64
}

/// The work of each of the plan's operations in all `steps`.
pub(super) fn of(plan: &Plan, steps: &[Step], held: &Held) -> Vec<Work> {
    let mut work = vec![Work::default(); plan.ops.len()];
    for step in steps {
        let mut rows = step.rows;
        for (work, op) in work.iter_mut().zip(&plan.ops) {
            if matches!(op, Op::SelectRows) {
                rows = step.wanted;
            }
            if rows > 0 {
                work.add(of_op(plan, op, *step, rows, held));
            }
        }
    }
    work
}

fn of_op(plan: &Plan, op: &Op, step: Step, rows: usize, held: &Held) -> Work {
    let shape = &plan.shape;
    // A key and a value.
    let entry = (2 * shape.kv_heads * held.key) as f64;
    match op {
        Op::Embed { table, .. } => {
            let table = plan.weight(*table);
            let row = (held.weight)(table) as f64 / table.rows as f64;
            Work { bytes: rows as f64 * row, operations: 0.0 }
        }
        Op::RopeStore { .. } => Work { bytes: rows as f64 * entry, operations: 0.0 },
        Op::Attend { window, .. } => {
            let end = step.first + rows;
            let from = |position: usize| window.map_or(0, |window| (position + 1).saturating_sub(window));
            let seen: usize = (step.first..end).map(|position| position + 1 - from(position)).sum();
            // A product with the key and one with the value, two operations each.
            let operations = (4 * shape.heads * shape.head_dim) as f64 * seen as f64;
            Work { bytes: (end - from(step.first)) as f64 * entry, operations }
        }
        Op::Linear { .. } | Op::LinearSplit { .. } | Op::Gated { .. } | Op::Logits { .. } => {
            plan.weights_of(op).iter().fold(Work::default(), |mut work, &id| {
                let weight = plan.weight(id);
                let operations = 2.0 * rows as f64 * weight.rows as f64 * weight.cols as f64;
                work.add(Work { bytes: (held.weight)(weight) as f64, operations });
                work
            })
        }
        Op::Norm { .. } | Op::Residual { .. } | Op::SelectRows => Work::default(),
    }
}

/// An operation's name with the format of its first weights, on which its speed depends.
pub(super) fn kind(plan: &Plan, op: &Op) -> String {
    use model::plan::Buf;
    let name = match op {
        Op::Embed { .. } => "embed",
        Op::Norm { .. } => "norm",
        Op::Residual { .. } => "residual",
        Op::Linear { input: Buf::A, .. } => "attention out",
        Op::Linear { input: Buf::G, .. } => "down",
        Op::Linear { .. } | Op::LinearSplit { .. } => "q k v",
        Op::RopeStore { .. } => "rope, store",
        Op::Attend { .. } => "attend",
        Op::Gated { weights: GateUp::Pair { .. } | GateUp::Fused(_), .. } => "gate, up",
        Op::SelectRows => "select rows",
        Op::Logits { .. } => "logits",
    };
    match plan.weights_of(op).first() {
        Some(&id) => format!("{name} {}", plan.weight(id).format),
        None => name.to_owned(),
    }
}

/// The layer of each operation, `None` before the first and behind the last.
pub(super) fn layers(plan: &Plan) -> Vec<Option<usize>> {
    let of_name = |name: &str| name.strip_prefix("blk.")?.split('.').next()?.parse().ok();
    let mut layer = None;
    let of_op = |op: &Op| {
        let vector = match op {
            Op::Norm { weight } | Op::Residual { post: Some(weight) } => Some(*weight),
            Op::RopeStore { layer: at, .. } | Op::Attend { layer: at, .. } => {
                layer = Some(*at);
                None
            }
            _ => None,
        };
        let weight = plan.weights_of(op).first().map(|&id| plan.weight(id).tensor.as_str());
        let name = vector.map(|id| plan.vectors[id.0].tensor.as_str()).or(weight);
        if let Some(name) = name {
            layer = of_name(name);
        }
        layer
    };
    plan.ops.iter().map(of_op).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::tiny::Tiny;

    fn plan() -> Plan {
        Plan::read(&Tiny::new("llama", 3).parts().gguf(), Some(64)).expect("a tiny model").1
    }

    #[test]
    fn a_prompt_is_cut_into_steps_and_only_the_last_row_wants_logits() {
        let steps = Test { prompt: 20, generate: 0, depth: 5 }.steps(8);
        let step = |first, rows, wanted| Step { first, rows, wanted };
        assert_eq!(steps, [step(5, 8, 0), step(13, 8, 0), step(21, 4, 1)]);
        let steps = Test { prompt: 0, generate: 2, depth: 5 }.steps(8);
        assert_eq!(steps, [step(5, 1, 1), step(6, 1, 1)]);
    }

    /// The sums of this file are those the plan makes of itself.
    #[test]
    fn a_tokens_work_is_the_plans() {
        let plan = plan();
        let options = model::LoadOptions::single(64, 1);
        let held = Held { weight: of_file, key: options.kv.head_bytes(plan.shape.head_dim) };
        for depth in [0, 7, 40] {
            let test = Test { prompt: 0, generate: 1, depth };
            let work = of(&plan, &test.steps(8), &held);
            let mut sum = Work::default();
            for (work, op) in work.iter().zip(&plan.ops) {
                // The plan counts neither the row of the table nor what is stored.
                if !matches!(op, Op::Embed { .. } | Op::RopeStore { .. }) {
                    sum.bytes += work.bytes;
                }
                if !matches!(op, Op::Attend { .. }) {
                    sum.operations += work.operations;
                }
            }
            assert_eq!(sum.bytes as u64, plan.step_bytes(depth, &options));
            assert_eq!(sum.operations as u64, 2 * plan.step_products());
        }
    }

    /// Attention by hand: rows 4 and 5 see 5 and 6 positions; with a window of 3 each sees 3, 4 in all.
    #[test]
    fn windows_limit_what_is_read() {
        let plan = plan();
        let held = Held { weight: |_| 0, key: 10 };
        let step = Step { first: 4, rows: 2, wanted: 1 };
        let attend = |window| {
            let op = Op::Attend { layer: 0, window, scale: 1.0, cap: None };
            of_op(&plan, &op, step, 2, &held)
        };
        let entry = (20 * plan.shape.kv_heads) as f64;
        let each = (4 * plan.shape.heads * plan.shape.head_dim) as f64;
        assert_eq!(attend(None), Work { bytes: 6.0 * entry, operations: 11.0 * each });
        assert_eq!(attend(Some(3)), Work { bytes: 4.0 * entry, operations: 6.0 * each });
    }

    #[test]
    fn operations_know_their_layer() {
        let plan = plan();
        let layers = layers(&plan);
        assert_eq!(layers.first(), Some(&None), "the table");
        assert_eq!(layers.last(), Some(&None), "the logits");
        let mut seen: Vec<usize> = layers.iter().flatten().copied().collect();
        assert!(seen.is_sorted());
        seen.dedup();
        assert_eq!(seen, (0..plan.shape.layers).collect::<Vec<_>>());
    }
}
