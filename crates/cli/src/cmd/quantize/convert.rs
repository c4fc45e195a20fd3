//! One tensor from its format into another, in strips of rows shared between threads.
//!
//! Memory is bounded by the strip, whatever the tensor's size: input, floats and output of about
//! [`STRIP`] weights.

use std::io;
use std::thread;

use gguf::Gguf;
use quant::Format;

use super::Job;
use crate::failure::{Interrupted, bad_input};

/// Weights in a strip, about.
const STRIP: usize = 4 << 20;

/// Buffers for converting tensors of one file.
pub(crate) struct Converter<'a> {
    file: &'a Gguf,
    threads: usize,
    input: Vec<u8>,
    output: Vec<u8>,
    /// One row of floats a thread.
    rows: Vec<Vec<f32>>,
}

impl<'a> Converter<'a> {
    /// For tensors of `file`.
    pub(crate) fn new(file: &'a Gguf, threads: usize) -> Converter<'a> {
        Converter { file, threads, input: Vec::new(), output: Vec::new(), rows: vec![Vec::new(); threads] }
    }

    /// Hands the tensor's new bytes to `write` in order and the bytes read to `progress`.
    pub(crate) fn convert(
        &mut self,
        job: &Job<'_>,
        write: &mut dyn FnMut(&[u8]) -> anyhow::Result<()>,
        progress: &mut dyn FnMut(u64),
    ) -> anyhow::Result<()> {
        let (tensor, cols) = (job.tensor, job.tensor.cols());
        let from = tensor.format.row_bytes(cols).expect("the reader checked whole blocks");
        let to = job.format.row_bytes(cols).expect("the mix chose a format of whole blocks");
        let strip = (STRIP / cols).max(1);
        let mut row = 0;
        while row < tensor.rows() {
            if crate::interrupt::requested() {
                return Err(Interrupted.into());
            }
            let rows = strip.min(tensor.rows() - row);
            self.input.resize(rows * from, 0);
            self.file.read(tensor, (row * from) as u64, &mut self.input)?;
            if tensor.format == job.format {
                write(&self.input)?;
            } else {
                self.output.resize(rows * to, 0);
                self.strip(job, row, from, to)?;
                write(&self.output)?;
            }
            progress(self.input.len() as u64);
            row += rows;
        }
        Ok(())
    }

    /// Converts the rows of `input`, the first being row `first` of the tensor.
    fn strip(&mut self, job: &Job<'_>, first: usize, from: usize, to: usize) -> anyhow::Result<()> {
        let rows = self.input.len() / from;
        let share = rows.div_ceil(self.threads);
        let cols = job.tensor.cols();
        let (source, target) = (job.tensor.format, job.format);
        let parts = self.input.chunks(share * from).zip(self.output.chunks_mut(share * to));
        let work = |(input, output): (&[u8], &mut [u8]), floats: &mut Vec<f32>| {
            floats.resize(cols, 0.0);
            rows_of(source, target, input.chunks_exact(from).zip(output.chunks_exact_mut(to)), floats)
        };
        let failed = thread::scope(|scope| {
            let start =
                |(part, floats)| thread::Builder::new().spawn_scoped(scope, move || work(part, floats));
            let threads = parts.zip(&mut self.rows).map(start).collect::<io::Result<Vec<_>>>()?;
            let results = threads.into_iter().map(|thread| thread.join().expect("converting never panics"));
            Ok(results.enumerate().find_map(|(part, bad)| bad.map(|row| first + part * share + row)))
        });
        let failed = failed.map_err(|error: io::Error| {
            anyhow::anyhow!("cannot start {} threads: {error}; lower --threads", self.threads)
        })?;
        match failed {
            None => Ok(()),
            Some(row) => Err(bad_input(format!(
                "{}: row {row} of tensor {} holds a weight that is not finite, which {target} cannot hold; \
                 the file is damaged or was converted wrongly",
                self.file.name(),
                job.tensor.name
            ))),
        }
    }
}

/// Converts rows and gives the first, if any, with a weight that the target cannot hold.
fn rows_of<'a>(
    source: Format,
    target: Format,
    rows: impl Iterator<Item = (&'a [u8], &'a mut [u8])>,
    floats: &mut [f32],
) -> Option<usize> {
    for (row, (input, output)) in rows.enumerate() {
        source.decode(input, floats);
        if target.is_quantized() && !floats.iter().all(|weight| weight.is_finite()) {
            return Some(row);
        }
        target.encode(floats, output).expect("the mixes only choose formats that can be encoded");
    }
    None
}
