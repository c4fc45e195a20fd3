//! From a file to an engine: the device, the sizes, the memory.

use std::sync::Arc;
use std::time::Instant;

use engine::Engine;
use gguf::Gguf;
use model::runner::{KvType, PAGE};
use model::{LoadOptions, Plan};
use text::Tokenizer;

use crate::args::Machine;
use crate::budget::{Budget, LONGEST, TYPES};
use crate::config::Config;
use crate::failure::bad_input;
use crate::screen::Screen;
use crate::target::Target;

/// Positions kept unless more are asked for or needed: what fits beside a model on a small machine.
const USUAL_CONTEXT: usize = 4096;
/// More positions than any model is trained for.
const MOST_CONTEXT: usize = 1 << 24;
/// Most bytes of logits a step may leave.
const LOGIT_BYTES: usize = 64 << 20;

/// Positions to plan for: those asked for, else a usual number that holds at least `wanted`.
pub(crate) fn context(file: &Gguf, asked: Option<usize>, wanted: usize) -> anyhow::Result<usize> {
    let trained = model::arch::spec(file)?.context.min(MOST_CONTEXT);
    Ok(positions(asked, trained)?.unwrap_or(trained.min(USUAL_CONTEXT.max(wanted))))
}

/// The positions of `--ctx-size`, where 0 stands for all that the model was `trained` on.
pub(crate) fn positions(asked: Option<usize>, trained: usize) -> anyhow::Result<Option<usize>> {
    match asked {
        Some(0) => Ok(Some(trained)),
        Some(context) if context > MOST_CONTEXT => {
            Err(bad_input(format!("--ctx-size is {context}; give a number from 0 to {MOST_CONTEXT}")))
        }
        asked => Ok(asked),
    }
}

/// The sizes of a run of one sequence. `logit_rows` is how many rows of logits a step should give; it
/// is lowered where the vocabulary makes them large.
pub(crate) fn options(
    plan: &Plan,
    machine: &Machine,
    logit_rows: usize,
    config: &Config,
) -> anyhow::Result<LoadOptions> {
    let rows = machine.rows()?.min(plan.context);
    let fit = LOGIT_BYTES / (plan.shape.vocab * size_of::<f32>()).max(1);
    Ok(LoadOptions {
        rows,
        logit_rows: logit_rows.min(rows).min(fit).max(1),
        slots: 1,
        pages: plan.context.div_ceil(PAGE),
        kv: machine.kv(KvType::F16),
        threads: machine.threads_for(plan, config)?,
    })
}

/// Loads a plan's weights, with a progress bar, and puts an engine on top. A GPU that nobody asked for and
/// that cannot take the plan is left for the cores.
pub(crate) fn engine(
    file: &Gguf,
    plan: &Plan,
    target: &mut Target,
    options: &LoadOptions,
    tokenizer: Option<Arc<Tokenizer>>,
    machine: &Machine,
    screen: Screen,
) -> anyhow::Result<Engine> {
    let mut progress = screen.bytes("loading", plan.weight_bytes());
    let mut progress_of = |done, total| progress.set(done, total);
    check_memory(file, plan, target, options, machine, screen)?;
    let was_gpu = target.is_gpu();
    let on_gpu = target.load_on_gpu(file, plan, options, screen, &mut progress_of)?;
    let runner = if let Some(runner) = on_gpu {
        runner
    } else {
        if was_gpu {
            check_memory(file, plan, target, options, machine, screen)?;
        }
        let device = target.plain().expect("what is no GPU is plain");
        device.load(file, plan, options, &mut progress_of)?
    };
    drop(progress);
    let start = Instant::now();
    Ok(Engine::new(runner, tokenizer, Box::new(move || start.elapsed())))
}

/// Says before loading that a run cannot fit, where the system tells how much is free.
fn check_memory(
    file: &Gguf,
    plan: &Plan,
    target: &mut Target,
    options: &LoadOptions,
    machine: &Machine,
    screen: Screen,
) -> anyhow::Result<()> {
    while let Some(refusal) = Budget::new(file, plan, target, machine)?.refusal(options) {
        if !target.may_leave() {
            anyhow::bail!(refusal);
        }
        target.leave(&refusal, screen);
    }
    Ok(())
}

/// What `-c auto` stands for: the machine with the best context and type of cache that fit. Without it the
/// machine as it is. Called once the vocabulary is loaded, if it is wanted at all.
pub(crate) fn settled(
    file: &Gguf,
    machine: &Machine,
    target: &mut Target,
    config: &Config,
    screen: Screen,
) -> anyhow::Result<Machine> {
    if !machine.fits_itself() {
        return Ok(machine.clone());
    }
    let limit = most(file)?;
    let (_, plan) = Plan::read(file, Some(limit))?;
    let options = options(&plan, machine, 1, config)?;
    let asked = machine.kv_asked();
    let types = asked.as_slice();
    loop {
        let budget = Budget::new(file, &plan, target, machine)?;
        if let Some((kv, positions)) =
            budget.best(&options, if types.is_empty() { &TYPES } else { types }, limit)
        {
            screen.note(&format!("note: -c auto takes {positions} positions, cache in {}", kv.name()));
            // What is usual without it stays so.
            let kv = Some(kv).filter(|&kv| kv != KvType::F16);
            return Ok(machine.settled(positions, kv));
        }
        let refusal = budget.refusal(&options);
        if !target.may_leave() {
            // What the device cannot run at all, it says itself.
            return refusal
                .map_or_else(|| Ok(machine.settled(limit, None)), |text| Err(anyhow::Error::msg(text)));
        }
        target.leave(&refusal.unwrap_or_else(|| "it cannot run this model".to_owned()), screen);
    }
}

/// The most positions that `-c auto` takes of a model.
pub(crate) fn most(file: &Gguf) -> anyhow::Result<usize> {
    Ok(model::arch::spec(file)?.context.clamp(1, LONGEST))
}
