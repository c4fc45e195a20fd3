//! Steps to launches: addresses, kernels and grids, settled once; only the number of rows is left open.

use crate::args::attend::{AttendArgs, Attention, Kind};
use crate::args::begin::{BeginArgs, TABLES, Turns};
use crate::args::matmul::GATED_SCALE;
use crate::args::pointwise::{GateArgs, NormArgs, ResidualArgs, SelectArgs};
use crate::args::rope::{Cache, Rope, RopeStoreArgs};
use crate::args::stage_f16::StageF16Args;
use crate::args::{self, Epilogue};
use crate::buffers::{Buffers, Name, width};
use crate::design::{Design, Floats};
use crate::driver::{Error, Function, Kernels, Launch, Stream};
use crate::kv::Kv;
use crate::lower::{self, Finish, Input, Place, Program, Regime, Source, Stage, Step, Target, Timed};
use crate::products::{After, Product, groups};
use crate::rows::{Array, MIN_PAGES, Rows, Shape, Splits};
use crate::tile::TileFormat;
use crate::weights::Matrix;
use model::Activation;
use model::plan::{Plan, VectorId};
use model::runner::KvType;
use std::cell::RefCell;
use std::collections::HashMap;

/// A kernel with its argument; rows are filled in when it is launched.
enum Work {
    Begin(BeginArgs),
    Norm(NormArgs),
    Residual(ResidualArgs),
    Gate(GateArgs),
    /// With the addresses of the choice, of few rows and of many.
    Select(SelectArgs, [u64; 2]),
    Store(RopeStoreArgs, KvType),
    Attend(Attend),
    Product(Product),
}

/// Attention, whose grid follows from the tiles of a step.
struct Attend {
    args: AttendArgs,
    kind: Kind,
    splits: Splits,
    /// Addresses of the lists of tiles and of the rows' places among those wanted.
    tiles: u64,
    output_row: u64,
    /// Whether only wanted rows go on from here.
    last: bool,
}

/// A launch and the plan's op it is timed as.
pub(crate) struct Launched {
    /// One, or those for different numbers of rows.
    functions: Vec<Function>,
    work: Work,
    pub(crate) op: usize,
    sms: u32,
}

impl Launched {
    /// Launches over `count` rows of a step.
    pub(crate) fn run(&self, stream: &Stream, rows: &Rows, count: usize) -> Result<(), Error> {
        let function = &self.functions[0];
        match &self.work {
            // Behind a copy, which launches nothing early.
            Work::Begin(args) => {
                stream.launch(function, Launch { overlap: false, ..args.launch(count) }, args)
            }
            Work::Norm(args) => stream.launch(function, NormArgs::launch(count), args),
            Work::Residual(args) => stream.launch(function, ResidualArgs::launch(count), args),
            Work::Gate(args) => {
                let args = GateArgs { rows: count as u32, ..*args };
                stream.launch(function, args.launch(self.sms), &args)
            }
            Work::Select(args, [few, many]) => {
                let select = if Regime::of(rows.count) == Regime::Many { *many } else { *few };
                let args = SelectArgs { select, count: rows.wanted as u32, ..*args };
                stream.launch(function, args.launch(), &args)
            }
            Work::Store(args, kv) => {
                let args = RopeStoreArgs { rows: count as u32, ..*args };
                stream.launch(function, args.launch(*kv), &args)
            }
            Work::Attend(attend) => attend.run(stream, function, rows),
            Work::Product(product) => product.run(stream, &self.functions, count),
        }
    }
}

impl Attend {
    fn run(&self, stream: &Stream, function: &Function, rows: &Rows) -> Result<(), Error> {
        let listed = rows.shape == Shape::Listed;
        let chosen = self.last && rows.wanted != rows.count;
        let args = AttendArgs {
            tiles: if listed { self.tiles } else { 0 },
            output_row: if chosen { self.output_row } else { 0 },
            rows: rows.count as u32,
            tile_rows: rows.longest as u32,
            tile_count: rows.tiles as u32,
            ..self.args
        };
        let launch = match self.kind {
            Kind::Attend => self.splits.attention.attend(&args, self.splits.of(rows.tiles)),
            Kind::Prefill => self.splits.attention.prefill(&args),
        };
        stream.launch(function, launch, &args)
    }
}

/// A program's launches.
pub(crate) struct Bound {
    pub(crate) body: Vec<Launched>,
    pub(crate) tail: Vec<Launched>,
    /// Launches of the body until the last cache is filled: all that a step without logits needs.
    pub(crate) stored: usize,
}

