//! Running the binary, and small models to run it on.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// What a command left.
#[derive(Debug)]
pub struct Done {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A folder to work in.
pub struct Folder {
    folder: TempDir,
}

impl Folder {
    pub fn new() -> Folder {
        Folder { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file and returns its path.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Names of the files that are there, in order.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path()).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Runs `graphc` with these arguments in the folder.
    pub fn graphc(&self, args: &[&str]) -> Done {
        self.graphc_to(args, Stdio::piped())
    }

    /// As [`Folder::graphc`], with another standard output.
    pub fn graphc_to(&self, args: &[&str], stdout: Stdio) -> Done {
        let output = limited(self.path(), args).stdout(stdout).output().unwrap();
        Done {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Checks a model's text, which must be refused with this code and these words.
    #[track_caller]
    pub fn refuses(&self, text: impl AsRef<[u8]>, parts: &[&str]) {
        self.write("model.json", text.as_ref());
        let shown: String = String::from_utf8_lossy(text.as_ref()).chars().take(200).collect();
        self.graphc(&["check", "model.json"]).fails(65, parts, &shown);
    }
}

/// The binary under a limit of 2 GiB of address space.
pub fn limited(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -v 2097152; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_graphc")])
        .args(args)
        .current_dir(folder)
        .env_remove("GRAPHC_ISA")
        .stdin(Stdio::null());
    command
}

impl Done {
    /// It ended with this code, said all this, printed nothing, and did not panic.
    #[track_caller]
    pub fn fails(&self, code: i32, parts: &[&str], what: &str) {
        assert_eq!(self.code, Some(code), "{what}\n{self:?}");
        for part in parts {
            assert!(self.stderr.contains(part), "{what}: no `{part}` in\n{}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "{what}: {}", self.stderr);
        assert_eq!(self.stdout, "", "{what}");
    }

    /// It ended well; what it printed.
    #[track_caller]
    pub fn succeeds(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self:?}");
        &self.stdout
    }
}

/// A module of these functions (the members of an object) and this state (the elements of an array).
pub fn module(state: &str, functions: &str) -> String {
    format!(
        "{{\"format\": \"graphc.module\", \"version\": 1, \"producer\": \"test\", \"symbols\": {{}},\n\
         \"state\": [{state}],\n\"functions\": {{{functions}}}}}\n"
    )
}

/// The function `f`: inputs as `x:f32[2]`, nodes as JSON objects, one output `y`.
pub fn function(inputs: &[&str], nodes: &[&str], output: &str) -> String {
    let input = |i: &&str| {
        let (name, ty) = i.split_once(':').unwrap();
        format!("{{\"name\": \"{name}\", \"type\": \"{ty}\"}}")
    };
    let inputs: Vec<String> = inputs.iter().map(input).collect();
    format!(
        "\"f\": {{\"inputs\": [{}], \"nodes\": [\n{}\n], \"outputs\": {{\"y\": \"{output}\"}}, \"updates\": {{}}}}",
        inputs.join(", "),
        nodes.join(",\n")
    )
}

/// A module with the function `f` alone.
pub fn model(inputs: &[&str], nodes: &[&str], output: &str) -> String {
    module("", &function(inputs, nodes, output))
}

/// y = relu(x), of `f32[B,3]`.
pub fn relu() -> String {
    model(&["x:f32[B,3]"], &[r#"{"id": "y", "op": "relu", "in": ["x"]}"#], "y")
}

/// A counter: `f` adds x to the state `total` and gives the sum.
pub fn counter() -> String {
    let state = r#"{"name": "total", "role": "buffer", "type": "f32[2]", "init": {"data": [0.0, 0.0]}}"#;
    let f = function(&["x:f32[2]"], &[r#"{"id": "sum", "op": "add", "in": ["total", "x"]}"#], "sum");
    module(state, &f.replace("\"updates\": {}", "\"updates\": {\"total\": \"sum\"}"))
}
