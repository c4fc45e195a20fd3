//! Block formats of GGUF tensors: layout, decode, encode.
//!
//! A tensor's row is a whole number of blocks; a block holds [`Format::block_len`] weights in
//! [`Format::block_bytes`] bytes. Layouts follow ggml's `ggml-common.h`; the `gguf` package of
//! PyPI is the oracle for decoding, bit for bit.
#![forbid(unsafe_code)]

/// A block layout: its id in GGUF files, its name, its sizes, its decoder and, for some, its encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(non_camel_case_types, reason = "the field's own names")]
pub enum Format {
    /// 32-bit float.
    F32,
    /// IEEE half float.
    F16,
    /// Brain float.
    BF16,
    /// 32 weights of 4 bits, one scale.
    Q4_0,
    /// 32 weights of 4 bits, scale and minimum.
    Q4_1,
    /// 32 weights of 5 bits, one scale.
    Q5_0,
    /// 32 weights of 5 bits, scale and minimum.
    Q5_1,
    /// 32 weights of 8 bits, one scale.
    Q8_0,
    /// 256 weights of 2 bits, 16 scales and minima.
    Q2_K,
    /// 256 weights of 3 bits, 16 scales.
    Q3_K,
    /// 256 weights of 4 bits, 8 scales and minima.
    Q4_K,
    /// 256 weights of 5 bits, 8 scales and minima.
    Q5_K,
    /// 256 weights of 6 bits, 16 scales.
    Q6_K,
    /// 32 weights of 4 bits through a table of values.
    IQ4_NL,
    /// 256 weights of 4 bits through a table of values, 8 scales.
    IQ4_XS,
    /// 32 weights of 4-bit floats (E2M1), one power-of-two scale.
    MXFP4,
}
