//! The service on the fake runner: many requests at once are answered as each would be alone, and every
//! request is told its end exactly once, whatever happens to the others.
#![allow(missing_docs)]

mod common;

use common::{Sizes, VOCAB, alone, greedy, runner, tokenizer};
use engine::service::{Answer, Refused, Request, Service, Settings, Sink, Ticket, Update, Why};
use engine::{Engine, Params, Sampling};
use proptest::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a sink heard.
#[derive(Clone, Debug, Default, PartialEq)]
struct Heard {
    cached: Option<usize>,
    tokens: Vec<u32>,
    text: String,
    end: Option<Why>,
}

/// Sends what it heard when it ends; waits for a permit before each token if it has a gate.
struct Ear {
    heard: Heard,
    to: Sender<Heard>,
    gate: Option<Receiver<()>>,
    seen: Option<Sender<()>>,
}

impl Sink for Ear {
    fn hear(&mut self, update: Update<'_>) {
        assert_eq!(self.heard.end, None, "{update:?} after the end");
        match update {
            Update::Started { cached } => {
                assert!(self.heard.cached.replace(cached).is_none(), "started twice");
            }
            Update::Prompt { .. } => {}
            Update::Token { id, .. } => {
                self.heard.tokens.push(id);
                if let Some(seen) = &self.seen {
                    let _ = seen.send(());
                }
                if let Some(gate) = &self.gate {
                    let _ = gate.recv();
                }
            }
            Update::Text(text) => self.heard.text.push_str(text),
            Update::Ended(why, _) => {
                self.heard.end = Some(why.clone());
                let _ = self.to.send(self.heard.clone());
            }
        }
    }
}

fn ear() -> (Ear, Receiver<Heard>) {
    let (to, heard) = channel();
    (Ear { heard: Heard::default(), to, gate: None, seen: None }, heard)
}

/// An ear that holds the engine up at every token, until the sender is used or dropped.
fn gated() -> (Ear, Receiver<Heard>, Sender<()>, Receiver<()>) {
    let (to, heard) = channel();
    let (open, gate) = channel();
    let (seen, saw) = channel();
    (Ear { heard: Heard::default(), to, gate: Some(gate), seen: Some(seen) }, heard, open, saw)
}

fn ask(prompt: &[u32], params: &Params, sink: Ear) -> Request {
    let answers = vec![Answer { params: params.clone(), sink: Box::new(sink) }];
    Request { prompt: prompt.to_vec(), answers, conversation: None, timeout: None }
}

#[derive(Clone, Default)]
struct FakeClock(Arc<AtomicU64>);

