//! The report as a picture: for each test a bar of operations by time, and their shares of the bandwidth.

use std::fmt::Write as _;

use super::About;
use super::report::{Profile, micros, si};
use crate::screen::printable;
use crate::svg::{colour, document, escaped, text};

const WIDTH: f64 = 920.0;
const MARGIN: f64 = 24.0;
/// Where bars of shares begin, behind their names.
const NAMES: f64 = 200.0;
const LINE: f64 = 22.0;

/// The picture.
pub(super) fn picture(about: &About, profiles: &[Profile]) -> String {
    let mut body = String::new();
    let mut y = MARGIN + 12.0;
    text(&mut body, MARGIN, y, "title", &printable(&about.model));
    y += LINE;
    let roof = format!("{} · memory can be read at {}B/s", about.device, si(about.roof.best));
    text(&mut body, MARGIN, y, "soft", &printable(&roof));
    for profile in profiles {
        y += 2.0 * LINE;
        y = section(&mut body, y, about, profile);
    }
    document(WIDTH, y + MARGIN, "time by operation and share of bandwidth", &body)
}

/// One test from `y` on; where it ends.
fn section(body: &mut String, mut y: f64, about: &About, profile: &Profile) -> f64 {
    let head = format!(
        "{}: {} a {} untraced; traced, its operations take {}",
        profile.test.name(),
        micros(profile.untraced),
        profile.unit(),
        micros(profile.parts())
    );
    text(body, MARGIN, y, "head", &head);
    y += 10.0;
    let wide = WIDTH - 2.0 * MARGIN;
    let mut x = MARGIN;
    for (i, row) in profile.kinds.iter().enumerate() {
        let part = profile.part(row);
        let name = format!("{}: {} ({:.1} %)", row.name, micros(row.seconds), 100.0 * part);
        bar(body, [x, y, part * wide, 30.0], colour(i), &name);
        // What fits: about seven units a letter.
        if part * wide > 7.5 * row.name.chars().count() as f64 {
            text(body, x + 5.0, y + 20.0, "in", &row.name);
        }
        x += part * wide;
    }
    y += 30.0 + LINE;
    text(body, MARGIN, y, "soft", "share of the bandwidth that memory gives");
    y += 8.0;
    let full = WIDTH - MARGIN - NAMES - 150.0;
    let top = y;
    for (i, row) in profile.kinds.iter().enumerate() {
        let share = row.share(&about.roof);
        text(body, MARGIN, y + 15.0, "", &row.name);
        let _ = writeln!(
            body,
            "<rect class=\"back\" x=\"{NAMES}\" y=\"{:.1}\" width=\"{full:.1}\" height=\"14\"/>",
            y + 4.0
        );
        let told = format!("{}: {:.1} % at {}B/s", row.name, 100.0 * share, si(row.rate()));
        bar(body, [NAMES, y + 4.0, share.min(1.0) * full, 14.0], colour(i), &told);
        let value = format!("{:.0} %, {}", 100.0 * share, micros(row.seconds));
        text(body, NAMES + full + 8.0, y + 15.0, "soft", &value);
        y += LINE;
    }
    let _ = writeln!(
        body,
        "<line class=\"rule\" x1=\"{0:.1}\" y1=\"{top:.1}\" x2=\"{0:.1}\" y2=\"{y:.1}\" stroke-dasharray=\"3 3\"/>",
        NAMES + full
    );
    y
}

fn bar(body: &mut String, [x, y, width, height]: [f64; 4], fill: &str, title: &str) {
    let width = if width.is_finite() { width.max(0.0) } else { 0.0 };
    let _ = writeln!(
        body,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height}\" fill=\"{fill}\">\
         <title>{}</title></rect>",
        escaped(title)
    );
}
