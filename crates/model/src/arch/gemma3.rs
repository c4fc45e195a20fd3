//! Gemma 3, text part (arXiv 2503.19786): five of six layers in a window, with their own RoPE base.

use super::read::Reader;
use crate::{Activation, Error, Rope, RopeFactors, RopeLayout, RopeScaling, Spec};

pub(super) fn spec(keys: &Reader<'_>) -> Result<Spec, Error> {
    let mut spec = keys.decoder(RopeLayout::Halves)?;
    spec.activation = Activation::GeluTanh;
    spec.embed_scale = (spec.dim as f32).sqrt();
    if spec.layers.len() == 62 {
        // The 27B divides by its width per head, not by its head size.
        spec.score_scale = 1.0 / (spec.dim as f32 / spec.heads as f32).sqrt();
    }
    if keys.file.get(&keys.key("final_logit_softcapping")).is_some() {
        spec.logit_cap = Some(keys.positive_or("final_logit_softcapping", 30.0)?);
    }
    let global = spec.ropes[0].clone();
    spec.ropes.push(Rope {
        base: keys.rope_base("rope.freq_base_swa")?,
        scaling: RopeScaling::None,
        factors: RopeFactors::None,
        ..global
    });
    let window = keys.window(1024)?;
    for (index, layer) in spec.layers.iter_mut().enumerate() {
        if index % 6 < 5 {
            (layer.window, layer.rope) = (Some(window), Some(1));
        }
    }
    Ok(spec)
}
