//! A TCP proxy on loopback that breaks connections in every way a network knows.
//!
//! It stands between browsers and one server, passes bytes unaltered, and does to one connection, to those of one
//! session or to all of them what it is told: [cut](ConnectionHandle::cut), [reset](ConnectionHandle::reset),
//! [silence](ConnectionHandle::silence), [black hole](ConnectionHandle::black_hole), [stall](ConnectionHandle::stall),
//! or [truncate after so many bytes](ConnectionHandle::cut_after). It knows the connection of a session by the
//! WebSocket upgrade request that passes through it.
//!
//! ```
//! use stillhere_conformance::fault_proxy::FaultProxy;
//! use tokio::{io::AsyncReadExt, net::{TcpListener, TcpStream}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let server = TcpListener::bind("127.0.0.1:0").await?;
//! let proxy = FaultProxy::start(([127, 0, 0, 1], 0).into(), server.local_addr()?).await?;
//!
//! let mut page = TcpStream::connect(proxy.address()).await?;
//! proxy.wait_for_connections(1).await[0].reset();
//! assert_eq!(page.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
//! # Ok(())
//! # }
//! ```

use std::{
    collections::VecDeque,
    future::pending,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::{Buf, Bytes};
use tokio::{
    fs::read_to_string,
    io::{AsyncWriteExt, copy, sink},
    join,
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    select,
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, sleep_until, timeout},
    try_join,
};

/// The proxy; a clone is a handle to the same one. Dropping the last closes every connection and stops it.
#[derive(Clone, Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _running: Arc<AbortOnDrop>,
}

impl FaultProxy {
    /// Listens on `listen` (port 0 for any) and connects what comes to `upstream`, which need not be up yet.
    ///
    /// # Errors
    /// Those of binding the listener.
    pub async fn start(listen: SocketAddr, upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            settings: watch::Sender::new(Settings {
                upstream,
                delay: Duration::ZERO,
                refuse_new: false,
            }),
            registered: watch::Sender::new(Vec::new()),
        });
        let accepting = tokio::spawn(run_accept(listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            _running: Arc::new(AbortOnDrop(accepting.abort_handle())),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The open connections, the newest last.
    pub fn connections(&self) -> Vec<ConnectionHandle> {
        let registered = self.shared.registered.borrow().clone();
        registered.into_iter().filter(ConnectionHandle::is_open).collect()
    }

    /// The open connections that asked to upgrade for this session, the newest last.
    ///
    /// A connection is among them before the server has seen its upgrade request.
    pub fn connections_of(&self, session_id: &str) -> Vec<ConnectionHandle> {
        of_session(self.connections(), session_id)
    }

    /// Waits until exactly `count` connections are open, and returns them.
    pub async fn wait_for_connections(&self, count: usize) -> Vec<ConnectionHandle> {
        self.wait_until(|open| open.len() == count).await
    }

    /// Waits until exactly `count` connections of this session are open, and returns them.
    pub async fn wait_for_connections_of(&self, session_id: &str, count: usize) -> Vec<ConnectionHandle> {
        let open = self
            .wait_until(|open| of_session(open.to_vec(), session_id).len() == count)
            .await;
        of_session(open, session_id)
    }

    /// Waits until the open connections meet `condition`, and returns them.
    ///
    /// It is asked at once, and again whenever a connection opens, is recognised by its session id, or closes.
    pub async fn wait_until(&self, mut condition: impl FnMut(&[ConnectionHandle]) -> bool) -> Vec<ConnectionHandle> {
        let mut changes = self.shared.registered.subscribe();
        loop {
            changes.mark_unchanged();
            let open = self.connections();
            if condition(&open) {
                return open;
            }
            changes.changed().await.expect("the sender lives in self");
        }
    }

    /// Delays each byte by this much one way, in both directions of every connection, from now on. At most an hour.
    ///
    /// Order is kept. Up to 1 MiB per direction is on its way at once, so a delay also limits throughput.
    pub fn set_delay(&self, delay: Duration) {
        self.shared
            .settings
            .send_modify(|settings| settings.delay = delay.min(MAX_DELAY));
    }

    /// Whether connections to come are reset as soon as they are accepted.
    pub fn refuse_new(&self, refuse: bool) {
        self.shared
            .settings
            .send_modify(|settings| settings.refuse_new = refuse);
    }

    /// Connects those to come to another server; connections there are stay with theirs.
    pub fn set_upstream(&self, upstream: SocketAddr) {
        self.shared
            .settings
            .send_modify(|settings| settings.upstream = upstream);
    }
}

fn of_session(mut connections: Vec<ConnectionHandle>, session_id: &str) -> Vec<ConnectionHandle> {
    connections.retain(|connection| connection.is_of(session_id));
    connections
}

/// One way through the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the browser to the server.
    ToUpstream,
    /// From the server to the browser.
    ToClient,
}

impl Direction {
    fn index(self) -> usize {
        match self {
            Self::ToUpstream => 0,
            Self::ToClient => 1,
        }
    }
}

/// One connection through the proxy, from its acceptance on. It may outlive the connection and the proxy.
///
/// The verbs take effect in the background, once the server has been reached; on a connection that is closed or told to
/// close they do nothing.
#[derive(Clone, Debug)]
pub struct ConnectionHandle(Arc<Connection>);

impl ConnectionHandle {
    /// Its place in the order of acceptance, unique within the proxy.
    pub fn number(&self) -> u64 {
        self.0.number
    }

    /// The client's end, as the proxy sees it.
    pub fn client_address(&self) -> SocketAddr {
        self.0.client_address
    }

    /// The id in its WebSocket upgrade request, once that has been read.
    pub fn session_id(&self) -> Option<String> {
        self.0.progress.borrow().session_id.clone()
    }

    /// Whether it is neither closed nor told to close. A silenced one is open.
    pub fn is_open(&self) -> bool {
        !self.0.orders.borrow().mode.is_over()
    }

    /// How many bytes have been handed on in this direction; those a black hole swallowed do not count.
    ///
    /// A receiver may have bytes a moment before they are counted: see [`wait_until_passed`](Self::wait_until_passed).
    pub fn bytes_passed(&self, direction: Direction) -> u64 {
        self.0.progress.borrow().passed[direction.index()]
    }

    /// Closes it in order on both sides (FIN), as an idle time-out of a proxy does. What is on its way is lost.
    pub fn cut(&self) {
        self.order(Mode::Cut);
    }

