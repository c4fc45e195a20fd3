//! What reader and writer both hold a file to.
//!
//! Bounds stand well above every published model and keep a hostile header from costing more than
//! its own size: a header of 256 MiB parses in under a second.

use quant::Format;

use crate::error::is_unprintable;

/// Keys and tensor directory together, in bytes. The largest vocabularies take about 20 MiB.
pub(crate) const HEADER_BYTES: u64 = 256 << 20;
/// Keys in one file; models have about 50.
pub(crate) const KEYS: u64 = 1 << 16;
/// Tensors over all shards; the largest mixtures with unmerged experts have about 50,000.
pub(crate) const TENSORS: u64 = 1 << 17;
/// Shards of one split file.
pub(crate) const SHARDS: u64 = 999;
/// Length of a key in bytes, from the specification.
pub(crate) const KEY_BYTES: u64 = 65_535;
/// Length of a tensor name in bytes; ggml reserves 64 with a closing zero.
pub(crate) const NAME_BYTES: u64 = 63;
/// Dimensions of a tensor, from ggml.
pub(crate) const DIMS: u32 = 4;
/// Alignment of tensor data when `general.alignment` is absent.
pub(crate) const ALIGNMENT: u64 = 32;

/// Why a key or tensor name cannot be used, or `None`.
pub(crate) fn name_problem(name: &[u8], longest: u64) -> Option<String> {
    if name.is_empty() {
        return Some("its name is empty".into());
    }
    if name.len() as u64 > longest {
        return Some(format!("its name has {} bytes; at most {longest} are allowed", name.len()));
    }
    match std::str::from_utf8(name) {
        Err(_) => Some("its name is not UTF-8".into()),
        Ok(text) if text.chars().any(is_unprintable) => Some("its name holds a control character".into()),
        Ok(_) => None,
    }
}

/// Why an alignment cannot be used, or `None`.
pub(crate) fn alignment_problem(alignment: u32) -> Option<String> {
    let good = alignment.is_power_of_two() && (8..=1 << 20).contains(&alignment);
    (!good).then(|| format!("alignment is {alignment}; a power of two from 8 to 1048576 is needed"))
}

/// Bytes of a tensor's data, or why there can be no such tensor.
pub(crate) fn tensor_bytes(format: Format, shape: &[u64]) -> Result<u64, String> {
    if shape.is_empty() || shape.len() > DIMS as usize {
        return Err(format!("it has {} dimensions; 1 to {DIMS} are allowed", shape.len()));
    }
    if let Some(dim) = shape.iter().position(|&n| n == 0) {
        return Err(format!("dimension {dim} is 0"));
    }
    let (block, block_bytes) = (format.block_len() as u64, format.block_bytes() as u64);
    if !shape[0].is_multiple_of(block) {
        return Err(format!(
            "its rows have {} columns, not a multiple of {}'s block of {block}",
            shape[0],
            format.name()
        ));
    }
    let too_large = || format!("its shape {shape:?} does not fit in memory");
    // Elements are counted too: formats below one byte a weight could pass with more than 2^63.
    let elements = shape.iter().try_fold(1u64, |all, &n| all.checked_mul(n)).ok_or_else(too_large)?;
    let bytes = (elements / block).checked_mul(block_bytes).ok_or_else(too_large)?;
    let largest = i64::MAX as u64;
    if elements > largest || bytes > largest || usize::try_from(elements.max(bytes)).is_err() {
        return Err(too_large());
    }
    Ok(bytes)
}
