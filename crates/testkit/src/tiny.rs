//! Tiny models with random weights, of every family and in every format, made on the spot.
//!
//! [`tiny`] is the usual model of a family; [`Tiny`] has a field for everything that may differ;
//! [`Parts`] is the file before it is written, for tests that damage it.

use gguf::{Body, Gguf, StringList, Value, Writer};
use half::f16;
use quant::Format;

/// The families, in the order of `model::arch::names`.
pub const FAMILIES: [&str; 7] = ["llama", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "smollm3"];

/// The file of the usual tiny model of a family, its matrices in `format`.
pub fn tiny(family: &'static str, seed: u64, format: Format) -> Vec<u8> {
    Tiny::new(family, seed).with_format(format).parts().bytes()
}

/// Divisors of RoPE's frequencies in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Factors {
    /// None.
    None,
    /// `rope_freqs.weight`, as Llama 3.1 has.
    Llama,
    /// `rope_factors_short.weight` up to this many positions, `rope_factors_long.weight` beyond.
    LongShort {
        /// Positions of the first training.
        original: usize,
    },
}

/// A tiny model described. All widths are free as far as the family's mathematics allow.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a part that a model has or lacks, in any mix")]
pub struct Tiny {
    /// `general.architecture`.
    pub family: &'static str,
    /// The weights follow from it.
    pub seed: u64,
    /// Width of the residual stream.
    pub dim: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head; even.
    pub head_dim: usize,
    /// Width of the feed-forward block.
    pub ff: usize,
    /// Tokens. From 259 on the file has a SentencePiece vocabulary that spells any text.
    pub vocab: usize,
    /// Layers.
    pub layers: usize,
    /// Positions trained for.
    pub context: usize,
    /// Format of all matrices.
    pub format: Format,
    /// `attention.sliding_window`, for the families that read it.
    pub window: Option<usize>,
    /// Dimensions of a head that rotate; even.
    pub rope_dims: usize,
    /// Base of the wavelengths.
    pub rope_base: f32,
    /// Divisors of the frequencies.
    pub factors: Factors,
    /// One matrix for Q, K and V and one for gate and up. Not for llama and smollm3.
    pub fused: bool,
    /// The embedding table is the output matrix too.
    pub tied: bool,
    /// Biases on Q, K and V.
    pub biases: bool,
    /// Norms on each head of Q and K.
    pub head_norms: bool,
    /// Norms behind attention and feed-forward.
    pub post_norms: bool,
}

impl Tiny {
    /// The usual tiny model of a family, with everything that sets the family apart. F32.
    ///
    /// # Panics
    /// For a family that is not in [`FAMILIES`].
    pub fn new(family: &'static str, seed: u64) -> Tiny {
        let plain = Tiny {
            family,
            seed,
            dim: 64,
            heads: 4,
            kv_heads: 2,
            head_dim: 16,
            ff: 96,
            vocab: 288,
            layers: 2,
            context: 256,
            format: Format::F32,
            window: None,
            rope_dims: 16,
            rope_base: 10_000.0,
            factors: Factors::None,
            fused: false,
            tied: true,
            biases: false,
            head_norms: false,
            post_norms: false,
        };
        let wide_heads = Tiny { head_dim: 32, rope_dims: 32, ..plain.clone() };
        match family {
            "llama" => Tiny { tied: false, ..plain },
            "qwen2" => Tiny { biases: true, rope_base: 1e6, ..plain },
            "qwen3" => Tiny { head_norms: true, rope_base: 1e6, ..wide_heads },
            "gemma2" => Tiny { post_norms: true, window: Some(24), ..wide_heads },
            "gemma3" => Tiny {
                post_norms: true,
                head_norms: true,
                window: Some(24),
                layers: 7,
                rope_base: 1e6,
                ..wide_heads
            },
            "phi3" => Tiny {
                fused: true,
                tied: false,
                rope_dims: 12,
                factors: Factors::LongShort { original: 64 },
                ..plain
            },
            "smollm3" => Tiny { layers: 4, rope_base: 2e6, ..plain },
            other => panic!("no tiny model of family {other}"),
        }
    }