    /// Resets it on both sides (RST). What the kernel had not sent yet is lost.
    pub fn reset(&self) {
        self.order(Mode::Reset);
    }

    /// Leaves it half-open: nothing is read or passed any more, not even a close; nothing is lost either.
    pub fn silence(&self) {
        self.order(Mode::Silent);
    }

    /// Swallows all bytes, both ways; closes are not passed. Senders see their bytes acknowledged.
    ///
    /// After [`resume`](Self::resume) both streams have a hole, which no TCP connection has by itself.
    pub fn black_hole(&self) {
        self.order(Mode::BlackHole);
    }

    /// Passes nothing for this long; then everything goes on and nothing is lost.
    pub fn stall(&self, duration: Duration) {
        self.order(Instant::now().checked_add(duration).map_or(Mode::Silent, Mode::Stalled));
    }

    /// Ends a silence, a black hole or a stall. A close that one of them hid is passed now.
    pub fn resume(&self) {
        self.order(Mode::Passing);
    }

    /// Passes exactly this many more bytes in this direction, then resets both sides: 0 resets at once.
    ///
    /// The receiver can read all of them first (on Linux; elsewhere unless its receive window is full), for up to 10 s.
    /// If the direction ends before so many bytes came, the connection ends as it would have.
    pub fn cut_after(&self, direction: Direction, bytes: u64) {
        self.0
            .orders
            .send_modify(|orders| orders.allowance[direction.index()] = Some(bytes));
    }

    /// Waits until at least `total` bytes have passed in this direction; false if it closes before.
    pub async fn wait_until_passed(&self, direction: Direction, total: u64) -> bool {
        let mut progress = self.0.progress.subscribe();
        select! {
            biased;
            reached = progress.wait_for(|progress| progress.passed[direction.index()] >= total) => reached.is_ok(),
            () = self.wait_until_closed() => self.bytes_passed(direction) >= total,
        }
    }

    /// Waits until both sides have been closed or reset.
    pub async fn wait_until_closed(&self) {
        let mut orders = self.0.orders.subscribe();
        orders
            .wait_for(|orders| orders.mode == Mode::Closed)
            .await
            .expect("the sender lives in self");
    }

    fn is_of(&self, session_id: &str) -> bool {
        self.0.progress.borrow().session_id.as_deref() == Some(session_id)
    }

    fn order(&self, mode: Mode) {
        self.0.orders.send_if_modified(|orders| {
            let obeyed = !orders.mode.is_over();
            if obeyed {
                orders.mode = mode;
            }
            obeyed
        });
    }
}

/// What the proxy and its tasks know in common. Each watch is its own lock, and none is held while another is taken.
#[derive(Debug)]
struct Shared {
    settings: watch::Sender<Settings>,
    /// Every connection whose task runs; marked changed when one is recognised, too.
    registered: watch::Sender<Vec<ConnectionHandle>>,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    upstream: SocketAddr,
    delay: Duration,
    refuse_new: bool,
}

#[derive(Debug)]
struct Connection {
    number: u64,
    client_address: SocketAddr,
    orders: watch::Sender<Orders>,
    progress: watch::Sender<Progress>,
}

/// What the handles want of a connection.
#[derive(Debug)]
struct Orders {
    mode: Mode,
    /// How many bytes a direction may still pass, until its pump has taken the order.
    allowance: [Option<u64>; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Passing,
    /// Passing again from this moment on.
    Stalled(Instant),
    Silent,
    BlackHole,
    Cut,
    Reset,
    Closed,
}

impl Mode {
    /// How it ends the connection, if it does.
    fn ending(self) -> Option<Ending> {
        match self {
            Self::Passing | Self::Stalled(_) | Self::Silent | Self::BlackHole => None,
            Self::Cut => Some(Ending::Cut),
            Self::Reset | Self::Closed => Some(Ending::Reset),
        }
    }

    fn is_over(self) -> bool {
        self.ending().is_some()
    }
}

/// What has become of a connection.
#[derive(Debug, Default)]
struct Progress {
    session_id: Option<String>,
    passed: [u64; 2],
}

/// How a connection ends when it does not end by both sides closing it.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Cut,
    Reset,
    /// Reset, once the receiver of this direction has been sent all that was passed.
    Truncated(Direction),
}

