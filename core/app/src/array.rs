//! Arrays of numbers, which travel as their bytes.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::de::value::{Error, SeqDeserializer};
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;
use serde::ser::{Serialize, Serializer};

/// Numbers that travel as bytes, without work for each element: `Float32Array` and its like in the
/// page.
///
/// As a whole value, or as the only field of a tuple struct, the numbers are copied once in each
/// direction. Within another value they are an ordinary array. A receiver accepts both, and also
/// decodes the bytes as any other sequence, such as `Vec<f64>`.
///
/// ```
/// use stillhere_app::Array;
///
/// let points = Array::from(vec![0.5_f32, 0.25]);
/// assert_eq!(points[1], 0.25);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Array<T>(Vec<T>);

impl<T> Array<T> {
    /// Returns the numbers.
    pub fn into_vec(self) -> Vec<T> {
        self.0
    }
}

impl<T> From<Vec<T>> for Array<T> {
    fn from(numbers: Vec<T>) -> Self {
        Self(numbers)
    }
}

impl<T> Deref for Array<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

/// A number that an [`Array`] can hold: an integer of 8 to 64 bits, `f32` or `f64`.
pub trait Number: sealed::Sealed + bytemuck::Pod + Serialize + for<'de> Deserialize<'de> {}

mod sealed {
    #[expect(unnameable_types, reason = "so that no other crate implements it")]
    pub trait Sealed {
        const FORMAT: super::NumberFormat;
    }
}

/// The format of an array's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(unnameable_types, reason = "it is of the sealed trait")]
pub struct NumberFormat {
    byte: u8,
    size: usize,
    /// The name by which an array makes itself known to this crate's serializer.
    name: &'static str,
}

macro_rules! numbers {
    ($($byte:literal $number:ident,)*) => {
        $(
            impl sealed::Sealed for $number {
                const FORMAT: NumberFormat = NumberFormat {
                    byte: $byte,
                    size: size_of::<$number>(),
                    name: concat!("stillhere_app::Array<", stringify!($number), ">"),
                };
            }
            impl Number for $number {}
        )*

        const FORMATS: [NumberFormat; 10] = [$(<$number as sealed::Sealed>::FORMAT,)*];

        impl<'de> ArrayDeserializer<'de> {
            fn visit_elements<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
                match self.format.byte {
                    $($byte => {
                        let numbers = self.elements.chunks_exact(size_of::<$number>());
                        let numbers = numbers.map(|bytes| bytemuck::pod_read_unaligned::<$number>(bytes));
                        visitor.visit_seq(SeqDeserializer::new(numbers))
                    })*
                    _ => unreachable!("there are no other formats"),
                }
            }
        }
    };
}

numbers! {
    16 u8, 17 i8, 18 u16, 19 i16, 20 u32, 21 i32, 22 f32, 23 f64, 24 u64, 25 i64,
}

#[cfg(target_endian = "big")]
compile_error!("stillhere-app needs a little-endian target");

impl NumberFormat {
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        FORMATS.into_iter().find(|format| format.byte == byte)
    }

    /// Returns the format of the array that has this name.
    pub(crate) fn of_array(name: &str) -> Option<Self> {
        FORMATS.into_iter().find(|format| format.name == name)
    }

    /// Appends an array to a unit.
    pub(crate) fn write(self, elements: &[u8], into: &mut Vec<u8>) {
        into.reserve(ALIGNMENT + elements.len());
        into.push(self.byte);
        into.resize(into.len().next_multiple_of(ALIGNMENT), 0);
        into.extend_from_slice(elements);
    }
}

impl<T: Number> Serialize for Array<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(T::FORMAT.name, &Elements(&self.0))
    }
}

struct Elements<'a, T>(&'a [T]);

impl<T: Number> Serialize for Elements<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_seq(self.0)
        } else {
            serializer.serialize_bytes(bytemuck::cast_slice(self.0))
        }
    }
}

impl<'de, T: Number> Deserialize<'de> for Array<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(T::FORMAT.name, ArrayVisitor(PhantomData))
    }
}

struct ArrayVisitor<T>(PhantomData<T>);

impl<'de, T: Number> Visitor<'de> for ArrayVisitor<T> {
    type Value = Array<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of numbers")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Array<T>, E> {
        if !bytes.len().is_multiple_of(size_of::<T>()) {
            return Err(E::invalid_length(bytes.len(), &self));
        }
        Ok(Array(bytemuck::pod_collect_to_vec(bytes)))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Array<T>, D::Error> {
        if deserializer.is_human_readable() {
            Vec::deserialize(deserializer).map(Array)
        } else {
            deserializer.deserialize_bytes(self)
        }
    }
}

/// Decodes an array of numbers.
pub(crate) struct ArrayDeserializer<'de> {
    format: NumberFormat,
    elements: &'de [u8],
}

impl<'de> ArrayDeserializer<'de> {
    /// `content` begins with the padding, `at` bytes after the start of the unit.
    pub(crate) fn new(format: NumberFormat, content: &'de [u8], at: usize) -> Result<Self, Error> {
        let padding = at.next_multiple_of(ALIGNMENT) - at;
        let (padding, elements) = content
            .split_at_checked(padding)
            .ok_or_else(|| Error::custom("the padding is cut"))?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(Error::custom("the padding is not zero"));
        }
        if !elements.len().is_multiple_of(format.size) {
            return Err(Error::custom("the last element is cut"));
        }
        Ok(Self { format, elements })
    }
}

impl<'de> Deserializer<'de> for ArrayDeserializer<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit_elements(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        if name == self.format.name {
            visitor.visit_bytes(self.elements)
        } else {
            visitor.visit_newtype_struct(self)
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// The first element lies at a multiple of this many bytes from the start of the unit.
const ALIGNMENT: usize = 8;
