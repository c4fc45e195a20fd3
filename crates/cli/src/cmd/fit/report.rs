//! What `fit` found, for people and for programs.

use std::io::{self, Write};

use model::runner::LoadOptions;
use serde_json::{Value, json};

use super::{Best, Cell, Fit};
use crate::budget::Sum;
use crate::screen::{count, printable, size};

/// Prints the table and what is around it.
pub(super) fn print(fit: &Fit) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let mut line = |name: &str, text: &str| writeln!(out, "{name:<8} {}", printable(text));
    let parameters = fit.file.tensors().iter().fold(0, |sum: u64, t| sum.saturating_add(t.elements()));
    let (name, trained) = (fit.file.name(), fit.trained);
    line("model", &format!("{name}: {} parameters, trained on {trained} positions", count(parameters)))?;
    let why = fit.why.map_or(String::new(), |why| format!("; planned for the cores: {why}"));
    line("device", &format!("{}{why}", fit.device))?;
    let free = fit.budget.free();
    let reserve = if free.reserve > 0 {
        format!("; {} of it stay in reserve for others", size(free.reserve))
    } else {
        String::new()
    };
    let shared = if fit.budget.is_shared() { ", shared by cores and GPU" } else { "" };
    match free.bytes {
        Some(bytes) => line("free", &format!("{}{shared}: {}{reserve}", size(bytes), free.source))?,
        None => line("free", "unknown: the system does not say")?,
    }
    if let Some(bytes) = fit.budget.device_free() {
        line("GPU", &format!("{} of its own memory is free: the driver", size(bytes)))?;
    }
    if fit.options.rows > 1 {
        line("steps", &format!("of {} rows; --batch-size makes them smaller", fit.options.rows))?;
    }
    table(&mut out, &fit.cells)?;
    if let Some(best) = &fit.best {
        let about = format!("{} positions, cache in {}", best.positions, best.kv.name());
        let mut line = |name: &str, text: &str| writeln!(out, "{name:<8} {}", printable(text));
        line("best", &format!("{about}: {}", parts(&best.sum)))?;
        line("command", &best.command)?;
    }
    Ok(())
}

/// `1.9 GiB = weights 770 MiB + …`.
fn parts(sum: &Sum) -> String {
    let memory = &sum.memory;
    let parts = [
        ("weights", memory.weights),
        ("cache", memory.kv),
        ("buffers", memory.buffers),
        ("pinned", sum.pinned),
        ("driver", sum.driver),
        ("program", sum.runtime),
    ];
    let parts = parts.iter().filter(|(_, bytes)| *bytes > 0);
    let parts: Vec<String> = parts.map(|(name, bytes)| format!("{name} {}", size(*bytes))).collect();
    let held = format!("{} are held already", size(sum.held));
    let all = sum.host() + sum.device();
    format!("{} = {}; {held}", size(all), parts.join(" + "))
}

/// Rows are contexts, columns types of cache.
fn table(out: &mut impl Write, cells: &[Cell]) -> io::Result<()> {
    let mut contexts: Vec<usize> = cells.iter().map(|cell| cell.context).collect();
    contexts.dedup();
    write!(out, "\n{:>9}", "context")?;
    for cell in cells.iter().filter(|cell| cell.context == contexts[0]) {
        write!(out, "  {:>18}", cell.kv.name())?;
    }
    writeln!(out)?;
    for context in contexts {
        write!(out, "{context:>9}")?;
        for cell in cells.iter().filter(|cell| cell.context == context) {
            let needs = cell.sum.as_ref().map_or("-".to_owned(), |sum| size(sum.host() + sum.device()));
            let answer = match (&cell.sum, cell.fits) {
                (None, _) => "not run",
                (_, true) => "fits",
                (_, false) => "too much",
            };
            write!(out, "  {needs:>9} {answer:<8}")?;
        }
        writeln!(out)?;
    }
    writeln!(out)
}

/// The same as one object.
pub(super) fn json(fit: &Fit) -> Value {
    let free = fit.budget.free();
    let cell = |cell: &Cell| {
        let mut object = match &cell.sum {
            Some(sum) => sum_json(sum),
            None => json!({}),
        };
        object["kv"] = cell.kv.name().into();
        object["context"] = cell.context.into();
        object["runs"] = cell.sum.is_some().into();
        object["fits"] = cell.fits.into();
        object
    };
    let best = |best: &Best| {
        let mut object = sum_json(&best.sum);
        object["kv"] = best.kv.name().into();
        object["context"] = best.positions.into();
        object["command"] = best.command.as_str().into();
        object["cache_groups"] = groups(fit, &best.sizes);
        object
    };
    json!({
        "model": fit.file.name(),
        "trained_context": fit.trained,
        "device": fit.device,
        "device_reason": fit.why,
        "shared_memory": fit.budget.is_shared(),
        "free": free.bytes,
        "free_source": free.source,
        "device_free": fit.budget.device_free(),
        "reserve": free.reserve,
        "threads": fit.options.threads,
        "batch_size": fit.options.rows,
        "table": fit.cells.iter().map(cell).collect::<Vec<_>>(),
        "best": fit.best.as_ref().map(best),
    })
}

/// A sum by its parts. `needed` is what is still to be taken of the machine, `peak` the most that the process
/// will hold of it, `device` what is taken of a GPU's own memory.
fn sum_json(sum: &Sum) -> Value {
    json!({
        "weights": sum.memory.weights,
        "cache": sum.memory.kv,
        "buffers": sum.memory.buffers,
        "pinned": sum.pinned,
        "driver": sum.driver,
        "program": sum.runtime,
        "held": sum.held,
        "needed": sum.host(),
        "device_needed": sum.device(),
        "peak": sum.peak(),
    })
}

/// What the layers of each group keep, in the plan's own sizes; a GPU may pad heads.
fn groups(fit: &Fit, options: &LoadOptions) -> Value {
    let group = |(index, group): (usize, &model::plan::KvGroup)| {
        json!({
            "layers": group.layers.len(),
            "window": group.window,
            "bytes": fit.plan.page_bytes(index, options) * options.group_pages(group.window) as u64,
        })
    };
    fit.plan.kv.iter().enumerate().map(group).collect::<Vec<_>>().into()
}