#[derive(Debug)]
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Owns the connections' tasks, so that aborting this one ends them all.
async fn run_accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    let mut numbers = 0..;
    loop {
        select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) if shared.settings.borrow().refuse_new => reset(client),
                Ok((client, client_address)) => {
                    let number = numbers.next().expect("64 bits number more connections than there will be");
                    let registration = Registration::register(Arc::clone(&shared), number, client_address);
                    connections.spawn(run_connection(registration, client));
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// A connection's place among the registered; dropping it marks the connection closed.
#[derive(Debug)]
struct Registration {
    shared: Arc<Shared>,
    handle: ConnectionHandle,
}

impl Registration {
    fn register(shared: Arc<Shared>, number: u64, client_address: SocketAddr) -> Self {
        let handle = ConnectionHandle(Arc::new(Connection {
            number,
            client_address,
            orders: watch::Sender::new(Orders {
                mode: Mode::Passing,
                allowance: [None; 2],
            }),
            progress: watch::Sender::default(),
        }));
        shared
            .registered
            .send_modify(|registered| registered.push(handle.clone()));
        Self { shared, handle }
    }

    fn recognise(&self, session_id: String) {
        self.handle
            .0
            .progress
            .send_modify(|progress| progress.session_id = Some(session_id));
        self.shared.registered.send_modify(|_| {});
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.handle.0.orders.send_modify(|orders| orders.mode = Mode::Closed);
        let number = self.handle.number();
        self.shared
            .registered
            .send_modify(|registered| registered.retain(|other| other.number() != number));
    }
}

async fn run_connection(registration: Registration, mut client: TcpStream) {
    let Some(mut upstream) = connect_upstream(&registration.shared).await else {
        return reset(client);
    };
    // Fails only on a socket that is already dead, which the pumps will find.
    let _ = client.set_nodelay(true).and(upstream.set_nodelay(true));
    let Err(ending) = run_pumps(&registration, &mut client, &mut upstream).await else {
        return;
    };
    match ending {
        Ending::Cut => cut(registration, client, upstream).await,
        Ending::Reset => [client, upstream].into_iter().for_each(reset),
        Ending::Truncated(direction) => {
            registration.handle.reset();
            match direction {
                Direction::ToUpstream => truncate(client, upstream).await,
                Direction::ToClient => truncate(upstream, client).await,
            }
        }
    }
}

/// Obeys no order meanwhile: the server may have accepted already, and must then see the same end as the client.
async fn connect_upstream(shared: &Shared) -> Option<TcpStream> {
    let upstream = shared.settings.borrow().upstream;
    timeout(CONNECT_DEADLINE, TcpStream::connect(upstream)).await.ok()?.ok()
}

/// Ok once each side has closed its direction and the other has been told.
async fn run_pumps(
    registration: &Registration,
    client: &mut TcpStream,
    upstream: &mut TcpStream,
) -> Result<(), Ending> {
    let (from_client, to_client) = client.split();
    let (from_upstream, to_upstream) = upstream.split();
    let up = Pump::new(Direction::ToUpstream, registration, from_client, to_upstream);
    let down = Pump::new(Direction::ToClient, registration, from_upstream, to_client);
    try_join!(up.run(), down.run()).map(|_| ())
}

/// Closes both sides in order. A socket dropped with bytes unread would be reset, so they are read until their peers
/// have closed, too.
async fn cut(registration: Registration, mut client: TcpStream, mut upstream: TcpStream) {
    // Each fails on a side that is closed already.
    let _ = client.shutdown().await;
    let _ = upstream.shutdown().await;
    drop(registration);
    let (mut from_client, mut from_upstream) = (sink(), sink());
    let drained = async {
        join!(
            copy(&mut client, &mut from_client),
            copy(&mut upstream, &mut from_upstream)
        )
    };
    let _ = timeout(LAST_WORDS, drained).await;
}

fn reset(side: TcpStream) {
    // Fails only on a socket that is already dead.
    let _ = side.set_zero_linger();
}

async fn truncate(sender: TcpStream, receiver: TcpStream) {
    reset(sender);
    // Within the deadline or not, the receiver is reset then.
    let _ = timeout(LAST_WORDS, wait_until_acknowledged(&receiver)).await;
    reset(receiver);
}

/// Waits until the peer's kernel has everything: a reset throws away what is unsent, and may overtake what is sent.
///
/// There is no event for this, and SIOCOUTQ needs unsafe code, so it looks where Linux shows the same number. Where
/// that cannot be read it does not wait.
async fn wait_until_acknowledged(stream: &TcpStream) {
    let (Ok(local), Ok(peer)) = (stream.local_addr(), stream.peer_addr()) else {
        return;
    };
    let path = if local.is_ipv4() {
        "/proc/net/tcp"
    } else {
        "/proc/net/tcp6"
    };
    while let Ok(sockets) = read_to_string(path).await {
        if !has_unacknowledged(&sockets, local, peer) {
            return;
        }
        sleep(ACKNOWLEDGEMENT_PAUSE).await;
    }
}

/// Reads the table described in the kernel's `Documentation/networking/proc_net_tcp.rst`.
fn has_unacknowledged(sockets: &str, local: SocketAddr, peer: SocketAddr) -> bool {
    let ends = [kernel_notation(local), kernel_notation(peer)];
    sockets.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let is_ours = ends.iter().all(|end| fields.next() == Some(end));
        let queues = fields.nth(1).unwrap_or_default();
        is_ours && !queues.starts_with("00000000:")
    })
}

/// Each 32 bits of the address as a number of this machine, then the port.
fn kernel_notation(address: SocketAddr) -> String {
    let octets = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let words = octets
        .chunks_exact(4)
        .map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
    let words = words.map(|word| format!("{word:08X}")).collect::<String>();
    format!("{words}:{:04X}", address.port())
}

/// Carries one direction as the orders say.
struct Pump<'a> {
    direction: Direction,
    registration: &'a Registration,
    orders: watch::Receiver<Orders>,
    requests: RequestReader,
    link: Link<'a>,
}

impl<'a> Pump<'a> {
    fn new(direction: Direction, registration: &'a Registration, from: ReadHalf<'a>, to: WriteHalf<'a>) -> Self {
        Self {
            direction,
            registration,
            orders: registration.handle.0.orders.subscribe(),
            requests: RequestReader::new(direction),
            link: Link::new(&registration.shared.settings, from, to),
        }
    }

    /// Ok once the source has closed this direction and the destination has been told.
    async fn run(mut self) -> Result<(), Ending> {
        loop {
            let mode = self.take_orders()?;
            select! {
                biased;
                _ = self.orders.changed() => {}
                event = self.link.step(mode) => match event? {
                    Event::Nothing => {}
                    Event::Received(bytes) => self.read_requests(&bytes),
                    Event::Passed(count) => self.count(count),
                    Event::Finished => return Ok(()),
                }
            }
        }
    }

    fn take_orders(&mut self) -> Result<Mode, Ending> {
        let index = self.direction.index();
        let mode = self.orders.borrow_and_update().mode;
        self.registration.handle.0.orders.send_if_modified(|orders| {
            self.link.allowance = orders.allowance[index].take().or(self.link.allowance);
            false
        });
        match mode.ending() {
            Some(ending) => Err(ending),
            None if self.link.allowance == Some(0) => Err(Ending::Truncated(self.direction)),
            None => Ok(mode),
        }
    }

    fn read_requests(&mut self, bytes: &[u8]) {
        if let Some(session_id) = self.requests.read(bytes) {
            self.registration.recognise(session_id);
        }
    }

    fn count(&self, passed: usize) {
        let index = self.direction.index();
        self.registration
            .handle
            .0
            .progress
            .send_modify(|progress| progress.passed[index] += passed as u64);
    }
}

/// What one step of a [`Link`] did.
enum Event {
    Nothing,
    Received(Bytes),
    Passed(usize),
    Finished,
}

/// One direction's bytes, from one socket over the delay to the other. Each step may be dropped without loss.
struct Link<'a> {
    settings: &'a watch::Sender<Settings>,
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
    /// Read and not yet passed, each with the moment when it may be.
    queue: VecDeque<(Instant, Bytes)>,
    queued_bytes: usize,
    /// How the source ended, and when the destination may know; nothing is read after it.
    end: Option<(Instant, SourceEnd)>,
    /// How many bytes it may still pass.
    allowance: Option<u64>,
}

