//! The few protocol buffers of TensorBoard's events, encoded by hand.
//!
//! A message is a sequence of fields, each a tag `number << 3 | wire type` and a value. This writes
//! the canonical form, byte for byte that of Google's encoder: fields in the order of their numbers,
//! and none where the value is the default of proto3. Field numbers are those of TensorBoard's
//! `event.proto` and `summary.proto`.

/// Version of the event format; every event file starts with it.
const FILE_VERSION: &str = "brain.Event:2";

/// The wire types in use.
const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;
const FIXED_32: u64 = 5;

/// An encoded image with what its summary says about it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Image<'a> {
    pub(super) height: u32,
    pub(super) width: u32,
    /// The number of channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA.
    pub(super) colorspace: u32,
    pub(super) encoded: &'a [u8],
}

/// The event that opens a file. Times are in seconds since 1970.
pub(super) fn version_event(wall_time: f64) -> Vec<u8> {
    let mut event = Message::default();
    event.double(1, wall_time);
    event.bytes(3, FILE_VERSION.as_bytes());
    event.0
}

/// The event of one scalar.
pub(super) fn scalar_event(wall_time: f64, step: u64, tag: &str, value: f32) -> Vec<u8> {
    let mut summary_value = Message::default();
    summary_value.bytes(1, tag.as_bytes());
    summary_value.float(2, value);
    summary_event(wall_time, step, &summary_value)
}

/// The event of one image.
pub(super) fn image_event(wall_time: f64, step: u64, tag: &str, image: Image) -> Vec<u8> {
    let mut summary_image = Message::default();
    summary_image.integer(1, image.height.into());
    summary_image.integer(2, image.width.into());
    summary_image.integer(3, image.colorspace.into());
    summary_image.bytes(4, image.encoded);

    let mut summary_value = Message::default();
    summary_value.bytes(1, tag.as_bytes());
    summary_value.bytes(4, &summary_image.0);
    summary_event(wall_time, step, &summary_value)
}

fn summary_event(wall_time: f64, step: u64, summary_value: &Message) -> Vec<u8> {
    let mut summary = Message::default();
    summary.bytes(1, &summary_value.0);

    let mut event = Message::default();
    event.double(1, wall_time);
    event.integer(2, step);
    event.bytes(5, &summary.0);
    event.0
}

/// A message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn integer(&mut self, field: u64, value: u64) {
        if value != 0 {
            self.tag(field, VARINT);
            self.varint(value);
        }
    }

    fn double(&mut self, field: u64, value: f64) {
        self.tag(field, FIXED_64);
        self.0.extend(value.to_le_bytes());
    }

    fn float(&mut self, field: u64, value: f32) {
        self.tag(field, FIXED_32);
        self.0.extend(value.to_le_bytes());
    }

    /// Text, bytes or an embedded message.
    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.tag(field, LENGTH_DELIMITED);
        self.varint(value.len() as u64);
        self.0.extend(value);
    }

    fn tag(&mut self, field: u64, wire_type: u64) {
        self.varint(field << 3 | wire_type);
    }

    /// Seven bits to a byte, the lowest first; the top bit says that more follow.
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_match_the_documentation() {
        let encoded = |value| {
            let mut message = Message::default();
            message.varint(value);
            message.0
        };
        assert_eq!(encoded(0), [0]);
        assert_eq!(encoded(127), [127]);
        // The example of protobuf.dev/programming-guides/encoding.
        assert_eq!(encoded(150), [0x96, 0x01]);
        assert_eq!(encoded(u64::MAX), [&[0xff; 9][..], &[0x01]].concat());
    }

    #[test]
    fn a_scalar_of_zero_is_still_a_scalar() {
        let event = scalar_event(1.0, 0, "a", 0.0);
        assert_eq!(event[event.len() - 5..], [2 << 3 | 5, 0, 0, 0, 0]);
    }
}
