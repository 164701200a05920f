//! Reads the imports between the files of a crate, and sorts the files into levels.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;

/// The imports within a crate. The name of a file is its path below `src`, such as `hub/builder`,
/// and the name of a `mod.rs` is its folder. A file belongs to its folders and does not import
/// them.
#[derive(Debug)]
pub(crate) struct Graph {
    /// Name of the package.
    pub(crate) package: String,
    /// The files that each file imports.
    pub(crate) imports: BTreeMap<String, BTreeSet<String>>,
}

/// The code of each file, without comments and unit tests.
type Files = BTreeMap<String, String>;

impl Graph {
    /// Reads the crates of the core: the protocol, the core itself and the Rust client.
    pub(crate) fn of_the_core() -> Vec<Self> {
        let core = Path::new(env!("CARGO_MANIFEST_DIR"));
        let crates = [
            ("stillhere-proto", "proto"),
            ("stillhere", ""),
            ("stillhere-client", "rust-client"),
        ];
        crates
            .into_iter()
            .map(|(package, folder)| (package, core.join(folder).join("src")))
            .filter(|(_, source)| source.is_dir())
            .map(|(package, source)| Self::new(package, &read_files(&source)))
            .collect()
    }

    /// Finds the imports in these files.
    pub(crate) fn new(package: &str, files: &Files) -> Self {
        let imports = files.iter().map(|(name, code)| {
            let mut imported: BTreeSet<_> = paths(files, name, code)
                .filter_map(|path| defining_file(files, &path))
                .collect();
            imported.retain(|other| name != other && !name.starts_with(&format!("{other}/")));
            (name.clone(), imported)
        });
        Self {
            package: package.to_owned(),
            imports: imports.collect(),
        }
    }

    /// Returns the graph in which a folder with all its files is one module.
    pub(crate) fn by_module(&self) -> Self {
        self.merge(|file| file.split('/').next().unwrap_or_default())
    }

    /// Returns the graph in which each file is a module, except those of `session/`: they are all
    /// parts of one type behind one lock.
    pub(crate) fn by_file(&self) -> Self {
        self.merge(|file| if file.starts_with("session/") { "session" } else { file })
    }

    fn merge(&self, module: impl Fn(&str) -> &str) -> Self {
        let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (file, imported) in &self.imports {
            let others = imported.iter().map(|other| module(other));
            let known = imports.entry(module(file).to_owned()).or_default();
            known.extend(others.filter(|other| *other != module(file)).map(str::to_owned));
        }
        Self {
            package: self.package.clone(),
            imports,
        }
    }

    /// Returns the files by level. The first level imports nothing, and each other level only
    /// imports from those before it.
    ///
    /// # Errors
    /// Returns the files of a circle, each of which imports the next, if there is one.
    pub(crate) fn levels(&self) -> Result<Vec<Vec<&str>>, Vec<&str>> {
        let mut levels: Vec<Vec<&str>> = Vec::new();
        let mut placed: BTreeSet<&str> = BTreeSet::new();
        while placed.len() < self.imports.len() {
            let is_next = |name: &str, imported: &BTreeSet<String>| {
                !placed.contains(name) && imported.iter().all(|other| placed.contains(&**other))
            };
            let level: Vec<_> = self
                .imports
                .iter()
                .filter(|(name, imported)| is_next(name, imported))
                .map(|(name, _)| &**name)
                .collect();
            if level.is_empty() {
                return Err(self.circle(&placed));
            }
            placed.extend(&level);
            levels.push(level);
        }
        Ok(levels)
    }

    /// Finds a circle among the files that have no level: each of them imports another of them.
    fn circle<'a>(&'a self, placed: &BTreeSet<&str>) -> Vec<&'a str> {
        let without_level = |name: &&'a str| !placed.contains(name);
        let mut walk: Vec<&str> = self
            .imports
            .keys()
            .map(|name| &**name)
            .find(without_level)
            .into_iter()
            .collect();
        while let Some(last) = walk.last() {
            let next = self.imports[*last].iter().map(|name| &**name).find(without_level);
            let next = next.expect("it imports a file without a level");
            if let Some(start) = walk.iter().position(|name| *name == next) {
                return walk.split_off(start);
            }
            walk.push(next);
        }
        walk
    }
}

