//! The page of optimizers, schedules and what goes with them.

use std::fmt::Write;

use super::optimizer::Optimizer;
use super::parameters::Parameters;
use super::regularizer::{Clip, Regularizer};
use super::schedule::{Schedule, Warmup};
use super::second_order::{Lbfgs, Newton};

const HEAD: &str = "# Training functions

Made from the tables of optimizers and schedules; a test keeps this page fresh. `graphc grad` adds a training function to a model:

```console
$ graphc grad model.json --loss cross_entropy:logits --optimizer adamw:lr=3e-4 --schedule cosine:steps=5000,min_lr=1e-6 \\
    --warmup steps=200 --regularize max_norm=3 --clip norm=1 -o trained.json
```

The order within a step is: gradient of the loss, penalties (`--regularize`), clipping (`--clip`), the optimizer at the rate of
`--schedule` and `--warmup`, the bound on the parameters (`max_norm`). In Rust the same is `grad::UpdateRule`, as part of a
`grad::TrainingSpec` or by `ModuleBuilder::update_state` and `FunctionBuilder::apply`.

The learning rate is the state `learning_rate`, which may be set between steps (`--state learning_rate=0.01`); schedules
multiply or bound what it is. The state `step` counts the steps where an optimizer or a schedule asks for their number. What an
optimizer keeps of a parameter `w` is the state `w.<slot>`, of role `slot`. All of it is saved with the module.

";

const ACCUMULATION: &str = "## Accumulation

With `--accumulate mean` or `--accumulate sum` there are three functions over shared state in place of `train_step`, named as in
Torch7:

- `zero_grad_parameters()` sets the slots `<param>.gradient` and the count `accumulated` to zero;
- `acc_grad_parameters(inputs...) -> loss` adds the gradients of a batch to the slots;
- `update_parameters()` takes the step by the mean or the sum of what is accumulated, and fails where nothing is.

With `mean`, a loss that is a mean over the batch and batches of one size, the step is that of the joint batch.
";

const SECOND_ORDER: &str = "
## Second order

For losses that are functions of the parameters and of data that stay the same, such as logistic regression over all of its data.
`second_order::add_newton_step` and `add_lbfgs_step` add a function of the forward function's inputs to a module in Rust; each of
its runs is a step, with its loops in the graph. Outputs: the loss and `gradient_norm` before the step, `step_length`, which is
0 where no decrease was found, and `iterations` of the inner loop. A `Problem` may add l2 / 2 times the parameters' squares.

";

/// The page as Markdown.
pub fn training_reference() -> String {
    let mut page = HEAD.to_owned();
    page.push_str(
        "## Optimizers\n\n`--optimizer NAME:KEY=VALUE,...`; keys that are not given have their defaults.\n\n",
    );
    for optimizer in Optimizer::all() {
        section(&mut page, optimizer.parameters());
        let slots: Vec<String> = optimizer.slots().iter().map(|s| format!("`{}`", s.name)).collect();
        let _ = writeln!(page, "Slots with these defaults: {}.\n", slots.join(", "));
    }
    page.push_str("## Schedules\n\n`--schedule NAME:KEY=VALUE,...`; t is the number of steps taken before, lr the learning rate.\n\n");
    for schedule in Schedule::all() {
        section(&mut page, schedule.parameters());
    }
    page.push_str("### Warm-up: `--warmup KEY=VALUE,...`\n\n");
    body(&mut page, &Warmup::default());
    page.push_str("## Regularizers: `--regularize KEY=VALUE,...`\n\n");
    body(&mut page, &Regularizer::default());
    page.push_str("## Clipping: `--clip KEY=VALUE,...`\n\n");
    body(&mut page, &Clip::default());
    page.push_str(ACCUMULATION);
    page.push_str(SECOND_ORDER);
    section(&mut page, &Newton::default());
    section(&mut page, &Lbfgs::default());
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

fn section(page: &mut String, parameters: &dyn Parameters) {
    let _ = writeln!(page, "### `{}`\n", parameters.name());
    body(page, parameters);
}

fn body(page: &mut String, parameters: &dyn Parameters) {
    let _ = writeln!(page, "{}\n\n| key | default | range | |\n|---|---|---|---|", parameters.doc());
    for field in parameters.fields() {
        let default = field.default.unwrap_or_else(|| "must be given".into());
        let range = field.range.map_or("`true` or `false`".into(), |r| r.to_string());
        let _ =
            writeln!(page, "| `{}` | {default} | {range} | {} |", field.name, field.doc.replace('|', "\\|"));
    }
    page.push('\n');
}
