//! Encodes and decodes the packets of a hop in NATS messages.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use stillhere::connection::Packet;

/// Encodes the packets of one direction of a hop.
#[derive(Debug)]
pub(crate) struct Encoder {
    /// The hop's number at the other server, and here.
    link: u64,
    from: u64,
    /// Number of the next message.
    number: u32,
    /// Most bytes of a message.
    most: usize,
    buffer: BytesMut,
}

/// Decodes the packets of one direction of a hop.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// Number of the next message.
    number: u32,
    /// The parts of a packet that have arrived.
    parts: BytesMut,
}

/// Why a hop cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BrokenHop {
    #[error("a message is missing")]
    Gap,
    #[error("a message is malformed")]
    Malformed,
    #[error("a packet is too large")]
    TooLarge,
}

impl Encoder {
    /// `most` is the size in bytes that a message may have.
    pub(crate) fn new(link: u64, from: u64, most: usize) -> Self {
        Self {
            link,
            from,
            number: 0,
            most: most.max(2 * (HEADER + RECORD)),
            buffer: BytesMut::new(),
        }
    }

    /// Adds a packet, and passes each message that becomes full to `full`.
    pub(crate) fn push(&mut self, packet: &Packet, mut full: impl FnMut(Bytes)) {
        match packet {
            Packet::Binary(bytes) => {
                let mut rest = bytes.clone();
                loop {
                    let room = self.most.saturating_sub(self.len() + RECORD);
                    // A packet that does not fit begins a new message, and is not split yet.
                    if room < rest.len() && self.len() > HEADER {
                        full(self.take());
                        continue;
                    }
                    let part = rest.split_to(room.min(rest.len()));
                    if rest.is_empty() {
                        self.record(WHOLE, &part);
                        break;
                    }
                    self.record(PART, &part);
                    full(self.take());
                }
            }
            Packet::Text(bytes) => self.record(TEXT, &bytes[..bytes.len().min(1)]),
            Packet::Close(code) => self.record(CLOSE, &code.to_le_bytes()),
            _ => {}
        }
        if self.len() + SHORT > self.most {
            full(self.take());
        }
    }

    /// Returns the final message, which says that nothing more follows.
    pub(crate) fn finish(&mut self) -> Bytes {
        self.record(OVER, &[]);
        self.take()
    }

    /// Returns what was added since the last message, if anything.
    pub(crate) fn flush(&mut self) -> Option<Bytes> {
        (self.len() > HEADER).then(|| self.take())
    }

    fn len(&self) -> usize {
        self.buffer.len().max(HEADER)
    }

    fn record(&mut self, kind: u8, bytes: &[u8]) {
        if self.buffer.is_empty() {
            self.buffer.put_u64_le(self.link);
            self.buffer.put_u64_le(self.from);
            self.buffer.put_u32_le(self.number);
        }
        self.buffer.put_u8(kind);
        self.buffer
            .put_u32_le(u32::try_from(bytes.len()).expect("a message has less than 4 GiB"));
        self.buffer.put_slice(bytes);
    }

    fn take(&mut self) -> Bytes {
        self.number = self.number.wrapping_add(1);
        self.buffer.split().freeze()
    }
}

/// What a message carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Carried {
    Packet(Packet),
    /// Nothing more follows.
    Over,
}

