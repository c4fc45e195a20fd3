//! The chain against its definition: exact probabilities written down naively, and draws against them.

use super::*;
use proptest::prelude::*;

/// Probabilities of all tokens by the definitions, in f64 and with full sorts.
fn exact(settings: &Sampling, logits: &[f32], recent: &[u32]) -> Vec<f64> {
    let mut scores: Vec<f64> = logits.iter().map(|&logit| logit as f64).collect();
    for &(id, bias) in &settings.logit_bias {
        scores[id as usize] += bias as f64;
    }
    let recent = &recent[recent.len().saturating_sub(settings.repeat_last_n)..];
    for (id, score) in scores.iter_mut().enumerate() {
        let count = recent.iter().filter(|&&seen| seen == id as u32).count();
        if count > 0 {
            let factor = settings.repeat_penalty as f64;
            *score = if *score > 0.0 { *score / factor } else { *score * factor };
            *score -= count as f64 * settings.frequency_penalty as f64 + settings.presence_penalty as f64;
        }
    }
    let mut left: Vec<(usize, f64)> = scores.into_iter().enumerate().collect();
    left.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    if settings.top_k > 0 {
        left.truncate(settings.top_k);
    }
    let weights = |left: &[(usize, f64)], temperature: f64| {
        let weights: Vec<f64> = left.iter().map(|&(_, s)| ((s - left[0].1) / temperature).exp()).collect();
        let total: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / total).collect::<Vec<_>>()
    };
    let mut sum = 0.0;
    let before: Vec<f64> = weights(&left, 1.0)
        .into_iter()
        .map(|p| {
            sum += p;
            sum - p
        })
        .collect();
    // A token stays while those before it do not reach top_p.
    let keep = before.iter().filter(|&&before| before < settings.top_p as f64).count();
    if settings.top_p < 1.0 {
        left.truncate(keep.max(1));
    }
    let best = left[0].1;
    left.retain(|&(_, score)| (score - best).exp() >= settings.min_p as f64);
    let mut result = vec![0.0; logits.len()];
    for (&(id, _), p) in left.iter().zip(weights(&left, settings.temperature as f64)) {
        result[id] = p;
    }
    result
}

/// χ² of `draws` of the chain against the exact probabilities, with its degrees of freedom; a token of
/// probability zero must never come.
fn chi_square(settings: &Sampling, logits: &[f32], recent: &[u32], draws: usize) -> (f64, usize) {
    let expected = exact(settings, logits, recent);
    let mut sampler = Sampler::new(settings, logits.len(), 1000).expect("the settings are good");
    for &id in recent {
        sampler.accept(id);
    }
    let mut counts = vec![0usize; logits.len()];
    for _ in 0..draws {
        counts[sampler.sample(logits) as usize] += 1;
    }
    let (mut sum, mut cells) = (0.0, 0usize);
    for (id, (&count, &p)) in counts.iter().zip(&expected).enumerate() {
        assert!(p > 0.0 || count == 0, "token {id} has probability 0 and came {count} times");
        if p > 0.0 {
            let mean = p * draws as f64;
            sum += (count as f64 - mean).powi(2) / mean;
            cells += 1;
        }
    }
    (sum, cells - 1)
}

/// A bound that χ² passes less than once in 10⁵ (Wilson and Hilferty's cube-root normal, 4.3 σ).
fn bound(freedom: usize) -> f64 {
    let n = freedom as f64;
    let spread = 2.0 / (9.0 * n);
    n * (1.0 - spread + 4.3 * spread.sqrt()).powi(3)
}

fn full() -> Sampling {
    Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 7, ..Sampling::default() }
}

const LOGITS: [f32; 10] = [1.0, -0.5, 2.0, 0.3, 2.0, -3.0, 0.0, 1.7, -1.2, 0.9];

