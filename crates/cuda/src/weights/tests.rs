//! The loader against files whose tiles are packed a row at a time, into a sink that counts.

use super::{Error, Loader, Matrix, Placed, Sink, conversions, device_bytes, read_vector};
use crate::driver;
use crate::tile::{ROWS, TileFormat, pack};
use gguf::{Gguf, Writer};
use model::Plan;
use model::plan::{RowOrder, Vector, Weight};
use quant::Format;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use testkit::tiny::{FAMILIES, Tiny};

/// Memory that counts how often each byte was written, and the staging memory everything must come from.
struct Recorder {
    memory: Vec<u8>,
    writes: Vec<u8>,
    staging: Range<usize>,
    /// Writes until the device fails.
    left: usize,
}

impl Recorder {
    fn new(bytes: u64, staging: &[u8]) -> Recorder {
        let start = staging.as_ptr() as usize;
        let staging = start..start + staging.len();
        Recorder {
            memory: vec![0xa5; bytes as usize],
            writes: vec![0; bytes as usize],
            staging,
            left: usize::MAX,
        }
    }
}

impl Sink for Recorder {
    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), driver::Error> {
        let from = bytes.as_ptr() as usize;
        assert!(self.staging.start <= from && from + bytes.len() <= self.staging.end, "copied from staging");
        assert!(self.left > 0, "nothing is copied after a failure");
        self.left -= 1;
        if self.left == 0 {
            return Err(driver::Error::NoKernels);
        }
        let at = address as usize..address as usize + bytes.len();
        self.memory[at.clone()].copy_from_slice(bytes);
        for count in &mut self.writes[at] {
            *count += 1;
        }
        Ok(())
    }
}

/// What a part must become: its rows read one by one.
fn expected(file: &Gguf, weight: &Weight, rows: Range<usize>) -> Vec<u8> {
    let data =
        file.read_all(file.tensor(&weight.tensor).expect("a tensor of the plan")).expect("it was opened");
    let width = data.len() / weight.rows;
    let tile = TileFormat::of(weight.format).0.row_tile_bytes(weight.cols);
    let mut out = vec![0; rows.len().div_ceil(ROWS) * tile];
    let rows: Vec<&[u8]> = rows.map(|row| &data[weight.order.stored(row) * width..][..width]).collect();
    for (rows, out) in rows.chunks(ROWS).zip(out.chunks_exact_mut(tile)) {
        pack(weight.format, rows, weight.cols, out).expect("weights that fit");
    }
    out
}

/// Puts weights one behind the other.
fn arrange<'a>(parts: impl Iterator<Item = (&'a Weight, Range<usize>)>) -> (Vec<Placed<'a>>, u64) {
    let mut end = 0;
    let place = |(weight, rows): (&'a Weight, Range<usize>)| {
        let part = Placed { weight, rows, address: end };
        end += part.matrix().room();
        part
    };
    (parts.map(place).collect(), end)
}

fn check(file: &Gguf, parts: &[Placed], end: u64, loader: Loader) {
    let mut staging = vec![0x5a; loader.staging_bytes()];
    let mut sink = Recorder::new(end, &staging);
    let mut seen = vec![0];
    loader.load(file, parts, &mut staging, &mut sink, &mut |done| seen.push(done)).expect("a good file");
    assert!(seen.is_sorted_by(|a, b| a < b), "progress grows");
    assert_eq!(
        seen.pop(),
        Some(parts.iter().map(|part| part.matrix().bytes).sum()),
        "and ends with all bytes"
    );
    let mut untouched = vec![true; end as usize];
    for part in parts {
        let (matrix, bytes) = (part.matrix(), expected(file, part.weight, part.rows.clone()));
        assert_eq!(matrix.bytes, bytes.len() as u64);
        let at = matrix.address as usize..matrix.address as usize + bytes.len();
        assert!(sink.memory[at.clone()] == bytes, "{part:?} of {loader:?}");
        assert!(sink.writes[at.clone()].iter().all(|&count| count == 1), "{part:?}: each byte once");
        untouched[at].fill(false);
    }
    assert!(sink.writes.iter().zip(untouched).all(|(&count, untouched)| !untouched || count == 0));
}

fn loaders() -> impl Iterator<Item = Loader> {
    [(1, Loader::LEAST_STRIP), (3, Loader::LEAST_STRIP), (2, 50_000), (2, 2 << 20)]
        .into_iter()
        .map(|(threads, strip)| Loader { threads, strip, drop_cache: threads == 2 })
}

#[test]
fn every_family_and_format_arrives_once() {
    for family in FAMILIES {
        for &format in Format::ALL {
            let file = Tiny::new(family, 3).with_format(format).parts().gguf();
            let (_, plan) = Plan::read(&file, None).expect("a tiny model is a model");
            let (parts, end) = arrange(plan.weights.iter().map(|weight| (weight, 0..weight.rows)));
            assert_eq!(end, plan.weights.iter().map(device_bytes).sum::<u64>());
            check(&file, &parts, end, Loader { threads: 2, strip: 50_000, drop_cache: true });
        }
    }
}

