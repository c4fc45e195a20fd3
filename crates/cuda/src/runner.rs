//! The runner: what is loaded, and a step as launches in one stream.
//!
//! A step copies its rows to the device, launches (or replays) the programs of its regime, and copies the
//! logits back; the host waits once, at the end. Nothing is allocated but a graph the first time a number
//! of rows is met. Steps that choose their own tokens are in `choose`: nobody waits for those.

mod choose;

use crate::arena::Arena;
use crate::args::attend::{Attention, Kind};
use crate::args::roof::HoldArgs;
use crate::buffers::{Buffers, Name};
use crate::check;
use crate::choose::Choice;
use crate::design::{Design, Floats};
use crate::device::Cuda;
use crate::driver::{self, Block, Context, Event, Function, Graph, Pinned, Stream};
use crate::kv::Kv;
use crate::launch::{Binder, Bound, Launched};
use crate::lower::{Place, Regime};
use crate::rows::Rows;
use crate::weights::{self, Loader, Placed, Sink, read_vector};
use gguf::Gguf;
use model::plan::Plan;
use model::runner::{Batch, LoadOptions, Lost, Memory, OpTime, PAGE, Row, Runner};
use model::{Chooser, Device, Error};
use std::cell::{Cell, RefCell};
use std::time::Instant;

/// What a host is taken to need for the launches of a step, until one was traced; nanoseconds.
const FIRST_ISSUE: u64 = 1_000_000;

/// A plan loaded on a GPU.
pub(crate) struct CudaRunner {
    // Before the memory they use.
    graphs: Vec<Option<Graph>>,
    /// Choosing tokens, where that can be.
    choice: Option<Choice>,
    programs: Vec<(Regime, Bound)>,
    select: Launched,
    events: Vec<Event>,
    stream: Stream,
    kv: Kv,
    buffers: Buffers,
    weights: Arena,
    _floats: Block,
    /// What the next step is told: [`crate::rows::State`] of each regime.
    few: Pinned<u32>,
    many: Pinned<u32>,
    logits: Pinned<f32>,
    context: Context,
    plan: Plan,
    options: LoadOptions,
    name: String,
    memory: Memory,
    replay: bool,
    wanted: usize,
    tracing: bool,
    times: Vec<OpTime>,
    /// Keeps the device busy while the host launches a traced step, and for how long, in nanoseconds.
    hold: Function,
    issuing: Cell<u64>,
    /// Whether something was enqueued that nobody waited for.
    busy: bool,
    /// What the driver said when the device was lost.
    lost: Option<String>,
}

/// Turns the driver's error into the words of loading.
fn failed(what: &str, device: &str, error: driver::Error) -> Error {
    match error {
        driver::Error::OutOfMemory { bytes, free, .. } => Error::Memory {
            what: format!("{what} on the GPU"),
            needed: bytes as u64,
            free: free as u64,
            remedy: "the GPU has no such piece; close other programs, lower --ctx-size or use --device cpu"
                .to_owned(),
        },
        error => Error::Device { device: device.to_owned(), cause: error.to_string() },
    }
}

/// The same for what reads and packs weights.
fn unread(error: weights::Error, device: &str) -> Error {
    match error {
        weights::Error::File { source, .. } => Error::File(source),
        error => Error::Device { device: device.to_owned(), cause: error.to_string() },
    }
}

/// Copies packed tiles to their place in an arena.
struct Copy<'a> {
    arena: &'a Arena,
    stream: &'a Stream,
}

impl Sink for Copy<'_> {
    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), driver::Error> {
        let (block, offset) = self.arena.find(address).expect("parts were given addresses of this arena");
        block.write(self.stream, offset, bytes)
    }
}

/// Norm weights, biases and frequencies, in one allocation.
fn load_floats(
    file: &Gguf,
    plan: &Plan,
    floats: &Floats,
    block: &Block,
    stream: &Stream,
    device: &str,
) -> Result<(), Error> {
    let write = |offset: usize, values: &[f32]| {
        block.write(stream, offset, values).map_err(|error| failed(file.name(), device, error))
    };
    for (vector, &offset) in plan.vectors.iter().zip(&floats.vectors) {
        write(offset, &read_vector(file, vector).map_err(|error| unread(error, device))?)?;
    }
    for (rope, &offset) in plan.ropes.iter().zip(&floats.frequencies) {
        write(offset, &rope.frequency)?;
    }
    Ok(())
}

