//! Laws that must hold for all dimensions: random expressions against their evaluation.

use proptest::prelude::*;

use super::*;

const NAMES: [&str; 3] = ["A", "B", "C"];

/// An expression before it is brought to normal form.
#[derive(Debug, Clone)]
enum Expr {
    Number(i64),
    Symbol(usize),
    Add(Box<Expr>, Box<Expr>),
    Sub(Box<Expr>, Box<Expr>),
    Mul(Box<Expr>, Box<Expr>),
    Floor(Box<Expr>, i64),
}

impl Expr {
    fn dim(&self) -> Result<Dim, DimError> {
        match self {
            Self::Number(value) => Ok(Dim::constant(*value)),
            Self::Symbol(index) => Dim::symbol(NAMES[*index]),
            Self::Add(a, b) => a.dim()?.add(&b.dim()?),
            Self::Sub(a, b) => a.dim()?.sub(&b.dim()?),
            Self::Mul(a, b) => a.dim()?.mul(&b.dim()?),
            Self::Floor(numerator, divisor) => numerator.dim()?.floor_div(*divisor),
        }
    }

    fn value(&self, values: [i64; 3]) -> i128 {
        match self {
            Self::Number(value) => (*value).into(),
            Self::Symbol(index) => values[*index].into(),
            Self::Add(a, b) => a.value(values) + b.value(values),
            Self::Sub(a, b) => a.value(values) - b.value(values),
            Self::Mul(a, b) => a.value(values) * b.value(values),
            Self::Floor(numerator, divisor) => numerator.value(values).div_euclid((*divisor).into()),
        }
    }
}

fn exprs() -> impl Strategy<Value = Expr> {
    let leaf = prop_oneof![(-9_i64..=9).prop_map(Expr::Number), (0..NAMES.len()).prop_map(Expr::Symbol),];
    leaf.prop_recursive(4, 16, 2, |inner| {
        let pair = || (inner.clone(), inner.clone()).prop_map(|(a, b)| (Box::new(a), Box::new(b)));
        prop_oneof![
            pair().prop_map(|(a, b)| Expr::Add(a, b)),
            pair().prop_map(|(a, b)| Expr::Sub(a, b)),
            pair().prop_map(|(a, b)| Expr::Mul(a, b)),
            (inner.clone(), 1_i64..=6).prop_map(|(e, c)| Expr::Floor(Box::new(e), c)),
        ]
    })
}

fn dims() -> impl Strategy<Value = Dim> {
    exprs().prop_filter_map("too complex", |expr| expr.dim().ok())
}

fn sizes() -> impl Strategy<Value = [i64; 3]> {
    [0_i64..40, 0_i64..40, 0_i64..40]
}

fn binding_of(values: [i64; 3]) -> Binding {
    let mut binding = Binding::new();
    for (name, value) in NAMES.iter().zip(values) {
        let symbol = Symbol::new(name).expect("a symbol name");
        binding.set(&symbol, value, "a test").expect("fresh");
    }
    binding
}

