//! What the machine allows while tokens are made: memory, heat and power, and who is told.
//!
//! A thread looks at the sensors: at free memory every 75 ms, at temperatures and power twice a second, which
//! the governors turn into a pace. It publishes both in atomics, says on stderr when a limit begins, changes
//! or ends, and writes the file that `monitor` reads. The engine asks [`Pacer`] between its steps; that costs
//! two atomic loads unless there is something to wait for.

mod tell;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use cuda::nvml::Nvml;
use engine::{Engine, Notice};
use platform::governor::power::Energy;
use platform::governor::{Governor, Limits, Reason, Settings};
use platform::warnings::{Warning, warnings};
use platform::{Readings, Root, Sensors};

use crate::args::{Limiting, Machine};
use crate::config::Config;
use crate::failure::bad_input;
use crate::free::Free;
use crate::interrupt;
use crate::screen::Screen;
use crate::status::{self, About, Cache, Counters, Now, Phase, Publisher};
use crate::target::Target;
use tell::{Teller, is_full};

/// Between two looks at free memory.
const TICK: Duration = Duration::from_millis(75);
/// Between two looks at temperatures and power, milliseconds.
const SAMPLE_MS: u64 = 500;
/// Between two lines of the status file, milliseconds.
const STATUS_MS: u64 = 1_000;
/// Between two looks at a board's counters of what costs speed, milliseconds.
const WARN_MS: u64 = 10_000;
/// More room than this is not asked for anew: nobody takes it within a tick.
const AMPLE: u64 = 1 << 30;
/// How long what was read is believed, with some room and with little. The engine asks before each step, which
/// may take less time than reading does.
const BELIEVED: Duration = Duration::from_millis(30);
const BELIEVED_OF_LITTLE: Duration = Duration::from_millis(5);
/// Little room.
const LITTLE: u64 = 64 << 20;
/// Longest wait of one answer to the engine.
const LONGEST: Duration = Duration::from_millis(100);
/// Shorter waits are put together: sleeping takes a twentieth of a millisecond at least.
const SHORTEST: Duration = Duration::from_millis(2);
/// A wait looks this often whether Ctrl-C was pressed.
const SLICE: Duration = Duration::from_millis(20);

/// The machine as it is before a model is loaded: sensors are open, and what cannot be kept is refused.
pub(crate) struct Watch {
    root: Root,
    sensors: Sensors,
    nvml: Option<Nvml>,
    power_budget: Option<f32>,
    reserve: u64,
    /// A GPU takes the machine's memory.
    shared_memory: bool,
    board: Option<Readings>,
    /// Where the status file goes.
    runtime: Option<PathBuf>,
    screen: Screen,
    off: bool,
}

impl Watch {
    /// Opens the sensors, says what costs a board its speed, and refuses a power budget nobody can measure.
    pub(crate) fn open(
        machine: &Machine,
        limiting: &Limiting,
        target: &Target,
        config: &Config,
        screen: Screen,
    ) -> anyhow::Result<Watch> {
        let root = machine.root()?;
        let sensors = Sensors::open(&root);
        let mut nvml = None;
        let mut shared_memory = false;
        if let Target::Gpu { cuda, .. } = target {
            shared_memory = cuda.device().integrated;
            // The first look at NVML takes a while: only who asks for it waits.
            if limiting.power_budget.is_some() && !sensors.has_power() && !cuda.device().emulated() {
                nvml = Nvml::open(cuda.options().device);
            }
        }
        if limiting.power_budget.is_some() && !sensors.has_power() && nvml.is_none() {
            return Err(bad_input(
                "--power-budget cannot be kept: no sensor here tells what is drawn; leave it out",
            ));
        }
        let readings = Readings::take(&root);
        let board = readings.board.is_jetson().then_some(readings);
        if let Some(now) = board.as_ref().filter(|_| !limiting.no_guard) {
            warnings(now, None)
                .iter()
                .filter(|warning| costs_speed(warning))
                .for_each(|warning| say(screen, warning));
        }
        Ok(Watch {
            reserve: Free::read(&root, shared_memory, machine.reserve).reserve,
            root,
            sensors,
            nvml,
            power_budget: limiting.power_budget,
            shared_memory,
            board,
            runtime: config.runtime.clone(),
            screen,
            off: limiting.no_guard,
        })
    }
}

impl Watch {
    /// The board's power mode.
    pub(crate) fn power_mode(&self) -> Option<String> {
        Some(self.board.as_ref()?.power_mode.current()?.name.clone())
    }
}