    /// The same with matrices in `format`; widths become 256 where its blocks are that long.
    #[must_use]
    pub fn with_format(mut self, format: Format) -> Tiny {
        self.format = format;
        if format.block_len() > 32 {
            (self.dim, self.heads, self.kv_heads, self.ff) = (256, 256 / self.head_dim, 2, 512);
        }
        self
    }

    /// The file before it is written.
    pub fn parts(&self) -> Parts {
        let mut parts = Parts { keys: self.keys(), tensors: vec![] };
        let mut random = Random(self.seed ^ 0x5bf0_3635_dcd1_c867);
        let (dim, ff) = (self.dim, self.ff);
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let half = self.rope_dims / 2;
        match self.factors {
            Factors::None => {}
            Factors::Llama => parts.vector("rope_freqs.weight", half, &mut || 1.0 + 7.0 * random.unit()),
            Factors::LongShort { .. } => {
                let names = [("rope_factors_short.weight", 0.5), ("rope_factors_long.weight", 8.0)];
                for (name, spread) in names {
                    parts.vector(name, half, &mut || 1.0 + spread * random.unit());
                }
            }
        }
        parts.matrix("token_embd.weight", dim, self.vocab, self.format, 1.0, &mut random);
        for layer in 0..self.layers {
            let name = |part: &str| format!("blk.{layer}.{part}.weight");
            let norm = |parts: &mut Parts, part: &str, len: usize, random: &mut Random| {
                parts.vector(&name(part), len, &mut || 1.0 + 0.2 * random.signed());
            };
            let matrix = |parts: &mut Parts, part: &str, cols: usize, rows: usize, random: &mut Random| {
                let size = 1.5 / (cols as f32).sqrt();
                parts.matrix(&name(part), cols, rows, self.format, size, random);
            };
            norm(&mut parts, "attn_norm", dim, &mut random);
            let projections: &[(&str, usize)] = if self.fused {
                &[("attn_qkv", q + 2 * kv)]
            } else {
                &[("attn_q", q), ("attn_k", kv), ("attn_v", kv)]
            };
            for &(part, rows) in projections {
                matrix(&mut parts, part, dim, rows, &mut random);
                if self.biases {
                    parts.vector(&format!("blk.{layer}.{part}.bias"), rows, &mut || 0.3 * random.signed());
                }
            }
            if self.head_norms {
                norm(&mut parts, "attn_q_norm", self.head_dim, &mut random);
                norm(&mut parts, "attn_k_norm", self.head_dim, &mut random);
            }
            matrix(&mut parts, "attn_output", q, dim, &mut random);
            if self.post_norms {
                norm(&mut parts, "post_attention_norm", dim, &mut random);
            }
            norm(&mut parts, "ffn_norm", dim, &mut random);
            if self.fused {
                matrix(&mut parts, "ffn_up", dim, 2 * ff, &mut random);
            } else {
                matrix(&mut parts, "ffn_gate", dim, ff, &mut random);
                matrix(&mut parts, "ffn_up", dim, ff, &mut random);
            }
            matrix(&mut parts, "ffn_down", ff, dim, &mut random);
            if self.post_norms {
                norm(&mut parts, "post_ffw_norm", dim, &mut random);
            }
        }
        parts.vector("output_norm.weight", dim, &mut || 1.0 + 0.2 * random.signed());
        if !self.tied {
            let size = 1.5 / (dim as f32).sqrt();
            parts.matrix("output.weight", dim, self.vocab, self.format, size, &mut random);
        }
        parts
    }

    fn keys(&self) -> Vec<(String, Value)> {
        let mut keys = vec![("general.architecture".to_owned(), Value::from(self.family))];
        let mut set = |name: &str, value: Value| keys.push((format!("{}.{name}", self.family), value));
        let counts = [
            ("block_count", self.layers),
            ("context_length", self.context),
            ("embedding_length", self.dim),
            ("feed_forward_length", self.ff),
            ("attention.head_count", self.heads),
            ("attention.head_count_kv", self.kv_heads),
            ("attention.key_length", self.head_dim),
            ("attention.value_length", self.head_dim),
            ("rope.dimension_count", self.rope_dims),
            ("vocab_size", self.vocab),
        ];
        for (name, value) in counts {
            set(name, (value as u32).into());
        }
        set("attention.layer_norm_rms_epsilon", 1e-6f32.into());
        set("rope.freq_base", self.rope_base.into());
        if let Some(window) = self.window {
            set("attention.sliding_window", (window as u32).into());
        }
        if let Factors::LongShort { original } = self.factors {
            set("rope.scaling.original_context_length", (original as u32).into());
            set("rope.scaling.attn_factor", 1.19f32.into());
        }
        if self.family == "gemma2" {
            set("attn_logit_softcapping", 50f32.into());
            set("final_logit_softcapping", 30f32.into());
        }
        if self.vocab >= 259 {
            keys.extend(self.vocabulary());
        }
        keys
    }

