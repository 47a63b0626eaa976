//! Writes a model's file.

use std::path::Path;
use std::process::ExitCode;

use graphc::Session;
use graphc::build::{Module, StateRole};
use graphc_models::{File, MODELS};

const USAGE: &str = "usage: graphc-models NAME FOLDER

Writes FOLDER/NAME.json. Values of parameters and buffers in a file that is there are kept; resnet18 gets random
weights.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, folder] = arguments.as_slice() else {
        eprintln!("{USAGE}");
        for model in MODELS {
            eprintln!("  {:<22} {}", model.name, model.about);
        }
        return ExitCode::from(2);
    };
    match write(name, Path::new(folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn write(name: &str, folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let model = graphc_models::find(name)?;
    let mut module = (model.build)()?;
    let path = folder.join(format!("{name}.json"));
    if model.file == File::Initialized {
        let mut session = Session::from_module(module.clone()).build()?;
        session.init(0)?;
        keep_values(&mut module, &session.snapshot());
    } else if path.exists() {
        keep_values(&mut module, &graphc::file::load(&path)?);
    }
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
