//! Dates and times in text: which format they are in, and seconds since 1970-01-01.

use chrono::format::{Item, Parsed, StrftimeItems, parse};
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Utc};

/// Distinct cells from which formats are proposed.
const LOOKED_AT: usize = 50;
/// Distinct cells on which formats are compared; the best is then tried on all.
const COMPARED: usize = 2000;
/// Years of the dates that are looked for: 4 digits, and not the many numbers that a first format
/// would take for a year.
const YEARS: std::ops::RangeInclusive<i32> = 1000..=9999;
/// Steps of times that are looked for, in seconds: a day, an hour, a minute, a second, a
/// thousandth and a millionth.
const STEPS: [f64; 6] = [86_400.0, 3600.0, 60.0, 1.0, 1e-3, 1e-6];
/// The least time that is written, 0001-01-01, and the greatest, the end of 9999, in seconds.
const WRITTEN: [f64; 2] = [-62_135_596_800.0, 253_402_300_799.0];

/// A format of dates and times in the words of `strftime`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TimeFormat {
    text: String,
    items: Vec<Item<'static>>,
}

impl TimeFormat {
    /// None if the words are none of `strftime`'s.
    pub fn new(text: &str) -> Option<TimeFormat> {
        let items = StrftimeItems::new(text).parse_to_owned().ok()?;
        (!items.is_empty()).then(|| TimeFormat { text: text.to_owned(), items })
    }

    /// The words.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether dates are written without a time.
    pub fn is_date(&self) -> bool {
        let date = format_with(0.0, &self.items);
        date == format_with(43_261.0, &self.items)
    }

    /// Seconds since 1970-01-01 of a cell, in the time zone that is written, or without one in its
    /// own; a date is its midnight, a time that of 1970-01-01. None where the cell is of another
    /// format.
    pub fn seconds(&self, cell: &str) -> Option<f64> {
        let mut parsed = Parsed::new();
        parse(&mut parsed, cell, self.items.iter()).ok()?;
        let moment = if parsed.offset().is_some() {
            parsed.to_datetime().ok()?.naive_utc()
        } else if parsed.timestamp().is_some() {
            parsed.to_naive_datetime_with_offset(0).ok()?
        } else {
            let parts = |parsed: &Parsed| (parsed.to_naive_date(), parsed.to_naive_time());
            match parts(&parsed) {
                (Ok(date), Ok(time)) => date.and_time(time),
                (Ok(date), Err(_)) if self.is_date() => date.and_time(NaiveTime::MIN),
                (Err(_), Ok(time)) => NaiveDate::default().and_time(time),
                _ => return None,
            }
        };
        Some(seconds_of(moment))
    }

    /// Whether the day stands before the month.
    fn day_first(&self) -> bool {
        let place = |words: [&str; 2]| words.iter().filter_map(|w| self.text.find(w)).min();
        place(["%d", "%-d"]) < place(["%m", "%-m"])
    }

    /// A time as text; what lies beyond the years 1 to 9999 is written as their first or last
    /// moment.
    pub fn write(&self, seconds: f64) -> String {
        format_with(seconds, &self.items)
    }
}

fn seconds_of(moment: NaiveDateTime) -> f64 {
    let moment = moment.and_utc();
    moment.timestamp() as f64 + f64::from(moment.timestamp_subsec_nanos()) / 1e9
}

fn format_with(seconds: f64, items: &[Item<'static>]) -> String {
    use std::fmt::Write;
    let seconds = seconds.clamp(WRITTEN[0], WRITTEN[1]);
    // a double holds millionths of a second of our time, and no more
    let micros = (seconds.fract() * 1e6).round();
    let moment = DateTime::from_timestamp(seconds.trunc() as i64, 0)
        .and_then(|whole| whole.checked_add_signed(chrono::TimeDelta::microseconds(micros as i64)))
        .unwrap_or_else(|| Utc.timestamp_nanos(0));
    let mut text = String::new();
    // an item that cannot be written was refused with its format
    let _ = write!(text, "{}", moment.format_with_items(items.iter()));
    text
}

/// What is known of cells that may be dates or times.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Detected {
    /// All are, in this format.
    Format(TimeFormat),
    /// They are dates, but month and day could be either way round: the two formats.
    Ambiguous([String; 2]),
    /// So many are in this format, but the first that is not is the one of this number.
    Mostly {
        format: TimeFormat,
        good: usize,
        first_bad: usize,
    },
    No,
}

