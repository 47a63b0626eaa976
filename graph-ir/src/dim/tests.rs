use std::collections::BTreeMap;

use super::*;

fn dim(text: &str) -> Dim {
    Dim::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn symbol(name: &str) -> Symbol {
    Symbol::new(name).expect("a symbol name")
}

fn bound(values: &[(&str, i64)]) -> Binding {
    let mut binding = Binding::new();
    for (name, value) in values {
        let place = format!("axis 0 of `{}`", name.to_lowercase());
        binding.set(&symbol(name), *value, &place).expect("a fresh symbol");
    }
    binding
}

fn at_least(lowers: &[(&str, i64)]) -> Bounds {
    let mut bounds = Bounds::new();
    for (name, lower) in lowers {
        bounds.declare(&symbol(name), *lower);
    }
    bounds
}

#[test]
fn normal_form_and_text() {
    for (text, canonical) in [
        ("32", "32"),
        (" B ", "B"),
        ("1+2*B", "2*B+1"),
        ("(B+1)*(B-1)", "B*B-1"),
        ("B-B", "0"),
        ("-B+4", "4-B"),
        ("-B-4", "-B-4"),
        ("H*B+B*H", "2*B*H"),
        ("floor((4*B)/2)", "2*B"),
        ("floor((4*B+3)/4)", "B"),
        ("floor((2*B+1)/4)", "floor(B/2)"),
        ("floor(-7/2)", "-4"),
        ("floor((H-3)/2)+1", "floor((H+1)/2)-1"),
        ("floor((floor((H-1)/2)+1-1)/2)+1", "floor((H+3)/4)"),
        ("floor((floor(A/2)+floor(B/3))/5)", "floor((floor(A/2)+floor(B/3))/5)"),
        ("B*floor(B/2)*floor(B/2)", "B*floor(B/2)*floor(B/2)"),
        ("-9223372036854775808*B", "-9223372036854775808*B"),
        ("9223372036854775807+1-1", "9223372036854775807"),
    ] {
        let parsed = dim(text);
        assert_eq!(parsed.to_string(), canonical, "{text}");
        assert_eq!(dim(canonical), parsed, "{text}");
    }
}

#[test]
fn overflow_is_an_error() {
    let huge = Dim::constant(1 << 32);
    assert!(matches!(huge.mul(&huge), Err(DimError::Overflow { .. })));
    assert!(matches!(Dim::product_of([&huge, &huge, &Dim::ZERO]), Err(DimError::Overflow { .. })));
    let most = Dim::constant(i64::MAX);
    assert!(most.add(&Dim::ONE).is_err());
    assert!(Dim::constant(i64::MIN).sub(&Dim::ONE).is_err());
    let area = dim("B*H");
    let error = area.bind(&bound(&[("B", 1 << 40), ("H", 1 << 40)]));
    assert_eq!(
        error.expect_err("2^80").to_string(),
        "the dimension B*H (with B = 1099511627776 by axis 0 of `b`, H = 1099511627776 by axis 0 \
         of `h`) does not fit a 64-bit integer"
    );
    assert_eq!(
        dim("A*B*C*D").bind(&bound(&[("A", i64::MAX), ("B", i64::MAX), ("C", i64::MAX), ("D", 0)])),
        Ok(0)
    );
}

#[test]
fn complexity_is_limited() {
    let b = dim("B");
    let mut power = b.clone();
    let error = loop {
        match power.mul(&b) {
            Ok(next) => power = next,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, DimError::TooComplex { .. }));

    let mut nested = b;
    let error = loop {
        let next = nested.mul(&Dim::from(2)).and_then(|d| d.add(&dim("C")));
        match next.and_then(|d| d.floor_div(3)) {
            Ok(next) => nested = next,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, DimError::TooComplex { .. }));
    assert_eq!(dim(&nested.to_string()), nested);
}

#[test]
fn divisors_are_positive() {
    assert!(matches!(dim("B").floor_div(0), Err(DimError::BadDivisor { divisor: 0, .. })));
    assert_eq!(dim("B+2*H").floor_div(1), Ok(dim("2*H+B")));
    assert_eq!(dim("B").ceil_div(4), Ok(dim("floor((B+3)/4)")));
}

#[test]
fn bounds_of_dims() {
    let bounds = at_least(&[("B", 1), ("K", 3)]);
    for (text, lower, upper) in [
        ("7", Some(7), Some(7)),
        ("B", Some(1), None),
        ("H", Some(0), None),
        ("2*B*K+H-1", Some(5), None),
        ("4-B", None, Some(3)),
        ("B*B-B", Some(0), None),
        ("K-B", None, None),
        ("floor((K+1)/2)", Some(2), None),
        ("H-floor(H/2)", Some(0), None),
        ("floor(H/2)-H", None, Some(0)),
        ("H-2*floor(H/2)", Some(0), Some(1)),
        ("B*H-3*B*floor(H/3)", Some(0), None),
        ("floor((H-5)/2)", Some(-3), None),
    ] {
        let dim = dim(text);
        assert_eq!(dim.lower_bound(&bounds), lower, "lower of {text}");
        assert_eq!(dim.upper_bound(&bounds), upper, "upper of {text}");
    }
}

#[test]
fn proofs() {
    let none = Bounds::new();
    let positive = at_least(&[("B", 1)]);
    for (a, b, bounds, equal, at_most) in [
        ("B+1", "1+B", &none, Truth::Yes, Truth::Yes),
        ("B", "B+1", &none, Truth::No, Truth::Yes),
        ("B", "H", &none, Truth::Unknown, Truth::Unknown),
        ("B", "0", &none, Truth::Unknown, Truth::Unknown),
        ("B", "0", &positive, Truth::No, Truth::No),
        ("2*B", "2*H+1", &none, Truth::No, Truth::Unknown),
        ("floor(B/2)", "B", &none, Truth::Unknown, Truth::Yes),
    ] {
        let (a, b) = (dim(a), dim(b));
        assert_eq!(proves_eq(&a, &b, bounds), equal, "{a} = {b}");
        assert_eq!(proves_le(&a, &b, bounds), at_most, "{a} <= {b}");
    }
    assert_eq!(proves_divisible(&dim("4*B+8"), 4), Truth::Yes);
    assert_eq!(proves_divisible(&dim("4*B+2"), 4), Truth::No);
    assert_eq!(proves_divisible(&dim("2*B+1"), 4), Truth::No);
    assert_eq!(proves_divisible(&dim("2*B"), 4), Truth::Unknown);
    assert_eq!(proves_divisible(&dim("0"), 0), Truth::No);
}

#[test]
fn binding_and_substitution() {
    let pooled = dim("B*floor((H-1)/2)+1");
    assert_eq!(pooled.bind(&bound(&[("B", 3), ("H", 8)])), Ok(10));
    assert_eq!(
        pooled.bind(&bound(&[("B", 3)])).expect_err("H").to_string(),
        format!("the size of `H` is not known, so {pooled} has no value: bind `H`")
    );
    let replacements = BTreeMap::from([(symbol("H"), dim("2*W+1"))]);
    assert_eq!(pooled.substitute(&replacements), Ok(dim("B*W+1")));
    assert_eq!(dim("4-B").bind_size(&bound(&[("B", 4)])), Ok(0));
    assert_eq!(
        dim("4-B").bind_size(&bound(&[("B", 5)])).expect_err("negative").to_string(),
        "the size 4-B is -1, below 0 (with B = 5 by axis 0 of `b`)"
    );
    let mut binding = bound(&[("B", 4)]);
    assert_eq!(
        binding.set(&symbol("B"), 5, "axis 0 of `y`").expect_err("two values").to_string(),
        "`B` is 5 by axis 0 of `y`, but 4 by axis 0 of `b`"
    );
    assert!(binding.set(&symbol("C"), -1, "the caller").is_err());
    let mut same = Binding::new();
    same.set(&symbol("B"), 4, "elsewhere").expect("fresh");
    assert_eq!(same, binding);
    let errors = at_least(&[("B", 5)]).check(&binding).expect_err("4 < 5");
    assert_eq!(errors[0].to_string(), "`B` is 4 by axis 0 of `b`, but is declared `B>=5`");
}

#[test]
fn requirements() {
    let bounds = Bounds::new();
    let (b, h, why) = (dim("B"), dim("H"), "the operands of `add`");
    let mut requires = Requires::new();
    requires.require_eq(&b, &b, why, &bounds).expect("proved");
    requires.require_divisible(&dim("4*B"), 2, why, &bounds).expect("proved");
    requires.require_at_least(&b, 0, why, &bounds).expect("proved");
    assert!(requires.is_empty());

    let error = requires.require_eq(&dim("2*B"), &dim("2*B+3"), why, &bounds);
    assert_eq!(
        error.expect_err("disproved").to_string(),
        "2*B = 2*B+3 can never hold; it is required by the operands of `add`"
    );
    assert!(requires.require_divisible(&b, 0, why, &bounds).is_err());

    requires.require_eq(&b, &h, why, &bounds).expect("open");
    requires.require_eq(&h, &b, "again", &bounds).expect("open");
    requires.require_divisible(&b, 3, "`split`", &bounds).expect("open");
    requires.require_at_least(&h, 2, "`pool`", &bounds).expect("open");
    assert_eq!(requires.len(), 3);

    assert_eq!(requires.check(&bound(&[("B", 3), ("H", 3)])), Ok(()));
    let errors = requires.check(&bound(&[("B", 4), ("H", 1)]));
    let errors: Vec<_> = errors.expect_err("all three").iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "B = H does not hold: 4 is not 1 (with B = 4 by axis 0 of `b`, H = 1 by axis 0 of \
             `h`); it is required by the operands of `add`",
            "B divisible by 3 does not hold: 4 is not a multiple of 3 (with B = 4 by axis 0 of \
             `b`); it is required by `split`",
            "H >= 2 does not hold: 1 is below 2 (with H = 1 by axis 0 of `h`); it is required by \
             `pool`",
        ]
    );

    let inlined = requires.substitute(&BTreeMap::from([(symbol("H"), b.clone())]), &bounds);
    assert_eq!(inlined.expect("still open").len(), 2);
    let fixed = BTreeMap::from([(symbol("B"), Dim::from(4))]);
    assert!(matches!(requires.substitute(&fixed, &bounds), Err(DimError::Impossible { .. })));
}

