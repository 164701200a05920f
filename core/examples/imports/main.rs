//! Prints the modules of the core's crates by level, with the imports of each: `cargo run -p
//! stillhere --example imports`. With the argument `files`, it prints each file of a folder on its
//! own.

mod graph;

use graph::Graph;

fn main() {
    let by_file = std::env::args().any(|argument| argument == "files");
    for files in Graph::of_the_core() {
        let graph = if by_file { files.by_file() } else { files.by_module() };
        println!("{graph}");
    }
}
