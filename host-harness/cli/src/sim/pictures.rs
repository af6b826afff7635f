//! `weir sim --pictures`: studies of cost and admissions without faults, as pictures and as a table.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use weir_sim::study::{Figures, pictures, settings, study};

use crate::output::print_result;

/// Name of the table's file.
const TABLE: &str = "figures.csv";

/// Studies fleets of up to `largest` workers, and writes the pictures and the table into a folder.
pub(super) fn draw(folder: &Path, largest: usize, threads: usize) -> anyhow::Result<ExitCode> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let settings = settings(largest);
    let began = Instant::now();
    let figures = study(&settings, threads, &|figures| log::info!("{}", figures.csv()));
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    let pictures = pictures(&figures);
    for picture in &pictures {
        write(&format!("{}.svg", picture.name), &picture.svg())?;
    }
    let table: Vec<String> = figures.iter().map(Figures::csv).collect();
    write(TABLE, &format!("{}\n{}\n", Figures::CSV_HEADER, table.join("\n")))?;
    let (number, took) = (settings.len(), began.elapsed().as_secs_f64());
    print_result(format_args!(
        "{number} simulations in {took:.1} s: {} pictures and {TABLE} are in {}\n",
        pictures.len(),
        folder.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}
