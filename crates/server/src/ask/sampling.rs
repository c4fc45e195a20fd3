//! How tokens are chosen: OpenAI's fields, and those that llama.cpp's server and others added.

use crate::error::Refusal;
use crate::fields::{Fields, whole, wrong};
use crate::model::Model;
use engine::{Params, Sampling};
use serde_json::Value;
use std::hash::{BuildHasher, RandomState};

/// Most stop strings of a request.
const STOPS: usize = 16;
/// Most bytes of one.
const STOP_BYTES: usize = 1024;

/// Reads them. What is absent is as for the other commands of this program, not as for OpenAI's models.
pub(crate) fn params(fields: &Fields, model: &Model) -> Result<Params, Refusal> {
    let usual = Sampling::default();
    let penalty = |name: &str| fields.number(name, -2.0..=2.0);
    let sampling = Sampling {
        temperature: fields.number("temperature", 0.0..=2.0)?.unwrap_or(usual.temperature),
        top_k: match fields.integer("top_k", -1..=i128::from(u32::MAX))? {
            // Some clients write "all" so.
            Some(-1) => 0,
            Some(k) => k as usize,
            None => usual.top_k,
        },
        // Of probability 0 there is nothing: the likeliest token is what comes nearest.
        top_p: fields.number("top_p", 0.0..=1.0)?.map_or(usual.top_p, |p| p.max(f32::MIN_POSITIVE)),
        min_p: fields.number("min_p", 0.0..=1.0)?.unwrap_or(usual.min_p),
        repeat_penalty: fields.number("repeat_penalty", 0.01..=100.0)?.unwrap_or(usual.repeat_penalty),
        presence_penalty: penalty("presence_penalty")?.unwrap_or(usual.presence_penalty),
        frequency_penalty: penalty("frequency_penalty")?.unwrap_or(usual.frequency_penalty),
        repeat_last_n: match fields.integer("repeat_last_n", -1..=i128::from(u32::MAX))? {
            Some(-1) => usize::MAX,
            Some(n) => n as usize,
            None => usual.repeat_last_n,
        },
        logit_bias: biases(fields, model)?,
        seed: fields
            .integer("seed", i128::from(i64::MIN)..=i128::from(u64::MAX))?
            .map_or_else(|| RandomState::new().hash_one(0) >> 11, |seed| seed as u64),
    };
    Ok(Params {
        sampling,
        stop: stops(fields, "stop")?,
        ignore_eos: fields.bool("ignore_eos")?.unwrap_or(false),
        ..Params::default()
    })
}

/// A string or a list of them.
pub(crate) fn stops(fields: &Fields, name: &str) -> Result<Vec<String>, Refusal> {
    let path = fields.path(name);
    let one = |value: &Value, path: String| match value.as_str() {
        Some(text) if (1..=STOP_BYTES).contains(&text.len()) => Ok(text.to_owned()),
        Some(text) => {
            let message = format!("{path} has {} bytes, but must have 1 to {STOP_BYTES}", text.len());
            Err(Refusal::field(path, message))
        }
        None => Err(wrong(&path, value, "a string")),
    };
    match fields.get(name) {
        None => Ok(vec![]),
        Some(Value::Array(list)) if list.len() > STOPS => {
            let message = format!("{path} has {} strings, but may have {STOPS}", list.len());
            Err(Refusal::field(path, message))
        }
        Some(Value::Array(list)) => {
            list.iter().enumerate().map(|(i, value)| one(value, format!("{path}[{i}]"))).collect()
        }
        Some(value @ Value::String(_)) => Ok(vec![one(value, path)?]),
        Some(value) => Err(wrong(&path, value, "a string or an array of strings")),
    }
}

/// `{"1234": -100}`.
fn biases(fields: &Fields, model: &Model) -> Result<Vec<(u32, f32)>, Refusal> {
    let Some(list) = fields.object("logit_bias")? else { return Ok(vec![]) };
    let vocab = model.service.vocab();
    let mut biases = Vec::with_capacity(list.map().len());
    for (name, value) in list.map() {
        let id = name.parse::<u32>().ok().filter(|&id| (id as usize) < vocab);
        let Some(id) = id else {
            let shown: String = name.chars().take(40).collect();
            let message = format!(
                "logit_bias names \"{}\", but must name token ids from 0 to {}",
                shown.escape_debug(),
                vocab - 1
            );
            return Err(Refusal::field("logit_bias", message));
        };
        let path = list.path(name);
        let bias = value.as_f64().filter(|bias| (-100.0..=100.0).contains(bias));
        biases.push((id, bias.ok_or_else(|| wrong(&path, value, "a number from -100 to 100"))? as f32));
    }
    Ok(biases)
}

/// The largest of the fields that bound an answer which is given; the newer name wins.
pub(crate) fn max_tokens(fields: &Fields, names: &[&str], least: i128) -> Result<Option<usize>, Refusal> {
    let mut most = None;
    for name in names {
        let value = fields.integer(name, least..=i128::from(u64::MAX))?;
        most = most.or(value.map(|n| usize::try_from(n).unwrap_or(usize::MAX)));
    }
    Ok(most)
}

/// Token ids of the model.
pub(crate) fn ids(list: &[Value], path: &str, model: &Model) -> Result<Vec<u32>, Refusal> {
    let vocab = model.service.vocab();
    let id = |(i, value): (usize, &Value)| {
        let id = whole(value).filter(|&id| (0..vocab as i128).contains(&id));
        id.map(|id| id as u32).ok_or_else(|| {
            let want = format!("a token id from 0 to {}", vocab - 1);
            wrong(&format!("{path}[{i}]"), value, &want)
        })
    };
    list.iter().enumerate().map(id).collect()
}
