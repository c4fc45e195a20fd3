//! A family described: everything the plan needs to know that is not a tensor.

/// The facts of one model, filled by its family's file in `arch/` from GGUF metadata.
///
/// Whether a model has fused projections, biases, head norms, sandwich norms or a tied output is
/// not here: it is read off the tensors present.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// `general.architecture`.
    pub family: &'static str,
    /// Width of the residual stream.
    pub dim: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Width of the feed-forward block.
    pub ff: usize,
    /// Rows of the embedding table.
    pub vocab: usize,
    /// Positions the model was trained for.
    pub context: usize,
    /// Epsilon of every RMS norm.
    pub eps: f32,
    /// Factor on embeddings.
    pub embed_scale: f32,
    /// Factor on attention scores.
    pub score_scale: f32,
    /// Soft cap on attention scores.
    pub score_cap: Option<f32>,
    /// Soft cap on logits.
    pub logit_cap: Option<f32>,
    /// The gate's activation.
    pub activation: Activation,
    /// Kinds of rotation; layers refer to them by index.
    pub ropes: Vec<Rope>,
    /// Which pairs of a stored Q or K row rotate together.
    pub rope_layout: RopeLayout,
    /// One entry a layer.
    pub layers: Vec<Layer>,
}

/// What may differ from layer to layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// A query sees this many positions, its own included; `None` for all.
    pub window: Option<usize>,
    /// Index into [`Spec::ropes`]; `None` for layers without positions.
    pub rope: Option<usize>,
}

/// The gate's activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x · sigmoid(x).
    Silu,
    /// The tanh form of GELU.
    GeluTanh,
}

/// One kind of rotary position embedding (Su et al. 2021, arXiv 2104.09864).
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Base of the geometric series of wavelengths.
    pub base: f32,
    /// Leading dimensions of each head that rotate; even.
    pub dims: usize,
    /// How positions beyond the trained length are squeezed.
    pub scaling: RopeScaling,
    /// Divisors of the frequencies, from tensors.
    pub factors: RopeFactors,
    /// Factor on the rotated values (`rope.scaling.attn_factor`).
    pub magnitude: f32,
}

/// How positions beyond the trained length are squeezed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Positions divided by a factor.
    Linear(f32),
    /// YaRN (Peng et al. 2023, arXiv 2309.00071).
    Yarn {
        /// Extension factor.
        factor: f32,
        /// Positions the model was first trained for.
        original: usize,
    },
}

/// Where frequency divisors come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeFactors {
    /// `rope_freqs.weight` when the file has it (Llama 3.1 and later).
    IfPresent,
    /// `rope_factors_short.weight` up to `original` positions of context, `rope_factors_long.weight` beyond.
    LongShort {
        /// Positions the model was first trained for.
        original: usize,
    },
    /// None even if the file has some (local layers).
    None,
}

/// Which pairs of a stored Q or K row rotate together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeLayout {
    /// (0, 1), (2, 3), …: Llama's files. Rows are moved at load so that backends only know halves.
    Interleaved,
    /// (0, d/2), (1, d/2+1), …
    Halves,
}
