//! Reads what this process is to do.

use std::str::FromStr;

/// What this process does.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Runs a server on a file, and another when it was killed.
    Supervise { address: String, file: String },
    /// Runs several nodes, and what they need.
    SuperviseNodes { address: String, count: usize },
    /// Serves, with the sessions in a file.
    ServeFile { address: String, file: String },
    /// Serves as one of several nodes, with the sessions in NATS.
    ServeNode { address: String, number: u64, nats: String },
    /// Runs a NATS server for a supervisor.
    KeepNats,
}

pub(crate) const USAGE: &str = "usage: restarts [ADDRESS [FILE]]
       restarts --nodes COUNT [ADDRESS]
       restarts --node NUMBER --nats URL [ADDRESS]";

/// The first argument of a process that serves a supervisor.
pub(crate) const CHILD: &str = "--child";
/// The argument of the process that runs NATS.
pub(crate) const KEEP_NATS: &str = "--keep-nats";

const ADDRESS: &str = "127.0.0.1:3000";
const FILE: &str = "restarts.db";
/// More would only be slow on one machine.
const MOST_NODES: usize = 9;

/// Reads the arguments behind the program's name. Returns also whether this process ends with its
/// supervisor, or `None` if they cannot be understood.
pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Option<(Task, bool)> {
    let mut arguments = arguments.peekable();
    let is_child = arguments.next_if(|first| first == CHILD).is_some();
    let (mut nodes, mut node, mut nats, mut keeps_nats) = (None, None, None, false);
    let mut words = Vec::new();
    while let Some(argument) = arguments.next() {
        match &*argument {
            "--nodes" => nodes = Some(number(arguments.next())?),
            "--node" => node = Some(number(arguments.next())?),
            "--nats" => nats = Some(arguments.next()?),
            KEEP_NATS => keeps_nats = true,
            option if option.starts_with('-') => return None,
            _ => words.push(argument),
        }
    }
    let mut words = words.into_iter();
    let address = words.next().unwrap_or_else(|| ADDRESS.to_owned());
    let file = words.next();
    if words.next().is_some() {
        return None;
    }
    let task = match (nodes, node, nats, file) {
        (None, None, None, None) if keeps_nats => Task::KeepNats,
        (Some(count @ 1..=MOST_NODES), None, None, None) => Task::SuperviseNodes { address, count },
        (None, Some(number), Some(nats), None) => Task::ServeNode { address, number, nats },
        (None, None, None, file) => {
            let file = file.unwrap_or_else(|| FILE.to_owned());
            match is_child {
                true => Task::ServeFile { address, file },
                false => Task::Supervise { address, file },
            }
        }
        _ => return None,
    };
    Some((task, is_child))
}

fn number<N: FromStr>(argument: Option<String>) -> Option<N> {
    argument?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Option<Task> {
        parse(line.split_whitespace().map(str::to_owned)).map(|(task, _)| task)
    }

    #[test]
    fn each_kind_of_process_is_told_by_its_arguments() {
        let (address, file, nats) = (ADDRESS.to_owned(), FILE.to_owned(), "nats://x".to_owned());
        let one = (address.clone(), file.clone());
        let supervise = |(address, file)| Some(Task::Supervise { address, file });
        assert_eq!(parsed(""), supervise(one.clone()));
        assert_eq!(parsed(":1 a.db"), supervise((":1".to_owned(), "a.db".to_owned())));
        let (address, file) = one;
        assert_eq!(
            parsed("--child"),
            Some(Task::ServeFile {
                address: address.clone(),
                file
            })
        );
        assert_eq!(
            parsed("--nodes 3"),
            Some(Task::SuperviseNodes {
                address: address.clone(),
                count: 3
            })
        );
        assert_eq!(
            parsed("--child --node 2 --nats nats://x"),
            Some(Task::ServeNode {
                address,
                number: 2,
                nats
            })
        );
        assert_eq!(parsed("--child --keep-nats"), Some(Task::KeepNats));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "--nodes",
            "--nodes x",
            "--nodes 0",
            "--nodes 10",
            "--nodes 3 :1 a.db",
            "--node 1",
            "--nats nats://x",
            "-h",
            ":1 a.db more",
        ] {
            assert_eq!(parsed(line), None, "{line}");
        }
    }
}
