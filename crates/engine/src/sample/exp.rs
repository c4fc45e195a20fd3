//! e^x from additions and multiplications alone.
//!
//! The system's `exp` differs in the last bits between C libraries; with this one the same logits and
//! seed choose the same token on every platform. It also vectorises, which the library call does not.

/// Below this the result is zero: the smallest normal number is e^−87.3.
const LOWEST: f32 = -87.0;

/// 1.5 · 2²³: adding it rounds to a whole number that then sits in the low bits.
const ROUND: f32 = 12_582_912.0;

/// ln 2 in two parts, the first exact in few bits so that `n · LN2_HIGH` is exact (Cody and Waite).
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// e^x for x ≤ 0, within 3e-7 relative; zero below −87.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    let inside = if x > LOWEST { x } else { LOWEST };
    let shifted = inside * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (inside - n * LN2_HIGH) - n * LN2_LOW;
    // The Taylor series suffices on |r| ≤ ln 2 / 2: its next term is under 1.2e-7.
    let r3 = ((r * (1.0 / 720.0) + 1.0 / 120.0) * r + 1.0 / 24.0) * r + 1.0 / 6.0;
    let series = ((r3 * r + 0.5) * r + 1.0) * r + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    if x > LOWEST { series * power } else { 0.0 }
}

/// Σ e^exponent(item), in a fixed order of sixteen lanes so that it vectorises.
pub(super) fn sum_exp<T: Copy>(items: &[T], exponent: impl Fn(T) -> f32) -> f64 {
    let (wide, rest) = items.as_chunks::<16>();
    let mut lanes = [0f64; 16];
    for chunk in wide {
        // Plain loops over arrays: `map` of an array is a call the compiler does not vectorise through.
        let mut powers = [0f32; 16];
        for (power, &item) in powers.iter_mut().zip(chunk) {
            *power = exponent(item);
        }
        for power in &mut powers {
            *power = exp(*power);
        }
        for (lane, power) in lanes.iter_mut().zip(powers) {
            *lane += power as f64;
        }
    }
    let rest: f64 = rest.iter().map(|&item| exp(exponent(item)) as f64).sum();
    lanes.iter().sum::<f64>() + rest
}

#[cfg(test)]
#[allow(clippy::float_cmp)] // exact values are meant
mod tests {
    use super::exp;

    #[test]
    fn agrees_with_the_library() {
        for i in 0..=870_000 {
            let x = -(i as f32) * 1e-4;
            let (ours, theirs) = (exp(x) as f64, (x as f64).exp());
            let bound = if x > super::LOWEST { 3e-7 * theirs } else { 2e-38 };
            assert!((ours - theirs).abs() <= bound, "exp({x}) = {ours}, not {theirs}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-1e30), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
    }
}
