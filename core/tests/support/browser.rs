//! A page: the browser's machine, driven over one in-memory connection after another.

use std::collections::VecDeque;
use std::fmt;
use std::future::pending;
use std::io::Read as _;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use stillhere::connection::Packet;
use stillhere::machine::{Action, DocumentEvent, DocumentMachine, DocumentOptions, Outcome, SendRefused};
use stillhere::{Hub, Lane, SessionHandle};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::pipe::BrowserEnd;
use super::{Access, access, connect, new_document, soon};

/// An open page. Dropping it simulates a browser that disappears.
#[derive(Debug)]
pub(crate) struct Browser {
    page: Arc<Page>,
    driver: JoinHandle<()>,
}

#[derive(Debug)]
struct Page {
    state: Mutex<State>,
    /// Notified when a test wants something of the driver.
    asked: Notify,
    /// Notified when something has happened.
    happened: Notify,
}

#[derive(Debug)]
struct State {
    open: Open,
    machine: DocumentMachine,
    connection: Option<(u64, Arc<BrowserEnd>)>,
    online: bool,
    frozen: bool,
    reading: bool,
    inbox: VecDeque<(Lane, Vec<u8>)>,
    events: Vec<DocumentEvent>,
}

/// How the page connects.
struct Open(Box<dyn FnMut() -> BrowserEnd + Send>);

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open").finish_non_exhaustive()
    }
}

impl Browser {
    /// Opens a page of `session`, which connects at once.
    pub(crate) fn open(hub: &Hub, session: &SessionHandle) -> Self {
        Self::load(hub, access(session))
    }

    /// Opens a page with this ticket, which connects at once.
    pub(crate) fn load(hub: &Hub, access: Access) -> Self {
        let (hub, id) = (hub.clone(), access.id.clone());
        Self::load_over(access, move || connect(&hub, &id).0)
    }

    /// Opens a page with this ticket and its own kind of connection, which connects at once.
    pub(crate) fn load_over(access: Access, open: impl FnMut() -> BrowserEnd + Send + 'static) -> Self {
        let options = DocumentOptions {
            secret: access.secret,
            document: new_document(),
            limits: access.limits,
            seed: 7,
        };
        let mut machine = DocumentMachine::new(options, now());
        machine.start(now());
        let state = State {
            open: Open(Box::new(open)),
            machine,
            connection: None,
            online: true,
            frozen: false,
            reading: true,
            inbox: VecDeque::new(),
            events: Vec::new(),
        };
        let page = Arc::new(Page {
            state: Mutex::new(state),
            asked: Notify::new(),
            happened: Notify::new(),
        });
        let driver = tokio::spawn(drive(Arc::clone(&page)));
        Self { page, driver }
    }

    /// Opens a page as [`Browser::open`] does, and waits until it is welcomed.
    pub(crate) async fn connected(hub: &Hub, session: &SessionHandle) -> Self {
        let browser = Self::open(hub, session);
        browser.outcome().await;
        browser
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.page.state()
    }

    pub(crate) fn send(&self, message: impl Into<Vec<u8>>) {
        self.try_send(Lane::Interactive, message)
            .expect("the page's outbox has room");
    }

    pub(crate) fn send_bulk(&self, message: impl Into<Vec<u8>>) {
        self.try_send(Lane::Bulk, message).expect("the page's outbox has room");
    }

    pub(crate) fn try_send(&self, lane: Lane, message: impl Into<Vec<u8>>) -> Result<(), SendRefused> {
        let sent = self.state().machine.send(lane, message.into());
        self.page.asked.notify_one();
        sent
    }

    /// Waits for the next message.
    pub(crate) async fn next(&self) -> Vec<u8> {
        self.when("a message", |state| state.inbox.pop_front().map(|(_, message)| message))
            .await
    }

    /// Waits for the next message and returns it as text.
    pub(crate) async fn text(&self) -> String {
        String::from_utf8(self.next().await).expect("the message is text")
    }

    /// Returns all messages that have arrived and were not yet returned.
    pub(crate) fn inbox(&self) -> Vec<(Lane, Vec<u8>)> {
        std::mem::take(&mut self.state().inbox).into()
    }

    /// Waits for the next event that `pick` accepts, and drops the others.
    pub(crate) async fn event<T>(&self, what: &str, pick: impl Fn(&DocumentEvent) -> Option<T>) -> T {
        self.when(what, |state| {
            while !state.events.is_empty() {
                let picked = pick(&state.events.remove(0));
                if picked.is_some() {
                    return picked;
                }
            }
            None
        })
        .await
    }

    /// Waits for the next welcome.
    pub(crate) async fn outcome(&self) -> Outcome {
        self.event("a welcome", |event| match event {
            DocumentEvent::Welcomed { outcome, .. } => Some(*outcome),
            _ => None,
        })
        .await
    }

    /// Waits for the session's end. Returns the number and the text of its reason.
    pub(crate) async fn ended(&self) -> (u64, String) {
        self.event("the session's end", |event| match event {
            DocumentEvent::Ended { reason, text, .. } => Some((*reason, text.clone())),
            _ => None,
        })
        .await
    }