/// A file of one matrix `w`, its bytes random as far as the format has finite weights.
fn file_of(format: Format, rows: usize, cols: usize) -> Gguf {
    let weights: Vec<f32> = (0..rows * cols).map(|i| ((i * 7919 % 10007) as f32 - 5000.0) * 1e-3).collect();
    let mut data = vec![0; rows * format.row_bytes(cols).expect("whole blocks")];
    format.encode(&weights, &mut data).expect("a format with an encoder");
    let mut writer = Writer::new();
    writer.tensor("w", format, &[cols as u64, rows as u64]).expect("a small matrix");
    let mut body = writer.start(Vec::new()).expect("memory takes everything");
    body.write(&data).expect("as many bytes as the matrix has");
    Gguf::from_bytes("matrix.gguf", body.finish().expect("all is written")).expect("what was just written")
}

fn weight_of(file: &Gguf, order: RowOrder) -> Weight {
    let tensor = file.tensor("w").expect("the only tensor");
    Weight { tensor: "w".into(), rows: tensor.rows(), cols: tensor.cols(), format: tensor.format, order }
}

#[test]
fn strips_of_any_size_orders_and_row_ranges() {
    let shapes = [
        (Format::F32, 192, 1100),
        (Format::F16, 96, 255),
        (Format::Q4_K, 240, 2304),
        (Format::Q8_0, 720, 32),
    ];
    for (format, rows, cols) in shapes {
        let file = file_of(format, rows, cols);
        for order in [
            RowOrder::Stored,
            RowOrder::Halves { head_dim: 48, dims: 40 },
            RowOrder::Halves { head_dim: 24, dims: 24 },
        ] {
            let weight = weight_of(&file, order);
            let ranges = [0..rows, 0..1, 17..rows, 48..96, rows..rows];
            let (parts, end) = arrange(ranges.iter().map(|range| (&weight, range.clone())));
            for loader in loaders() {
                check(&file, &parts, end, loader);
            }
        }
    }
}

#[test]
fn strips_are_as_long_as_they_may_be_and_no_longer() {
    for (format, rows, cols) in
        [(Format::F32, 128, 1100), (Format::Q4_K, 512, 1024), (Format::Q5_1, 512, 512)]
    {
        let file = file_of(format, rows, cols);
        for order in [RowOrder::Stored, RowOrder::Halves { head_dim: 64, dims: 64 }] {
            let weight = weight_of(&file, order);
            for loader in loaders() {
                let part = Placed { weight: &weight, rows: 0..rows, address: 0 };
                let source = super::Source::new(&file, &part, &loader);
                let jobs: Vec<_> = source.jobs(0).collect();
                let Matrix { row_tiles, col_tiles, format: tile, .. } = source.matrix;
                let tiles = |job: &super::Job| job.row_tiles.len() * job.col_tiles.len();
                assert_eq!(jobs.iter().map(tiles).sum::<usize>(), row_tiles * col_tiles);
                for job in &jobs {
                    let (rows, width) = (source.rows(job).len(), source.bytes(job).len());
                    assert!(rows * width <= loader.strip, "{format}: read by {loader:?}");
                    assert!(tiles(job) * tile.bytes() <= loader.strip, "{format}: packed by {loader:?}");
                    // Only jobs smaller than a head leave holes in what they take of the file.
                    assert!(source.span(job).len() == rows || rows < 64, "{format}: {loader:?}");
                }
                // The first takes all there is, or could not take one more tile of a row, or, of whole rows,
                // four more row tiles, which here are a head.
                let first = &jobs[0];
                let more = if first.col_tiles.len() < col_tiles { 1 } else { 4 * col_tiles };
                let full = (tiles(first) + more) * tile.bytes().max(ROWS * source.stretch) > loader.strip;
                assert!(full || jobs.len() == 1, "{format}: {loader:?}");
            }
        }
    }
}

/// A file on disk that is removed when dropped.
struct Temporary(PathBuf);

