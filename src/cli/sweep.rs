//! `mevae sweep`: every combination of a grid of configurations as a run of its own, and one table of them all.

mod grid;
mod memory;
mod summary;

use super::common;
use super::compute::Compute;
use super::progress::Talk;
use super::session::Limits;
use super::{Stopped, interrupt, one_run, start, usage};
use candle_core::Device;
use grid::Cell;
use multi_entity_vae::config::Config;
use multi_entity_vae::files::{FileError, read_text, write_bytes_atomic};
use multi_entity_vae::run::RunFolder;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;
use summary::{State, Summary};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// TOML file of the grid; see examples/ablation.toml
    grid: PathBuf,
    /// Folder of the sweep; one that was begun is gone on with, and finished runs are left alone
    #[arg(long)]
    out: PathBuf,
    /// Runs at the same time, at most: no more than there is memory for
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    jobs: u64,
    /// Print what would be run and stop
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    compute: Compute,
    /// Print nothing but errors
    #[arg(long)]
    quiet: bool,
}

/// The file that tells a sweep's folder from any other: the grid that it was last run with.
const MARK: &str = "sweep.toml";

pub fn run(args: Args) -> anyhow::Result<()> {
    args.compute.use_threads()?;
    let text = read_text(&args.grid, Config::MOST_BYTES)?;
    let mut cells = grid::cells(&args.grid.display().to_string(), &text).map_err(usage)?;
    for cell in &mut cells {
        start::make_absolute(&mut cell.config)?;
        // What was begun could be trained, and needs nothing of another run any more.
        if RunFolder::open(&args.out.join(&cell.folder)).is_err() {
            one_run::check(&cell.config).map_err(|e| usage(format!("{}: {e:#}", cell.name)))?;
        }
    }
    if args.list {
        return common::print_all(cells.iter().map(listed).collect::<String>().as_bytes());
    }
    let device = args.compute.open_device(args.quiet)?;
    let states = cells.iter().map(|cell| begun(&args.out.join(&cell.folder), cell)).collect::<anyhow::Result<_>>()?;
    enter(&args.out, &text)?;
    interrupt::listen()?;
    let sweep = Sweep { args: &args, cells: &cells, device, states: Mutex::new(states) };
    sweep.carry_out()?;
    let states = sweep.states();
    let runs = || cells.iter().zip(&states).filter(|(cell, _)| cell.name == cell.folder);
    let failed = runs().filter(|(_, state)| matches!(state, State::Failed(_))).count();
    let page = args.out.join("summary.md").display().to_string();
    if interrupt::requested() {
        let (grid, out) = (args.grid.display().to_string(), args.out.display().to_string());
        let command = format!("mevae sweep {} --out {}", common::shell_word(&grid), common::shell_word(&out));
        common::tell(&format!("stopped and saved; continue with: {command}"));
        return Err(Stopped.into());
    }
    if failed > 0 {
        anyhow::bail!("{failed} of {} runs failed; {page} says why. The same command tries them again", runs().count());
    }
    match args.quiet {
        true => Ok(()),
        false => common::say(format!("{} runs: {page}, summary.csv and summary.json beside it", runs().count())),
    }
}

/// A line of `--list`. The same configuration under two names is one run.
fn listed(Cell { name, folder, .. }: &Cell) -> String {
    if name == folder { format!("{name}\n") } else { format!("{name} (the same as {folder})\n") }
}

/// What an earlier sitting made of a cell. A run of another configuration in its place is an error, before anything is written.
fn begun(path: &Path, cell: &Cell) -> anyhow::Result<State> {
    match RunFolder::open(path) {
        Ok(folder) if one_run::is_done(&folder, &cell.config)? => State::of(&folder),
        _ => Ok(State::Missing),
    }
}

/// Makes the sweep's folder, or finds that it is one that can be gone on with.
fn enter(out: &Path, grid: &str) -> anyhow::Result<()> {
    let mark = out.join(MARK);
    if !mark.exists() && std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) {
        anyhow::bail!(
            "{} is not empty and holds no sweep, so nothing is written there; choose another --out",
            out.display()
        );
    }
    std::fs::create_dir_all(out).map_err(FileError::refused("create", out))?;
    Ok(write_bytes_atomic(&mark, grid.as_bytes())?)
}