#[derive(Clone, Copy)]
enum SourceEnd {
    Closed,
    Broken,
}

impl<'a> Link<'a> {
    fn new(settings: &'a watch::Sender<Settings>, from: ReadHalf<'a>, to: WriteHalf<'a>) -> Self {
        Self {
            settings,
            from,
            to,
            queue: VecDeque::new(),
            queued_bytes: 0,
            end: None,
            allowance: None,
        }
    }

    async fn step(&mut self, mode: Mode) -> Result<Event, Ending> {
        match mode {
            Mode::Stalled(until) if Instant::now() < until => {
                sleep_until(until).await;
                Ok(Event::Nothing)
            }
            Mode::Passing | Mode::Stalled(_) => self.pass().await,
            Mode::BlackHole => self.swallow().await,
            Mode::Silent | Mode::Cut | Mode::Reset | Mode::Closed => pending().await,
        }
    }

    async fn pass(&mut self) -> Result<Event, Ending> {
        let due = self.queue.front().map(|(due, _)| *due).or(self.end.map(|(due, _)| due));
        select! {
            _ = self.from.readable(), if self.has_room() => Ok(self.receive()),
            () = deliverable(&self.to, due) => self.deliver().await,
        }
    }

    fn has_room(&self) -> bool {
        let delayed = !self.settings.borrow().delay.is_zero();
        let room = if delayed {
            self.queued_bytes < MAX_QUEUED_BYTES && self.queue.len() < MAX_QUEUED_CHUNKS
        } else {
            self.queue.is_empty()
        };
        room && self.end.is_none()
    }

    fn receive(&mut self) -> Event {
        let Some(bytes) = self.read() else {
            return Event::Nothing;
        };
        self.queue.push_back((self.due(), bytes.clone()));
        self.queued_bytes += bytes.len();
        Event::Received(bytes)
    }

    fn read(&mut self) -> Option<Bytes> {
        let mut buffer = [0; CHUNK_BYTES];
        match self.from.try_read(&mut buffer) {
            Ok(0) => self.end = Some((self.due(), SourceEnd::Closed)),
            Ok(length) => return Some(Bytes::copy_from_slice(&buffer[..length])),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.end = Some((self.due(), SourceEnd::Broken)),
        }
        None
    }

    fn due(&self) -> Instant {
        Instant::now() + self.settings.borrow().delay
    }

    async fn deliver(&mut self) -> Result<Event, Ending> {
        match (self.queue.is_empty(), self.end) {
            (false, _) => self.write_front(),
            (true, Some((_, SourceEnd::Closed))) => {
                self.to.shutdown().await.map_err(|_| Ending::Reset)?;
                Ok(Event::Finished)
            }
            (true, Some((_, SourceEnd::Broken))) => Err(Ending::Reset),
            (true, None) => Ok(Event::Nothing),
        }
    }

    fn write_front(&mut self) -> Result<Event, Ending> {
        let Some((_, front)) = self.queue.front_mut() else {
            return Ok(Event::Nothing);
        };
        let allowed = front.len().min(self.allowance.map_or(usize::MAX, saturating_usize));
        let length = match self.to.try_write(&front[..allowed]) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Event::Nothing),
            Err(_) => return Err(Ending::Reset),
        };
        front.advance(length);
        if front.is_empty() {
            self.queue.pop_front();
        }
        self.queued_bytes -= length;
        self.allowance = self.allowance.map(|allowance| allowance - length as u64);
        Ok(Event::Passed(length))
    }

    async fn swallow(&mut self) -> Result<Event, Ending> {
        self.queue.clear();
        self.queued_bytes = 0;
        if self.end.is_some() {
            return pending().await;
        }
        if self.from.readable().await.is_ok() {
            self.read();
        }
        Ok(Event::Nothing)
    }
}

/// Completes when something is due and the destination takes bytes or is broken; never if nothing is.
async fn deliverable(to: &WriteHalf<'_>, due: Option<Instant>) {
    let Some(due) = due else { return pending().await };
    if Instant::now() < due {
        sleep_until(due).await;
    }
    // An error is found again, with its consequence, by the write.
    let _ = to.writable().await;
}

fn saturating_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Reads along in a client's bytes, request by request, until one asks to upgrade to a WebSocket.
///
/// Keeps at most one line of 8 KiB. What it does not understand ends its interest, never the connection.
struct RequestReader {
    expects: Expects,
    line: Vec<u8>,
    head: Head,
}

/// What comes next in the client's bytes.
#[derive(Clone, Copy)]
enum Expects {
    RequestLine,
    Header,
    Body(u64),
    ChunkSize,
    Chunk(u64),
    Trailer,
    /// Bytes that are none of its business.
    Anything,
}

/// What matters of the request head being read.
#[derive(Default)]
struct Head {
    session_id: Option<String>,
    asks_for_websocket: bool,
    is_chunked: bool,
    content_length: u64,
}

impl RequestReader {
    fn new(direction: Direction) -> Self {
        let expects = match direction {
            Direction::ToUpstream => Expects::RequestLine,
            Direction::ToClient => Expects::Anything,
        };
        Self {
            expects,
            line: Vec::new(),
            head: Head::default(),
        }
    }

    /// The session id, when these bytes complete the head of an upgrade request that names one.
    fn read(&mut self, mut bytes: &[u8]) -> Option<String> {
        while !bytes.is_empty() {
            match self.expects {
                Expects::Anything => return None,
                Expects::Body(left) => self.expects = skip(&mut bytes, left, Expects::Body, Expects::RequestLine),
                Expects::Chunk(left) => self.expects = skip(&mut bytes, left, Expects::Chunk, Expects::ChunkSize),
                Expects::RequestLine | Expects::Header | Expects::ChunkSize | Expects::Trailer => {
                    if self.read_line(&mut bytes) {
                        self.expects = self.after_line();
                        self.line.clear();
                    }
                }
            }
            if matches!(self.expects, Expects::Anything) {
                self.line = Vec::new();
                return self.head.session_id.take().filter(|_| self.head.asks_for_websocket);
            }
        }
        None
    }

    /// Takes bytes up to a line's end; false if it has not come yet. What exceeds 8 KiB is left out.
    fn read_line(&mut self, bytes: &mut &[u8]) -> bool {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let length = end.unwrap_or(bytes.len());
        let kept = length.min(MAX_LINE_BYTES - self.line.len());
        self.line.extend_from_slice(&bytes[..kept]);
        *bytes = &bytes[end.map_or(length, |end| end + 1)..];
        end.is_some()
    }

