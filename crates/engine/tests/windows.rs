//! Cache groups with a window keep little more than the window, and nobody can tell from the tokens.
#![allow(missing_docs)]

mod common;

use common::{CHOSEN_ROWS, Told, VOCAB, choose, greedy};
use engine::sample::argmax;
use engine::{Engine, Finish, SequenceId};
use model::runner::PAGE;
use model::{LoadOptions, Plan};
use proptest::prelude::*;
use std::time::Duration;
use testkit::fake::{FakeRunner, fake_logits, fake_options, fake_plan};

const CONTEXT: usize = 320;

/// What may be asked; numbers are of a sequence.
#[derive(Clone, Debug)]
enum Act {
    /// Goes on from the first so many tokens with others.
    Extend(usize, usize, Vec<u32>, usize),
    Truncate(usize, usize),
    Fork(usize),
    Feed(usize, usize),
    Cancel(usize),
    Close(usize),
    Steps(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let tokens = prop::collection::vec(0..VOCAB as u32, 1..120);
    prop_oneof![
        6 => (0usize..3, 0usize..CONTEXT, tokens, 0usize..90)
            .prop_map(|(i, kept, new, most)| Act::Extend(i, kept, new, most)),
        1 => (0usize..3, 0usize..CONTEXT).prop_map(|(i, len)| Act::Truncate(i, len)),
        1 => (0usize..3).prop_map(Act::Fork),
        1 => (0usize..3, 1usize..60).prop_map(|(i, count)| Act::Feed(i, count)),
        1 => (0usize..3).prop_map(Act::Cancel),
        1 => (0usize..3).prop_map(Act::Close),
        6 => (1usize..60).prop_map(Act::Steps),
    ]
}

fn fake(plan: &Plan, options: LoadOptions, ahead: usize) -> Engine {
    let fake = FakeRunner::new(plan.clone(), options);
    let fake = if ahead > 0 { fake.choosing(CHOSEN_ROWS, ahead, Box::new(choose)) } else { fake };
    Engine::new(Box::new(fake), None, Box::new(|| Duration::ZERO))
}

/// A sequence, what it was asked to go on from, and what it told.
struct One {
    id: SequenceId,
    prompt: Vec<u32>,
    told: Told,
}

impl One {
    /// Whether all it told is what follows its prompt by the definition.
    fn check(&self, plan: &Plan) -> Result<(), TestCaseError> {
        let mut history = self.prompt.clone();
        for &token in &self.told.tokens {
            prop_assert_eq!(token, argmax(&fake_logits(plan, &history)));
            history.push(token);
        }
        Ok(())
    }
}

fn step(engine: &mut Engine, ones: &mut [One]) -> bool {
    let hear = &mut |id, event: engine::Event<'_>| {
        ones.iter_mut().find(|one| one.id == id).expect("it was asked").told.hear(event);
    };
    engine.step(hear).expect("the fake is not lost")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Pages are checked by the fake: there are none beyond those of the group, and what was given back and
    /// used by another changes the tokens.
    #[test]
    fn nobody_misses_what_is_behind_a_window(
        acts in prop::collection::vec(act(), 1..30),
        windows in prop::collection::vec(prop::option::weighted(0.7, 1usize..100), 1..4),
        rows in 1usize..80,
        slots in 1usize..4,
        ahead in 0usize..5,
    ) {
        let plan = fake_plan(VOCAB, CONTEXT, &windows);
        let options = fake_options(rows, 2, slots, slots * CONTEXT.div_ceil(PAGE));
        let mut engine = fake(&plan, options, ahead);
        let mut ones: Vec<One> = vec![];
        for act in acts {
            let count = ones.len().max(1);
            match act {
                Act::Extend(i, kept, new, most) => {
                    if i >= ones.len() {
                        let Ok(id) = engine.open() else { continue };
                        ones.push(One { id, prompt: vec![], told: Told::default() });
                    }
                    let i = i.min(ones.len() - 1);
                    let old = engine.ids(ones[i].id).expect("it is open");
                    let mut prompt = old[..kept.min(old.len())].to_vec();
                    prompt.extend(new);
                    prompt.truncate(CONTEXT - 1);
                    if let Ok(reused) = engine.extend(ones[i].id, &prompt, &greedy(most)) {
                        ones[i].check(&plan)?;
                        prop_assert!(reused < prompt.len());
                        (ones[i].prompt, ones[i].told) = (prompt, Told::default());
                    }
                }
                Act::Truncate(i, len) => {
                    let Some(one) = ones.get(i % count) else { continue };
                    let before = engine.ids(one.id).expect("it is open").to_vec();
                    if engine.truncate(one.id, len).is_ok() {
                        let left = engine.ids(one.id).expect("it is open");
                        prop_assert_eq!(left, &before[..len.min(before.len())]);
                    }
                }
                Act::Fork(i) => {
                    let Some(id) = ones.get(i % count).map(|one| one.id) else { continue };
                    let Ok(fork) = engine.fork(id) else { continue };
                    ones.push(One { id: fork, prompt: vec![], told: Told::default() });
                }
                Act::Feed(i, more) => {
                    let Some(one) = ones.get(i % count) else { continue };
                    let ids: Vec<u32> = (0..more as u32).map(|id| id % 7).collect();
                    let (mut seen, before) = (vec![], engine.ids(one.id).expect("it is open").to_vec());
                    let fed = engine.feed(one.id, &ids, more - 1..more, &mut |i, row| seen.push((i, row.to_vec())));
                    if fed.is_ok() {
                        let history = engine.ids(one.id).expect("it is open");
                        prop_assert!(history.ends_with(&ids) && before.starts_with(&history[..history.len() - more]));
                        prop_assert_eq!(seen, [(more - 1, fake_logits(&plan, history))]);
                    }
                }
                Act::Cancel(i) => ones.get(i % count).into_iter().for_each(|one| engine.cancel(one.id)),
                Act::Close(i) => {
                    if ones.is_empty() {
                        continue;
                    }
                    let one = ones.swap_remove(i % count);
                    engine.close(one.id);
                    one.check(&plan)?;
                }
                Act::Steps(count) => {
                    for _ in 0..count {
                        step(&mut engine, &mut ones);
                    }
                }
            }
        }
        while step(&mut engine, &mut ones) {}
        for one in &ones {
            one.check(&plan)?;
            if let Some(summary) = one.told.summary {
                let full = one.prompt.len() + one.told.tokens.len() > CONTEXT;
                let asked = summary.stopped == Some(engine::Stopped::Tokens);
                prop_assert!(summary.finish == Finish::Cancelled || full || asked, "{:?}", summary);
            }
            engine.close(one.id);
        }
        let all = windows.iter().map(|&window| options.group_pages(window)).max();
        prop_assert_eq!(Some(engine.free_pages()), all, "every page came back");
    }