/// A sweep at work.
struct Sweep<'a> {
    args: &'a Args,
    cells: &'a [Cell],
    device: Device,
    /// What became of every cell so far.
    states: Mutex<Vec<State>>,
}

impl Sweep<'_> {
    /// Every job takes the next run until there is none, or a stop is asked for. The first error that is not a run's own ends it.
    fn carry_out(&self) -> anyhow::Result<()> {
        let cells = self.cells.iter().zip(self.states());
        let runs: Vec<_> = cells.filter(|(cell, _)| cell.name == cell.folder).collect();
        let waiting = runs.iter().filter(|(_, state)| !matches!(state, State::Done { .. })).map(|(cell, _)| *cell);
        let jobs = self.at_once(&waiting.collect::<Vec<_>>());
        let next = AtomicUsize::new(0);
        let work = || -> anyhow::Result<()> {
            while !interrupt::requested() {
                let number = next.fetch_add(1, Ordering::SeqCst);
                let Some((cell, known)) = runs.get(number) else { break };
                let state = match known {
                    State::Done { .. } => known.clone(),
                    _ => match self.train(cell, jobs == 1) {
                        Ok(folder) => State::of(&folder)?,
                        // What is there stays; it goes on another time.
                        Err(e) if e.is::<Stopped>() => break,
                        Err(e) => State::Failed(format!("{e:#}")),
                    },
                };
                if !self.args.quiet {
                    common::tell(&format!("[{}/{}] {}: {state}", number + 1, runs.len(), cell.folder));
                }
                self.settle(&cell.folder, state)?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let jobs: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
            // A panic of a job is one of the sweep.
            let end = |job: ScopedJoinHandle<'_, _>| job.join().unwrap_or_else(|panic| resume_unwind(panic));
            jobs.into_iter().map(end).collect::<Vec<_>>().into_iter().collect()
        })
    }

    /// How many of the runs that wait are trained at the same time: as asked for, if there is memory for so many.
    fn at_once(&self, waiting: &[&Cell]) -> u64 {
        let jobs = self.args.jobs.min(waiting.len() as u64).max(1);
        if jobs == 1 || !self.device.is_cpu() {
            return jobs;
        }
        // What cannot be trained any more says so itself when it is its turn.
        let needed = |cell: &&Cell| Some(memory::needed(&cell.config, one_run::image(&cell.config).ok()?));
        let (needed, free) = (waiting.iter().filter_map(needed).max().unwrap_or(0), memory::free());
        let fit = memory::that_fit(jobs, needed, free);
        if let (true, false, Some(free)) = (fit < jobs, self.args.quiet, free) {
            let [needed, free] = [needed, free].map(|bytes| bytes as f64 / f64::from(1 << 30));
            common::tell(&format!("{fit} at a time: a run may take {needed:.1} GiB, and {free:.1} are free"));
        }
        fit
    }

    fn train(&self, cell: &Cell, alone: bool) -> anyhow::Result<RunFolder> {
        let path = self.args.out.join(&cell.folder);
        let talk = if alone && !self.args.quiet { Talk::Bar } else { Talk::Nothing };
        one_run::carry_out(&path, &cell.config, &self.device, Limits { seconds: None, talk, told_elsewhere: true })
    }

    /// Writes down what became of a run, under every name that it has, and the tables of all so far.
    fn settle(&self, folder: &str, state: State) -> anyhow::Result<()> {
        let mut states = self.states.lock().unwrap_or_else(|e| e.into_inner());
        for (slot, _) in states.iter_mut().zip(self.cells).filter(|(_, cell)| cell.folder == folder) {
            slot.clone_from(&state);
        }
        Summary::new(self.cells, &states).write(&self.args.out)
    }

    fn states(&self) -> Vec<State> {
        self.states.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }
}
