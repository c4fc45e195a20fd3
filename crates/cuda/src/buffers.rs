//! What a step writes, laid out in one allocation before anything is allocated.
//!
//! Every address is fixed when a plan is loaded: launches and recorded graphs keep them. All activations
//! are f32 `[rows][width]`.

use crate::choose::Room;
use crate::driver::{Block, Context, Error};
use crate::kv;
use crate::lower::{FEW, Finish, Input, Place, Program, Regime, Stage, Step};
use crate::products::stage_bytes;
use crate::rows::{Array, Splits, State};
use crate::tile::ALIGN;
use model::Plan;
use model::plan::Buf;
use model::runner::LoadOptions;

/// What lies in the allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// Activations.
    Place(Place),
    /// Staged activations.
    Stage(Stage),
    /// Cosines and sines of a rotation: f32 `[rows][half][2]`.
    Turns(usize),
    /// What a step is told, by regime: see [`State`].
    State(Regime),
    /// u32 `[slot][group][page]`.
    Tables,
    /// What blocks of attention leave for each other.
    Partials,
    /// How many blocks of attention have arrived: zero between launches.
    Arrived,
    /// Samplers, by slot.
    Chains,
    /// Their recent tokens.
    Recent,
    /// How often each token is among those.
    Tallies,
    /// Their biases.
    Biases,
    /// What blocks of sampling leave for each other, by row.
    Scratch,
}

/// Offsets of everything, and the length.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layout {
    entries: Vec<(Name, usize, usize)>,
    pub(crate) bytes: usize,
    /// Most rows of a step.
    pub(crate) rows: usize,
    pub(crate) logit_rows: usize,
    /// What choosing tokens takes, where that can be.
    pub(crate) room: Option<Room>,
}

impl Layout {
    /// What the programs of `plan` write.
    pub(crate) fn new(
        plan: &Plan,
        options: &LoadOptions,
        cache: &kv::Shape,
        splits: &Splits,
        programs: &[(Regime, Program)],
    ) -> Layout {
        let rows = options.rows.max(1);
        let mut layout = Layout { rows, logit_rows: options.logit_rows.clamp(1, rows), ..Layout::default() };
        for &(regime, ref program) in programs {
            let most = match regime {
                Regime::One => 1,
                Regime::Few => rows.min(FEW),
                Regime::Many => rows,
            };
            for (half, most) in [(&program.body, most), (&program.tail, most.min(layout.logit_rows))] {
                for (step, _) in half {
                    layout.step(plan, regime, step, most);
                }
            }
        }
        for (i, rope) in plan.ropes.iter().enumerate() {
            layout.add(Name::Turns(i), rows * rope.frequency.len() * 8);
        }
        layout.add(Name::State(Regime::Few), State { rows: rows.min(FEW) }.bytes());
        layout.add(Name::State(Regime::Many), State { rows }.bytes());
        layout.add(Name::Tables, cache.entries() * 4);
        layout.add(Name::Partials, splits.partial_bytes());
        layout.add(Name::Arrived, splits.arrived_bytes());
        layout.room = Room::of(plan, options, layout.logit_rows);
        let room = layout.room;
        for (name, bytes) in room.iter().flat_map(Room::parts) {
            layout.add(name, bytes);
        }
        layout
    }

    /// What a step over at most `rows` rows writes.
    fn step(&mut self, plan: &Plan, regime: Regime, step: &Step, rows: usize) {
        match step {
            Step::Begin { .. } => self.place(plan, Place::X0, rows),
            Step::Norm { .. } => self.place(plan, Place::H, rows),
            Step::Stage { source, width } => {
                self.sum(plan, source.sum, rows);
                self.stage(regime, Stage::Main, *width, rows);
            }
            Step::Product { input, targets, finish } => {
                if let Input::Source(source) = input {
                    self.sum(plan, source.sum, rows);
                }
                let written = match finish {
                    Finish::Gate(_) => &targets[..1],
                    Finish::GateStaged(_) => {
                        self.stage(regime, Stage::Gated, plan.shape.ff, rows);
                        &[]
                    }
                    _ => &targets[..],
                };
                for target in written {
                    self.place(plan, target.to, rows);
                }
            }
            Step::Attend { staged: true, .. } => {
                self.stage(regime, Stage::Attended, plan.shape.width(Buf::A), rows);
            }
            Step::Attend { staged: false, .. } => self.place(plan, Place::A, rows),
            Step::Residual { .. } | Step::Store(_) | Step::Gate { .. } => {}
        }
    }