/// What addresses are taken from.
pub(crate) struct Binder<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) design: &'a Design,
    /// By part.
    pub(crate) matrices: Vec<Matrix>,
    /// Where the small vectors begin.
    pub(crate) floats: u64,
    pub(crate) buffers: &'a Buffers,
    pub(crate) kv: &'a Kv,
    pub(crate) kernels: &'a Kernels,
    pub(crate) sms: u32,
    pub(crate) most_shared: usize,
    pub(crate) functions: RefCell<HashMap<&'static str, Function>>,
}

impl Binder<'_> {
    /// Binds a program.
    ///
    /// # Errors
    /// A kernel that the cubins lack.
    pub(crate) fn program(&self, regime: Regime, program: &Program) -> Result<Bound, Error> {
        let body = self.steps(regime, &program.body)?;
        let tail = self.steps(regime, &program.tail)?;
        let alone = matches!(program.body.last(), Some((Step::Attend { store: None, .. }, _)));
        Ok(Bound { stored: body.len() - usize::from(alone), body, tail })
    }

    /// The choice of rows of X.
    ///
    /// # Errors
    /// A kernel that the cubins lack.
    pub(crate) fn select(&self, x: Place) -> Result<Launched, Error> {
        let at = self.buffers.place(x);
        let cols = [self.plan.shape.dim as u32, 0];
        let args = SelectArgs { from: [at, 0], to: [at, 0], cols, ..SelectArgs::default() };
        let select = [Regime::Few, Regime::Many].map(|regime| self.buffers.array(regime, Array::Select));
        self.launched(&[SelectArgs::KERNEL], Work::Select(args, select), 0)
    }

    fn launched(&self, kernels: &[&'static str], work: Work, op: usize) -> Result<Launched, Error> {
        let functions = kernels.iter().map(|kernel| self.function(kernel)).collect::<Result<_, _>>()?;
        Ok(Launched { functions, work, op, sms: self.sms })
    }

    /// A kernel, asked for once: a program has hundreds of launches of a dozen.
    fn function(&self, kernel: &'static str) -> Result<Function, Error> {
        let mut known = self.functions.borrow_mut();
        if let Some(function) = known.get(kernel) {
            return Ok(function.clone());
        }
        let function = self.kernels.function(kernel)?;
        // What launches take stays below by what was checked at load.
        function.allow_shared(self.most_shared)?;
        known.insert(kernel, function.clone());
        Ok(function)
    }

    fn steps(&self, regime: Regime, steps: &[Timed]) -> Result<Vec<Launched>, Error> {
        let mut launches = vec![];
        for (i, (step, op)) in steps.iter().enumerate() {
            let next = steps.get(i + 1).map(|(step, _)| step);
            self.step(regime, step, next, *op, &mut launches)?;
        }
        Ok(launches)
    }

    fn step(
        &self,
        regime: Regime,
        step: &Step,
        next: Option<&Step>,
        op: usize,
        to: &mut Vec<Launched>,
    ) -> Result<(), Error> {
        let (dim, eps) = (self.plan.shape.dim as u32, self.plan.shape.eps);
        let (kernel, work) = match step {
            Step::Begin { table, scale } => {
                (BeginArgs::KERNEL, Work::Begin(self.begin(regime, *table, *scale)))
            }
            Step::Norm { x, weight } => {
                let (x, to) = (self.buffers.place(*x), self.buffers.place(Place::H));
                let weight = self.vector(*weight, 0);
                (NormArgs::KERNEL, Work::Norm(NormArgs { x, weight, to, cols: dim, eps }))
            }
            Step::Residual { x, post } => {
                let (x, o) = (self.buffers.place(*x), self.buffers.place(Place::O));
                let post = post.map_or(0, |post| self.vector(post, 0));
                (ResidualArgs::KERNEL, Work::Residual(ResidualArgs { x, o, post, cols: dim, eps }))
            }
            Step::Gate { activation } => {
                let (gate, up) = (self.buffers.place(Place::G), self.buffers.place(Place::U));
                let args = GateArgs {
                    gate,
                    up,
                    to: gate,
                    cols: self.plan.shape.ff as u32,
                    activation: gate_of(*activation) as u32,
                    ..GateArgs::default()
                };
                (GateArgs::KERNEL, Work::Gate(args))
            }
            Step::Store(store) => {
                let kv = self.design.splits.attention.kv;
                (RopeStoreArgs::kernel(kv), Work::Store(self.store(regime, store), kv))
            }
            Step::Attend { attend, store, staged } => {
                let work = self.attend(regime, attend, store.as_ref(), *staged, next.is_none());
                (self.design.splits.attention.kernel(work.kind), Work::Attend(work))
            }
            Step::Stage { source, width } => {
                let Some(Step::Product { targets, .. }) = next else {
                    unreachable!("what is staged is multiplied");
                };
                let (source, to_stage) = (self.source(source, *width), self.stage(Stage::Main));
                let product = Product::stage(regime, source, to_stage, &self.formats(targets));
                to.push(self.launched(&product.kernels(), Work::Product(product), op)?);
                return Ok(());
            }
            Step::Product { input, targets, finish } => {
                return self.product(regime, input, targets, *finish, op, to);
            }
        };
        to.push(self.launched(&[kernel], work, op)?);
        Ok(())
    }

    /// The products of one input: one launch where formats allow, else several.
    fn product(
        &self,
        regime: Regime,
        input: &Input,
        targets: &[Target],
        finish: Finish,
        op: usize,
        to: &mut Vec<Launched>,
    ) -> Result<(), Error> {
        let (epilogue, cap) = match finish {
            Finish::Store => (Epilogue::Store, 0.0),
            Finish::Add => (Epilogue::Add, 0.0),
            Finish::Gate(activation) | Finish::GateStaged(activation) => (gate_of(activation), 0.0),
            Finish::Cap(cap) => (Epilogue::Cap, cap),
        };
        let gated = matches!(finish, Finish::GateStaged(_)).then(|| self.stage(Stage::Gated));
        let after = After { epilogue, cap, gated };
        let mut input = *input;
        for group in groups(regime, &self.formats(targets)) {
            // What is staged has no floats of its own.
            let floats = |output: args::Output| args::Output {
                to: if gated.is_none() { output.to } else { 0 },
                ..output
            };
            let outputs: Vec<args::Output> =
                group.iter().map(|&i| floats(self.output(&targets[i]))).collect();
            let product = match &mut input {
                Input::Source(source) => {
                    let from = self.source(source, self.matrices[targets[group[0]].part].cols);
                    // The sum is there from now on.
                    *source = source.again();
                    Product::of_source(&outputs, from, after, self.sms)
                }
                Input::Staged(stage) => {
                    let scale = if *stage == Stage::Gated { 1.0 / GATED_SCALE } else { 1.0 };
                    Product::of_staged(regime, &outputs, self.stage(*stage), scale, after, self.sms)
                }
            };
            to.push(self.launched(&product.kernels(), Work::Product(product), op)?);
        }
        Ok(())
    }

    fn begin(&self, regime: Regime, table: usize, scale: f32) -> BeginArgs {
        let mut turns = [Turns::default(); TABLES];
        for (i, (turns, rope)) in turns.iter_mut().zip(&self.plan.ropes).enumerate() {
            *turns = Turns {
                frequency: self.floats + self.floats_layout().frequencies[i] as u64,
                to: self.buffers.address(Name::Turns(i)),
                magnitude: rope.magnitude,
                half: rope.frequency.len() as u32,
            };
        }
        BeginArgs {
            table: self.matrix(table),
            token: self.buffers.array(regime, Array::Token),
            position: self.buffers.array(regime, Array::Position),
            x: self.buffers.place(Place::X0),
            turns,
            scale,
            tables: self.plan.ropes.len() as u32,
        }
    }

    fn rope(&self, store: &lower::Store) -> Rope {
        let norm = |id: Option<VectorId>| id.map_or(0, |id| self.vector(id, 0));
        Rope {
            q_norm: norm(store.q_norm),
            k_norm: norm(store.k_norm),
            turns: store.rope.map_or(0, |rope| self.buffers.address(Name::Turns(rope))),
            half: store.rope.map_or(0, |rope| self.plan.ropes[rope].frequency.len() as u32),
            eps: self.plan.shape.eps,
        }
    }

    fn cache(&self, layer: usize) -> Cache {
        let shape = self.kv.shape();
        let (group, place) = shape.homes[layer];
        let groups = shape.page.len();
        Cache {
            pages: self.kv.pages(group) + (place * shape.layer * shape.counts[group]) as u64,
            table: self.buffers.address(Name::Tables) + (4 * group * shape.pages) as u64,
            page_stride: shape.layer as u32,
            table_stride: (groups * shape.pages) as u32,
        }
    }

    fn store(&self, regime: Regime, store: &lower::Store) -> RopeStoreArgs {
        let Attention { heads, kv_heads, head_dim, .. } = self.design.splits.attention;
        RopeStoreArgs {
            q: self.buffers.place(Place::Q),
            k: self.buffers.place(Place::K),
            v: self.buffers.place(Place::V),
            position: self.buffers.array(regime, Array::Position),
            slot: self.buffers.array(regime, Array::Slot),
            cache: self.cache(store.layer),
            rope: self.rope(store),
            rows: 0,
            heads: heads as u32,
            kv_heads: kv_heads as u32,
            head_dim: head_dim as u32,
            width: self.design.head as u32,
            unused: 0,
        }
    }

    fn attend(
        &self,
        regime: Regime,
        attend: &lower::Attend,
        store: Option<&lower::Store>,
        staged: bool,
        last: bool,
    ) -> Attend {
        let Attention { heads, kv_heads, head_dim, .. } = self.design.splits.attention;
        let halves = staged.then(|| self.buffers.address(Name::Stage(Stage::Attended)));
        let args = AttendArgs {
            q: self.buffers.place(Place::Q),
            k: self.buffers.place(Place::K),
            v: self.buffers.place(Place::V),
            out: if staged { 0 } else { self.buffers.place(Place::A) },
            out_halves: halves.unwrap_or(0),
            position: self.buffers.array(regime, Array::Position),
            slot: self.buffers.array(regime, Array::Slot),
            partials: self.buffers.address(Name::Partials),
            arrived: self.buffers.address(Name::Arrived),
            cache: self.cache(attend.layer),
            rope: store.map_or(Rope::default(), |store| self.rope(store)),
            heads: heads as u32,
            kv_heads: kv_heads as u32,
            head_dim: head_dim as u32,
            halves_stride: StageF16Args::stride(heads * head_dim) as u32,
            window: attend.window.unwrap_or(0) as u32,
            min_pages: MIN_PAGES as u32,
            fused: u32::from(store.is_some()),
            scale: attend.scale,
            cap: attend.cap.unwrap_or(0.0),
            ..AttendArgs::default()
        };
        Attend {
            args,
            kind: if regime == Regime::Many { Kind::Prefill } else { Kind::Attend },
            splits: self.design.splits,
            tiles: self.buffers.array(regime, Array::Tiles),
            output_row: self.buffers.array(regime, Array::Output),
            last,
        }
    }

    fn source(&self, source: &Source, cols: usize) -> args::Source {
        args::Source {
            x: self.buffers.place(source.x),
            o: source.sum.map_or(0, |_| self.buffers.place(Place::O)),
            post: source.post.map_or(0, |post| self.vector(post, 0)),
            norm: source.norm.map_or(0, |norm| self.vector(norm, 0)),
            x_out: source.sum.map_or(0, |sum| self.buffers.place(sum)),
            cols: cols as u32,
            stride: cols as u32,
            eps: self.plan.shape.eps,
            unused: 0,
        }
    }

    fn output(&self, target: &Target) -> args::Output {
        args::Output {
            matrix: self.matrix(target.part),
            bias: target.bias.map_or(0, |(bias, start)| self.vector(bias, start)),
            // The second of fused gate and up is written nowhere.
            to: self.buffers.find(Name::Place(target.to)).unwrap_or(0),
            stride: width(self.plan, target.to) as u32,
            unused: 0,
        }
    }

    fn matrix(&self, part: usize) -> args::Matrix {
        let matrix = &self.matrices[part];
        args::Matrix::new(matrix.address, matrix.rows, matrix.cols, matrix.format)
    }

    fn formats(&self, targets: &[Target]) -> Vec<TileFormat> {
        targets.iter().map(|target| self.matrices[target.part].format).collect()
    }

    fn stage(&self, stage: Stage) -> u64 {
        self.buffers.address(Name::Stage(stage))
    }

    fn vector(&self, id: VectorId, start: usize) -> u64 {
        self.floats + (self.floats_layout().vectors[id.0] + 4 * start) as u64
    }

    fn floats_layout(&self) -> &Floats {
        &self.design.floats
    }
}

fn gate_of(activation: Activation) -> Epilogue {
    match activation {
        Activation::Silu => Epilogue::GateSilu,
        Activation::GeluTanh => Epilogue::GateGelu,
    }
}
