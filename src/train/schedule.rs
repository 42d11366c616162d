//! Values that change in the course of training.

use std::fmt;

use serde::de::{self, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize};

/// A value as a function of training progress: a number, or a [`Ramp`].
///
/// ```toml
/// learning_rate = 1e-3
/// temperature = { from = 1.0, to = 0.1, end = 0.5, shape = "cosine" }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Schedule {
    /// The same value all along.
    Constant(f64),
    /// A value that moves from one to another.
    Ramp(Ramp),
}

/// A value that stays at `from`, moves to `to` between two moments, and stays there.
///
/// Moments are fractions of training: 0 is its first step, 1 its end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ramp {
    /// The value up to `start`.
    pub from: f64,
    /// The value from `end` on.
    pub to: f64,
    /// When the value starts to move.
    #[serde(default)]
    pub start: f64,
    /// When the value has arrived.
    #[serde(default = "end_of_training")]
    pub end: f64,
    /// How the value moves.
    #[serde(default)]
    pub shape: Shape,
    /// How long the value is scaled up at first: until this moment it is multiplied by a factor
    /// that grows linearly from 0 to 1. Meant for learning rates.
    #[serde(default)]
    pub warmup: f64,
}

/// The way from `from` to `to`, as a function of the fraction `u` of it that has passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// Equal differences in equal times: `from + (to − from) u`.
    #[default]
    Linear,
    /// Half a period of a cosine, slow at both ends: linear in `(1 − cos πu) / 2`
    /// (Loshchilov & Hutter 2017, *SGDR*, equation 5, for a single run).
    Cosine,
    /// Equal ratios in equal times: `from¹⁻ᵘ toᵘ`. Both ends must be positive.
    Exponential,
    /// Eight steps down, each three times as long as the one before: step i of 0…7 has the value `from^(1−i/7) to^(i/7)`
    /// (Burda et al. 2016, section 5: 3ⁱ passes at the rate 10^(−3−i/7), which is from 10⁻³ to 10⁻⁴). Both ends must be positive.
    Tripling,
}

/// Steps of [`Shape::Tripling`].
const TRIPLING_STEPS: i32 = 8;

fn end_of_training() -> f64 {
    1.0
}

impl Schedule {
    /// A learning rate's usual course: up from 0 during `warmup` (a fraction of training), then down a cosine.
    #[must_use]
    pub const fn cosine(from: f64, to: f64, warmup: f64) -> Self {
        Self::Ramp(Ramp { from, to, start: 0.0, end: 1.0, shape: Shape::Cosine, warmup })
    }

    /// A straight line between two moments, fractions of training.
    #[must_use]
    pub const fn linear(from: f64, to: f64, start: f64, end: f64) -> Self {
        Self::Ramp(Ramp { from, to, start, end, shape: Shape::Linear, warmup: 0.0 })
    }

    /// The value at a step, counted from 0, of a training of `total_steps`.
    ///
    /// From the last step on, and in a training without steps, it is the [`last`](Self::last) value.
    #[must_use]
    pub fn value(&self, step: u64, total_steps: u64) -> f64 {
        if step >= total_steps {
            return self.last();
        }
        self.at(step as f64 / total_steps as f64)
    }

    /// The value at the end of training.
    #[must_use]
    pub fn last(&self) -> f64 {
        self.at(1.0)
    }

    /// The smaller and the larger of its ends, which no value lies beyond once warm-up is over.
    #[must_use]
    pub fn range(&self) -> (f64, f64) {
        match self {
            Self::Constant(value) => (*value, *value),
            Self::Ramp(Ramp { from, to, .. }) => (from.min(*to), from.max(*to)),
        }
    }

    fn at(&self, progress: f64) -> f64 {
        match self {
            Self::Constant(value) => *value,
            Self::Ramp(ramp) => ramp.at(progress),
        }
    }

    /// Checks that the schedule has a finite value at every step; `name` is what messages call it.
    ///
    /// # Errors
    ///
    /// The message says which field to change, and to what.
    pub fn validate(&self, name: &str) -> Result<(), String> {
        match self {
            Self::Constant(value) if value.is_finite() => Ok(()),
            Self::Constant(value) => Err(not_finite(name, *value)),
            Self::Ramp(ramp) => ramp.validate(name),
        }
    }
}