#[test]
fn draws_follow_the_exact_distribution() {
    let penalised = Sampling {
        repeat_penalty: 1.3,
        presence_penalty: 0.4,
        frequency_penalty: 0.2,
        repeat_last_n: 5,
        logit_bias: vec![(0, 1.5), (4, f32::NEG_INFINITY), (5, 4.0)],
        ..full()
    };
    let cases = [
        full(),
        Sampling { temperature: 0.5, ..full() },
        Sampling { temperature: 1.7, top_k: 4, ..full() },
        Sampling { top_p: 0.7, ..full() },
        Sampling { min_p: 0.2, temperature: 2.0, ..full() },
        Sampling { top_k: 7, top_p: 0.85, min_p: 0.1, temperature: 0.8, ..full() },
        penalised.clone(),
        Sampling { top_k: 6, top_p: 0.9, min_p: 0.05, temperature: 0.9, ..penalised },
    ];
    for settings in cases {
        let (sum, freedom) = chi_square(&settings, &LOGITS, &[9, 2, 2, 7, 2, 0, 3], 100_000);
        assert!(freedom > 0 && sum < bound(freedom), "χ² {sum} of {freedom} for {settings:?}");
    }
}

/// The check above must be able to fail.
#[test]
fn a_wrong_distribution_is_noticed() {
    let wrong = Sampling { temperature: 1.05, ..full() };
    let expected = exact(&wrong, &LOGITS, &[]);
    let right = exact(&full(), &LOGITS, &[]);
    let shift: f64 = right.iter().zip(&expected).map(|(p, q)| (p - q).powi(2) / q).sum();
    assert!(shift * 100_000.0 > bound(9), "five percent of temperature would not show");
}

#[test]
fn a_seed_means_the_same_tokens_everywhere() {
    let mut sampler = Sampler::new(&full(), 10, 100).expect("the settings are good");
    let tokens: Vec<u32> = (0..24).map(|_| sampler.sample(&LOGITS)).collect();
    let mut again = Sampler::new(&full(), 10, 100).expect("the settings are good");
    assert_eq!(tokens, (0..24).map(|_| again.sample(&LOGITS)).collect::<Vec<_>>());
    let mut other = Sampler::new(&Sampling { seed: 8, ..full() }, 10, 100).expect("the settings are good");
    assert_ne!(tokens, (0..24).map(|_| other.sample(&LOGITS)).collect::<Vec<_>>());
    assert_eq!(tokens, SEED_7);
}

/// From a separate program: the published xoshiro256++ and SplitMix64 in Python over exact probabilities.
const SEED_7: [u32; 24] = [0, 2, 7, 4, 9, 4, 7, 2, 9, 0, 1, 2, 7, 1, 4, 1, 2, 2, 1, 7, 4, 3, 7, 4];

#[test]
fn nan_and_infinities_never_panic() {
    let bad = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, -0.0];
    let settings = [
        full(),
        Sampling::greedy(),
        Sampling { temperature: f32::MIN_POSITIVE, top_k: 2, ..full() },
        Sampling { temperature: f32::MAX, top_p: f32::MIN_POSITIVE, ..full() },
        Sampling { min_p: 1.0, repeat_penalty: f32::MAX, frequency_penalty: f32::MAX, ..full() },
        Sampling { logit_bias: vec![(0, f32::MAX), (1, f32::MIN), (2, f32::NEG_INFINITY)], ..full() },
    ];
    for settings in settings {
        for a in bad {
            for b in bad {
                let logits = [a, b, a, b, a];
                let mut sampler = Sampler::new(&settings, 5, 10).expect("the settings are good");
                for _ in 0..4 {
                    let id = sampler.sample(&logits);
                    assert!(id < 5);
                    sampler.accept(id);
                }
            }
        }
    }
    let mut sampler = Sampler::new(&full(), 3, 10).expect("the settings are good");
    assert_eq!(sampler.sample(&[f32::NAN, f32::NEG_INFINITY, 0.0]), 2, "what is no number is never chosen");
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let refused = |settings: Sampling| {
        Sampler::new(&settings, 10, 10).expect_err("the setting is out of range").to_string()
    };
    for (settings, message) in [
        (
            Sampling { temperature: f32::NAN, ..full() },
            "temperature is NaN, but must be a finite number of at least 0",
        ),
        (
            Sampling { temperature: -0.1, ..full() },
            "temperature is -0.1, but must be a finite number of at least 0",
        ),
        (Sampling { top_p: 0.0, ..full() }, "top_p is 0, but must be above 0 and at most 1"),
        (Sampling { top_p: f32::NAN, ..full() }, "top_p is NaN, but must be above 0 and at most 1"),
        (Sampling { min_p: 1.5, ..full() }, "min_p is 1.5, but must be from 0 to 1"),
        (
            Sampling { repeat_penalty: 0.0, ..full() },
            "repeat_penalty is 0, but must be a finite number above 0",
        ),
        (
            Sampling { presence_penalty: f32::INFINITY, ..full() },
            "presence_penalty is inf, but must be a finite number",
        ),
        (
            Sampling { frequency_penalty: f32::NAN, ..full() },
            "frequency_penalty is NaN, but must be a finite number",
        ),
        (
            Sampling { logit_bias: vec![(10, 0.0)], ..full() },
            "logit_bias is 10, but must be a token id of the model's vocabulary",
        ),
        (
            Sampling { logit_bias: vec![(1, f32::INFINITY)], ..full() },
            "logit_bias is inf, but must be a finite number, or -inf to forbid the token",
        ),
    ] {
        assert_eq!(refused(settings), message);
    }
}

