//! Checks the units against the vectors, and that no bytes make the decoders panic.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value as Json;

use crate::array::{Array, Number};
use crate::codec::Codec;
use crate::failure::FailureCode;
use crate::unit::{self, Kind, Unit};
use crate::value::{DecodeError, Value};
use crate::varint;

#[derive(Deserialize)]
struct Vectors {
    units: Vec<Example>,
    malformed: Vec<Wrong>,
    undecodable: Vec<Wrong>,
}

#[derive(Deserialize)]
struct Example {
    name: String,
    hex: String,
    unit: Json,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wrong {
    name: String,
    hex: String,
    sent_by: Option<String>,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../vectors/units.json")).expect("the vectors are well-formed")
}

fn bytes(hex: &str) -> Bytes {
    let pairs = (0..hex.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("it is hex"))
        .collect()
}

#[test]
fn each_unit_decodes_as_described_and_encodes_to_the_same_bytes() {
    let vectors = vectors();
    assert!(vectors.units.len() > 60);
    for Example { name, hex, unit } in vectors.units {
        let message = bytes(&hex);
        let decoded = Unit::decode(&message).unwrap_or_else(|error| panic!("{name}: {error}"));
        let head = check_head(&name, &decoded, &unit);
        let encoded = match value_of(&decoded) {
            Some(value) => check_value(&name, value, &unit["value"], head),
            None => head,
        };
        assert_eq!(encoded, message, "{name}");
    }
}

#[test]
fn malformed_units_are_refused() {
    for Wrong { name, hex, sent_by } in vectors().malformed {
        if sent_by.as_deref() == Some("both") {
            assert!(Unit::decode(&bytes(&hex)).is_err(), "{name}");
        }
    }
}

#[test]
fn undecodable_values_are_errors_for_their_reader() {
    for Wrong { name, hex, .. } in vectors().undecodable {
        let message = bytes(&hex);
        let Ok(Unit::Message(value)) = Unit::decode(&message) else {
            panic!("{name} is a message")
        };
        let error = value.decode::<Json>().expect_err(&name);
        if name.contains("promise") {
            // Nothing is allocated for the promise.
            assert!(matches!(error, DecodeError::MalformedMessagePack), "{name}: {error}");
        }
    }
}

/// Checks the fields before the value, and returns them encoded.
fn check_head(name: &str, decoded: &Unit<'_>, unit: &Json) -> Vec<u8> {
    let id_is = |id: u64| assert_eq!(unit["id"], id, "{name}");
    let named = |of: &str, mut head: Vec<u8>| {
        assert_eq!(unit["name"], of, "{name}");
        unit::write_name(of, &mut head).expect("the name is valid");
        head
    };
    let in_room = |room: &str, head: &mut Vec<u8>| {
        assert_eq!(unit["room"], room, "{name}");
        unit::write_name(room, head).expect("the name is valid");
    };
    let (kind, head) = match decoded {
        Unit::Bytes(content) => {
            assert_eq!(
                *content,
                bytes(unit["bytes"].as_str().expect("there are bytes")),
                "{name}"
            );
            ("bytes", unit::raw(Kind::Bytes, content))
        }
        Unit::Text(text) => {
            assert_eq!(unit["text"], *text, "{name}");
            ("text", unit::raw(Kind::Text, text.as_bytes()))
        }
        Unit::Message(_) => ("message", unit::begin(Kind::Message)),
        Unit::Event { name, .. } => ("event", named(name, unit::begin(Kind::Event))),
        Unit::Call { id, credit, name, .. } => {
            id_is(*id);
            assert_eq!(unit["credit"], *credit, "{name}");
            let mut head = unit::begin_with(Kind::Call, *id);
            varint::write(*credit, &mut head);
            ("call", named(name, head))
        }
        Unit::Answer { id, .. } => {
            id_is(*id);
            ("answer", unit::begin_with(Kind::Answer, *id))
        }
        Unit::Failure { id, code, text } => {
            id_is(*id);
            assert_eq!(unit["text"], *text, "{name}");
            assert_eq!(unit["code"], format!("{code:?}").to_lowercase(), "{name}");
            ("failure", unit::failure(*id, *code, text))
        }
        Unit::Cancel { id } => {
            id_is(*id);
            ("cancel", unit::begin_with(Kind::Cancel, *id))
        }
        Unit::Set { name, number, .. } => {
            assert_eq!(unit["number"], *number, "{name}");
            let mut head = named(name, unit::begin(Kind::Set));
            varint::write(*number, &mut head);
            ("set", head)
        }
        Unit::Item { id, .. } => {
            id_is(*id);
            ("item", unit::begin_with(Kind::Item, *id))
        }
        Unit::More { id, count } => {
            id_is(*id);
            assert_eq!(unit["count"], *count, "{name}");
            let mut head = unit::begin_with(Kind::More, *id);
            varint::write(*count, &mut head);
            ("more", head)
        }
        Unit::Error(_) => ("error", unit::begin(Kind::Error)),
        Unit::Room { room, action, .. } => {
            assert_eq!(unit["action"], *action as u8, "{name}");
            let mut head = unit::begin(Kind::Room);
            in_room(room, &mut head);
            head.push(*action as u8);
            ("room", head)
        }
        Unit::RoomEvent { room, member, name, .. } => {
            id_is(*member);
            let mut head = unit::begin(Kind::RoomEvent);
            in_room(room, &mut head);
            varint::write(*member, &mut head);
            ("roomEvent", named(name, head))
        }
    };
    assert_eq!(unit["kind"], kind, "{name}");
    head
}

fn value_of<'a>(unit: &'a Unit<'_>) -> Option<&'a Value> {
    match unit {
        Unit::Message(value)
        | Unit::Event { value, .. }
        | Unit::Call { value, .. }
        | Unit::Answer { value, .. }
        | Unit::Set { value, .. }
        | Unit::Item { value, .. }
        | Unit::Room { value, .. }
        | Unit::RoomEvent { value, .. }
        | Unit::Error(value) => Some(value),
        Unit::Bytes(_) | Unit::Text(_) | Unit::Failure { .. } | Unit::Cancel { .. } | Unit::More { .. } => None,
    }
}

/// Checks a value, and returns the unit with it.
fn check_value(name: &str, value: &Value, described: &Json, head: Vec<u8>) -> Vec<u8> {
    let codec = match described["format"].as_str().expect("a value has a format") {
        "empty" => {
            assert_eq!(value.decode::<Json>().expect("it is null"), Json::Null, "{name}");
            return head;
        }
        "json" => Codec::Json,
        "messagepack" => Codec::MessagePack,
        numbers => return check_array(name, numbers, value, described, head),
    };
    let Some(text) = described["json"].as_str() else {
        let content: Blob = value.decode().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(
            content.0,
            bytes(described["bytes"].as_str().expect("it has bytes")),
            "{name}"
        );
        return codec.write(&content, head).expect("bytes can be encoded");
    };
    let decoded: Json = value.decode().unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(
        decoded,
        serde_json::from_str::<Json>(text).expect("it is JSON"),
        "{name}"
    );
    codec.write(&decoded, head).expect("JSON can be encoded")
}

/// Bytes that serialize as such.
struct Blob(Vec<u8>);

impl serde::Serialize for Blob {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Blob;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Visitor)
    }
}

