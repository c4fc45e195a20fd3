//! What was measured, as rows that every output prints.

use std::collections::BTreeMap;

use model::Plan;
use serde_json::json;

use super::power::Energy;
use super::roof::Roof;
use super::work::{self, Work};
use crate::cmd::speed_test::Test;

/// From here on an operation's limit is the memory: the rest is starting and ending.
const FULL: f64 = 0.6;
/// Above this it is not the memory that is read: the roof is measured to a few per cent.
const CACHED: f64 = 1.1;
/// Operations a byte above which arithmetic and not memory is the limit of all processors there are.
const ARITHMETIC: f64 = 32.0;

/// Times and work of one operation, or of several, for a token or a prompt.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) seconds: f64,
    /// Launches on a GPU; on cores, parts of the walk.
    pub(super) launches: f64,
    pub(super) work: Work,
}

/// What stops an operation from being faster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// It reads nearly as fast as memory can be read.
    Bandwidth,
    /// It makes many operations with each byte.
    Compute,
    /// Starting, waiting, ending: the bytes need a small part of the time.
    Latency,
}

impl Row {
    /// Bytes a second.
    pub(super) fn rate(&self) -> f64 {
        self.work.bytes / self.seconds.max(1e-12)
    }

    /// Of the measured roof.
    pub(super) fn share(&self, roof: &Roof) -> f64 {
        self.rate() / roof.best
    }

    /// Operations a second.
    pub(super) fn operations(&self) -> f64 {
        self.work.operations / self.seconds.max(1e-12)
    }

    pub(super) fn limit(&self, roof: &Roof) -> Limit {
        if self.work.operations > ARITHMETIC * self.work.bytes.max(1.0) {
            Limit::Compute
        } else if self.share(roof) >= FULL {
            Limit::Bandwidth
        } else {
            Limit::Latency
        }
    }

    /// The limit in words; `run` is what the device calls one.
    pub(super) fn words(&self, roof: &Roof, run: &str) -> String {
        let each = |seconds: f64| micros(seconds / self.launches.max(1.0));
        match self.limit(roof) {
            Limit::Bandwidth if self.share(roof) > CACHED => {
                format!("bandwidth of a cache: {:.0} % of what memory gives", 100.0 * self.share(roof))
            }
            Limit::Bandwidth => format!("bandwidth: {:.0} % of what memory gives", 100.0 * self.share(roof)),
            Limit::Compute => format!("compute: {} operations/s", si(self.operations())),
            Limit::Latency if self.work.bytes < 1.0 => {
                format!("latency: {} a {run}, with next to nothing to read", each(self.seconds))
            }
            Limit::Latency => format!(
                "latency: {} a {run}, of which its bytes need {}",
                each(self.seconds),
                each(self.work.bytes / roof.best)
            ),
        }
    }

    fn json(&self, roof: &Roof) -> serde_json::Value {
        json!({
            "name": self.name,
            "seconds": self.seconds,
            "launches": self.launches,
            "bytes": self.work.bytes,
            "operations": self.work.operations,
            "bytes_per_second": self.rate(),
            "share_of_roof": self.share(roof),
            "operations_per_second": self.operations(),
            "limit": match self.limit(roof) {
                Limit::Bandwidth => "bandwidth",
                Limit::Compute => "compute",
                Limit::Latency => "latency",
            },
        })
    }
}

/// A test, measured. Seconds are those of a token, or of the whole prompt.
pub(super) struct Profile {
    pub(super) test: Test,
    /// By the clock of the host, as users run it: the median.
    pub(super) untraced: f64,
    /// The same while operations are timed.
    pub(super) traced: f64,
    /// By kind, the longest first.
    pub(super) kinds: Vec<Row>,
    /// By layer, in order.
    pub(super) layers: Vec<Row>,
    pub(super) energy: Option<Energy>,
    /// What the device calls the run of an operation.
    pub(super) run: &'static str,
}

