//! Numbers and options of a run as words.

use serde_json::Value;

use crate::manifest::Manifest;

/// 1234567 as `1 234 567`, with spaces that no line ends at.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A share as `12.3 %`.
pub fn percent(part: usize, whole: usize) -> String {
    format!("{:.1}\u{202f}%", 100.0 * part as f64 / whole.max(1) as f64)
}

/// A length to four digits: `0.001234`, `12.34`, `5412000`.
pub fn four_digits(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let decimals = 3 - value.abs().log10().floor() as i32;
    if decimals >= 8 { format!("{value:.3e}") } else { format!("{value:.*}", decimals.max(0) as usize) }
}

/// Seconds since 1970-01-01 UTC as `2026-11-27 21:55 UTC`, with the days of the Gregorian calendar counted in eras of
/// 400 years that begin on a first of March.
pub fn date(unix_seconds: u64) -> String {
    let (days, seconds) = (unix_seconds / 86_400, unix_seconds % 86_400);
    // From 0000-03-01.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year_of_era = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year_of_era + next;
    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", seconds / 3600, seconds / 60 % 60)
}

/// Every option with its value, as it would be said.
pub fn parameters(manifest: &Manifest) -> Vec<(String, String)> {
    manifest.parameters.iter().map(|(name, value)| (name.replace('_', " "), said(value))).collect()
}

fn said(value: &Value) -> String {
    match value {
        Value::Null => "by default".into(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::String(text) => text.clone(),
        Value::Array(values) if values.is_empty() => "all".into(),
        Value::Array(values) => values.iter().map(said).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| format!("{name} {}", said(value))).collect::<Vec<_>>().join(", ")
        }
        Value::Number(number) => number.to_string(),
    }
}

/// The stages with their seconds, and the seconds in all.
pub fn seconds(manifest: &Manifest) -> (Vec<(String, f64)>, f64) {
    let all = manifest.seconds.iter().filter_map(|(stage, value)| Some((stage.clone(), value.as_f64()?)));
    let (total, stages): (Vec<_>, Vec<_>) = all.partition(|(stage, _)| stage == "total");
    let sum = stages.iter().map(|(_, seconds)| seconds).sum();
    (stages, total.first().map_or(sum, |(_, seconds)| *seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let expected = [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_399, "2000-02-28 23:59 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (1_709_251_200, "2024-03-01 00:00 UTC"),
            (1_795_816_660, "2026-11-27 21:57 UTC"),
            (4_107_542_399, "2100-02-28 23:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00 UTC"),
        ];
        for (seconds, text) in expected {
            assert_eq!(date(seconds), text);
        }
    }

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1\u{202f}000", "1\u{202f}234\u{202f}567"]);
        assert_eq!([0.0, 0.001_234_4, 12.344, 5_412_000.4].map(four_digits), ["0", "0.001234", "12.34", "5412000"]);
        assert_eq!(four_digits(1.234e-9), "1.234e-9");
    }
}
