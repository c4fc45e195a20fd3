//! Plan to steps: which neighbours of the plan are one launch on a GPU.
//!
//! There are three ways through a step, by its number of rows, because each has other kernels:
//! [`Regime::One`] reads weights once a token and stages its input inside every product;
//! [`Regime::Few`] (2 to 8 rows) and [`Regime::Many`] stage the input once, in the form that their tensor
//! cores take. A program has two halves: the body, up to the last attention, runs over all rows of a
//! batch; the tail runs over those whose logits are wanted, so a prompt's last product is that of one row.
//!
//! Every pattern is a slice of neighbouring ops and has the single ops as its fallback; without `fuse`
//! only the fallbacks are taken.

use crate::tile::TileFormat;
use model::Activation;
use model::plan::{Buf, GateUp, Op, Plan, VectorId, WeightId};
use std::ops::Range;

/// Most rows of [`Regime::Few`].
pub(crate) const FEW: usize = 8;

/// Which kernels run, by rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Regime {
    /// One row.
    One,
    /// 2 to [`FEW`] rows.
    Few,
    /// More.
    Many,
}

impl Regime {
    pub(crate) const ALL: [Regime; 3] = [Regime::One, Regime::Few, Regime::Many];

    pub(crate) fn of(rows: usize) -> Regime {
        match rows {
            0 | 1 => Regime::One,
            2..=FEW => Regime::Few,
            _ => Regime::Many,
        }
    }
}

/// A weight, or a range of its rows, to be loaded as a matrix of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) weight: WeightId,
    pub(crate) rows: Range<usize>,
}

/// The matrices of a plan, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts(pub(crate) Vec<Part>);

impl Parts {
    /// What `plan` multiplies: fused weights in parts, everything else whole.
    pub(crate) fn of(plan: &Plan) -> Parts {
        let mut parts = Parts::default();
        for op in &plan.ops {
            let ranges = match op {
                Op::LinearSplit { weight, .. } => {
                    let mut start = 0;
                    let ranges = [Buf::Q, Buf::K, Buf::V].map(|to| {
                        let end = start + plan.shape.width(to);
                        (*weight, std::mem::replace(&mut start, end)..end)
                    });
                    ranges.to_vec()
                }
                Op::Gated { weights: GateUp::Fused(both), .. } => {
                    let ff = plan.shape.ff;
                    vec![(*both, 0..ff), (*both, ff..2 * ff)]
                }
                op => plan.weights_of(op).into_iter().map(|id| (id, 0..plan.weight(id).rows)).collect(),
            };
            for (weight, rows) in ranges {
                let part = Part { weight, rows };
                if !parts.0.contains(&part) {
                    parts.0.push(part);
                }
            }
        }
        parts
    }

    /// The place of a part.
    fn find(&self, weight: WeightId, rows: Range<usize>) -> usize {
        let part = Part { weight, rows };
        self.0.iter().position(|known| *known == part).expect("parts are made from the same plan")
    }

    fn whole(&self, plan: &Plan, weight: WeightId) -> usize {
        self.find(weight, 0..plan.weight(weight).rows)
    }

    /// The tiles a part is kept in.
    pub(crate) fn format(&self, plan: &Plan, part: usize) -> TileFormat {
        TileFormat::of(plan.weight(self.0[part].weight).format).0
    }
}

/// Where activations lie: the plan's buffers, the second of X, and the product beside G.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    X0,
    X1,
    H,
    O,
    Q,
    K,
    V,
    A,
    G,
    U,
    Logits,
}

impl Place {
    fn of(buf: Buf, x: Place) -> Place {
        match buf {
            Buf::X => x,
            Buf::H => Place::H,
            Buf::Q => Place::Q,
            Buf::K => Place::K,
            Buf::V => Place::V,
            Buf::A => Place::A,
            Buf::G => Place::G,
            Buf::O => Place::O,
            Buf::Logits => Place::Logits,
        }
    }

    /// The other buffer of the residual stream.
    fn other(self) -> Place {
        if self == Place::X0 { Place::X1 } else { Place::X0 }
    }
}

/// The input of a product: x, or x + O, or x + rms(O) · post, then its norm if there is one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Source {
    pub(crate) x: Place,
    /// Whether O is added, and where the sum goes.
    pub(crate) sum: Option<Place>,
    pub(crate) post: Option<VectorId>,
    pub(crate) norm: Option<VectorId>,
}

impl Source {
    fn plain(x: Place) -> Source {
        Source { x, sum: None, post: None, norm: None }
    }

    /// The same input for whoever comes after the first: the sum is there already.
    pub(crate) fn again(self) -> Source {
        match self.sum {
            Some(sum) => Source { x: sum, sum: None, post: None, norm: self.norm },
            None => self,
        }
    }
}

/// The buffers of staged activations of [`Regime::Few`] and [`Regime::Many`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Written by a launch of its own.
    Main,
    /// Written by attention, which leaves the padding of its rows as it is: nobody else writes there.
    Attended,
    /// Of gated products, which are written while [`Stage::Main`] is read.
    Gated,
}

