//! The colours of all pictures.
//!
//! Entities take the Okabe–Ito colours, which stay apart under the common
//! forms of colour blindness; KL maps take a ramp of rising lightness, so that
//! they also read in greyscale.

use image::Rgb;

/// The page sheets are drawn on.
pub const PAGE: Rgb<u8> = Rgb([255, 255, 255]);
/// Headings, labels and captions.
pub const INK: Rgb<u8> = Rgb([31, 35, 40]);
/// Text of second rank: footnotes, captions of absent entities.
pub const FAINT_INK: Rgb<u8> = Rgb([110, 118, 129]);
/// Hairlines around tiles that carry no entity's colour.
pub const HAIRLINE: Rgb<u8> = Rgb([208, 215, 222]);

/// Okabe–Ito, in an order that keeps neighbours far apart and leaves out black,
/// which is the background of most scenes.
const ENTITIES: [Rgb<u8>; 7] = [
    Rgb([230, 159, 0]),   // orange
    Rgb([86, 180, 233]),  // sky blue
    Rgb([0, 158, 115]),   // bluish green
    Rgb([204, 121, 167]), // reddish purple
    Rgb([240, 228, 66]),  // yellow
    Rgb([213, 94, 0]),    // vermillion
    Rgb([0, 114, 178]),   // blue
];

/// The colour of the entity with this index, counted from 0; colours repeat
/// after the seventh.
pub const fn entity(index: usize) -> Rgb<u8> {
    ENTITIES[index % ENTITIES.len()]
}

/// Paul Tol's "muted" scheme, ten colours that stay apart under the common forms of colour blindness, with
/// its grey darkened so that dots of it show on the page (P. Tol, "Colour Schemes", SRON/EPS/TN/09-002, 2021).
const CLASSES: [Rgb<u8>; 10] = [
    Rgb([51, 34, 136]),   // indigo
    Rgb([221, 170, 51]),  // sand
    Rgb([17, 119, 51]),   // green
    Rgb([204, 102, 119]), // rose
    Rgb([136, 204, 238]), // cyan
    Rgb([136, 34, 85]),   // wine
    Rgb([68, 170, 153]),  // teal
    Rgb([90, 90, 90]),    // grey
    Rgb([153, 153, 51]),  // olive
    Rgb([170, 68, 153]),  // purple
];

/// The colour of a class, counted from 0; colours repeat after the tenth.
pub const fn class(index: usize) -> Rgb<u8> {
    CLASSES[index % CLASSES.len()]
}

/// Lines and bars that carry the message (Okabe–Ito blue).
pub const DATA: Rgb<u8> = ENTITIES[6];
/// What one's eye is led to among them (Okabe–Ito vermillion).
pub const ACCENT: Rgb<u8> = ENTITIES[5];
/// Grid lines of plots.
pub const RULE: Rgb<u8> = Rgb([228, 232, 236]);

/// Anchors of the KL ramp, equally spaced from 0 to 1: near black through
/// indigo and slate to ivory. Lightness rises evenly, and no anchor comes near
/// an entity colour, so that frames drawn on a map stay visible.
const RAMP: [Rgb<u8>; 7] = [
    Rgb([11, 9, 23]),
    Rgb([38, 29, 75]),
    Rgb([65, 59, 121]),
    Rgb([102, 97, 150]),
    Rgb([147, 142, 171]),
    Rgb([199, 194, 198]),
    Rgb([255, 252, 235]),
];

/// The colour of `value` on the sequential ramp; 0 is dark, 1 is light.
/// Values outside 0…1 take the nearer end, and NaN the dark one.
pub fn ramp(value: f32) -> Rgb<u8> {
    let last = RAMP.len() - 1;
    let position = if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) } * last as f32;
    let below = (position as usize).min(last - 1);
    mix(RAMP[below], RAMP[below + 1], position - below as f32)
}

/// `from` and `to` mixed; `share` in 0…1 is the part of `to`.
pub fn mix(from: Rgb<u8>, to: Rgb<u8>, share: f32) -> Rgb<u8> {
    let channel = |index: usize| {
        let (from, to) = (f32::from(from[index]), f32::from(to[index]));
        (from + (to - from) * share).round() as u8
    };
    Rgb([channel(0), channel(1), channel(2)])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative luminance (Rec. 709, linear light), 0…1.
    fn luminance(colour: Rgb<u8>) -> f32 {
        let linear = |value: u8| (f32::from(value) / 255.0).powf(2.2);
        0.2126 * linear(colour[0]) + 0.7152 * linear(colour[1]) + 0.0722 * linear(colour[2])
    }

    #[test]
    fn entity_colours_differ_and_then_repeat() {
        for a in 0..ENTITIES.len() {
            for b in 0..a {
                assert_ne!(entity(a), entity(b));
            }
            assert_eq!(entity(a), entity(a + ENTITIES.len()));
        }
    }

    #[test]
    fn class_colours_differ_from_each_other_and_from_the_page() {
        for a in 0..CLASSES.len() {
            assert!(luminance(class(a)) < 0.65, "{a}");
            assert!((0..a).all(|b| class(a) != class(b)));
        }
        assert_eq!(class(0), class(CLASSES.len()));
    }

    #[test]
    fn the_ramp_only_gets_lighter() {
        let steps: Vec<f32> = (0..=100).map(|i| luminance(ramp(i as f32 / 100.0))).collect();
        assert!(steps.windows(2).all(|pair| pair[1] >= pair[0]));
        assert!(steps[100] - steps[0] > 0.9);
    }

    #[test]
    fn the_ramp_meets_its_anchors_and_survives_bad_values() {
        assert_eq!(ramp(0.5), RAMP[3]);
        assert_eq!(ramp(-3.0), RAMP[0]);
        assert_eq!(ramp(f32::NAN), RAMP[0]);
        assert_eq!(ramp(f32::INFINITY), RAMP[6]);
    }

    #[test]
    fn text_stands_out_from_the_page() {
        for ink in [INK, FAINT_INK] {
            let contrast = (luminance(PAGE) + 0.05) / (luminance(ink) + 0.05);
            assert!(contrast > 4.5, "{ink:?}: {contrast}");
        }
    }
}
