//! The jobs of the process. They run whether or not a page watches.

use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;

use crate::primes::{grouped, primes_in};

const MOST_RUNNING: usize = 4;
const MOST_KEPT: usize = 12;
const LARGEST_LIMIT: u64 = 1_000_000_000;
const PARTS: u64 = 100;

/// A job as pages see it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Job {
    id: u64,
    limit: u64,
    /// How many primes were found so far.
    found: u64,
    percent: u64,
    state: State,
    /// Pages get it as a stream.
    #[serde(skip)]
    log: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Running,
    Done,
    Cancelled,
}

/// All jobs. Clones are handles to the same jobs.
#[derive(Debug, Clone)]
pub(crate) struct Jobs {
    /// The newest first.
    list: watch::Sender<Vec<Job>>,
    /// Between two parts of a job, so that people can watch.
    pause: Duration,
}

impl Jobs {
    pub(crate) fn new(pause: Duration) -> Self {
        let list = watch::Sender::default();
        Self { list, pause }
    }

    /// Starts a job that finds the primes below `limit`, and returns its id.
    pub(crate) fn start(&self, limit: u64) -> Result<u64, String> {
        if !(1_000..=LARGEST_LIMIT).contains(&limit) {
            return Err(format!("choose a limit from 1,000 to {}", grouped(LARGEST_LIMIT)));
        }
        let mut started = None;
        self.list.send_if_modified(|jobs| {
            started = add(jobs, limit);
            started.is_some()
        });
        let id = started.ok_or(format!("{MOST_RUNNING} jobs are running: wait, or cancel one"))?;
        tokio::spawn(self.clone().run(id, limit));
        Ok(id)
    }

    pub(crate) fn cancel(&self, id: u64) -> Result<(), &'static str> {
        let is_cancelled = self.list.send_if_modified(|jobs| {
            let job = jobs.iter_mut().find(|job| job.id == id && job.is_running());
            job.map(|job| job.end(State::Cancelled, "cancelled")).is_some()
        });
        if is_cancelled { Ok(()) } else { Err("the job is over") }
    }

    /// Returns the log of a job from a line on, and true if there will be more.
    pub(crate) fn log(&self, id: u64, from: usize) -> Option<(Vec<String>, bool)> {
        let jobs = self.list.borrow();
        let job = jobs.iter().find(|job| job.id == id)?;
        Some((job.log[from..].to_vec(), job.is_running()))
    }

    /// Returns a watch of the jobs.
    pub(crate) fn list(&self) -> watch::Receiver<Vec<Job>> {
        self.list.subscribe()
    }

    async fn run(self, id: u64, limit: u64) {
        for part in 0..PARTS {
            let (from, to) = (limit * part / PARTS, limit * (part + 1) / PARTS);
            let primes = tokio::task::spawn_blocking(move || primes_in(from..to));
            let Ok(primes) = primes.await else { return };
            let goes_on = self.list.send_if_modified(|jobs| {
                let job = jobs.iter_mut().find(|job| job.id == id && job.is_running());
                job.map(|job| job.advance(&primes, to, part + 1)).is_some()
            });
            if !goes_on {
                return;
            }
            tokio::time::sleep(self.pause).await;
        }
    }
}

/// Adds a job, unless too many are running. Old ones give way.
fn add(jobs: &mut Vec<Job>, limit: u64) -> Option<u64> {
    if jobs.iter().filter(|job| job.is_running()).count() >= MOST_RUNNING {
        return None;
    }
    if jobs.len() >= MOST_KEPT {
        let oldest = jobs.iter().rposition(|job| !job.is_running())?;
        jobs.remove(oldest);
    }
    let id = jobs.iter().map(|job| job.id).max().unwrap_or(0) + 1;
    let log = vec![format!("looking for the primes below {}", grouped(limit))];
    jobs.insert(
        0,
        Job {
            id,
            limit,
            found: 0,
            percent: 0,
            state: State::Running,
            log,
        },
    );
    Some(id)
}

impl Job {
    fn is_running(&self) -> bool {
        self.state == State::Running
    }

    /// Takes the primes of the next part.
    fn advance(&mut self, primes: &[u64], up_to: u64, parts: u64) {
        self.found += primes.len() as u64;
        self.percent = parts * 100 / PARTS;
        if let Some(largest) = primes.last() {
            let (up_to, largest) = (grouped(up_to), grouped(*largest));
            self.log.push(format!(
                "below {up_to}: {} primes, the largest {largest}",
                grouped(self.found)
            ));
        }
        if parts == PARTS {
            self.end(State::Done, "done");
        }
    }

    fn end(&mut self, state: State, line: &str) {
        self.state = state;
        self.log.push(line.to_owned());
    }
}