    fn after_line(&mut self) -> Expects {
        let line = String::from_utf8_lossy(&self.line);
        let line = line.trim_ascii_end();
        match self.expects {
            // An empty line before a request is allowed (RFC 9112, section 2.2).
            Expects::RequestLine if line.is_empty() => Expects::RequestLine,
            Expects::RequestLine => self.head.start(line),
            Expects::Header if line.is_empty() => self.head.finish(),
            Expects::Header => self.head.add(line),
            Expects::ChunkSize => after_chunk_size(line),
            Expects::Trailer if line.is_empty() => Expects::RequestLine,
            Expects::Trailer | Expects::Body(_) | Expects::Chunk(_) | Expects::Anything => self.expects,
        }
    }
}

impl Head {
    fn start(&mut self, request_line: &str) -> Expects {
        *self = Self::default();
        let mut words = request_line.split(' ');
        let (Some(_method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Expects::Anything;
        };
        if !version.starts_with("HTTP/1.") {
            return Expects::Anything;
        }
        self.session_id = session_id_of(target);
        Expects::Header
    }

    fn add(&mut self, header: &str) -> Expects {
        let (name, value) = header.split_once(':').unwrap_or((header, ""));
        let value = value.trim_ascii();
        if name.eq_ignore_ascii_case("upgrade") {
            self.asks_for_websocket = value.eq_ignore_ascii_case("websocket");
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            self.is_chunked = value.to_ascii_lowercase().ends_with("chunked");
        } else if name.eq_ignore_ascii_case("content-length") {
            let Ok(length) = value.parse() else {
                return self.give_up();
            };
            self.content_length = length;
        }
        Expects::Header
    }

    fn give_up(&mut self) -> Expects {
        *self = Self::default();
        Expects::Anything
    }

    fn finish(&self) -> Expects {
        match self.content_length {
            _ if self.asks_for_websocket => Expects::Anything,
            _ if self.is_chunked => Expects::ChunkSize,
            0 => Expects::RequestLine,
            length => Expects::Body(length),
        }
    }
}

fn after_chunk_size(line: &str) -> Expects {
    let size = line.split(';').next().unwrap_or_default().trim_ascii();
    match u64::from_str_radix(size, 16) {
        Ok(0) => Expects::Trailer,
        Ok(size) => size.checked_add(CRLF_BYTES).map_or(Expects::Anything, Expects::Chunk),
        Err(_) => Expects::Anything,
    }
}

/// Skips up to `left` bytes and says what comes next.
fn skip(bytes: &mut &[u8], left: u64, more: fn(u64) -> Expects, then: Expects) -> Expects {
    let skipped = bytes.len().min(saturating_usize(left));
    *bytes = &bytes[skipped..];
    match left - skipped as u64 {
        0 => then,
        left => more(left),
    }
}

/// The last segment of the path, if it has the form of a session id.
fn session_id_of(target: &str) -> Option<String> {
    let path = target.split(['?', '#']).next()?;
    let segment = path.rsplit('/').next()?;
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (segment.len() == SESSION_ID_CHARACTERS && segment.bytes().all(is_base64url)).then(|| segment.to_owned())
}

/// What one read takes at most.
const CHUNK_BYTES: usize = 16 * 1024;
/// What is on its way in one direction at most while there is a delay.
const MAX_QUEUED_BYTES: usize = 1024 * 1024;
/// Bounds the cost of small reads, each of which has its own entry.
const MAX_QUEUED_CHUNKS: usize = 4096;
const MAX_LINE_BYTES: usize = 8 * 1024;
const MAX_DELAY: Duration = Duration::from_secs(3600);
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// How long a peer may take to close after a cut, or to read the last bytes before a reset.
const LAST_WORDS: Duration = Duration::from_secs(10);
const ACKNOWLEDGEMENT_PAUSE: Duration = Duration::from_millis(1);
/// After a failed accept, which for want of file descriptors would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// 128 bits in base64url without padding.
const SESSION_ID_CHARACTERS: usize = 22;
const CRLF_BYTES: u64 = 2;

#[cfg(test)]
mod tests {
    use std::{io::ErrorKind, net::Ipv4Addr};

    use tokio::io::AsyncReadExt;

    use super::*;

    const ID: &str = "AAECAwQFBgcICQoLDA0-_w";
    const OTHER_ID: &str = "BBECAwQFBgcICQoLDA0-_w";
    const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    /// How long a test waits to see that nothing happens.
    const NOTHING: Duration = Duration::from_millis(100);

    /// A server behind a proxy.
    struct Setup {
        server: TcpListener,
        proxy: FaultProxy,
    }

    /// One connection through the proxy, with both its ends.
    struct Ends {
        client: TcpStream,
        server: TcpStream,
        connection: ConnectionHandle,
    }

    impl Setup {
        async fn start() -> Self {
            let server = TcpListener::bind(ANY_PORT).await.unwrap();
            let proxy = FaultProxy::start(ANY_PORT, server.local_addr().unwrap()).await.unwrap();
            Self { server, proxy }
        }

        async fn connect(&self) -> Ends {
            let client = TcpStream::connect(self.proxy.address()).await.unwrap();
            let (server, _) = self.server.accept().await.unwrap();
            let local = client.local_addr().unwrap();
            let is_ours = |connection: &ConnectionHandle| connection.client_address() == local;
            let open = self.proxy.wait_until(|open| open.iter().any(is_ours)).await;
            let connection = open.into_iter().find(is_ours).unwrap();
            Ends {
                client,
                server,
                connection,
            }
        }

        async fn connect_session(&self, session_id: &str) -> Ends {
            let mut ends = self.connect().await;
            let request = upgrade_request(session_id);
            ends.client.write_all(request.as_bytes()).await.unwrap();
            assert_eq!(read(&mut ends.server, request.len()).await, request.as_bytes());
            ends
        }
    }

    impl Ends {
        async fn assert_passing(&mut self) {
            self.client.write_all(b"up").await.unwrap();
            assert_eq!(read(&mut self.server, 2).await, b"up");
            self.server.write_all(b"down").await.unwrap();
            assert_eq!(read(&mut self.client, 4).await, b"down");
        }
    }

    fn upgrade_request(session_id: &str) -> String {
        format!(
            "GET /stillhere/{session_id}?v=1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n"
        )
    }