/// The format of distinct cells.
pub(super) fn detect(cells: &[&str]) -> Detected {
    let mut proposed: Vec<String> = Vec::new();
    for cell in cells.iter().take(LOOKED_AT) {
        for format in proposals(cell) {
            if !proposed.contains(&format) {
                proposed.push(format);
            }
        }
    }
    // of some cells, those that a format reads, and those that it writes so again
    let stride = cells.len().div_ceil(COMPARED).max(1);
    let some = || cells.iter().step_by(stride).copied();
    let read = |format: &TimeFormat, cell: &str| format.seconds(cell).filter(|s| plausible(*s));
    let compared = |format: TimeFormat| {
        let good = some().filter(|cell| read(&format, cell).is_some()).count();
        let same =
            some().filter(|cell| read(&format, cell).is_some_and(|s| format.write(s) == *cell));
        let written = same.count();
        (good, written, format)
    };
    let mut formats: Vec<(usize, usize, TimeFormat)> =
        proposed.iter().filter_map(|text| TimeFormat::new(text)).map(compared).collect();
    formats.sort_by_key(|(good, written, _)| std::cmp::Reverse((*good, *written)));
    let Some((most, _, first)) = formats.first().cloned() else { return Detected::No };
    let all_read = |format: &TimeFormat| cells.iter().all(|cell| read(format, cell).is_some());
    formats.retain(|(good, ..)| *good == most);
    let Some((.., best)) = formats.iter().find(|(.., format)| all_read(format)).cloned() else {
        let good = cells.iter().filter(|cell| read(&first, cell).is_some()).count();
        let first_bad = cells.iter().position(|cell| read(&first, cell).is_none()).unwrap_or(0);
        return Detected::Mostly { format: first, good, first_bad };
    };
    let other = formats.into_iter().map(|(.., format)| format).find(|format| {
        format.day_first() != best.day_first()
            && all_read(format)
            && cells.iter().any(|cell| format.seconds(cell) != best.seconds(cell))
    });
    match other {
        Some(other) => {
            let mut both = [best, other];
            both.sort_by_key(TimeFormat::day_first);
            Detected::Ambiguous(both.map(|format| format.text))
        }
        None => Detected::Format(best),
    }
}

fn plausible(seconds: f64) -> bool {
    let date = DateTime::from_timestamp(seconds.floor() as i64, 0);
    date.is_some_and(|date| YEARS.contains(&date.year()))
}

/// Whether a cell looks like a date or time.
pub(super) fn proposed(cell: &str) -> bool {
    !proposals(cell).is_empty()
}

/// The number of digits that a text begins with, and what follows them.
fn digits(text: &str) -> (usize, &str) {
    let count = text.bytes().take_while(u8::is_ascii_digit).count();
    (count, &text[count..])
}

/// The formats that a cell may be in: a date in ISO's order, or of month, day and year in either
/// order, perhaps with a time of day and a time zone, which is kept as it is.
fn proposals(cell: &str) -> Vec<String> {
    let number = |text| {
        let (count, rest) = digits(text);
        (1..=4).contains(&count).then(|| (count, &text[..count], rest))
    };
    let mark = |text: &str| text.chars().next().filter(|c| "-/.".contains(*c));
    let Some((first, first_text, rest)) = number(cell) else { return Vec::new() };
    let Some(separator) = mark(rest) else { return Vec::new() };
    let Some((second, second_text, rest)) = number(&rest[1..]) else { return Vec::new() };
    let Some(rest) = rest.strip_prefix(separator) else { return Vec::new() };
    let Some((third, _, rest)) = number(rest) else { return Vec::new() };
    let padded = |texts: [&str; 2]| texts.iter().any(|text| text.starts_with('0'));
    let s = separator;
    let dates: Vec<String> = match (first, second, third) {
        (4, 1..=2, 1..=2) => vec![format!("%Y{s}%m{s}%d"), format!("%Y{s}%-m{s}%-d")],
        (1..=2, 1..=2, 2 | 4) => {
            let year = if third == 4 { "%Y" } else { "%y" };
            let orders: &[[&str; 2]] =
                // days come first wherever points are between
                if s == '.' { &[["d", "m"]] } else { &[["m", "d"], ["d", "m"]] };
            let mut dates = Vec::new();
            for [a, b] in orders {
                let plain = format!("%-{a}{s}%-{b}{s}{year}");
                let zeros = format!("%{a}{s}%{b}{s}{year}");
                let zeros_first = padded([first_text, second_text]);
                dates.extend(if zeros_first { [zeros, plain] } else { [plain, zeros] });
            }
            dates
        }
        _ => return Vec::new(),
    };
    let Some(times) = times(rest) else { return Vec::new() };
    dates.iter().flat_map(|date| times.iter().map(move |time| format!("{date}{time}"))).collect()
}

