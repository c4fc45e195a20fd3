//! Conversations that come and go, are moved out of the cache and back, in an engine with too little room for
//! all of them: each is told what it would be told if it were alone.
#![allow(missing_docs)]

mod common;

use common::{CHOSEN_ROWS, Sizes, Told, VOCAB, choose, extend, greedy};
use engine::sample::argmax;
use engine::{Engine, Error, Event, Limits, MARGIN, Notice, Overflow, Params, Saved, SequenceId, Stopped};
use model::Plan;
use proptest::prelude::*;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testkit::fake::{FakeMemory, FakeRunner, fake_logits, fake_options, fake_plan};

const CONTEXT: usize = 200;

/// Bytes of a page of the fake.
const PAGE_BYTES: i64 = 8 * 32;

/// What the engine and others may take, less what is kept for others.
struct Meter {
    memory: FakeMemory,
    reserve: i64,
}

impl Limits for Meter {
    fn room(&mut self) -> Option<u64> {
        Some((self.memory.free() - self.reserve).max(0) as u64)
    }

    fn admit(&mut self, _worked: Duration) -> bool {
        true
    }
}

/// What may be asked; numbers are of a conversation.
#[derive(Clone, Debug)]
enum Act {
    Start(Vec<u32>, usize, bool),
    /// Goes on from all but so many last tokens with others.
    Extend(usize, usize, Vec<u32>, usize),
    Fork(usize),
    Store(usize),
    Park(usize),
    Unpark(usize),
    Export(usize),
    Truncate(usize, usize),
    Cancel(usize),
    Close(usize),
    Budget(u64),
    /// Another program takes so many pages' bytes or gives as many back.
    Eat(i64),
    Relieve,
    Steps(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let tokens = || prop::collection::vec(0..VOCAB as u32, 1..90);
    prop_oneof![
        5 => (tokens(), 0usize..70, any::<bool>()).prop_map(|(ids, most, slide)| Act::Start(ids, most, slide)),
        5 => (0usize..8, 0usize..60, tokens(), 0usize..70)
            .prop_map(|(i, back, new, most)| Act::Extend(i, back, new, most)),
        1 => (0usize..8).prop_map(Act::Fork),
        2 => (0usize..8).prop_map(Act::Store),
        2 => (0usize..8).prop_map(Act::Park),
        2 => (0usize..8).prop_map(Act::Unpark),
        1 => (0usize..8).prop_map(Act::Export),
        1 => (0usize..8, 0usize..CONTEXT).prop_map(|(i, len)| Act::Truncate(i, len)),
        1 => (0usize..8).prop_map(Act::Cancel),
        1 => (0usize..8).prop_map(Act::Close),
        1 => (0u64..8000).prop_map(Act::Budget),
        2 => (-12i64..12).prop_map(Act::Eat),
        1 => Just(Act::Relieve),
        8 => (1usize..40).prop_map(Act::Steps),
    ]
}

struct One {
    id: SequenceId,
    prompt: Vec<u32>,
    slides: bool,
    told: Told,
}

impl One {
    fn new(id: SequenceId) -> One {
        One { id, prompt: vec![], slides: false, told: Told::default() }
    }

    /// Whether all it told is what follows its prompt by the definition.
    fn check(&self, plan: &Plan) -> Result<(), TestCaseError> {
        let mut history = self.prompt.clone();
        for &token in &self.told.tokens {
            if history.len() > CONTEXT {
                prop_assert!(self.slides);
                let last = (history.len() - 4) / 2;
                history.drain(4..history.len() - last);
            }
            prop_assert_eq!(token, argmax(&fake_logits(plan, &history)));
            history.push(token);
        }
        Ok(())
    }
}

fn step(engine: &mut Engine, ones: &mut [One]) -> bool {
    let hear = &mut |id, event: Event<'_>| {
        ones.iter_mut().find(|one| one.id == id).expect("it was asked").told.hear(event);
    };
    engine.step(hear).expect("the fake is not lost")
}