    /// Unknown, the two ends of text, 256 bytes, then words ▁a, ▁b, … ▁z, ▁aa, …
    fn vocabulary(&self) -> Vec<(String, Value)> {
        let word = |mut number: usize| {
            let mut letters = vec![];
            loop {
                letters.push(char::from(b'a' + (number % 26) as u8));
                number /= 26;
                if number == 0 {
                    break;
                }
                number -= 1;
            }
            format!("▁{}", letters.into_iter().rev().collect::<String>())
        };
        let mut names: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).into();
        names.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
        names.extend((0..self.vocab - 259).map(word));
        let mut types = vec![2i32, 3, 3];
        types.resize(259, 6);
        types.resize(self.vocab, 1);
        let scores: Vec<f32> = (0..self.vocab).map(|id| -(id as f32)).collect();
        let key = |name: &str, value: Value| (format!("tokenizer.ggml.{name}"), value);
        vec![
            key("model", "llama".into()),
            key("tokens", names.iter().collect::<StringList>().into()),
            key("scores", scores.into()),
            key("token_type", types.into()),
            key("bos_token_id", 1u32.into()),
            key("eos_token_id", 2u32.into()),
        ]
    }
}

/// A file before it is written.
#[derive(Clone, Debug)]
pub struct Parts {
    /// In file order.
    pub keys: Vec<(String, Value)>,
    /// In file order.
    pub tensors: Vec<Part>,
}

/// A tensor before it is written.
#[derive(Clone, Debug)]
pub struct Part {
    /// Name.
    pub name: String,
    /// Format of `data`.
    pub format: Format,
    /// The contiguous dimension first.
    pub shape: Vec<u64>,
    /// Whole blocks.
    pub data: Vec<u8>,
}

impl Part {
    /// Another shape, with data of zeros that fits it.
    pub fn reshape(&mut self, shape: &[u64]) {
        self.shape = shape.to_vec();
        let rows: u64 = shape[1..].iter().product();
        let row = self.format.row_bytes(shape[0] as usize).expect("rows of whole blocks");
        self.data = vec![0; row * rows as usize];
    }
}

impl Parts {
    /// Sets a key, adding it if it is not there.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        let value = value.into();
        match self.keys.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.keys.push((key.to_owned(), value)),
        }
    }

    /// Takes a key out.
    ///
    /// # Panics
    /// If it is not there.
    pub fn remove(&mut self, key: &str) {
        let at = self.keys.iter().position(|(name, _)| name == key);
        self.keys.remove(at.unwrap_or_else(|| panic!("no key {key}")));
    }

    /// A tensor by name.
    ///
    /// # Panics
    /// If it is not there.
    pub fn tensor(&mut self, name: &str) -> &mut Part {
        let found = self.tensors.iter_mut().find(|tensor| tensor.name == name);
        found.unwrap_or_else(|| panic!("no tensor {name}"))
    }

    /// Adds an F32 vector.
    pub fn vector(&mut self, name: &str, len: usize, value: &mut dyn FnMut() -> f32) {
        let data = (0..len).flat_map(|_| value().to_le_bytes()).collect();
        let shape = vec![len as u64];
        self.tensors.push(Part { name: name.to_owned(), format: Format::F32, shape, data });
    }

    fn matrix(
        &mut self,
        name: &str,
        cols: usize,
        rows: usize,
        format: Format,
        size: f32,
        random: &mut Random,
    ) {
        let data = random_blocks(format, cols * rows, size, random);
        let shape = vec![cols as u64, rows as u64];
        self.tensors.push(Part { name: name.to_owned(), format, shape, data });
    }

    /// The file.
    ///
    /// # Panics
    /// If no GGUF file can hold the parts.
    pub fn bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        for (key, value) in &self.keys {
            writer.set(key, value.clone()).expect("a key that a file can hold");
        }
        for tensor in &self.tensors {
            writer.tensor(&tensor.name, tensor.format, &tensor.shape).expect("a tensor that a file can hold");
        }
        let mut body = writer.start(Vec::new()).expect("memory takes all");
        for tensor in &self.tensors {
            body.write(&tensor.data).expect("data of the tensor's size");
        }
        Body::finish(body).expect("all data was given")
    }

    /// The file, opened.
    ///
    /// # Panics
    /// If no GGUF file can hold the parts.
    pub fn gguf(&self) -> Gguf {
        Gguf::from_bytes("tiny.gguf", self.bytes()).expect("what was written can be read")
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In [0, 1).
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 24) as f32
    }

    /// In [−1, 1).
    fn signed(&mut self) -> f32 {
        2.0 * self.unit() - 1.0
    }
}

