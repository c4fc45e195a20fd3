//! Qwen3 (dense): norms on each head of Q and K, which the tensors tell.

use super::read::Reader;
use crate::{Error, RopeLayout, Spec};

pub(super) fn spec(keys: &Reader<'_>) -> Result<Spec, Error> {
    keys.decoder(RopeLayout::Halves)
}
