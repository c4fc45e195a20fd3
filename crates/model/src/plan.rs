//! The forward pass as a flat list of fused operations over nine named buffers.
//!
//! No graph, no inference of shapes, no optimiser: a backend walks [`Plan::ops`] in order. The idea is
//! the instruction list of HazyResearch's Megakernels, whose Python interpreter plays our
//! [`crate::reference`].

use crate::{Activation, rope::RopeTable};
use quant::Format;
use std::fmt;

/// Activations, each `[rows, width]` with one row a token of the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Buf {
    /// Residual stream, `dim` wide.
    X,
    /// Normalised, `dim` wide.
    H,
    /// Queries, `heads · head_dim` wide.
    Q,
    /// Keys, `kv_heads · head_dim` wide.
    K,
    /// Values, as wide as keys.
    V,
    /// Attention's result, as wide as queries.
    A,
    /// Gated, `ff` wide.
    G,
    /// A block's output, `dim` wide.
    O,
    /// Scores of the vocabulary, only for selected rows.
    Logits,
}

/// Index into [`Plan::weights`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WeightId(pub usize);

/// Index into [`Plan::vectors`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VectorId(pub usize);

/// A matrix of the file: `rows` outputs of `cols` inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weight {
    /// Tensor in the file.
    pub tensor: String,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// Block format.
    pub format: Format,
    /// Order in which rows are to be loaded.
    pub order: RowOrder,
}

/// A small float vector: norm weights, biases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vector {
    /// Tensor in the file.
    pub tensor: String,
    /// Elements.
    pub len: usize,
    /// Order in which elements are to be loaded.
    pub order: RowOrder,
}

/// The order of a matrix's rows in memory, as a map from loaded row to stored row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowOrder {
    /// As stored.
    Stored,
    /// Interleaved RoPE pairs become halves: within the first `dims` rows of every head of `head_dim`
    /// rows, row `i` comes from `2i` and row `i + dims/2` from `2i + 1`.
    Halves {
        /// Rows a head.
        head_dim: usize,
        /// Rows that rotate.
        dims: usize,
    },
}

impl RowOrder {
    /// The stored row that belongs at `row`.
    pub fn stored(self, row: usize) -> usize {
        match self {
            RowOrder::Stored => row,
            RowOrder::Halves { head_dim, dims } => {
                let (head, i) = (row / head_dim, row % head_dim);
                let from = match i {
                    i if i >= dims => i,
                    i if i < dims / 2 => 2 * i,
                    i => 2 * (i - dims / 2) + 1,
                };
                head * head_dim + from
            }
        }
    }
}

/// One output of a [`Op::Linear`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    /// The matrix.
    pub weight: WeightId,
    /// Added to the product.
    pub bias: Option<VectorId>,
    /// Where the product goes.
    pub to: Buf,
}

/// The two matrices of a gated block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateUp {
    /// Two matrices of `ff` rows.
    Pair {
        /// Goes through the activation.
        gate: WeightId,
        /// Multiplies it.
        up: WeightId,
    },
    /// One matrix of `2 · ff` rows, gate first.
    Fused(WeightId),
}