impl Profile {
    /// Groups the times of the plan's operations, all of them for one token or one prompt.
    pub(super) fn new(plan: &Plan, test: Test, times: &[(f64, f64)], work: &[Work], gpu: bool) -> Profile {
        let mut rows: Vec<Row> = (plan.ops.iter().zip(times).zip(work))
            .map(|((op, &(seconds, launches)), &work)| Row {
                name: work::kind(plan, op),
                seconds,
                launches,
                work,
            })
            .collect();
        give_on(&mut rows);
        let mut kinds: Vec<Row> = Vec::new();
        for row in &rows {
            match kinds.iter_mut().find(|kind| kind.name == row.name) {
                Some(kind) => kind.add(row),
                None => kinds.push(row.clone()),
            }
        }
        // What is part of another's launch has no time of its own.
        kinds.retain(|kind| kind.seconds > 0.0);
        kinds.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        let mut layers: BTreeMap<usize, Row> = BTreeMap::new();
        let mut around = Row { name: "around".to_owned(), ..Row::default() };
        for (row, layer) in rows.iter().zip(work::layers(plan)) {
            match layer {
                Some(layer) => {
                    let named = || Row { name: layer.to_string(), ..Row::default() };
                    layers.entry(layer).or_insert_with(named).add(row);
                }
                None => around.add(row),
            }
        }
        let layers = layers.into_values().chain([around]).collect();
        Profile {
            test,
            untraced: 0.0,
            traced: 0.0,
            kinds,
            layers,
            energy: None,
            run: if gpu { "launch" } else { "run" },
        }
    }

    /// What the operations take together.
    pub(super) fn parts(&self) -> f64 {
        self.kinds.iter().map(|row| row.seconds).sum()
    }

    pub(super) fn launches(&self) -> f64 {
        self.kinds.iter().map(|row| row.launches).sum()
    }

    /// Everything that has to be moved.
    pub(super) fn bytes(&self) -> f64 {
        self.layers.iter().map(|row| row.work.bytes).sum()
    }

    /// An operation's part of the sum.
    pub(super) fn part(&self, row: &Row) -> f64 {
        row.seconds / self.parts().max(1e-12)
    }

    /// Share of the roof of a whole step as users run it.
    pub(super) fn share(&self, roof: &Roof) -> f64 {
        self.bytes() / self.untraced.max(1e-12) / roof.best
    }

    /// What the numbers are of.
    pub(super) fn unit(&self) -> &'static str {
        if self.test.prompt > 0 { "prompt" } else { "token" }
    }

    pub(super) fn tokens_per_second(&self) -> f64 {
        self.test.tokens() as f64 / self.test.units() as f64 / self.untraced.max(1e-12)
    }

    /// The step's time beside the sum of its parts, in words.
    pub(super) fn gap(&self) -> String {
        let gap = self.untraced - self.parts();
        let (time, share) = (micros(gap.abs()), 100.0 * gap.abs() / self.untraced.max(1e-12));
        let gpu = self.run == "launch";
        match (gap >= 0.0, gpu) {
            (true, true) => {
                format!("{time} ({share:.0} % of it) lie outside of the operations: gaps, copies, the host")
            }
            (true, false) => {
                format!("{time} ({share:.0} % of it) lie outside of the operations: the engine, meetings")
            }
            (false, true) => format!("{time} ({share:.0} %) less than the sum: untraced, launches overlap"),
            (false, false) => {
                format!("{time} ({share:.0} %) less than the sum: looking at the clock, or other programs")
            }
        }
    }

    /// The three operations that take longest, in words.
    pub(super) fn bottlenecks(&self, roof: &Roof) -> Vec<String> {
        let line = |row: &Row| {
            format!(
                "{}: {:.0} % of the operations' time; {}",
                row.name,
                100.0 * self.part(row),
                row.words(roof, self.run)
            )
        };
        self.kinds.iter().take(3).map(line).collect()
    }

    pub(super) fn json(&self, roof: &Roof, layers: bool) -> serde_json::Value {
        let rows = |rows: &[Row]| rows.iter().map(|row| row.json(roof)).collect::<Vec<_>>();
        let mut object = json!({
            "name": self.test.name(),
            "n_prompt": self.test.prompt,
            "n_gen": self.test.generate,
            "n_depth": self.test.depth,
            "unit": self.unit(),
            "tokens_per_second": self.tokens_per_second(),
            "untraced_seconds": self.untraced,
            "traced_seconds": self.traced,
            "sum_of_parts_seconds": self.parts(),
            "launches": self.launches(),
            "bytes": self.bytes(),
            "share_of_roof": self.share(roof),
            "ops": rows(&self.kinds),
            "bottlenecks": self.bottlenecks(roof),
            "energy": self.energy.map(|energy| json!({
                "joules": energy.joules,
                "seconds": energy.seconds,
                "tokens": energy.tokens,
                "watts": energy.watts(),
                "tokens_per_joule": energy.tokens_per_joule(),
            })),
        });
        if layers {
            object["layers"] = rows(&self.layers).into();
        }
        object
    }
}

