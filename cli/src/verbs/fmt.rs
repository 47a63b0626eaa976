//! `graphc fmt`: the canonical form of a model.

use std::path::{Path, PathBuf};

use crate::array::read_file;
use crate::exit::{Exit, Failure, Result};
use crate::file::claim;
use crate::terminal::Terminal;

/// Options of `fmt`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model
    model: PathBuf,
    /// Writes the canonical form, with its weights beside it; it may be the model itself
    #[arg(short, long, value_name = "OUT.json")]
    output: Option<PathBuf>,
    /// Only says, by the exit code, whether the model is in canonical form
    #[arg(long, conflicts_with = "output")]
    check: bool,
}

/// Runs the verb.
pub fn run(args: &Args, terminal: &mut Terminal) -> Result<()> {
    let claim = args.output.as_deref().map(|path| claim(path, [])).transpose()?;
    let module = graphc::file::load(&args.model)?;
    if let Some(mut claim) = claim {
        return Ok(claim.save(&module)?);
    }
    let canonical = canonical(&module, &args.model)?;
    if !args.check {
        return terminal.print(&canonical);
    }
    if read_file(&args.model)? == canonical.as_bytes() {
        return Ok(());
    }
    let model = args.model.display();
    let message = format!("{model} is not in canonical form; `graphc fmt {model} -o {model}` makes it so");
    Err(Failure::new(Exit::Failed, message))
}

/// What saving under the same name would write: the name of the weights file follows from both.
fn canonical(module: &graphc::Module, model: &Path) -> Result<String> {
    let failed = |e: std::io::Error| Failure::new(Exit::Io, format!("the form cannot be made: {e}"));
    let folder = tempfile::tempdir().map_err(failed)?;
    let path = folder.path().join(model.file_name().unwrap_or_else(|| "model.json".as_ref()));
    graphc::file::save(module, &path)?;
    std::fs::read_to_string(&path).map_err(failed)
}
