//! The settings of a client, and how it gets its ticket.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use stillhere_proto::machine::{DocumentMachine, DocumentOptions};
use stillhere_proto::{DocumentId, Limits};
use url::Url;

use crate::client::Client;
use crate::connection::Connector;
use crate::driver::Driver;
use crate::endpoint::Endpoint;
use crate::network::Network;
use crate::page::{self, PageError};
use crate::random::random;
use crate::route::Route;
use crate::shared::{Shared, now};
use crate::ticket::{Ticket, TicketError};

/// Settings of a client: the headers that it sends, and how it connects.
#[derive(Debug, Clone, Default)]
pub struct ClientBuilder {
    headers: HeaderMap,
    route: Route,
    outbox: Option<u64>,
    page: Option<Url>,
    seed: Option<u64>,
}

/// Why a client cannot start to connect.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The text is not an `http` or `https` URL.
    #[error("{0:?} is not an http or https URL")]
    Url(String),
    /// The session's URL in the ticket is relative, and the page's URL is unknown.
    #[error("the ticket's URL is relative: set the page's URL with ClientBuilder::page")]
    RelativeUrl,
    /// The page could not be fetched.
    #[error("cannot fetch the page: {0}")]
    Page(#[from] PageError),
    /// There is no ticket, or the ticket holds no session.
    #[error(transparent)]
    Ticket(#[from] TicketError),
}

impl Client {
    /// Connects to the session of the page at this URL: fetches the page, takes the ticket from its
    /// `data-stillhere` attribute, and opens a connection. `source` may also be a URL that answers
    /// with the ticket as JSON, or the JSON itself if the session's URL in it is absolute.
    ///
    /// Returns as soon as there is a ticket. From then on the client connects and reconnects on its
    /// own; [`Client::status`] reports the progress.
    ///
    /// # Errors
    /// Returns a [`ConnectError`] if there is no ticket.
    pub async fn connect(source: &str) -> Result<Self, ConnectError> {
        ClientBuilder::new().connect(source).await
    }

    /// Returns a builder to set headers, the kind of connection and more before connecting.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::new()
    }
}

impl ClientBuilder {
    /// Creates a builder for a client without extra headers that chooses the kind of connection on
    /// its own.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends a header, such as `cookie`, with every request to the page's server. If the session is
    /// on another host or port, the requests for it do not have these headers.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// Sets the kind of connection. By default the client tries one after another; see
    /// [`Route::Any`].
    #[must_use]
    pub fn route(self, route: Route) -> Self {
        Self { route, ..self }
    }

    /// Sets how many bytes may wait unacknowledged in each lane. Each message or fragment counts 64
    /// bytes in addition to its payload. Default 4 MiB.
    #[must_use]
    pub fn outbox(self, bytes: u64) -> Self {
        Self {
            outbox: Some(bytes),
            ..self
        }
    }

    /// Sets the URL of the page that the ticket is from, to resolve a relative URL in the ticket.
    ///
    /// # Errors
    /// Returns [`ConnectError::Url`] if this is not an `http` or `https` URL.
    pub fn page(self, url: &str) -> Result<Self, ConnectError> {
        let page = Some(http_url(url)?);
        Ok(Self { page, ..self })
    }

    /// Sets the seed of the jitter between reconnects. Random by default; set it to make a test
    /// repeatable.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Self {
            seed: Some(seed),
            ..self
        }
    }

    /// Does the same as [`Client::connect`], with these settings.
    ///
    /// # Errors
    /// Returns a [`ConnectError`] if there is no ticket.
    pub async fn connect(self, source: &str) -> Result<Client, ConnectError> {
        if source.trim_start().starts_with('{') {
            return self.connect_with(Ticket::parse(source)?);
        }
        let url = http_url(source)?;
        let page = page::fetch(&url, &self.headers).await?;
        let ticket = Ticket::find_in(&page)?;
        let page = Some(url);
        Self { page, ..self }.connect_with(ticket)
    }

    /// Connects to the session of this ticket. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Returns a [`ConnectError`] if the URL in the ticket is invalid, or relative without a
    /// [`page`](Self::page).
    pub fn connect_with(self, ticket: Ticket) -> Result<Client, ConnectError> {
        let url = match &self.page {
            Some(page) => page.join(&ticket.url),
            None => Url::parse(&ticket.url),
        };
        let url = url.map_err(|error| match error {
            url::ParseError::RelativeUrlWithoutBase => ConnectError::RelativeUrl,
            _ => ConnectError::Url(ticket.url.clone()),
        })?;
        let url = http_url(url.as_str())?;
        let is_foreign = self.page.as_ref().is_some_and(|page| page.origin() != url.origin());
        let headers = if is_foreign {
            HeaderMap::new()
        } else {
            self.headers.clone()
        };
        let endpoint = Endpoint::new(url, headers, &ticket.limits);
        let network = Network::new(endpoint, self.route);
        let (client, driver) = self.build(&ticket, network);
        tokio::spawn(driver);
        Ok(client)
    }

    /// Creates a client for this ticket whose connections come from `connector`. The client does
    /// nothing until its driver is polled, usually as a task of its own. Only the outbox and seed
    /// settings apply. Must be called within a tokio runtime.
    pub fn build(self, ticket: &Ticket, connector: impl Connector + 'static) -> (Client, Driver) {
        let outbox = self.outbox.unwrap_or(ticket.limits.outbox);
        let options = DocumentOptions {
            secret: ticket.secret.clone(),
            document: DocumentId(random()),
            limits: Limits {
                outbox,
                ..ticket.limits
            },
            seed: self.seed.unwrap_or_else(|| u64::from_le_bytes(random())),
        };
        let mut machine = DocumentMachine::new(options, now());
        machine.start(now());
        let shared = Arc::new(Shared::new(machine));
        let driver = Driver::new(Arc::clone(&shared), Box::new(connector));
        (Client::new(shared, ticket.limits.inflated), driver)
    }
}

/// Parses an HTTP or WebSocket URL as an HTTP URL. Removes the user and the password.
fn http_url(text: &str) -> Result<Url, ConnectError> {
    let http = match text.strip_prefix("ws") {
        Some(rest) => format!("http{rest}"),
        None => text.to_owned(),
    };
    let url = Url::parse(&http).ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let mut url = url.ok_or_else(|| ConnectError::Url(text.to_owned()))?;
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Ok(url)
}