impl Row {
    fn add(&mut self, other: &Row) {
        self.seconds += other.seconds;
        self.launches += other.launches;
        self.work.add(other.work);
    }
}

/// What is part of a later operation's launch has no time of its own: its work is that launch's.
fn give_on(rows: &mut [Row]) {
    let mut carried = Work::default();
    for row in rows.iter_mut() {
        if row.seconds > 0.0 {
            row.work.add(std::mem::take(&mut carried));
        } else {
            carried.add(std::mem::take(&mut row.work));
        }
    }
    if let Some(last) = rows.iter_mut().rev().find(|row| row.seconds > 0.0) {
        last.work.add(carried);
    }
}

/// A time in the unit that suits it.
pub(super) fn micros(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.1} µs", s * 1e6),
        s if s < 1.0 => format!("{:.2} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

/// A number with a decimal prefix: `1.23 T`.
pub(super) fn si(value: f64) -> String {
    match value {
        v if v >= 1e12 => format!("{:.2} T", v / 1e12),
        v if v >= 1e9 => format!("{:.2} G", v / 1e9),
        v if v >= 1e6 => format!("{:.2} M", v / 1e6),
        v if v >= 1e3 => format!("{:.2} k", v / 1e3),
        v => format!("{v:.0} "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOF: Roof = Roof { best: 100e9, median: 99e9, bytes: 1 };

    fn row(seconds: f64, launches: f64, bytes: f64, operations: f64) -> Row {
        Row { name: "op".to_owned(), seconds, launches, work: Work { bytes, operations } }
    }

    #[test]
    fn limits_are_told_apart() {
        // 80 MB in 1 ms of 100 GB/s.
        let full = row(1e-3, 1.0, 80e6, 300e6);
        assert_eq!(
            (full.limit(&ROOF), full.words(&ROOF, "launch")),
            (Limit::Bandwidth, "bandwidth: 80 % of what memory gives".to_owned())
        );
        // 1 MB needs 10 µs and takes 100, in ten launches.
        let late = row(100e-6, 10.0, 1e6, 4e6);
        assert_eq!(late.limit(&ROOF), Limit::Latency);
        assert_eq!(late.words(&ROOF, "launch"), "latency: 10.0 µs a launch, of which its bytes need 1.0 µs");
        let busy = row(1e-3, 1.0, 1e6, 2e9);
        assert_eq!(
            (busy.limit(&ROOF), busy.words(&ROOF, "launch")),
            (Limit::Compute, "compute: 2.00 T operations/s".to_owned())
        );
        assert!(row(1e-6, 1.0, 0.0, 0.0).words(&ROOF, "run").contains("next to nothing"));
    }

    #[test]
    fn work_goes_to_the_launch_that_does_it() {
        let mut rows = [row(0.0, 0.0, 1.0, 2.0), row(1.0, 1.0, 10.0, 20.0), row(0.0, 0.0, 100.0, 200.0)];
        give_on(&mut rows);
        assert_eq!(rows.map(|row| row.work.bytes as u64), [0, 111, 0]);
    }

    #[test]
    fn numbers_have_units() {
        assert_eq!(
            (micros(2.5e-6), micros(0.0125), micros(3.0)),
            ("2.5 µs".into(), "12.50 ms".into(), "3.00 s".into())
        );
        assert_eq!((si(1.5e12), si(5e9), si(12.0)), ("1.50 T".into(), "5.00 G".into(), "12 ".into()));
    }
}
