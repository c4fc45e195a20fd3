//! Texts that follow rules: a toy grammar, whatever the logits and settings say.

mod common;

use common::{END, FIRST_WORD, Sizes, VOCAB, alone, greedy, tokenizer};
use engine::{Constraint, Finish, Grammar, Params, Rules, Sampling, Stuck};
use proptest::prelude::*;
use std::sync::Arc;

/// `first`, then up to `more` of `then`; stuck after `stuck` tokens.
#[derive(Clone, Copy, Debug)]
struct Toy {
    first: u32,
    then: u32,
    more: usize,
    stuck: usize,
}

struct At(Toy, usize);

impl Grammar for Toy {
    fn start(&self) -> Box<dyn Constraint> {
        Box::new(At(*self, 0))
    }
}

impl Constraint for At {
    fn mask(&mut self, scores: &mut [f32]) -> Result<(), Stuck> {
        let At(toy, at) = *self;
        if at >= toy.stuck {
            return Err(Stuck("it is a toy".to_owned()));
        }
        let allowed = if at == 0 { [toy.first; 2] } else { [toy.then, END] };
        for (score, id) in scores.iter_mut().zip(0..) {
            if !allowed.contains(&id) {
                *score = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }

    fn accept(&mut self, token: u32) -> Result<(), Stuck> {
        let wanted = if self.1 == 0 { self.0.first } else { self.0.then };
        assert_eq!(token, wanted, "only what the mask left is accepted");
        self.1 += 1;
        Ok(())
    }

    fn finished(&mut self) -> bool {
        self.1 == self.0.more + 1
    }

    fn forced(&mut self, _out: &mut Vec<u32>) {}
}

fn rules(toy: Toy) -> Rules {
    Rules(Arc::new(toy))
}

const TOY: Toy = Toy { first: FIRST_WORD + 3, then: FIRST_WORD + 4, more: 5, stuck: 99 };

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_is_set_the_rules_hold(
        temperature in prop_oneof![Just(0.0f32), 0.1f32..4.0],
        top_k in 0usize..4,
        seed: u64,
        bias in prop::collection::vec((0u32..VOCAB as u32, prop_oneof![Just(f32::NEG_INFINITY), -100.0f32..100.0]), 0..40),
        ignore_eos: bool,
        ahead in 0usize..3,
        penalty in 0.5f32..2.0,
    ) {
        // Of two that are forbidden alike, either may come.
        let others = !bias.contains(&(TOY.then, f32::NEG_INFINITY));
        let sampling = Sampling { temperature, top_k, seed, logit_bias: bias, repeat_penalty: penalty, ..Sampling::default() };
        let params = Params { sampling, rules: Some(rules(TOY)), ignore_eos, ..greedy(40) };
        let told = alone(Sizes { ahead, ..Sizes::default() }, Some(tokenizer()), &[8, 9], &params);
        let whole = told.tokens.strip_suffix(&[END]).unwrap_or(&told.tokens);
        prop_assert_eq!(whole[0], TOY.first);
        prop_assert!(whole[1..].iter().all(|&token| token == TOY.then) && whole.len() <= TOY.more + 1);
        prop_assert_eq!(told.summary().finish, Finish::Stop);
        prop_assert_eq!(told.text, format!("abc{}", "c".repeat(whole.len() - 1)));
        if ignore_eos && others {
            prop_assert_eq!(whole.len(), TOY.more + 1, "an end was chosen though others were left");
        }
    }
}

#[test]
fn a_forbidden_token_comes_where_rules_leave_no_other() {
    let all = (0..VOCAB as u32).map(|id| (id, f32::NEG_INFINITY)).collect();
    for temperature in [0.0, 1.0] {
        let sampling = Sampling { logit_bias: Vec::clone(&all), temperature, ..Sampling::default() };
        let params = Params { sampling, rules: Some(rules(Toy { more: 0, ..TOY })), ..greedy(9) };
        let told = alone(Sizes::default(), Some(tokenizer()), &[8, 9], &params);
        assert_eq!((told.tokens.as_slice(), told.summary().finish), ([TOY.first].as_slice(), Finish::Stop));
    }
}

#[test]
fn what_is_cut_is_said_to_be_cut() {
    let never_ending = Sampling { logit_bias: vec![(END, f32::NEG_INFINITY)], ..Sampling::greedy() };
    let params = |max, toy| Params { sampling: never_ending.clone(), rules: Some(rules(toy)), ..greedy(max) };
    let finish = |max, toy| {
        let told = alone(Sizes::default(), Some(tokenizer()), &[8], &params(max, toy));
        (told.tokens.len(), told.summary().finish)
    };
    assert_eq!(finish(3, TOY), (3, Finish::Length));
    assert_eq!(finish(6, TOY), (6, Finish::Stop), "the last token made it whole");
    assert_eq!(finish(9, Toy { stuck: 2, ..TOY }), (2, Finish::Length));
}

#[test]
fn names_of_control_tokens_are_written_if_asked_for() {
    let text = |shown| {
        let sampling = Sampling { logit_bias: vec![(1, 100.0)], ..Sampling::greedy() };
        alone(Sizes::default(), Some(tokenizer()), &[8], &Params { sampling, shown, ..greedy(2) }).text
    };
    assert_eq!((text(vec![1]).as_str(), text(vec![0]).as_str()), ("<s><s>", ""));
}
