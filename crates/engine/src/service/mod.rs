//! One engine for many: a thread that owns it, and a bounded queue in front.
//!
//! [`Service::submit`] never waits: a request is queued or refused at once. The thread starts queued requests as
//! places become free, steps all of them together, and tells each request's [`Sink`] what happens. A sink must
//! not wait either, because everybody waits for it. Dropping a [`Ticket`] cancels its request before the next
//! step, be it queued, in its prompt or generating.
//!
//! Sequences whose requests ended stay in their slots, idle, as long as slots last: what they have in common with
//! a later prompt is not computed again (`shelf.rs`). Whose pages go when pages are short, the engine decides.
//!
//! Nothing here is async or knows of HTTP; a server brings its own sinks.

mod job;
mod metrics;
mod pace;
mod shelf;
mod worker;

pub use job::{Answer, Request, Sink, Update, Why};
pub use metrics::{BOUNDS, Count, Histogram, Metrics};

use crate::{Engine, SequenceId};
use job::Waiting;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use worker::Worker;

/// Time since some fixed moment, for all threads.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Told when a service has ended, and what went wrong, if anything did.
pub type Closed = Box<dyn FnOnce(Option<&str>) + Send>;

/// How much a service takes on.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Most answers generated at a time; at least 1, and no more than the engine has slots.
    pub parallel: usize,
    /// Most answers waiting besides those being generated.
    pub queue: usize,
    /// How long an answer may take from its submission on; `None` for ever.
    pub timeout: Option<Duration>,
    /// An idle sequence that is kept for others to share its beginning, such as a system prompt's.
    pub preloaded: Option<SequenceId>,
}

/// Why a request is not taken on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The queue is full.
    #[error("all {places} places are taken; try again in {} s", retry.as_secs())]
    Full {
        /// Answers generated and waiting at most.
        places: usize,
        /// When one of them is likely to be free; whole seconds, at least one.
        retry: Duration,
    },
    /// More answers at once than are generated at a time.
    #[error("{answers} answers are asked for at once, but only {parallel} are generated at a time")]
    TooMany {
        /// Answers of the request.
        answers: usize,
        /// What is possible.
        parallel: usize,
    },
    /// The service is ending.
    #[error("the server is shutting down; try again when it is back")]
    Draining,
    /// The service has ended, most likely because its device went away.
    #[error("the engine has stopped: {0}; start the server again")]
    Closed(String),
}

/// What to do.
enum Command {
    /// Take this on.
    Submit(Box<Waiting>),
    /// Look at who was cancelled.
    Look,
    /// Start nothing more.
    Drain,
    /// End everything.
    Stop,
}

const OPEN: u8 = 0;
const DRAINING: u8 = 1;
const CLOSED: u8 = 2;

/// What the service's handles and its thread have in common.
struct Shared {
    metrics: Metrics,
    /// Answers queued or being generated.
    load: AtomicUsize,
    state: AtomicU8,
    /// Why the thread ended, if not because it was asked to.
    failure: OnceLock<String>,
}

/// A thread that owns an engine, seen from outside.
pub struct Service {
    commands: Sender<Command>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    clock: Clock,
    settings: Settings,
    context: usize,
    vocab: usize,
}

impl Service {
    /// Starts the thread. `closed` is called when it ends, whyever: with what went wrong, if anything did.
    pub fn start(
        engine: Engine,
        mut settings: Settings,
        clock: Clock,
        closed: Closed,
    ) -> std::io::Result<Service> {
        settings.parallel = settings.parallel.clamp(1, engine.runner().options().slots.max(1));
        let shared = Arc::new(Shared {
            metrics: Metrics::default(),
            load: AtomicUsize::new(0),
            state: AtomicU8::new(OPEN),
            failure: OnceLock::new(),
        });
        let (commands, inbox) = mpsc::channel();
        let (context, vocab) = (engine.context(), engine.runner().plan().shape.vocab);
        let worker_clock: crate::Clock = {
            let clock = clock.clone();
            Box::new(move || clock())
        };
        let worker = Worker::new(engine, &settings, worker_clock, shared.clone(), inbox);
        let end = End { shared: shared.clone(), closed: Some(closed) };
        let thread = thread::Builder::new().name("engine".to_owned()).spawn(move || {
            let end = end;
            if let Err(lost) = worker.run() {
                let _ = end.shared.failure.set(lost.to_string());
            }
        })?;
        Ok(Service { commands, shared, thread: Some(thread), clock, settings, context, vocab })
    }

    /// Most tokens of a prompt and its answer together.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Tokens the model knows.
    pub fn vocab(&self) -> usize {
        self.vocab
    }

