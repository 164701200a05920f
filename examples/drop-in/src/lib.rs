//! The application of `drop-in/` without its framework: who is logged in, the shared notes, and the
//! pages.
//!
//! All of it except [`Notes::run`] could have existed before. `run` is the function of the durable
//! session that was added to the page with the notes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{env, io};

use serde::{Deserialize, Serialize};
use stillhere::{Incoming, SendError, Session};
use tokio::select;
use tokio::sync::watch;

/// The folder of the application's static files.
pub const STATIC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/static");

/// Name under which the framework's session, or a signed cookie, keeps the [login](Notes::log_in).
pub const LOGIN: &str = "login";

const LONGEST_NAME: usize = 40;
const LONGEST_NOTE: usize = 1_000;
const MOST_NOTES: usize = 50;

/// The program's settings, from its arguments.
#[derive(Debug)]
pub struct Settings {
    /// Address to listen on: `--addr`, by default 127.0.0.1:3000.
    pub address: String,
    /// Path under which a proxy serves the application: `--under`, by default none.
    pub under: String,
    /// How many proxies a request passes: one if `--under` is given, otherwise none.
    pub proxies: usize,
    /// `--heartbeat` in seconds, by default 15.
    pub heartbeat: Duration,
}

impl Settings {
    /// Reads the program's arguments and starts logging.
    ///
    /// # Panics
    /// Panics if an argument is not one of the options above, or if the heartbeat is not a whole
    /// number.
    pub fn read() -> Self {
        tracing_subscriber::fmt().with_writer(io::stderr).init();
        let mut settings = Self {
            address: "127.0.0.1:3000".to_owned(),
            under: String::new(),
            proxies: 0,
            heartbeat: Duration::from_secs(15),
        };
        let mut arguments = env::args().skip(1);
        while let Some(option) = arguments.next() {
            let value = arguments.next().expect("each option has a value");
            match option.as_str() {
                "--addr" => settings.address = value,
                "--under" => (settings.under, settings.proxies) = (value, 1),
                "--heartbeat" => {
                    settings.heartbeat = Duration::from_secs(value.parse().expect("a heartbeat is whole seconds"));
                }
                _ => panic!("unknown option {option}: use --addr, --under and --heartbeat"),
            }
        }
        settings
    }
}

/// The application's state. Clones are handles to the same state.
#[derive(Clone, Debug)]
pub struct Notes {
    /// Names by login. A real application has a database.
    logins: Arc<Mutex<HashMap<String, String>>>,
    all: watch::Sender<Vec<Note>>,
}

#[derive(Clone, Debug, Serialize)]
struct Note {
    by: String,
    text: String,
}

impl Default for Notes {
    fn default() -> Self {
        Self {
            logins: Arc::default(),
            all: watch::Sender::new(Vec::new()),
        }
    }
}

impl Notes {
    /// Logs a user in and returns the login, which the browser's session keeps. Returns `None` if
    /// the name is invalid.
    ///
    /// # Panics
    /// Panics if the operating system has no random source.
    pub fn log_in(&self, name: &str) -> Option<String> {
        let name = name.trim();
        if name.is_empty() || name.chars().count() > LONGEST_NAME {
            return None;
        }
        let mut token = [0; 16];
        getrandom::fill(&mut token).expect("the operating system has randomness");
        let token = u128::from_le_bytes(token).to_string();
        self.logins().insert(token.clone(), name.to_owned());
        Some(token)
    }

    /// Returns the user with this login, unless the user has logged out.
    pub fn user(&self, login: &str) -> Option<String> {
        self.logins().get(login).cloned()
    }

    /// Logs a user out in all browsers.
    pub fn log_out(&self, user: &str) {
        self.logins().retain(|_, name| name != user);
    }

    fn logins(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.logins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the page with the notes, for a user who is logged in. `script` connects the page
    /// with its session.
    pub fn page(&self, user: &str, script: &str) -> String {
        include_str!("../pages/notes.html")
            .replace("{{script}}", script)
            .replace("{{user}}", &escape(user))
    }

    /// Runs the session of a page with notes. It shows all notes as they are added, and keeps the
    /// user's draft.
    pub async fn run(self, user: String, mut session: Session) {
        // Sending fails only after the session has ended, and then there is nothing left to do.
        let _ = self.serve(&user, &mut session).await;
    }

    async fn serve(&self, user: &str, session: &mut Session) -> Result<(), SendError> {
        let mut draft = String::new();
        let mut all = self.all.subscribe();
        greet(session, &draft, &mut all).await?;
        loop {
            select! {
                incoming = session.next() => match incoming {
                    Some(Incoming::Message(message)) => match serde_json::from_slice(&message) {
                        Ok(FromPage::Draft(text)) => draft = text,
                        Ok(FromPage::Add) => self.add(user, std::mem::take(&mut draft)),
                        Err(_) => {
                            session.abort("the page said something that the server does not know");
                            return Ok(());
                        }
                    },
                    Some(Incoming::Restored) => greet(session, &draft, &mut all).await?,
                    Some(_) => {}
                    None => return Ok(()),
                },
                _ = all.changed() => {
                    let notes = to_page(&ToPage::Notes(&all.borrow_and_update()));
                    session.send(notes).await?;
                }
            }
        }
    }

    fn add(&self, user: &str, text: String) {
        let text: String = text.trim().chars().take(LONGEST_NOTE).collect();
        if text.is_empty() {
            return;
        }
        let by = user.to_owned();
        self.all.send_modify(|notes| {
            notes.push(Note { by, text });
            let surplus = notes.len().saturating_sub(MOST_NOTES);
            notes.drain(..surplus);
        });
    }
}

/// The page on which a user logs in.
pub const LOGIN_PAGE: &str = include_str!("../pages/login.html");

/// A page without a session.
pub const ABOUT_PAGE: &str = include_str!("../pages/about.html");

/// A message from the page with the notes, in JSON.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum FromPage {
    /// The present content of the input field.
    Draft(String),
    /// Turns the draft into a note.
    Add,
}

/// A message to the page with the notes, in JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum ToPage<'a> {
    Draft(&'a str),
    Notes(&'a [Note]),
}

/// Sends the state that the session keeps to a page that has just loaded. The notes follow as if
/// they had changed.
async fn greet(session: &Session, draft: &str, all: &mut watch::Receiver<Vec<Note>>) -> Result<(), SendError> {
    all.mark_changed();
    session.send(to_page(&ToPage::Draft(draft))).await
}

fn to_page(message: &ToPage<'_>) -> Vec<u8> {
    serde_json::to_vec(message).expect("strings serialize to JSON")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}
