//! Writes a model's file, or texts as tables that models of text are trained on.

use std::path::Path;
use std::process::ExitCode;

use graphc::Session;
use graphc::build::{Module, StateRole};
use graphc_models::{File, MODELS, text};

const USAGE: &str = "usage: graphc-models NAME FOLDER
       graphc-models text STEPS FOLDER FILE...

Writes FOLDER/NAME.json. Values of parameters and buffers in a file that is there are kept; resnet18 gets random
weights.

text: writes FOLDER/train.csv and, with the last tenth of each text, FOLDER/test.csv. A row has STEPS + 1 characters
by number; the last one is also the next row's first.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        ["text", steps, folder, ref files @ ..] if !files.is_empty() => {
            write_text(steps, Path::new(folder), files)
        }
        [name, folder] => write(name, Path::new(folder)),
        _ => {
            eprintln!("{USAGE}");
            for model in MODELS {
                eprintln!("  {:<22} {}", model.name, model.about);
            }
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn write_text(steps: &str, folder: &Path, files: &[&str]) -> Result<(), Box<dyn std::error::Error>> {
    let steps: usize = match steps.parse() {
        Ok(steps) if (1..=1_000_000).contains(&steps) => steps,
        _ => return Err(format!("STEPS is a number from 1 to 1000000, but is `{steps}`").into()),
    };
    let read = |path: &&str| std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}"));
    let texts = files.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    std::fs::create_dir_all(folder)?;
    for (name, part) in ["train.csv", "test.csv"].iter().zip(text::split(&texts)) {
        let (path, rows) = (folder.join(name), text::windows(&part, steps));
        std::fs::write(&path, text::table(&rows))?;
        eprintln!("wrote {}: {} rows", path.display(), rows.len());
    }
    Ok(())
}

fn write(name: &str, folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let model = graphc_models::find(name)?;
    let mut module = (model.build)()?;
    let path = folder.join(format!("{name}.json"));
    if model.file == File::Initialized {
        let mut session = Session::from_module(module.clone()).build()?;
        session.init(0)?;
        keep_values(&mut module, &session.snapshot()?);
    } else if path.exists() {
        keep_values(&mut module, &graphc::file::load(&path)?);
    }
    // Zeros that are as large as the parameters.
    module.state.iter_mut().filter(|decl| decl.role == StateRole::Slot).for_each(|decl| decl.init = None);
    std::fs::create_dir_all(folder)?;
    graphc::file::save(&module, &path)?;
    eprintln!("wrote {}", path.display());
    Ok(())
}

/// Trained values survive an edit of the graph, as far as names and types are the same. What only a
/// training in progress needs, its slots and keys, is left out: `init` sets it when the next one begins.
fn keep_values(module: &mut Module, old: &Module) {
    for decl in &mut module.state {
        let kept = matches!(decl.role, StateRole::Param | StateRole::Buffer);
        let same = old.state.iter().find(|o| kept && o.name == decl.name && o.ty == decl.ty);
        if let Some(value) = same.and_then(|o| o.init.clone()) {
            decl.init = Some(value);
        }
    }
}
