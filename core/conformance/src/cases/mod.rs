//! The cases. Each is an async function whose name states what it checks.

pub mod bad_input;
pub mod documents;
pub mod drain;
pub mod ending;
pub mod faults;
pub mod files;
pub mod limits;
mod list;
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
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    macro_rules! names {
        ($($place:ident $theme:ident { $($case:ident $($sample:ident)?,)* })*) => {
            [$((stringify!($theme), BTreeSet::from([$(stringify!($case).to_owned()),*]))),*]
        };
    }

    /// A case that is missing from the list would never run, and nothing else would reveal that.
    #[test]
    fn every_case_is_in_the_suite() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cases");
        let themes = crate::all_cases! { [names] };
        for (theme, listed) in &themes {
            let files = match fs::read_dir(folder.join(theme)) {
                Ok(files) => files.map(|file| file.expect("the folder is readable").path()).collect(),
                Err(_) => vec![folder.join(format!("{theme}.rs"))],
            };
            let read = |file| fs::read_to_string(file).expect("the theme has its sources");
            let source: String = files.into_iter().map(read).collect();
            let cases: BTreeSet<_> = source
                .lines()
                .filter_map(|line| line.strip_prefix("pub async fn "))
                .filter_map(|line| line.split('(').next().map(str::to_owned))
                .collect();
            assert_eq!(listed, &cases, "the cases of {theme}");
        }
        let modules = include_str!("mod.rs")
            .lines()
            .filter(|line| line.starts_with("pub mod "))
            .count();
        assert_eq!(themes.len(), modules, "the themes");
    }
}