/// What a product multiplies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Input {
    Source(Source),
    Staged(Stage),
}

/// Where a product goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Index into [`Parts`].
    pub(crate) part: usize,
    /// A vector and where in it this product's rows start.
    pub(crate) bias: Option<(VectorId, usize)>,
    pub(crate) to: Place,
}

/// What happens to a product.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Finish {
    Store,
    Add,
    /// The targets are gate and up, the result goes to G.
    Gate(Activation),
    /// The same, staged into [`Stage::Gated`].
    GateStaged(Activation),
    Cap(f32),
}

/// Rotation and cache of a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Store {
    pub(crate) layer: usize,
    pub(crate) rope: Option<usize>,
    pub(crate) q_norm: Option<VectorId>,
    pub(crate) k_norm: Option<VectorId>,
}

/// Attention of a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Attend {
    pub(crate) layer: usize,
    pub(crate) window: Option<usize>,
    pub(crate) scale: f32,
    pub(crate) cap: Option<f32>,
}

/// One launch, or a few where formats differ.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// X = embedding rows · scale, and the turns of every rotation.
    Begin {
        table: usize,
        scale: f32,
    },
    /// H = rms(x) · weight.
    Norm {
        x: Place,
        weight: VectorId,
    },
    /// x += O, or x += rms(O) · post.
    Residual {
        x: Place,
        post: Option<VectorId>,
    },
    /// Into [`Stage::Main`], in the regime's form; `width` columns.
    Stage {
        source: Source,
        width: usize,
    },
    Product {
        input: Input,
        targets: Vec<Target>,
        finish: Finish,
    },
    /// Head norms, rotation, cache.
    Store(Store),
    /// A, or [`Stage::Attended`] if `staged`; with `store` rotation and cache too.
    Attend {
        attend: Attend,
        store: Option<Store>,
        staged: bool,
    },
    /// G = activation(G) · U.
    Gate {
        activation: Activation,
    },
}

/// A step and the plan's op it is timed as: the last one for products that are fused with what follows.
pub(crate) type Timed = (Step, usize);

/// A plan as one regime runs it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Program {
    /// Over all rows.
    pub(crate) body: Vec<Timed>,
    /// Over the rows that want logits.
    pub(crate) tail: Vec<Timed>,
    /// Where X and A lie between the two.
    pub(crate) x: Option<Place>,
}

struct Lowering<'a> {
    plan: &'a Plan,
    parts: &'a Parts,
    regime: Regime,
    fuse: bool,
    program: Program,
    /// Whether the rows were selected.
    tail: bool,
    /// Where the residual stream is.
    x: Place,
    /// What H stands for while nobody writes it.
    h: Source,
    /// What is staged already, and where.
    staged: Option<(Buf, Stage)>,
}

/// Lowers `plan` for one regime.
pub(crate) fn lower(plan: &Plan, parts: &Parts, regime: Regime, fuse: bool) -> Program {
    let mut low = Lowering {
        plan,
        parts,
        regime,
        fuse,
        program: Program::default(),
        tail: false,
        x: Place::X0,
        h: Source::plain(Place::H),
        staged: None,
    };
    let mut at = 0;
    while at < plan.ops.len() {
        at += low.ops(at);
    }
    low.program
}

