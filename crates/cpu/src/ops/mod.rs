//! What is not a matrix product, written over [`crate::simd::Simd`].

mod attend;
mod gated;
mod norm;
mod rope;

pub(crate) use attend::{Attention, attend};
pub(crate) use gated::{gelu_tanh, silu, soft_cap};
pub(crate) use norm::{accumulate, norm};
pub(crate) use rope::{Element, HeadStore, rotate, store_head};

#[cfg(test)]
mod tests;
