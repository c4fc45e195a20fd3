//! What a GPU can run, and whether it fits: said before anything is loaded, by name.

use crate::args::{begin, rope};
use crate::driver::Device;
use crate::tile::COLS;
use model::Error;
use model::plan::{Buf, Plan};
use model::runner::{LoadOptions, PAGE};

/// Angles of rotations are exact below this, in radians.
const MOST_ANGLE: f64 = (1 << 20) as f64;

/// Bytes of shared memory that a product of one row takes for 256 columns of its input, at most.
const SHARED_A_TILE: usize = 4 * COLS;

/// Bytes of shared memory that a product takes beside its input.
const SHARED_BESIDE: usize = 8 << 10;

/// Refuses by name what kernels cannot run; gives the padded width of a head.
pub(crate) fn runnable(plan: &Plan, options: &LoadOptions, device: &Device) -> Result<usize, Error> {
    let refuse = |what: String| Err(Error::Backend { backend: "cuda", what });
    if !rope::TYPES.contains(&options.kv) {
        return refuse(format!("a cache in {}", options.kv.name()));
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

/// Fewer positions than this are of no use to anybody.
const FEWEST: usize = 256;

/// Rows of a step that are offered where more do not fit: prompts are read in smaller bites.
const FEWER_ROWS: [usize; 4] = [256, 128, 64, 16];

/// Refuses what does not fit into `free` bytes and says what would. `need` gives the bytes of a run with some
/// options.
pub(crate) fn fits(
    name: &str,
    plan: &Plan,
    options: &LoadOptions,
    free: u64,
    need: impl Fn(&LoadOptions) -> Result<u64, Error>,
) -> Result<(), Error> {
    let needed = need(options)?;
    if needed <= free {
        return Ok(());
    }
    let what = format!("{name} with {} positions on the GPU", plan.context);
    Err(Error::Memory {
        what,
        needed,
        free,
        remedy: remedy(options, &|options| need(options).is_ok_and(|n| n <= free)),
    })
}

/// What a user may change so that it fits.
fn remedy(options: &LoadOptions, fits: &dyn Fn(&LoadOptions) -> bool) -> String {
    let rows = || FEWER_ROWS.into_iter().filter(|&rows| rows < options.rows);
    let context = positions(options, options.rows, fits);
    let batch = rows().find(|&rows| fits(&sized(options, rows, options.pages)));
    match (context, batch) {
        (Some(context), Some(batch)) => format!("--ctx-size {context} or --batch-size {batch} fits"),
        (Some(context), None) => format!("--ctx-size {context} fits"),
        (None, Some(batch)) => format!("--batch-size {batch} fits"),
        (None, None) => {
            let both = rows().find_map(|rows| Some((rows, positions(options, rows, fits)?)));
            match both {
                Some((batch, context)) => format!("--batch-size {batch} --ctx-size {context} fits"),
                None => "use a smaller model, one quantized to fewer bits, or --device cpu".to_owned(),
            }
        }
    }
}

/// The options of fewer rows and pages, as the program makes them.
fn sized(options: &LoadOptions, rows: usize, pages: usize) -> LoadOptions {
    let rows = rows.min(pages * PAGE);
    LoadOptions { rows, logit_rows: options.logit_rows.min(rows), pages, ..*options }
}

/// The most positions that fit with steps of `rows`, if they are of use.
fn positions(options: &LoadOptions, rows: usize, fits: &dyn Fn(&LoadOptions) -> bool) -> Option<usize> {
    let (mut low, mut high) = (FEWEST / PAGE, options.pages);
    if low >= high || !fits(&sized(options, rows, low)) {
        return None;
    }
    // `low` pages fit; whether `high` do is not known or not so.
    while high - low > 1 {
        let middle = usize::midpoint(low, high);
        if fits(&sized(options, rows, middle)) {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(low * PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::tiny::Tiny;

    #[test]
    fn what_does_not_fit_is_told_with_what_would() {
        let (_, plan) = Plan::read(&Tiny::new("llama", 1).parts().gguf(), Some(1024)).expect("a tiny model");
        let need = |options: &LoadOptions| Ok((1000 + 100 * options.pages + 2 * options.rows) as u64);
        let told = |rows, free| {
            let options = LoadOptions { rows, ..LoadOptions::single(1024, 1) };
            fits("m.gguf", &plan, &options, free, need).map_err(|error| error.to_string())
        };
        let refused = |rows, free| told(rows, free).expect_err("too much");
        assert!(told(1, 4202).is_ok());
        // 31 of 32 pages.
        let text = refused(1, 4201);
        assert!(
            text.contains("m.gguf with 1024 positions on the GPU needs 4202 bytes and 4201 are free"),
            "{text}"
        );
        assert!(text.contains("; --ctx-size 992 fits"), "{text}");
        assert!(refused(1, 1802).contains("; --ctx-size 256 fits"), "{}", refused(1, 1802));
        assert!(refused(1, 1801).contains("smaller model"), "{}", refused(1, 1801));
        // 1000 + 3200 + 1024 with 512 rows; a step has no more rows than there are positions.
        assert!(told(512, 5224).is_ok());
        assert!(
            refused(512, 5223).contains("--ctx-size 992 or --batch-size 256 fits"),
            "{}",
            refused(512, 5223)
        );
        assert!(
            refused(512, 4250).contains("--ctx-size 704 or --batch-size 16 fits"),
            "{}",
            refused(512, 4250)
        );
        assert!(
            refused(512, 2200).contains("; --batch-size 128 --ctx-size 288 fits"),
            "{}",
            refused(512, 2200)
        );
        assert!(refused(512, 1831).contains("smaller model"), "{}", refused(512, 1831));
    }
}
