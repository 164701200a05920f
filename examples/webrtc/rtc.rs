//! The server's end of one data channel to one browser.
//!
//! Binary messages are the session's frames. A text message is the last one: the close code of its
//! sender, in decimal.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use stillhere::connection::Packet;
use stillhere::{ConnectionError, PairEnd};
use str0m::change::{SdpAnswer, SdpOffer};
use str0m::channel::{ChannelData, ChannelId};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcError};
use tokio::net::UdpSocket;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::{sleep, sleep_until};

/// How long a channel may take to open.
const OPENING: Duration = Duration::from_secs(10);
/// How long the browser may take to receive the last packets and to close.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Bytes that a channel accepts before the browser acknowledges them: several of the largest
/// frames, where the default of str0m has room for one.
const BUFFER: usize = 256 * 1024;
/// Largest message that a browser's channel carries.
const LARGEST: usize = 256 * 1024;
/// The datagrams of WebRTC fit into the 1500 bytes of Ethernet.
const DATAGRAM: usize = 2048;

/// A fault that is applied to a channel on purpose.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// Closes without a close code.
    Reset,
    /// Passes nothing on, and does not close.
    Silence,
    /// Passes nothing for this long.
    Stall(Duration),
}

/// Runs str0m: provides it with datagrams and the time.
pub(crate) struct Peer {
    rtc: Rtc,
    socket: UdpSocket,
    address: SocketAddr,
    /// The channel, once it is open.
    channel: Option<ChannelId>,
    bridge: Bridge,
}

/// The link to the connection loop.
struct Bridge {
    end: PairEnd,
    to_session: Sender<Result<Packet, ConnectionError>>,
    /// Largest frame in bytes.
    limit: usize,
    /// A packet for which the channel has had no room yet.
    unwritten: Option<Packet>,
    /// Whether the loop has nothing more to send.
    is_over: bool,
    /// When to give up, while the channel opens and after the loop has ended.
    deadline: Option<Instant>,
}

impl Peer {
    /// Answers a browser's offer. The peer listens on a port of its own at `ip`, which the browser
    /// must be able to reach.
    ///
    /// # Errors
    /// Returns an error if there is no free port, if the offer is invalid, or if the session's
    /// frames are too large for a channel.
    ///
    /// # Panics
    /// Panics if the other end of `end` is already closed.
    pub(crate) async fn answer(
        ip: IpAddr,
        offer: SdpOffer,
        end: PairEnd,
        limit: usize,
    ) -> io::Result<(Self, SdpAnswer)> {
        if limit > LARGEST {
            let what = format!(
                "frames of {limit} bytes, where a channel carries {LARGEST}: lower the session's fragment limit"
            );
            return Err(io::Error::other(what));
        }
        let socket = UdpSocket::bind((ip, 0)).await?;
        let address = socket.local_addr()?;
        let mut rtc = Rtc::builder()
            .clear_codecs()
            .set_sctp_max_buffered_amount(BUFFER)
            .build(Instant::now());
        rtc.add_local_candidate(Candidate::host(address, "udp").map_err(io::Error::other)?);
        let answer = rtc.sdp_api().accept_offer(offer).map_err(io::Error::other)?;
        let bridge = Bridge {
            to_session: end.sender().expect("an end is open that has not been closed"),
            end,
            limit,
            unwritten: None,
            is_over: false,
            deadline: Some(Instant::now() + OPENING),
        };
        let peer = Self {
            rtc,
            socket,
            address,
            channel: None,
            bridge,
        };
        Ok((peer, answer))
    }

    /// Carries packets in both directions until the channel or the connection loop ends.
    pub(crate) async fn run(mut self, mut faults: Receiver<Fault>) {
        if let Err(error) = self.drive(&mut faults).await {
            tracing::debug!(%error, "a data channel failed");
        }
        // A browser that is not told needs five seconds to notice.
        if self.rtc.close().is_ok() {
            let _ = self.drain().await;
        }
    }

