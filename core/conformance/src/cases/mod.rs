//! The cases. Each is an async function named by what it shows.

pub mod bad_input;
pub mod documents;
pub mod drain;
pub mod ending;
pub mod faults;
pub mod files;
pub mod limits;
pub mod order;
pub mod plain;
pub mod posts;
pub mod principal;
pub mod requests;
pub mod takeover;
pub mod vanishing;
pub mod web_socket;

#[cfg(test)]
mod tests {
    /// A case that is not in the suite's list would never run, and nothing else would say so.
    #[test]
    fn every_case_is_in_the_suite() {
        let suite = include_str!("../suite.rs");
        for (theme, source) in [
            ("order", include_str!("order.rs")),
            ("faults", include_str!("faults.rs")),
            ("takeover", include_str!("takeover.rs")),
            ("documents", include_str!("documents.rs")),
            ("ending", include_str!("ending.rs")),
            ("vanishing", include_str!("vanishing.rs")),
            ("requests", include_str!("requests.rs")),
            ("drain", include_str!("drain.rs")),
            ("limits", include_str!("limits.rs")),
            ("bad_input", include_str!("bad_input.rs")),
            ("files", include_str!("files.rs")),
            ("principal", include_str!("principal.rs")),
            ("plain", include_str!("plain.rs")),
            ("posts", include_str!("posts.rs")),
            ("web_socket", include_str!("web_socket.rs")),
        ] {
            let (_, list) = suite
                .split_once(&format!("{theme} {{"))
                .expect("the theme is in the suite");
            let (list, _) = list.split_once('}').expect("the list ends");
            let listed: Vec<_> = list.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
            let cases: Vec<_> = source
                .lines()
                .filter_map(|line| line.strip_prefix("pub async fn "))
                .filter_map(|line| line.split('(').next())
                .collect();
            assert_eq!(listed, cases, "the cases of {theme}");
        }
    }
}