    /// The least that is enough: rows of one sequence, or of all of them, in any step, see what they must.
    #[test]
    fn a_group_has_what_its_windows_need(
        window in 1usize..700,
        rows in 1usize..300,
        cached in prop::collection::vec(0usize..5000, 1..5),
        shares in prop::collection::vec(0usize..100, 4),
    ) {
        let options = fake_options(rows, 1, cached.len(), 1 << 20);
        let total: usize = shares.iter().sum::<usize>().max(1);
        let needed: usize = cached.iter().zip(&shares).map(|(&cached, &share)| {
            let rows = share * rows / total;
            let first = (cached + 1).saturating_sub(window) / PAGE;
            (cached + rows).div_ceil(PAGE) - first.min((cached + rows).div_ceil(PAGE))
        }).sum();
        prop_assert!(needed <= options.group_pages(Some(window)), "{needed} pages");
        prop_assert_eq!(options.group_pages(None), 1 << 20);
    }
}

/// A long text needs few pages of the window's group, and going back a little reuses what is there still.
#[test]
fn going_back_a_little_is_free() {
    let plan = fake_plan(VOCAB, 2048, &[None, Some(64)]);
    let options = fake_options(128, 1, 1, 64);
    // The first formula: 191 positions lie in 7 pages.
    assert_eq!((options.group_pages(Some(64)), options.group_pages(Some(4096))), (7, 64));
    let mut engine = fake(&plan, options, 0);
    let id = engine.open().expect("the first slot is free");
    let mut run = |prompt: &[u32], n| common::extend(&mut engine, id, prompt, &greedy(n));
    let told = run(&[5; 100], 1500);
    assert_eq!((told.tokens.len(), told.summary().finish), (1500, Finish::Length));
    let mut history = [[5; 100].as_slice(), &told.tokens].concat();
    // 1599 positions are cached, in pages to 49; seven of them are there, from position 43 · 32 = 1376 on.
    history.truncate(1376 + 64);
    assert_eq!(run(&history, 3).summary().reused, 1376 + 63);
    history.truncate(1376 + 60);
    assert_eq!(run(&history, 3).summary().reused, 0, "position 1372 is gone, and computed anew");
    assert_eq!(run(&history, 3).summary().reused, 1376 + 59);
}
