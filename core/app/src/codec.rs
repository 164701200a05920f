//! Encodes values: JSON or MessagePack, and arrays of numbers as their bytes.

use std::cell::RefCell;
use std::io;

use serde::ser::{Error as _, Impossible, Serialize, Serializer};

use crate::array::NumberFormat;

/// The format in which a session sends values. It accepts every format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Codec {
    /// JSON, so that people can read the traffic.
    #[default]
    Json,
    /// MessagePack, which is smaller for numbers and bytes.
    MessagePack,
}

/// Why a value cannot be encoded: it has a map whose keys are not text, or its own `Serialize`
/// reported an error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the value cannot be encoded: {0}")]
pub struct EncodeError(String);

impl Codec {
    /// Appends a value to a unit.
    pub(crate) fn write<T: Serialize + ?Sized>(self, value: &T, mut unit: Vec<u8>) -> Result<Vec<u8>, EncodeError> {
        unit.reserve(TYPICAL);
        let start = unit.len();
        let out = Out {
            buffer: RefCell::new(unit),
            start,
        };
        let written = match self {
            Self::Json => {
                out.buffer.borrow_mut().push(JSON);
                let inner = &mut serde_json::Serializer::new(&out);
                value
                    .serialize(Top { inner, out: &out })
                    .map_err(|error| error.to_string())
            }
            Self::MessagePack => {
                out.buffer.borrow_mut().push(MESSAGEPACK);
                let serializer = rmp_serde::Serializer::new(&out);
                let inner = &mut serializer.with_struct_map().with_human_readable();
                value
                    .serialize(Top { inner, out: &out })
                    .map_err(|error| error.to_string())
            }
        };
        written.map_err(EncodeError)?;
        Ok(out.buffer.into_inner())
    }
}

/// The unit that a value is appended to. Both the serializer of the codec and [`Top`] write to it.
struct Out {
    buffer: RefCell<Vec<u8>>,
    /// Where the value begins.
    start: usize,
}

impl io::Write for &Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.borrow_mut().extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Serializes the outermost value: an array of numbers as bytes, anything else as the codec does.
struct Top<'a, S> {
    inner: S,
    out: &'a Out,
}

macro_rules! forward {
    ($($method:ident($($argument:ident: $type:ty),*);)*) => { $(
        fn $method(self, $($argument: $type),*) -> Result<S::Ok, S::Error> {
            self.inner.$method($($argument),*)
        }
    )* };
}

impl<S: Serializer<Ok = ()>> Serializer for Top<'_, S> {
    type Ok = ();
    type Error = S::Error;
    type SerializeSeq = S::SerializeSeq;
    type SerializeTuple = S::SerializeTuple;
    type SerializeTupleStruct = S::SerializeTupleStruct;
    type SerializeTupleVariant = S::SerializeTupleVariant;
    type SerializeMap = S::SerializeMap;
    type SerializeStruct = S::SerializeStruct;
    type SerializeStructVariant = S::SerializeStructVariant;

    forward! {
        serialize_bool(value: bool);
        serialize_i8(value: i8);
        serialize_i16(value: i16);
        serialize_i32(value: i32);
        serialize_i64(value: i64);
        serialize_i128(value: i128);
        serialize_u8(value: u8);
        serialize_u16(value: u16);
        serialize_u32(value: u32);
        serialize_u64(value: u64);
        serialize_u128(value: u128);
        serialize_f32(value: f32);
        serialize_f64(value: f64);
        serialize_char(value: char);
        serialize_str(value: &str);
        serialize_bytes(value: &[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(name: &'static str);
        serialize_unit_variant(name: &'static str, index: u32, variant: &'static str);
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), S::Error> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<(), S::Error> {
        let Some(format) = NumberFormat::of_array(name) else {
            return value.serialize(self);
        };
        let out = self.out;
        value.serialize(ArrayWriter { format, out }).map_err(S::Error::custom)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), S::Error> {
        self.inner.serialize_newtype_variant(name, index, variant, value)
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<S::SerializeSeq, S::Error> {
        self.inner.serialize_seq(length)
    }

    fn serialize_tuple(self, length: usize) -> Result<S::SerializeTuple, S::Error> {
        self.inner.serialize_tuple(length)
    }

    fn serialize_tuple_struct(self, name: &'static str, length: usize) -> Result<S::SerializeTupleStruct, S::Error> {
        self.inner.serialize_tuple_struct(name, length)
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<S::SerializeTupleVariant, S::Error> {
        self.inner.serialize_tuple_variant(name, index, variant, length)
    }

    fn serialize_map(self, length: Option<usize>) -> Result<S::SerializeMap, S::Error> {
        self.inner.serialize_map(length)
    }

    fn serialize_struct(self, name: &'static str, length: usize) -> Result<S::SerializeStruct, S::Error> {
        self.inner.serialize_struct(name, length)
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<S::SerializeStructVariant, S::Error> {
        self.inner.serialize_struct_variant(name, index, variant, length)
    }

    fn is_human_readable(&self) -> bool {
        true
    }
}

/// Takes the bytes of an array, and nothing else.
struct ArrayWriter<'a> {
    format: NumberFormat,
    out: &'a Out,
}

type Never = Impossible<(), serde::de::value::Error>;

macro_rules! refuse {
    ($($method:ident($($type:ty),*) -> $output:ty;)*) => { $(
        fn $method(self, $(_: $type),*) -> Result<$output, Self::Error> {
            Err(Self::Error::custom("an array serializes as bytes"))
        }
    )* };
}

impl Serializer for ArrayWriter<'_> {
    type Ok = ();
    type Error = serde::de::value::Error;
    type SerializeSeq = Never;
    type SerializeTuple = Never;
    type SerializeTupleStruct = Never;
    type SerializeTupleVariant = Never;
    type SerializeMap = Never;
    type SerializeStruct = Never;
    type SerializeStructVariant = Never;

    fn is_human_readable(&self) -> bool {
        false
    }

    fn serialize_bytes(self, elements: &[u8]) -> Result<(), Self::Error> {
        let mut buffer = self.out.buffer.borrow_mut();
        buffer.truncate(self.out.start);
        self.format.write(elements, &mut buffer);
        Ok(())
    }

    refuse! {
        serialize_bool(bool) -> ();
        serialize_i8(i8) -> ();
        serialize_i16(i16) -> ();
        serialize_i32(i32) -> ();
        serialize_i64(i64) -> ();
        serialize_u8(u8) -> ();
        serialize_u16(u16) -> ();
        serialize_u32(u32) -> ();
        serialize_u64(u64) -> ();
        serialize_f32(f32) -> ();
        serialize_f64(f64) -> ();
        serialize_char(char) -> ();
        serialize_str(&str) -> ();
        serialize_none() -> ();
        serialize_unit() -> ();
        serialize_unit_struct(&'static str) -> ();
        serialize_unit_variant(&'static str, u32, &'static str) -> ();
        serialize_seq(Option<usize>) -> Never;
        serialize_tuple(usize) -> Never;
        serialize_tuple_struct(&'static str, usize) -> Never;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Never;
        serialize_map(Option<usize>) -> Never;
        serialize_struct(&'static str, usize) -> Never;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Never;
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Self::Error> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Self::Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Self::Error> {
        Err(Self::Error::custom("an array serializes as bytes"))
    }
}

/// Enough bytes for most values, so that the unit seldom has to grow.
const TYPICAL: usize = 128;

/// The format of a JSON value.
pub(crate) const JSON: u8 = 0;

/// The format of a MessagePack value.
pub(crate) const MESSAGEPACK: u8 = 1;
