//! Many sessions, or large transfers, on one server: what ends, resumes, transfers and stalled
//! pages cost the others.

mod million;
mod resume;
mod stalled;
mod transfer;

use std::time::Duration;

/// Runs the measurement with this name, smaller by `scale`. Returns false if there is none.
pub(crate) async fn measure(name: &str, scale: usize) -> bool {
    match name {
        "million" => million::measure(1_000_000 / scale).await,
        "resume" => resume::measure(10_000 / scale).await,
        "stalled" => stalled::measure(5_000 / scale).await,
        "transfer" => transfer::measure(100_000_000 / scale).await,
        _ => return false,
    }
    true
}

/// Returns the duration that `share` of all durations are at most.
fn quantile(durations: &mut [Duration], share: f64) -> Duration {
    durations.sort();
    let index = (durations.len() as f64 * share) as usize;
    durations[index.min(durations.len() - 1)]
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
