//! Tokens chosen on the emulated GPU and fed to the next steps there: the same as those the sampler on the
//! processor chooses from the same logits, for every way to choose, alone and several at once.

mod common;

use common::{Random, device, load};
use cuda::Cuda;
use engine::{Engine, Event, Finish, Params, Sampling, SequenceId};
use gguf::Gguf;
use model::runner::KvType;
use model::{Batch, Chooser, Choosing, Chosen, LoadOptions, Plan, Row};
use std::process::Command;
use std::time::Duration;
use testkit::tiny::Tiny;

const VOCAB: usize = 67;

/// A tiny model of a family; gemma's have two groups of pages.
fn model(family: &'static str, context: usize) -> (Gguf, Plan) {
    let file = Tiny { vocab: VOCAB, layers: 2, tied: false, ..Tiny::new(family, 4) }.parts().gguf();
    let (_, plan) = Plan::read(&file, Some(context)).expect("a tiny model");
    (file, plan)
}

fn engine(device: &Cuda, family: &'static str, slots: usize, pages: usize) -> Engine {
    let (file, plan) = model(family, 96);
    let options = LoadOptions { rows: 24, logit_rows: slots, slots, pages, kv: KvType::F16, threads: 1 };
    Engine::new(load(device, &file, &plan, &options), None, Box::new(|| Duration::ZERO))
}

/// What a generation told.
#[derive(Clone, Debug, Default, PartialEq)]
struct Told {
    tokens: Vec<u32>,
    prompt: Vec<(usize, usize)>,
    finish: Option<(Finish, usize)>,
}

impl Told {
    fn hear(&mut self, event: &Event) {
        assert!(self.finish.is_none(), "{event:?} after the end");
        match event {
            Event::Prompt { done, total } => self.prompt.push((*done, *total)),
            Event::Token { id, .. } => self.tokens.push(*id),
            Event::Text(_) => panic!("there is no tokenizer"),
            Event::Finished(summary) => self.finish = Some((summary.finish, summary.generated)),
        }
    }
}

/// Steps until all end.
fn finish(engine: &mut Engine, ids: &[SequenceId], told: &mut [Told]) {
    while step(engine, ids, told) {}
}

fn step(engine: &mut Engine, ids: &[SequenceId], told: &mut [Told]) -> bool {
    let hear = &mut |id, event: Event<'_>| {
        told[ids.iter().position(|&known| known == id).expect("it was started")].hear(&event);
    };
    engine.step(hear).unwrap_or_else(|lost| panic!("{lost}"))
}

/// Every kind of sampler: both kernels, bias, penalties, random numbers.
fn samplings() -> Vec<Sampling> {
    let open = Sampling { temperature: 1.3, top_k: 0, top_p: 1.0, min_p: 0.0, ..Sampling::default() };
    let bias = vec![(9, 0.5), (3, f32::NEG_INFINITY), (9, 0.25), (40, -1.0)];
    vec![
        Sampling::greedy(),
        Sampling { repeat_penalty: 1.3, frequency_penalty: 0.2, repeat_last_n: 20, ..Sampling::greedy() },
        Sampling { temperature: 1.5, seed: 11, ..Sampling::default() },
        Sampling { seed: 12, ..open.clone() },
        Sampling { seed: 13, top_p: 0.8, logit_bias: bias.clone(), ..open.clone() },
        Sampling { presence_penalty: 0.7, repeat_last_n: usize::MAX, logit_bias: bias, seed: 14, ..open },
    ]
}

fn params(sampling: &Sampling, max_tokens: usize) -> Params {
    Params { max_tokens: Some(max_tokens), sampling: sampling.clone(), ..Params::default() }
}

fn prompt(random: &mut Random, len: usize) -> Vec<u32> {
    (0..len).map(|_| random.below(VOCAB) as u32).collect()
}

