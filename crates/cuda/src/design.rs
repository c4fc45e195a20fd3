//! A plan on a GPU before anything is allocated: what is loaded, what runs, how many bytes that takes.

use crate::arena::Arena;
use crate::buffers::Layout;
use crate::check;
use crate::choose::Room;
use crate::device::CudaOptions;
use crate::driver::Device;
use crate::kv;
use crate::lower::{FEW, Parts, Program, Regime, lower};
use crate::rows::{Splits, State};
use crate::tile::ALIGN;
use crate::weights::Matrix;
use model::runner::{LoadOptions, Memory};
use model::{Error, Plan};

/// Offsets of small float vectors in one allocation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Floats {
    /// Of the plan's vectors.
    pub(crate) vectors: Vec<usize>,
    /// Of the rotations' frequencies.
    pub(crate) frequencies: Vec<usize>,
    pub(crate) bytes: usize,
}

impl Floats {
    fn new(plan: &Plan) -> Floats {
        let mut floats = Floats::default();
        let mut place = |len: usize| {
            let at = floats.bytes;
            floats.bytes += (len * 4).next_multiple_of(ALIGN as usize);
            at
        };
        let vectors = plan.vectors.iter().map(|vector| place(vector.len)).collect();
        let frequencies = plan.ropes.iter().map(|rope| place(rope.frequency.len())).collect();
        Floats { vectors, frequencies, ..floats }
    }
}

/// Everything that is settled before loading.
pub(crate) struct Design {
    /// Padded width of a head.
    pub(crate) head: usize,
    pub(crate) parts: Parts,
    /// By regime, as far as steps have that many rows.
    pub(crate) programs: Vec<(Regime, Program)>,
    pub(crate) layout: Layout,
    pub(crate) cache: kv::Shape,
    pub(crate) splits: Splits,
    pub(crate) floats: Floats,
    /// Bytes of each part.
    pub(crate) part_bytes: Vec<u64>,
    logits: usize,
}

impl Design {
    /// Of `plan` on `device`.
    ///
    /// # Errors
    /// What the device cannot run, by name.
    pub(crate) fn new(
        plan: &Plan,
        options: &LoadOptions,
        device: &Device,
        how: &CudaOptions,
    ) -> Result<Design, Error> {
        let head = check::runnable(plan, options, device)?;
        let parts = Parts::of(plan);
        let programs: Vec<(Regime, Program)> = Regime::ALL
            .into_iter()
            .filter(|regime| *regime <= Regime::of(options.rows))
            .map(|regime| (regime, lower(plan, &parts, regime, how.fuse)))
            .collect();
        let cache = kv::Shape::new(plan, options, head);
        let splits = Splits::new(plan, options, device.sms);
        let layout = Layout::new(plan, options, &cache, &splits, &programs);
        let bytes = |part: &crate::lower::Part| {
            let weight = plan.weight(part.weight);
            Matrix::new(0, part.rows.len(), weight.cols, weight.format).bytes
        };
        Ok(Design {
            head,
            part_bytes: parts.0.iter().map(bytes).collect(),
            floats: Floats::new(plan),
            logits: layout.logit_rows * plan.shape.vocab,
            parts,
            programs,
            layout,
            cache,
            splits,
        })
    }

    /// Bytes of device memory, exactly.
    pub(crate) fn memory(&self) -> Memory {
        Memory {
            weights: Arena::bytes_of(&self.part_bytes) + self.floats.bytes as u64,
            kv: self.cache.bytes(),
            buffers: self.layout.bytes as u64,
        }
    }

    /// Floats of logits that the host keeps.
    pub(crate) fn logits(&self) -> usize {
        self.logits
    }

    /// Bytes of pinned memory of the host, while running.
    pub(crate) fn pinned_bytes(&self) -> u64 {
        let rows = self.layout.rows;
        let states = State { rows }.entries() + State { rows: rows.min(FEW) }.entries();
        let choosing = self.layout.room.as_ref().map_or(0, Room::pinned_bytes);
        (4 * (self.logits + self.cache.entries() + states) + choosing) as u64
    }
}