impl CudaRunner {
    pub(crate) fn load(
        cuda: &Cuda,
        file: &Gguf,
        plan: &Plan,
        options: &LoadOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<CudaRunner, Error> {
        let name = cuda.name();
        let failed = |error| failed(file.name(), &name, error);
        let context = cuda.context();
        let design = Design::new(plan, options, cuda.device(), cuda.options())?;
        let memory = design.memory();
        let loader = Loader::new(cuda.device().integrated);
        let free = cuda.free().map_err(failed)?;
        check::fits(file.name(), plan, options, free, |options| {
            let design = Design::new(plan, options, cuda.device(), cuda.options())?;
            let beside = design.pinned_bytes() + loader.host_bytes() as u64;
            // Where it is the same memory.
            let beside = if cuda.device().integrated { beside } else { 0 };
            Ok(design.memory().total() + beside)
        })?;

        let stream = Stream::new(context).map_err(failed)?;
        // The largest first: what comes later fits where this left room.
        let arena = Arena::new(context, &design.part_bytes).map_err(failed)?;
        let floats = Block::new(context, design.floats.bytes).map_err(failed)?;
        let buffers = Buffers::new(context, design.layout.clone()).map_err(failed)?;
        // Counters start at zero, and so does what pads staged activations.
        buffers.block.fill_later(&stream, 0, buffers.block.bytes(), 0).map_err(failed)?;
        let kv = Kv::new(context, &stream, design.cache.clone()).map_err(failed)?;
        let pinned = |len: usize| Pinned::<u32>::new(context, len).map_err(failed);
        let few = pinned(buffers.state(Regime::Few).1.entries())?;
        let many = pinned(buffers.state(Regime::Many).1.entries())?;
        let logits = Pinned::new(context, design.logits()).map_err(failed)?;

        let parts: Vec<Placed> = (design.parts.0.iter().zip(arena.spots()))
            .map(|(part, &spot)| Placed {
                weight: plan.weight(part.weight),
                rows: part.rows.clone(),
                address: arena.address(spot),
            })
            .collect();
        let total: u64 = design.part_bytes.iter().sum();
        progress(0, total);
        let mut staging = Pinned::<u8>::new(context, loader.staging_bytes()).map_err(failed)?;
        let mut sink = Copy { arena: &arena, stream: &stream };
        let loaded =
            loader.load(file, &parts, staging.as_mut_slice(), &mut sink, &mut |done| progress(done, total));
        loaded.map_err(|error| unread(error, &name))?;
        drop(staging);
        load_floats(file, plan, &design.floats, &floats, &stream, &name)?;

        let binder = Binder {
            plan,
            matrices: parts.iter().map(Placed::matrix).collect(),
            design: &design,
            floats: floats.address(),
            buffers: &buffers,
            kv: &kv,
            kernels: cuda.kernels(),
            sms: cuda.device().sms,
            most_shared: cuda.device().shared_per_block,
            functions: RefCell::default(),
        };
        let programs: Vec<(Regime, Bound)> = (design.programs.iter())
            .map(|(regime, program)| Ok((*regime, binder.program(*regime, program)?)))
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        let middle = design.programs.iter().find_map(|(_, program)| program.x).unwrap_or(Place::X0);
        let select = binder.select(middle).map_err(failed)?;
        let hold = cuda.kernels().function(HoldArgs::KERNEL).map_err(failed)?;
        let room = design.layout.room;
        let choice = room.map(|room| Choice::new(context, cuda.kernels(), &buffers, room));
        let choice = choice.transpose().map_err(failed)?;
        stream.synchronize().map_err(failed)?;
        Ok(CudaRunner {
            choice,
            busy: false,
            graphs: (0..Rows::GRAPHS).map(|_| None).collect(),
            programs,
            select,
            events: vec![],
            stream,
            kv,
            buffers,
            weights: arena,
            _floats: floats,
            few,
            many,
            logits,
            context: context.clone(),
            plan: plan.clone(),
            options: *options,
            name,
            memory,
            replay: cuda.options().graph,
            wanted: 0,
            tracing: false,
            times: vec![OpTime::default(); plan.ops.len()],
            hold,
            issuing: Cell::new(FIRST_ISSUE),
            lost: None,
        })
    }

    /// Allocations that hold the weights.
    pub(crate) fn pieces(&self) -> usize {
        self.weights.pieces()
    }

    /// What the runner relies on, checked once a step.
    fn check(&self, rows: &[Row]) {
        let options = &self.options;
        assert!(rows.len() <= options.rows, "at most as many rows as the runner was loaded for");
        let most = self.buffers.layout.logit_rows;
        assert!(self.wanted <= most, "at most as many logits as the runner was loaded for");
        for row in rows {
            assert!((row.token as usize) < self.plan.shape.vocab, "a token of the vocabulary");
            assert!((row.slot as usize) < options.slots, "a slot of this runner");
            assert!((row.position as usize) < options.pages * PAGE, "a mapped position");
        }
    }

    /// Launches everything a step is, in order.
    fn issue(&self, rows: &Rows) -> Result<(), driver::Error> {
        let regime = Regime::of(rows.count);
        let (name, state) = self.buffers.state(regime);
        let host = if regime == Regime::Many { &self.many } else { &self.few };
        let offset = self.buffers.layout.offset(name);
        self.buffers.block.write_later(&self.stream, offset, host, 0..state.entries())?;
        let mut marks = self.events.iter();
        let mut mark = || match marks.next() {
            Some(event) if self.tracing => event.record(&self.stream),
            _ => Ok(()),
        };
        if self.tracing {
            let device = self.context.device();
            // Half as much again as the host took so far. The emulator launches nothing ahead.
            let nanos = if device.emulated() { 0 } else { self.issuing.get() * 3 / 2 };
            let hold = HoldArgs::lasting(nanos, device.clock_khz);
            self.stream.launch(&self.hold, HoldArgs::LAUNCH, &hold)?;
        }
        let start = Instant::now();
        mark()?;
        for (launched, count) in self.launches(rows) {
            launched.run(&self.stream, rows, count)?;
            mark()?;
        }
        if self.tracing {
            self.issuing.set(self.issuing.get().max(start.elapsed().as_nanos() as u64));
        }
        if rows.wanted > 0 {
            let (at, len) = (Name::Place(Place::Logits), rows.wanted * self.plan.shape.vocab);
            self.buffers.block.read_later(
                &self.stream,
                self.buffers.layout.offset(at),
                &self.logits,
                0..len,
            )?;
        }
        Ok(())
    }

    /// The launches of a step: the body of its regime, the choice of rows, the tail of theirs.
    /// Each with the number of its rows.
    fn launches(&self, rows: &Rows) -> impl Iterator<Item = (&Launched, usize)> {
        let (count, wanted) = (rows.count, rows.wanted);
        let body = self.program(Regime::of(rows.count));
        let tail = self.program(Regime::of(rows.wanted));
        // Without logits nothing reads the last attention.
        let end = if rows.wanted == 0 { body.stored } else { body.body.len() };
        let select = (rows.wanted != 0 && rows.wanted != rows.count).then_some(&self.select);
        let tail = if rows.wanted == 0 { &[] } else { &tail.tail[..] };
        let body = body.body[..end].iter().map(move |launched| (launched, count));
        body.chain(select.into_iter().chain(tail).map(move |launched| (launched, wanted)))
    }

    fn program(&self, regime: Regime) -> &Bound {
        let found = self.programs.iter().find(|(of, _)| *of == regime);
        &found.expect("a program for every number of rows the runner was loaded for").1
    }

    fn run(&mut self, batch: &[Row]) -> Result<(), driver::Error> {
        self.settle()?;
        if let Some(choice) = &mut self.choice {
            // The device has this step's rows from now on.
            choice.rows = None;
        }
        let regime = Regime::of(batch.len());
        let (_, state) = self.buffers.state(regime);
        let most = self.tile_rows(regime);
        let host = if regime == Regime::Many { &mut self.many } else { &mut self.few };
        let rows = Rows::fill(batch, state, host.as_mut_slice(), most);
        self.update_tables()?;
        match rows.graph().filter(|_| self.replay && !self.tracing) {
            Some(index) => {
                if self.graphs[index].is_none() {
                    let graph = self.stream.capture(|_| self.issue(&rows))?;
                    self.graphs[index] = Some(graph);
                }
                let graph = self.graphs[index].as_ref().expect("captured above");
                graph.launch(&self.stream)?;
            }
            None => self.issue(&rows)?,
        }
        self.stream.synchronize()?;
        self.kv.settled();
        if self.tracing { self.add_times(&rows) } else { Ok(()) }
    }

    /// Copies what changed of the page tables, when the stream comes to it.
    fn update_tables(&mut self) -> Result<(), driver::Error> {
        let offset = self.buffers.layout.offset(Name::Tables);
        self.kv.update(&self.stream, &self.buffers.block, offset)
    }

    /// Most rows of a tile of attention.
    fn tile_rows(&self, regime: Regime) -> usize {
        let attention = Attention::of(&self.plan, self.options.kv);
        attention.tile_rows(if regime == Regime::Many { Kind::Prefill } else { Kind::Attend })
    }

    fn add_times(&mut self, rows: &Rows) -> Result<(), driver::Error> {
        let ops: Vec<usize> = self.launches(rows).map(|(launched, _)| launched.op).collect();
        let mut last = None;
        for (op, pair) in ops.into_iter().zip(self.events.windows(2)) {
            let time = &mut self.times[op];
            time.nanos += (f64::from(pair[1].since(&pair[0])?) * 1e6) as u64;
            // Several launches of one op are one run of it.
            time.runs += u64::from(last != Some(op));
            last = Some(op);
        }
        Ok(())
    }

    fn lose(&mut self, error: &driver::Error) -> Lost {
        let cause = error.to_string();
        self.lost = Some(cause.clone());
        Lost { device: self.name.clone(), cause }
    }
}

impl Runner for CudaRunner {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn options(&self) -> &LoadOptions {
        &self.options
    }