#[test]
fn one_sequence_gets_the_same_tokens() {
    for (family, graph) in [("gemma2", true), ("llama", false)] {
        let Some(device) = device(true, graph) else { return };
        let (mut random, mut changes) = (Random(5), 0);
        for (i, sampling) in samplings().into_iter().enumerate() {
            // Over the end of a page, and from a single token that is prompt and decode at once.
            let len = [27, 1][(i + usize::from(graph)) % 2];
            let prompt = prompt(&mut random, len);
            let told = [true, false].map(|feedback| {
                let mut engine = engine(&device, family, 1, 3);
                engine.set_feedback(feedback);
                assert_eq!(engine.feeds_back(), feedback);
                let id = engine.start(&prompt, &params(&sampling, 14)).expect("good settings");
                let mut told = [Told::default()];
                finish(&mut engine, &[id], &mut told);
                told
            });
            assert_eq!(told[0], told[1], "{family}, graphs {graph}, {len}: {sampling:?}");
            assert_eq!(told[0][0].finish, Some((Finish::Length, 14)));
            let tokens = &told[0][0].tokens;
            changes += tokens.windows(2).filter(|pair| pair[0] != pair[1]).count();
        }
        assert!(changes > 40, "a model that repeats itself shows nothing: {changes} changes of token");
    }
}

/// Other lengths, other samplers, one that only the processor can serve, and prompts that come meanwhile.
#[test]
fn several_sequences_get_the_same_tokens() {
    let Some(device) = device(true, true) else { return };
    for logprobs in [false, true] {
        let mut random = Random(6);
        let requests: Vec<(Vec<u32>, Params)> = (samplings().iter().enumerate())
            .map(|(i, sampling)| {
                let len = [5, 30, 1, 17, 9, 2][i];
                let logprobs = logprobs && i == 3;
                (prompt(&mut random, len), Params { logprobs, ..params(sampling, [18, 9, 13, 1, 12, 15][i]) })
            })
            .collect();
        let together = [true, false].map(|feedback| {
            let mut engine = engine(&device, "gemma2", 6, 18);
            engine.set_feedback(feedback);
            let (mut ids, mut told) = (vec![], vec![]);
            for (prompt, params) in &requests {
                ids.push(engine.start(prompt, params).expect("good settings"));
                told.push(Told::default());
                // The next one comes while these are decoding.
                (0..3).for_each(|_| {
                    step(&mut engine, &ids, &mut told);
                });
            }
            finish(&mut engine, &ids, &mut told);
            for &id in &ids {
                engine.close(id);
            }
            assert_eq!(engine.free_pages(), 18);
            told
        });
        for (i, (ours, theirs)) in together[0].iter().zip(&together[1]).enumerate() {
            // Other batches have products of other kernels, whose sums differ in their last bits.
            assert_eq!(ours.finish, theirs.finish, "request {i}");
            assert_eq!(ours.tokens.len(), theirs.tokens.len(), "request {i}");
        }
    }
}

/// All decode together from the first token on, so that the same kernels run either way: the same bits.
#[test]
fn a_batch_of_eight_gets_the_same_tokens() {
    let Some(device) = device(true, true) else { return };
    let samplings = samplings();
    for slots in [2, 8] {
        let told = [true, false].map(|feedback| {
            let mut random = Random(7);
            let mut engine = engine(&device, "llama", slots, 2 * slots);
            engine.set_feedback(feedback);
            let ids: Vec<SequenceId> = (0..slots)
                .map(|i| {
                    let sampling = Sampling { seed: i as u64, ..samplings[i % samplings.len()].clone() };
                    engine.start(&prompt(&mut random, 1), &params(&sampling, 12)).expect("good settings")
                })
                .collect();
            let mut told = vec![Told::default(); slots];
            finish(&mut engine, &ids, &mut told);
            told
        });
        assert_eq!(told[0], told[1], "{slots} sequences");
    }
}

