//! Spec to plan: the one place that knows the order of a layer.

use crate::plan::{
    Buf, GateUp, KvGroup, Op, Output, Plan, RowOrder, Shape, Vector, VectorId, Weight, WeightId,
};
use crate::rope::RopeTable;
use crate::{Error, Layer, Rope, RopeFactors, RopeLayout, Spec};
use gguf::{Gguf, Tensor};
use quant::Format;
use std::collections::HashSet;

/// Writes the plan of `spec` for runs of up to `context` positions, checking every tensor on the way.
pub(crate) fn emit(file: &Gguf, spec: &Spec, context: usize) -> Result<Plan, Error> {
    let mut emit = Emit::new(file, spec);
    let ropes = spec.ropes.iter().map(|rope| emit.rope(rope, context)).collect::<Result<Vec<_>, _>>()?;
    let table = emit.weight("token_embd.weight", spec.vocab, spec.dim, RowOrder::Stored)?;
    emit.op(Op::Embed { table, scale: spec.embed_scale });
    for (index, layer) in spec.layers.iter().enumerate() {
        emit.layer(index, *layer)?;
    }
    emit.norm("output_norm.weight")?;
    let head = match file.tensor("output.weight") {
        Some(_) => emit.weight("output.weight", spec.vocab, spec.dim, RowOrder::Stored)?,
        None => table,
    };
    emit.op(Op::Logits { weight: head, cap: spec.logit_cap });
    emit.finish(ropes, context)
}

struct Emit<'a> {
    file: &'a Gguf,
    spec: &'a Spec,
    used: HashSet<String>,
    ops: Vec<Op>,
    weights: Vec<Weight>,
    vectors: Vec<Vector>,
}

impl<'a> Emit<'a> {
    fn new(file: &'a Gguf, spec: &'a Spec) -> Self {
        Emit { file, spec, used: HashSet::new(), ops: vec![], weights: vec![], vectors: vec![] }
    }

    fn op(&mut self, op: Op) {
        self.ops.push(op);
    }

    fn layer(&mut self, index: usize, layer: Layer) -> Result<(), Error> {
        let spec = self.spec;
        let name = |part: &str| format!("blk.{index}.{part}.weight");
        self.norm(&name("attn_norm"))?;
        self.qkv(index)?;
        let rope = layer.rope;
        let q_norm = self.optional(index, "attn_q_norm.weight", spec.head_dim, RowOrder::Stored)?;
        let k_norm = self.optional(index, "attn_k_norm.weight", spec.head_dim, RowOrder::Stored)?;
        if q_norm.is_some() != k_norm.is_some() {
            let absent = if q_norm.is_some() { "attn_k_norm" } else { "attn_q_norm" };
            return Err(self.missing(&name(absent)));
        }
        self.op(Op::RopeStore { layer: index, rope, q_norm, k_norm });
        let (scale, cap) = (spec.score_scale, spec.score_cap);
        self.op(Op::Attend { layer: index, window: layer.window, scale, cap });
        if index + 1 == spec.layers.len() {
            // Nothing after the last cache needs the rows whose logits nobody reads.
            self.op(Op::SelectRows);
        }
        self.linear(index, Buf::A, "attn_output", spec.dim, Buf::O)?;
        self.residual(index, "post_attention_norm.weight")?;
        self.norm(&name("ffn_norm"))?;
        self.gated(index)?;
        self.linear(index, Buf::G, "ffn_down", spec.dim, Buf::O)?;
        self.residual(index, "post_ffw_norm.weight")
    }

