//! Whole-file mixes: which format each tensor gets.
//!
//! The choices are llama.cpp's (`src/llama-quant.cpp`), so that a file made here has the quality its
//! name promises elsewhere: tensors on which errors weigh most get more bits, and some layers do.

use model::Spec;
use quant::Format;

/// A mix as `quantize` takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "the field's own names")]
pub(crate) enum Mix {
    F32,
    F16,
    BF16,
    Q8_0,
    Q6_K,
    Q5_1,
    Q5_K_M,
    Q5_0,
    Q5_K_S,
    Q4_1,
    Q4_K_M,
    Q4_K_S,
    Q4_0,
}

impl Mix {
    /// Every mix, from the most bits to the fewest.
    pub(crate) const ALL: &'static [Mix] = &[
        Mix::F32,
        Mix::F16,
        Mix::BF16,
        Mix::Q8_0,
        Mix::Q6_K,
        Mix::Q5_1,
        Mix::Q5_K_M,
        Mix::Q5_0,
        Mix::Q5_K_S,
        Mix::Q4_1,
        Mix::Q4_K_M,
        Mix::Q4_K_S,
        Mix::Q4_0,
    ];

    /// Name, `general.file_type`, the format of most tensors, and a word about it.
    #[rustfmt::skip]
    fn facts(self) -> (&'static str, u32, Format, &'static str) {
        match self {
            Mix::F32    => ("F32",     0, Format::F32,  "single floats"),
            Mix::F16    => ("F16",     1, Format::F16,  "half floats"),
            Mix::BF16   => ("BF16",   32, Format::BF16, "brain floats"),
            Mix::Q8_0   => ("Q8_0",    7, Format::Q8_0, "8.5 bits: hardly told from F16"),
            Mix::Q6_K   => ("Q6_K",   18, Format::Q6_K, "6.6 bits: very close to F16"),
            Mix::Q5_1   => ("Q5_1",    9, Format::Q5_1, "6.0 bits: for rows that are no multiple of 256"),
            Mix::Q5_K_M => ("Q5_K_M", 17, Format::Q5_K, "5.7 bits"),
            Mix::Q5_0   => ("Q5_0",    8, Format::Q5_0, "5.5 bits: for rows that are no multiple of 256"),
            Mix::Q5_K_S => ("Q5_K_S", 16, Format::Q5_K, "5.5 bits"),
            Mix::Q4_1   => ("Q4_1",    3, Format::Q4_1, "5.0 bits: Q4_K_M is better and smaller"),
            Mix::Q4_K_M => ("Q4_K_M", 15, Format::Q4_K, "4.9 bits: the usual choice"),
            Mix::Q4_K_S => ("Q4_K_S", 14, Format::Q4_K, "4.6 bits"),
            Mix::Q4_0   => ("Q4_0",    2, Format::Q4_0, "4.5 bits: simple and fast"),
        }
    }

    /// The mix of this name, whatever its case; `Q4_K` and `Q5_K` mean the `_M` mixes.
    pub(crate) fn from_name(name: &str) -> Option<Mix> {
        let name = match name.to_ascii_uppercase().as_str() {
            "Q4_K" => "Q4_K_M".to_owned(),
            "Q5_K" => "Q5_K_M".to_owned(),
            name => name.to_owned(),
        };
        Mix::ALL.iter().copied().find(|mix| mix.name() == name)
    }

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        self.facts().0
    }

    /// The mix with this `general.file_type`.
    pub(crate) fn from_file_type(id: u32) -> Option<Mix> {
        Mix::ALL.iter().copied().find(|mix| mix.file_type() == id)
    }

    /// The value of `general.file_type`.
    pub(crate) fn file_type(self) -> u32 {
        self.facts().1
    }

    /// The format of most tensors.
    pub(crate) fn format(self) -> Format {
        self.facts().2
    }

    /// What to expect of it.
    pub(crate) fn about(self) -> &'static str {
        self.facts().3
    }
}

/// What the choice depends on besides names: facts of the model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Model {
    /// Layers in all.
    layers: usize,
    /// A model of 80 layers whose queries share keys and values: its small `attn_v` gets more bits.
    shared_v: bool,
}

impl Model {
    /// The facts from a model's spec.
    pub(crate) fn new(spec: &Spec) -> Model {
        Model::of(spec.family, spec.layers.len(), spec.heads, spec.kv_heads)
    }

    fn of(family: &str, layers: usize, heads: usize, kv_heads: usize) -> Model {
        let shared_v = match family {
            "llama" => layers == 80 && heads != kv_heads,
            "qwen2" => layers == 80,
            _ => false,
        };
        Model { layers, shared_v }
    }
}

