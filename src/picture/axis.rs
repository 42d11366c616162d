//! Axes: which numbers they show, and how these are written.

/// An axis from one number to another, with ticks at round numbers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) ticks: Vec<f64>,
    step: f64,
}

impl Axis {
    /// An axis that holds `low` and `high`, widened to ticks at both ends,
    /// with about `wanted` steps.
    pub(super) fn covering(low: f64, high: f64, wanted: u32) -> Self {
        let (low, high) = widened(low, high);
        let step = round_step((high - low) / f64::from(wanted.max(1)));
        let first = (low / step + ALMOST).floor();
        let last = (high / step - ALMOST).ceil();
        Self::of_steps(first, (last - first) as usize, step)
    }

    /// An axis of so many steps, whose first tick lies at this number of them.
    fn of_steps(first: f64, count: usize, step: f64) -> Self {
        // Counted in steps, so that no error adds up from tick to tick.
        let at = |tick: usize| (first + tick as f64) * step;
        Self { low: at(0), high: at(count), ticks: (0..=count).map(at).collect(), step }
    }

    /// Two axes that hold two ranges and are equally long, so that they share one scale; with about `wanted` steps each.
    pub(super) fn of_one_scale(x: (f64, f64), y: (f64, f64), wanted: u32) -> (Self, Self) {
        let ranges = [widened(x.0, x.1), widened(y.0, y.1)];
        let longest = ranges.iter().map(|(low, high)| high - low).fold(0.0, f64::max);
        let step = round_step(longest / f64::from(wanted.max(1)));
        let [x, y] = ranges.map(|(low, high)| ((low / step + ALMOST).floor(), (high / step - ALMOST).ceil()));
        let count = (x.1 - x.0).max(y.1 - y.0);
        let axis = |(first, last): (f64, f64)| {
            // The shorter one has as much room on both sides of its range, to a step.
            let first = first - ((count - (last - first)) / 2.0).floor();
            Self::of_steps(first, count as usize, step)
        };
        (axis(x), axis(y))
    }

    /// Where `value` lies on the axis: 0 at its low end, 1 at its high end.
    pub(super) fn share(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    /// A tick as it is written, in thousands or millions where ticks are that
    /// far apart, and with the decimals that tell it from the next.
    pub(super) fn label(&self, tick: f64) -> String {
        let (unit, suffix) = match self.high.abs().max(self.low.abs()) {
            largest if largest >= 1e6 => (1e6, "M"),
            largest if largest >= 1e4 => (1e3, "k"),
            _ => (1.0, ""),
        };
        let decimals = (-(self.step / unit).log10().floor()).clamp(0.0, 9.0) as usize;
        // Adding 0 turns a rounded "-0" into "0".
        let text = format!("{:.decimals$}", tick / unit + 0.0);
        if tick == 0.0 { "0".to_owned() } else { text.replace('-', "−") + suffix }
    }
}

/// The part of a step by which a number may miss a tick and still count as on it.
const ALMOST: f64 = 1e-9;

/// Both ends, finite, in order, and far enough apart to be told from each other.
fn widened(low: f64, high: f64) -> (f64, f64) {
    // Beyond this, sums and steps would lose their digits.
    const FARTHEST: f64 = 1e15;
    let tame = |end: f64| {
        if end.is_nan() { 0.0 } else { end.clamp(-FARTHEST, FARTHEST) }
    };
    let (low, high) = (tame(low.min(high)), tame(high.max(low)));
    if (low, high) == (0.0, 0.0) {
        return (0.0, 1.0);
    }
    let least = (low.abs().max(high.abs()) * 1e-6).max(1e-6);
    if high - low >= least { (low, high) } else { (low - least, high + least) }
}

/// The smallest of 1, 2, 5, 10, 20, 50… (and 0.5, 0.2, …) that is at least `step`.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let round = [1.0, 2.0, 5.0].into_iter().find(|round| step <= round * power * (1.0 + ALMOST));
    round.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(low: f64, high: f64) -> Vec<String> {
        let axis = Axis::covering(low, high, 5);
        axis.ticks.iter().map(|&tick| axis.label(tick)).collect()
    }

    #[test]
    fn ticks_are_round_and_hold_both_ends() {
        assert_eq!(labels(0.0, 10.0), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(labels(83.0, 121.0), ["80", "90", "100", "110", "120", "130"]);
        assert_eq!(labels(0.0, 0.9), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(-3.0, 1.0), ["−3", "−2", "−1", "0", "1"]);
    }

    #[test]
    fn axes_of_one_scale_are_equally_long_and_hold_both_ranges() {
        for (x, y) in [((-2.7, 3.8), (-3.6, -0.6)), ((0.0, 1.0), (0.0, 1.0)), ((5.0, 5.0), (-1.0, 9.3))] {
            let (across, up) = Axis::of_one_scale(x, y, 7);
            assert_eq!((across.high - across.low, across.step), (up.high - up.low, up.step));
            for (axis, range) in [(&across, x), (&up, y)] {
                assert!(axis.low <= range.0 && range.1 <= axis.high, "{axis:?}");
                let room = (range.0 - axis.low) - (axis.high - range.1);
                assert!(room.abs() <= 3.0 * axis.step, "{axis:?} is not around {range:?}");
            }
        }
    }

    #[test]
    fn large_steps_are_written_short() {
        assert_eq!(labels(0.0, 50_000.0), ["0", "10k", "20k", "30k", "40k", "50k"]);
        assert_eq!(labels(0.0, 2_000_000.0).last().unwrap(), "2.0M");
    }

    #[test]
    fn degenerate_ranges_still_give_an_axis() {
        for (low, high) in [(5.0, 5.0), (0.0, 0.0), (f64::NAN, 1.0), (f64::NEG_INFINITY, f64::INFINITY), (1e300, 1e301)]
        {
            let axis = Axis::covering(low, high, 5);
            assert!(axis.high > axis.low, "{low} {high}");
            assert!((2..=12).contains(&axis.ticks.len()), "{axis:?}");
        }
    }

    #[test]
    fn shares_run_from_end_to_end() {
        let axis = Axis::covering(10.0, 20.0, 5);
        assert_eq!((axis.share(10.0), axis.share(15.0), axis.share(20.0)), (0.0, 0.5, 1.0));
    }
}
