//! The text dump and the content hash.

use super::fixtures::*;
use crate::origin::Origins;
use crate::program::*;
use crate::scalar::Scalar;

#[test]
fn the_dump_of_a_training_step() {
    let dump = training_step().dump();
    let expected = "\
program: 6 steps, commit 5, arena 320 bytes, live 0 bytes
inputs [b0] outputs [b6]
b0: f32[4,3] input 0
b1: f32[3,5] state 0
b2: f32[5] state 1
b3: f32[3,5] panels(128 bytes) temp @0
b4: f32[4,5] temp @128
b5: f32[4,5] temp @128
b6: f32[4,5] output 0
b7: f32[5] temp @0
step 0: repack [reference] batch [] k 3 n 5 from `node0`
  read 0: b1 offset 0 strides [5,1]
  write 0: b3 offset 0 strides [5,1]
step 1: dot [reference] batch [] m 4 n 5 k 3 from `node1`
  read 0: b0 offset 0 strides [3,1]
  read 1: b3 offset 0 strides [5,1]
  read 2: b2 offset 0 strides [0,1]
  write 0: b4 offset 0 strides [5,1]
  scratch 64 bytes @256, error class 0.0
  %0 = acc : f32 elem
  %1 = load 2 : f32 col
  %2 = add %0 %1 : f32 elem
  %3 = relu %2 : f32 elem
  store %3 to 0
step 2: map [reference] rows [4] cols [5] from `node2`
  read 0: b4 offset 0 strides [5,1]
  write 0: b5 offset 0 strides [5,1]
  in place: write 0 over read 0
  %0 = load 0 : f32 elem
  %1 = exp %0 : f32 elem
  store %1 to 0
step 3: rows [reference] rows [4] cols [5] from `node3`
  read 0: b5 offset 0 strides [5,1]
  write 0: b6 offset 0 strides [5,1]
  %0 = load 0 : f32 elem
  %1 = fold sum over cols %0 : f32 row
  %2 = div %0 %1 : f32 elem
  %3 = const 1000000.0 : f32 scalar
  %4 = lt %1 %3 : bool row
  check %4 \"the row sums are below 1e6\"
  store %2 to 0
step 4: reduce [reference] rows [4] cols [5] from `node4`
  read 0: b5 offset 0 strides [5,1]
  write 0: b7 offset 0 strides [0,1]
  %0 = load 0 : f32 elem
  %1 = fold sum over rows %0 : f32 col post
  store %1 to 0
step 5: map [reference] rows [] cols [5] from `node5`
  read 0: b2 offset 0 strides [1]
  read 1: b7 offset 0 strides [1]
  write 0: b2 offset 0 strides [1]
  %0 = load 0 : f32 elem
  %1 = load 1 : f32 elem
  %2 = const 0.1 : f32 scalar
  %3 = mul %1 %2 : f32 elem
  %4 = sub %0 %3 : f32 elem
  store %4 to 0
";
    assert_eq!(dump, expected);
}

#[test]
fn the_dump_nests_loops() {
    let dump = recurrence(true).dump();
    let lines: Vec<&str> = dump.lines().skip(7).take(6).collect();
    assert_eq!(lines[0], "step 0: loop [reference] length 3 reverse invariants 1 carries 1 from `node0`");
    assert!(dump.contains("\n  program: 1 steps, commit 1, arena 0 bytes, live 0 bytes\n"), "{dump}");
    assert!(dump.contains("\n    %0 = load 0 : f32 elem\n"), "{dump}");
}

#[test]
fn the_hash_ignores_names_and_nothing_else() {
    let hash = training_step().content_hash();
    let mut p = training_step();
    p.steps[0].origins = Origins::named("another name");
    assert_eq!(p.content_hash(), hash);
    let changes: [fn(&mut Program); 4] = [
        |p| p.commit = 6,
        |p| p.plan.arena_bytes += 64,
        |p| p.steps[2].choice.algo = "tiles",
        |p| {
            let Kernel::Nest(n) = &mut p.steps[5].kernel else { return };
            n.body.insts[2].op = InstOp::Const(Scalar::F(0.2));
        },
    ];
    for (i, change) in changes.into_iter().enumerate() {
        let mut p = training_step();
        change(&mut p);
        assert_ne!(p.content_hash(), hash, "change {i}");
    }
}
