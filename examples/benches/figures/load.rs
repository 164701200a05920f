//! What is measured: each load, and the figure that it gives of a server.

use std::time::Duration;

use futures_util::future::join_all;
use stillhere_client::Ticket;

use crate::client::{Page, payload};
use crate::process::{Server, is_ours, most_connections};
use crate::servers::Role;

/// How many pages connect at a time.
const AT_A_TIME: usize = 16;

/// How many pages an echo has.
const PAGES: usize = 100;

/// How many streams run at a time.
const STREAMS: usize = 10;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Load {
    /// 100 pages send messages and wait for their echoes.
    Echo {
        size: usize,
        in_flight: usize,
        messages: usize,
    },
    /// 10 pages ask for messages.
    Stream { size: usize, messages: usize },
    /// One page sends a message to all. Pages of sessions acknowledge it, and with
    /// `all_acknowledge` also those of the bare servers, as an application needs that must not lose
    /// a message.
    FanOut {
        size: usize,
        pages: usize,
        rounds: usize,
        all_acknowledge: bool,
    },
    /// Pages connect, say hello, and echo one message. A server without sessions has no hello. If
    /// `all_greet`, its pages exchange a message in its place, as an application does that has to
    /// know which page it is.
    SetUp { pages: usize, all_greet: bool },
    /// Pages are connected, and nothing happens.
    Idle { pages: usize },
    /// Pages have connected, echoed one message, acknowledged it, and closed.
    SoftClosed { sessions: usize },
}

impl Load {
    /// Returns all loads, smaller by `scale`.
    pub(crate) fn all(scale: usize) -> [Self; 11] {
        let echo = |size, in_flight, messages: usize| Self::Echo {
            size,
            in_flight,
            messages: messages / scale,
        };
        let stream = |size, messages: usize| Self::Stream {
            size,
            messages: messages / scale,
        };
        let fan_out = |all_acknowledge| Self::FanOut {
            size: 256,
            pages: most_connections().min(5_000 / scale),
            rounds: 20,
            all_acknowledge,
        };
        let set_up = |all_greet| Self::SetUp {
            pages: 2_000 / scale,
            all_greet,
        };
        [
            echo(64, 1, 150_000),
            echo(64, 16, 400_000),
            stream(64, 2_000_000),
            echo(16 * 1024, 1, 80_000),
            stream(16 * 1024, 100_000),
            fan_out(false),
            fan_out(true),
            set_up(false),
            set_up(true),
            Self::Idle {
                pages: most_connections().min(10_000 / scale),
            },
            Self::SoftClosed {
                sessions: 40_000 / scale,
            },
        ]
    }

    pub(crate) fn name(self) -> String {
        match self {
            Self::Echo { size, in_flight, .. } => format!("echo {}, {in_flight} in flight", bytes(size)),
            Self::Stream { size, .. } => format!("one-way stream {}", bytes(size)),
            Self::FanOut {
                all_acknowledge: true, ..
            } => "fan-out, all acknowledge".to_owned(),
            Self::FanOut { size, pages, .. } => format!("fan-out {} to {pages}", bytes(size)),
            Self::SetUp { all_greet: false, .. } => "set-up with hello".to_owned(),
            Self::SetUp { all_greet: true, .. } => "set-up, all greet".to_owned(),
            Self::Idle { pages } => format!("KB, idle and connected ({pages})"),
            Self::SoftClosed { sessions } => format!("KB, soft-closed ({sessions})"),
        }
    }

    pub(crate) fn is_memory(self) -> bool {
        matches!(self, Self::Idle { .. } | Self::SoftClosed { .. })
    }

    /// Returns false for a server that has no figure of this load.
    pub(crate) fn suits(self, kind: &str) -> bool {
        !matches!(self, Self::SoftClosed { .. }) || is_ours(kind)
    }

    /// Returns microseconds of the server's CPU for each message or set-up, or KB for each page or
    /// session.
    pub(crate) async fn measure(self, kind: &str) -> f64 {
        let server = Server::start(kind, self.role());
        match self {
            Self::Echo {
                size,
                in_flight,
                messages,
            } => echo(&server, size, in_flight, messages).await,
            Self::Stream { size, messages } => stream(&server, size, messages).await,
            Self::FanOut {
                size,
                pages,
                rounds,
                all_acknowledge,
            } => fan_out(&server, size, pages, rounds, all_acknowledge).await,
            Self::SetUp { pages, all_greet } => set_up(&server, pages, all_greet).await,
            Self::Idle { pages } => idle(&server, pages).await,
            Self::SoftClosed { sessions } => soft_closed(&server, sessions).await,
        }
    }