    fn sum(&mut self, plan: &Plan, sum: Option<Place>, rows: usize) {
        if let Some(sum) = sum {
            self.place(plan, sum, rows);
        }
    }

    fn place(&mut self, plan: &Plan, place: Place, rows: usize) {
        // Logits of a step are never more than asked for.
        let rows = if place == Place::Logits { rows.min(self.logit_rows) } else { rows };
        self.add(Name::Place(place), rows * width(plan, place) * 4);
    }

    fn stage(&mut self, regime: Regime, stage: Stage, width: usize, rows: usize) {
        self.add(Name::Stage(stage), stage_bytes(regime, width, rows));
    }

    /// Room for at least `bytes` under a name. Offsets are settled by the last call for each, so nobody
    /// asks for them before all are made.
    fn add(&mut self, name: Name, bytes: usize) {
        let bytes = bytes.next_multiple_of(ALIGN as usize);
        match self.entries.iter_mut().find(|(known, ..)| *known == name) {
            Some((_, _, room)) => *room = bytes.max(*room),
            None => self.entries.push((name, 0, bytes)),
        }
        self.bytes = 0;
        for (_, offset, room) in &mut self.entries {
            *offset = self.bytes;
            self.bytes += *room;
        }
    }

    /// Bytes from the start of the allocation, of what is written at all.
    pub(crate) fn find(&self, name: Name) -> Option<usize> {
        self.entries.iter().find(|(known, ..)| *known == name).map(|(_, offset, _)| *offset)
    }

    /// Bytes from the start of the allocation.
    pub(crate) fn offset(&self, name: Name) -> usize {
        self.find(name).expect("the layout was made from the same programs")
    }
}

/// Width of a row at a place.
pub(crate) fn width(plan: &Plan, place: Place) -> usize {
    plan.shape.width(match place {
        Place::X0 | Place::X1 => Buf::X,
        Place::H => Buf::H,
        Place::O => Buf::O,
        Place::Q => Buf::Q,
        Place::K => Buf::K,
        Place::V => Buf::V,
        Place::A => Buf::A,
        Place::G | Place::U => Buf::G,
        Place::Logits => Buf::Logits,
    })
}

/// The allocation.
pub(crate) struct Buffers {
    pub(crate) layout: Layout,
    pub(crate) block: Block,
}

impl Buffers {
    pub(crate) fn new(context: &Context, layout: Layout) -> Result<Buffers, Error> {
        let block = Block::new(context, layout.bytes)?;
        Ok(Buffers { layout, block })
    }

    pub(crate) fn address(&self, name: Name) -> u64 {
        self.block.address() + self.layout.offset(name) as u64
    }

    /// The address of what may not be written at all.
    pub(crate) fn find(&self, name: Name) -> Option<u64> {
        self.layout.find(name).map(|offset| self.block.address() + offset as u64)
    }

    pub(crate) fn place(&self, place: Place) -> u64 {
        self.address(Name::Place(place))
    }

    /// The arrays of a regime's state.
    pub(crate) fn state(&self, regime: Regime) -> (Name, State) {
        match regime {
            Regime::Many => (Name::State(Regime::Many), State { rows: self.layout.rows }),
            _ => (Name::State(Regime::Few), State { rows: self.layout.rows.min(FEW) }),
        }
    }

    /// Address of an array of a regime's state.
    pub(crate) fn array(&self, regime: Regime, array: Array) -> u64 {
        let (name, state) = self.state(regime);
        self.address(name) + 4 * state.at(array) as u64
    }
}