/// `count` random weights of about `size` in any format: encoded where there is an encoder, else blocks
/// of random codes whose scales are set to give that size.
fn random_blocks(format: Format, count: usize, size: f32, random: &mut Random) -> Vec<u8> {
    let (len, bytes) = (format.block_len(), format.block_bytes());
    let mut data = vec![0; count / len * bytes];
    if format.can_encode() {
        let weights: Vec<f32> = (0..count).map(|_| size * 1.7 * random.signed()).collect();
        format.encode(&weights, &mut data).expect("it was just asked");
        return data;
    }
    // Offsets of the half floats that scale a block, each with the factor that centres the weights on 0.
    let halves: &[(usize, f32)] = match format {
        Format::Q4_1 => &[(0, 1.0), (2, -7.5)],
        Format::Q5_1 => &[(0, 1.0), (2, -15.5)],
        Format::Q2_K => &[(80, 1.0), (82, 1.5)],
        Format::Q3_K => &[(108, 1.0)],
        Format::Q5_0 | Format::IQ4_NL | Format::IQ4_XS => &[(0, 1.0)],
        Format::MXFP4 => &[],
        other => unreachable!("{} has an encoder", other.name()),
    };
    let mut weights = vec![0.0; len];
    for block in data.chunks_exact_mut(bytes) {
        block.fill_with(|| random.next() as u8);
        let scale = |block: &mut [u8], scale: f32| {
            for &(at, factor) in halves {
                block[at..at + 2].copy_from_slice(&f16::from_f32(scale * factor).to_le_bytes());
            }
            if format == Format::MXFP4 {
                block[0] = (127.0 + scale.log2().round()) as u8;
            }
        };
        scale(block, 1.0);
        format.decode(block, &mut weights);
        let square = weights.iter().map(|weight| weight * weight).sum::<f32>() / len as f32;
        scale(block, size / square.sqrt().max(1e-3));
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_every_format_have_the_size_asked_for() {
        for &format in Format::ALL {
            let mut weights = vec![0.0; 4096];
            let data = random_blocks(format, weights.len(), 0.1, &mut Random(1));
            format.decode(&data, &mut weights);
            let mean = weights.iter().sum::<f32>() / 4096.0;
            let size = (weights.iter().map(|weight| weight * weight).sum::<f32>() / 4096.0).sqrt();
            assert!((0.07..0.14).contains(&size), "{}: {size}", format.name());
            assert!(mean.abs() < 0.02, "{}: {mean}", format.name());
        }
    }

    #[test]
    fn a_seed_makes_one_file() {
        assert_eq!(tiny("llama", 1, Format::F16), tiny("llama", 1, Format::F16));
        assert_ne!(tiny("llama", 1, Format::F16), tiny("llama", 2, Format::F16));
    }

    #[test]
    fn every_family_and_format_is_a_model() {
        assert!(model::arch::names().eq(FAMILIES));
        for family in FAMILIES {
            for &format in Format::ALL {
                let file = Tiny::new(family, 3).with_format(format).parts().gguf();
                let (spec, plan) = model::Plan::read(&file, None).expect("a tiny model is a model");
                assert_eq!(spec.family, family);
                assert!(plan.weights.iter().all(|weight| weight.format == format));
            }
        }
    }
}