    fn role(self) -> Role {
        match self {
            Self::Stream { .. } => Role::Stream,
            Self::FanOut { .. } => Role::FanOut,
            _ => Role::Echo,
        }
    }
}

/// Connects a page with each ticket, a few at a time, and has each echo some messages.
pub(crate) async fn connect(server: &Server, tickets: &[Option<Ticket>], echoes: usize) -> Vec<Page> {
    let mut connected = Vec::with_capacity(tickets.len());
    for tickets in tickets.chunks(AT_A_TIME) {
        let pages = tickets.iter().map(async |ticket| {
            let mut page = Page::connect(server, ticket.as_ref()).await;
            page.echo(64, 1, echoes).await;
            page
        });
        connected.extend(join_all(pages).await);
    }
    connected
}

async fn echo(server: &Server, size: usize, in_flight: usize, messages: usize) -> f64 {
    let mut pages = connect(server, &server.tickets(PAGES).await, 0).await;
    let each = messages / PAGES;
    let round = async |pages: &mut [Page], count| {
        join_all(pages.iter_mut().map(|page| page.echo(size, in_flight, count))).await;
    };
    round(&mut pages, each / 10).await;
    let before = server.cpu();
    round(&mut pages, each).await;
    microseconds(server.cpu() - before, each * PAGES)
}

async fn stream(server: &Server, size: usize, messages: usize) -> f64 {
    let mut pages = connect(server, &server.tickets(STREAMS).await, 0).await;
    let each = messages / STREAMS;
    let round = async |pages: &mut [Page], count| {
        join_all(pages.iter_mut().map(|page| page.stream(size, count))).await;
    };
    round(&mut pages, each / 10).await;
    let before = server.cpu();
    round(&mut pages, each).await;
    microseconds(server.cpu() - before, each * STREAMS)
}

async fn fan_out(server: &Server, size: usize, pages: usize, rounds: usize, all_acknowledge: bool) -> f64 {
    let mut pages = connect(server, &server.tickets(pages).await, 0).await;
    if all_acknowledge {
        pages.iter_mut().for_each(Page::begin_to_acknowledge);
    }
    let mut message = Vec::new();
    let mut round = async |number| {
        payload(number, size, &mut message);
        pages[0].publish(&message).await;
        join_all(pages.iter_mut().map(|page| page.expect(&message, 1))).await;
    };
    round(0).await;
    let before = server.cpu();
    for number in 1..=rounds {
        round(number).await;
    }
    microseconds(server.cpu() - before, rounds * pages.len())
}

/// The sessions are open before, as those of pages that were served; the request for a page is not
/// part of the figure.
async fn set_up(server: &Server, pages: usize, all_greet: bool) -> f64 {
    let echoes = 1 + usize::from(all_greet && !server.has_hello());
    let warm = connect(server, &server.tickets(pages / 10).await, echoes).await;
    let tickets = server.tickets(pages).await;
    let before = server.cpu();
    let connected = connect(server, &tickets, echoes).await;
    let figure = microseconds(server.cpu() - before, pages);
    drop((warm, connected));
    figure
}

async fn idle(server: &Server, pages: usize) -> f64 {
    let warm = connect(server, &server.tickets(AT_A_TIME).await, 0).await;
    let before = server.resident();
    let connected = connect(server, &server.tickets(pages).await, 0).await;
    let figure = kilobytes(server.resident() - before, pages);
    drop((warm, connected));
    figure
}

/// Returns the KB of each session. Few pages are connected at a time, so that the memory of
/// connections is used again.
async fn soft_closed(server: &Server, sessions: usize) -> f64 {
    let round = async || {
        let pages = connect(server, &server.tickets(AT_A_TIME).await, 1).await;
        join_all(pages.into_iter().map(Page::close)).await;
    };
    round().await;
    let before = server.resident();
    let rounds = sessions / AT_A_TIME;
    for _ in 0..rounds {
        round().await;
    }
    kilobytes(server.resident() - before, rounds * AT_A_TIME)
}

fn microseconds(cpu: Duration, count: usize) -> f64 {
    cpu.as_secs_f64() * 1e6 / count as f64
}

fn kilobytes(bytes: u64, count: usize) -> f64 {
    bytes as f64 / 1000.0 / count as f64
}

fn bytes(size: usize) -> String {
    if size < 1024 {
        format!("{size} B")
    } else {
        format!("{} KiB", size / 1024)
    }
}