impl Decoder {
    /// Reads what a message carries, without its link.
    pub(crate) fn read(&mut self, mut message: Bytes) -> Result<Vec<Carried>, BrokenHop> {
        if message.try_get_u32_le() != Ok(self.number) {
            return Err(BrokenHop::Gap);
        }
        self.number = self.number.wrapping_add(1);
        let mut carried = Vec::new();
        while !message.is_empty() {
            let kind = message.get_u8();
            let length = message.try_get_u32_le().map_err(|_| BrokenHop::Malformed)?;
            let length = usize::try_from(length).map_err(|_| BrokenHop::Malformed)?;
            if length > message.len() {
                return Err(BrokenHop::Malformed);
            }
            let bytes = message.split_to(length);
            match kind {
                WHOLE if self.parts.is_empty() => carried.push(Carried::Packet(Packet::Binary(bytes))),
                WHOLE => {
                    self.parts.put(bytes);
                    let whole = self.parts.split().freeze();
                    carried.push(Carried::Packet(Packet::Binary(whole)));
                }
                PART if self.parts.len() + bytes.len() > MOST_PARTS => return Err(BrokenHop::TooLarge),
                PART => self.parts.put(bytes),
                TEXT => carried.push(Carried::Packet(Packet::Text(bytes))),
                CLOSE => {
                    let code = <[u8; 2]>::try_from(&bytes[..]).map_err(|_| BrokenHop::Malformed)?;
                    carried.push(Carried::Packet(Packet::Close(u16::from_le_bytes(code))));
                }
                OVER => carried.push(Carried::Over),
                _ => return Err(BrokenHop::Malformed),
            }
        }
        Ok(carried)
    }
}

/// Takes the next number of a hop off a message: first that at the receiver, then that at the
/// sender.
pub(crate) fn link_of(message: &mut Bytes) -> Option<u64> {
    message.try_get_u64_le().ok()
}

/// The number of no hop.
pub(crate) const NO_LINK: u64 = 0;

/// A whole packet, or the last part of one.
const WHOLE: u8 = 0;
/// A part of a packet that is larger than a message.
const PART: u8 = 1;
/// A text message, which breaks the protocol; its content does not matter.
const TEXT: u8 = 2;
/// The close of the connection, with its code.
const CLOSE: u8 = 3;
/// Nothing more follows.
const OVER: u8 = 4;

/// Bytes of a message before its first record.
const HEADER: usize = 20;

/// Bytes of a record before its content.
const RECORD: usize = 5;

/// Bytes of the largest record that is never split: a close. Each message has room for one more.
const SHORT: usize = RECORD + 2;

