//! Llama 1 to 3.3, TinyLlama, Mistral, SmolLM2 and everything converted under their name.

use super::read::Reader;
use crate::{Error, RopeLayout, Spec};

pub(super) fn spec(keys: &Reader<'_>) -> Result<Spec, Error> {
    keys.decoder(RopeLayout::Interleaved)
}