/// The formats of what follows a date; none where that is no time.
fn times(rest: &str) -> Option<Vec<String>> {
    if rest.is_empty() {
        return Some(vec![String::new()]);
    }
    let between = rest.chars().next().filter(|c| matches!(c, 'T' | ' '))?;
    let rest = rest[1..].trim_start();
    let (hours @ 1..=2, after) = digits(rest) else { return None };
    let early = rest[..hours].starts_with('0') || hours == 2;
    let (2, mut rest) = digits(after.strip_prefix(':')?) else { return None };
    let mut tail = ":%M".to_owned();
    if let Some(seconds) = rest.strip_prefix(':') {
        let (2, after) = digits(seconds) else { return None };
        tail += ":%S";
        rest = after;
        if let Some(fraction) = rest.strip_prefix('.') {
            let (count @ 1..=9, after) = digits(fraction) else { return None };
            tail += match count {
                3 => "%.3f",
                6 => "%.6f",
                9 => "%.9f",
                _ => "%.f",
            };
            rest = after;
        }
    }
    let noon = rest.trim_start();
    let half = ["AM", "PM", "am", "pm"].iter().any(|half| noon.starts_with(half));
    let hours: &[&str] = match (half, early) {
        (false, true) => &["%H", "%-H"],
        (false, false) => &["%-H", "%H"],
        (true, true) => &["%I", "%-I"],
        (true, false) => &["%-I", "%I"],
    };
    if half {
        tail += if rest.starts_with(' ') { " " } else { "" };
        tail += if noon.starts_with(['A', 'P']) { "%p" } else { "%P" };
        rest = &noon[2..];
    }
    let zone = rest.strip_prefix(' ').unwrap_or(rest);
    let (hour, minute) = zone.get(1..).map_or((0, ""), digits);
    let offset = zone.starts_with(['+', '-'])
        && match (hour, minute) {
            (2 | 4, "") => true,
            (2, minutes) => minutes.strip_prefix(':').is_some_and(|m| digits(m) == (2, "")),
            _ => false,
        };
    if !(matches!(rest, "" | "Z" | "z") || matches!(zone, "UTC" | "GMT") || offset) {
        return None;
    }
    Some(hours.iter().map(|hour| format!("{between}{hour}{tail}{rest}")).collect())
}

/// The largest of [`STEPS`] of which all differences are multiples, and whether they are: of finer
/// times it is the smallest.
pub(super) fn step_of(times: &[f64], origin: f64) -> f64 {
    let is_multiple = |step: f64| {
        times.iter().all(|time| {
            let steps = (time - origin) / step;
            (steps - steps.round()).abs() * step < 5e-7
        })
    };
    STEPS.into_iter().find(|&step| is_multiple(step)).unwrap_or(STEPS[5])
}

/// A step in words: `daily`, `every 60 s`.
pub(super) fn step_in_words(step: f64) -> String {
    match step {
        86_400.0 => "daily".into(),
        3600.0 => "hourly".into(),
        60.0 => "to the minute".into(),
        1.0 => "to the second".into(),
        _ => format!("in steps of {step} s"),
    }
}

