//! What choosing tokens on the device takes beside a step's buffers: the sampler of every slot, and an outbox
//! in the host's memory where tokens appear as soon as they are chosen.
//!
//! The launches of a choosing step end in `sample`, which writes the next step's tokens and positions over
//! this one's: launching the same graph again is the next step.

use crate::args::sample::{self, Bias, Chain, RecallArgs, SampleArgs, Settings};
use crate::buffers::{Buffers, Name};
use crate::driver::{Context, Error, Function, Graph, Kernels, Pinned, Stream};
use crate::lower::{FEW, Place, Regime};
use crate::rows::{Array, Rows};
use model::runner::{LoadOptions, PAGE};
use model::{Choosing, Plan};

/// Entries of a slot's list of biases.
const BIASES: usize = 1024;

/// Steps under way: the device is busy with one while the host hears of the one before. More only where the
/// host is late.
pub(crate) const AHEAD: std::ops::RangeInclusive<usize> = 2..=4;

/// Entries of a slot's outbox: more than steps are under way.
const OUTBOX: usize = 8;

/// Tokens that the sampling kernels can tell apart.
const MOST_TOKENS: usize = (1 << 23) - 1;

/// Sizes, known before anything is allocated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    slots: usize,
    /// Most rows of a choosing step.
    pub(crate) rows: usize,
    vocab: usize,
    /// Most recent tokens.
    context: usize,
}

impl Room {
    /// Of `plan` with `options`, whose steps have logits of up to `logit_rows` rows; `None` for vocabularies
    /// that kernels cannot number.
    pub(crate) fn of(plan: &Plan, options: &LoadOptions, logit_rows: usize) -> Option<Room> {
        let (slots, vocab) = (options.slots, plan.shape.vocab);
        let rows = FEW.min(logit_rows).min(slots);
        let context = plan.context.min(options.pages * PAGE);
        (rows > 0 && vocab <= MOST_TOKENS).then_some(Room { slots, rows, vocab, context })
    }

    /// Bytes of device memory, by name.
    pub(crate) fn parts(&self) -> [(Name, usize); 5] {
        [
            (Name::Chains, self.slots * size_of::<Chain>()),
            (Name::Recent, self.slots * self.context * 4),
            (Name::Tallies, self.slots * self.vocab * 8),
            (Name::Biases, self.slots * BIASES * size_of::<Bias>()),
            (Name::Scratch, self.rows * sample::SCRATCH),
        ]
    }

    /// Bytes of the host's pinned memory.
    pub(crate) fn pinned_bytes(&self) -> usize {
        self.slots * OUTBOX * 8 + size_of::<Chain>() + BIASES * size_of::<Bias>() + self.context * 4
    }
}

/// The samplers, and the steps under way.
pub(crate) struct Choice {
    /// By rows, and whether `sample_all` follows.
    graphs: [Vec<Option<Graph>>; 2],
    pub(crate) room: Room,
    sample: Function,
    sample_all: Function,
    recall: Function,
    args: SampleArgs,
    outbox: Pinned<u64>,
    /// Where a sampler is written before it is copied.
    chain: Pinned<Chain>,
    biases: Pinned<Bias>,
    recent: Pinned<u32>,
    /// By slot: whether it needs `sample_all`, and how many tokens were taken since it was started.
    slots: Vec<(bool, u32)>,
    /// Slots of the rows of the steps under way.
    pub(crate) members: Vec<u32>,
    /// Their rows, while the device has what the next step starts from.
    pub(crate) rows: Option<Rows>,
    pub(crate) under_way: usize,
    pub(crate) ahead: usize,
}

impl Choice {
    /// # Errors
    /// The driver's, and kernels that the cubins lack.
    pub(crate) fn new(
        context: &Context,
        kernels: &Kernels,
        buffers: &Buffers,
        room: Room,
    ) -> Result<Choice, Error> {
        let outbox = Pinned::new(context, room.slots * OUTBOX)?;
        let array = |array| buffers.array(Regime::Few, array);
        let args = SampleArgs {
            logits: buffers.place(Place::Logits),
            chains: buffers.address(Name::Chains),
            scratch: buffers.address(Name::Scratch),
            select: array(Array::Select),
            slot: array(Array::Slot),
            position: array(Array::Position),
            // Row j is the j-th that chooses, so the next step may take this one's place.
            next_token: array(Array::Token),
            next_position: array(Array::Position),
            next_slot: array(Array::Slot),
            next_select: array(Array::Select),
            outbox: outbox.address(),
            ..SampleArgs::new(room.vocab, OUTBOX)
        };
        let graphs = || (0..=FEW).map(|_| None).collect();
        Ok(Choice {
            graphs: [graphs(), graphs()],
            room,
            sample: kernels.function(SampleArgs::KERNEL)?,
            sample_all: kernels.function(SampleArgs::ALL_KERNEL)?,
            recall: kernels.function(RecallArgs::KERNEL)?,
            args,
            outbox,
            chain: Pinned::new(context, 1)?,
            biases: Pinned::new(context, BIASES)?,
            recent: Pinned::new(context, room.context)?,
            slots: vec![(false, 0); room.slots],
            members: Vec::with_capacity(room.rows),
            rows: None,
            under_way: 0,
            ahead: *AHEAD.start(),
        })
    }

