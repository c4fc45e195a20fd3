//! What all families read alike, with every value checked before anything is computed from it.

use crate::{Activation, Error, Layer, Rope, RopeFactors, RopeLayout, RopeScaling, Spec};
use gguf::Gguf;
use std::fmt::Display;

/// Keys of one family in one file.
pub(super) struct Reader<'a> {
    pub(super) file: &'a Gguf,
    pub(super) family: &'static str,
}

/// Upper bounds far above any published model; they keep products below 2^63.
const MAX_WIDTH: usize = 1 << 20;
const MAX_LAYERS: usize = 1 << 10;
const MAX_CONTEXT: usize = 1 << 26;

/// Keys that change the mathematics in ways no family here knows. Present and not zero: refused.
const REFUSED: &[&str] = &[
    "expert_count",
    "expert_used_count",
    "attention.clamp_kqv",
    "attention.max_alibi_bias",
    "attention.scale",
    "attention.layer_norm_epsilon",
    "attention.temperature_scale",
    "attention.temperature_length",
    "logit_scale",
    "residual_scale",
    "embedding_scale",
    "nextn_predict_layers",
    "attention.q_lora_rank",
    "ssm.state_size",
];

impl Reader<'_> {
    pub(super) fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.family)
    }

    /// An error about `family.name`.
    pub(super) fn bad(&self, name: &str, value: impl Display, why: &str) -> Error {
        Error::Key {
            file: self.file.name().to_owned(),
            key: self.key(name),
            value: value.to_string(),
            why: why.to_owned(),
        }
    }

    fn in_range(&self, name: &str, value: u64, max: usize) -> Result<usize, Error> {
        match usize::try_from(value) {
            Ok(value) if (1..=max).contains(&value) => Ok(value),
            _ => Err(self.bad(name, value, &format!("outside 1 to {max}"))),
        }
    }

    /// A required count.
    pub(super) fn count(&self, name: &str, max: usize) -> Result<usize, Error> {
        self.in_range(name, self.file.u64(&self.key(name))?, max)
    }

    /// A count with a default.
    pub(super) fn count_or(&self, name: &str, default: usize, max: usize) -> Result<usize, Error> {
        match self.file.opt_u64(&self.key(name))? {
            Some(value) => self.in_range(name, value, max),
            None => Ok(default),
        }
    }

    /// A count where absent and zero both mean none.
    pub(super) fn count_or_none(&self, name: &str, max: usize) -> Result<Option<usize>, Error> {
        match self.file.opt_u64(&self.key(name))? {
            Some(0) | None => Ok(None),
            Some(value) => self.in_range(name, value, max).map(Some),
        }
    }

    /// A finite positive float with a default.
    pub(super) fn positive_or(&self, name: &str, default: f32) -> Result<f32, Error> {
        let value = self.file.opt_f32(&self.key(name))?.unwrap_or(default);
        if value.is_finite() && value > 0.0 {
            Ok(value)
        } else {
            Err(self.bad(name, value, "not a positive number"))
        }
    }

    /// The base of a rotation's wavelengths, which must grow.
    pub(super) fn rope_base(&self, name: &str) -> Result<f32, Error> {
        let base = self.positive_or(name, 10_000.0)?;
        if base > 1.0 { Ok(base) } else { Err(self.bad(name, base, "not above 1")) }
    }

    /// How many positions a layer looks back. No run has more than [`MAX_CONTEXT`], so more means all.
    pub(super) fn window(&self, default: usize) -> Result<usize, Error> {
        Ok(self.count_or("attention.sliding_window", default, usize::MAX)?.min(MAX_CONTEXT))
    }

    /// A number that newer files give per layer; it must be the same everywhere.
    fn uniform(&self, name: &str, layers: usize, max: usize) -> Result<Option<usize>, Error> {
        let key = self.key(name);
        match self.file.get(&key) {
            None => Ok(None),
            Some(gguf::Value::Array(_)) => {
                let all = self.file.u32s(&key)?;
                if all.len() != layers {
                    return Err(self.bad(name, format!("{} numbers", all.len()), "not one a layer"));
                }
                if let Some(other) = all.iter().find(|&&n| n != all[0]) {
                    return Err(Error::Option {
                        file: self.file.name().to_owned(),
                        key,
                        value: format!("{} in one layer and {other} in another", all[0]),
                        family: self.family,
                    });
                }
                self.in_range(name, u64::from(all[0]), max).map(Some)
            }
            Some(_) => self.count(name, max).map(Some),
        }
    }

    /// The number of positions of the model's first training, for scaled RoPE.
    pub(super) fn original_context(&self, default: usize) -> Result<usize, Error> {
        self.count_or("rope.scaling.original_context_length", default, MAX_CONTEXT)
    }

    fn scaling(&self, context: usize) -> Result<RopeScaling, Error> {
        let old = self.file.opt_f32(&self.key("rope.scale_linear"))?;
        let factor = self.file.opt_f32(&self.key("rope.scaling.factor"))?.or(old).unwrap_or(0.0);
        if !(factor == 0.0 || (1.0..1e6).contains(&factor)) {
            return Err(self.bad("rope.scaling.factor", factor, "neither 0 nor from 1 to 1000000"));
        }
        // A factor of 0 or 1 with no type is how converters say "none".
        let kind = self.file.opt_str(&self.key("rope.scaling.type"))?;
        match kind.unwrap_or("linear") {
            "none" | "longrope" => Ok(RopeScaling::None),
            "linear" if factor <= 1.0 => Ok(RopeScaling::None),
            "linear" => Ok(RopeScaling::Linear(factor)),
            "yarn" if factor >= 1.0 => {
                Ok(RopeScaling::Yarn { factor, original: self.original_context(context)? })
            }
            "yarn" => Err(self.bad("rope.scaling.factor", factor, "below 1 with type yarn")),
            other => Err(Error::Option {
                file: self.file.name().to_owned(),
                key: self.key("rope.scaling.type"),
                value: format!("\"{}\"", other.escape_default().take(64).collect::<String>()),
                family: self.family,
            }),
        }
    }

    /// The plain decoder every family starts from: SiLU, one RoPE in every layer, no windows, no caps.
    pub(super) fn decoder(&self, rope_layout: RopeLayout) -> Result<Spec, Error> {
        for name in REFUSED {
            let key = self.key(name);
            let zero = |value: &gguf::Value| {
                value.as_integer() == Some(0) || matches!(value, gguf::Value::F32(x) if *x == 0.0)
            };
            if let Some(value) = self.file.get(&key).filter(|value| !zero(value)) {
                let value = value.to_string();
                let file = self.file.name().to_owned();
                return Err(Error::Option { file, key, value, family: self.family });
            }
        }
        if self.file.opt_bool(&self.key("attention.causal"))? == Some(false) {
            return Err(Error::Option {
                file: self.file.name().to_owned(),
                key: self.key("attention.causal"),
                value: "false".to_owned(),
                family: self.family,
            });
        }
        let layers = self.count("block_count", MAX_LAYERS)?;
        let dim = self.count("embedding_length", MAX_WIDTH)?;
        let heads = self.uniform("attention.head_count", layers, MAX_WIDTH)?;
        let heads = heads.ok_or_else(|| self.bad("attention.head_count", "absent", "but required"))?;
        let kv_heads = self.uniform("attention.head_count_kv", layers, MAX_WIDTH)?.unwrap_or(heads);
        if !heads.is_multiple_of(kv_heads) {
            return Err(self.bad("attention.head_count_kv", kv_heads, "not a divisor of the query heads"));
        }
        let head_dim = self.count_or("attention.key_length", dim / heads, 1 << 12)?;
        if head_dim == 0 || head_dim % 2 != 0 {
            return Err(self.bad("attention.key_length", head_dim, "not an even number of dimensions"));
        }
        let value_dim = self.count_or("attention.value_length", head_dim, 1 << 12)?;
        if value_dim != head_dim {
            return Err(Error::Option {
                file: self.file.name().to_owned(),
                key: self.key("attention.value_length"),
                value: format!("{value_dim} beside keys of {head_dim}"),
                family: self.family,
            });
        }
        let ff = self.uniform("feed_forward_length", layers, MAX_WIDTH)?;
        let ff = ff.ok_or_else(|| self.bad("feed_forward_length", "absent", "but required"))?;
        let context = self.count("context_length", MAX_CONTEXT)?;
        let eps = self.file.f32(&self.key("attention.layer_norm_rms_epsilon"))?;
        if !(eps > 0.0 && eps < 1.0) {
            return Err(self.bad("attention.layer_norm_rms_epsilon", eps, "not a small positive number"));
        }
        let dims = self.count_or("rope.dimension_count", head_dim, 1 << 12)?;
        if dims > head_dim || dims % 2 != 0 {
            return Err(self.bad("rope.dimension_count", dims, "odd or more than a head has"));
        }
        let rope = Rope {
            base: self.rope_base("rope.freq_base")?,
            dims,
            scaling: self.scaling(context)?,
            factors: RopeFactors::IfPresent,
            magnitude: self.positive_or("rope.scaling.attn_factor", 1.0)?,
        };
        Ok(Spec {
            family: self.family,
            dim,
            heads,
            kv_heads,
            head_dim,
            ff,
            vocab: self.vocab()?,
            context,
            eps,
            embed_scale: 1.0,
            score_scale: 1.0 / (head_dim as f32).sqrt(),
            score_cap: None,
            logit_cap: None,
            activation: Activation::Silu,
            ropes: vec![rope],
            rope_layout,
            layers: vec![Layer { window: None, rope: Some(0) }; layers],
        })
    }

    /// The embedding table's rows; the vocabulary, when the file has one, must have as many.
    fn vocab(&self) -> Result<usize, Error> {
        let table = self.file.tensor("token_embd.weight").ok_or_else(|| Error::Missing {
            file: self.file.name().to_owned(),
            name: "token_embd.weight".to_owned(),
            family: self.family,
        })?;
        let rows = table.rows();
        // Fewer are usual: tables are padded, and tokens are added after training.
        if let Some(size) = self.file.opt_u64(&self.key("vocab_size"))?
            && size > rows as u64
        {
            return Err(self.bad(
                "vocab_size",
                size,
                &format!("more than the {rows} rows of token_embd.weight"),
            ));
        }
        if let Some(tokens) = self.file.opt_strings("tokenizer.ggml.tokens")?
            && tokens.len() > rows
        {
            return Err(Error::Key {
                file: self.file.name().to_owned(),
                key: "tokenizer.ggml.tokens".to_owned(),
                value: format!("{} tokens", tokens.len()),
                why: format!("more than the {rows} rows of token_embd.weight"),
            });
        }
        Ok(rows)
    }
}