    fn qkv(&mut self, index: usize) -> Result<(), Error> {
        let spec = self.spec;
        let (q, kv) = (spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim);
        let fused = format!("blk.{index}.attn_qkv.weight");
        if [fused.as_str(), "blk.0.attn_qkv.weight"].iter().any(|name| self.file.tensor(name).is_some()) {
            if spec.rope_layout == RopeLayout::Interleaved {
                return Err(Error::Unused {
                    file: self.file.name().to_owned(),
                    name: fused,
                    family: spec.family,
                });
            }
            let weight = self.weight(&fused, q + 2 * kv, spec.dim, RowOrder::Stored)?;
            let bias = self.optional(index, "attn_qkv.bias", q + 2 * kv, RowOrder::Stored)?;
            self.op(Op::LinearSplit { input: Buf::H, weight, bias });
            return Ok(());
        }
        // Layers without positions are stored in the same order: rows of Q and K may move together freely.
        let halves = match spec.rope_layout {
            RopeLayout::Halves => RowOrder::Stored,
            RopeLayout::Interleaved => RowOrder::Halves { head_dim: spec.head_dim, dims: spec.ropes[0].dims },
        };
        let outputs = vec![
            self.output(index, "attn_q", q, halves, Buf::Q)?,
            self.output(index, "attn_k", kv, halves, Buf::K)?,
            self.output(index, "attn_v", kv, RowOrder::Stored, Buf::V)?,
        ];
        self.op(Op::Linear { input: Buf::H, outputs });
        Ok(())
    }

    fn output(
        &mut self,
        index: usize,
        part: &str,
        rows: usize,
        order: RowOrder,
        to: Buf,
    ) -> Result<Output, Error> {
        let cols = match to {
            Buf::O if part == "ffn_down" => self.spec.ff,
            Buf::O => self.spec.heads * self.spec.head_dim,
            _ => self.spec.dim,
        };
        let weight = self.weight(&format!("blk.{index}.{part}.weight"), rows, cols, order)?;
        let bias = self.optional(index, &format!("{part}.bias"), rows, order)?;
        Ok(Output { weight, bias, to })
    }

    fn linear(&mut self, index: usize, input: Buf, part: &str, rows: usize, to: Buf) -> Result<(), Error> {
        let output = self.output(index, part, rows, RowOrder::Stored, to)?;
        self.op(Op::Linear { input, outputs: vec![output] });
        Ok(())
    }

    fn gated(&mut self, index: usize) -> Result<(), Error> {
        let (ff, dim) = (self.spec.ff, self.spec.dim);
        let gate = format!("blk.{index}.ffn_gate.weight");
        let up = format!("blk.{index}.ffn_up.weight");
        // Told by the rows too, so that a file that lost its gate is told so.
        let fused = self.file.tensor(&up).is_none_or(|up| up.rows() == 2 * ff);
        let weights = if fused && self.file.tensor(&gate).is_none() {
            GateUp::Fused(self.weight(&up, 2 * ff, dim, RowOrder::Stored)?)
        } else {
            GateUp::Pair {
                gate: self.weight(&gate, ff, dim, RowOrder::Stored)?,
                up: self.weight(&up, ff, dim, RowOrder::Stored)?,
            }
        };
        self.op(Op::Gated { weights, activation: self.spec.activation });
        Ok(())
    }

    fn norm(&mut self, name: &str) -> Result<(), Error> {
        let weight = self.vector(name, self.spec.dim, RowOrder::Stored)?;
        self.op(Op::Norm { weight });
        Ok(())
    }

    fn residual(&mut self, index: usize, post: &str) -> Result<(), Error> {
        let post = self.optional(index, post, self.spec.dim, RowOrder::Stored)?;
        self.op(Op::Residual { post });
        Ok(())
    }

    fn missing(&self, name: &str) -> Error {
        Error::Missing { file: self.file.name().to_owned(), name: name.to_owned(), family: self.spec.family }
    }

