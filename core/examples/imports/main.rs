//! Prints the modules of the core's crates by level, with what each imports: `cargo run -p
//! stillhere --example imports`. With `files`, each file of a folder counts on its own.

mod graph;

use graph::Graph;

fn main() {
    let by_file = std::env::args().any(|argument| argument == "files");
    for files in Graph::of_the_core() {
        let graph = if by_file { files.by_file() } else { files.by_module() };
        println!("{graph}");
    }
}