/// A tensor as the choice sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored<'a> {
    /// Name.
    pub(crate) name: &'a str,
    /// Dimensions, the contiguous one first.
    pub(crate) shape: &'a [u64],
    /// Format now.
    pub(crate) format: Format,
}

/// The format a tensor gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// What it becomes.
    pub(crate) format: Format,
    /// What the mix wanted, where the rows do not divide into its blocks.
    pub(crate) wanted: Option<Format>,
}

/// What a tensor is in its model.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Output,
    Embedding,
    Values,
    Down,
    Other,
}

fn role(name: &str) -> Role {
    let is = |part: &str| name.contains(part);
    match name {
        "output.weight" => Role::Output,
        "token_embd.weight" | "per_layer_token_embd.weight" => Role::Embedding,
        _ if is("attn_qkv.weight") || is("attn_kv_b.weight") || is("attn_v.weight") => Role::Values,
        _ if is("ffn_down") => Role::Down,
        _ => Role::Other,
    }
}

/// Whether a mix touches a tensor: matrices, but no norms, biases and tables of positions.
fn is_weight(tensor: &Stored<'_>) -> bool {
    let dims = tensor.shape.iter().rposition(|&dim| dim > 1).map_or(1, |last| last + 1);
    let name = tensor.name;
    dims > 1
        && name.ends_with("weight")
        && !name.contains("_norm.weight")
        && !matches!(name, "position_embd.weight" | "token_types.weight")
}

/// The order in which layers are counted, and tensors written: what is outside layers, then layer by
/// layer, by name.
pub(crate) fn order(name: &str) -> (Option<u64>, &str) {
    let layer = name.strip_prefix("blk.").and_then(|rest| rest.split('.').next()?.parse().ok());
    (layer, name)
}

/// First and last eighth, and every third layer between.
fn more_bits(layer: usize, layers: usize) -> bool {
    let eighth = layers / 8;
    layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
}

/// Chooses for all tensors of a model, given in the order of [`order`].
pub(crate) fn choose(mix: Mix, model: Model, tensors: &[Stored<'_>]) -> Vec<Choice> {
    let tied = tensors.iter().all(|tensor| role(tensor.name) != Role::Output);
    let values = tensors.iter().filter(|tensor| role(tensor.name) == Role::Values).count();
    let (mut value, mut down) = (0, 0);
    let choose = |tensor: &Stored<'_>| {
        if !is_weight(tensor) {
            return Choice { format: tensor.format, wanted: None };
        }
        if !mix.format().is_quantized() {
            return Choice { format: mix.format(), wanted: None };
        }
        let cols = tensor.shape[0];
        let mut format = mix.format();
        match role(tensor.name) {
            role @ (Role::Output | Role::Embedding) if role == Role::Output || tied => {
                if !cols.is_multiple_of(format.block_len() as u64) {
                    format = Format::Q8_0;
                } else if format != Format::Q8_0 {
                    format = Format::Q6_K;
                }
            }
            Role::Values => {
                if matches!(mix, Mix::Q4_K_M | Mix::Q5_K_M) && more_bits(value, values) {
                    format = Format::Q6_K;
                } else if mix == Mix::Q4_K_S && value < 4 {
                    format = Format::Q5_K;
                }
                if model.shared_v && format == Format::Q4_K {
                    format = Format::Q5_K;
                }
                value += 1;
            }
            Role::Down => {
                if matches!(mix, Mix::Q4_K_M | Mix::Q5_K_M) && more_bits(down, model.layers) {
                    format = Format::Q6_K;
                } else if mix == Mix::Q4_K_S && down < model.layers / 8 {
                    format = Format::Q5_K;
                }
                down += 1;
            }
            Role::Output | Role::Embedding | Role::Other => {}
        }
        fitting(format, cols)
    };
    tensors.iter().map(choose).collect()
}

/// `wanted`, or for rows that are not whole blocks of it the format llama.cpp falls back to: one of
/// blocks of 32 weights and, where not even those fit, F16.
fn fitting(wanted: Format, cols: u64) -> Choice {
    let whole = |format: Format| cols.is_multiple_of(format.block_len() as u64);
    if whole(wanted) {
        return Choice { format: wanted, wanted: None };
    }
    let smaller = match wanted {
        Format::Q4_K => Format::Q5_0,
        Format::Q5_K => Format::Q5_1,
        Format::Q6_K => Format::Q8_0,
        other => other,
    };
    let format = if whole(smaller) { smaller } else { Format::F16 };
    Choice { format, wanted: Some(wanted) }
}

#[cfg(test)]
#[path = "mix_tests.rs"]
mod tests;
