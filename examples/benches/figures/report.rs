//! The figures of a run, as a table and as JSON.

use serde_json::{Value, json};

pub(crate) struct Report {
    servers: Vec<String>,
    repeats: usize,
    pub(crate) rows: Vec<Row>,
}

/// The figures of one load.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) is_memory: bool,
    /// The repeats of each server, none if the load does not suit it.
    pub(crate) figures: Vec<Vec<f64>>,
}

impl Report {
    pub(crate) fn new(servers: &[&str], repeats: usize) -> Self {
        Self {
            servers: servers.iter().map(|&server| server.to_owned()).collect(),
            repeats,
            rows: Vec::new(),
        }
    }

    /// Returns a table in Markdown: microseconds with the ratio to the first server, or KB.
    pub(crate) fn table(&self) -> String {
        let mut table = format!(
            "CPU of the server for each message, microseconds; x: relative to {}; KB: resident memory for each page\n\n\
             | | {} |\n|---|{}\n",
            self.servers[0],
            self.servers.join(" | "),
            "---|".repeat(self.servers.len())
        );
        for row in &self.rows {
            table += &format!("| {} | {} |\n", row.name, row.cells().join(" | "));
        }
        table
    }

    pub(crate) fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let figures = self.servers.iter().zip(&row.figures).filter_map(|(server, repeats)| {
                Some(json!({ "server": server, "median": median(repeats)?, "repeats": repeats }))
            });
            json!({
                "name": row.name,
                "unit": if row.is_memory { "KB" } else { "us" },
                "figures": figures.collect::<Vec<_>>(),
            })
        });
        json!({
            "machine": machine(),
            "repeats": self.repeats,
            "rows": rows.collect::<Vec<_>>(),
        })
    }
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let medians: Vec<_> = self.figures.iter().map(|repeats| median(repeats)).collect();
        let cell = |figure: &Option<f64>| match (figure, medians[0]) {
            (None, _) => String::new(),
            (Some(figure), Some(first)) if !self.is_memory => {
                format!("{} (x{:.2})", three_digits(*figure), figure / first)
            }
            (Some(figure), _) => three_digits(*figure),
        };
        medians.iter().map(cell).collect()
    }
}

fn median(repeats: &[f64]) -> Option<f64> {
    let mut sorted = repeats.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

/// Returns the figure with three significant digits, as far as they are behind the point.
pub(crate) fn three_digits(figure: f64) -> String {
    let decimals = match figure {
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{figure:.decimals$}")
}

/// Returns the processor's name.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find(|line| line.starts_with("model name"));
    model
        .and_then(|line| line.split(": ").nth(1))
        .unwrap_or_default()
        .to_owned()
}