    fn tensor(&mut self, name: &str, cols: usize, rows: usize) -> Result<&'a Tensor, Error> {
        let tensor = self.file.tensor(name).ok_or_else(|| self.missing(name))?;
        if (tensor.cols(), tensor.rows()) != (cols, rows) || tensor.shape.len() > 2 {
            let found: Vec<_> = tensor.shape.iter().map(u64::to_string).collect();
            return Err(Error::Shape {
                file: self.file.name().to_owned(),
                name: name.to_owned(),
                found: found.join("×"),
                expected: format!("{cols}×{rows}"),
            });
        }
        self.used.insert(name.to_owned());
        Ok(tensor)
    }

    fn weight(&mut self, name: &str, rows: usize, cols: usize, order: RowOrder) -> Result<WeightId, Error> {
        let format = self.tensor(name, cols, rows)?.format;
        self.weights.push(Weight { tensor: name.to_owned(), rows, cols, format, order });
        Ok(WeightId(self.weights.len() - 1))
    }

    fn vector(&mut self, name: &str, len: usize, order: RowOrder) -> Result<VectorId, Error> {
        let tensor = self.tensor(name, len, 1)?;
        if !matches!(tensor.format, Format::F32 | Format::F16 | Format::BF16) {
            return Err(Error::VectorFormat {
                file: self.file.name().to_owned(),
                name: name.to_owned(),
                format: tensor.format.name(),
            });
        }
        self.vectors.push(Vector { tensor: name.to_owned(), len, order });
        Ok(VectorId(self.vectors.len() - 1))
    }

    /// A vector that every layer has or none: a file that lacks some of them is damaged. One that only
    /// later layers have stays unused, which `finish` refuses.
    fn optional(
        &mut self,
        index: usize,
        part: &str,
        len: usize,
        order: RowOrder,
    ) -> Result<Option<VectorId>, Error> {
        match self.file.tensor(&format!("blk.0.{part}")) {
            Some(_) => self.vector(&format!("blk.{index}.{part}"), len, order).map(Some),
            None => Ok(None),
        }
    }

    fn rope(&mut self, rope: &Rope, context: usize) -> Result<RopeTable, Error> {
        let half = rope.dims / 2;
        let factors = match rope.factors {
            RopeFactors::None => None,
            RopeFactors::IfPresent => self.factors("rope_freqs.weight", half, false)?,
            RopeFactors::LongShort { original } => {
                let short = self.factors("rope_factors_short.weight", half, true)?;
                let long = self.factors("rope_factors_long.weight", half, true)?;
                if context > original { long } else { short }
            }
        };
        Ok(RopeTable::new(rope, factors.as_deref()))
    }

    fn factors(&mut self, name: &str, half: usize, required: bool) -> Result<Option<Vec<f32>>, Error> {
        if !required && self.file.tensor(name).is_none() {
            return Ok(None);
        }
        let tensor = self.tensor(name, half, 1)?;
        let factors = read_vector(self.file, tensor)?;
        match factors.iter().find(|factor| !(factor.is_finite() && **factor > 0.0)) {
            Some(bad) => Err(Error::Key {
                file: self.file.name().to_owned(),
                key: name.to_owned(),
                value: bad.to_string(),
                why: "not a positive divisor".to_owned(),
            }),
            None => Ok(Some(factors)),
        }
    }

    fn finish(self, ropes: Vec<RopeTable>, context: usize) -> Result<Plan, Error> {
        // A Llama 3 file carries factors even where another family would not look for them.
        let unused = self.file.tensors().iter().find(|t| !self.used.contains(&t.name));
        if let Some(tensor) = unused {
            return Err(Error::Unused {
                file: self.file.name().to_owned(),
                name: tensor.name.clone(),
                family: self.spec.family,
            });
        }
        let spec = self.spec;
        let mut kv: Vec<KvGroup> = vec![];
        for (index, layer) in spec.layers.iter().enumerate() {
            match kv.iter_mut().find(|group| group.window == layer.window) {
                Some(group) => group.layers.push(index),
                None => kv.push(KvGroup { window: layer.window, layers: vec![index] }),
            }
        }
        Ok(Plan {
            shape: Shape {
                dim: spec.dim,
                heads: spec.heads,
                kv_heads: spec.kv_heads,
                head_dim: spec.head_dim,
                ff: spec.ff,
                vocab: spec.vocab,
                layers: spec.layers.len(),
                eps: spec.eps,
            },
            context,
            ops: self.ops,
            weights: self.weights,
            vectors: self.vectors,
            ropes,
            kv,
        })
    }
}

/// Reads a float vector.
pub(crate) fn read_vector(file: &Gguf, tensor: &Tensor) -> Result<Vec<f32>, Error> {
    let bytes = file.read_all(tensor)?;
    let mut out = vec![0.0; tensor.elements() as usize];
    tensor.format.decode(&bytes, &mut out);
    Ok(out)
}
