//! `inspect --check`: reads every weight, for those that are not finite.

use gguf::{Gguf, Tensor};

use crate::failure::bad_input;

/// Bytes of a strip, about: memory stays bounded whatever the tensor.
const STRIP: usize = 1 << 20;

/// Decodes every tensor strip by strip.
///
/// # Errors
/// The first weight that is NaN or infinite, by tensor and row; a file that cannot be read to its end.
pub(crate) fn check(file: &Gguf) -> anyhow::Result<()> {
    file.tensors().iter().try_for_each(|tensor| check_tensor(file, tensor))
}

fn check_tensor(file: &Gguf, tensor: &Tensor) -> anyhow::Result<()> {
    let row_bytes = tensor.format.row_bytes(tensor.cols()).expect("the reader checked whole blocks");
    let strip_rows = (STRIP / row_bytes).max(1);
    let (mut bytes, mut weights) = (vec![], vec![]);
    for first in (0..tensor.rows()).step_by(strip_rows) {
        let rows = strip_rows.min(tensor.rows() - first);
        bytes.resize(rows * row_bytes, 0);
        weights.resize(rows * tensor.cols(), 0.0f32);
        file.read(tensor, (first * row_bytes) as u64, &mut bytes)?;
        tensor.format.decode(&bytes, &mut weights);
        if let Some(at) = weights.iter().position(|weight| !weight.is_finite()) {
            return Err(bad_input(format!(
                "{}: row {} of tensor {} holds {}; the file is damaged or was converted wrongly",
                file.name(),
                first + at / tensor.cols(),
                tensor.name,
                weights[at]
            )));
        }
    }
    Ok(())
}
