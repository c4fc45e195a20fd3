//! The commands, one file each.

pub(crate) mod bench;
pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod doctor;
pub(crate) mod fit;
pub(crate) mod inspect;
mod inspect_check;
pub(crate) mod logits;
pub(crate) mod man;
pub(crate) mod monitor;
pub(crate) mod perplexity;
pub(crate) mod plan;
pub(crate) mod profile;
pub(crate) mod quantize;
pub(crate) mod run;
pub(crate) mod serve;
pub(crate) mod soak;
mod speed_test;
pub(crate) mod tokenize;