impl Ramp {
    fn at(&self, progress: f64) -> f64 {
        let passed = ((progress - self.start) / (self.end - self.start)).clamp(0.0, 1.0);
        let value = match self.shape {
            Shape::Linear => mix(self.from, self.to, passed),
            Shape::Cosine => mix(self.from, self.to, 0.5 * (1.0 - (std::f64::consts::PI * passed).cos())),
            // As a product of powers, which is exact at both ends.
            Shape::Exponential => self.from.powf(1.0 - passed) * self.to.powf(passed),
            Shape::Tripling => {
                let down = tripling(passed);
                self.from.powf(1.0 - down) * self.to.powf(down)
            }
        };
        if progress < self.warmup { value * (progress / self.warmup) } else { value }
    }

    fn validate(&self, name: &str) -> Result<(), String> {
        let Self { from, to, start, end, shape, warmup } = *self;
        for (field, value) in [("from", from), ("to", to)] {
            if !value.is_finite() {
                return Err(not_finite(&format!("{name}.{field}"), value));
            }
        }
        // Written so that a value that is not a number fails each test.
        if !(0.0 <= start && start < end && end <= 1.0) {
            return Err(format!(
                "`{name}` moves from `start` = {start} to `end` = {end}: give fractions of training \
                 with 0 ≤ start < end ≤ 1"
            ));
        }
        if !(0.0..1.0).contains(&warmup) {
            return Err(format!("`{name}.warmup` is {warmup}: give a fraction of training with 0 ≤ warmup < 1"));
        }
        if matches!(shape, Shape::Exponential | Shape::Tripling) && !(from > 0.0 && to > 0.0) {
            return Err(format!(
                "`{name}` is {shape} from {from} to {to}: give two positive ends, or another \
                 `shape` (\"linear\" or \"cosine\")"
            ));
        }
        Ok(())
    }
}

/// i/7 for step i of eight, of which each is three times as long as the one before.
fn tripling(passed: f64) -> f64 {
    let last = TRIPLING_STEPS - 1;
    let total = (3f64.powi(TRIPLING_STEPS) - 1.0) / 2.0; // 3⁰ + 3¹ + … + 3⁷
    // The first step whose end, (3ⁱ⁺¹ − 1) / 2, has not been reached.
    let step = (0..last).find(|i| passed * total < (3f64.powi(i + 1) - 1.0) / 2.0).unwrap_or(last);
    f64::from(step) / f64::from(last)
}

/// `from` at 0, `to` at 1, exactly, and without overflow in between.
fn mix(from: f64, to: f64, share: f64) -> f64 {
    (1.0 - share) * from + share * to
}

fn not_finite(name: &str, value: f64) -> String {
    format!("`{name}` is {value}: give a finite number")
}

impl From<f64> for Schedule {
    fn from(value: f64) -> Self {
        Self::Constant(value)
    }
}

/// By hand, because the derived form of an untagged enumeration would answer every mistake inside a
/// ramp with the same words instead of naming the field.
impl<'de> Deserialize<'de> for Schedule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrRamp;

        impl<'de> Visitor<'de> for NumberOrRamp {
            type Value = Schedule;

            fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
                out.write_str("a number, or a table such as { from = 1.0, to = 0.1 }")
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Schedule, E> {
                Ok(Schedule::Constant(value))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Schedule, E> {
                Ok(Schedule::Constant(value as f64))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Schedule, E> {
                Ok(Schedule::Constant(value as f64))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Schedule, A::Error> {
                Ramp::deserialize(MapAccessDeserializer::new(map)).map(Schedule::Ramp)
            }
        }

        deserializer.deserialize_any(NumberOrRamp)
    }
}

/// `1e-3`, or `2e-3 → 1e-4, cosine over 0…1, warm-up over 0…0.05`.
impl fmt::Display for Schedule {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Constant(value) => out.write_str(&short(*value)),
            Self::Ramp(ramp) => ramp.fmt(out),
        }
    }
}

impl fmt::Display for Ramp {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let (from, to) = (short(self.from), short(self.to));
        write!(out, "{from} → {to}, {} over {}…{}", self.shape, self.start, self.end)?;
        if self.warmup > 0.0 {
            write!(out, ", warm-up over 0…{}", self.warmup)?;
        }
        Ok(())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str(match self {
            Self::Linear => "linear",
            Self::Cosine => "cosine",
            Self::Exponential => "exponential",
            Self::Tripling => "tripling",
        })
    }
}

