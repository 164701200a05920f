//! Reads the program's arguments.

use std::{env, process, time::Duration};

/// Returns the values of these options, each `None` if it is missing. Ends the program if there are
/// other arguments.
pub(crate) fn read<const N: usize>(names: [&str; N]) -> [Option<String>; N] {
    parse(names, env::args().skip(1)).unwrap_or_else(|| {
        eprintln!("usage: {}", names.map(|name| format!("[{name} VALUE]")).join(" "));
        process::exit(2)
    })
}

/// Reads a number of seconds. Ends the program if it is none.
pub(crate) fn seconds(value: String) -> Duration {
    value.parse().map(Duration::from_secs).unwrap_or_else(|_| {
        eprintln!("expected a whole number of seconds, got {value:?}");
        process::exit(2)
    })
}

fn parse<const N: usize>(names: [&str; N], mut arguments: impl Iterator<Item = String>) -> Option<[Option<String>; N]> {
    let mut values = [const { None }; N];
    while let Some(argument) = arguments.next() {
        let position = names.iter().position(|name| *name == argument)?;
        values[position] = Some(arguments.next()?);
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Option<[Option<String>; 2]> {
        parse(["--addr", "--under"], line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn each_option_takes_the_word_behind_it() {
        assert_eq!(parsed(""), Some([None, None]));
        assert_eq!(parsed("--under /app"), Some([None, Some("/app".into())]));
        assert_eq!(
            parsed("--under /app --addr :1"),
            Some([Some(":1".into()), Some("/app".into())])
        );
    }

    #[test]
    fn anything_else_is_refused() {
        assert_eq!(parsed("--addr"), None);
        assert_eq!(parsed("--port 1"), None);
        assert_eq!(parsed("1"), None);
    }
}
