//! Trainings that are killed at random instants, also while they save, and go on: each has to end with the bits of one
//! that nobody disturbed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use graphc_ir::random;

/// What is done.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// The binary.
    pub graphc: PathBuf,
    /// How many processes are killed.
    pub kills: usize,
    /// Epochs of a training.
    pub epochs: u64,
    /// What instants, pauses between saves and orders of rows follow from.
    pub seed: u64,
}

/// What happened.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Processes that were killed.
    pub kills: usize,
    /// Those of them that left traces of a save under way.
    pub in_saves: usize,
    /// Those of them after which the training went on from a later step than before.
    pub advanced: usize,
    /// Trainings that ended, each with the right bits.
    pub trainings: usize,
    /// Reports of epochs that were compared.
    pub reports: usize,
    /// The time of all.
    pub time: Duration,
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Findings { kills, in_saves, advanced, trainings, reports, time } = self;
        write!(
            f,
            "{kills} kills, {in_saves} of them in a save and {advanced} after progress that was kept; \
             {trainings} trainings ended with the same bits, {reports} reports agreed; {:.0} s",
            time.as_secs_f64()
        )
    }
}

const MODEL: &str = "digits_mlp";

/// Longest time that a process has to train and save, in seconds, beside three times the time that it takes to begin.
const LIFE: f64 = 0.1;

/// Pauses between saves, in seconds. Without one, a process does little but save.
const PAUSES: [f64; 4] = [0.0, 0.0, 0.02, 0.08];

/// Kills until there were enough, then lets the last training come to its end.
///
/// # Errors
/// What was wrong, and with which training.
pub fn run(campaign: &Campaign) -> Result<Findings, String> {
    let started = Instant::now();
    let mut findings = Findings::default();
    let mut draws = Draws { seed: campaign.seed, count: 0 };
    while findings.kills < campaign.kills {
        let seed = findings.trainings as u64 + 1;
        disturbed(campaign, seed, &mut draws, &mut findings)
            .map_err(|e| format!("training {seed}, after {} kills: {e}", findings.kills))?;
        findings.trainings += 1;
    }
    findings.time = started.elapsed();
    Ok(findings)
}

/// Uniform numbers in [0, 1).
struct Draws {
    seed: u64,
    count: u32,
}

impl Draws {
    fn next(&mut self) -> f64 {
        self.count += 1;
        let [word, _] = random::threefry2x32(random::key(self.seed), [self.count, 0]);
        f64::from(word) / 4_294_967_296.0
    }
}

/// One training: undisturbed, and killed.
fn disturbed(
    campaign: &Campaign,
    seed: u64,
    draws: &mut Draws,
    findings: &mut Findings,
) -> Result<(), String> {
    let (whole, killed) = (Folder::new()?, Folder::new()?);
    let expected = whole.train(campaign, seed, None, 10.0)?.ok_or("it did not end")?;
    // Everything but training.
    let beginning = Instant::now();
    whole.train(campaign, seed, None, 10.0)?;
    let longest = LIFE + 3.0 * beginning.elapsed().as_secs_f64();
    let mut seen = BTreeMap::new();
    loop {
        let life = (findings.kills < campaign.kills).then(|| draws.next() * longest);
        let pause = PAUSES[(draws.next() * PAUSES.len() as f64) as usize];
        let before = killed.steps()?;
        let ended = killed.train(campaign, seed, life, pause)?;
        for line in killed.log()? {
            let epoch = epoch(&line).ok_or_else(|| format!("`{line}` is no report"))?;
            if expected.get(&epoch) != Some(&line) {
                return Err(format!("`{line}` is not {:?}", expected.get(&epoch)));
            }
            seen.insert(epoch, line);
            findings.reports += 1;
        }
        if ended.is_some() {
            break;
        }
        findings.kills += 1;
        findings.in_saves += usize::from(killed.in_save()?);
        // Whole at every instant.
        findings.advanced += usize::from(killed.steps()? > before);
    }
    if seen != expected {
        return Err(format!("{} epochs were reported, not {}", seen.len(), expected.len()));
    }
    let (whole, killed) = (whole.contents()?, killed.contents()?);
    if whole.keys().ne(killed.keys()) {
        return Err(format!("the files {:?} are left, not {:?}", killed.keys(), whole.keys()));
    }
    match whole.iter().find(|(name, bytes)| killed[*name] != **bytes) {
        Some((name, _)) => Err(format!("{name} differs")),
        None => Ok(()),
    }
}

