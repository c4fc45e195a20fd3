//! What all requests share.

use crate::config::Config;
use crate::error::Refusal;
use crate::model::{Model, now};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use tokio::sync::Semaphore;

/// Bytes of bodies are counted in pieces of this many.
pub(crate) const GRAIN: usize = 1 << 10;
/// Requests that are parsed, rendered and tokenized at a time: the engine's threads need the other cores.
const WORKERS: usize = 2;

/// How far the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Loading,
    Ready,
    Draining,
    Failed,
}

impl Phase {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Phase::Loading => "loading",
            Phase::Ready => "ready",
            Phase::Draining => "draining",
            Phase::Failed => "failed",
        }
    }
}

/// The server's state.
pub(crate) struct App {
    pub(crate) config: Config,
    model: OnceLock<Arc<Model>>,
    phase: AtomicU8,
    pub(crate) started: Instant,
    /// Room for bodies, in [`GRAIN`]s.
    pub(crate) bodies: Arc<Semaphore>,
    pub(crate) workers: Semaphore,
    pub(crate) connections: AtomicUsize,
    /// Responses by status, from 100 on.
    statuses: Vec<AtomicU64>,
    /// For names of requests and answers, which nobody should guess from others.
    secret: RandomState,
    serial: AtomicU64,
}

impl App {
    pub(crate) fn new(config: Config) -> App {
        App {
            bodies: Arc::new(Semaphore::new(config.bodies_bytes / GRAIN)),
            config,
            model: OnceLock::new(),
            phase: AtomicU8::new(Phase::Loading as u8),
            started: Instant::now(),
            workers: Semaphore::new(WORKERS),
            connections: AtomicUsize::new(0),
            statuses: (100..600).map(|_| AtomicU64::new(0)).collect(),
            secret: RandomState::new(),
            serial: AtomicU64::new(0),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        let all = [Phase::Loading, Phase::Ready, Phase::Draining, Phase::Failed];
        all[usize::from(self.phase.load(Ordering::Acquire))]
    }

    /// Phases only go forward.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
    }

    /// Serves a model from now on.
    pub(crate) fn serve(&self, model: Model) {
        let _ = self.model.set(Arc::new(model));
        self.enter(Phase::Ready);
    }

    /// The model, whatever the phase.
    pub(crate) fn loaded(&self) -> Option<&Arc<Model>> {
        self.model.get()
    }

    /// The model, if it is to be used.
    pub(crate) fn model(&self) -> Result<&Arc<Model>, Refusal> {
        match (self.phase(), self.model.get()) {
            (Phase::Ready, Some(model)) => Ok(model),
            (Phase::Draining, _) => {
                let message = "the server is shutting down; try again when it is back";
                Err(Refusal::unavailable("shutting_down", message, 5))
            }
            (Phase::Failed, _) => Err(Refusal::unavailable(
                "engine_stopped",
                "the engine has stopped; start the server again",
                10,
            )),
            _ => Err(Refusal::unavailable("loading", "the model is still being loaded; try again soon", 2)),
        }
    }

    /// A number that was never given before and says nothing about others.
    pub(crate) fn unique(&self) -> u64 {
        self.secret.hash_one(self.serial.fetch_add(1, Ordering::Relaxed))
    }

    /// A name and a time for an answer.
    pub(crate) fn stamp(&self) -> Stamp {
        Stamp { unique: [self.unique(), self.unique()], created: now() }
    }

    pub(crate) fn count(&self, status: u16) {
        if let Some(count) = self.statuses.get(usize::from(status).saturating_sub(100)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Statuses that were sent, and how often.
    pub(crate) fn statuses(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        let counts = self.statuses.iter().map(|count| count.load(Ordering::Relaxed));
        counts.enumerate().filter(|&(_, count)| count > 0).map(|(i, count)| (i + 100, count))
    }
}

/// An answer's name and when it was begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    unique: [u64; 2],
    pub(crate) created: i64,
}

impl Stamp {
    /// The name, with the prefix that says what of.
    pub(crate) fn id(&self, prefix: &str) -> String {
        format!("{prefix}{:016x}{:016x}", self.unique[0], self.unique[1])
    }
}
