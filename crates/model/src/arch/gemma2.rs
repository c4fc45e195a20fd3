//! Gemma 2 (arXiv 2408.00118): sandwich norms, soft caps, every other layer in a window.

use super::read::Reader;
use crate::{Activation, Error, RopeLayout, Spec};

pub(super) fn spec(keys: &Reader<'_>) -> Result<Spec, Error> {
    let mut spec = keys.decoder(RopeLayout::Halves)?;
    spec.activation = Activation::GeluTanh;
    spec.embed_scale = (spec.dim as f32).sqrt();
    if spec.layers.len() == 46 {
        // The 27B divides by its width per head, not by its head size.
        spec.score_scale = 1.0 / (spec.dim as f32 / spec.heads as f32).sqrt();
    }
    spec.score_cap = Some(keys.positive_or("attn_logit_softcapping", 50.0)?);
    spec.logit_cap = Some(keys.positive_or("final_logit_softcapping", 30.0)?);
    let window = keys.window(4096)?;
    for layer in spec.layers.iter_mut().step_by(2) {
        layer.window = Some(window);
    }
    Ok(spec)
}