fn bounds_of(lowers: [i64; 3]) -> Bounds {
    let mut bounds = Bounds::new();
    for (name, lower) in NAMES.iter().zip(lowers) {
        bounds.declare(&Symbol::new(name).expect("a symbol name"), lower);
    }
    bounds
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn normal_form_keeps_the_value(expr in exprs(), values in sizes()) {
        let Ok(dim) = expr.dim() else { return Ok(()) };
        let value = dim.bind(&binding_of(values)).map(i128::from);
        prop_assert_eq!(value, Ok(expr.value(values)), "{}", dim);
    }

    #[test]
    fn ring_laws_are_structural(a in dims(), b in dims(), c in dims()) {
        let (Ok(ab), Ok(bc)) = (a.mul(&b), b.mul(&c)) else { return Ok(()) };
        prop_assert_eq!(&ab, &b.mul(&a).expect("fits"));
        prop_assert_eq!(a.add(&b), b.add(&a));
        if let (Ok(left), Ok(right)) = (ab.mul(&c), a.mul(&bc)) {
            prop_assert_eq!(left, right);
        }
        if let (Ok(ac), Ok(sum)) = (a.mul(&c), a.add(&b))
            && let (Ok(left), Ok(right)) = (sum.mul(&c), ac.add(&bc))
        {
            prop_assert_eq!(left, right);
        }
        prop_assert_eq!(a.sub(&a), Ok(Dim::ZERO));
    }

    #[test]
    fn multiples_leave_the_floor(a in dims(), b in dims(), c in 1_i64..12) {
        let scaled = b.mul(&Dim::constant(c)).and_then(|multiple| a.add(&multiple));
        if let (Ok(scaled), Ok(quotient)) = (scaled, a.floor_div(c)) {
            prop_assert_eq!(scaled.floor_div(c), quotient.add(&b));
        }
    }

    #[test]
    fn floors_of_floors_flatten(numbers in (0_i64..50, 1_i64..9, 0_i64..50, 1_i64..9)) {
        let (r, a, s, b) = numbers;
        let plus = |dim: Dim, n: i64| dim.add(&Dim::constant(n)).expect("small");
        let x = Dim::symbol("A").expect("a symbol name");
        let inner = plus(x.clone(), r).floor_div(a).expect("small");
        let nested = plus(inner, s).floor_div(b);
        prop_assert_eq!(nested, plus(x, r + a * s).floor_div(a * b));
    }

    #[test]
    fn text_round_trips(dim in dims()) {
        let text = dim.to_string();
        prop_assert_eq!(Dim::parse(&text), Ok(dim), "{}", text);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[-+*/(),AB019 floor\\[\\]é]{0,40}") {
        if let Ok(dim) = Dim::parse(&text) {
            prop_assert_eq!(Dim::parse(&dim.to_string()), Ok(dim));
        }
        if let Ok((dtype, dims)) = parse_type(&text) {
            let again = format_type(dtype, &dims);
            prop_assert_eq!(parse_type(&again), Ok((dtype, dims)));
        }
    }

    #[test]
    fn bounds_hold(dim in dims(), lowers in [0_i64..4, 0_i64..4, 0_i64..4], above in sizes()) {
        let values = [0, 1, 2].map(|i| lowers[i] + above[i]);
        let value = dim.bind(&binding_of(values)).expect("small");
        let bounds = bounds_of(lowers);
        if let Some(lower) = dim.lower_bound(&bounds) {
            prop_assert!(lower <= value, "{} >= {} but is {} at {:?}", dim, lower, value, values);
        }
        if let Some(upper) = dim.upper_bound(&bounds) {
            prop_assert!(upper >= value, "{} <= {} but is {} at {:?}", dim, upper, value, values);
        }
    }

    #[test]
    fn proofs_hold(a in dims(), b in dims(), c in 1_i64..7, values in sizes()) {
        let binding = binding_of(values);
        let (x, y) = (a.bind(&binding).expect("small"), b.bind(&binding).expect("small"));
        let agrees = |truth: Truth, holds: bool| match truth {
            Truth::Yes => holds,
            Truth::No => !holds,
            Truth::Unknown => true,
        };
        let bounds = Bounds::new();
        prop_assert!(agrees(proves_eq(&a, &b, &bounds), x == y), "{} = {}", a, b);
        prop_assert!(agrees(proves_le(&a, &b, &bounds), x <= y), "{} <= {}", a, b);
        prop_assert!(agrees(proves_divisible(&a, c), x % c == 0), "{} by {}", a, c);
    }

    #[test]
    fn partial_binding_commutes(dim in dims(), values in sizes()) {
        let mut first = Binding::new();
        first.set(&Symbol::new("B").expect("a symbol name"), values[1], "a test").expect("fresh");
        let binding = binding_of(values);
        let partly = dim.bind_partially(&first).expect("small");
        prop_assert!(partly.symbols().iter().all(|symbol| symbol.as_str() != "B"));
        prop_assert_eq!(partly.bind(&binding), dim.bind(&binding));
    }

    #[test]
    fn linear_patterns_are_solved(k in 1_i64..9, c in -9_i64..9, b in 0_i64..99) {
        let value = k * b + c;
        let pattern = Dim::symbol("B")
            .and_then(|b| b.mul(&Dim::constant(k)))
            .and_then(|multiple| multiple.add(&Dim::constant(c)))
            .expect("small");
        let mut binding = Binding::new();
        prop_assert_eq!(unify(&pattern, value, "a test", &mut binding), Ok(()));
        prop_assert_eq!(binding.get("B"), Some(b));
        prop_assert!(unify(&pattern, value + 1, "a test", &mut binding).is_err());
    }
}
