//! The table of formats, and what can be done with any of them.

use crate::{
    bf16, block, f16, iq4_nl, iq4_xs, mxfp4, q2_k, q3_k, q4_0, q4_1, q4_k, q5_0, q5_1, q5_k, q6_k, q8_0,
};

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

/// The format is read but not written by this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no encoder for {}; encode to F32, F16, BF16, Q8_0, Q6_K, Q5_K, Q5_1, Q5_0, Q4_K, Q4_1 or Q4_0", .0.name())]
pub struct Unsupported(pub Format);

/// What is fixed about a format: one line of the table below.
struct Facts {
    id: u32,
    name: &'static str,
    block_len: usize,
    block_bytes: usize,
    sub_len: usize,
}

const fn facts(id: u32, name: &'static str, block_len: usize, block_bytes: usize, sub_len: usize) -> Facts {
    Facts { id, name, block_len, block_bytes, sub_len }
}

impl Format {
    /// Every format, in the order of the table in the crate's documentation.
    pub const ALL: &'static [Format] = &[
        Format::F32,
        Format::F16,
        Format::BF16,
        Format::Q4_0,
        Format::Q4_1,
        Format::Q5_0,
        Format::Q5_1,
        Format::Q8_0,
        Format::Q2_K,
        Format::Q3_K,
        Format::Q4_K,
        Format::Q5_K,
        Format::Q6_K,
        Format::IQ4_NL,
        Format::IQ4_XS,
        Format::MXFP4,
    ];

    /// The table of formats: id in GGUF files, name, weights and bytes of a block, weights of a sub-block.
    #[rustfmt::skip]
    const fn facts(self) -> Facts {
        match self {
            Format::F32    => facts( 0, "F32",    1,   4,               1),
            Format::F16    => facts( 1, "F16",    1,   2,               1),
            Format::BF16   => facts(30, "BF16",   1,   2,               1),
            Format::Q4_0   => facts( 2, "Q4_0",   32,  q4_0::BYTES,    32),
            Format::Q4_1   => facts( 3, "Q4_1",   32,  q4_1::BYTES,    32),
            Format::Q5_0   => facts( 6, "Q5_0",   32,  q5_0::BYTES,    32),
            Format::Q5_1   => facts( 7, "Q5_1",   32,  q5_1::BYTES,    32),
            Format::Q8_0   => facts( 8, "Q8_0",   32,  q8_0::BYTES,    32),
            Format::Q2_K   => facts(10, "Q2_K",   256, q2_k::BYTES,    16),
            Format::Q3_K   => facts(11, "Q3_K",   256, q3_k::BYTES,    16),
            Format::Q4_K   => facts(12, "Q4_K",   256, q4_k::BYTES,    32),
            Format::Q5_K   => facts(13, "Q5_K",   256, q5_k::BYTES,    32),
            Format::Q6_K   => facts(14, "Q6_K",   256, q6_k::BYTES,    16),
            Format::IQ4_NL => facts(20, "IQ4_NL", 32,  iq4_nl::BYTES,  32),
            Format::IQ4_XS => facts(23, "IQ4_XS", 256, iq4_xs::BYTES,  32),
            Format::MXFP4  => facts(39, "MXFP4",  32,  mxfp4::BYTES,   32),
        }
    }

    /// The format with this ggml type id, or `None` for ids this crate does not read.
    pub fn from_id(id: u32) -> Option<Format> {
        Format::ALL.iter().copied().find(|format| format.id() == id)
    }

    /// The ggml type id stored in GGUF files.
    pub fn id(self) -> u32 {
        self.facts().id
    }

    /// The name as ggml writes it, such as `Q4_K`.
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// The format of this name, whatever its case.
    pub fn from_name(name: &str) -> Option<Format> {
        Format::ALL.iter().copied().find(|format| format.name().eq_ignore_ascii_case(name))
    }

    /// Weights in a block.
    pub fn block_len(self) -> usize {
        self.facts().block_len
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        self.facts().block_bytes
    }

    /// Weights that share one scale and minimum: 16 or 32, and 1 for the float formats.
    pub fn sub_len(self) -> usize {
        self.facts().sub_len
    }

    /// Whether weights are integer codes with scales, not floats.
    pub fn is_quantized(self) -> bool {
        self.block_len() > 1
    }

    /// Bytes of a row of `cols` weights; `None` if these are not whole blocks or the size overflows.
    pub fn row_bytes(self, cols: usize) -> Option<usize> {
        if !cols.is_multiple_of(self.block_len()) {
            return None;
        }
        (cols / self.block_len()).checked_mul(self.block_bytes())
    }

    /// Decodes whole blocks; `out` holds `block_len` weights for each `block_bytes` of `bytes`.
    ///
    /// The lengths are the caller's invariant: with others, as many whole blocks as both sides
    /// hold are decoded. Any bytes are valid; scales that are not finite give weights that are not.
    pub fn decode(self, bytes: &[u8], out: &mut [f32]) {
        match self {
            Format::F32 => crate::f32::decode(bytes, out),
            Format::F16 => f16::decode(bytes, out),
            Format::BF16 => bf16::decode(bytes, out),
            Format::Q4_0 => q4_0::decode(bytes, out),
            Format::Q4_1 => q4_1::decode(bytes, out),
            Format::Q5_0 => q5_0::decode(bytes, out),
            Format::Q5_1 => q5_1::decode(bytes, out),
            Format::Q8_0 => q8_0::decode(bytes, out),
            Format::Q2_K => q2_k::decode(bytes, out),
            Format::Q3_K => q3_k::decode(bytes, out),
            Format::Q4_K => q4_k::decode(bytes, out),
            Format::Q5_K => q5_k::decode(bytes, out),
            Format::Q6_K => q6_k::decode(bytes, out),
            Format::IQ4_NL => iq4_nl::decode(bytes, out),
            Format::IQ4_XS => iq4_xs::decode(bytes, out),
            Format::MXFP4 => mxfp4::decode(bytes, out),
        }
    }

    /// Encodes whole blocks of `row`; `out` holds `block_bytes` for each `block_len` weights.
    ///
    /// The choice of codes is that of ggml's reference quantizers without an importance matrix.
    /// Weights that are not finite never panic and never give codes out of range, but the
    /// quantized formats cannot hold them: their block's weights then mean nothing.
    ///
    /// # Errors
    /// [`Unsupported`] for the formats that are only read.
    pub fn encode(self, row: &[f32], out: &mut [u8]) -> Result<(), Unsupported> {
        match self {
            Format::F32 => crate::f32::encode(row, out),
            Format::F16 => f16::encode(row, out),
            Format::BF16 => bf16::encode(row, out),
            Format::Q4_0 => q4_0::encode(row, out),
            Format::Q4_1 => q4_1::encode(row, out),
            Format::Q5_0 => q5_0::encode(row, out),
            Format::Q5_1 => q5_1::encode(row, out),
            Format::Q8_0 => q8_0::encode(row, out),
            Format::Q4_K => q4_k::encode(row, out),
            Format::Q5_K => q5_k::encode(row, out),
            Format::Q6_K => q6_k::encode(row, out),
            Format::Q2_K | Format::Q3_K | Format::IQ4_NL | Format::IQ4_XS | Format::MXFP4 => {
                return Err(Unsupported(self));
            }
        }
        Ok(())
    }

    /// Whether [`Format::encode`] writes this format.
    pub fn can_encode(self) -> bool {
        self.encode(&[], &mut []).is_ok()
    }

    /// Takes one block apart: weight `i` is `scales[s] * codes[i] - mins[s]` with `s = i / sub_len`.
    ///
    /// Evaluated in f32 in that order this is [`Format::decode`], bit for bit. `codes` holds
    /// `block_len` values, `scales` and `mins` `block_len / sub_len`; longer slices keep their
    /// tails. The float formats give code 1 with the weight as scale.
    ///
    /// # Panics
    /// If a slice is shorter than that, or `block` than `block_bytes`.
    pub fn codes(self, block: &[u8], codes: &mut [i8], scales: &mut [f32], mins: &mut [f32]) {
        let to = block::Parts { codes, scales, mins };
        match self {
            Format::F32 | Format::F16 | Format::BF16 => {
                self.decode(&block[..self.block_bytes()], &mut to.scales[..1]);
                to.codes[0] = 1;
                to.mins[0] = 0.0;
            }
            Format::Q4_0 => to.fill(q4_0::codes, block),
            Format::Q4_1 => to.fill(q4_1::codes, block),
            Format::Q5_0 => to.fill(q5_0::codes, block),
            Format::Q5_1 => to.fill(q5_1::codes, block),
            Format::Q8_0 => to.fill(q8_0::codes, block),
            Format::Q2_K => to.fill(q2_k::codes, block),
            Format::Q3_K => to.fill(q3_k::codes, block),
            Format::Q4_K => to.fill(q4_k::codes, block),
            Format::Q5_K => to.fill(q5_k::codes, block),
            Format::Q6_K => to.fill(q6_k::codes, block),
            Format::IQ4_NL => to.fill(iq4_nl::codes, block),
            Format::IQ4_XS => to.fill(iq4_xs::codes, block),
            Format::MXFP4 => to.fill(mxfp4::codes, block),
        }
    }

    /// The name of a ggml type this crate refuses, for the message that refuses it; `unknown` if
    /// ggml has no such type either.
    pub fn unknown_name(id: u32) -> &'static str {
        match id {
            4 => "Q4_2 (removed)",
            5 => "Q4_3 (removed)",
            9 => "Q8_1",
            15 => "Q8_K",
            16 => "IQ2_XXS",
            17 => "IQ2_XS",
            18 => "IQ3_XXS",
            19 => "IQ1_S",
            21 => "IQ3_S",
            22 => "IQ2_S",
            24 => "I8",
            25 => "I16",
            26 => "I32",
            27 => "I64",
            28 => "F64",
            29 => "IQ1_M",
            31 => "Q4_0_4_4 (removed)",
            32 => "Q4_0_4_8 (removed)",
            33 => "Q4_0_8_8 (removed)",
            34 => "TQ1_0",
            35 => "TQ2_0",
            36 => "IQ4_NL_4_4 (removed)",
            37 => "IQ4_NL_4_8 (removed)",
            38 => "IQ4_NL_8_8 (removed)",
            40 => "NVFP4",
            41 => "Q1_0",
            42 => "Q2_0",
            _ => "unknown",
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ggml's own numbers: `enum ggml_type` and the sizes of its block structures.
    #[test]
    fn ids_and_sizes_are_ggmls() {
        let table = [
            (0, "F32", 1, 4),
            (1, "F16", 1, 2),
            (2, "Q4_0", 32, 18),
            (3, "Q4_1", 32, 20),
            (6, "Q5_0", 32, 22),
            (7, "Q5_1", 32, 24),
            (8, "Q8_0", 32, 34),
            (10, "Q2_K", 256, 84),
            (11, "Q3_K", 256, 110),
            (12, "Q4_K", 256, 144),
            (13, "Q5_K", 256, 176),
            (14, "Q6_K", 256, 210),
            (20, "IQ4_NL", 32, 18),
            (23, "IQ4_XS", 256, 136),
            (30, "BF16", 1, 2),
            (39, "MXFP4", 32, 17),
        ];
        assert_eq!(table.len(), Format::ALL.len());
        for (id, name, len, bytes) in table {
            let format = Format::from_id(id).expect("a format of the table");
            assert_eq!((format.id(), format.name()), (id, name));
            assert_eq!((format.block_len(), format.block_bytes()), (len, bytes), "{name}");
            assert_eq!(Format::from_name(&name.to_lowercase()), Some(format));
        }
    }

    #[test]
    fn ids_are_read_or_refused_never_both() {
        for id in 0..1000 {
            let known = Format::from_id(id).is_some();
            assert!(!known || Format::unknown_name(id) == "unknown", "{id}");
            assert!(known || id > 42 || Format::unknown_name(id) != "unknown", "{id}");
        }
        assert_eq!(Format::unknown_name(4), "Q4_2 (removed)");
        assert_eq!(Format::from_id(u32::MAX), None);
        assert_eq!(Format::from_name("Q4_K_M"), None);
    }

    #[test]
    fn rows_are_whole_blocks_that_fit() {
        assert_eq!(Format::Q4_K.row_bytes(512), Some(288));
        assert_eq!(Format::Q4_K.row_bytes(511), None);
        assert_eq!(Format::Q8_0.row_bytes(0), Some(0));
        assert_eq!(Format::F32.row_bytes(usize::MAX), None);
        assert_eq!(Format::Q8_0.row_bytes(usize::MAX - 31), None);
    }

    #[test]
    fn formats_without_encoder_say_so() {
        let error = Format::Q2_K.encode(&[], &mut []).expect_err("Q2_K is only read");
        assert_eq!(
            error.to_string(),
            "no encoder for Q2_K; encode to F32, F16, BF16, Q8_0, Q6_K, Q5_K, Q5_1, Q5_0, Q4_K, Q4_1 or Q4_0"
        );
        let named: Vec<_> = Format::ALL.iter().filter(|f| f.can_encode()).map(|f| f.name()).collect();
        assert!(named.iter().all(|name| error.to_string().contains(name)));
        assert_eq!(named.len(), 11);
    }
}