    fn memory(&self) -> Memory {
        self.memory
    }

    fn map(&mut self, slot: usize, group: usize, first: usize, pages: &[u32]) {
        if self.kv.held(slot, group, first, pages.len())
            && let Err(error) = self.settle()
        {
            // The next step says so.
            let _ = self.lose(&error);
        }
        self.kv.map(slot, group, first, pages);
    }

    fn copy_page(&mut self, group: usize, from: u32, to: u32) {
        if let Err(error) = self.kv.copy_page(&self.stream, group, from, to) {
            // The next step says so.
            let _ = self.lose(&error);
        }
    }

    fn page_bytes(&self, group: usize) -> usize {
        self.kv.page_bytes(group)
    }

    fn read_page(&mut self, group: usize, page: u32, to: &mut [u8]) -> Result<(), Lost> {
        self.kv.read_page(&self.stream, group, page, to).map_err(|error| self.lose(&error))
    }

    fn write_page(&mut self, group: usize, page: u32, from: &[u8]) -> Result<(), Lost> {
        self.kv.write_page(&self.stream, group, page, from).map_err(|error| self.lose(&error))
    }

    fn step(&mut self, batch: &Batch) -> Result<(), Lost> {
        self.wanted = batch.rows.iter().filter(|row| row.logits).count();
        self.check(&batch.rows);
        if let Some(cause) = &self.lost {
            return Err(Lost { device: self.name.clone(), cause: cause.clone() });
        }
        if batch.rows.is_empty() {
            return Ok(());
        }
        self.run(&batch.rows).map_err(|error| self.lose(&error))
    }

