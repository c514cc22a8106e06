//! Numbers as a reader expects them: a true minus sign, commas between thousands, powers of ten.

/// `count` with commas between thousands.
pub(crate) fn grouped(count: usize) -> String {
    group(&count.to_string())
}

fn group(digits: &str) -> String {
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// `value` with `decimals` decimals.
pub(crate) fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.abs());
    let (whole, part) = text.split_at(text.find('.').unwrap_or(text.len()));
    let zero = text.bytes().all(|b| b == b'0' || b == b'.');
    let sign = if value < 0.0 && !zero { "−" } else { "" };
    format!("{sign}{}{part}", group(whole))
}

/// `value` to `significant` figures, as one writes it by hand: 1,000, 0.05, 2.5×10⁻⁷; "NaN", "−∞".
pub(crate) fn short(value: f64, significant: usize) -> String {
    match value {
        _ if value.is_nan() => return "NaN".into(),
        f64::INFINITY => return "∞".into(),
        f64::NEG_INFINITY => return "−∞".into(),
        0.0 => return "0".into(),
        _ => {}
    }
    // The formatter rounds first, so that 9.999e-6 is 10⁻⁵ and not 10×10⁻⁶.
    let scientific = format!("{value:.*e}", significant.saturating_sub(1));
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i32 = exponent.parse().unwrap_or(0);
    if (-4..7).contains(&power) {
        return trim(&fixed(value, (significant as i32 - 1 - power).max(0) as usize));
    }
    let raised = |c: char| "⁰¹²³⁴⁵⁶⁷⁸⁹".chars().nth(c.to_digit(10).unwrap_or(0) as usize);
    let raised = exponent.chars().map(|c| if c == '-' { '⁻' } else { raised(c).unwrap_or(c) });
    let power = format!("10{}", raised.collect::<String>());
    match trim(&mantissa.replace('-', "−")).as_str() {
        "1" => power,
        "−1" => format!("−{power}"),
        mantissa => format!("{mantissa}×{power}"),
    }
}

fn trim(text: &str) -> String {
    if !text.contains('.') {
        return text.into();
    }
    text.trim_end_matches('0').trim_end_matches('.').into()
}

/// Labels of evenly spaced values with one number of decimals, or one power of ten.
pub(crate) fn alike(values: &[f64]) -> Vec<String> {
    let largest = values.iter().fold(0.0_f64, |a, v| a.max(v.abs()));
    let exponent = if largest > 0.0 { largest.log10().floor() as i32 } else { 0 };
    if !(-4..7).contains(&exponent) {
        return values.iter().map(|&v| short(v, 4)).collect();
    }
    let exact = |decimals: usize| {
        let unit = 10f64.powi(decimals as i32);
        let slack = 1e-6 * unit * largest.max(1e-300);
        values.iter().all(|v| (v * unit - (v * unit).round()).abs() < slack)
    };
    let decimals = (0..=9).find(|&d| exact(d)).unwrap_or(9);
    values.iter().map(|&v| fixed(v, decimals)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_by_hand() {
        let cases = [
            (0.0, "0"),
            (1234.5, "1,234"),
            (-0.05, "−0.05"),
            (2.5e-7, "2.5×10⁻⁷"),
            (1e9, "10⁹"),
            (9.999e-6, "10⁻⁵"),
        ];
        for (value, text) in cases {
            assert_eq!(short(value, 3), text);
        }
        assert_eq!(short(f64::NEG_INFINITY, 3), "−∞");
    }
}