    async fn drive(&mut self, faults: &mut Receiver<Fault>) -> Result<(), RtcError> {
        let mut datagram = vec![0; DATAGRAM];
        while let Some(due) = self.drain().await? {
            // After each change to str0m its output must be taken.
            if self.write()? {
                continue;
            }
            let bridge = &mut self.bridge;
            tokio::select! {
                received = self.socket.recv_from(&mut datagram) => {
                    // The errors concern single datagrams.
                    if let Ok((length, source)) = received {
                        self.receive(source, &datagram[..length])?;
                    }
                }
                packet = bridge.end.next(), if bridge.unwritten.is_none() && !bridge.is_over => match packet {
                    Some(Ok(packet)) => bridge.unwritten = Some(packet),
                    Some(Err(_)) | None => bridge.is_over = true,
                },
                () = sleep_until(due.into()) => self.rtc.handle_input(Input::Timeout(Instant::now()))?,
                () = bridge.to_session.closed(), if bridge.deadline.is_none() => {
                    bridge.deadline = Some(Instant::now() + LAST_WORDS);
                }
                () = sleep_until(bridge.deadline.unwrap_or(due).into()), if bridge.deadline.is_some() => return Ok(()),
                Some(fault) = faults.recv() => match fault {
                    Fault::Reset => return Ok(()),
                    Fault::Silence => self.ignore_all(Duration::MAX).await,
                    Fault::Stall(duration) => self.ignore_all(duration).await,
                },
            }
        }
        Ok(())
    }

    /// Sends and forwards everything that is ready. Returns when str0m wants to be called again, or
    /// `None` if it has ended.
    async fn drain(&mut self) -> Result<Option<Instant>, RtcError> {
        loop {
            match self.rtc.poll_output()? {
                Output::Timeout(due) => return Ok(self.rtc.is_alive().then_some(due)),
                // Datagrams may be lost, and so may this one.
                Output::Transmit(datagram) => {
                    let _ = self.socket.send_to(&datagram.contents, datagram.destination).await;
                }
                Output::Event(event) => self.handle_event(event).await?,
            }
        }
    }

    async fn handle_event(&mut self, event: Event) -> Result<(), RtcError> {
        match event {
            Event::ChannelOpen(channel, _) if self.channel.is_none() => {
                self.channel = Some(channel);
                self.bridge.deadline = None;
            }
            Event::ChannelData(message) if self.channel == Some(message.id) => self.bridge.hand_over(message).await,
            Event::ChannelClose(channel) if self.channel == Some(channel) => self.rtc.close()?,
            _ => {}
        }
        Ok(())
    }

    /// Returns true if the channel has accepted a packet.
    fn write(&mut self) -> Result<bool, RtcError> {
        let Some(mut channel) = self.channel.and_then(|channel| self.rtc.channel(channel)) else {
            return Ok(false);
        };
        let is_written = match &self.bridge.unwritten {
            Some(Packet::Binary(frame)) => channel.write(true, frame)?,
            Some(Packet::Close(code)) => channel.write(false, code.to_string().as_bytes())?,
            // Packets that are not part of the protocol are never sent.
            Some(_) => true,
            None => false,
        };
        if is_written {
            self.bridge.unwritten = None;
        }
        Ok(is_written)
    }

    /// Handles a datagram, if it is for this peer.
    fn receive(&mut self, source: SocketAddr, datagram: &[u8]) -> Result<(), RtcError> {
        let Ok(received) = Receive::new(Protocol::Udp, source, self.address, datagram) else {
            return Ok(());
        };
        let input = Input::Receive(Instant::now(), received);
        if self.rtc.accepts(&input) {
            self.rtc.handle_input(input)?;
        }
        Ok(())
    }

    /// Neither receives nor sends anything for this long, or until the connection loop ends.
    async fn ignore_all(&self, duration: Duration) {
        tokio::select! {
            () = sleep(duration) => {}
            () = self.bridge.to_session.closed() => {}
        }
    }
}

impl Bridge {
    /// The loop always reads, so this does not wait for a browser.
    async fn hand_over(&self, message: ChannelData) {
        let packet = match message.binary {
            true if message.data.len() > self.limit => Err(ConnectionError::TooLarge),
            true => Ok(Packet::Binary(Bytes::from(message.data))),
            false => Ok(Packet::Close(close_code(&message.data))),
        };
        // A loop that has ended needs no more input.
        let _ = self.to_session.send(packet).await;
    }
}

/// WebSockets use 1005 for a close without a code.
fn close_code(text: &[u8]) -> u16 {
    let code = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    code.unwrap_or(1005)
}
