//! What is not a matrix product, written over [`crate::simd::Simd`].

mod attend;
mod gated;
mod norm;
mod rope;

pub(crate) use attend::{Attention, Int4, Int8, Keep, attend};
pub(crate) use gated::{gelu_tanh, silu, soft_cap};
pub(crate) use norm::{accumulate, norm};
pub(crate) use rope::{hadamard, rotate};

#[cfg(test)]
mod tests;
