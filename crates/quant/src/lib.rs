//! Block formats of GGUF tensors: layout, decode, encode.
//!
//! A tensor's row is a whole number of blocks; a block holds [`Format::block_len`] weights in
//! [`Format::block_bytes`] bytes. Layouts follow ggml's `ggml-common.h`; the `gguf` package of
//! PyPI is the oracle for decoding, bit for bit.
//!
//! One file describes one format. Its `codes` is the only place that knows where the bits lie:
//! every weight of a quantized block is `scale[s] * code - min[s]` in f32, where `s` is the
//! weight's sub-block of [`Format::sub_len`] weights. `decode` evaluates exactly that, and
//! backends repack blocks for their kernels from the same three arrays.
#![forbid(unsafe_code)]

pub mod bf16;
pub mod f16;
pub mod f32;
pub mod iq4_nl;
pub mod iq4_xs;
pub mod mxfp4;
pub mod q2_k;
pub mod q3_k;
pub mod q4_0;
pub mod q4_1;
pub mod q4_k;
pub mod q5_0;
pub mod q5_1;
pub mod q5_k;
pub mod q6_k;
pub mod q8_0;

mod block;
mod format;
mod k_search;

pub use format::{Format, Unsupported};