impl FakeClock {
    fn pass(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

const SIZES: Sizes = Sizes { context: 160, rows: 20, logit_rows: 4, slots: 4, pages: 24, ahead: 0 };

fn serve(sizes: Sizes, parallel: usize, queue: usize, clock: &FakeClock) -> Service {
    serve_on(
        Engine::new(Box::new(runner(sizes)), Some(tokenizer()), Box::new(|| Duration::ZERO)),
        parallel,
        queue,
        clock,
    )
}

fn serve_on(engine: Engine, parallel: usize, queue: usize, clock: &FakeClock) -> Service {
    let settings = Settings { parallel, queue, timeout: Some(Duration::from_secs(60)), preloaded: None };
    let clock = clock.clone();
    let clock = Arc::new(move || Duration::from_secs(clock.0.load(Ordering::SeqCst)));
    Service::start(engine, settings, clock, Box::new(|_| {})).expect("a thread can be started")
}

fn wait(heard: &Receiver<Heard>) -> Heard {
    heard.recv_timeout(Duration::from_secs(30)).expect("every request is told its end")
}

fn params() -> impl Strategy<Value = Params> {
    let sampling = (any::<bool>(), any::<u64>()).prop_map(|(greedy, seed)| {
        if greedy {
            Sampling::greedy()
        } else {
            Sampling { seed, temperature: 1.5, top_k: 0, ..Sampling::default() }
        }
    });
    (sampling, 0usize..30).prop_map(|(sampling, max)| Params {
        max_tokens: Some(max),
        sampling,
        ..Params::default()
    })
}

/// A request of the property below: prompts begin alike, so that the cache is of use.
#[derive(Clone, Debug)]
struct Ask {
    common: usize,
    rest: Vec<u32>,
    answers: Vec<Params>,
    conversation: Option<u8>,
}

fn asks() -> impl Strategy<Value = Ask> {
    let rest = prop::collection::vec(3..VOCAB as u32, 1..40);
    let conversation = prop::option::of(0u8..3);
    (0usize..3, rest, prop::collection::vec(params(), 1..4), conversation).prop_map(
        |(common, rest, answers, conversation)| Ask { common: common * 40, rest, answers, conversation },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn everybody_is_answered_as_if_alone(asks in prop::collection::vec(asks(), 1..12), ahead in 0usize..3) {
        let sizes = Sizes { ahead, ..SIZES };
        let service = serve(sizes, 3, 1000, &FakeClock::default());
        let mut expected = vec![];
        for ask in &asks {
            let mut prompt: Vec<u32> = (0..ask.common as u32).map(|i| 3 + i * 7 % 200).collect();
            prompt.extend(&ask.rest);
            let mut answers = vec![];
            for params in &ask.answers {
                let (sink, heard) = ear();
                answers.push(Answer { params: params.clone(), sink: Box::new(sink) });
                expected.push((heard, prompt.clone(), params));
            }
            let conversation = ask.conversation.map(|c| c.to_string());
            let ticket = service.submit(Request { prompt, answers, conversation, timeout: None });
            std::mem::forget(ticket.expect("the queue is long"));
        }
        for (heard, prompt, params) in expected {
            let heard = wait(&heard);
            let told = alone(Sizes { slots: 1, ..sizes }, Some(tokenizer()), &prompt, params);
            prop_assert_eq!(heard.tokens, told.tokens);
            prop_assert_eq!(heard.text, told.text);
        }
        prop_assert!(service.is_idle());
        prop_assert_eq!(service.metrics().queued.get() + service.metrics().running.get(), 0);
    }
}

#[test]
fn what_is_beyond_the_queue_is_refused_and_nothing_is_lost() {
    let service = serve(SIZES, 2, 3, &FakeClock::default());
    let (first, heard, open, saw) = gated();
    let mut tickets = vec![service.submit(ask(&[5, 6], &greedy(20), first)).expect("there is room")];
    saw.recv().expect("it begins");
    let mut others = vec![heard];
    let refused = loop {
        let (sink, heard) = ear();
        match service.submit(ask(&[5, 7], &greedy(5), sink)) {
            Ok(ticket) => tickets.push(ticket),
            Err(refused) => break refused,
        }
        others.push(heard);
    };
    assert_eq!(others.len(), 5, "two places and three to wait in");
    assert_eq!(refused, Refused::Full { places: 5, retry: Duration::from_secs(1) });
    assert_eq!(service.metrics().refused.get(), 1);
    drop(open);
    for heard in others {
        assert_eq!(wait(&heard).end, Some(Why::Length));
    }
    let (sink, heard) = ear();
    let _ticket = service.submit(ask(&[5], &greedy(1), sink)).expect("there is room again");
    assert_eq!(wait(&heard).tokens.len(), 1);
    let (sink, _heard) = ear();
    let mut many = ask(&[5], &greedy(1), sink);
    many.answers.extend((0..2).map(|_| Answer { params: greedy(1), sink: Box::new(ear().0) }));
    assert_eq!(service.submit(many).err(), Some(Refused::TooMany { answers: 3, parallel: 2 }));
}

#[test]
fn dropping_a_ticket_ends_its_request_in_the_queue_and_while_it_generates() {
    let service = serve(SIZES, 1, 3, &FakeClock::default());
    let (first, heard, open, saw) = gated();
    let ticket = service.submit(ask(&[5, 6], &greedy(100), first)).expect("there is room");
    saw.recv().expect("it begins");
    let (queued, queued_heard) = ear();
    let queued = service.submit(ask(&[5, 7], &greedy(5), queued)).expect("there is room");
    drop(queued);
    drop(ticket);
    open.send(()).expect("it waits");
    let heard = wait(&heard);
    assert_eq!((heard.end, heard.tokens.len()), (Some(Why::Cancelled), 1));
    assert_eq!(wait(&queued_heard), Heard { end: Some(Why::Cancelled), ..Heard::default() });
    assert_eq!(service.metrics().cancelled.get(), 2);
}

#[test]
fn time_is_up_in_the_queue_and_while_it_generates() {
    let clock = FakeClock::default();
    let service = serve(SIZES, 1, 3, &clock);
    let (first, heard, open, saw) = gated();
    let _first = service.submit(ask(&[5, 6], &greedy(100), first)).expect("there is room");
    saw.recv().expect("it begins");
    let (queued, queued_heard) = ear();
    let mut hasty = ask(&[5, 7], &greedy(5), queued);
    hasty.timeout = Some(Duration::from_secs(7));
    let _queued = service.submit(hasty).expect("there is room");
    clock.pass(8);
    open.send(()).expect("it waits");
    assert_eq!(wait(&queued_heard).end, Some(Why::Timeout));
    saw.recv().expect("the first goes on");
    clock.pass(60);
    open.send(()).expect("it waits");
    let heard = wait(&heard);
    assert_eq!((heard.end, heard.tokens.len()), (Some(Why::Timeout), 2));
}

#[test]
fn prompts_find_what_was_computed_before() {
    let service = serve(Sizes { slots: 6, pages: 40, ..SIZES }, 2, 9, &FakeClock::default());
    let cached = |prompt: &[u32], conversation: Option<&str>| {
        let (sink, heard) = ear();
        let mut request = ask(prompt, &greedy(3), sink);
        request.conversation = conversation.map(str::to_owned);
        let _ticket = service.submit(request).expect("there is room");
        wait(&heard).cached.expect("it began")
    };
    let base: Vec<u32> = (0..70).map(|i| 5 + i).collect();
    assert_eq!(cached(&base, Some("a")), 0);
    assert_eq!(cached(&base, Some("a")), 69, "all but the last, whose logits are wanted");
    // Another conversation shares the pages of the first, which stays as it was.
    let mut other = base[..50].to_vec();
    other.extend([200; 20]);
    assert_eq!(cached(&other, Some("b")), 50);
    assert_eq!(cached(&base, Some("a")), 69);
    assert_eq!(cached(&other, None), 69, "what conversations have cached is of use to everybody");
    // Conversations outlive what passes by.
    for i in 0..20 {
        cached(&[100 + i; 40], None);
    }
    assert_eq!(cached(&base, Some("a")), 69);
    assert_eq!(cached(&other, Some("b")), 69);
    assert!(service.metrics().evicted.get() > 0);
}

#[test]
fn a_preloaded_beginning_is_never_given_up() {
    let sizes = Sizes { slots: 3, pages: 16, ..SIZES };
    let mut engine = Engine::new(Box::new(runner(sizes)), Some(tokenizer()), Box::new(|| Duration::ZERO));
    let system: Vec<u32> = (0..64).map(|i| 5 + i).collect();
    let id = engine.start(&system, &greedy(0)).expect("it fits");
    engine.run(id, &|| false, &mut |_| {}).expect("the fake is not lost");
    let settings = Settings { parallel: 2, queue: 9, timeout: None, preloaded: Some(id) };
    let service = Service::start(engine, settings, Arc::new(|| Duration::ZERO), Box::new(|_| {}));
    let service = service.expect("a thread can be started");
    for round in 0..12u32 {
        let mut prompt = if round % 2 == 0 { system.clone() } else { vec![200 + round; 90] };
        prompt.extend([100 + round; 30]);
        let (sink, heard) = ear();
        let _ticket = service.submit(ask(&prompt, &greedy(9), sink)).expect("there is room");
        let heard = wait(&heard);
        assert_eq!(heard.cached, Some(if round % 2 == 0 { 64 } else { 0 }), "round {round}");
        let told = alone(Sizes { slots: 1, ..sizes }, Some(tokenizer()), &prompt, &greedy(9));
        assert_eq!(heard.tokens, told.tokens);
    }
}

/// An ear that tells somebody else first.
struct Noting<F: FnMut(&Update<'_>) + Send>(F, Ear);

impl<F: FnMut(&Update<'_>) + Send> Sink for Noting<F> {
    fn hear(&mut self, update: Update<'_>) {
        (self.0)(&update);
        self.1.hear(update);
    }
}

#[test]
fn requests_of_one_conversation_wait_for_each_other_and_let_others_pass() {
    let service = serve(SIZES, 2, 9, &FakeClock::default());
    let (first, heard, open, saw) = gated();
    let talk = |mut request: Request| {
        request.conversation = Some("talk".to_owned());
        service.submit(request).expect("there is room")
    };
    let _first = talk(ask(&[5, 6], &greedy(2), first));
    saw.recv().expect("it begins");
    let order = Arc::new(Mutex::new(vec![]));
    let note = |name: &'static str| {
        let (mut inner, heard) = ear();
        let order = order.clone();
        inner.gate = None;
        let noting = Noting(
            move |update: &Update<'_>| {
                if matches!(update, Update::Started { .. }) {
                    order.lock().expect("no panics").push(name);
                }
            },
            inner,
        );
        let answers = vec![Answer { params: greedy(2), sink: Box::new(noting) as Box<dyn Sink> }];
        (Request { prompt: vec![5, 6, 7], answers, conversation: None, timeout: None }, heard)
    };
    let (second, second_heard) = note("second");
    let (stranger, stranger_heard) = note("stranger");
    let _second = talk(second);
    let _stranger = service.submit(stranger).expect("there is room");
    drop(open);
    for heard in [&heard, &second_heard, &stranger_heard] {
        assert_eq!(wait(heard).end, Some(Why::Length));
    }
    assert_eq!(*order.lock().expect("no panics"), ["stranger", "second"]);
}

#[test]
fn draining_lets_what_runs_end_and_stopping_does_not() {
    let service = serve(SIZES, 1, 9, &FakeClock::default());
    let (first, heard, open, saw) = gated();
    let _first = service.submit(ask(&[5, 6], &greedy(3), first)).expect("there is room");
    saw.recv().expect("it begins");
    let (queued, queued_heard) = ear();
    let _queued = service.submit(ask(&[5, 7], &greedy(5), queued)).expect("there is room");
    service.drain();
    assert_eq!(service.submit(ask(&[5], &greedy(1), ear().0)).err(), Some(Refused::Draining));
    drop(open);
    assert_eq!(wait(&queued_heard).end, Some(Why::Shutdown));
    let heard = wait(&heard);
    assert_eq!((heard.end, heard.tokens.len()), (Some(Why::Length), 3));

    let service = serve(SIZES, 1, 9, &FakeClock::default());
    let (first, heard, open, saw) = gated();
    let _first = service.submit(ask(&[5, 6], &greedy(100), first)).expect("there is room");
    saw.recv().expect("it begins");
    service.stop();
    drop(open);
    assert_eq!(wait(&heard).end, Some(Why::Shutdown));
}

#[test]
fn when_the_device_goes_away_everybody_hears_of_it() {
    let (told, tells) = channel();
    let engine =
        Engine::new(Box::new(runner(SIZES).lost_after(3)), Some(tokenizer()), Box::new(|| Duration::ZERO));
    let settings = Settings { parallel: 1, queue: 9, timeout: None, preloaded: None };
    let closed =
        Box::new(move |why: Option<&str>| told.send(why.map(str::to_owned)).expect("the test waits"));
    let service = Service::start(engine, settings, Arc::new(|| Duration::ZERO), closed);
    let service = service.expect("a thread can be started");
    let asked: Vec<(Ticket, Receiver<Heard>)> = (0..3)
        .map_while(|_| {
            let (sink, heard) = ear();
            Some((service.submit(ask(&[5, 6], &greedy(50), sink)).ok()?, heard))
        })
        .collect();
    let lost = "fake stopped answering: told to; start again".to_owned();
    assert_eq!(tells.recv(), Ok(Some(lost.clone())));
    for (_ticket, heard) in &asked {
        assert_eq!(wait(heard).end, Some(Why::Failed(lost.clone())));
    }
    assert_eq!(service.submit(ask(&[5], &greedy(1), ear().0)).err(), Some(Refused::Closed(lost)));
}
