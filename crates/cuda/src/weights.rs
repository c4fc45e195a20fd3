//! Weights from the file onto the device: read in strips, packed into tiles, copied, all three at once.
//!
//! ```text
//!   file ──pread──▶ strip ──pack──▶ staging ──channel──▶ Sink (the device's copy)
//!        each thread: one strip      pinned, two a thread    the caller's thread
//!                                        ▲                          │
//!                                        └───────── given back ─────┘
//! ```
//!
//! Two to four threads read and pack, each strip into a staging buffer that the caller pinned; the caller's
//! own thread copies finished buffers to the device. So the disk, the cores and the bus work at the same time,
//! and host memory is [`Loader::host_bytes`], whatever the model's size.
//!
//! A strip is whole row tiles; where one row tile is larger than a strip, a part of its columns.

use crate::driver;
use crate::tile::{ALIGN, COLS, Conversion, Overflow, ROWS, TileFormat, pack};
use gguf::{Gguf, Tensor};
use model::plan::{Plan, RowOrder, Vector, Weight};
use quant::Format;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

/// Why weights could not be brought onto the device.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read.
    #[error("tensor {tensor}: {source}")]
    File {
        /// The tensor.
        tensor: String,
        /// The file, the place and the reason.
        source: gguf::Error,
    },
    /// A weight is too large for the format the GPU multiplies.
    #[error(
        "{file}: tensor {tensor} holds {value} in row {row}, column {column}, which is too large for {format}, \
         the GPU's format for {from}; use --device cpu, or quantize the model"
    )]
    Overflow {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Row in the file.
        row: usize,
        /// Column.
        column: usize,
        /// The weight.
        value: f32,
        /// The file's format.
        from: Format,
        /// The tile's.
        format: Format,
    },
    /// The device did not take the bytes.
    #[error("{file}: tensor {tensor} cannot be copied to the GPU: {source}")]
    Device {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// The driver's reason.
        source: driver::Error,
    },
    /// No thread could be started.
    #[error("cannot start a thread to load weights: {0}; close other programs or raise the process limit")]
    Thread(std::io::Error),
}

/// Where packed bytes go.
pub trait Sink {
    /// Copies `bytes`, which lie in the staging memory, to `address`. They may be overwritten as soon as this
    /// returns. Always called on the thread that called [`Loader::load`].
    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), driver::Error>;
}

/// A matrix in tiles, row tile after row tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// Address of the first tile as the arena gave it, a multiple of [`ALIGN`].
    pub address: u64,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// `ceil(rows / 16)`.
    pub row_tiles: usize,
    /// `ceil(cols / 256)`.
    pub col_tiles: usize,
    /// Layout of the tiles.
    pub format: TileFormat,
    /// Bytes of all tiles.
    pub bytes: u64,
}

impl Matrix {
    /// The matrix that `rows` × `cols` weights of a file's format become, at `address`.
    pub fn new(address: u64, rows: usize, cols: usize, from: Format) -> Matrix {
        let (format, _) = TileFormat::of(from);
        let (row_tiles, col_tiles) = (rows.div_ceil(ROWS), cols.div_ceil(COLS));
        let bytes = row_tiles as u64 * col_tiles as u64 * format.bytes() as u64;
        Matrix { address, rows, cols, row_tiles, col_tiles, format, bytes }
    }

    /// Bytes to reserve, so that what follows is aligned too.
    pub fn room(&self) -> u64 {
        self.bytes.next_multiple_of(ALIGN)
    }
}

/// Bytes a whole weight of the plan takes on the device: [`Matrix::room`] of its rows.
pub fn device_bytes(weight: &Weight) -> u64 {
    Matrix::new(0, weight.rows, weight.cols, weight.format).room()
}

/// A line for each format of the plan that is converted when loaded.
pub fn conversions(plan: &Plan) -> Vec<String> {
    let line = |&from: &Format| {
        let (to, conversion) = TileFormat::of(from);
        let of = |weight: &&Weight| weight.format == from;
        let (count, file, device) = plan.weights.iter().filter(of).fold((0, 0, 0), |(n, file, device), w| {
            let row = from.row_bytes(w.cols).expect("the reader checked whole blocks");
            (n + 1, file + row as u64 * w.rows as u64, device + device_bytes(w))
        });
        (count > 0 && conversion != Conversion::None).then(|| {
            let (to, factor) = (to.format(), device as f64 / file as f64);
            format!("{count} matrices in {from} become {to} on the GPU, {factor:.2} times as many bytes")
        })
    };
    Format::ALL.iter().filter_map(line).collect()
}

