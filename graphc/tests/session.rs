//! Sessions: feeds, state, specialization, and what a user is told when something is wrong.

mod common;

use common::{DEVICES, linear, matrix, session};
use graphc::build::{DType, ModuleBuilder, Tensor};
use graphc::{Device, ErrorKind, Session};

#[test]
fn the_same_function_runs_with_any_batch() {
    for device in DEVICES {
        let mut session = session(linear(), device);
        for batch in [1, 3, 2, 3] {
            let y = session.run("predict", [("x", &matrix(batch, 3, 1.0))]).unwrap();
            assert_eq!(y["y"].shape(), [batch, 2]);
            assert_eq!(y["y"].as_slice::<f32>()[..2], [9.5, 12.5], "{device}");
        }
    }
}

#[test]
fn updates_are_committed_all_at_once() {
    for device in DEVICES {
        let mut m = ModuleBuilder::new();
        m.value("a", Tensor::from_slice(&[2], &[1f32, 2.0])).unwrap();
        m.value("b", Tensor::from_slice(&[2], &[10f32, 20.0])).unwrap();
        m.function("swap", |f| {
            let (a, b) = (f.state("a")?, f.state("b")?);
            f.update("a", b)?;
            f.update("b", a)?;
            f.output("sum", a + b)
        })
        .unwrap();
        let mut session = session(m.finish().unwrap(), device);
        for round in 0..3 {
            assert_eq!(session.run("swap", []).unwrap()["sum"].as_slice::<f32>(), [11.0, 22.0]);
            let a = session.state("a").unwrap().unwrap().as_slice::<f32>().to_vec();
            assert_eq!(a, if round % 2 == 0 { [10.0, 20.0] } else { [1.0, 2.0] }, "{device} {round}");
        }
    }
}

#[test]
fn a_failing_run_leaves_the_state() {
    for device in DEVICES {
        let mut session = session(common::checked_counter(), device);
        let good = Tensor::from_slice(&[2], &[1f32, 2.0]);
        let bad = Tensor::from_slice(&[2], &[1f32, -2.0]);
        session.run("count", [("x", &good)]).unwrap();
        let error = session.run("count", [("x", &bad)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        assert!(error.to_string().contains("x must not be negative"), "{error}");
        let total = |s: &Session| s.state("total").unwrap().unwrap().as_slice::<f32>().to_vec();
        assert_eq!(total(&session), [1.0, 2.0], "{device}");
        session.run("count", [("x", &good)]).unwrap();
        assert_eq!(total(&session), [2.0, 4.0], "{device}");
    }
}

#[test]
fn staged_values_follow_the_state() {
    for device in DEVICES {
        let mut session = session(linear(), device);
        let x = matrix(2, 3, 1.0);
        let first = session.run("predict", [("x", &x)]).unwrap();
        let again = session.run("predict", [("x", &x)]).unwrap();
        assert_eq!(first, again);
        session.set_state("w", matrix(3, 2, 0.0)).unwrap();
        let y = session.run("predict", [("x", &x)]).unwrap();
        assert_eq!(y["y"].as_slice::<f32>(), [0.5, 0.5, 0.5, 0.5], "{device}");
        session.run("grow", []).unwrap();
        let y = session.run("predict", [("x", &x)]).unwrap();
        assert_eq!(y["y"].as_slice::<f32>(), [3.5, 3.5, 3.5, 3.5], "{device}");
    }
}

#[test]
fn several_threads_may_share_a_session() {
    for device in DEVICES {
        let session = session(linear(), device);
        let x = matrix(2, 3, 1.0);
        let expected = session.run_shared("predict", [("x", &x)]).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        assert_eq!(session.run_shared("predict", [("x", &x)]).unwrap(), expected);
                    }
                });
            }
        });
        let error = session.run_shared("grow", []).unwrap_err();
        assert!(error.kind() == ErrorKind::Usage && error.to_string().contains("updates state"), "{error}");
    }
}