/// Whether a warning is about what makes the coming run slow; a mode is the user's choice, and a release's
/// faults are the doctor's business.
fn costs_speed(warning: &Warning) -> bool {
    match warning {
        Warning::GpuClock { .. }
        | Warning::NoSuper { .. }
        | Warning::OverCurrent { .. }
        | Warning::Thrash { .. } => true,
        Warning::SlowMode { .. } | Warning::RefusesMemory { .. } => false,
    }
}

fn say(screen: Screen, warning: &Warning) {
    screen.note(&format!("warning: {warning}; {}", warning.remedy()));
}

/// What the sensors' thread and the engine's share.
struct Shared {
    counters: Counters,
    /// Share of full speed, as bits.
    pace: AtomicU32,
    /// Bytes above the reserve; `u64::MAX` where nobody knows.
    room: AtomicU64,
    /// Times the engine asked.
    asked: AtomicU64,
    /// Energy up to the last look, J, as bits; what was drawn then, W, as bits; and when that was, ms.
    joules: AtomicU64,
    watts: AtomicU32,
    at_ms: AtomicU64,
    start: Instant,
    ended: AtomicBool,
}

impl Shared {
    fn new() -> Shared {
        Shared {
            counters: Counters::default(),
            pace: AtomicU32::new(1.0f32.to_bits()),
            room: AtomicU64::new(u64::MAX),
            asked: AtomicU64::new(0),
            joules: AtomicU64::new(0),
            watts: AtomicU32::new(0),
            at_ms: AtomicU64::new(0),
            start: Instant::now(),
            ended: AtomicBool::new(false),
        }
    }

    fn pace(&self) -> f32 {
        f32::from_bits(self.pace.load(Ordering::Relaxed))
    }
}

/// Keeps the machine's limits until it is dropped.
pub(crate) struct Guard {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Puts an engine under the machine's limits: steps are paced, memory is asked for, what happens to sequences
/// is told, and `monitor` sees it.
pub(crate) fn guard(engine: &mut Engine, watch: Watch, about: &About) -> Guard {
    let screen = watch.screen;
    engine.on_notice(Box::new(move |notice| match notice {
        Notice::OutOfMemory { .. } | Notice::GaveBack { .. } => screen.warn(&notice),
        _ => screen.remark(&notice),
    }));
    let shared = Arc::new(Shared::new());
    if watch.off {
        return Guard { shared, thread: None };
    }
    engine.set_limits(Box::new(Pacer::new(&shared, &watch)));
    let options = *engine.runner().options();
    let plan = engine.runner().plan();
    let cache = Cache {
        context: engine.context(),
        pages: options.pages,
        page_bytes: (0..plan.kv.len()).map(|group| plan.page_bytes(group, &options)).sum(),
    };
    let publisher = Publisher::begin(&status::folder(watch.runtime.as_deref()), about, cache);
    let mut sampler = Sampler::new(Arc::clone(&shared), watch, publisher);
    sampler.look(0);
    let thread = thread::Builder::new().name("sensors".to_owned()).stack_size(256 << 10).spawn(move || {
        while !sampler.shared.ended.load(Ordering::Acquire) {
            thread::park_timeout(TICK);
            sampler.look(sampler.shared.start.elapsed().as_millis() as u64);
        }
    });
    // Without a thread there are no limits, and no reason not to answer.
    Guard { shared, thread: thread.ok() }
}

impl Guard {
    /// What the loop that makes tokens counts.
    pub(crate) fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// What was drawn since the start, J; 0 without a sensor. What was drawn since the last look is taken to be
    /// what was drawn then.
    pub(crate) fn joules(&self) -> f64 {
        let shared = &self.shared;
        let watts = f64::from(f32::from_bits(shared.watts.load(Ordering::Relaxed)));
        let at = Duration::from_millis(shared.at_ms.load(Ordering::Relaxed));
        let since = shared.start.elapsed().saturating_sub(at);
        f64::from_bits(shared.joules.load(Ordering::Relaxed)) + watts * since.as_secs_f64()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It does not panic; if it did, nothing is left to be done about it here.
            let _ = thread.join();
        }
    }
}

/// What the engine asks.
struct Pacer {
    shared: Arc<Shared>,
    sensors: Option<Sensors>,
    reserve: u64,
    shared_memory: bool,
    /// The room that was read last, and when.
    read: Option<(Option<u64>, Instant)>,
    /// The pause that is due.
    owed: Duration,
}

impl Pacer {
    /// One that knows nothing of memory.
    fn idle(shared: &Arc<Shared>) -> Pacer {
        Pacer {
            shared: Arc::clone(shared),
            sensors: None,
            reserve: 0,
            shared_memory: false,
            read: None,
            owed: Duration::ZERO,
        }
    }

