//! The engine's thread: takes commands, starts what waits, steps what runs.

use super::job::{Answer, Sink, Update, Waiting, Why, over};
use super::pace::Pace;
use super::shelf::Shelf;
use super::{Command, OPEN, Settings, Shared};
use crate::{Clock, Engine, Event, Finish, Params, SequenceId, Summary};
use model::runner::Lost;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// An answer that has a place.
struct Running {
    id: SequenceId,
    sink: Box<dyn Sink>,
    cancelled: Arc<AtomicBool>,
    arrived: Duration,
    deadline: Option<Duration>,
    conversation: Option<String>,
    /// Why it was told to end, if it was.
    why: Option<Why>,
    /// When its last token was chosen.
    last: Option<Duration>,
    /// Tokens of its prompt computed so far.
    computed: usize,
    /// Whether its prompt is computed.
    streams: bool,
    /// What follows a prompt that is computed once for several answers: the first one's settings, and the
    /// others. Their places are taken already.
    several: Option<(Vec<u32>, Params, Vec<Answer>)>,
}

impl Running {
    fn places(&self) -> usize {
        1 + self.several.as_ref().map_or(0, |(_, _, others)| others.len())
    }

    /// Tells this answer, and those that wait for its prompt.
    fn tell_all(&mut self, update: &Update<'_>) {
        self.sink.hear(update.clone());
        if let Some((_, _, others)) = &mut self.several {
            for other in others {
                other.sink.hear(update.clone());
            }
        }
    }
}

/// The thread's state.
pub(super) struct Worker {
    engine: Engine,
    clock: Clock,
    shared: Arc<Shared>,
    inbox: Receiver<Command>,
    parallel: usize,
    queue: VecDeque<Waiting>,
    running: Vec<Running>,
    shelf: Shelf,
    pace: Pace,
    /// Whether every handle of the service is gone.
    alone: bool,
}

impl Worker {
    pub(super) fn new(
        engine: Engine,
        settings: &Settings,
        clock: Clock,
        shared: Arc<Shared>,
        inbox: Receiver<Command>,
    ) -> Worker {
        let mut shelf = Shelf::default();
        if let Some(id) = settings.preloaded {
            shelf.keep_for_all(id);
        }
        Worker {
            pace: Pace::new(engine.runner().options().rows),
            parallel: settings.parallel,
            queue: VecDeque::new(),
            running: Vec::new(),
            alone: false,
            shelf,
            engine,
            clock,
            shared,
            inbox,
        }
    }

    /// Works until the service is dropped or the device goes away; then everybody was told.
    pub(super) fn run(mut self) -> Result<(), Lost> {
        loop {
            self.gauges();
            self.listen();
            self.sweep();
            self.admit();
            if !self.running.is_empty() {
                if let Err(lost) = self.step() {
                    self.give_up(&Why::Failed(lost.to_string()));
                    return Err(lost);
                }
            } else if self.alone && self.queue.is_empty() {
                return Ok(());
            }
        }
    }

    /// Takes commands; waits for one if there is nothing else to do.
    fn listen(&mut self) {
        if self.running.is_empty() && self.queue.is_empty() && !self.alone {
            match self.inbox.recv() {
                Ok(command) => self.obey(command),
                Err(_) => self.alone = true,
            }
        }
        while let Ok(command) = self.inbox.try_recv() {
            self.obey(command);
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Submit(waiting) => {
                if self.shared.state.load(Ordering::Acquire) == OPEN {
                    self.queue.push_back(*waiting);
                } else {
                    self.never_began(*waiting, &Why::Shutdown);
                }
            }
            Command::Look => {}
            Command::Drain => self.refuse_queued(),
            Command::Stop => {
                self.refuse_queued();
                self.running.iter_mut().for_each(|running| running.why = Some(Why::Shutdown));
                self.alone = true;
            }
        }
    }

    fn refuse_queued(&mut self) {
        while let Some(waiting) = self.queue.pop_front() {
            self.never_began(waiting, &Why::Shutdown);
        }
    }

    /// Ends a request that had no place yet.
    fn never_began(&self, waiting: Waiting, why: &Why) {
        let metrics = &self.shared.metrics;
        let answers = waiting.request.answers.len();
        metrics.queued.sub(1);
        self.count_end(why, answers as u64);
        self.shared.load.fetch_sub(answers, Ordering::AcqRel);
        waiting.end(why);
    }

    fn count_end(&self, why: &Why, answers: u64) {
        let metrics = &self.shared.metrics;
        let count = match why {
            Why::Stop | Why::Length => &metrics.completed,
            Why::Timeout => &metrics.timed_out,
            Why::Cancelled => &metrics.cancelled,
            Why::Shutdown | Why::Failed(_) => &metrics.failed,
        };
        count.add(answers);
    }