#[test]
fn feeds_bind_symbols() {
    let mut binding = Binding::new();
    let solved = unify(&dim("2*B+1"), 9, "axis 0 of `x`", &mut binding);
    assert_eq!((solved, binding.get("B")), (Ok(()), Some(4)));

    let image = [dim("N*T"), dim("T"), dim("floor((N+1)/2)")];
    let mut binding = Binding::new();
    bind_shape("image", &image, &[12, 3, 2], &mut binding).expect("consistent");
    assert_eq!((binding.get("N"), binding.get("T")), (Some(4), Some(3)));

    for (dims, sizes, message) in [
        ("f32[B,784]", &[4_usize, 785][..], "axis 1 of `x` has size 785, but is declared 784"),
        (
            "f32[B,B]",
            &[4, 5],
            "axis 1 of `x` has size 5, but is declared B, which is 4 (with B = 4 by axis 0 of `x`)",
        ),
        (
            "f32[2*B+1]",
            &[8],
            "axis 0 of `x` has size 8, but 2*B+1 = 8 has no solution for `B` among the integers \
             from 0",
        ),
        (
            "f32[B+3]",
            &[1],
            "axis 0 of `x` has size 1, but B+3 = 1 has no solution for `B` among the integers \
             from 0",
        ),
        (
            "f32[floor(B/2)]",
            &[4],
            "axis 0 of `x` has size 4, but floor(B/2) = 4 does not determine `B`: let another \
             input have `B` as an axis",
        ),
        ("f32[B,784]", &[4], "`x` has rank 1 (shape [4]), but is declared [B,784] of rank 2"),
        (
            "f32[B]",
            &[usize::MAX],
            "axis 0 of `x` has size 18446744073709551615, which does not fit a 64-bit signed \
             integer",
        ),
    ] {
        let (_, dims) = parse_type(dims).expect("a type");
        let mut binding = Binding::new();
        let error = bind_shape("x", &dims, sizes, &mut binding).expect_err(message);
        assert_eq!(error.to_string(), message);
        assert!(binding.is_empty(), "{message}");
    }
}

