//! Phi-3, Phi-3.5, Phi-4 and Phi-4-mini (arXiv 2404.14219): fused projections, long and short RoPE factors.

use super::read::Reader;
use crate::{Error, RopeFactors, RopeLayout, Spec};

pub(super) fn spec(keys: &Reader<'_>) -> Result<Spec, Error> {
    let mut spec = keys.decoder(RopeLayout::Halves)?;
    if keys.file.tensor("rope_factors_long.weight").is_some() {
        let original = keys.original_context(spec.context)?;
        spec.ropes[0].factors = RopeFactors::LongShort { original };
    }
    let window = keys.count_or_none("attention.sliding_window", usize::MAX)?;
    if let Some(window) = window.filter(|&window| window < spec.context) {
        for layer in &mut spec.layers {
            layer.window = Some(window);
        }
    }
    Ok(spec)
}