/// Most bytes of a packet that arrives in parts, without the last one.
const MOST_PARTS: usize = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// Encodes, decodes, and returns the packets with the number and the sizes of the messages.
    fn carry(packets: &[Packet], most: usize) -> (Vec<Packet>, Vec<usize>) {
        let mut encoder = Encoder::new(7, 8, most);
        let mut messages = Vec::new();
        for packet in packets {
            encoder.push(packet, |message| messages.push(message));
        }
        messages.extend(encoder.flush());
        messages.push(encoder.finish());
        let sizes = messages.iter().map(Bytes::len).collect();
        let mut decoder = Decoder::default();
        let mut arrived = Vec::new();
        for mut message in messages {
            assert_eq!([link_of(&mut message), link_of(&mut message)], [Some(7), Some(8)]);
            arrived.extend(decoder.read(message).expect("nothing is missing"));
        }
        assert_eq!(arrived.pop(), Some(Carried::Over));
        let packet = |carried| match carried {
            Carried::Packet(packet) => packet,
            Carried::Over => panic!("only the last is over"),
        };
        (arrived.into_iter().map(packet).collect(), sizes)
    }

    #[test]
    fn packets_of_every_size_arrive_in_messages_within_the_limit() {
        for most in [64, 100, 1000] {
            for size in 0..300 {
                let packets = [size, 0, 3, size / 2, 40].map(|size| Packet::Binary(vec![size as u8; size].into()));
                let (arrived, sizes) = carry(&packets, most);
                assert_eq!(arrived, packets, "{most} {size}");
                assert!(sizes.iter().all(|size| *size <= most), "{most} {size}: {sizes:?}");
            }
        }
    }

    #[test]
    fn small_packets_share_a_message() {
        let packets = vec![Packet::Binary(Bytes::from_static(&[1; 10])); 50];
        let (arrived, sizes) = carry(&packets, 10_000);
        assert_eq!((arrived.len(), sizes.len()), (50, 2));
    }

    #[test]
    fn a_close_keeps_its_code() {
        let packets = [Packet::Binary(Bytes::from_static(b"x")), Packet::Close(4201)];
        assert_eq!(carry(&packets, 1000).0, packets);
    }

    #[test]
    fn closes_and_texts_fit_into_messages_within_the_limit() {
        let short = [
            Packet::Close(1),
            Packet::Text(Bytes::from_static(b"t")),
            Packet::Close(2),
        ];
        for most in 60..100 {
            for size in 0..200 {
                let first = Packet::Binary(vec![1; size].into());
                let packets: Vec<_> = [first].into_iter().chain(short.clone()).collect();
                let (arrived, sizes) = carry(&packets, most);
                assert_eq!(arrived, packets, "{most} {size}");
                assert!(sizes.iter().all(|size| *size <= most), "{most} {size}: {sizes:?}");
            }
        }
    }

    /// Returns the messages of a direction, without their links, and its packets. Their numbers
    /// pass the greatest.
    fn numbered() -> (Vec<Bytes>, Vec<Carried>) {
        let packets: Vec<_> = (0..8).map(|number| Packet::Binary(vec![number; 90].into())).collect();
        let mut encoder = Encoder::new(1, 2, 70);
        encoder.number = u32::MAX - 3;
        let mut messages = Vec::new();
        for packet in &packets {
            encoder.push(packet, |message| messages.push(message));
        }
        messages.push(encoder.finish());
        assert!(messages.len() > 8);
        for message in &mut messages {
            message.advance(16);
        }
        let carried = packets.into_iter().map(Carried::Packet);
        (messages, carried.chain([Carried::Over]).collect())
    }

    /// Reads messages until one is refused. Returns what they carry, and why.
    fn read_until_broken(messages: &[Bytes]) -> (Vec<Carried>, Option<BrokenHop>) {
        let mut decoder = Decoder {
            number: u32::MAX - 3,
            ..Decoder::default()
        };
        let mut arrived = Vec::new();
        for message in messages {
            match decoder.read(message.clone()) {
                Ok(carried) => arrived.extend(carried),
                Err(error) => return (arrived, Some(error)),
            }
        }
        (arrived, None)
    }

    #[test]
    fn a_message_that_is_lost_doubled_or_swapped_breaks_the_hop_before_a_packet_is_wrong() {
        let (messages, sent) = numbered();
        assert_eq!(read_until_broken(&messages), (sent.clone(), None));
        let last = messages.len() - 1;
        for at in 0..=last {
            let mut lost = messages.clone();
            lost.remove(at);
            let mut doubled = messages.clone();
            doubled.insert(at, messages[at].clone());
            let mut swapped = messages.clone();
            swapped.swap(at, (at + 1) % messages.len());
            for (fault, messages) in [("lost", lost), ("doubled", doubled), ("swapped", swapped)] {
                let (arrived, error) = read_until_broken(&messages);
                assert!(sent.starts_with(&arrived), "{fault} {at}");
                // Only the next message shows that one is missing. Without the last one the hop
                // looks idle.
                let is_noticed = !(fault == "lost" && at == last);
                assert_eq!(error, is_noticed.then_some(BrokenHop::Gap), "{fault} {at}");
                assert!(is_noticed || !arrived.contains(&Carried::Over));
            }
        }
    }

    #[test]
    fn malformed_messages_are_refused() {
        let whole: Vec<u8> = [&0u32.to_le_bytes()[..], &[WHOLE, 3, 0, 0, 0, 1, 2, 3]].concat();
        for length in (0..whole.len()).filter(|length| *length != 4) {
            let mut decoder = Decoder::default();
            assert!(decoder.read(whole[..length].to_vec().into()).is_err(), "{length}");
        }
        for kind in [CLOSE, 5, 255] {
            let mut message = whole.clone();
            message[4] = kind;
            assert_eq!(
                Decoder::default().read(message.into()),
                Err(BrokenHop::Malformed),
                "{kind}"
            );
        }
    }
}