    fn new(shared: &Arc<Shared>, watch: &Watch) -> Pacer {
        Pacer {
            sensors: Some(Sensors::open(&watch.root)),
            reserve: watch.reserve,
            shared_memory: watch.shared_memory,
            ..Pacer::idle(shared)
        }
    }

    /// Sleeps, and says how long that was. Ctrl-C ends it.
    fn wait(time: Duration) -> Duration {
        let start = Instant::now();
        loop {
            let slept = start.elapsed();
            if slept >= time || interrupt::requested() {
                return slept;
            }
            thread::sleep(time.saturating_sub(slept).min(SLICE));
        }
    }
}

impl engine::Limits for Pacer {
    fn room(&mut self) -> Option<u64> {
        let cached = self.shared.room.load(Ordering::Relaxed);
        if cached == u64::MAX {
            return None;
        }
        if cached > AMPLE {
            return Some(cached);
        }
        let Some(sensors) = &mut self.sensors else { return Some(cached) };
        if let Some((room, at)) = self.read {
            let little = room.is_some_and(|room| room < LITTLE);
            if at.elapsed() < if little { BELIEVED_OF_LITTLE } else { BELIEVED } {
                return room;
            }
        }
        let room = sensors.room(self.reserve, self.shared_memory);
        self.read = Some((room, Instant::now()));
        room
    }

    fn gave_back(&mut self, _bytes: u64) {
        self.read = None;
    }

    fn admit(&mut self, worked: Duration) -> bool {
        self.shared.asked.fetch_add(1, Ordering::Relaxed);
        let pace = self.shared.pace();
        if pace >= 1.0 {
            self.owed = Duration::ZERO;
            return true;
        }
        if pace <= 0.0 {
            self.owed = Duration::ZERO;
            Pacer::wait(LONGEST);
            return false;
        }
        self.owed += Limits { pace, reason: Reason::Free }.pause(worked);
        if self.owed < SHORTEST {
            return true;
        }
        self.owed = self.owed.saturating_sub(Pacer::wait(self.owed.min(LONGEST)));
        self.owed < SHORTEST
    }
}

/// The thread that looks at the sensors.
struct Sampler {
    shared: Arc<Shared>,
    watch: Watch,
    governor: Governor,
    energy: Energy,
    teller: Teller,
    publisher: Option<Publisher>,
    now: Now,
    /// Times of the next looks, ms.
    next: Next,
    asked: u64,
    /// Kinds of warnings that were said.
    warned: Vec<std::mem::Discriminant<Warning>>,
}

/// When what is looked at next, ms.
#[derive(Default)]
struct Next {
    sample: u64,
    status: u64,
    warn: u64,
}

impl Sampler {
    fn new(shared: Arc<Shared>, watch: Watch, publisher: Option<Publisher>) -> Sampler {
        let settings = Settings { throttle: watch.sensors.throttle(), power_budget: watch.power_budget };
        Sampler {
            shared,
            governor: Governor::new(settings),
            energy: Energy::default(),
            teller: Teller::default(),
            publisher,
            now: Now { pace: 1.0, ..Now::default() },
            next: Next { warn: WARN_MS, ..Next::default() },
            asked: 0,
            warned: Vec::new(),
            watch,
        }
    }

    /// Looks at what is due.
    fn look(&mut self, at_ms: u64) {
        let room = self.watch.sensors.room(self.watch.reserve, self.watch.shared_memory);
        self.shared.room.store(room.unwrap_or(u64::MAX), Ordering::Relaxed);
        self.now.room = room;
        if at_ms >= self.next.sample {
            self.next.sample = at_ms + SAMPLE_MS;
            self.sample(at_ms);
        }
        if at_ms >= self.next.status {
            self.next.status = at_ms + STATUS_MS;
            if let Some(publisher) = &mut self.publisher {
                publisher.tell(at_ms, &self.shared.counters, &self.now);
            }
        }
        if at_ms >= self.next.warn {
            self.next.warn = at_ms + WARN_MS;
            self.warn();
        }
    }

