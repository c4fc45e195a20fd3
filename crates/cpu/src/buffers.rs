//! Activations, allocated once for the largest step.

use crate::acts::{Act32, Act256};
use crate::kernels::Input;
use crate::memory::Region;
use model::plan::{Buf, Plan};
use model::{Error, LoadOptions};

/// Row-major activations of all buffers, as floats and rounded.
pub(crate) struct Buffers {
    floats: Vec<(Buf, Region)>,
    /// Whichever buffer was rounded last, `[rows, width / 256]`.
    pub(crate) q256: Region,
    /// The same, `[rows, width / 32]`.
    pub(crate) q32: Region,
    /// `[rope][rows][pairs]` of cosines, then sines.
    pub(crate) turns: Vec<Region>,
}

impl Buffers {
    pub(crate) fn new(plan: &Plan, options: &LoadOptions) -> Result<Buffers, Error> {
        let shape = &plan.shape;
        let mut floats = vec![];
        for buf in [Buf::X, Buf::H, Buf::Q, Buf::K, Buf::V, Buf::A, Buf::G, Buf::O] {
            let len = options.rows * shape.width(buf);
            floats.push((buf, Region::new("activations", len * 4)?));
        }
        let widest = widest(plan);
        let q256 = Region::new("activations", options.rows * (widest / 256) * size_of::<Act256>())?;
        let q32 = Region::new("activations", options.rows * (widest / 32) * size_of::<Act32>())?;
        let turn = |rope: &model::rope::RopeTable| {
            Region::new("rotations", options.rows * rope.frequency.len() * 2 * 4)
        };
        let turns = plan.ropes.iter().map(turn).collect::<Result<_, _>>()?;
        Ok(Buffers { floats, q256, q32, turns })
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