#[test]
fn wrong_feeds_are_told_with_a_remedy() {
    let mut session = session(linear(), Device::Reference);
    let x = matrix(2, 3, 1.0);
    let wide = matrix(2, 4, 1.0);
    let flat = Tensor::from_slice(&[3], &[1f32; 3]);
    let ints = Tensor::zeros(DType::I32, &[2, 3]);
    type Feeds<'a> = Vec<(&'a str, &'a Tensor)>;
    let cases: [(Feeds<'_>, ErrorKind, &[&str]); 7] = [
        (vec![], ErrorKind::Usage, &["`x`", "is not fed", "f32[B,3]"]),
        (vec![("xx", &x)], ErrorKind::Usage, &["no input `xx`", "did you mean `x`?", "is not fed"]),
        (vec![("x", &x), ("weights", &x)], ErrorKind::Usage, &["no input `weights`", "there are: `x`"]),
        (vec![("x", &x), ("x", &x)], ErrorKind::Usage, &["fed twice"]),
        (vec![("x", &ints)], ErrorKind::Data, &["f32[B,3]", "i32[2,3]", "convert it to f32"]),
        (vec![("x", &wide)], ErrorKind::Data, &["axis 1 of `x` has size 4", "declared 3"]),
        (vec![("x", &flat)], ErrorKind::Data, &["rank 1", "[B,3]"]),
    ];
    for (feeds, kind, parts) in cases {
        let error = session.run("predict", feeds).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        for part in parts {
            assert!(error.to_string().contains(part), "`{part}` is not in `{error}`");
        }
    }
    let error = session.run("predikt", [("x", &x)]).unwrap_err().to_string();
    assert!(error.contains("did you mean `predict`?"), "{error}");
    let mut outputs = [Tensor::zeros(DType::F32, &[3, 2])];
    let error = session.run_into("predict", &[("x", &x)], &mut outputs).unwrap_err().to_string();
    assert!(error.contains("is f32[2,2]") && error.contains("is f32[3,2]"), "{error}");
}

#[test]
fn contradictory_sizes_name_both_sources() {
    let mut m = ModuleBuilder::new();
    m.function("f", |f| {
        let (a, b) = (f.input("a", "f32[N]")?, f.input("b", "f32[N]")?);
        f.output("y", a + b)
    })
    .unwrap();
    let mut session = session(m.finish().unwrap(), Device::Reference);
    let (a, b) = (Tensor::zeros(DType::F32, &[2]), Tensor::zeros(DType::F32, &[3]));
    let error = session.run("f", [("a", &a), ("b", &b)]).unwrap_err().to_string();
    assert!(error.contains("axis 0 of `a`") && error.contains("axis 0 of `b`"), "{error}");
}

#[test]
fn state_without_a_value_is_set_by_init() {
    for device in DEVICES {
        let mut session = session(common::with_init(), device);
        assert_eq!(session.unset_state(), ["key", "w"]);
        let error = session.run("read", []).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        assert!(error.to_string().contains("`w`") && error.to_string().contains("`init`"), "{error}");
        session.init_missing(7).unwrap();
        let first = session.run("read", []).unwrap();
        assert_eq!(first["kept"].as_slice::<f32>(), [5.0], "what had a value keeps it");
        session.init(7).unwrap();
        let second = session.run("read", []).unwrap();
        assert_eq!(second["kept"].as_slice::<f32>(), [0.0]);
        assert_eq!(first["w"], second["w"], "the same seed gives the same values");
        session.init(8).unwrap();
        assert_ne!(session.run("read", []).unwrap()["w"], first["w"]);
    }
}

#[test]
fn state_that_init_does_not_set_is_named() {
    let mut m = ModuleBuilder::new();
    m.param("w", "f32[2]").unwrap();
    m.function("read", |f| f.output("y", f.state("w")?)).unwrap();
    let error =
        Session::from_module(m.finish().unwrap()).device(Device::Reference).seed(0).build().unwrap_err();
    assert!(
        error.kind() == ErrorKind::Data && error.to_string().contains("state `w` has no value"),
        "{error}"
    );
}

#[test]
fn state_takes_values_of_its_type_only() {
    let mut session = session(linear(), Device::Reference);
    for (name, value, part) in [
        ("w", matrix(2, 3, 0.0), "axis 0 of `w` has size 2"),
        ("w", Tensor::zeros(DType::F64, &[3, 2]), "convert it to f32"),
        ("ww", matrix(3, 2, 0.0), "did you mean `w`?"),
    ] {
        let error = session.set_state(name, value).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_saved_session_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.json");
    let mut session = session(linear(), Device::Reference);
    session.run("grow", []).unwrap();
    session.save(&path).unwrap();
    let mut opened = Session::open(&path).unwrap().device(Device::Reference).build().unwrap();
    let x = matrix(1, 3, 1.0);
    assert_eq!(session.run("predict", [("x", &x)]).unwrap(), opened.run("predict", [("x", &x)]).unwrap());
    assert_eq!(session.save(folder.path()).unwrap_err().kind(), ErrorKind::Create);
    let missing = folder.path().join("missing.json");
    assert_eq!(Session::open(&missing).unwrap_err().kind(), ErrorKind::NotFound);
    std::fs::write(&path, "{}").unwrap();
    assert_eq!(Session::open(&path).unwrap_err().kind(), ErrorKind::Data);
}

#[test]
fn devices_and_threads_out_of_reach_are_errors() {
    let open = |device, threads| Session::from_module(linear()).device(device).threads(threads).build();
    if cfg!(not(feature = "gpu")) {
        let error = open(Device::Gpu, 1).unwrap_err();
        let text = error.to_string();
        assert!(error.kind() == ErrorKind::Device && text.contains("gpu is not available"), "{text}");
    }
    for threads in [0, 1_000_000] {
        let error = open(Device::Cpu, threads).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    }
    let error = Session::from_module(linear()).dim("C", 3).build().unwrap_err().to_string();
    assert!(error.contains("no dim `C`") && error.contains("B"), "{error}");
}

#[test]
fn what_needs_too_much_memory_is_refused_before() {
    for device in DEVICES {
        let options = graphc::Options { memory_limit: Some(1 << 16), ..Default::default() };
        let mut session = Session::from_module(linear()).device(device).options(options).build().unwrap();
        session.run("predict", [("x", &matrix(2, 3, 1.0))]).unwrap();
        let error = session.run("predict", [("x", &matrix(100_000, 3, 1.0))]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Device, "{error}");
        assert!(error.to_string().contains("64.0 KiB may be used"), "{error}");
    }
}

#[test]
fn plans_tell_what_a_run_costs() {
    let session = session(linear(), Device::Cpu);
    let plan = session.plan("predict", [("B", 4)]).unwrap();
    assert_eq!(plan.state_bytes, 4 * (6 + 2));
    assert_eq!(plan.kernels.get("dot"), Some(&1), "{}", plan.dump);
    assert!(plan.steps >= 1 && plan.peak_bytes >= plan.state_bytes && plan.dump.contains("dot"));
    let error = session.plan("predict", []).unwrap_err().to_string();
    assert!(error.contains("`B`"), "{error}");
}

#[test]
fn compiled_functions_are_kept_within_a_budget() {
    let options = graphc::Options { cache_bytes: 1, ..Default::default() };
    let mut session =
        Session::from_module(linear()).device(Device::Reference).options(options).build().unwrap();
    for batch in [1, 2, 1, 2] {
        let y = session.run("predict", [("x", &matrix(batch, 3, 1.0))]).unwrap();
        assert_eq!(y["y"].shape(), [batch, 2]);
    }
}
