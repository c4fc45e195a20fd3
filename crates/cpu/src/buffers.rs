//! Activations, allocated once for the largest step.

use crate::acts::{Act32, Act256};
use crate::kernels::Input;
use crate::lower::Forms;
use crate::memory::{Pages, Region};
use model::plan::{Buf, Plan};
use model::{Error, LoadOptions};

/// Row-major activations of all buffers, as floats and rounded.
pub(crate) struct Buffers {
    floats: Vec<(Buf, Region)>,
    /// Whichever buffer was rounded last, `[rows, width / 256]`; empty if no weight asks for it.
    pub(crate) q256: Region,
    /// The same, `[rows, width / 32]`.
    pub(crate) q32: Region,
    /// `[rope][rows][pairs]` of cosines, then sines.
    pub(crate) turns: Vec<Region>,
}

/// Bytes of each region.
struct Sizes {
    floats: Vec<(Buf, usize)>,
    q256: usize,
    q32: usize,
    turns: Vec<usize>,
}

impl Sizes {
    fn of(plan: &Plan, options: &LoadOptions, forms: Forms) -> Sizes {
        let (rows, widest) = (options.rows, widest(plan));
        let float = |buf| (buf, rows * plan.shape.width(buf) * 4);
        Sizes {
            floats: [Buf::X, Buf::H, Buf::Q, Buf::K, Buf::V, Buf::A, Buf::G, Buf::O].map(float).to_vec(),
            q256: usize::from(forms.q256) * rows * (widest / 256) * size_of::<Act256>(),
            q32: usize::from(forms.q32) * rows * (widest / 32) * size_of::<Act32>(),
            turns: plan.ropes.iter().map(|rope| rows * rope.frequency.len() * 2 * 4).collect(),
        }
    }
}

impl Buffers {
    /// Takes all of its memory at once, though steps of few rows touch little of it: what a run holds is what
    /// was foretold, from its first token on.
    pub(crate) fn new(plan: &Plan, options: &LoadOptions, forms: Forms) -> Result<Buffers, Error> {
        let sizes = Sizes::of(plan, options, forms);
        let region = |bytes| -> Result<Region, Error> {
            let mut region = Region::new("activations", bytes, Pages::Huge)?;
            region.touch();
            Ok(region)
        };
        let floats = sizes.floats.into_iter().map(|(buf, bytes)| Ok((buf, region(bytes)?)));
        Ok(Buffers {
            floats: floats.collect::<Result<_, Error>>()?,
            q256: region(sizes.q256)?,
            q32: region(sizes.q32)?,
            turns: sizes.turns.into_iter().map(region).collect::<Result<_, _>>()?,
        })
    }

    /// Bytes that [`Buffers::new`] takes.
    pub(crate) fn cost(plan: &Plan, options: &LoadOptions, forms: Forms) -> u64 {
        let sizes = Sizes::of(plan, options, forms);
        let floats = sizes.floats.iter().map(|(_, bytes)| bytes);
        floats.chain([&sizes.q256, &sizes.q32]).chain(&sizes.turns).map(|&bytes| bytes.max(1) as u64).sum()
    }

    /// Start of a buffer, `[rows, width]`.
    pub(crate) fn floats(&self, buf: Buf) -> *mut f32 {
        let found = self.floats.iter().find(|(name, _)| *name == buf);
        found.expect("every buffer but the logits is here").1.as_ptr().cast()
    }

    /// The rows of a buffer in every form.
    pub(crate) fn input(&self, buf: Buf, cols: usize) -> Input {
        Input { x: self.floats(buf), cols, q256: self.q256.as_ptr().cast(), q32: self.q32.as_ptr().cast() }
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        let all =
            self.floats.iter().map(|(_, region)| region).chain([&self.q256, &self.q32]).chain(&self.turns);
        all.map(|region| region.len() as u64).sum()
    }
}

/// The widest input of any product.
pub(crate) fn widest(plan: &Plan) -> usize {
    plan.weights.iter().map(|weight| weight.cols).max().unwrap_or(0)
}
