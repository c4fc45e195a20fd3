//! Products by regime: which kernels take which formats together, and how they are launched.

use crate::args::matmul::{MatmulArgs, Size};
use crate::args::matvec::MatvecArgs;
use crate::args::skinny::{self, Precision, SkinnyArgs};
use crate::args::stage_f16::StageF16Args;
use crate::args::stage8::{self, Stage8Args};
use crate::args::{Epilogue, Output, Source};
use crate::driver::{Error, Function, Launch, Stream};
use crate::lower::Regime;
use crate::tile::{ALIGN, TileFormat};

/// The forms of staged activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Two planes of bytes, for up to eight rows.
    Bytes,
    /// Two planes of halves, for up to eight rows and weights in F16.
    Pairs,
    /// Halves, for many rows.
    Halves,
}

impl Form {
    fn of(regime: Regime, format: TileFormat) -> Form {
        match (regime, format) {
            (Regime::Many, _) => Form::Halves,
            (_, TileFormat::F16) => Form::Pairs,
            _ => Form::Bytes,
        }
    }

    /// Bytes from the start of a stage to this form: few rows may be staged in two.
    fn offset(self, width: usize) -> usize {
        if self == Form::Pairs { stage8::bytes(width).next_multiple_of(ALIGN as usize) } else { 0 }
    }
}

/// Bytes of a stage of `rows` rows.
pub(crate) fn stage_bytes(regime: Regime, width: usize, rows: usize) -> usize {
    match regime {
        Regime::One => 0,
        Regime::Few => Form::Pairs.offset(width) + stage8::halves(width),
        Regime::Many => 2 * rows * StageF16Args::stride(width),
    }
}

/// A product, or the staging of its input.
pub(crate) enum Product {
    Matvec(MatvecArgs, Launch, &'static str),
    Stage8(Stage8Args),
    StageF16(StageF16Args),
    Skinny(SkinnyArgs, Launch, TileFormat),
    /// With the number of multiprocessors, for the size of its blocks.
    Matmul(MatmulArgs, u32),
}

/// What happens to products of a launch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct After {
    pub(crate) epilogue: Epilogue,
    pub(crate) cap: f32,
    /// Where gated products are staged, if they are.
    pub(crate) gated: Option<u64>,
}

impl Product {
    /// Stages `source` at `to`, in the forms that these formats read.
    pub(crate) fn stage(regime: Regime, source: Source, to: u64, formats: &[TileFormat]) -> Product {
        let cols = source.cols as usize;
        if regime == Regime::Many {
            let to_stride = StageF16Args::stride(cols) as u32;
            return Product::StageF16(StageF16Args { source, to, to_stride, ..StageF16Args::default() });
        }
        let place = |form: Form| {
            let read = formats.iter().any(|&format| Form::of(regime, format) == form);
            if read { to + form.offset(cols) as u64 } else { 0 }
        };
        let (bytes, halves) = (place(Form::Bytes), place(Form::Pairs));
        Product::Stage8(Stage8Args { bytes, halves, ..Stage8Args::new(source, 0) })
    }

    /// Products of one row, which stage their input themselves.
    pub(crate) fn of_source(outputs: &[Output], source: Source, after: After, sms: u32) -> Product {
        let mut args = MatvecArgs::new(outputs, source, after.epilogue, after.cap);
        let (kernel, launch) = args.spread(sms);
        Product::Matvec(args, launch, kernel)
    }

    /// Products of what is staged at `from`, times `scale`.
    pub(crate) fn of_staged(
        regime: Regime,
        outputs: &[Output],
        from: u64,
        scale: f32,
        after: After,
        sms: u32,
    ) -> Product {
        let matrix = &outputs[0].matrix;
        let (cols, format) = (matrix.cols as usize, TileFormat::ALL[matrix.format as usize]);
        if regime == Regime::Many {
            let stride = StageF16Args::stride(cols);
            let mut args = MatmulArgs::new(outputs, from, stride, 0, after.epilogue);
            if let Some(to) = after.gated {
                args = args.gated_to(to, StageF16Args::stride(matrix.rows as usize));
            }
            return Product::Matmul(MatmulArgs { scale, cap: after.cap, ..args }, sms);
        }
        let staged = from + Form::of(regime, format).offset(cols) as u64;
        let args = SkinnyArgs::new(outputs, staged, 0, after.epilogue, after.cap);
        let launch = args.spread(sms);
        Product::Skinny(args, launch, format)
    }

    /// The kernels it chooses from.
    pub(crate) fn kernels(&self) -> Vec<&'static str> {
        match self {
            Product::Matvec(_, _, kernel) => vec![kernel],
            Product::Stage8(_) => vec!["stage8"],
            Product::StageF16(_) => vec![StageF16Args::KERNEL],
            Product::Skinny(_, _, format) => {
                vec![skinny::kernel(*format, Precision::Packed), skinny::kernel(*format, Precision::Exact)]
            }
            Product::Matmul(args, _) => Size::ALL.map(|size| args.launch(size).0).to_vec(),
        }
    }

    /// Launches it over `rows` rows; `functions` are its kernels.
    pub(crate) fn run(&self, stream: &Stream, functions: &[Function], rows: usize) -> Result<(), Error> {
        match self {
            Product::Matvec(args, launch, _) => {
                debug_assert_eq!(rows, 1, "matvec has one row");
                stream.launch(&functions[0], *launch, args)
            }
            Product::Stage8(args) => {
                let args = Stage8Args { rows: rows as u32, ..*args };
                stream.launch(&functions[0], args.launch(), &args)
            }
            Product::StageF16(args) => stream.launch(&functions[0], StageF16Args::launch(rows), args),
            Product::Skinny(args, launch, _) => {
                let exact = usize::from(Precision::exact(rows) == Precision::Exact);
                let args = SkinnyArgs { rows: rows as u32, ..*args };
                stream.launch(&functions[exact], *launch, &args)
            }
            Product::Matmul(args, sms) => {
                let args = MatmulArgs { tokens: rows as u32, ..*args };
                let size = args.choose(*sms);
                stream.launch(&functions[size as usize], args.launch(size).1, &args)
            }
        }
    }
}

/// Which outputs share a launch: all of them if a kernel takes their formats together, else each with the
/// first that it can be taken with.
pub(crate) fn groups(regime: Regime, formats: &[TileFormat]) -> Vec<Vec<usize>> {
    let together = |group: &[usize], more: usize| {
        let all: Vec<TileFormat> = group.iter().chain([&more]).map(|&i| formats[i]).collect();
        match regime {
            Regime::One => MatvecArgs::together(&all),
            _ => all.iter().all(|format| *format == all[0]),
        }
    };
    let mut groups: Vec<Vec<usize>> = vec![];
    for i in 0..formats.len() {
        match groups.iter_mut().find(|group| group.len() < 3 && together(group, i)) {
            Some(group) => group.push(i),
            None => groups.push(vec![i]),
        }
    }
    groups
}