/// A weight, or a range of its rows, and where it goes.
#[derive(Clone, Debug)]
pub struct Placed<'a> {
    /// Of the plan.
    pub weight: &'a Weight,
    /// Rows in loaded order.
    pub rows: Range<usize>,
    /// Address of the first tile.
    pub address: u64,
}

impl Placed<'_> {
    /// What it becomes.
    pub fn matrix(&self) -> Matrix {
        Matrix::new(self.address, self.rows.len(), self.weight.cols, self.weight.format)
    }
}

/// How to load.
#[derive(Clone, Copy, Debug)]
pub struct Loader {
    /// Threads that read and pack, at least 1.
    pub threads: usize,
    /// Bytes of a strip and of a staging buffer, at least [`Loader::LEAST_STRIP`].
    pub strip: usize,
    /// Whether the file is dropped from the system's cache behind the reader: where the GPU shares the
    /// machine's memory, the cache would take what the weights need.
    pub drop_cache: bool,
}

impl Loader {
    /// Sixteen rows of 256 F32: the most that one tile is packed from.
    pub const LEAST_STRIP: usize = ROWS * COLS * 4;

    /// Strips of 2 MiB: long enough for disks and copies, short enough to stay in a core's cache. Four threads
    /// outrun every disk; more cores than the machine has would only take turns.
    pub fn new(drop_cache: bool) -> Loader {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Loader { threads: cores.clamp(2, 4), strip: 2 << 20, drop_cache }
    }

    /// Bytes of staging memory that [`Loader::load`] wants, to be pinned by the caller.
    pub fn staging_bytes(&self) -> usize {
        2 * self.threads * self.strip
    }

    /// Bytes of host memory that loading takes: staging, and a strip a thread.
    pub fn host_bytes(&self) -> usize {
        self.staging_bytes() + self.threads * self.strip
    }

    /// Reads, packs and copies `parts`. `progress` is told the bytes copied so far, of the parts' matrices'
    /// bytes in all.
    ///
    /// # Errors
    /// The first [`Error`] met; what was copied until then stays.
    ///
    /// # Panics
    /// If `staging` is shorter than [`Loader::staging_bytes`], the strip than [`Loader::LEAST_STRIP`], there is
    /// no thread, or `file` is not the file the parts' plan was read from.
    pub fn load(
        &self,
        file: &Gguf,
        parts: &[Placed],
        staging: &mut [u8],
        sink: &mut dyn Sink,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), Error> {
        assert!(self.threads > 0 && self.strip >= Loader::LEAST_STRIP, "threads, and room for a tile");
        assert!(staging.len() >= self.staging_bytes(), "two staging buffers a thread");
        let sources: Vec<Source> = parts.iter().map(|part| Source::new(file, part, self)).collect();
        let jobs: Vec<Job> = sources.iter().enumerate().flat_map(|(i, source)| source.jobs(i)).collect();
        let next = AtomicUsize::new(0);
        // The scope owns these ends: however it is left, the channels close and the threads end.
        let (free, buffers) = channel();
        let (packed, finished) = channel();
        for buffer in staging.chunks_exact_mut(self.strip).take(2 * self.threads) {
            free.send(buffer).expect("the other end is held here");
        }
        let work = Work { sources: &sources, jobs: &jobs, next: &next, buffers: &Mutex::new(buffers) };
        std::thread::scope(|scope| {
            for thread in 0..self.threads.min(jobs.len()) {
                let packed = packed.clone();
                let run = move || work.run(self, &packed);
                let started = std::thread::Builder::new().name("load".to_owned()).spawn_scoped(scope, run);
                match started {
                    Ok(_) => {}
                    Err(error) if thread == 0 => return Err(Error::Thread(error)),
                    // Fewer threads load as well, only more slowly.
                    Err(_) => break,
                }
            }
            drop(packed);
            let result = copy(&sources, &free, &finished, sink, progress);
            drop((free, finished));
            result
        })?;
        if self.drop_cache {
            // Pages that two strips share were not dropped with either of them.
            for source in &sources {
                file.forget(source.tensor);
            }
        }
        Ok(())
    }
}

/// Copies what the threads pack until all of them have ended, and gives the buffers back.
fn copy<'a>(
    sources: &[Source],
    free: &Sender<&'a mut [u8]>,
    finished: &Receiver<Result<Packed<'a>, Error>>,
    sink: &mut dyn Sink,
    progress: &mut dyn FnMut(u64),
) -> Result<(), Error> {
    let mut done = 0;
    for packed in finished {
        let Packed { source, address, buffer, len } = packed?;
        sink.write(address, &buffer[..len]).map_err(|error| sources[source].device(error))?;
        done += len as u64;
        progress(done);
        // The threads may have ended: then nobody wants it.
        let _ = free.send(buffer);
    }
    Ok(())
}