    /// Ends what is cancelled or late.
    fn sweep(&mut self) {
        let now = (self.clock)();
        let mut at = 0;
        while at < self.queue.len() {
            match self.queue[at].over(now) {
                None => at += 1,
                Some(why) => {
                    let waiting = self.queue.remove(at).expect("the index is within the queue");
                    self.never_began(waiting, &why);
                }
            }
        }
        for running in &mut self.running {
            running.why = running.why.take().or_else(|| over(&running.cancelled, running.deadline, now));
            if running.why.is_some() {
                self.engine.cancel(running.id);
            }
        }
    }

    /// Starts what waits, in order, as far as there are places. A conversation's next request lets others
    /// pass until the one before it ends.
    fn admit(&mut self) {
        let mut taken: usize = self.running.iter().map(Running::places).sum();
        let mut at = 0;
        while at < self.queue.len() {
            let request = &self.queue[at].request;
            let conversation = request.conversation.as_ref();
            let talking = |running: &Running| running.conversation.as_ref() == conversation;
            let turn = |waiting: &Waiting| waiting.request.conversation.as_ref() == conversation;
            if conversation.is_some()
                && (self.running.iter().any(talking) || self.queue.iter().take(at).any(turn))
            {
                at += 1;
                continue;
            }
            let wanted = request.answers.len();
            if taken + wanted > self.parallel {
                break;
            }
            let waiting = self.queue.remove(at).expect("the index is within the queue");
            if self.begin(waiting) {
                taken += wanted;
            }
        }
    }

    /// Gives a request its place; whether that worked.
    fn begin(&mut self, mut waiting: Waiting) -> bool {
        let prompt = std::mem::take(&mut waiting.request.prompt);
        let conversation = waiting.request.conversation.clone();
        let mut evicted = 0;
        let others = self.running.iter().map(Running::places).sum();
        let place =
            (self.shelf).place(&mut self.engine, &prompt, conversation.as_deref(), others, &mut evicted);
        self.shared.metrics.evicted.add(evicted);
        let several = waiting.request.answers.len() > 1;
        let (id, cached) = match place {
            None => return self.could_not(waiting, None, "no sequence is free"),
            Some(id) => {
                let params = &waiting.request.answers[0].params;
                let only_prompt = Params { max_tokens: Some(0), ..params.clone() };
                let params = if several { &only_prompt } else { params };
                match self.engine.extend(id, &prompt, params) {
                    Ok(cached) => (id, cached),
                    Err(error) => return self.could_not(waiting, Some(id), &error.to_string()),
                }
            }
        };
        let now = (self.clock)();
        let Waiting { request, cancelled, arrived, deadline } = waiting;
        let mut answers = request.answers.into_iter();
        let first = answers.next().expect("a request asks for at least one answer");
        let mut running = Running {
            id,
            sink: first.sink,
            cancelled,
            arrived,
            deadline,
            conversation,
            why: None,
            last: None,
            computed: 0,
            streams: false,
            several: several.then(|| (prompt, first.params, answers.collect())),
        };
        let metrics = &self.shared.metrics;
        metrics.queued.sub(1);
        metrics.running.add(running.places() as u64);
        metrics.cached_tokens.add(cached as u64);
        metrics.queue_seconds.record(now.saturating_sub(arrived));
        running.tell_all(&Update::Started { cached });
        self.running.push(running);
        true
    }

    fn could_not(&mut self, waiting: Waiting, id: Option<SequenceId>, why: &str) -> bool {
        if let Some(id) = id {
            self.shelf.keep(id, waiting.request.conversation.clone());
        }
        self.never_began(waiting, &Why::Failed(why.to_owned()));
        false
    }

