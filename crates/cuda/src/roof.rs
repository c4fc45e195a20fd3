//! What profiles are held against: how fast memory can be read, how many launches a step is,
//! how the weights lie.

use crate::args::roof::RoofArgs;
use crate::design::Design;
use crate::device::Cuda;
use crate::driver::{Block, Error, Event, Stream};
use crate::lower::{Regime, Step, Timed};
use crate::products::groups;
use crate::runner::CudaRunner;
use crate::tile::TileFormat;
use gguf::Gguf;
use model::{LoadOptions, Plan, Runner};

/// Passes over the memory; the first warms up and is not counted.
const PASSES: usize = 12;
/// Most bytes read a pass: a quarter of a millisecond on the fastest device there is.
const MOST: usize = 1 << 30;
/// The emulator reads slowly, and what it measures is the host.
const MOST_EMULATED: usize = 4 << 20;

/// What reading gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Roof {
    /// Bytes a second of the fastest pass.
    pub bytes_per_second: f64,
    /// Bytes a second of the median pass.
    pub median: f64,
    /// Bytes read a pass.
    pub bytes: usize,
}

impl Cuda {
    /// Reads 1 GiB, or half of what is free, again and again and takes the time: much more than a
    /// second-level cache holds, unless the device is nearly full. The memory is given back.
    ///
    /// # Errors
    /// The driver's; [`Error::OutOfMemory`] when not even 1 MiB is free.
    pub fn read_roof(&self) -> Result<Roof, Error> {
        let device = self.device();
        let stream = Stream::new(self.context())?;
        let roof = self.kernels().function(RoofArgs::KERNEL)?;
        let most = if device.emulated() { MOST_EMULATED } else { MOST };
        // Half of what is free at most, so that nothing else on the device is pushed out.
        let free = self.free()? as usize / 2;
        let mut bytes = most.min(free).next_multiple_of(1 << 20);
        let block = loop {
            match Block::new(self.context(), bytes) {
                // Boards refuse large pieces although they are free.
                Err(error) if error.is_out_of_memory() && bytes > 1 << 20 => bytes /= 2,
                other => break other?,
            }
        };
        let bytes = block.bytes() / 16 * 16;
        block.fill_later(&stream, 0, block.bytes(), 1)?;
        let launch = RoofArgs::launch(device.sms);
        let sums = Block::new(self.context(), 4 * (launch.grid[0] * RoofArgs::WARPS) as usize)?;
        let args = RoofArgs { from: block.address(), sums: sums.address(), count: bytes as u64 / 16 };
        let events: Vec<Event> =
            (0..=PASSES).map(|_| Event::new(self.context())).collect::<Result<_, _>>()?;
        events[0].record(&stream)?;
        for event in &events[1..] {
            stream.launch(&roof, launch, &args)?;
            event.record(&stream)?;
        }
        stream.synchronize()?;
        let mut times: Vec<f32> =
            events.windows(2).skip(1).map(|pair| pair[1].since(&pair[0])).collect::<Result<_, _>>()?;
        times.sort_by(f32::total_cmp);
        let rate = |milliseconds: f32| bytes as f64 / (f64::from(milliseconds).max(1e-6) / 1e3);
        Ok(Roof { bytes_per_second: rate(times[0]), median: rate(times[times.len() / 2]), bytes })
    }
    /// Loads a plan, as [`model::Device::load`] does, and says in how many allocations its weights lie.
    ///
    /// # Errors
    /// The same.
    pub fn load_in_pieces(
        &self,
        file: &Gguf,
        plan: &Plan,
        options: &LoadOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(Box<dyn Runner>, usize), model::Error> {
        let runner = CudaRunner::load(self, file, plan, options, progress)?;
        let pieces = runner.pieces();
        Ok((Box::new(runner), pieces))
    }

    /// Launches of each of the plan's ops in a step of `rows` rows, `wanted` of whose logits are wanted, when
    /// it is loaded with `options`. Ops that are part of another's launch have none of their own; the choice
    /// of rows counts as the first op's, as in traces.
    ///
    /// # Errors
    /// What the device cannot run, by name.
    pub fn launches(
        &self,
        plan: &Plan,
        options: &LoadOptions,
        rows: usize,
        wanted: usize,
    ) -> Result<Vec<u32>, model::Error> {
        let design = Design::new(plan, options, self.device(), self.options())?;
        let program = |rows: usize| {
            let regime = Regime::of(rows);
            let found = design.programs.iter().find(|(of, _)| *of == regime);
            (regime, &found.expect("a program for every number of rows").1)
        };
        let mut launches = vec![0; plan.ops.len()];
        let mut count = |regime: Regime, steps: &[Timed]| {
            for (step, op) in steps {
                launches[*op] += match step {
                    Step::Product { targets, .. } => {
                        let format = |part| design.parts.format(plan, part);
                        let formats: Vec<TileFormat> =
                            targets.iter().map(|target| format(target.part)).collect();
                        groups(regime, &formats).len() as u32
                    }
                    _ => 1,
                };
            }
        };
        let (regime, body) = program(rows);
        // Without logits nothing reads the last attention.
        let unread = wanted == 0 && matches!(body.body.last(), Some((Step::Attend { store: None, .. }, _)));
        count(regime, &body.body[..body.body.len() - usize::from(unread)]);
        if wanted > 0 {
            let (regime, tail) = program(wanted);
            count(regime, &tail.tail);
        }
        launches[0] += u32::from(wanted > 0 && wanted != rows);
        Ok(launches)
    }
}