    /// Waits for the next refusal and returns its code.
    pub(crate) async fn refused(&self) -> u64 {
        self.event("a refusal", |event| match event {
            DocumentEvent::Refused { code, .. } => Some(*code),
            _ => None,
        })
        .await
    }

    /// Returns the events that were not yet returned.
    pub(crate) fn events(&self) -> Vec<DocumentEvent> {
        std::mem::take(&mut self.state().events)
    }

    /// Cuts the connection. The page reconnects at once if it is online.
    pub(crate) fn cut(&self) {
        let mut state = self.state();
        if let Some((attempt, _)) = state.connection.take() {
            state.machine.handle_close(attempt, 1006, now());
        }
        drop(state);
        self.page.asked.notify_one();
    }

    /// Sets whether the page can connect. Going offline cuts the connection, and coming back wakes
    /// the page.
    pub(crate) fn set_online(&self, online: bool) {
        self.state().online = online;
        if online {
            self.state().machine.handle_wake(now());
            self.page.asked.notify_one();
        } else {
            self.cut();
        }
    }

    /// Freezes the page: it neither reads nor answers, and its connection stays open.
    pub(crate) fn set_frozen(&self, frozen: bool) {
        self.state().frozen = frozen;
        self.page.asked.notify_one();
    }

    /// Sets whether the page handles the messages that it receives.
    pub(crate) fn set_reading(&self, reading: bool) {
        self.state().reading = reading;
        self.page.asked.notify_one();
    }

    /// Simulates that the page goes away (`pagehide`).
    pub(crate) fn leave(&self) {
        self.state().machine.handle_leave();
        self.page.asked.notify_one();
    }

    /// Returns the charge of the page's messages that the server has not acknowledged.
    pub(crate) fn outgoing(&self, lane: Lane) -> u64 {
        self.state().machine.outgoing(lane)
    }

    async fn when<T>(&self, what: &str, check: impl FnMut(&mut State) -> Option<T>) -> T {
        soon(what, self.page.when(check)).await
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.state().connection = None;
        self.driver.abort();
    }
}

impl Page {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds this")
    }

    async fn when<T>(&self, mut check: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let happened = self.happened.notified();
            if let Some(found) = check(&mut self.state()) {
                return found;
            }
            happened.await;
        }
    }
}

async fn drive(page: Arc<Page>) {
    loop {
        let (connection, deadline) = {
            let mut state = page.state();
            if !state.frozen {
                state.advance();
            }
            let frozen = state.frozen;
            let deadline = state.machine.poll_timeout().filter(|_| !frozen);
            (state.connection.clone().filter(|_| !frozen), deadline)
        };
        page.happened.notify_waiters();
        let packet = async {
            match &connection {
                Some((attempt, end)) => (*attempt, end.receive().await),
                None => pending().await,
            }
        };
        let timeout = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            (attempt, packet) = packet => page.state().handle_packet(attempt, packet),
            () = page.asked.notified() => {}
            () = timeout => page.state().machine.handle_timeout(now()),
        }
    }
}

impl State {
    fn handle_packet(&mut self, attempt: u64, packet: Option<Packet>) {
        match packet {
            Some(Packet::Binary(bytes)) => self.machine.handle_frame(attempt, bytes, now()),
            Some(Packet::Close(code)) => self.lose(attempt, code.into()),
            Some(_) => {}
            None => self.lose(attempt, 1006),
        }
    }

    fn lose(&mut self, attempt: u64, code: u64) {
        self.connection.take_if(|(current, _)| *current == attempt);
        self.machine.handle_close(attempt, code, now());
    }

    /// Does everything that can be done now.
    fn advance(&mut self) {
        let mut acted = true;
        while acted {
            acted = false;
            while let Some(action) = self.machine.poll_action() {
                acted = true;
                self.act(action);
            }
            if self.reading {
                self.read();
            }
            if let Some((attempt, end)) = self.connection.clone() {
                while let Some(frame) = self.machine.poll_transmit(attempt, true, now()) {
                    acted = true;
                    end.send(Packet::Binary(frame.to_bytes()));
                }
            }
        }
        while let Some(event) = self.machine.poll_event() {
            self.events.push(event);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Connect(attempt) if self.online => {
                let end = (self.open.0)();
                self.connection = Some((attempt, Arc::new(end)));
                self.machine.handle_open(attempt, now());
            }
            Action::Connect(attempt) => self.machine.handle_close(attempt, 1006, now()),
            Action::Close(attempt, code) => {
                if let Some((_, end)) = self.connection.take_if(|(current, _)| *current == attempt) {
                    end.send(Packet::Close(u16::try_from(code).expect("the code fits a close frame")));
                }
            }
        }
    }

    fn read(&mut self) {
        for lane in Lane::ALL {
            while let Some(received) = self.machine.take(lane) {
                let compressed = received.compressed;
                let bytes = received.into_bytes();
                let message = if compressed { inflate(&bytes) } else { bytes.to_vec() };
                self.inbox.push_back((lane, message));
                self.machine.release(lane, now());
            }
        }
    }
}

fn inflate(bytes: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    flate2::read::ZlibDecoder::new(bytes)
        .read_to_end(&mut message)
        .expect("the server compresses well");
    message
}

pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