fn check_array(name: &str, numbers: &str, value: &Value, described: &Json, head: Vec<u8>) -> Vec<u8> {
    let elements: Vec<String> =
        serde_json::from_value(described["elements"].clone()).expect("an array has elements as text");
    macro_rules! check {
        ($($number:ident)*) => {
            match numbers {
                $(stringify!($number) => {
                    let array: Array<$number> = value.decode().unwrap_or_else(|error| panic!("{name}: {error}"));
                    let expected: Vec<$number> = elements.iter().map(|text| text.parse().expect("a number")).collect();
                    assert_eq!(format!("{:?}", &array[..]), format!("{expected:?}"), "{name}");
                    let sequence: Vec<$number> = value.decode().expect("an array is a sequence");
                    assert_eq!(format!("{sequence:?}"), format!("{expected:?}"), "{name}");
                    Codec::Json.write(&Array::from(expected), head).expect("arrays can be encoded")
                })*
                other => panic!("{name}: unknown format {other}"),
            }
        };
    }
    check!(u8 i8 u16 i16 u32 i32 f32 f64 u64 i64)
}

#[test]
fn no_bytes_make_the_decoders_panic() {
    let seed = 12_u64;
    println!("seed {seed}");
    let vectors = vectors();
    let seeds: Vec<Bytes> = vectors.units.iter().map(|example| bytes(&example.hex)).collect();
    let mut random = Random(seed);
    for _ in 0..50_000 {
        let mut fuzzed = seeds[random.below(seeds.len())].to_vec();
        for _ in 0..=random.below(4) {
            let at = random.below(fuzzed.len() + 1);
            match random.below(3) {
                0 => fuzzed.truncate(at),
                1 => fuzzed.insert(at, random.below(256) as u8),
                _ if at < fuzzed.len() => fuzzed[at] = random.below(256) as u8,
                _ => {}
            }
        }
        let message = Bytes::from(fuzzed);
        if let Ok(unit) = Unit::decode(&message)
            && let Some(value) = value_of(&unit)
        {
            let _ = value.decode::<Json>();
            let _ = value.decode::<Array<f64>>();
            let _ = value.decode::<Vec<(u64, String)>>();
        }
    }
}

