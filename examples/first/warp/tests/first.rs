//! Tests the program in the READMEs.

#[path = "../../case.rs"]
mod case;

#[tokio::test]
async fn the_program_counts_and_tells_its_pages_when_it_stops() {
    case::counts_and_tells_its_pages_when_it_stops(env!("CARGO_BIN_EXE_first-warp")).await;
}
