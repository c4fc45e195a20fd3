//! What a GPU can run, and whether it fits: said before anything is loaded, by name.

use crate::args::{begin, rope};
use crate::driver::Device;
use crate::tile::COLS;
use model::Error;
use model::plan::{Buf, Plan};
use model::runner::{KvType, LoadOptions, Memory, PAGE};

/// Angles of rotations are exact below this, in radians.
const MOST_ANGLE: f64 = (1 << 20) as f64;

/// Bytes of shared memory that a product of one row takes for 256 columns of its input, at most.
const SHARED_A_TILE: usize = 4 * COLS;

/// Bytes of shared memory that a product takes beside its input.
const SHARED_BESIDE: usize = 8 << 10;

/// Refuses by name what kernels cannot run; gives the padded width of a head.
pub(crate) fn runnable(plan: &Plan, options: &LoadOptions, device: &Device) -> Result<usize, Error> {
    let refuse = |what: String| Err(Error::Backend { backend: "cuda", what });
    if options.kv != KvType::F16 {
        return refuse("a cache in f32".to_owned());
    }
    let shape = &plan.shape;
    let Some(head) = rope::width(shape.head_dim) else {
        let most = rope::WIDTHS[rope::WIDTHS.len() - 1];
        return refuse(format!("heads {} wide (multiples of 8 up to {most})", shape.head_dim));
    };
    let widths = [("a residual stream", Buf::X), ("a gate", Buf::G)];
    for (what, buf) in widths {
        if !shape.width(buf).is_multiple_of(4) {
            return refuse(format!("{what} {} wide (a multiple of 4)", shape.width(buf)));
        }
    }
    let widest = plan.weights.iter().map(|weight| weight.cols).max().unwrap_or(0);
    if widest.div_ceil(COLS) * SHARED_A_TILE + SHARED_BESIDE > device.shared_per_block {
        return refuse(format!(
            "a product of {widest} inputs in {} bytes of shared memory",
            device.shared_per_block
        ));
    }
    if plan.ropes.len() > begin::TABLES {
        return refuse(format!("{} kinds of rotation (at most {})", plan.ropes.len(), begin::TABLES));
    }
    let fastest = plan.ropes.iter().flat_map(|rope| &rope.frequency).copied().fold(0.0, f32::max);
    let last = plan.context.min(options.pages * PAGE);
    if f64::from(fastest) * last as f64 >= MOST_ANGLE {
        return refuse(format!("{last} positions (fewer than {MOST_ANGLE})"));
    }
    Ok(head)
}

/// Refuses what does not fit: `needed` on the device and `beside` in the host's memory where they are one.
pub(crate) fn fits(
    name: &str,
    plan: &Plan,
    options: &LoadOptions,
    needed: &Memory,
    beside: u64,
    free: u64,
) -> Result<(), Error> {
    let total = needed.total() + beside;
    if total <= free {
        return Ok(());
    }
    let fixed = total - needed.kv;
    let page = needed.kv / (options.pages as u64).max(1);
    let positions = free.saturating_sub(fixed) / page.max(1) * PAGE as u64;
    let remedy = if positions >= 256 {
        format!("--ctx-size {positions} fits")
    } else {
        "use a smaller model, one quantized to fewer bits, or --device cpu".to_owned()
    };
    let what = format!("{name} with {} positions on the GPU", plan.context);
    Err(Error::Memory { what, needed: total, free, remedy })
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::tiny::Tiny;

    #[test]
    fn what_does_not_fit_is_told_with_what_would() {
        let (_, plan) = Plan::read(&Tiny::new("llama", 1).parts().gguf(), Some(1024)).expect("a tiny model");
        let options = LoadOptions::single(1024, 1);
        let needed = Memory { weights: 1000, kv: 32 * 100, buffers: 200 };
        assert!(fits("m.gguf", &plan, &options, &needed, 50, 4450).is_ok());
        let told = |free| fits("m.gguf", &plan, &options, &needed, 50, free).unwrap_err().to_string();
        // 31 of 32 pages.
        let text = told(4449);
        assert!(
            text.contains("m.gguf with 1024 positions on the GPU needs 4450 bytes and 4449 are free"),
            "{text}"
        );
        assert!(text.contains("--ctx-size 992 fits"), "{text}");
        assert!(told(1250 + 799).contains("smaller model"), "{}", told(1250 + 799));
        assert!(told(1250 + 800).contains("--ctx-size 256 fits"), "{}", told(1250 + 800));
    }
}