/// One operation. `T` is the number of rows of the step.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// X\[t\] = table\[token t\] · scale.
    Embed {
        /// `vocab` × `dim`.
        table: WeightId,
        /// Factor.
        scale: f32,
    },
    /// H = rms(X) · weight.
    Norm {
        /// `dim` long.
        weight: VectorId,
    },
    /// X += O, or X += rms(O) · post.
    Residual {
        /// `dim` long.
        post: Option<VectorId>,
    },
    /// Several products of one input.
    Linear {
        /// What is multiplied.
        input: Buf,
        /// Each with its own matrix.
        outputs: Vec<Output>,
    },
    /// One product whose rows are split over Q, K and V, in this order.
    LinearSplit {
        /// What is multiplied.
        input: Buf,
        /// The fused matrix.
        weight: WeightId,
        /// Added to the product.
        bias: Option<VectorId>,
    },
    /// Norms of each head of Q and K if given, rotation, then K and V into the layer's cache (in F16
    /// unless the runner was loaded with another cache type).
    RopeStore {
        /// Whose cache.
        layer: usize,
        /// Index into [`Plan::ropes`]; `None` for no rotation.
        rope: Option<usize>,
        /// `head_dim` long, on each head of Q.
        q_norm: Option<VectorId>,
        /// `head_dim` long, on each head of K.
        k_norm: Option<VectorId>,
    },
    /// A = softmax(cap(Q·Kᵀ · scale)) · V over the cached positions a row may see.
    Attend {
        /// Whose cache.
        layer: usize,
        /// A row at position p sees p − window < position ≤ p.
        window: Option<usize>,
        /// Factor on scores.
        scale: f32,
        /// cap · tanh(score / cap).
        cap: Option<f32>,
    },
    /// G = activation(H·gate) × (H·up).
    Gated {
        /// The matrices.
        weights: GateUp,
        /// The activation.
        activation: Activation,
    },
    /// From here on only the rows that want logits: keeps those rows of X and A.
    SelectRows,
    /// Logits = cap(H · weight).
    Logits {
        /// `vocab` × `dim`.
        weight: WeightId,
        /// cap · tanh(logit / cap).
        cap: Option<f32>,
    },
}

/// Widths shared by all ops.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Residual stream.
    pub dim: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Feed-forward.
    pub ff: usize,
    /// Vocabulary.
    pub vocab: usize,
    /// Layers.
    pub layers: usize,
    /// Epsilon of every norm.
    pub eps: f32,
}

impl Shape {
    /// Width of a row of `buf`.
    pub fn width(&self, buf: Buf) -> usize {
        match buf {
            Buf::X | Buf::H | Buf::O => self.dim,
            Buf::Q | Buf::A => self.heads * self.head_dim,
            Buf::K | Buf::V => self.kv_heads * self.head_dim,
            Buf::G => self.ff,
            Buf::Logits => self.vocab,
        }
    }
}

/// Layers that keep the same positions share page lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvGroup {
    /// Positions a layer of this group looks back; `None` for all.
    pub window: Option<usize>,
    /// Its layers.
    pub layers: Vec<usize>,
}

/// The forward pass of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Widths.
    pub shape: Shape,
    /// Longest run, in positions.
    pub context: usize,
    /// In order.
    pub ops: Vec<Op>,
    /// Matrices.
    pub weights: Vec<Weight>,
    /// Vectors.
    pub vectors: Vec<Vector>,
    /// Rotations.
    pub ropes: Vec<RopeTable>,
    /// Layers by what they keep.
    pub kv: Vec<KvGroup>,
}

impl Plan {
    /// A weight by its id.
    pub fn weight(&self, id: WeightId) -> &Weight {
        &self.weights[id.0]
    }

    /// The weights an op reads.
    pub fn weights_of(&self, op: &Op) -> Vec<WeightId> {
        match op {
            Op::Embed { table: weight, .. } | Op::LinearSplit { weight, .. } | Op::Logits { weight, .. } => {
                vec![*weight]
            }
            Op::Linear { outputs, .. } => outputs.iter().map(|output| output.weight).collect(),
            Op::Gated { weights: GateUp::Pair { gate, up }, .. } => vec![*gate, *up],
            Op::Gated { weights: GateUp::Fused(weight), .. } => vec![*weight],
            Op::Norm { .. }
            | Op::Residual { .. }
            | Op::RopeStore { .. }
            | Op::Attend { .. }
            | Op::SelectRows => vec![],
        }
    }
}