    /// One step of the engine, and what follows from it.
    fn step(&mut self) -> Result<(), Lost> {
        let streams = self.running.iter().filter(|running| running.streams).count();
        let chunk = self.pace.chunk(streams);
        self.engine.set_chunk(chunk);
        let Self { engine, running, clock, shared, .. } = self;
        let metrics = &shared.metrics;
        let before = clock();
        let (mut rows, mut tokens) = (0, 0);
        let mut ended: Vec<(SequenceId, Summary)> = Vec::new();
        engine.step(&mut |id, event| {
            let Some(running) = running.iter_mut().find(|running| running.id == id) else { return };
            match event {
                Event::Prompt { done, total } => {
                    rows += done - running.computed;
                    running.computed = done;
                    running.streams = done == total && running.several.is_none();
                    running.tell_all(&Update::Prompt { done, total });
                }
                Event::Token { id, logprob } => {
                    tokens += 1;
                    let now = clock();
                    match running.last.replace(now) {
                        Some(last) => metrics.between_tokens_seconds.record(now.saturating_sub(last)),
                        None => metrics.first_token_seconds.record(now.saturating_sub(running.arrived)),
                    }
                    running.sink.hear(Update::Token { id, logprob });
                }
                Event::Text(text) => running.sink.hear(Update::Text(text)),
                Event::Finished(summary) => ended.push((id, summary)),
            }
        })?;
        let took = clock().saturating_sub(before);
        self.pace.learn(took, rows, streams);
        metrics.steps.add(1);
        if tokens > 0 {
            metrics.generated_tokens.add(tokens);
            metrics.decode_nanos.add(took.as_nanos() as u64);
        }
        for (id, summary) in ended {
            self.end(id, &summary);
        }
        Ok(())
    }

    /// An answer's generation has ended.
    fn end(&mut self, id: SequenceId, summary: &Summary) {
        let Some(at) = self.running.iter().position(|running| running.id == id) else { return };
        let mut running = self.running.swap_remove(at);
        self.shared.metrics.prompt_tokens.add(summary.prompt as u64);
        if running.several.is_some() && running.why.is_none() && summary.finish != Finish::Cancelled {
            self.divide(running);
            return;
        }
        let why = match summary.finish {
            Finish::Stop => Why::Stop,
            Finish::Length => Why::Length,
            Finish::Cancelled => running.why.take().unwrap_or(Why::Cancelled),
        };
        let now = (self.clock)();
        self.shared.metrics.answer_seconds.record(now.saturating_sub(running.arrived));
        self.leave(&running, &why);
        self.shelf.keep(id, running.conversation.clone());
        // Told last: who asks for numbers on hearing it finds this answer in them.
        self.gauges();
        running.tell_all(&Update::Ended(&why, Some(summary)));
    }

    /// Frees the places of an answer.
    fn leave(&self, running: &Running, why: &Why) {
        let places = running.places();
        self.shared.metrics.running.sub(places as u64);
        self.count_end(why, places as u64);
        self.shared.load.fetch_sub(places, Ordering::AcqRel);
    }

    /// A prompt for several answers is computed: each goes on in a copy of its own.
    fn divide(&mut self, mut first: Running) {
        let (prompt, params, others) = first.several.take().expect("only prompts for several are divided");
        let mut parts = vec![];
        for other in others {
            // The places are theirs, so a slot can be had; idle ones may be in it.
            let mut copy = self.engine.fork(first.id);
            if copy.is_err() && self.shelf.evict(&mut self.engine, None) {
                self.shared.metrics.evicted.add(1);
                copy = self.engine.fork(first.id);
            }
            let part = Running {
                id: first.id,
                sink: other.sink,
                cancelled: first.cancelled.clone(),
                arrived: first.arrived,
                deadline: first.deadline,
                conversation: None,
                why: None,
                last: None,
                computed: 0,
                streams: true,
                several: None,
            };
            parts.push((copy, part, other.params));
        }
        let own = first.id;
        parts.push((Ok(own), first, params));
        for (copy, mut part, params) in parts {
            let begun = copy.and_then(|id| {
                part.id = id;
                let begun = self.engine.extend(id, &prompt, &params);
                begun.inspect_err(|_| self.shelf.keep(id, None))
            });
            if let Err(error) = begun {
                let why = Why::Failed(error.to_string());
                self.leave(&part, &why);
                part.sink.hear(Update::Ended(&why, None));
            } else {
                (part.computed, part.streams) = (0, true);
                self.running.push(part);
            }
        }
    }

    /// Tells everybody that nothing goes on.
    fn give_up(&mut self, why: &Why) {
        for mut running in std::mem::take(&mut self.running) {
            self.leave(&running, why);
            running.tell_all(&Update::Ended(why, None));
        }
        // Those who were quicker than the news.
        while let Ok(command) = self.inbox.try_recv() {
            if let Command::Submit(waiting) = command {
                self.queue.push_back(*waiting);
            }
        }
        while let Some(waiting) = self.queue.pop_front() {
            self.never_began(waiting, why);
        }
    }

    /// What can be counted now.
    fn gauges(&self) {
        let ids = self.shelf.ids().chain(self.running.iter().map(|running| running.id));
        let tokens: usize = ids.map(|id| self.engine.ids(id).map_or(0, <[u32]>::len)).sum();
        self.shared.metrics.cache_tokens.set(tokens as u64);
        self.shared.metrics.idle.set(self.shelf.len() as u64);
    }
}