/// What was computed beyond an end leaves nothing behind: turns of a conversation, forks, cancelled answers.
#[test]
fn what_went_too_far_is_forgotten() {
    let Some(device) = device(true, true) else { return };
    let told = [true, false].map(|feedback| {
        let mut random = Random(8);
        let mut engine = engine(&device, "gemma2", 2, 6);
        engine.set_feedback(feedback);
        let id = engine.open().expect("the first slot is free");
        let mut whole = prompt(&mut random, 20);
        let mut all = vec![];
        for (turn, sampling) in samplings().iter().enumerate() {
            let mut told = [Told::default(), Told::default()];
            // A token ends the text in every other turn, a cancel in the others.
            let stop_ids = if turn % 2 == 0 { (0..VOCAB as u32 / 3).collect() } else { vec![] };
            let asked = Params { stop_ids, ..params(sampling, 30) };
            engine.extend(id, &whole, &asked).expect("it fits");
            let mut steps = 0;
            while step(&mut engine, &[id], &mut told) {
                steps += 1;
                if turn % 2 == 1 && steps == 5 {
                    engine.cancel(id);
                }
            }
            // A fork goes on from where the first one stopped, and so does the first one.
            let fork = engine.fork(id).expect("the second slot is free");
            let mut other = engine.ids(fork).expect("it is open").to_vec();
            other.push(turn as u32);
            engine.extend(fork, &other, &params(sampling, 6)).expect("it fits");
            let mut forked = [Told::default()];
            finish(&mut engine, &[fork], &mut forked);
            engine.close(fork);
            whole = engine.ids(id).expect("it is open").to_vec();
            whole.truncate(40);
            whole.extend(prompt(&mut random, 3));
            all.push((told[0].clone(), forked[0].clone()));
        }
        all
    });
    assert_eq!(told[0], told[1]);
}

/// Set in the child: it plays the scene of this name instead of testing.
const SCENE: &str = "CUDA_TEST_SCENE";

/// What a scene prints when run with these variables; `None` without an emulator.
fn play(scene: &str, variables: &[(&str, &str)]) -> Option<String> {
    cuda::lab::emulated_library()?;
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "scene", "--nocapture"]).env(SCENE, scene).envs(variables.iter().copied());
    let output = command.output().expect("this program starts");
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    Some(told.into_owned())
}

/// Not a test of its own: the child's part.
#[test]
fn scene() {
    let Ok(scene) = std::env::var(SCENE) else { return };
    let mut random = Random(9);
    let mut engine = engine(&device(true, true).expect("the parent found it"), "gemma2", 2, 8);
    match scene.as_str() {
        "turns" => {
            let one = engine.open().expect("a slot is free");
            let other = engine.open().expect("a slot is free");
            for (turn, sampling) in samplings().iter().enumerate() {
                let mut told = [Told::default(), Told::default()];
                // Each turn begins anew, in pages that steps of the last one may still write.
                let stop_ids = (0..VOCAB as u32 / 6).collect();
                let asked = Params { stop_ids, ..params(sampling, 20) };
                engine.extend(one, &prompt(&mut random, 29 - turn), &asked).expect("it fits");
                engine.extend(other, &prompt(&mut random, 1), &params(sampling, 5 + turn)).expect("it fits");
                finish(&mut engine, &[one, other], &mut told);
                eprintln!("told: {told:?}");
            }
        }
        "pages" => {
            let first = engine.open().expect("a slot is free");
            let long = prompt(&mut random, 70);
            engine.feed(first, &long, 0..0, &mut |_, _| {}).expect("it fits");
            // Ends with a step under way that writes to a page just mapped.
            let second =
                engine.start(&prompt(&mut random, 30), &params(&Sampling::greedy(), 20)).expect("it fits");
            let mut steps = 0;
            while engine.step(&mut |_, _| {}).expect("the emulator") {
                steps += 1;
                if steps == 4 {
                    engine.cancel(second);
                }
            }
            engine.close(second);
            // Whoever has the slot next has other pages there, with what the first sequence reads.
            let fork = engine.fork(first).expect("a slot is free");
            // One position more or less hardly moves a token, but all bits of the logits.
            for id in [fork, first] {
                let hear = &mut |_, row: &[f32]| {
                    let bits = row.iter().fold(0u32, |sum, x| sum.rotate_left(5) ^ x.to_bits());
                    eprintln!("told: {bits:08x}");
                };
                engine.feed(id, &[7], 0..1, hear).expect("it fits");
            }
        }
        "lose" => {
            let id =
                engine.start(&prompt(&mut random, 3), &params(&Sampling::greedy(), 20)).expect("it fits");
            let mut tokens = 0;
            let lost = engine
                .run(id, &|| false, &mut |event| tokens += usize::from(matches!(event, Event::Token { .. })));
            eprintln!("told: {tokens} tokens, {}", lost.expect_err("it went away"));
            let lost = engine.step(&mut |_, _| {}).expect_err("it stays away");
            eprintln!("told: {lost}");
        }
        other => panic!("no scene is called {other}"),
    }
}

fn told(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.starts_with("told: ")).collect()
}

