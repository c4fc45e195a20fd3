//! SmolLM3: Llama with no positions in every fourth layer.

use super::read::Reader;
use crate::{Error, RopeLayout, Spec};

pub(super) fn spec(keys: &Reader<'_>) -> Result<Spec, Error> {
    let mut spec = keys.decoder(RopeLayout::Interleaved)?;
    for layer in spec.layers.iter_mut().skip(3).step_by(4) {
        layer.rope = None;
    }
    Ok(spec)
}