/// One line an op: the model as a page of text.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = &self.shape;
        writeln!(
            f,
            "dim {} · heads {}/{} of {} · ff {} · vocab {} · layers {} · eps {:e} · context {}",
            s.dim, s.heads, s.kv_heads, s.head_dim, s.ff, s.vocab, s.layers, s.eps, self.context
        )?;
        for (i, rope) in self.ropes.iter().enumerate() {
            let (first, last) = (rope.frequency.first(), rope.frequency.last());
            write!(f, "rope {i}: {} pairs", rope.frequency.len())?;
            if let (Some(first), Some(last)) = (first, last) {
                write!(f, " from {first:.4e} to {last:.4e}")?;
            }
            writeln!(f, " × {}", rope.magnitude)?;
        }
        for group in &self.kv {
            match group.window {
                Some(window) => writeln!(f, "cache of {window} positions: layers {:?}", group.layers)?,
                None => writeln!(f, "cache of all positions: layers {:?}", group.layers)?,
            }
        }
        self.ops.iter().try_for_each(|op| writeln!(f, "{}", self.line(op)))
    }
}

impl Plan {
    /// An op as one line of text.
    pub fn line(&self, op: &Op) -> String {
        let weight = |id: WeightId| {
            let weight = self.weight(id);
            let order = if weight.order == RowOrder::Stored { "" } else { " halved" };
            format!("{} {}×{} {}{order}", weight.tensor, weight.rows, weight.cols, weight.format.name())
        };
        let vector = |id: VectorId| self.vectors[id.0].tensor.as_str();
        let bias = |id: &Option<VectorId>| id.map_or(String::new(), |id| format!(" + {}", vector(id)));
        let cap = |cap: &Option<f32>| cap.map_or(String::new(), |cap| format!(" capped at {cap}"));
        match op {
            Op::Embed { table, scale } => format!("X = embed({}) × {scale}", weight(*table)),
            Op::Norm { weight } => format!("H = rms(X) × {}", vector(*weight)),
            Op::Residual { post: None } => "X += O".to_owned(),
            Op::Residual { post: Some(post) } => format!("X += rms(O) × {}", vector(*post)),
            Op::Linear { input, outputs } => {
                let one = |output: &Output| {
                    format!("{:?} = {input:?} · {}{}", output.to, weight(output.weight), bias(&output.bias))
                };
                outputs.iter().map(one).collect::<Vec<_>>().join(" | ")
            }
            Op::LinearSplit { input, weight: fused, bias: add } => {
                format!("Q, K, V = {input:?} · {}{}", weight(*fused), bias(add))
            }
            Op::RopeStore { layer, rope, q_norm, k_norm } => {
                let rope = rope.map_or("no rope".to_owned(), |rope| format!("rope {rope}"));
                let norms = match (q_norm, k_norm) {
                    (Some(q), Some(k)) => format!(", norms {} {}", vector(*q), vector(*k)),
                    _ => String::new(),
                };
                format!("cache {layer} ← K, V ({rope}{norms})")
            }
            Op::Attend { layer, window, scale, cap: soft } => {
                let window = window.map_or(String::new(), |window| format!(" window {window}"));
                format!("A = attend(Q, cache {layer}) scale {scale}{window}{}", cap(soft))
            }
            Op::Gated { weights: GateUp::Pair { gate, up }, activation } => {
                format!("G = {activation:?}(H · {}) × (H · {})", weight(*gate), weight(*up))
            }
            Op::Gated { weights: GateUp::Fused(fused), activation } => {
                format!("G = {activation:?}(gate) × up of H · {}", weight(*fused))
            }
            Op::SelectRows => "keep the rows of X and A that want logits".to_owned(),
            Op::Logits { weight: head, cap: soft } => format!("Logits = H · {}{}", weight(*head), cap(soft)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::RowOrder;

    #[test]
    fn halves_keep_the_rows_that_do_not_rotate() {
        let order = RowOrder::Halves { head_dim: 6, dims: 4 };
        let rows: Vec<usize> = (0..12).map(|row| order.stored(row)).collect();
        assert_eq!(rows, [0, 2, 1, 3, 4, 5, 6, 8, 7, 9, 10, 11]);
    }
}
