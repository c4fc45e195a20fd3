//! Products by regime: which kernels take which formats together, and how they are launched.

use crate::args::matvec::MatvecArgs;
use crate::args::{Epilogue, Output, Source};
use crate::driver::{Error, Function, Launch, Stream};
use crate::lower::Regime;
use crate::tile::{COLS, TileFormat};

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
    pub(crate) fn of(regime: Regime, format: TileFormat) -> Form {
        match (regime, format) {
            (Regime::Many, _) => Form::Halves,
            (_, TileFormat::F16) => Form::Pairs,
            _ => Form::Bytes,
        }
    }

    /// Bytes of `rows` rows of `width` columns.
    fn bytes(self, width: usize, rows: usize) -> usize {
        let tiles = width.div_ceil(COLS);
        match self {
            Form::Bytes => tiles * 4480,
            Form::Pairs => tiles * 2 * 4224,
            Form::Halves => 2 * rows * halves_stride(width),
        }
    }

    /// Bytes from the start of a stage to this form: few rows may be staged in two at a time.
    pub(crate) fn offset(self, width: usize) -> usize {
        if self == Form::Pairs { Form::Bytes.bytes(width, 0).next_multiple_of(256) } else { 0 }
    }

    /// Bytes of a stage of a regime.
    pub(crate) fn room(regime: Regime, width: usize, rows: usize) -> usize {
        match regime {
            Regime::One => 0,
            Regime::Few => Form::Pairs.offset(width) + Form::Pairs.bytes(width, rows),
            Regime::Many => Form::Halves.bytes(width, rows),
        }
    }
}

/// The forms that products of these formats read, each once.
pub(crate) fn forms(regime: Regime, formats: &[TileFormat]) -> Vec<Form> {
    let mut forms: Vec<Form> = vec![];
    for &format in formats {
        let form = Form::of(regime, format);
        if !forms.contains(&form) {
            forms.push(form);
        }
    }
    forms
}

/// Staged activations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Staged {
    pub(crate) address: u64,
    pub(crate) width: usize,
}

/// Halves from one row of staged activations to the next.
pub(crate) fn halves_stride(width: usize) -> usize {
    width.next_multiple_of(COLS)
}

/// A product, or the staging of its input.
pub(crate) enum Product {
    Matvec(MatvecArgs, &'static str, Launch),
    None,
}

impl Product {
    pub(crate) fn stage(form: Form, source: Source, to: Staged) -> Product {
        let _ = (form, source, to);
        Product::None
    }
    pub(crate) fn of_source(
        outputs: &[Output],
        source: Source,
        epilogue: Epilogue,
        cap: f32,
        sms: u32,
    ) -> Product {
        let mut args = MatvecArgs::new(outputs, source, epilogue, cap);
        let (name, launch) = args.spread(sms);
        Product::Matvec(args, name, launch)
    }

    #[allow(clippy::too_many_arguments)]
    pub(crate) fn of_staged(
        outputs: &[Output],
        staged: Staged,
        form: Form,
        scaled: bool,
        gated: Option<Staged>,
        epilogue: Epilogue,
        cap: f32,
        sms: u32,
    ) -> Product {
        let _ = (outputs, staged, form, scaled, gated, epilogue, cap, sms);
        Product::None
    }

    pub(crate) fn kernels(&self) -> Vec<&'static str> {
        match self {
            Product::Matvec(_, name, _) => vec![name],
            Product::None => vec![],
        }
    }

    pub(crate) fn run(&self, stream: &Stream, functions: &[Function], count: usize) -> Result<(), Error> {
        match self {
            Product::Matvec(args, _, launch) => {
                debug_assert_eq!(count, 1);
                stream.launch(&functions[0], *launch, args)
            }
            Product::None => unreachable!(),
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
