//! Plan to steps: which neighbours are done together on cores.
//!
//! A residual without a norm of its own is added where the product before it is written; a norm and the
//! rounding of what it gives are one pass over a row; rotation, cache and attention are one step. Fused
//! matrices are split by rows when loaded.

use crate::kernels::Kind;
use model::Activation;
use model::plan::{Buf, GateUp, Op, Plan, VectorId, WeightId};
use std::ops::Range;

/// A weight, or a range of its rows, to be loaded.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part {
    pub(crate) weight: WeightId,
    pub(crate) rows: Range<usize>,
}

/// Where a product goes.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Index into [`Lowered::parts`].
    pub(crate) matrix: usize,
    /// A vector and where in it this product's rows start.
    pub(crate) bias: Option<(VectorId, usize)>,
    pub(crate) to: Buf,
    /// Added to what is there, instead of replacing it.
    pub(crate) add: bool,
}

/// Which forms of a product's input are wanted besides floats.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Forms {
    pub(crate) q32: bool,
    pub(crate) q256: bool,
}

impl Forms {
    /// Of products with weights of these kinds.
    pub(crate) fn of(kinds: impl Iterator<Item = Kind>) -> Forms {
        let mut forms = Forms::default();
        for kind in kinds {
            forms.q32 |= kind == Kind::Q32;
            forms.q256 |= kind == Kind::Q256;
        }
        forms
    }
}

/// What the threads do between two meetings.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Embed {
        matrix: usize,
        scale: f32,
    },
    /// X += rms(O) · post.
    Residual {
        post: VectorId,
    },
    /// H = rms(X) · weight, in the forms wanted.
    Norm {
        weight: VectorId,
        forms: Forms,
    },
    /// A or G in the forms wanted.
    Round {
        input: Buf,
        forms: Forms,
    },
    Product {
        input: Buf,
        targets: Vec<Target>,
    },
    Attend {
        layer: usize,
        rope: Option<usize>,
        q_norm: Option<VectorId>,
        k_norm: Option<VectorId>,
        window: Option<usize>,
        scale: f32,
        cap: Option<f32>,
    },
    Gated {
        gate: usize,
        up: usize,
        activation: Activation,
    },
    SelectRows,
    Logits {
        matrix: usize,
        cap: Option<f32>,
    },
}

/// A plan as this backend runs it.
pub(crate) struct Lowered {
    /// Each step and the plan's op it ends with.
    pub(crate) steps: Vec<(Step, usize)>,
    /// What is to be loaded, each once.
    pub(crate) parts: Vec<Part>,
}

impl Lowered {
    fn part(&mut self, weight: WeightId, rows: Range<usize>) -> usize {
        let part = Part { weight, rows };
        self.parts.iter().position(|known| *known == part).unwrap_or_else(|| {
            self.parts.push(part);
            self.parts.len() - 1
        })
    }

    fn whole(&mut self, plan: &Plan, weight: WeightId) -> usize {
        self.part(weight, 0..plan.weight(weight).rows)
    }

    fn push(&mut self, step: Step, op: usize) {
        self.steps.push((step, op));
    }
}

/// Lowers `plan`; `kind` says which activations a format multiplies.
pub(crate) fn lower(plan: &Plan, kind: impl Fn(WeightId) -> Kind) -> Lowered {
    let mut low = Lowered { steps: vec![], parts: vec![] };
    let forms = |op: Option<&Op>| Forms::of(op.into_iter().flat_map(|op| plan.weights_of(op)).map(&kind));
    let mut at = 0;
    while let Some(op) = plan.ops.get(at) {
        let mut next = at + 1;
        match op {
            Op::Embed { table, scale } => {
                let matrix = low.whole(plan, *table);
                low.push(Step::Embed { matrix, scale: *scale }, at);
            }
            Op::Norm { weight } => {
                low.push(Step::Norm { weight: *weight, forms: forms(plan.ops.get(next)) }, at);
            }
            Op::Residual { post: Some(post) } => low.push(Step::Residual { post: *post }, at),
            Op::Residual { post: None } => unreachable!("every residual follows the product it adds"),
            Op::Linear { input, outputs } => {
                let add = matches!(plan.ops.get(next), Some(Op::Residual { post: None }));
                if *input != Buf::H {
                    low.push(Step::Round { input: *input, forms: forms(Some(op)) }, at);
                }
                let mut targets = vec![];
                for output in outputs {
                    let matrix = low.whole(plan, output.weight);
                    let to = if add { Buf::X } else { output.to };
                    targets.push(Target { matrix, bias: output.bias.map(|bias| (bias, 0)), to, add });
                }
                low.push(Step::Product { input: *input, targets }, at);
                next += usize::from(add);
            }
            Op::LinearSplit { input, weight, bias } => {
                let mut targets = vec![];
                let mut start = 0;
                for to in [Buf::Q, Buf::K, Buf::V] {
                    let end = start + plan.shape.width(to);
                    let matrix = low.part(*weight, start..end);
                    targets.push(Target { matrix, bias: bias.map(|bias| (bias, start)), to, add: false });
                    start = end;
                }
                low.push(Step::Product { input: *input, targets }, at);
            }
            Op::RopeStore { layer, rope, q_norm, k_norm } => {
                let Some(Op::Attend { window, scale, cap, .. }) = plan.ops.get(next) else {
                    unreachable!("attention follows its cache");
                };
                next += 1;
                let (layer, rope, q_norm, k_norm) = (*layer, *rope, *q_norm, *k_norm);
                let (window, scale, cap) = (*window, *scale, *cap);
                low.push(Step::Attend { layer, rope, q_norm, k_norm, window, scale, cap }, at + 1);
            }
            Op::Attend { .. } => unreachable!("attention follows its cache"),
            Op::Gated { weights, activation } => {
                let ff = plan.shape.ff;
                let (gate, up) = match weights {
                    GateUp::Pair { gate, up } => (low.whole(plan, *gate), low.whole(plan, *up)),
                    GateUp::Fused(both) => (low.part(*both, 0..ff), low.part(*both, ff..2 * ff)),
                };
                low.push(Step::Gated { gate, up, activation: *activation }, at);
            }
            Op::SelectRows => low.push(Step::SelectRows, at),
            Op::Logits { weight, cap } => {
                let matrix = low.whole(plan, *weight);
                low.push(Step::Logits { matrix, cap: *cap }, at);
            }
        }
        at = next;
    }
    low
}