    fn sample(&mut self, at_ms: u64) {
        let mut sample = self.watch.sensors.sample();
        if let Some(nvml) = &self.watch.nvml {
            sample.watts = nvml.power_watts().map(|watts| watts as f32);
        }
        let asked = self.shared.asked.load(Ordering::Relaxed);
        let busy = asked != self.asked || !self.shared.counters.is(Phase::Idle);
        self.asked = asked;
        self.energy.add(at_ms, sample.watts);
        if let Some(watts) = sample.watts {
            self.shared.joules.store(self.energy.joules().unwrap_or(0.0).to_bits(), Ordering::Relaxed);
            self.shared.watts.store(watts.to_bits(), Ordering::Relaxed);
            self.shared.at_ms.store(at_ms, Ordering::Relaxed);
        }
        let limits = self.governor.update(at_ms, &sample, busy);
        self.shared.pace.store(limits.pace.to_bits(), Ordering::Relaxed);
        self.now.watts = sample.watts;
        self.now.pace = limits.pace;
        self.now.limit.clear();
        if !is_full(limits) {
            use std::fmt::Write;
            let _ = write!(self.now.limit, "{limits}");
        }
        if busy && let Some(line) = self.teller.line(at_ms, limits) {
            self.watch.screen.note(&line);
        }
    }

    /// What began to cost the board its speed since it was last looked, each kind once.
    fn warn(&mut self) {
        let Some(before) = &self.watch.board else { return };
        let now = Readings::take(&self.watch.root);
        for warning in warnings(&now, Some((before, WARN_MS))) {
            let kind = std::mem::discriminant(&warning);
            let sudden = matches!(warning, Warning::OverCurrent { .. } | Warning::Thrash { .. });
            if sudden && !self.warned.contains(&kind) {
                self.warned.push(kind);
                say(self.watch.screen, &warning);
            }
        }
        self.watch.board = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;
    use std::time::{Duration, Instant};

    use engine::Limits as _;

    use super::{Pacer, Shared};

    fn shared(pace: f32) -> Arc<Shared> {
        let shared = Shared::new();
        shared.pace.store(pace.to_bits(), Ordering::Relaxed);
        Arc::new(shared)
    }

    #[test]
    fn the_pace_is_kept_over_short_and_long_steps() {
        for (worked, steps) in [(Duration::from_micros(200), 400), (Duration::from_millis(60), 2)] {
            let mut pacer = Pacer::idle(&shared(0.4));
            let start = Instant::now();
            for _ in 0..steps {
                let mut admitted = pacer.admit(worked);
                while !admitted {
                    admitted = pacer.admit(Duration::ZERO);
                }
            }
            // 1.5 times the work is paused; what sleeps too long is taken off the next.
            let due = worked * steps * 3 / 2;
            let waited = start.elapsed();
            assert!(waited + Duration::from_millis(2) >= due, "{waited:?} of {due:?}");
            assert!(waited < due + Duration::from_millis(250), "{waited:?} of {due:?}");
        }
    }

    #[test]
    fn a_full_stop_says_no_within_a_tenth_of_a_second_and_full_speed_at_once() {
        let shared = shared(0.0);
        let mut pacer = Pacer::idle(&shared);
        let start = Instant::now();
        assert!(!pacer.admit(Duration::from_secs(1)));
        assert!(start.elapsed() < Duration::from_millis(400), "{:?}", start.elapsed());
        shared.pace.store(1.0f32.to_bits(), Ordering::Relaxed);
        let start = Instant::now();
        assert!(pacer.admit(Duration::from_secs(1)));
        assert!(start.elapsed() < Duration::from_millis(250));
        assert_eq!(shared.asked.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn little_room_is_read_anew_and_at_once_after_something_was_given_back() {
        let tree = testkit::board::Tree::new();
        let available = |kb: u64| tree.write("/proc/meminfo", &format!("MemAvailable: {kb} kB\n"));
        available(100);
        let root = platform::Root::at(tree.path()).expect("a folder");
        let shared = shared(1.0);
        shared.room.store(1 << 20, Ordering::Relaxed);
        let mut pacer = Pacer {
            sensors: Some(platform::Sensors::open(&root)),
            reserve: 10 << 10,
            ..Pacer::idle(&shared)
        };
        assert_eq!(pacer.room(), Some(90 << 10));
        available(50);
        pacer.gave_back(1);
        assert_eq!(pacer.room(), Some(40 << 10));
        available(5);
        std::thread::sleep(super::BELIEVED_OF_LITTLE);
        assert_eq!(pacer.room(), Some(0));
    }

    #[test]
    fn room_is_what_the_thread_saw_where_there_is_plenty() {
        let shared = shared(1.0);
        let mut pacer = Pacer::idle(&shared);
        assert_eq!(pacer.room(), None);
        shared.room.store(5 << 30, Ordering::Relaxed);
        assert_eq!(pacer.room(), Some(5 << 30));
    }
}