    fn pattern(length: usize) -> Vec<u8> {
        (0..length)
            .map(|index| (index.wrapping_mul(2_654_435_761) >> 7) as u8)
            .collect()
    }

    async fn read(stream: &mut TcpStream, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        stream.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    /// All that comes until the stream ends or breaks, and how that was.
    async fn read_all(stream: &mut TcpStream) -> (Vec<u8>, io::Result<()>) {
        let mut bytes = Vec::new();
        let end = stream.read_to_end(&mut bytes).await;
        (bytes, end.map(|_| ()))
    }

    async fn assert_reset(stream: &mut TcpStream) {
        assert_eq!(read_all(stream).await.1.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }

    /// The reset may come as early as during the connect.
    async fn assert_new_one_is_reset(proxy: &FaultProxy) {
        match TcpStream::connect(proxy.address()).await {
            Ok(mut client) => assert_reset(&mut client).await,
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }

    async fn assert_closed(stream: &mut TcpStream) {
        let (bytes, end) = read_all(stream).await;
        assert_eq!((bytes.len(), end.map_err(|error| error.kind())), (0, Ok(())));
    }

    /// Neither bytes nor an end come.
    async fn assert_nothing_comes(stream: &mut TcpStream) {
        assert!(timeout(NOTHING, stream.read_u8()).await.is_err());
    }

    /// Writes until the stream takes no more, and returns what it took.
    async fn fill(stream: &mut TcpStream) -> usize {
        let chunk = vec![7; CHUNK_BYTES];
        let mut written = 0;
        while let Ok(count) = timeout(NOTHING, stream.write(&chunk)).await {
            written += count.unwrap();
        }
        written
    }

    #[tokio::test]
    async fn bytes_pass_unaltered_both_ways_and_so_does_a_half_close() {
        let setup = Setup::start().await;
        let mut ends = setup.connect().await;
        let sent = pattern(3_000_000);
        let echo = async {
            let (mut from, mut to) = ends.server.split();
            copy(&mut from, &mut to).await.unwrap();
            to.shutdown().await.unwrap();
        };
        let (mut from, mut to) = ends.client.split();
        let send = async {
            to.write_all(&sent).await.unwrap();
            to.shutdown().await.unwrap();
        };
        let mut received = Vec::new();
        let (_, _, end) = tokio::join!(echo, send, from.read_to_end(&mut received));
        end.unwrap();
        assert!(received == sent);
        ends.connection.wait_until_closed().await;
        assert_eq!(ends.connection.bytes_passed(Direction::ToUpstream), sent.len() as u64);
        assert_eq!(ends.connection.bytes_passed(Direction::ToClient), sent.len() as u64);
    }

    #[tokio::test]
    async fn a_connection_is_known_by_its_session_id_before_the_server_sees_the_upgrade_request() {
        let setup = Setup::start().await;
        let ends = setup.connect_session(ID).await;
        assert_eq!(ends.connection.session_id().as_deref(), Some(ID));
        let numbers = setup
            .proxy
            .connections_of(ID)
            .iter()
            .map(ConnectionHandle::number)
            .collect::<Vec<_>>();
        assert_eq!(numbers, [ends.connection.number()]);
        assert!(setup.proxy.connections_of(OTHER_ID).is_empty());
    }

    #[tokio::test]
    async fn an_upgrade_on_a_kept_alive_connection_is_recognised_though_its_bytes_come_one_by_one() {
        let setup = Setup::start().await;
        let mut ends = setup.connect().await;
        let requests = format!(
            "GET /{OTHER_ID} HTTP/1.1\r\nHost: a\r\n\r\n\
             POST /page HTTP/1.1\r\ncontent-length: 15\r\n\r\nno line's end: \
             \r\nPUT / HTTP/1.1\nTransfer-Encoding: gzip, chunked\n\n\
             4;a=b\r\n\r\n\r\n\r\n1F\r\n{:31}\r\n0\r\nA: b\r\n\r\n{}",
            "GET / HTTP/1.1",
            upgrade_request(ID)
        );
        for byte in requests.as_bytes() {
            assert_eq!(ends.connection.session_id(), None);
            ends.client.write_all(&[*byte]).await.unwrap();
            assert_eq!(read(&mut ends.server, 1).await, [*byte]);
        }
        assert_eq!(ends.connection.session_id().as_deref(), Some(ID));
        ends.assert_passing().await;
    }

    #[test]
    fn only_an_upgrade_request_with_a_session_id_names_a_session() {
        let read = |bytes: &str| RequestReader::new(Direction::ToUpstream).read(bytes.as_bytes());
        assert_eq!(read(&upgrade_request(ID)).as_deref(), Some(ID));
        assert_eq!(read(&upgrade_request(&ID[1..])), None);
        assert_eq!(read(&upgrade_request(&format!("{}=", &ID[1..]))), None);
        assert_eq!(read(&upgrade_request("client.js")), None);
        assert_eq!(read(&format!("GET /{ID} HTTP/1.1\r\nUpgrade: h2c\r\n\r\n")), None);
        assert_eq!(read(&format!("GET /{ID}\r\nUpgrade: websocket\r\n\r\n")), None);
        assert_eq!(
            read(&format!(
                "GET /{ID} HTTP/1.1\r\nUpgrade: websocket\r\nContent-Length: -1\r\n\r\n"
            )),
            None
        );
        let overlong = format!(
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n",
            u64::MAX
        );
        assert_eq!(read(&(overlong + &upgrade_request(ID))), None);
    }

    #[test]
    fn an_endless_line_costs_8_kib_and_hides_no_later_request() {
        let mut reader = RequestReader::new(Direction::ToUpstream);
        assert_eq!(reader.read(b"GET / HTTP/1.1\r\nCookie: "), None);
        for _ in 0..100 {
            assert_eq!(reader.read(&[b'a'; 1000]), None);
        }
        assert!(reader.line.capacity() <= 2 * MAX_LINE_BYTES);
        assert_eq!(reader.read(b"\r\n\r\n"), None);
        assert_eq!(reader.read(upgrade_request(ID).as_bytes()).as_deref(), Some(ID));
    }

    #[tokio::test]
    async fn the_newest_connection_of_a_session_is_last() {
        let setup = Setup::start().await;
        let [first, other, second] = [
            setup.connect_session(ID).await,
            setup.connect_session(OTHER_ID).await,
            setup.connect_session(ID).await,
        ];
        let of_session = setup.proxy.wait_for_connections_of(ID, 2).await;
        let numbers = of_session.iter().map(ConnectionHandle::number).collect::<Vec<_>>();
        assert_eq!(numbers, [first.connection.number(), second.connection.number()]);

        first.connection.reset();
        assert_eq!(setup.proxy.connections_of(ID).len(), 1);
        assert!(other.connection.is_open());
        assert_eq!(setup.proxy.wait_for_connections(2).await.len(), 2);
    }

    #[tokio::test]
    async fn a_fault_spares_the_other_connections() {
        let setup = Setup::start().await;
        let [mut broken, mut spared] = [setup.connect_session(ID).await, setup.connect_session(ID).await];
        broken.connection.reset();
        assert_reset(&mut broken.client).await;
        spared.assert_passing().await;
    }

    #[tokio::test]
    async fn cut_closes_both_sides_in_order_though_bytes_are_unread() {
        let setup = Setup::start().await;
        let mut ends = setup.connect().await;
        ends.connection.silence();
        ends.client.write_all(b"unread").await.unwrap();
        ends.server.write_all(b"unread").await.unwrap();
        ends.connection.cut();
        assert!(!ends.connection.is_open());
        assert_closed(&mut ends.client).await;
        assert_closed(&mut ends.server).await;
        ends.connection.wait_until_closed().await;
    }

    #[tokio::test]
    async fn reset_resets_both_sides() {
        let setup = Setup::start().await;
        let mut ends = setup.connect().await;
        ends.assert_passing().await;
        ends.connection.reset();
        assert!(!ends.connection.is_open());
        assert_reset(&mut ends.client).await;
        assert_reset(&mut ends.server).await;
        ends.connection.wait_until_closed().await;
        assert!(setup.proxy.connections().is_empty());
    }

    #[tokio::test]
    async fn a_connection_told_to_end_obeys_no_more() {
        let setup = Setup::start().await;
        let mut ends = setup.connect().await;
        ends.connection.reset();
        ends.connection.silence();
        ends.connection.resume();
        ends.connection.cut();
        assert_reset(&mut ends.client).await;
    }

    #[tokio::test]
    async fn a_silenced_connection_passes_neither_bytes_nor_a_close_until_it_resumes() {
        let setup = Setup::start().await;
        let mut ends = setup.connect().await;
        ends.connection.silence();
        ends.client.write_all(b"late").await.unwrap();
        ends.client.shutdown().await.unwrap();
        assert_nothing_comes(&mut ends.server).await;
        ends.server.write_all(b"too").await.unwrap();
        assert_nothing_comes(&mut ends.client).await;
        assert!(ends.connection.is_open());

        ends.connection.resume();
        assert_eq!(read_all(&mut ends.server).await.0, b"late");
        assert_eq!(read(&mut ends.client, 3).await, b"too");
    }

    #[tokio::test]
    async fn a_silenced_connection_hides_even_a_reset() {
        let setup = Setup::start().await;
        let mut ends = setup.connect().await;
        ends.connection.silence();
        reset(ends.client);
        assert_nothing_comes(&mut ends.server).await;
        assert!(ends.connection.is_open());
        ends.connection.resume();
        assert_reset(&mut ends.server).await;
    }

    #[tokio::test]
    async fn silence_stops_a_transfer_that_is_under_way() {
        let setup = Setup::start().await;
        let mut ends = setup.connect().await;
        fill(&mut ends.server).await;
        ends.connection.silence();
        let passed = ends.connection.bytes_passed(Direction::ToClient);
        let mut received = Vec::new();
        assert!(timeout(NOTHING, ends.client.read_to_end(&mut received)).await.is_err());
        assert_eq!(received.len() as u64, passed);
    }

    #[tokio::test]
    async fn a_black_hole_swallows_what_comes_and_hides_closes() {
        let setup = Setup::start().await;
        let mut ends = setup.connect().await;
        ends.connection.black_hole();
        // More than sockets hold, so they have to be read.
        let sent = vec![0; 30_000_000];
        ends.client.write_all(&sent).await.unwrap();
        ends.server.write_all(&sent).await.unwrap();
        ends.client.shutdown().await.unwrap();
        assert_nothing_comes(&mut ends.server).await;
        assert_nothing_comes(&mut ends.client).await;
        assert_eq!(ends.connection.bytes_passed(Direction::ToUpstream), 0);

        ends.connection.resume();
        assert_closed(&mut ends.server).await;
        ends.server.write_all(b"after").await.unwrap();
        drop(ends.server);
        assert!(read_all(&mut ends.client).await.0.ends_with(b"after"));
    }

    #[tokio::test]
    async fn a_stall_delays_everything_and_loses_nothing() {
        let setup = Setup::start().await;
        let mut ends = setup.connect().await;
        let start = Instant::now();
        ends.connection.stall(NOTHING);
        ends.assert_passing().await;
        assert!(start.elapsed() >= NOTHING);
        assert!(ends.connection.is_open());

        ends.connection.stall(Duration::MAX);
        ends.client.write_all(b"up").await.unwrap();
        assert_nothing_comes(&mut ends.server).await;
        ends.connection.resume();
        assert_eq!(read(&mut ends.server, 2).await, b"up");
    }

    #[tokio::test]
    async fn cut_after_passes_exactly_so_many_bytes_and_resets_both_sides() {
        for direction in [Direction::ToUpstream, Direction::ToClient] {
            let setup = Setup::start().await;
            for count in [0, 1, 5, 4095, 16_384, 16_385, 99_999] {
                let mut ends = setup.connect().await;
                ends.assert_passing().await;
                let passed = match direction {
                    Direction::ToUpstream => 2,
                    Direction::ToClient => 4,
                };
                assert!(ends.connection.wait_until_passed(direction, passed).await);
                ends.connection.cut_after(direction, count as u64);
                let (sender, receiver) = match direction {
                    Direction::ToUpstream => (&mut ends.client, &mut ends.server),
                    Direction::ToClient => (&mut ends.server, &mut ends.client),
                };
                let sent = pattern(100_000);
                // Fails when the reset comes before its end.
                let (_, (received, end)) = tokio::join!(sender.write_all(&sent), read_all(receiver));
                assert_eq!(received.len(), count);
                assert!(received == sent[..count]);
                assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
                // A write may have met the reset first; the next one then finds a broken pipe.
                assert!(sender.read_u8().await.is_err());
                ends.connection.wait_until_closed().await;
                assert_eq!(ends.connection.bytes_passed(direction), passed + count as u64);
            }
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn cut_after_is_exact_though_the_receiver_has_not_begun_to_read() {
        let setup = Setup::start().await;
        let mut ends = setup.connect().await;
        let sent = pattern(3_000_000);
        ends.connection.cut_after(Direction::ToClient, sent.len() as u64);
        ends.server.write_all(&sent).await.unwrap();
        assert_reset(&mut ends.server).await;
        let (received, end) = read_all(&mut ends.client).await;
        assert_eq!(received.len(), sent.len());
        assert!(received == sent);
        assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn a_socket_is_found_in_the_kernels_table_by_both_its_ends() {
        let line = "  3: 0100007F:1F90 0200007F:C350 01 00000005:00000000 00:00000000 00000000 0 0 1";
        let [local, peer] = ["127.0.0.1:8080", "127.0.0.2:50000"].map(|address| address.parse().unwrap());
        assert!(has_unacknowledged(line, local, peer));
        assert!(!has_unacknowledged(line, peer, local));
        assert!(!has_unacknowledged(
            &line.replace("00000005:", "00000000:"),
            local,
            peer
        ));
        let address = "[2001:db8::ff]:80".parse().unwrap();
        assert_eq!(kernel_notation(address), "B80D01200000000000000000FF000000:0050");
    }

    #[tokio::test]
    async fn waiting_for_bytes_that_will_not_come_ends_with_the_connection() {
        let setup = Setup::start().await;
        let mut ends = setup.connect().await;
        ends.assert_passing().await;
        assert!(ends.connection.wait_until_passed(Direction::ToClient, 4).await);
        let connection = ends.connection.clone();
        let (reached, ()) = tokio::join!(connection.wait_until_passed(Direction::ToClient, 5), async {
            ends.connection.cut();
        });
        assert!(!reached);
    }

    #[tokio::test]
    async fn a_delay_holds_each_byte_back_and_keeps_their_order() {
        let setup = Setup::start().await;
        let mut ends = setup.connect().await;
        setup.proxy.set_delay(NOTHING);
        let start = Instant::now();
        ends.assert_passing().await;
        assert!(start.elapsed() >= 2 * NOTHING);

        let sent = pattern(3_000_000);
        let mut received = Vec::new();
        let send = async {
            ends.server.write_all(&sent[..2_000_000]).await.unwrap();
            setup.proxy.set_delay(Duration::ZERO);
            ends.server.write_all(&sent[2_000_000..]).await.unwrap();
            drop(ends.server);
        };
        let (_, end) = tokio::join!(send, ends.client.read_to_end(&mut received));
        end.unwrap();
        assert!(received == sent);
    }

    #[tokio::test]
    async fn a_delay_is_spent_once_for_all_that_is_on_its_way() {
        let setup = Setup::start().await;
        let mut ends = setup.connect().await;
        setup.proxy.set_delay(NOTHING);
        let start = Instant::now();
        let sent = pattern(MAX_QUEUED_BYTES);
        let (_, received) = tokio::join!(ends.client.write_all(&sent), read(&mut ends.server, sent.len()));
        assert!(received == sent);
        // One after the other, its chunks would take at least twice this time.
        assert!(start.elapsed() < NOTHING * (MAX_QUEUED_BYTES / CHUNK_BYTES / 2) as u32);
    }

    #[tokio::test]
    async fn a_receiver_that_does_not_read_holds_the_sender_back() {
        let setup = Setup::start().await;
        let mut ends = setup.connect().await;
        // With a buffer that grows this would not end.
        let written = fill(&mut ends.client).await;
        drop(ends.client);
        assert_eq!(read_all(&mut ends.server).await.0.len(), written);
    }

    #[tokio::test]
    async fn the_peers_own_reset_and_close_are_passed_on() {
        let setup = Setup::start().await;
        let mut ends = setup.connect().await;
        ends.assert_passing().await;
        reset(ends.server);
        assert_reset(&mut ends.client).await;
        ends.connection.wait_until_closed().await;

        let mut ends = setup.connect().await;
        ends.server.write_all(b"last").await.unwrap();
        drop(ends.server);
        assert_eq!(read_all(&mut ends.client).await.0, b"last");
        assert!(ends.connection.is_open());
        drop(ends.client);
        ends.connection.wait_until_closed().await;
        setup.proxy.wait_for_connections(0).await;
    }

    #[tokio::test]
    async fn new_connections_can_be_refused_and_allowed_again() {
        let setup = Setup::start().await;
        let mut before = setup.connect().await;
        setup.proxy.refuse_new(true);
        assert_new_one_is_reset(&setup.proxy).await;
        before.assert_passing().await;
        setup.proxy.refuse_new(false);
        setup.connect().await.assert_passing().await;
    }

    #[tokio::test]
    async fn new_connections_go_to_a_new_upstream() {
        let mut setup = Setup::start().await;
        let mut before = setup.connect().await;
        let successor = TcpListener::bind(ANY_PORT).await.unwrap();
        setup.proxy.set_upstream(successor.local_addr().unwrap());
        setup.server = successor;
        setup.connect().await.assert_passing().await;
        before.assert_passing().await;
    }

    #[tokio::test]
    async fn without_an_upstream_a_client_is_reset() {
        let setup = Setup::start().await;
        drop(setup.server);
        assert_new_one_is_reset(&setup.proxy).await;
        setup.proxy.wait_for_connections(0).await;
    }

    #[tokio::test]
    async fn dropping_the_last_handle_closes_all_connections_and_the_listener() {
        let Setup { server, proxy } = Setup::start().await;
        let address = proxy.address();
        let setup = Setup {
            server,
            proxy: proxy.clone(),
        };
        let [mut passing, mut silenced] = [setup.connect().await, setup.connect().await];
        silenced.connection.silence();
        drop(setup.proxy);
        passing.assert_passing().await;

        drop(proxy);
        assert_closed(&mut passing.client).await;
        assert_closed(&mut passing.server).await;
        assert_closed(&mut silenced.server).await;
        silenced.connection.wait_until_closed().await;
        assert_eq!(
            TcpStream::connect(address).await.unwrap_err().kind(),
            ErrorKind::ConnectionRefused
        );
    }
}