impl Lowering<'_> {
    /// Lowers the ops from `at` on; how many were taken.
    fn ops(&mut self, at: usize) -> usize {
        let ops = &self.plan.ops[at..];
        if self.fuse
            && let Some(taken) = self.fused(ops, at)
        {
            return taken;
        }
        match &ops[0] {
            Op::Embed { table, scale } => {
                let table = self.parts.whole(self.plan, *table);
                self.push(Step::Begin { table, scale: *scale }, at);
            }
            Op::Norm { weight } => {
                self.h = Source::plain(Place::H);
                self.push(Step::Norm { x: self.x, weight: *weight }, at);
            }
            Op::Residual { post } => self.push(Step::Residual { x: self.x, post: *post }, at),
            Op::Linear { input, outputs } => {
                let targets = self.targets(outputs);
                self.product(*input, targets, Finish::Store, at);
            }
            Op::LinearSplit { input, weight, bias } => {
                let mut start = 0;
                let targets = [Buf::Q, Buf::K, Buf::V].map(|to| {
                    let end = start + self.plan.shape.width(to);
                    let part = self.parts.find(*weight, start..end);
                    let bias = bias.map(|bias| (bias, start));
                    start = end;
                    Target { part, bias, to: Place::of(to, self.x) }
                });
                self.product(*input, targets.to_vec(), Finish::Store, at);
            }
            Op::RopeStore { layer, rope, q_norm, k_norm } => {
                let (layer, rope, q_norm, k_norm) = (*layer, *rope, *q_norm, *k_norm);
                self.push(Step::Store(Store { layer, rope, q_norm, k_norm }), at);
            }
            Op::Attend { .. } => {
                let attend = attend(&ops[0]).expect("just matched");
                self.push(Step::Attend { attend, store: None, staged: false }, at);
            }
            Op::Gated { weights, activation } => self.gated(weights, *activation, ops.get(1), at),
            Op::SelectRows => {
                self.program.x = Some(self.x);
                self.tail = true;
                // What was staged is of all rows.
                self.staged = None;
            }
            Op::Logits { weight, cap } => {
                let part = self.parts.whole(self.plan, *weight);
                let target = Target { part, bias: None, to: Place::Logits };
                let finish = cap.map_or(Finish::Store, Finish::Cap);
                self.product(Buf::H, vec![target], finish, at);
            }
        }
        1
    }

    /// Patterns of neighbours; how many ops one took.
    fn fused(&mut self, ops: &[Op], at: usize) -> Option<usize> {
        match ops {
            // The sum is made where the norm's product reads it, and goes to the other X, since every
            // block of that product still reads this one.
            [Op::Residual { post }, Op::Norm { weight }, ..] => {
                let sum = self.x.other();
                self.h = Source { x: self.x, sum: Some(sum), post: *post, norm: Some(*weight) };
                self.x = sum;
                Some(2)
            }
            [Op::Norm { weight }, ..] => {
                self.h = Source { norm: Some(*weight), ..Source::plain(self.x) };
                Some(1)
            }
            [Op::Linear { input, outputs }, Op::Residual { post: None }, ..] if outputs.len() == 1 => {
                let mut targets = self.targets(outputs);
                targets[0].to = self.x;
                self.product(*input, targets, Finish::Add, at);
                Some(2)
            }
            [Op::RopeStore { layer, rope, q_norm, k_norm }, next @ Op::Attend { .. }, ..]
                if self.regime == Regime::One =>
            {
                let (layer, rope, q_norm, k_norm) = (*layer, *rope, *q_norm, *k_norm);
                let store = Some(Store { layer, rope, q_norm, k_norm });
                let attend = attend(next).expect("just matched");
                self.push(Step::Attend { attend, store, staged: false }, at + 1);
                Some(2)
            }
            [op @ Op::Attend { .. }, Op::Linear { input: Buf::A, .. }, ..] if self.regime == Regime::Many => {
                let attend = attend(op).expect("just matched");
                self.push(Step::Attend { attend, store: None, staged: true }, at);
                self.staged = Some((Buf::A, Stage::Attended));
                Some(1)
            }
            _ => None,
        }
    }

    fn push(&mut self, step: Step, op: usize) {
        let half = if self.tail { &mut self.program.tail } else { &mut self.program.body };
        half.push((step, op));
    }

    fn targets(&self, outputs: &[model::plan::Output]) -> Vec<Target> {
        let target = |output: &model::plan::Output| Target {
            part: self.parts.whole(self.plan, output.weight),
            bias: output.bias.map(|bias| (bias, 0)),
            to: Place::of(output.to, self.x),
        };
        outputs.iter().map(target).collect()
    }

    /// The products of a buffer, staged first where the regime wants that.
    fn product(&mut self, input: Buf, targets: Vec<Target>, finish: Finish, op: usize) {
        let width = self.plan.shape.width(input);
        let source = if input == Buf::H { self.h } else { Source::plain(Place::of(input, self.x)) };
        let input = match self.staged.filter(|(staged, _)| *staged == input) {
            Some((_, stage)) => Input::Staged(stage),
            None if self.regime == Regime::One => Input::Source(source),
            None => {
                self.push(Step::Stage { source, width }, op);
                Input::Staged(Stage::Main)
            }
        };
        self.staged = None;
        self.h = self.h.again();
        self.push(Step::Product { input, targets, finish }, op);
    }

    fn gated(&mut self, weights: &GateUp, activation: Activation, next: Option<&Op>, op: usize) {
        let ff = self.plan.shape.ff;
        let (gate, up) = match weights {
            GateUp::Pair { gate, up } => {
                (self.parts.whole(self.plan, *gate), self.parts.whole(self.plan, *up))
            }
            GateUp::Fused(both) => (self.parts.find(*both, 0..ff), self.parts.find(*both, ff..2 * ff)),
        };
        let target = |part, to| Target { part, bias: None, to };
        let targets = vec![target(gate, Place::G), target(up, Place::U)];
        if !self.fuse || self.parts.format(self.plan, gate) != self.parts.format(self.plan, up) {
            self.product(Buf::H, targets, Finish::Store, op);
            self.push(Step::Gate { activation }, op);
            return;
        }
        let staged = self.regime == Regime::Many && matches!(next, Some(Op::Linear { input: Buf::G, .. }));
        let finish = if staged { Finish::GateStaged(activation) } else { Finish::Gate(activation) };
        self.product(Buf::H, targets, finish, op);
        self.staged = staged.then_some((Buf::G, Stage::Gated));
    }
}

fn attend(op: &Op) -> Option<Attend> {
    match op {
        Op::Attend { layer, window, scale, cap } => {
            Some(Attend { layer: *layer, window: *window, scale: *scale, cap: *cap })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