/// Notices as they come.
fn noticed(engine: &mut Engine) -> Arc<Mutex<Vec<Notice>>> {
    let notices = Arc::new(Mutex::new(vec![]));
    let told = Arc::clone(&notices);
    engine.on_notice(Box::new(move |notice| told.lock().expect("nobody panicked").push(notice)));
    notices
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// The fake panics where a page takes memory that is not there.
    #[test]
    fn whatever_happens_tokens_are_those_of_one_alone(
        acts in prop::collection::vec(act(), 1..60),
        windows in prop::collection::vec(prop::option::weighted(0.5, 1usize..100), 1..3),
        (rows, pages, slots) in (1usize..60, 4usize..20, 1usize..4),
        ahead in 0usize..4,
        room in prop::option::of(1i64..40),
    ) {
        let plan = fake_plan(VOCAB, CONTEXT, &windows);
        let options = fake_options(rows, 2, slots, pages.max(CONTEXT.div_ceil(32)));
        let fake = FakeRunner::new(plan.clone(), options);
        let fake = if ahead > 0 { fake.choosing(CHOSEN_ROWS, ahead, Box::new(choose)) } else { fake };
        let memory = FakeMemory::new(i64::MAX / 2);
        let fake = if room.is_some() { fake.growing(memory.clone()) } else { fake };
        let mut engine = Engine::new(Box::new(fake), None, Box::new(|| Duration::ZERO));
        if let Some(room) = room {
            // The reserve is what others may take at once between two steps.
            let reserve = 12 * PAGE_BYTES;
            memory.take(memory.free() - room * PAGE_BYTES - MARGIN as i64 - reserve);
            engine.set_limits(Box::new(Meter { memory: memory.clone(), reserve }));
        }
        let (mut ones, mut parked): (Vec<One>, Vec<Saved>) = (vec![], vec![]);
        for act in acts {
            let some = |i: usize| ones.get(i % ones.len().max(1));
            match act {
                Act::Start(prompt, most, slides) => {
                    let overflow = if slides { Overflow::Slide { sinks: 0 } } else { Overflow::Stop };
                    if let Ok(id) = engine.start(&prompt, &Params { overflow, ..greedy(most) }) {
                        ones.push(One { prompt, slides, ..One::new(id) });
                    }
                }
                Act::Extend(i, back, new, most) => {
                    let Some(i) = i.checked_rem(ones.len()) else { continue };
                    let mut prompt = engine.ids(ones[i].id).expect("it is open").to_vec();
                    prompt.truncate(prompt.len().saturating_sub(back));
                    prompt.extend(new);
                    match engine.extend(ones[i].id, &prompt, &greedy(most)) {
                        Ok(reused) => {
                            ones[i].check(&plan)?;
                            prop_assert!(reused < prompt.len());
                            ones[i] = One { prompt, ..One::new(ones[i].id) };
                        }
                        Err(Error::Busy { .. } | Error::TooLong { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                Act::Fork(i) => {
                    let Some(id) = some(i).map(|one| one.id) else { continue };
                    let Ok(fork) = engine.fork(id) else { continue };
                    prop_assert_eq!(engine.ids(fork).ok(), engine.ids(id).ok());
                    ones.push(One::new(fork));
                }
                Act::Store(i) => {
                    let Some(id) = some(i).map(|one| one.id) else { continue };
                    let before = engine.stored_bytes();
                    match engine.store(id) {
                        Ok(bytes) => prop_assert!(engine.stored_bytes() - before <= bytes),
                        Err(Error::Busy { .. } | Error::Memory { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                Act::Park(i) => {
                    let Some(i) = i.checked_rem(ones.len()) else { continue };
                    let ids = engine.ids(ones[i].id).expect("it is open").to_vec();
                    if let Ok(saved) = engine.park(ones[i].id) {
                        prop_assert_eq!(&saved.ids, &ids);
                        ones.swap_remove(i).check(&plan)?;
                        parked.push(saved);
                    }
                }
                Act::Unpark(i) => {
                    let Some(i) = i.checked_rem(parked.len()) else { continue };
                    let saved = parked.swap_remove(i);
                    match engine.unpark(saved) {
                        Ok(id) => ones.push(One::new(id)),
                        Err(refused) => {
                            assert!(matches!(refused.error, Error::Slots { .. }), "{refused}");
                            parked.push(refused.saved);
                        }
                    }
                }
                Act::Export(i) => {
                    let Some(id) = some(i).map(|one| one.id) else { continue };
                    parked.extend(engine.export(id));
                }
                Act::Truncate(i, len) => {
                    let Some(id) = some(i).map(|one| one.id) else { continue };
                    let before = engine.ids(id).expect("it is open").to_vec();
                    if engine.truncate(id, len).is_ok() {
                        prop_assert_eq!(engine.ids(id).expect("it is open"), &before[..len.min(before.len())]);
                    }
                }
                Act::Cancel(i) => some(i).into_iter().for_each(|one| engine.cancel(one.id)),
                Act::Close(i) => {
                    let Some(i) = i.checked_rem(ones.len()) else { continue };
                    let one = ones.swap_remove(i);
                    engine.close(one.id);
                    one.check(&plan)?;
                }
                Act::Budget(bytes) => engine.set_overflow(bytes),
                Act::Eat(pages) => memory.take((pages * PAGE_BYTES).min(memory.free())),
                Act::Relieve => drop(engine.relieve()),
                Act::Steps(count) => {
                    for _ in 0..count {
                        step(&mut engine, &mut ones);
                    }
                }
            }
        }
        // A generation may end for lack of pages or memory, but it ends.
        let mut steps = 0;
        while step(&mut engine, &mut ones) {
            steps += 1;
            prop_assert!(steps < 5000, "it never ends");
        }
        for one in ones {
            one.check(&plan)?;
            engine.close(one.id);
        }
        let all = windows.iter().map(|&window| options.group_pages(window)).max();
        prop_assert_eq!(Some(engine.free_pages()), all);
        prop_assert_eq!(engine.stored_bytes(), 0);
        engine.relieve();
        prop_assert_eq!(engine.relieve(), 0);
    }
}

/// Three conversations and pages for one and a half.
#[test]
fn the_longest_unused_makes_room_and_comes_back() {
    let sizes = Sizes { slots: 3, pages: 8, rows: 256, ..Sizes::default() };
    let mut engine = common::engine(sizes, None);
    let notices = noticed(&mut engine);
    let seen = || std::mem::take(&mut *notices.lock().expect("nobody panicked"));
    engine.set_overflow(5 * 2 * PAGE_BYTES as u64);
    let ids = [(); 3].map(|()| engine.open().expect("a slot is free"));
    let first = extend(&mut engine, ids[0], &[1; 100], &greedy(10)).tokens;
    extend(&mut engine, ids[1], &[2; 61], &greedy(5));
    assert_eq!((seen(), engine.free_pages()), (vec![], 1));
    // Four pages of the first make room. Of the window of 50 three are needed: 109 + 1 − 50 is in page 1.
    extend(&mut engine, ids[2], &[3; 40], &greedy(5));
    let bytes = (4 + 3) * PAGE_BYTES as u64;
    assert_eq!(seen(), [Notice::Stored { id: ids[0], tokens: 110, bytes }]);
    assert_eq!(engine.stored_bytes(), bytes);
    // It goes on where it was, in the place of the second, of which the window needs all.
    let history = [[1; 100].as_slice(), &first, &[7]].concat();
    let told = extend(&mut engine, ids[0], &history, &greedy(5));
    assert_eq!((told.summary().reused, told.summary().prompt), (109, 2));
    assert_eq!(told.tokens, common::alone(sizes, None, &history, &greedy(5)).tokens);
    let bytes = (3 + 3) * PAGE_BYTES as u64;
    let expected =
        [Notice::Stored { id: ids[1], tokens: 66, bytes }, Notice::Restored { id: ids[0], tokens: 109 }];
    assert_eq!(seen(), expected);
    // Two are too many for what may be stored: the longest unused goes.
    extend(&mut engine, ids[2], &[3; 130], &greedy(5));
    let notices = seen();
    assert!(
        matches!(notices[..], [Notice::Dropped { id: a, .. }, Notice::Stored { id: b, .. }] if (a, b) == (ids[1], ids[0])),
        "{notices:?}"
    );
    // What was dropped is computed anew.
    let told = extend(&mut engine, ids[1], &[2; 62], &greedy(5));
    assert_eq!((told.summary().reused, told.summary().prompt), (0, 62));
    assert_eq!(told.tokens, common::alone(sizes, None, &[2; 62], &greedy(5)).tokens);
}

/// A parked conversation goes on in another engine, and nothing else does.
#[test]
fn a_saved_sequence_goes_on_elsewhere() {
    let sizes = Sizes { rows: 256, ..Sizes::default() };
    let mut engine = common::engine(sizes, None);
    let id = engine.open().expect("the first slot is free");
    let told = extend(&mut engine, id, &[1; 100], &greedy(10));
    let copy = engine.export(id).expect("it is idle");
    let saved = engine.park(id).expect("it is idle");
    assert_eq!(copy, saved);
    assert_eq!((saved.ids.len(), saved.known, saved.cached), (110, 109, 109));
    assert_eq!((engine.free_slots(), engine.free_pages()), (1, 8));
    let mut other = common::engine(sizes, None);
    let again = other.unpark(saved.clone()).expect("a slot is free");
    assert!(matches!(other.unpark(copy), Err(refused) if matches!(refused.error, Error::Slots { .. })));
    let history = [[1; 100].as_slice(), &told.tokens, &[7]].concat();
    let went_on = extend(&mut other, again, &history, &greedy(9));
    assert_eq!(went_on.summary().reused, 109);
    assert_eq!(went_on.tokens, common::alone(sizes, None, &history, &greedy(9)).tokens);
    // What does not fit is refused in words.
    let mut refuse = |change: &dyn Fn(&mut Saved)| {
        let mut saved = saved.clone();
        change(&mut saved);
        engine.unpark(saved).expect_err("it does not fit").error.to_string()
    };
    let said = refuse(&|saved| saved.ids[3] = VOCAB as u32);
    assert!(said.contains("tokens that the vocabulary has not"), "{said}");
    assert!(refuse(&|saved| saved.groups[0].bytes.truncate(5)).contains("pages of another size"));
    assert!(refuse(&|saved| drop(saved.groups.pop())).contains("other cache groups"));
    assert!(refuse(&|saved| saved.groups[1].first = 3).contains("lacks pages"));
    assert!(refuse(&|saved| saved.known = 50).contains("more tokens than it has"));
    assert!(refuse(&|saved| saved.ids.resize(300, 0)).contains("more tokens than the context"));
}

/// Room for so many pages of both groups, beside what is kept for others.
fn metered(sizes: Sizes, pages: i64) -> (Engine, FakeMemory) {
    let reserve = 100;
    let memory = FakeMemory::new(reserve + MARGIN as i64 + pages * PAGE_BYTES);
    let fake = common::runner(sizes).growing(memory.clone());
    let mut engine = Engine::new(Box::new(fake), None, Box::new(|| Duration::ZERO));
    engine.set_limits(Box::new(Meter { memory: memory.clone(), reserve }));
    (engine, memory)
}

/// No memory for another page: the text so far is delivered, and the engine lives on.
#[test]
fn a_text_ends_where_memory_does() {
    for ahead in [0, 3] {
        let sizes = Sizes { rows: 256, ahead, ..Sizes::default() };
        let (mut engine, memory) = metered(sizes, 6);
        let notices = noticed(&mut engine);
        let id = engine.open().expect("the first slot is free");
        let told = extend(&mut engine, id, &[5; 50], &greedy(150));
        // Four pages hold 128 tokens, two their window, and the 129th was chosen without being computed.
        assert_eq!(told.tokens, common::alone(sizes, None, &[5; 50], &greedy(79)).tokens);
        assert_eq!(told.summary().stopped, Some(Stopped::Memory));
        let seen = std::mem::take(&mut *notices.lock().expect("nobody panicked"));
        let needed = MARGIN + PAGE_BYTES as u64;
        let stop = seen.iter().find(|notice| matches!(notice, Notice::OutOfMemory { .. }));
        let Some(Notice::OutOfMemory { token: 129, needed: said, room, .. }) = stop else {
            panic!("{seen:?}")
        };
        assert!(*said == needed && *room < needed, "{seen:?}");
        let line = stop.map_or(String::new(), Notice::to_string);
        assert!(line.starts_with("[oom_guard] Stopping at token 129: 1.0 MiB more are needed"), "{line}");
        // Nobody runs: all that it had is given back, its tokens but not their cache.
        assert_eq!(memory.free(), 100 + MARGIN as i64 + 6 * PAGE_BYTES);
        assert_eq!(engine.ids(id).expect("it is open").len(), 129);
        memory.take(-20 * PAGE_BYTES);
        let told = extend(&mut engine, id, &[5; 60], &greedy(150));
        assert_eq!((told.summary().reused, told.tokens.len()), (0, 150));
    }
}

/// Others' memory goes first: idle sequences', then the youngest generation's.
#[test]
fn the_oldest_generation_goes_on() {
    let sizes = Sizes { rows: 256, slots: 3, pages: 24, ..Sizes::default() };
    let (mut engine, memory) = metered(sizes, 20);
    let notices = noticed(&mut engine);
    let idle = engine.open().expect("a slot is free");
    extend(&mut engine, idle, &[6; 60], &greedy(3));
    let old = engine.start(&[7; 60], &greedy(190)).expect("a slot is free");
    let young = engine.start(&[8; 60], &greedy(190)).expect("a slot is free");
    let mut told = [(old, Told::default()), (young, Told::default())];
    let hear = &mut |of, event: Event<'_>| {
        told.iter_mut().find(|(id, _)| *id == of).expect("it was started").1.hear(event);
    };
    while engine.step(hear).expect("the fake is not lost") {}
    let [old_told, young_told] = [&told[0].1, &told[1].1];
    assert_eq!(old_told.tokens, common::alone(sizes, None, &[7; 60], &greedy(190)).tokens);
    assert_eq!(young_told.summary().stopped, Some(Stopped::Memory));
    let begun = common::alone(sizes, None, &[8; 60], &greedy(190)).tokens;
    assert!(begun.starts_with(&young_told.tokens) && young_told.tokens.len() > 30);
    let seen = notices.lock().expect("nobody panicked");
    let of = |notice: &Notice| match notice {
        Notice::Dropped { id, .. } => Some(('d', *id)),
        Notice::OutOfMemory { id, .. } => Some(('o', *id)),
        _ => None,
    };
    assert_eq!(seen.iter().filter_map(of).collect::<Vec<_>>(), [('d', idle), ('o', young)], "{seen:?}");
    assert!(memory.free() >= 100);
}

/// Another program takes the memory: what is idle is given back, then the text ends, and the engine lives on.
#[test]
fn pressure_from_others_is_watched() {
    let sizes = Sizes { rows: 256, slots: 2, pages: 16, ..Sizes::default() };
    let (mut engine, memory) = metered(sizes, 60);
    let notices = noticed(&mut engine);
    let idle = engine.open().expect("a slot is free");
    extend(&mut engine, idle, &[6; 200], &greedy(3));
    let id = engine.start(&[5; 20], &greedy(150)).expect("a slot is free");
    let mut told = Told::default();
    let mut step =
        |engine: &mut Engine| engine.step(&mut |_, event| told.hear(event)).expect("the fake is not lost");
    assert!(step(&mut engine));
    // All of the room and some of the reserve: four of the idle sequence's pages are behind its window.
    memory.take(memory.free() - 90);
    assert!(step(&mut engine));
    let seen = || std::mem::take(&mut *notices.lock().expect("nobody panicked"));
    assert_eq!(seen(), [Notice::GaveBack { bytes: 4 * PAGE_BYTES as u64 }]);
    // Again: seven and three others make up for it.
    memory.take(memory.free() - 90);
    assert!(step(&mut engine));
    let gave = Notice::GaveBack { bytes: 10 * PAGE_BYTES as u64 };
    assert_eq!(seen(), [Notice::Dropped { id: idle, tokens: 203 }, gave]);
    memory.take(memory.free() - 90);
    assert!(!step(&mut engine));
    assert_eq!(told.summary().stopped, Some(Stopped::Memory));
    assert_eq!(told.tokens, common::alone(sizes, None, &[5; 20], &greedy(3)).tokens);
    let last = seen();
    assert!(
        matches!(last[0], Notice::OutOfMemory { id: of, room: 0, token: 23, .. } if of == id),
        "{last:?}"
    );
}