    /// Whether a sampler fits its slot.
    pub(crate) fn serves(&self, choosing: &Choosing) -> bool {
        choosing.bias.len() <= BIASES && choosing.window <= self.room.context
    }

    /// Gives a slot its sampler, when the stream comes to it. Nothing is under way.
    ///
    /// # Errors
    /// The driver's.
    pub(crate) fn start(
        &mut self,
        stream: &Stream,
        buffers: &Buffers,
        slot: usize,
        choosing: &Choosing,
        recent: &[u32],
    ) -> Result<(), Error> {
        let settings = settings(choosing);
        let at = |name, bytes: usize| buffers.address(name) + (slot * bytes) as u64;
        for (i, &(id, amount)) in choosing.bias.iter().enumerate() {
            self.biases.set(i, Bias { id, amount });
        }
        let bias = (at(Name::Biases, BIASES * size_of::<Bias>()), choosing.bias.len());
        let ring = at(Name::Recent, self.room.context * 4);
        let tally = at(Name::Tallies, self.room.vocab * 8);
        let chain = Chain { random: choosing.random, ..Chain::new(&settings, ring, tally, (bias.0, bias.1)) };
        self.chain.set(0, chain);
        let write = |name, bytes: usize| buffers.layout.offset(name) + slot * bytes;
        let offset = write(Name::Biases, BIASES * size_of::<Bias>());
        buffers.block.write_later(stream, offset, &self.biases, 0..bias.1)?;
        let offset = write(Name::Chains, size_of::<Chain>());
        buffers.block.write_later(stream, offset, &self.chain, 0..1)?;
        if chain.window > 0 {
            for (i, &token) in recent.iter().enumerate() {
                self.recent.set(i, token);
            }
            let args = RecallArgs {
                chain: at(Name::Chains, size_of::<Chain>()),
                tokens: self.recent.address(),
                count: recent.len() as u32,
                vocab: self.room.vocab as u32,
            };
            // Behind a copy, which launches nothing early.
            let launch = crate::driver::Launch { overlap: false, ..RecallArgs::launch() };
            stream.launch(&self.recall, launch, &args)?;
        }
        // What an earlier sampler left must not be taken for tokens of this one.
        (0..OUTBOX).for_each(|i| self.outbox.set(slot * OUTBOX + i, 0));
        self.slots[slot] = (settings.needs_all(self.room.vocab), 0);
        Ok(())
    }

    /// Whether a step of the members needs `sample_all`.
    pub(crate) fn needs_all(&self) -> bool {
        self.members.iter().any(|&slot| self.slots[slot as usize].0)
    }

    /// Launches the choice of a step's rows, behind its logits.
    ///
    /// # Errors
    /// The driver's.
    pub(crate) fn issue(&self, stream: &Stream, rows: usize, all: bool) -> Result<(), Error> {
        stream.launch(&self.sample, self.args.launch(rows), &self.args)?;
        if all { stream.launch(&self.sample_all, self.args.launch_all(rows), &self.args) } else { Ok(()) }
    }

    /// The recorded step of so many rows.
    pub(crate) fn graph(&mut self, rows: usize, all: bool) -> &mut Option<Graph> {
        &mut self.graphs[usize::from(all)][rows]
    }

    /// The token a member chose in the oldest step under way, if it is there.
    pub(crate) fn peek(&self, member: usize) -> Option<sample::Chosen> {
        let slot = self.members[member] as usize;
        let taken = self.slots[slot].1;
        let found = sample::Chosen::new(self.outbox.get(slot * OUTBOX + taken as usize % OUTBOX));
        (found.number == taken + 1).then_some(found)
    }

    /// Counts a member's token as taken.
    pub(crate) fn taken(&mut self, member: usize) {
        self.slots[self.members[member] as usize].1 += 1;
    }
}

/// The same in the kernels' terms. The random numbers do not start from a seed.
fn settings(choosing: &Choosing) -> Settings {
    Settings {
        temperature: choosing.temperature,
        top_k: choosing.top_k,
        top_p: choosing.top_p,
        min_p: choosing.min_p,
        repeat_penalty: choosing.repeat_penalty,
        presence_penalty: choosing.presence_penalty,
        frequency_penalty: choosing.frequency_penalty,
        window: choosing.window,
        seed: 0,
    }
}
