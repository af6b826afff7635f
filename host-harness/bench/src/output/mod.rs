//! Output of a run: a table on the terminal, a page, all rounds as CSV, and plots.

mod csv;
mod page;
mod plot;
pub(super) mod table;

use std::{fs, path::Path};

use super::{BenchError, footprint::Footprint, machine::Machine, plan::Sweep, spread::Rounds};

/// Name of the folder for CSV and plots, next to the page.
const FOLDER: &str = "results";

/// All results of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Results<'a> {
    pub(super) rounds: &'a Rounds,
    pub(super) machine: &'a Machine,
    pub(super) footprint: &'a Footprint,
}

/// Writes `RESULTS.md`, and the folder `results/` next to it.
///
/// # Errors
/// If a file cannot be written or a plot cannot be drawn.
pub(super) fn write(dir: &Path, results: &Results<'_>) -> Result<(), BenchError> {
    let folder = dir.join(FOLDER);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("rounds.csv"), csv::render(results.rounds))?;
    let mut plots = Vec::new();
    for plot in plot::all(results.rounds) {
        fs::write(folder.join(&plot.file), plot.svg()?)?;
        plots.push(plot);
    }
    fs::write(dir.join("RESULTS.md"), page::render(results, &plots))?;
    Ok(())
}

/// The numbers of connections at which the subjects were compared, ascending.
fn connections(rounds: &Rounds) -> Vec<u32> {
    let mut all: Vec<u32> = rounds.points(Sweep::Subjects).iter().map(|point| point.setting.connections).collect();
    all.sort_unstable();
    all.dedup();
    all
}
