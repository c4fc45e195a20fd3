//! The rotation's frequencies, settled once when the plan is written.
//!
//! Dimension pair `i` of a head at position `p` turns by `p · frequency[i]`. Linear scaling, YaRN and
//! the factor tensors all only change the table, so backends know nothing of them.

use crate::{Rope, RopeScaling};

/// One kind of rotation, ready for a backend.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeTable {
    /// Radians a position for each pair (i, i + dims/2); as long as half the rotating dimensions.
    pub frequency: Vec<f32>,
    /// Factor on cosine and sine.
    pub magnitude: f32,
}

impl RopeTable {
    /// The table of `rope`; `factors` divide the frequencies.
    pub fn new(rope: &Rope, factors: Option<&[f32]>) -> RopeTable {
        let half = rope.dims / 2;
        let base = f64::from(rope.base);
        let mut magnitude = rope.magnitude;
        let mut frequency: Vec<f64> = (0..half)
            .map(|i| base.powf(-2.0 * i as f64 / rope.dims as f64))
            .enumerate()
            .map(|(i, plain)| plain / factors.map_or(1.0, |factors| f64::from(factors[i])))
            .collect();
        match rope.scaling {
            RopeScaling::None => {}
            RopeScaling::Linear(factor) => frequency.iter_mut().for_each(|f| *f /= f64::from(factor)),
            RopeScaling::Yarn { factor, original } => {
                let factor = f64::from(factor);
                // The pair whose wavelength makes `turns` turns over the original context.
                let pair = |turns: f64| {
                    let ratio = original as f64 / (turns * 2.0 * std::f64::consts::PI);
                    rope.dims as f64 * ratio.ln() / (2.0 * base.ln())
                };
                let low = pair(32.0).floor().max(0.0);
                let high = pair(1.0).ceil().min(rope.dims as f64 - 1.0);
                for (i, f) in frequency.iter_mut().enumerate() {
                    let stretched = ((i as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
                    *f = *f / factor * stretched + *f * (1.0 - stretched);
                }
                magnitude *= (1.0 + 0.1 * factor.ln()) as f32;
            }
        }
        RopeTable { frequency: frequency.into_iter().map(|f| f as f32).collect(), magnitude }
    }

    /// Fills `cos` and `sin` (one entry a pair) for a position.
    pub fn fill(&self, position: u32, cos: &mut [f32], sin: &mut [f32]) {
        for ((&frequency, cos), sin) in self.frequency.iter().zip(cos).zip(sin) {
            // The product is rounded to f32 as transformers does; the turn itself is exact.
            let (s, c) = f64::from(position as f32 * frequency).sin_cos();
            *cos = c as f32 * self.magnitude;
            *sin = s as f32 * self.magnitude;
        }
    }
}
