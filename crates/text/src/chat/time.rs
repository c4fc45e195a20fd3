//! `strftime_now`: the caller's time, in UTC, as C's `strftime` writes it in the C locale.

use super::python::fail;
use minijinja::Error;

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Formats `now`, seconds since 1970-01-01 UTC.
pub(super) fn strftime(format: &str, now: i64) -> Result<String, Error> {
    if format.len() > 4096 {
        return Err(fail("date format is longer than 4096 bytes"));
    }
    let day = now.div_euclid(86_400);
    let second = now.rem_euclid(86_400);
    let (year, month, date) = civil(day);
    let weekday = (day + 4).rem_euclid(7) as usize;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let noon = (hour + 11) % 12 + 1;
    let year_day = day - days_before(year) + 1;
    let month_name = MONTHS[(month - 1) as usize];

    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut code = chars.next();
        // glibc's flag for "no padding".
        let bare = code == Some('-');
        if bare {
            code = chars.next();
        }
        let pad = |value: i64, width: usize| {
            if bare { value.to_string() } else { format!("{value:0width$}") }
        };
        let piece = match code {
            Some('Y') => year.to_string(),
            Some('y') => pad(year.rem_euclid(100), 2),
            Some('m') => pad(month, 2),
            Some('d') => pad(date, 2),
            Some('e') if !bare => format!("{date:2}"),
            Some('e') => date.to_string(),
            Some('H') => pad(hour, 2),
            Some('I') => pad(noon, 2),
            Some('M') => pad(minute, 2),
            Some('S') => pad(second, 2),
            Some('f') => "000000".into(),
            Some('j') => pad(year_day, 3),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.into(),
            Some('A') => DAYS[weekday].into(),
            Some('a') => DAYS[weekday][..3].into(),
            Some('B') => month_name.into(),
            Some('b' | 'h') => month_name[..3].into(),
            Some('w') => weekday.to_string(),
            Some('u') => (if weekday == 0 { 7 } else { weekday }).to_string(),
            Some('F') => format!("{year}-{month:02}-{date:02}"),
            Some('T' | 'X') => format!("{hour:02}:{minute:02}:{second:02}"),
            Some('R') => format!("{hour:02}:{minute:02}"),
            Some('D' | 'x') => format!("{month:02}/{date:02}/{:02}", year.rem_euclid(100)),
            Some('c') => format!(
                "{} {} {date:2} {hour:02}:{minute:02}:{second:02} {year}",
                &DAYS[weekday][..3],
                &month_name[..3]
            ),
            Some('s') => now.to_string(),
            // A time without a zone prints none, as Python's naive datetime does.
            Some('Z' | 'z') => String::new(),
            Some('n') => "\n".into(),
            Some('t') => "\t".into(),
            Some('%') | None => "%".into(),
            Some(other) => return Err(fail(format!("date format %{other} is not known"))),
        };
        out.push_str(&piece);
    }
    Ok(out)
}

/// Days from 1970-01-01 to 1 January of `year`, proleptic Gregorian calendar.
fn days_before(year: i64) -> i64 {
    let y = year - 1;
    365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) - 719_162
}

/// Year, month and day of a day counted from 1970-01-01.
fn civil(day: i64) -> (i64, i64, i64) {
    // A first guess is off by at most one year.
    let mut year = 1970 + (day as f64 / 365.2425).floor() as i64;
    while days_before(year) > day {
        year -= 1;
    }
    while days_before(year + 1) <= day {
        year += 1;
    }
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let february = if leap { 29 } else { 28 };
    let mut rest = day - days_before(year);
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if rest < length {
            break;
        }
        rest -= length;
        month += 1;
    }
    (year, month, rest + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against `date -u -d @SECONDS` of GNU coreutils.
    #[test]
    fn known_days() {
        for (now, expected) in [
            (0, "1970-01-01 Thu 001 00:00:00"),
            (951_782_400, "2000-02-29 Tue 060 00:00:00"),
            (1_735_689_599, "2024-12-31 Tue 366 23:59:59"),
            (4_107_542_400, "2100-03-01 Mon 060 00:00:00"),
            (-1, "1969-12-31 Wed 365 23:59:59"),
        ] {
            assert_eq!(strftime("%F %a %j %T", now).unwrap(), expected);
        }
        assert_eq!(
            strftime("%d %b %Y, %-d %B %I%p %%", 1_722_038_400).unwrap(),
            "27 Jul 2024, 27 July 12AM %"
        );
        assert!(strftime("%Q", 0).is_err());
    }
}
