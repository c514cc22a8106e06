//! How far a piece of work is and how long it will take, in units, seconds and words.

/// How far a piece of work is, in units and in time.
#[derive(Clone, Copy)]
pub struct Pace {
    pub total: u64,
    /// Units that were done before it began.
    pub start: u64,
    /// Seconds after which it ends if not before.
    pub limit: f64,
}

impl Pace {
    /// From 0 to 1, by what ends first: the units or the time.
    pub fn fraction(&self, done: u64, elapsed: f64) -> f64 {
        let of_units = done as f64 / self.total.max(1) as f64;
        of_units.max(elapsed / self.limit).clamp(0.0, 1.0)
    }

    /// Seconds left, by what ends first; `None` as long as nothing is known.
    pub fn left(&self, done: u64, elapsed: f64) -> Option<f64> {
        let new = done.saturating_sub(self.start);
        let of_units = elapsed * self.total.saturating_sub(done) as f64 / new as f64;
        let left = of_units.min(self.limit - elapsed).max(0.0);
        (new > 0 || self.limit.is_finite()).then_some(left).filter(|left| left.is_finite())
    }
}

/// Seconds as people say them.
pub fn spell(seconds: f64) -> String {
    match seconds.round() as u64 {
        s @ 0..60 => format!("{s} s"),
        s @ 60..3600 => format!("{} min {} s", s / 60, s % 60),
        s => format!("{} h {} min", s / 3600, s / 60 % 60),
    }
}

/// A number with so many digits in all as the precision says, and no exponent.
pub struct Rounded(pub f64);

impl std::fmt::Display for Rounded {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let digits = f.precision().unwrap_or(3) as i32;
        let whole = self.0.abs().max(1e-9).log10().floor() as i32 + 1;
        write!(f, "{:.*}", (digits - whole).clamp(0, 3) as usize, self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 90 seconds are not four hours: the time that is left ends with what ends first, and so does
    /// the bar.
    #[test]
    fn the_time_left_is_that_of_what_ends_first() {
        let pace = Pace { total: 20_000, start: 0, limit: 90.0 };
        assert_eq!(pace.left(100, 45.0), Some(45.0));
        assert_eq!(pace.fraction(100, 45.0), 0.5);
        let steps = Pace { limit: f64::INFINITY, ..pace };
        assert_eq!(steps.left(5000, 30.0), Some(90.0));
        assert_eq!(steps.fraction(5000, 30.0), 0.25);
        assert_eq!(steps.left(0, 3.0), None);
        assert_eq!(pace.left(0, 3.0), Some(87.0));
        // a limit that is over
        assert_eq!((pace.left(10, 100.0), pace.fraction(10, 100.0)), (Some(0.0), 1.0));
    }

    /// Of a resumed work, what was done before says nothing of its speed now.
    #[test]
    fn a_resumed_work_has_its_own_speed() {
        let pace = Pace { total: 1000, start: 900, limit: f64::INFINITY };
        assert_eq!(pace.left(950, 10.0), Some(10.0));
        assert_eq!(pace.left(900, 10.0), None);
        assert_eq!(pace.fraction(950, 10.0), 0.95);
    }

    #[test]
    fn times_and_rates_are_said_as_people_say_them() {
        assert_eq!([0.2, 59.4, 61.0, 3700.0].map(spell), ["0 s", "59 s", "1 min 1 s", "1 h 1 min"]);
        let rounded = [0.034, 1.26, 12.34, 123.4, 98_765.0].map(|x| format!("{:.3}", Rounded(x)));
        assert_eq!(rounded, ["0.034", "1.26", "12.3", "123", "98765"]);
    }
}
