//! The generated page of optimizers and schedules is fresh, and what it says can be read.

use graphc_optimizer::grad::parameters::{Field, Parameters};
use graphc_optimizer::grad::{Clip, Optimizer, Regularizer, Schedule, Warmup, training_reference};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/training.md");

/// `GRAPHC_BLESS=1 cargo test -p graphc-optimizer --test training_reference` rewrites the page.
#[test]
fn the_page_is_fresh() {
    let wanted = training_reference();
    if std::env::var_os("GRAPHC_BLESS").is_some() {
        std::fs::write(PAGE, &wanted).expect("docs/training.md can be written");
    }
    let found = std::fs::read_to_string(PAGE).expect("docs/training.md is there");
    assert!(found == wanted, "docs/training.md is stale: run the tests with GRAPHC_BLESS=1");
}

/// A value for what has no default.
fn given(fields: &[Field]) -> String {
    let missing = fields.iter().filter(|f| f.default.is_none());
    missing
        .map(|f| format!("{}={}", f.name, if f.name == "gamma" { "0.5" } else { "7" }))
        .collect::<Vec<_>>()
        .join(",")
}

#[test]
fn what_is_written_is_read() {
    for optimizer in Optimizer::all() {
        assert_eq!(optimizer.to_string().parse(), Ok(optimizer.clone()), "{optimizer}");
        assert_eq!(optimizer.parameters().name().parse(), Ok(optimizer));
    }
    for schedule in Schedule::all() {
        let text = format!("{}:{}", schedule.parameters().name(), given(&schedule.parameters().fields()));
        let read: Schedule = text.parse().expect("it is complete");
        assert_eq!(read.to_string().parse(), Ok(read));
    }
}

fn optimizer(text: &str) -> Result<(), String> {
    text.parse::<Optimizer>().map(drop).map_err(|e| e.to_string())
}

fn schedule(text: &str) -> Result<(), String> {
    text.parse::<Schedule>().map(drop).map_err(|e| e.to_string())
}

#[test]
fn refusals_say_what_would_do() {
    let warmup = |text: &str| text.parse::<Warmup>().map(drop).map_err(|e| e.to_string());
    let regularizer = |text: &str| text.parse::<Regularizer>().map(drop).map_err(|e| e.to_string());
    let clip = |text: &str| text.parse::<Clip>().map(drop).map_err(|e| e.to_string());
    for (refused, parts) in [
        (optimizer("adm:lr=1"), &["no optimizer `adm`", "did you mean `adam`?"][..]),
        (optimizer("gradient"), &["there are sgd, adagrad"]),
        (optimizer("adam:beta3=0.9"), &["adam has no parameter `beta3`", "did you mean `beta"]),
        (optimizer("adam:beta1=1"), &["adam: `beta1` is 1", "above 0 and below 1"]),
        (optimizer("adam:eps=0"), &["`eps` is 0", "above 0"]),
        (optimizer("adam:lr=1,lr=2"), &["given twice"]),
        (optimizer("adam:lr=fast"), &["`fast`, which is not a number"]),
        (optimizer("adamw:amsgrad=maybe"), &["`true` or `false`"]),
        (optimizer("sgd:nesterov=true,momentum=0"), &["needs momentum without dampening"]),
        (optimizer("rprop:min_step=1,max_step=0.5"), &["above `max_step`"]),
        (schedule("cosin:steps=3"), &["did you mean `cosine`?"]),
        (schedule("cosine"), &["cosine needs `steps`", "Number of steps"]),
        (schedule("step:size=0"), &["`size` is 0", "at least 1"]),
        (schedule("step:size=1.5"), &["not a whole number"]),
        (schedule("multi_step:milestones=30+20"), &["20 follows 30"]),
        (schedule("multi_step:milestones=30+x"), &["joined by `+`"]),
        (schedule("exponential:gamma=0"), &["above 0"]),
        (schedule("one_cycle:steps=3"), &["no room"]),
        (schedule("one_cycle:steps=100,three_phase=true,pct_start=0.6"), &["three phase", "third"][1..]),
        (warmup(""), &["warmup needs `steps`"]),
        (warmup("steps=3,start=0"), &["above 0"]),
        (regularizer("l1=-1"), &["at least 0"]),
        (regularizer("max_norm=0"), &["above 0"]),
        (regularizer("maxnorm=1"), &["did you mean `max_norm`?"]),
        (clip("norm=0"), &["above 0"]),
    ] {
        let message = refused.expect_err("it is refused");
        assert!(parts.iter().all(|p| message.contains(p)), "{message} lacks one of {parts:?}");
    }
    let fields = Clip::default().fields();
    assert!(fields.iter().all(|f| f.default.is_some()));
}
