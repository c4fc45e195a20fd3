//! Requests on their way: from the engine's thread to whoever writes the response.

use crate::ask::Ask;
use crate::error::Refusal;
use crate::model::Model;
use axum::http::StatusCode;
use engine::Summary;
use engine::service::{Answer, Request, Sink, Ticket, Update, Why};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What is told of one answer.
#[derive(Debug)]
pub(crate) enum Told {
    /// It has a place.
    Started { cached: usize },
    /// A token, where somebody wants to know.
    Token { id: u32, logprob: Option<f32> },
    /// A piece of text.
    Text(String),
    /// The end.
    Ended(Why, Option<Summary>),
}

/// One answer's end of the channel. It is without bounds, because the engine waits for nobody; a client that does
/// not read finds its connection closed, and until then no more is kept than one answer's text.
struct Line {
    index: usize,
    tokens: bool,
    to: UnboundedSender<(usize, Told)>,
}

impl Sink for Line {
    fn hear(&mut self, update: Update<'_>) {
        let told = match update {
            Update::Started { cached } => Told::Started { cached },
            Update::Token { id, logprob } if self.tokens => Told::Token { id, logprob },
            Update::Token { .. } | Update::Prompt { .. } => return,
            Update::Text(text) => Told::Text(text.to_owned()),
            Update::Ended(why, summary) => Told::Ended(why.clone(), summary.copied()),
        };
        // Whoever listened went away; its ticket says so too.
        let _ = self.to.send((self.index, told));
    }
}

/// All answers of one request, on their way.
pub(crate) struct Answers {
    from: UnboundedReceiver<(usize, Told)>,
    /// What was heard first.
    first: Option<(usize, Told)>,
    /// Dropped, they end what still goes on.
    _tickets: Vec<Ticket>,
    /// How many there are; answer `i` is to prompt `i / n`.
    pub(crate) count: usize,
    pub(crate) n: usize,
    /// Tokens of each prompt.
    pub(crate) prompts: Vec<usize>,
}

impl Answers {
    /// What is told next; `None` once the engine is gone.
    pub(crate) fn poll_next(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<(usize, Told)>> {
        match self.first.take() {
            Some(first) => std::task::Poll::Ready(Some(first)),
            None => self.from.poll_recv(context),
        }
    }

    async fn next(&mut self) -> Option<(usize, Told)> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    /// Waits for all to end.
    pub(crate) async fn all(mut self) -> Result<Vec<Whole>, Refusal> {
        let mut wholes: Vec<Whole> = (0..self.count).map(|_| Whole::default()).collect();
        let mut left = self.count;
        while left > 0 {
            let Some((index, told)) = self.next().await else { return Err(engine_gone()) };
            let whole = &mut wholes[index];
            match told {
                Told::Started { cached } => whole.cached = cached,
                Told::Token { id, logprob } => whole.tokens.push((id, logprob.unwrap_or(0.0))),
                Told::Text(text) => whole.text.push_str(&text),
                Told::Ended(why, summary) => {
                    whole.generated = summary.map_or(0, |summary| summary.generated);
                    whole.finish = finish(&why, whole.generated)?;
                    left -= 1;
                }
            }
        }
        Ok(wholes)
    }
}

/// An answer that is complete.
#[derive(Default)]
pub(crate) struct Whole {
    pub(crate) text: String,
    /// Tokens and their log-probabilities, where asked for.
    pub(crate) tokens: Vec<(u32, f32)>,
    pub(crate) cached: usize,
    pub(crate) generated: usize,
    pub(crate) finish: Finish,
}

/// How an answer ended, for clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Finish {
    #[default]
    Stop,
    Length,
}

impl Finish {
    /// OpenAI's word.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Finish::Stop => "stop",
            Finish::Length => "length",
        }
    }
}

/// How an answer of `generated` tokens that ended so is reported: as cut off, if there is something of it.
pub(crate) fn finish(why: &Why, generated: usize) -> Result<Finish, Refusal> {
    match why {
        Why::Stop => Ok(Finish::Stop),
        Why::Length => Ok(Finish::Length),
        Why::Timeout if generated > 0 => Ok(Finish::Length),
        Why::Timeout => {
            let message = "the time for this request was up before its first token; ask for less, or start the server \
                           with a longer --timeout";
            Err(Refusal::new(StatusCode::GATEWAY_TIMEOUT, "timeout", message))
        }
        Why::Cancelled => Err(Refusal::internal("the request was cancelled")),
        Why::Shutdown => Err(Refusal::unavailable(
            "shutting_down",
            "the server is shutting down; try again when it is back",
            5,
        )),
        Why::Failed(why) => Err(Refusal::internal(format!("the engine could not go on: {why}"))),
    }
}

pub(crate) fn engine_gone() -> Refusal {
    Refusal::internal("the engine has stopped; the server's log says why")
}

/// Queues a request and waits until its first answer has a place: what goes wrong until then has a status of its
/// own.
pub(crate) async fn submit(model: &Model, ask: &Ask) -> Result<Answers, Refusal> {
    let (to, from) = unbounded_channel();
    let mut requests = Vec::with_capacity(ask.prompts.len());
    for (at, prompt) in ask.prompts.iter().enumerate() {
        let answer = |i: usize| {
            let params = ask.params(i);
            let line = Line { index: at * ask.n + i, tokens: params.logprobs, to: to.clone() };
            Answer { params, sink: Box::new(line) }
        };
        requests.push(Request {
            prompt: prompt.clone(),
            answers: (0..ask.n).map(answer).collect(),
            conversation: ask.conversation.clone(),
            timeout: None,
        });
    }
    drop(to);
    let tickets = model.service.submit_all(requests)?;
    let mut answers = Answers {
        from,
        first: None,
        _tickets: tickets,
        count: ask.prompts.len() * ask.n,
        n: ask.n,
        prompts: ask.prompts.iter().map(Vec::len).collect(),
    };
    match answers.next().await {
        None => Err(engine_gone()),
        Some((_, Told::Ended(Why::Timeout, None))) => {
            let message = "the request waited in the queue until its time was up; try again";
            Err(Refusal::unavailable("queue_timeout", message, 5))
        }
        Some((_, Told::Ended(why, None))) => match finish(&why, 0) {
            Err(refusal) => Err(refusal),
            Ok(_) => Err(Refusal::internal("the request ended before it began")),
        },
        first => {
            answers.first = first;
            Ok(answers)
        }
    }
}