/// The format in which times are written that their file has as numbers: the shortest that holds
/// multiples of `step` past `origin`, with a `Z` where they are of UTC.
pub(super) fn format_of_typed(times: &[f64], utc: bool) -> TimeFormat {
    let z = if utc { "Z" } else { "" };
    let text = match step_of(times, 0.0) {
        86_400.0 if !utc => "%Y-%m-%d".to_owned(),
        86_400.0 | 3600.0 | 60.0 => format!("%Y-%m-%d %H:%M{z}"),
        1.0 => format!("%Y-%m-%d %H:%M:%S{z}"),
        1e-3 => format!("%Y-%m-%d %H:%M:%S%.3f{z}"),
        _ => format!("%Y-%m-%d %H:%M:%S%.6f{z}"),
    };
    TimeFormat::new(&text).expect("a format of strftime")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(cells: &[&str]) -> Option<String> {
        match detect(cells) {
            Detected::Format(format) => {
                for cell in cells {
                    assert_eq!(format.write(format.seconds(cell).unwrap()), **cell, "{format:?}");
                }
                Some(format.text)
            }
            _ => None,
        }
    }

    /// Every one is written again as it was read.
    #[test]
    fn formats_are_found() {
        for (cells, expected) in [
            (&["2013-01-31", "2012-02-29"][..], "%Y-%m-%d"),
            (&["2013-01-31 05:00", "2013-01-31 17:30"], "%Y-%m-%d %H:%M"),
            (&["2013-01-31T05:00:59Z"], "%Y-%m-%dT%H:%M:%SZ"),
            (&["2013-01-31T05:00:59.123+01:00"], "%Y-%m-%dT%H:%M:%S%.3f+01:00"),
            (&["2013-01-31 05:00:59.123456"], "%Y-%m-%d %H:%M:%S%.6f"),
            (&["2013-01-31 05:00 UTC"], "%Y-%m-%d %H:%M UTC"),
            (&["2013/1/31", "2013/11/3"], "%Y/%-m/%-d"),
            (&["1/31/2013", "11/3/2013"], "%-m/%-d/%Y"),
            (&["01/31/2013", "11/03/2013"], "%m/%d/%Y"),
            (&["31/01/2013", "03/11/2013"], "%d/%m/%Y"),
            (&["1/31/13 5:07", "11/3/13 15:07"], "%-m/%-d/%y %-H:%M"),
            (&["1/31/2013 5:07:09 PM"], "%-m/%-d/%Y %-I:%M:%S %p"),
            (&["03.11.2013", "04.11.2013"], "%d.%m.%Y"),
        ] {
            assert_eq!(format(cells).as_deref(), Some(expected), "{cells:?}");
        }
    }

    #[test]
    fn what_is_no_date_is_told() {
        for cells in [&["1-2-3"][..], &["192.168.0.1"], &["2013-13-01"], &["12:30"], &["x"], &[]] {
            assert!(!matches!(detect(cells), Detected::Format(_)), "{cells:?}");
        }
        let both = ["%m/%d/%Y".to_owned(), "%d/%m/%Y".to_owned()];
        assert_eq!(detect(&["01/02/2013", "03/04/2013"]), Detected::Ambiguous(both));
        // the same day either way round
        assert!(format(&["01/01/2013", "02/02/2013"]).is_some());
        // one of many cells decides, wherever it stands
        let many: Vec<String> =
            (0..5000).map(|i| format!("0{}/0{}/{}", 1 + i % 9, 1 + i % 8, 1500 + i)).collect();
        let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
        many.insert(2501, "31/01/2013");
        let Detected::Format(found) = detect(&many) else { panic!() };
        assert_eq!(found.text(), "%d/%m/%Y");
        let mostly = detect(&["2013-01-01", "2013-01-02", "never", "2013-01-03"]);
        let Detected::Mostly { good, first_bad, .. } = mostly else { panic!("{mostly:?}") };
        assert_eq!((good, first_bad), (3, 2));
    }

    /// Seconds of moments: by `date -u -d 2013-01-31T05:00 +%s` of GNU coreutils 9.
    #[test]
    fn seconds_count_from_1970() {
        let seconds = |format: &str, cell: &str| TimeFormat::new(format).unwrap().seconds(cell);
        assert_eq!(seconds("%Y-%m-%d %H:%M", "2013-01-31 05:00"), Some(1_359_608_400.0));
        assert_eq!(seconds("%Y-%m-%d", "1969-12-31"), Some(-86_400.0));
        assert_eq!(seconds("%H:%M", "01:30"), Some(5400.0));
        assert_eq!(seconds("%Y%m%d", "20130131"), Some(1_359_590_400.0));
        let with_zone = seconds("%Y-%m-%dT%H:%M%:z", "2013-01-31T06:00+01:00");
        assert_eq!(with_zone, Some(1_359_608_400.0));
        let early = TimeFormat::new("%Y-%m-%d %H:%M:%S%.6f").unwrap();
        assert_eq!(early.write(-0.25), "1969-12-31 23:59:59.750000");
        assert_eq!(early.write(1e300), "9999-12-31 23:59:59.000000");
        assert!(TimeFormat::new("%Q").is_none() && TimeFormat::new("").is_none());
        assert!(TimeFormat::new("%d/%m/%Y").unwrap().is_date());
        assert!(!early.is_date());
    }

    #[test]
    fn steps_are_the_largest_that_fit() {
        let day = 86_400.0;
        assert_eq!(step_of(&[0.0, day, 3.0 * day], 0.0), day);
        // every day at five
        assert_eq!(step_of(&[18_000.0, day + 18_000.0], 18_000.0), day);
        assert_eq!(step_of(&[0.0, 7200.0], 0.0), 3600.0);
        assert_eq!(step_of(&[1_359_608_400.25, 1_359_608_400.125], 1_359_608_400.0), 1e-3);
        assert_eq!(format_of_typed(&[0.0, day], false).text(), "%Y-%m-%d");
        assert_eq!(format_of_typed(&[0.5], true).text(), "%Y-%m-%d %H:%M:%S%.3fZ");
    }
}