/// A filled staging buffer on its way to the device.
struct Packed<'a> {
    source: usize,
    address: u64,
    buffer: &'a mut [u8],
    len: usize,
}

/// What one thread does at a time: row tiles × column tiles of a part, one of them all there are or one.
struct Job {
    source: usize,
    row_tiles: Range<usize>,
    col_tiles: Range<usize>,
}

/// What the threads share.
#[derive(Clone, Copy)]
struct Work<'w, 'a> {
    sources: &'w [Source<'w>],
    jobs: &'w [Job],
    next: &'w AtomicUsize,
    buffers: &'w Mutex<Receiver<&'a mut [u8]>>,
}

impl<'a> Work<'_, 'a> {
    /// Takes jobs until there are none, or nobody wants their results any more.
    fn run(&self, loader: &Loader, packed: &Sender<Result<Packed<'a>, Error>>) {
        let mut strip = vec![0; loader.strip];
        while let Some(job) = self.jobs.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let source = &self.sources[job.source];
            let result = source.read(job, &mut strip).and_then(|read| {
                if loader.drop_cache {
                    source.forget(job);
                }
                let taken = self.buffers.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(buffer) = taken else { return Ok(None) };
                let (address, len) = source.pack(job, &strip, read, buffer)?;
                Ok(Some(Packed { source: job.source, address, buffer, len }))
            });
            let Some(result) = result.transpose() else { return };
            let failed = result.is_err();
            if packed.send(result).is_err() || failed {
                return;
            }
        }
    }
}

/// A part with what is known about it.
struct Source<'a> {
    file: &'a Gguf,
    tensor: &'a Tensor,
    order: RowOrder,
    /// In loaded order.
    rows: Range<usize>,
    matrix: Matrix,
    from: Format,
    /// Bytes of a row in the file, and of 256 of its columns.
    row_bytes: usize,
    stretch: usize,
    strip: usize,
}

/// How rows lie in a strip: by their place in the file from this row on, or one behind the other.
#[derive(Clone, Copy)]
enum Layout {
    Stored(usize),
    Loaded,
}