/// The exact value in plain or in scientific notation, whichever is shorter.
fn short(value: f64) -> String {
    let (plain, scientific) = (value.to_string(), format!("{value:e}"));
    if scientific.len() < plain.len() { scientific } else { plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Config {
        rate: Schedule,
    }

    fn parse(toml: &str) -> Schedule {
        toml::from_str::<Config>(toml).expect("a valid schedule").rate
    }

    fn message(toml: &str) -> String {
        toml::from_str::<Config>(toml).expect_err("an invalid schedule").to_string()
    }

    fn ramp(from: f64, to: f64) -> Ramp {
        Ramp { from, to, start: 0.0, end: 1.0, shape: Shape::Linear, warmup: 0.0 }
    }

    fn values(ramp: Ramp, steps: [u64; 5]) -> [f64; 5] {
        steps.map(|step| Schedule::Ramp(ramp).value(step, 100))
    }

    #[test]
    fn a_constant_never_moves() {
        let constant = Schedule::from(0.3);
        assert_eq!([0, 5, 99].map(|step| constant.value(step, 10)), [0.3; 3]);
        assert_eq!(constant.last(), 0.3);
    }

    #[test]
    fn a_ramp_waits_moves_and_stays() {
        let late = Ramp { start: 0.2, end: 0.6, ..ramp(4.0, 2.0) };
        assert_eq!(values(late, [0, 20, 40, 60, 99]), [4.0, 4.0, 3.0, 2.0, 2.0]);
    }

    #[test]
    fn shapes_differ_between_equal_ends() {
        let close = |a: [f64; 5], b: [f64; 5]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12);
        let steps = [0, 25, 50, 75, 100];
        let linear = values(ramp(1.0, 16.0), steps);
        assert!(close(linear, [1.0, 4.75, 8.5, 12.25, 16.0]), "{linear:?}");
        let exponential = values(Ramp { shape: Shape::Exponential, ..ramp(1.0, 16.0) }, steps);
        assert!(close(exponential, [1.0, 2.0, 4.0, 8.0, 16.0]), "{exponential:?}");
        let decay = Schedule::Ramp(Ramp { shape: Shape::Exponential, ..ramp(0.3, 0.007) });
        assert_eq!((decay.value(0, 9), decay.last()), (0.3, 0.007));
        let cosine = values(Ramp { shape: Shape::Cosine, ..ramp(0.0, 2.0) }, steps);
        let half = std::f64::consts::FRAC_1_SQRT_2;
        assert!(close(cosine, [0.0, 1.0 - half, 1.0, 1.0 + half, 2.0]), "{cosine:?}");
    }

    #[test]
    fn eight_steps_each_three_times_as_long_as_the_one_before() {
        // The published schedule: 3280 passes, one step a pass.
        let rate = Schedule::Ramp(Ramp { shape: Shape::Tripling, ..ramp(1e-3, 1e-4) });
        let mut pass = 0;
        for i in 0..8 {
            let expected = 1e-3 * 10f64.powf(-f64::from(i) / 7.0);
            for pass in [pass, pass + 3u64.pow(i as u32) - 1] {
                let got = rate.value(pass, 3280);
                assert!((got / expected - 1.0).abs() < 1e-12, "pass {pass}: {got}, not {expected}");
            }
            pass += 3u64.pow(i as u32);
        }
        assert_eq!((pass, rate.last()), (3280, 1e-4));
    }

    #[test]
    fn warm_up_multiplies_what_the_ramp_does() {
        let warm = Ramp { warmup: 0.1, ..ramp(1.0, 0.0) };
        let got = values(warm, [0, 5, 10, 50, 100]);
        let expected = [0.0, 0.5 * 0.95, 0.9, 0.5, 0.0];
        assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{got:?}");
    }

    #[test]
    fn beyond_the_last_step_and_without_steps_it_is_the_last_value() {
        let schedule = Schedule::Ramp(ramp(1.0, 0.25));
        assert_eq!(schedule.value(1_000, 10), 0.25);
        assert_eq!(schedule.value(0, 0), 0.25);
        assert_eq!(schedule.last(), 0.25);
        assert_eq!(schedule.value(0, 1), 1.0);
    }

    #[test]
    fn a_number_or_a_table_is_read() {
        assert_eq!(parse("rate = 1e-3"), Schedule::Constant(0.001));
        assert_eq!(parse("rate = 2"), Schedule::Constant(2.0));
        assert_eq!(parse("rate = { from = 1, to = 0.5 }"), Schedule::Ramp(ramp(1.0, 0.5)));
        let full = "[rate]\nfrom = 1.0\nto = 0.5\nstart = 0.1\nend = 0.9\nshape = \"cosine\"\nwarmup = 0.05";
        assert_eq!(
            parse(full),
            Schedule::Ramp(Ramp { start: 0.1, end: 0.9, shape: Shape::Cosine, warmup: 0.05, ..ramp(1.0, 0.5) })
        );
    }

    #[test]
    fn both_forms_survive_toml_and_json() {
        let moving = Ramp { shape: Shape::Exponential, warmup: 0.1, ..ramp(1e-3, 1e-5) };
        for rate in [Schedule::Constant(0.002), Schedule::Ramp(moving)] {
            let config = Config { rate };
            let text = toml::to_string(&config).expect("serialisable");
            assert_eq!(toml::from_str::<Config>(&text).expect("its own"), config, "{text}");
            let text = serde_json::to_string(&config).expect("serialisable");
            assert_eq!(serde_json::from_str::<Config>(&text).expect("its own"), config, "{text}");
        }
        let text = toml::to_string(&Config { rate: 0.5.into() }).expect("serialisable");
        assert_eq!(text, "rate = 0.5\n");
    }

    #[test]
    fn mistakes_are_named() {
        let unknown = message("rate = { from = 1, to = 2, strat = 0.1 }");
        assert!(unknown.contains("strat") && unknown.contains("`start`"), "{unknown}");
        let missing = message("rate = { from = 1 }");
        assert!(missing.contains("missing field `to`"), "{missing}");
        let text = message("rate = \"fast\"");
        assert!(text.contains("a number, or a table such as { from = 1.0, to = 0.1 }"), "{text}");
        let shape = message("rate = { from = 1, to = 2, shape = \"round\" }");
        assert!(shape.contains("`linear`, `cosine`, `exponential`, `tripling`"), "{shape}");
    }

    #[test]
    fn what_has_no_value_everywhere_is_invalid() {
        let fine = ramp(1.0, 0.1);
        let nan = f64::NAN;
        let invalid: [(Schedule, &str); 12] = [
            (nan.into(), "`rate` is NaN"),
            (f64::INFINITY.into(), "`rate` is inf"),
            (Schedule::Ramp(Ramp { from: nan, ..fine }), "`rate.from`"),
            (Schedule::Ramp(Ramp { to: nan, ..fine }), "`rate.to`"),
            (Schedule::Ramp(Ramp { start: -0.1, ..fine }), "`start` = -0.1"),
            (Schedule::Ramp(Ramp { start: 0.5, end: 0.5, ..fine }), "start < end"),
            (Schedule::Ramp(Ramp { end: 1.5, ..fine }), "`end` = 1.5"),
            (Schedule::Ramp(Ramp { end: nan, ..fine }), "`end` = NaN"),
            (Schedule::Ramp(Ramp { warmup: 1.0, ..fine }), "`rate.warmup` is 1"),
            (Schedule::Ramp(Ramp { warmup: nan, ..fine }), "`rate.warmup` is NaN"),
            (Schedule::Ramp(Ramp { shape: Shape::Exponential, to: 0.0, ..fine }), "two positive ends"),
            (Schedule::Ramp(Ramp { shape: Shape::Tripling, from: 0.0, ..fine }), "tripling from 0"),
        ];
        for (schedule, words) in invalid {
            let message = schedule.validate("rate").expect_err(words);
            assert!(message.contains(words), "{message}");
        }
        assert_eq!(Schedule::Ramp(fine).validate("rate"), Ok(()));
        assert_eq!(Schedule::Constant(0.0).validate("rate"), Ok(()));
    }

    #[test]
    fn it_displays_in_one_line() {
        assert_eq!(Schedule::Constant(0.001).to_string(), "1e-3");
        assert_eq!(Schedule::Constant(0.5).to_string(), "0.5");
        assert_eq!(Schedule::Constant(-12.0).to_string(), "-12");
        let cosine = Ramp { shape: Shape::Cosine, ..ramp(0.002, 0.0001) };
        assert_eq!(Schedule::Ramp(cosine).to_string(), "2e-3 → 1e-4, cosine over 0…1");
        let warm = Ramp { end: 0.5, warmup: 0.05, ..ramp(1.0, 0.25) };
        assert_eq!(Schedule::Ramp(warm).to_string(), "1 → 0.25, linear over 0…0.5, warm-up over 0…0.05");
    }
}