/// A device that does everything as late as it may, so that the host writes nothing too early.
#[test]
fn a_late_device_chooses_the_same() {
    for scene in ["turns", "pages"] {
        let Some(early) = play(scene, &[]) else { return };
        let late = play(scene, &[("EMULATED_LATE", "1")]).expect("just played");
        assert!(!told(&early).is_empty(), "{early}");
        assert_eq!(told(&early), told(&late));
    }
}

#[test]
fn a_device_lost_while_nobody_waits_is_told() {
    for late in ["0", "1"] {
        let lose = [("EMULATED_LOSE_AFTER", "100"), ("EMULATED_LATE", late)];
        let Some(text) = play("lose", &lose) else { return };
        let told = told(&text);
        assert_eq!(told.len(), 2, "{text}");
        assert!(told[0].contains(" tokens, ") && !told[0].contains(" 0 tokens"), "{text}");
        assert!(told.iter().all(|told| told.contains("stopped answering: ")), "{text}");
    }
}

/// The chooser by itself: many steps ahead, then other steps, then a new start with old tokens in the outbox.
#[test]
fn steps_ahead_are_the_steps_one_by_one() {
    let Some(device) = device(true, true) else { return };
    let (file, plan) = model("llama", 64);
    let options = LoadOptions { rows: 4, logit_rows: 2, slots: 2, pages: 4, kv: KvType::F16, threads: 1 };
    let greedy = Choosing {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        repeat_penalty: 1.0,
        presence_penalty: 0.0,
        frequency_penalty: 0.0,
        window: 0,
        bias: vec![],
        random: [1, 2, 3, 4],
    };
    let row = |slot, position, token| Row { slot, position, token, logits: true };
    let mut runner = load(&device, &file, &plan, &options);
    runner.map(0, 0, 0, &[2, 0]);
    runner.map(1, 0, 0, &[1, 3]);
    let first = Batch { rows: vec![row(0, 0, 5), row(1, 0, 6)] };
    // By steps whose logits the host looks at.
    let mut rows = first.rows.clone();
    let mut expected = vec![];
    for _ in 0..8 {
        runner.step(&Batch { rows: rows.clone() }).expect("the emulator");
        for (row, logits) in rows.iter_mut().zip(runner.logits().chunks_exact(VOCAB)) {
            (row.token, row.position) = (engine::sample::argmax(logits), row.position + 1);
        }
        expected.push([rows[0].token, rows[1].token]);
    }
    let take = |runner: &mut dyn Chooser| {
        let mut chosen = [Chosen::default(); 2];
        runner.take(&mut chosen).expect("the emulator");
        assert!(chosen.iter().all(|chosen| !chosen.nothing && !chosen.not_a_number));
        chosen.map(|chosen| chosen.token)
    };
    for forgotten in [0, 2] {
        let chooser = runner.chooser().expect("this runner chooses");
        assert_eq!(chooser.rows(), 2);
        assert!(chooser.serves(&greedy));
        assert!(!chooser.serves(&Choosing { window: 65, ..greedy.clone() }));
        assert!(!chooser.serves(&Choosing { bias: vec![(1, 0.5); 1025], ..greedy.clone() }));
        for slot in 0..2 {
            chooser.start(slot, &greedy, &[]).expect("the emulator");
        }
        chooser.begin(&first).expect("the emulator");
        chooser.again().expect("the emulator");
        for expected in &expected[..6 - forgotten] {
            chooser.again().expect("the emulator");
            assert_eq!(take(chooser), *expected);
        }
        // A step of another kind in between: what is under way comes in still.
        if forgotten == 0 {
            runner.step(&Batch { rows: vec![row(0, 9, 1)] }).expect("the emulator");
            let chooser = runner.chooser().expect("this runner chooses");
            assert_eq!([take(chooser), take(chooser)], expected[6..]);
        } else {
            chooser.forget();
        }
    }
    // The next sampler of a slot does not hear of the last one's tokens.
    let chooser = runner.chooser().expect("this runner chooses");
    for slot in 0..2 {
        chooser.start(slot, &greedy, &[]).expect("the emulator");
    }
    let second = Batch { rows: vec![row(1, 0, 6), row(0, 0, 5)] };
    chooser.begin(&second).expect("the emulator");
    assert_eq!(take(chooser), [expected[0][1], expected[0][0]]);
}
