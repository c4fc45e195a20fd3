//! Qwen2 and Qwen2.5: biases on Q, K and V, which the tensors tell.

use super::read::Reader;
use crate::{Error, RopeLayout, Spec};

pub(super) fn spec(keys: &Reader<'_>) -> Result<Spec, Error> {
    keys.decoder(RopeLayout::Halves)
}