impl Temporary {
    fn new(bytes: &[u8]) -> Temporary {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("cuda-weights-{}-{number}.gguf", std::process::id()));
        std::fs::write(&path, bytes).expect("the temporary folder can be written");
        Temporary(path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_file_that_became_shorter_is_an_error_that_names_it() {
    let bytes = Tiny::new("llama", 5).with_format(Format::Q4_K).parts().bytes();
    let temporary = Temporary::new(&bytes);
    let file = Gguf::open(&temporary.0).expect("a good file");
    let (_, plan) = Plan::read(&file, None).expect("a tiny model is a model");
    let (parts, end) = arrange(plan.weights.iter().map(|weight| (weight, 0..weight.rows)));
    std::fs::File::options()
        .write(true)
        .open(&temporary.0)
        .and_then(|file| file.set_len(bytes.len() as u64 / 2))
        .expect("our own file");
    for loader in loaders() {
        let mut staging = vec![0; loader.staging_bytes()];
        let mut sink = Recorder::new(end, &staging);
        let error = loader
            .load(&file, &parts, &mut staging, &mut sink, &mut |_| {})
            .expect_err("half of the file is missing");
        let text = error.to_string();
        assert!(matches!(error, Error::File { .. }), "{text}");
        assert!(text.starts_with("tensor ") && text.contains("cuda-weights-"), "{text}");
        assert!(text.contains("became shorter"), "{text}");
    }
}

#[test]
fn a_device_that_fails_ends_loading_at_once() {
    let file = file_of(Format::F16, 640, 512);
    let weight = weight_of(&file, RowOrder::Stored);
    for loader in loaders() {
        let (parts, end) = arrange([(&weight, 0..640)].into_iter());
        let mut staging = vec![0; loader.staging_bytes()];
        let mut sink = Recorder::new(end, &staging);
        sink.left = 1;
        let error = loader.load(&file, &parts, &mut staging, &mut sink, &mut |_| {}).expect_err("it failed");
        assert!(matches!(error, Error::Device { source: driver::Error::NoKernels, .. }));
        assert!(error.to_string().starts_with("matrix.gguf: tensor w cannot be copied to the GPU: "));
        assert_eq!(sink.left, 0);
    }
}

#[test]
fn a_weight_that_does_not_fit_is_named_by_its_place_in_the_file() {
    let mut parts = Tiny::new("llama", 1).parts();
    let (rows, cols) = (600, 300);
    let tensor = parts.tensor("token_embd.weight");
    tensor.reshape(&[cols, rows]);
    tensor.data[4 * (451 * 300 + 270)..][..4].copy_from_slice(&70_000f32.to_le_bytes());
    let file = parts.gguf();
    // Rows change places when they are loaded; the message has the file's number.
    let order = RowOrder::Halves { head_dim: 60, dims: 60 };
    let weight =
        Weight { tensor: "token_embd.weight".into(), rows: 600, cols: 300, format: Format::F32, order };
    for loader in loaders() {
        let (parts, end) = arrange([(&weight, 0..600)].into_iter());
        let mut staging = vec![0; loader.staging_bytes()];
        let mut sink = Recorder::new(end, &staging);
        let error =
            loader.load(&file, &parts, &mut staging, &mut sink, &mut |_| {}).expect_err("70000 > 65504");
        assert_eq!(
            error.to_string(),
            "tiny.gguf: tensor token_embd.weight holds 70000 in row 451, column 270, which is too large for F16, \
             the GPU's format for F32; use --device cpu, or quantize the model"
        );
    }
}

#[test]
fn vectors_are_floats_in_loaded_order() {
    let mut parts = Tiny::new("llama", 1).parts();
    let mut values = (0..48).map(|i| i as f32);
    parts.vector("bias", 48, &mut || values.next().expect("48 values"));
    let file = parts.gguf();
    let vector = |order| Vector { tensor: "bias".into(), len: 48, order };
    let plain = read_vector(&file, &vector(RowOrder::Stored)).expect("a good file");
    assert_eq!(plain, (0..48).map(|i| i as f32).collect::<Vec<_>>());
    let halves = RowOrder::Halves { head_dim: 12, dims: 8 };
    let halved = read_vector(&file, &vector(halves)).expect("a good file");
    assert_eq!(halved[..14], [0., 2., 4., 6., 1., 3., 5., 7., 8., 9., 10., 11., 12., 14.]);
    assert_eq!(halved.len(), 48);
}

#[test]
fn sizes_and_conversions_are_told_before_loading() {
    let matrix = Matrix::new(512, 17, 257, Format::Q6_K);
    assert_eq!((matrix.row_tiles, matrix.col_tiles, matrix.bytes), (2, 2, 4 * 3360));
    assert_eq!((matrix.address, matrix.room()), (512, 13_568));
    let file = Tiny::new("llama", 1).with_format(Format::Q2_K).parts().gguf();
    let (_, plan) = Plan::read(&file, None).expect("a tiny model is a model");
    // 8.5 bits for 2.625.
    assert_eq!(conversions(&plan), ["16 matrices in Q2_K become Q8_0 on the GPU, 3.24 times as many bytes"]);
    let file = Tiny::new("llama", 1).with_format(Format::Q4_K).parts().gguf();
    let (_, plan) = Plan::read(&file, None).expect("a tiny model is a model");
    assert!(conversions(&plan).is_empty());
}

#[test]
fn host_memory_is_bounded() {
    for drop_cache in [false, true] {
        let loader = Loader::new(drop_cache);
        assert!((2..=4).contains(&loader.threads));
        assert!(loader.host_bytes() <= 64 << 20);
        assert!(loader.staging_bytes() < loader.host_bytes());
    }
}