impl<'a> Source<'a> {
    fn new(file: &'a Gguf, part: &'a Placed, loader: &Loader) -> Source<'a> {
        let weight = part.weight;
        let tensor = file.tensor(&weight.tensor).expect("the emitter looked it up");
        assert!(
            (tensor.rows(), tensor.cols(), tensor.format) == (weight.rows, weight.cols, weight.format)
                && part.rows.end <= weight.rows,
            "rows of a tensor of the file the plan was read from"
        );
        Source {
            file,
            tensor,
            order: weight.order,
            rows: part.rows.clone(),
            matrix: part.matrix(),
            from: weight.format,
            row_bytes: weight.format.row_bytes(weight.cols).expect("the reader checked whole blocks"),
            stretch: weight.format.row_bytes(COLS).expect("256 columns are whole blocks of every format"),
            strip: loader.strip,
        }
    }

    /// Its jobs, none of which reads or writes more than a strip.
    fn jobs(&self, source: usize) -> impl Iterator<Item = Job> {
        let Matrix { row_tiles, col_tiles, format, .. } = self.matrix;
        let fit = (self.strip / format.bytes()).min(self.strip / (ROWS * self.stretch));
        let (mut high, wide) = (1, col_tiles.min(fit));
        if wide == col_tiles {
            high = (self.strip / self.row_bytes / ROWS).min(fit / col_tiles).max(1);
            // Rows change places within a head: jobs of whole heads read one piece of the file, and none twice.
            if let RowOrder::Halves { head_dim, .. } = self.order {
                let tiles = (1..=ROWS).map(|heads| heads * head_dim).find(|rows| rows.is_multiple_of(ROWS));
                let tiles = tiles.expect("sixteen heads are whole row tiles") / ROWS;
                high = if high > tiles { high / tiles * tiles } else { high };
            }
        }
        let rows = (0..row_tiles).step_by(high).map(move |row| row..row_tiles.min(row + high));
        rows.flat_map(move |row_tiles| {
            (0..col_tiles).step_by(wide).map(move |col| Job {
                source,
                row_tiles: row_tiles.clone(),
                col_tiles: col..col_tiles.min(col + wide),
            })
        })
    }

    /// A job's rows of the weight, in loaded order.
    fn rows(&self, job: &Job) -> Range<usize> {
        let row = |tile: usize| self.rows.start + self.rows.len().min(tile * ROWS);
        row(job.row_tiles.start)..row(job.row_tiles.end)
    }

    /// A job's bytes of every row.
    fn bytes(&self, job: &Job) -> Range<usize> {
        let byte = |tile: usize| self.row_bytes.min(tile * self.stretch);
        byte(job.col_tiles.start)..byte(job.col_tiles.end)
    }

    /// The first of a job's rows in the file, and the end.
    fn span(&self, job: &Job) -> Range<usize> {
        let rows = self.rows(job);
        if self.order == RowOrder::Stored {
            return rows;
        }
        let stored = || rows.clone().map(|row| self.order.stored(row));
        let end = stored().max().map_or(rows.start, |last| last + 1);
        stored().min().unwrap_or(rows.start)..end
    }

    fn read(&self, job: &Job, strip: &mut [u8]) -> Result<Layout, Error> {
        let (rows, bytes, span) = (self.rows(job), self.bytes(job), self.span(job));
        let read = |at: usize, to: &mut [u8]| self.file.read(self.tensor, at as u64, to);
        let result = if bytes.len() == self.row_bytes && span.len() * self.row_bytes <= strip.len() {
            read(span.start * self.row_bytes, &mut strip[..span.len() * self.row_bytes])
                .map(|()| Layout::Stored(span.start))
        } else {
            let mut parts = strip.chunks_exact_mut(bytes.len());
            rows.into_iter()
                .try_for_each(|row| {
                    let to = parts.next().expect("sixteen rows of a job fit a strip");
                    read(self.order.stored(row) * self.row_bytes + bytes.start, to)
                })
                .map(|()| Layout::Loaded)
        };
        result.map_err(|source| Error::File { tensor: self.tensor.name.clone(), source })
    }

    /// Drops what a job has read from the system's cache.
    fn forget(&self, job: &Job) {
        let (span, bytes) = (self.span(job), self.bytes(job));
        if bytes.len() == self.row_bytes {
            let (from, to) = (span.start * self.row_bytes, span.end * self.row_bytes);
            self.file.forget_range(self.tensor, from as u64..to as u64);
        }
    }

    /// Packs a job's rows and says where the result belongs and how long it is.
    fn pack(&self, job: &Job, strip: &[u8], read: Layout, out: &mut [u8]) -> Result<(u64, usize), Error> {
        let Matrix { address, cols, col_tiles, format, .. } = self.matrix;
        let (rows, bytes) = (self.rows(job), self.bytes(job));
        let cols = cols.min(job.col_tiles.end * COLS) - job.col_tiles.start * COLS;
        let tile_bytes = format.row_tile_bytes(cols);
        let len = job.row_tiles.len() * tile_bytes;
        for (i, out) in out[..len].chunks_exact_mut(tile_bytes).enumerate() {
            let first = rows.start + i * ROWS;
            let count = ROWS.min(rows.end - first);
            let row = |row: usize| {
                let at = match read {
                    Layout::Stored(start) => self.order.stored(row) - start,
                    Layout::Loaded => row - rows.start,
                };
                &strip[at * bytes.len()..][..bytes.len()]
            };
            let filled: [&[u8]; ROWS] = std::array::from_fn(|i| if i < count { row(first + i) } else { &[] });
            pack(self.from, &filled[..count], cols, out)
                .map_err(|overflow| self.overflow(job, first, overflow))?;
        }
        let tile = job.row_tiles.start * col_tiles + job.col_tiles.start;
        Ok((address + tile as u64 * format.bytes() as u64, len))
    }

    fn overflow(&self, job: &Job, first: usize, overflow: Overflow) -> Error {
        Error::Overflow {
            file: self.file.name().to_owned(),
            tensor: self.tensor.name.clone(),
            row: self.order.stored(first + overflow.row),
            column: job.col_tiles.start * COLS + overflow.column,
            value: overflow.value,
            from: self.from,
            format: self.matrix.format.format(),
        }
    }

    fn device(&self, source: driver::Error) -> Error {
        Error::Device { file: self.file.name().to_owned(), tensor: self.tensor.name.clone(), source }
    }
}

/// A vector of the plan as floats, in loaded order.
///
/// # Panics
/// If `file` is not the file the vector's plan was read from.
pub fn read_vector(file: &Gguf, vector: &Vector) -> Result<Vec<f32>, Error> {
    let tensor = file.tensor(&vector.tensor).expect("the emitter looked it up");
    let bytes =
        file.read_all(tensor).map_err(|source| Error::File { tensor: tensor.name.clone(), source })?;
    let mut stored = vec![0.0; vector.len];
    tensor.format.decode(&bytes, &mut stored);
    Ok((0..vector.len).map(|i| stored[vector.order.stored(i)]).collect())
}

#[cfg(test)]
mod tests;