#[test]
fn types() {
    assert_eq!(parse_type("f32[B, 784]"), Ok(("f32", vec![dim("B"), dim("784")])));
    for text in ["f32", "f32[]", " f32 [ ] "] {
        assert_eq!(parse_type(text), Ok(("f32", vec![])), "{text}");
    }
    assert_eq!(format_type("f32", &[]), "f32[]");
    assert_eq!(format_type("i64", &[dim("B+1"), dim("3")]), "i64[B+1,3]");
    let wide = format!("f32[{}1]", "1,".repeat(999));
    assert_eq!(parse_type(&wide).map(|(_, dims)| dims.len()), Ok(1000));
    let endless = format!("f32[{}1]", "1,".repeat(MAX_TEXT));
    assert!(parse_type(&endless).is_err());
}

#[test]
fn malformed_text() {
    let nested = format!("{}B{}", "(".repeat(10_000), ")".repeat(10_000));
    let endless = "B+".repeat(MAX_TEXT);
    for (text, at) in [
        ("", 0),
        ("B+", 2),
        ("B C", 2),
        ("(B", 2),
        ("B)", 1),
        ("2*-B", 2),
        ("2B", 1),
        ("B/2", 1),
        ("floor(B)", 7),
        ("floor(B+1/2)", 7),
        ("floor(B/0)", 8),
        ("floor(B/C)", 8),
        ("floor", 5),
        ("9223372036854775808", 0),
        ("9223372036854775807*B*2", 22),
        ("1+9223372036854775807", 0),
        ("B+é", 2),
        (nested.as_str(), 64),
        (endless.as_str(), MAX_TEXT),
    ] {
        let error = Dim::parse(text).expect_err(text);
        assert_eq!(error.at, at, "{text}: {error}");
    }
    for (text, at) in [
        ("", 0),
        ("[2]", 0),
        ("f32[", 4),
        ("f32[2,]", 6),
        ("f32[2]]", 6),
        ("f32[-1]", 4),
        ("f32[2;3]", 5),
        ("f32[2, -1-B]", 7),
    ] {
        let error = parse_type(text).expect_err(text);
        assert_eq!(error.at, at, "{text}: {error}");
    }
    for name in ["", "2B", "B-1", "floor", "é"] {
        assert!(Dim::symbol(name).is_err(), "{name}");
    }
    assert!(Dim::symbol(&"B".repeat(MAX_SYMBOL + 1)).is_err());
}