/// Prints one line for each level, from the first, and below it the imports of each file.
impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let levels = match self.levels() {
            Ok(levels) => levels,
            Err(circle) => return writeln!(f, "{}: circle {} ->", self.package, circle.join(" -> ")),
        };
        let (files, count) = (self.imports.len(), levels.len());
        writeln!(f, "{}: {files} modules on {count} levels, no circle", self.package)?;
        for (number, level) in (1..).zip(levels) {
            writeln!(f, "\n{number:>3}  {}", level.join(", "))?;
            for name in level {
                let imported: Vec<_> = self.imports[name].iter().map(|name| &**name).collect();
                if !imported.is_empty() {
                    writeln!(f, "       {name} -> {}", imported.join(", "))?;
                }
            }
        }
        Ok(())
    }
}

/// Reads the files of a crate, without its root, comments and unit tests.
pub(crate) fn read_files(source: &Path) -> Files {
    let mut files = Files::new();
    add_files(source, "", &mut files);
    files.remove("lib");
    files
}

fn add_files(folder: &Path, prefix: &str, files: &mut Files) {
    for entry in fs::read_dir(folder).expect("the sources are here") {
        let path = entry.expect("the sources are here").path();
        let stem = path.file_stem().expect("a file has a name").to_string_lossy();
        if path.is_dir() && stem != "tests" {
            add_files(&path, &format!("{prefix}{stem}/"), files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = if stem == "mod" {
                prefix.trim_end_matches('/').to_owned()
            } else {
                format!("{prefix}{stem}")
            };
            files.insert(name, code(&path));
        }
    }
}

fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("the sources are text");
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// Returns the module paths that a file uses, from the crate's root: those that start with
/// `crate::`, and in a `mod.rs` those that start with the name of a file beside it. Ignores
/// re-exports.
fn paths<'a>(files: &'a Files, name: &'a str, code: &'a str) -> impl Iterator<Item = Vec<String>> + 'a {
    let used: String = statements(code).filter(|line| !is_reexport(line)).collect();
    let below = files
        .keys()
        .filter_map(move |file| file.strip_prefix(name)?.strip_prefix('/'))
        .filter(|rest| !rest.contains('/'));
    let starts = below
        .map(|child| (format!("{child}::"), format!("{name}/{child}")))
        .chain([("crate::".to_owned(), String::new())]);
    let mut found = Vec::new();
    for (start, module) in starts {
        for (at, _) in used.match_indices(&start) {
            let is_whole = !used[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
            if is_whole {
                let before: Vec<_> = module
                    .split('/')
                    .filter(|part| !part.is_empty())
                    .map(str::to_owned)
                    .collect();
                expand(&before, &used[at + start.len()..], &mut found);
            }
        }
    }
    found.into_iter()
}

/// Splits code where a statement or a block may end.
fn statements(code: &str) -> impl Iterator<Item = &str> {
    code.split_inclusive(';')
}

fn is_reexport(statement: &str) -> bool {
    let last = statement.rsplit("\n\n").next().unwrap_or_default().trim_start();
    last.starts_with("pub") && last.contains(" use ")
}

/// Adds the paths that `rest` names below `before`: one, or several in braces.
fn expand(before: &[String], rest: &str, found: &mut Vec<Vec<String>>) {
    if let Some(list) = rest.strip_prefix('{') {
        let mut depth = 0;
        let end = list.find(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            depth < 0
        });
        let mut depth = 0;
        let items = list[..end.unwrap_or(list.len())].split(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            c == ',' && depth == 0
        });
        for item in items.map(str::trim).filter(|item| !item.is_empty()) {
            expand(before, item, found);
        }
        return;
    }
    let end = rest
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(rest.len());
    let mut path = before.to_vec();
    path.push(rest[..end].to_owned());
    match rest[end..].strip_prefix("::") {
        Some(more) => expand(&path, more, found),
        None => found.push(path),
    }
}

/// Returns the file that defines the item of a path. A `mod.rs` may re-export it from a file beside
/// it.
fn defining_file(files: &Files, path: &[String]) -> Option<String> {
    let known = |length: usize| Some(path[..length].join("/")).filter(|name| files.contains_key(name));
    let (length, module) = (1..=path.len())
        .rev()
        .find_map(|length| Some((length, known(length)?)))?;
    let Some(item) = path.get(length) else {
        return Some(module);
    };
    for statement in statements(&files[&module]).filter(|statement| is_reexport(statement)) {
        let (_, used) = statement.split_once(" use ")?;
        let mut exported = Vec::new();
        let before: Vec<_> = module.split('/').map(str::to_owned).collect();
        match used.strip_prefix("crate::") {
            Some(used) => expand(&[], used, &mut exported),
            None => expand(&before, used, &mut exported),
        }
        if let Some(exported) = exported.iter().find(|path| path.last() == Some(item)) {
            return defining_file(files, exported);
        }
    }
    Some(module)
}