#[test]
fn every_number_encodes_and_decodes_and_every_failure_has_its_code() {
    let mut random = Random(3);
    for shift in 0..64 {
        let number = random.next() >> shift & varint::MOST;
        let mut unit = Vec::new();
        varint::write(number, &mut unit);
        assert_eq!(varint::read(&unit), Some((number, unit.len())));
    }
    for (code, byte) in FailureCode::ALL.into_iter().zip(1..) {
        assert_eq!(FailureCode::from_byte(byte), Some(code));
    }
}

fn there_and_back<T, U>(value: &T, codec: Codec) -> U
where
    T: serde::Serialize,
    U: serde::de::DeserializeOwned,
{
    let unit = codec
        .write(value, unit::begin(Kind::Message))
        .expect("it can be encoded");
    let unit = Bytes::from(unit);
    let Ok(Unit::Message(value)) = Unit::decode(&unit) else {
        panic!("it is a message")
    };
    value.decode().expect("it can be decoded")
}

/// Checks arrays of one kind of number. Their bytes are compared, which takes no time for each
/// element.
fn check_lengths<T: Number>(number: T) {
    for length in [0, 10_000_000] {
        let array = Array::from(vec![number; length]);
        let back: Array<T> = there_and_back(&array, Codec::Json);
        let bytes = |array: &Array<T>| bytemuck::cast_slice::<T, u8>(array).to_vec();
        assert!(bytes(&back) == bytes(&array), "{length} elements of {}", size_of::<T>());
    }
}

#[test]
fn arrays_of_every_kind_may_be_empty_or_have_ten_million_elements() {
    check_lengths(u8::MAX);
    check_lengths(i8::MIN);
    check_lengths(u16::MAX);
    check_lengths(i16::MIN);
    check_lengths(u32::MAX);
    check_lengths(i32::MIN);
    check_lengths(f32::MIN_POSITIVE);
    check_lengths(f64::MAX);
    check_lengths(u64::MAX);
    check_lengths(i64::MIN);
}

#[test]
fn arrays_survive_other_shapes() {
    #[derive(serde::Serialize, Deserialize, PartialEq, Debug)]
    struct Plot {
        points: Array<f32>,
        marks: Option<Array<u64>>,
    }
    #[derive(serde::Serialize, Deserialize, PartialEq, Debug)]
    struct Wrapped(Array<i64>);

    for codec in [Codec::Json, Codec::MessagePack] {
        let plot = || Plot {
            points: vec![0.5, -1.5].into(),
            marks: Some(vec![u64::MAX].into()),
        };
        assert_eq!(there_and_back::<_, Plot>(&plot(), codec), plot());
        let wrapped = || Wrapped(vec![i64::MIN, i64::MAX].into());
        assert_eq!(there_and_back::<_, Wrapped>(&wrapped(), codec), wrapped());
        assert_eq!(there_and_back::<_, Array<f64>>(&vec![1, 2], codec)[..], [1.0, 2.0]);
        assert_eq!(
            there_and_back::<_, Vec<f32>>(&Array::from(vec![1_u8, 2]), codec),
            [1.0, 2.0]
        );
        assert_eq!(
            there_and_back::<_, Option<Array<u16>>>(&Some(Array::from(vec![7_u16])), codec),
            Some(vec![7].into())
        );
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 ^ self.0 >> 29
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 16) as usize % bound
    }
}