#[test]
fn greedy_sees_bias_and_penalties() {
    let settings = Sampling { logit_bias: vec![(5, 6.0)], repeat_penalty: 3.0, ..Sampling::greedy() };
    let mut sampler = Sampler::new(&settings, 10, 100).expect("the settings are good");
    let mut choose = || {
        let id = sampler.sample(&LOGITS);
        sampler.accept(id);
        id
    };
    assert_eq!([choose(), choose(), choose(), choose()], [5, 2, 4, 7]);
}

proptest! {
    /// With a temperature so high that all candidates are about equally likely, every one of them comes,
    /// and nothing else: the stages leave exactly what their definitions say. Scores are multiples of
    /// 1/8 with many equals.
    #[test]
    fn stages_keep_what_their_definitions_say(
        eighths in prop::collection::vec(-24i32..24, 1..700),
        top_k in prop_oneof![Just(0usize), 1usize..20, 250usize..600],
        top_p in prop_oneof![Just(1f32), 0.05f32..0.999],
        min_p in prop_oneof![Just(0f32), 0.001f32..1.0],
    ) {
        let logits: Vec<f32> = eighths.iter().map(|&eighths| eighths as f32 / 8.0).collect();
        let mut candidates = Candidates::with_room(top_k, logits.len());
        candidates.top_k(&logits, top_k);
        candidates.top_p(top_p);
        candidates.min_p((min_p as f64).ln() as f32);
        let mut kept: Vec<usize> = candidates.list.iter().map(|candidate| candidate.id as usize).collect();
        kept.sort_unstable();
        let settings = Sampling { top_k, top_p, min_p, ..full() };
        // Rounding may move a border; then the definition must agree a hair to one side of it.
        let agrees = [(1.0, 1.0), (1.0 + 1e-5, 1.0), (1.0 - 1e-5, 1.0), (1.0, 1.0 + 1e-5), (1.0, 1.0 - 1e-5)]
            .iter()
            .any(|&(p, m)| {
                let moved = if top_p < 1.0 { (top_p * p).min(0.999_999) } else { top_p };
                let settings = Sampling { top_p: moved, min_p: min_p * m, ..settings.clone() };
                let exact = exact(&settings, &logits, &[]);
                kept == (0..logits.len()).filter(|&id| exact[id] > 0.0).collect::<Vec<_>>()
            });
        prop_assert!(agrees, "kept {:?}", kept);
    }

    #[test]
    fn top_k_is_in_order_with_the_lowest_ids_of_equals(
        scores in prop::collection::vec(prop_oneof![(-9i32..9).prop_map(|x| x as f32), Just(f32::NEG_INFINITY)], 1..500),
        k in 1usize..400,
    ) {
        let mut candidates = Candidates::with_room(k, scores.len());
        candidates.top_k(&scores, k);
        let mut all: Vec<u32> = (0..scores.len() as u32).collect();
        if k < scores.len() {
            all.sort_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]).then(a.cmp(&b)));
            all.truncate(k);
        }
        let ids: Vec<u32> = candidates.list.iter().map(|candidate| candidate.id).collect();
        prop_assert_eq!(ids, all);
    }
}