    fn logits(&self) -> &[f32] {
        &self.logits.as_slice()[..self.wanted * self.plan.shape.vocab]
    }

    fn chooser(&mut self) -> Option<&mut dyn Chooser> {
        if self.choice.is_some() { Some(self) } else { None }
    }

    fn times(&self) -> &[OpTime] {
        if self.tracing { &self.times } else { &[] }
    }

    /// With tracing every launch is timed by itself and nothing is replayed. A launch that stands for
    /// several ops counts as the last of them that multiplies or attends. The device is kept busy until the
    /// host has launched the whole step: what is timed are kernels and not the host, and a traced step takes
    /// longer than the sum of its times.
    fn trace(&mut self, on: bool) {
        self.tracing = on;
        self.times.fill(OpTime::default());
        let launches = |bound: &Bound| bound.body.len() + bound.tail.len() + 2;
        let most = self.programs.iter().map(|(_, bound)| launches(bound)).max().unwrap_or(0);
        while on && self.events.len() < most {
            match Event::new(&self.context) {
                Ok(event) => self.events.push(event),
                Err(error) => {
                    let _ = self.lose(&error);
                    return;
                }
            }
        }
    }
}

impl Drop for CudaRunner {
    fn drop(&mut self) {
        // A step that failed half-way may still write to pinned memory.
        let _ = self.stream.synchronize();
    }
}