/// The number of the epoch that a line of the log reports.
fn epoch(line: &str) -> Option<u64> {
    line.strip_prefix("{\"epoch\": ")?.split_once(',')?.0.parse().ok()
}

/// A model of its own.
struct Folder {
    folder: tempfile::TempDir,
    /// Where the log of a process goes, which is no neighbour of the model.
    logs: tempfile::TempDir,
}

impl Folder {
    fn new() -> Result<Folder, String> {
        let new = || tempfile::tempdir().map_err(|e| e.to_string());
        let (folder, logs) = (new()?, new()?);
        let shipped = models().join(MODEL).join(format!("{MODEL}.json"));
        let module = graphc::file::load(&shipped).map_err(|e| e.to_string())?;
        let model = Folder { folder, logs };
        graphc::file::save(&module, &model.path()).map_err(|e| e.to_string())?;
        Ok(model)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("m.json")
    }

    fn log_path(&self) -> PathBuf {
        self.logs.path().join("log")
    }

    /// Goes on with the training, for this time if one is given. Returns the reports if it came to its end.
    fn train(
        &self,
        campaign: &Campaign,
        seed: u64,
        life: Option<f64>,
        pause: f64,
    ) -> Result<Option<BTreeMap<u64, String>>, String> {
        let failed = |e: std::io::Error| e.to_string();
        let mut data = OsString::from(models().join("data/digits.csv.gz"));
        data.push(":rows=0..898:x=0..64/16:y=64");
        let errors = self.logs.path().join("errors");
        let mut child = Command::new(&campaign.graphc)
            .arg("train")
            .arg(self.path())
            .arg("--data")
            .arg(data)
            .args(["--resume", "--json", "--threads", "1", "--batch", "30"])
            .args(["--epochs", &campaign.epochs.to_string(), "--seed", &seed.to_string()])
            .env("GRAPHC_SAVE_EVERY", pause.to_string())
            .stdin(Stdio::null())
            .stdout(fs::File::create(self.log_path()).map_err(failed)?)
            .stderr(fs::File::create(&errors).map_err(failed)?)
            .spawn()
            .map_err(|e| format!("{}: {e}", campaign.graphc.display()))?;
        if let Some(life) = life {
            sleep(Duration::from_secs_f64(life));
            child.kill().map_err(failed)?;
        }
        let status = child.wait().map_err(failed)?;
        match status.code() {
            Some(0) => {
                let lines = self.log()?.into_iter().filter_map(|line| Some((epoch(&line)?, line)));
                Ok(Some(lines.collect()))
            }
            // The end may have been there before the kill.
            None if life.is_some() => Ok(None),
            _ => Err(format!("{status}: {}", fs::read_to_string(errors).unwrap_or_default())),
        }
    }

    /// The whole lines of the last process.
    fn log(&self) -> Result<Vec<String>, String> {
        let text = fs::read_to_string(self.log_path()).map_err(|e| e.to_string())?;
        Ok(text.split_inclusive('\n').filter_map(|l| l.strip_suffix('\n')).map(str::to_owned).collect())
    }

    /// How many steps the file holds, which is a whole module.
    fn steps(&self) -> Result<i64, String> {
        let module = graphc::file::load(&self.path()).map_err(|e| format!("after a kill: {e}"))?;
        let number = |key: &str| match module.meta.get("training").and_then(|t| t.get(key)) {
            Some(graphc_ir::module::Meta::Int(n)) => *n,
            _ => 0,
        };
        Ok(number("epoch") * number("rows").max(1) + number("step"))
    }

    /// Whether a save was under way: there is a temporary file, or the lock names weights in doubt.
    fn in_save(&self) -> Result<bool, String> {
        let contents = self.contents()?;
        let temporary = contents.keys().any(|name| name.ends_with(".tmp"));
        let lock = contents.get(".m.lock").map(|text| text.iter().filter(|b| **b == b'\n').count());
        Ok(temporary || lock.is_some_and(|lines| lines > 1))
    }

    fn contents(&self) -> Result<BTreeMap<String, Vec<u8>>, String> {
        let mut contents = BTreeMap::new();
        for entry in fs::read_dir(self.folder.path()).map_err(|e| e.to_string())? {
            let entry = entry.map_err(|e| e.to_string())?;
            let bytes = fs::read(entry.path()).map_err(|e| e.to_string())?;
            contents.insert(entry.file_name().to_string_lossy().into_owned(), bytes);
        }
        Ok(contents)
    }
}

/// The folder of the shipped models.
fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models")
}