    /// What it was started with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What it did so far.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Queues a request.
    ///
    /// # Errors
    /// When it cannot be queued now; its sinks are told nothing.
    pub fn submit(&self, request: Request) -> Result<Ticket, Refused> {
        let mut tickets = self.submit_all(vec![request])?;
        Ok(tickets.pop().expect("one ticket for one request"))
    }

    /// Queues all of several requests or none.
    ///
    /// # Errors
    /// Those of [`Service::submit`].
    pub fn submit_all(&self, requests: Vec<Request>) -> Result<Vec<Ticket>, Refused> {
        let Settings { parallel, queue, timeout, .. } = self.settings;
        match self.shared.state.load(Ordering::Acquire) {
            OPEN => {}
            DRAINING => return Err(Refused::Draining),
            _ => return Err(self.closed()),
        }
        if let Some(answers) = requests.iter().map(|r| r.answers.len()).find(|&answers| answers > parallel) {
            return Err(Refused::TooMany { answers, parallel });
        }
        let places = parallel + queue;
        let answers: usize = requests.iter().map(|request| request.answers.len()).sum();
        let room = |load: usize| Some(load + answers).filter(|&load| load <= places);
        if self.shared.load.fetch_update(Ordering::AcqRel, Ordering::Acquire, room).is_err() {
            self.shared.metrics.refused.add(requests.len() as u64);
            return Err(Refused::Full { places, retry: self.retry() });
        }
        let now = (self.clock)();
        let mut tickets = Vec::with_capacity(requests.len());
        for request in requests {
            let cancelled = Arc::new(AtomicBool::new(false));
            let allowed = match (request.timeout, timeout) {
                (Some(own), Some(general)) => Some(own.min(general)),
                (own, general) => own.or(general),
            };
            let deadline = allowed.map(|allowed| now.saturating_add(allowed));
            self.shared.metrics.requests.add(1);
            self.shared.metrics.queued.add(1);
            let waiting = Waiting { request, cancelled: cancelled.clone(), arrived: now, deadline };
            if self.commands.send(Command::Submit(Box::new(waiting))).is_err() {
                return Err(self.closed());
            }
            tickets.push(Ticket { cancelled, commands: self.commands.clone() });
        }
        Ok(tickets)
    }

    /// Takes nothing more on and refuses what is queued; what is being generated goes on.
    pub fn drain(&self) {
        let _ = self.shared.state.compare_exchange(OPEN, DRAINING, Ordering::AcqRel, Ordering::Acquire);
        let _ = self.commands.send(Command::Drain);
    }

    /// Ends everything; sinks are told [`Why::Shutdown`].
    pub fn stop(&self) {
        self.drain();
        let _ = self.commands.send(Command::Stop);
    }

    /// Whether nothing is queued or being generated.
    pub fn is_idle(&self) -> bool {
        self.shared.load.load(Ordering::Acquire) == 0
    }

    /// Whether new requests are taken.
    pub fn is_open(&self) -> bool {
        self.shared.state.load(Ordering::Acquire) == OPEN
    }

    /// Why the engine stopped, if something went wrong.
    pub fn failure(&self) -> Option<&str> {
        self.shared.failure.get().map(String::as_str)
    }

    /// When somebody who was refused should ask again: as long as answers took lately, by how many wait for
    /// each place.
    fn retry(&self) -> Duration {
        const LONGEST: u64 = 60;
        let each = self.shared.metrics.answer_seconds.mean();
        let waiting = self.shared.metrics.queued.get() as f64 / self.settings.parallel as f64;
        Duration::from_secs(((each * waiting.max(1.0)).ceil() as u64).clamp(1, LONGEST))
    }

    fn closed(&self) -> Refused {
        Refused::Closed(self.failure().unwrap_or("it was told to").to_owned())
    }
}

impl Drop for Service {
    /// Ends everything and waits for the thread; unless that is who drops it, by what it was told to call.
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take().filter(|other| other.thread().id() != thread::current().id())
        {
            let _ = thread.join();
        }
    }
}

/// A request on its way; dropping it cancels the request.
#[must_use = "a request is cancelled when its ticket is dropped"]
pub struct Ticket {
    cancelled: Arc<AtomicBool>,
    commands: Sender<Command>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Release);
        let _ = self.commands.send(Command::Look);
    }
}

/// Says that the thread has ended, also if it panicked.
struct End {
    shared: Arc<Shared>,
    closed: Option<Closed>,
}

impl Drop for End {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = self.shared.failure.set("an internal error, printed above".to_owned());
        }
        self.shared.state.store(CLOSED, Ordering::Release);
        if let Some(closed) = self.closed.take() {
            closed(self.shared.failure.get().map(String::as_str));
        }
    }
}
